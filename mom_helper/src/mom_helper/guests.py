"""Which processes are guests, as the kernel says it, and their control groups; nothing that the engine says is believed."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Final, NamedTuple

from mom_helper.declarations import GuestUsers
from mom_helper.kernel import FOLDER, Allowance, opened, read_at

UNIFIED: Final = ""
"""The unified hierarchy of control groups (v2), as /proc/PID/cgroup names it; `memory` is that of v1."""

_TOP: Final = "/sys/fs/cgroup"
HIERARCHIES: Final = {UNIFIED: f"{_TOP}/unified" if os.path.isdir(f"{_TOP}/unified") else _TOP, "memory": f"{_TOP}/memory"}  # noqa: PTH112  # pathlib takes 1 MB
"""Where systemd mounts them, and OpenRC."""

_WHO: Final = re.compile(rb"\nTgid:\t(\d+)\n.*?\nUid:\t(\d+)\t(\d+)\t(\d+)\t(\d+)\n", re.DOTALL)

_MOST_DESCRIPTORS: Final = 4096
"""A guest has a few for each queue and disk."""


class Guests(NamedTuple):
    """What guests are (None: whatever is named), where their groups are, and how much of their memory may be moved, in bytes."""

    rules: Sequence[GuestUsers] | None
    hierarchies: Mapping[str, str]
    allowance: Allowance


class Guest:
    """A guest's process, for a `with`. All is read below one descriptor of its folder in /proc, which never becomes another process's.

    :param started: when it was started, in clock ticks since the boot; None: whichever has that number now
    :param rules: what guests are; None: any process is taken for one, and its group for its own, by the word of a mom that is root itself
    :raises ProcessLookupError: it has ended, or is another one by now
    :raises PermissionError: it is no guest
    """

    def __init__(self, pid: int, started: int | None, rules: Iterable[GuestUsers] | None, folder: int) -> None:
        self.pid, self.folder, self._whatever = pid, folder, rules is None
        self._seen = self._look()
        self._groups = _paths(self._seen[1])
        if started not in {None, self._seen[0]}:
            raise _ended()
        self._below = ("/",) if rules is None else self._rule_among(rules).groups

    def check(self) -> None:
        """Look again, after something of it was opened: it must still be there, and where it was. Raises `ProcessLookupError`."""
        if self._look() != self._seen:
            raise _ended()

    @contextmanager
    def group(self, hierarchy: str, mount: str) -> Iterator[tuple[int, str]]:
        """A descriptor of the folder of its own group, and its path. Raises `OSError`.

        :param mount: where the hierarchy is mounted
        """
        path = self._groups.get(hierarchy, "")
        if (".." in path.split("/") and not self._whatever) or not path.startswith(self._below):
            raise PermissionError(errno.EPERM, "it has no group below those of guests")
        with opened(f"{mount}{path}", FOLDER) as folder:
            # libvirt's are named for their guests; in another one, no other process may be.
            named = path.endswith(".libvirt-qemu") or (path.rpartition("/")[2].startswith("machine-qemu") and path.endswith(".scope"))
            if not (named or self._whatever) and read_at(folder, "cgroup.procs").split() != [b"%d" % self.pid]:
                raise PermissionError(errno.EPERM, "its group has others in it")
            self.check()
            yield folder, f"{mount}{path}"

    def held_by_device(self) -> bool:
        """Whether it has a device of the host open (VFIO)."""
        with opened("fd", os.O_DIRECTORY, self.folder) as folder, os.scandir(folder) as entries:
            return any(os.readlink(entry.name, dir_fd=folder).startswith("/dev/vfio/") for entry in islice(entries, _MOST_DESCRIPTORS))

    def _look(self) -> tuple[int, bytes]:
        """When it was started, and its groups."""
        try:
            words, groups = read_at(self.folder, "stat").rpartition(b")")[2].split(None, 20), read_at(self.folder, "cgroup")
        except FileNotFoundError:
            raise _ended() from None
        if len(words) < 20 or words[0] in {b"Z", b"X"}:
            raise _ended()
        return int(words[19]), groups

    def _rule_among(self, rules: Iterable[GuestUsers]) -> GuestUsers:
        """What makes it a guest. A thread that is not the first of its process is none; nor is one with other users' rights besides."""
        found = _WHO.search(read_at(self.folder, "status"))
        leader, *users = map(int, found.groups()) if found else (0,)
        for rule in rules:
            if leader == self.pid and rule.users.issuperset(users) and any(path.startswith(rule.groups) for path in self._groups.values()):
                return rule
        raise PermissionError(errno.EPERM, "it is no guest")


@contextmanager
def guest_of(pid: int, started: int | None, rules: Iterable[GuestUsers] | None) -> Iterator[Guest]:
    """A guest; its folder is closed at the end. Raises as `Guest`."""
    try:
        folder = os.open(f"/proc/{pid}", FOLDER | os.O_CLOEXEC)
    except FileNotFoundError:
        raise _ended() from None
    try:
        yield Guest(pid, started, rules, folder)
    finally:
        os.close(folder)


def _ended() -> ProcessLookupError:
    return ProcessLookupError(errno.ESRCH, "it has ended")


def _paths(content: bytes) -> Mapping[str, str]:
    """The whole guest's groups, above those that libvirt makes in it, in the unified hierarchy and that of memory."""
    found: dict[str, str] = {}
    for line in content.decode(errors="surrogateescape").splitlines():
        _, controllers, path = line.split(":", 2)
        for hierarchy in {UNIFIED, "memory"}.intersection(controllers.split(",")):
            found[hierarchy] = path.removesuffix("/emulator").removesuffix("/libvirt")
    return found
