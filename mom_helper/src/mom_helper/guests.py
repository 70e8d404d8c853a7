"""Which processes are guests, as the kernel says it, and their control groups; nothing that the engine says is believed."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Final, Self

from mom_helper.declarations import GuestRule

UNIFIED: Final = ""
"""The unified hierarchy of control groups (v2), as /proc/PID/cgroup names it; `memory` is that of v1."""

_READ_BYTES: Final = 16 << 10
_MOST_DESCRIPTORS: Final = 4096
"""A guest has a few for each queue and disk."""


def hierarchies() -> Mapping[str, str]:
    """Where the unified hierarchy and that of memory are mounted, as a whole."""
    found: dict[str, str] = {}
    for line in read_at(None, "/proc/self/mountinfo", 1 << 20).decode(errors="surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        (root, folder), (kind, _, options) = before.split()[3:5], after.split()[:3]
        name = UNIFIED if kind == "cgroup2" else "memory" if kind == "cgroup" and "memory" in options.split(",") else None
        if root == "/" and name is not None:
            found.setdefault(name, folder)
    return found


def read_at(folder: int | None, name: str, most: int = _READ_BYTES) -> bytes:
    """What a file says, in one read. Raises `OSError`."""
    file = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        return os.read(file, most)
    finally:
        os.close(file)


class Guest:
    """A guest's process. All is read below one descriptor of its folder in /proc, which never becomes another process's.

    :param started: when it was started, in clock ticks since the boot; None: whichever has that number now
    :param kinds: what guests are; None: any process is taken for one
    :raises ProcessLookupError: it has ended, or is another one by now
    :raises PermissionError: it is no guest
    """

    def __init__(self, pid: int, started: int | None, kinds: Iterable[GuestRule] | None) -> None:
        self.pid = pid
        try:
            self.folder = os.open(f"/proc/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise _ended() from None
        try:
            self._seen = self._look()
            if started not in {None, self._seen[0]}:
                raise _ended()
            self._groups = _paths(self._seen[1])
            self._below = ("/",) if kinds is None else self._kind_among(kinds).groups
        except BaseException:
            os.close(self.folder)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.folder)

    def check(self) -> None:
        """Look again, after something of it was opened: it must still be there, and where it was. Raises `ProcessLookupError`."""
        if self._look() != self._seen:
            raise _ended()

    def handle(self) -> int:
        """A descriptor (pidfd) to act on it by."""
        handle = os.pidfd_open(self.pid)
        try:
            self.check()  # the number is still its own: so was it when the handle was made
        except BaseException:
            os.close(handle)
            raise
        return handle

    def group(self, hierarchy: str, folder: str) -> tuple[int, str]:
        """A descriptor of the folder of its own group, and its path. Raises `OSError`.

        :param folder: where the hierarchy is mounted
        """
        path = self._groups.get(hierarchy, "")
        if ".." in path.split("/") or not path.startswith(self._below):
            raise PermissionError(errno.EPERM, "it has no group below those of guests")
        opened = os.open(f"{folder}{path}", os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            # libvirt's are named for their guests; in another one, no other process may be.
            named = path.endswith(".libvirt-qemu") or (path.rpartition("/")[2].startswith("machine-qemu") and path.endswith(".scope"))
            if not named and read_at(opened, "cgroup.procs").split() != [b"%d" % self.pid]:
                raise PermissionError(errno.EPERM, "its group has others in it")
            self.check()
        except BaseException:
            os.close(opened)
            raise
        return opened, f"{folder}{path}"

    def held_by_device(self) -> bool:
        """Whether it has a device of the host open (VFIO)."""
        folder = os.open("fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.folder)
        try:
            with os.scandir(folder) as entries:
                return any(os.readlink(entry.name, dir_fd=folder).startswith("/dev/vfio/") for entry in islice(entries, _MOST_DESCRIPTORS))
        finally:
            os.close(folder)

    def _look(self) -> tuple[int, bytes]:
        """When it was started, and its groups."""
        try:
            words = read_at(self.folder, "stat").rpartition(b")")[2].split(None, 20)
            groups = read_at(self.folder, "cgroup")
        except FileNotFoundError:
            raise _ended() from None
        if len(words) < 20 or words[0] in {b"Z", b"X"}:
            raise _ended()
        return int(words[19]), groups

    def _kind_among(self, kinds: Iterable[GuestRule]) -> GuestRule:
        """What makes it a guest. A thread that is not the first of its process is none; nor is one with other users' rights besides."""
        lines = dict(line.split(b":", 1) for line in read_at(self.folder, "status").splitlines() if b":" in line)
        users = set(map(int, lines[b"Uid"].split()))
        for kind in kinds:
            if (
                users <= kind.users
                and int(lines[b"Tgid"]) == self.pid
                and any(path.startswith(kind.groups) for path in self._groups.values())
            ):
                return kind
        raise PermissionError(errno.EPERM, "it is no guest")


def _ended() -> ProcessLookupError:
    return ProcessLookupError(errno.ESRCH, "it has ended")


def _paths(content: bytes) -> dict[str, str]:
    """The whole guest's groups, above those that libvirt makes in it, in the unified hierarchy and that of memory."""
    found: dict[str, str] = {}
    for line in content.decode(errors="surrogateescape").splitlines():
        _, controllers, path = line.split(":", 2)
        for hierarchy in {UNIFIED, "memory"}.intersection(controllers.split(",")):
            found[hierarchy] = path.removesuffix("/emulator").removesuffix("/libvirt")
    return found
