"""Which processes are guests, as the kernel says it, and their control groups; nothing that the engine says is believed."""

from __future__ import annotations

import errno
import os
import resource
import select
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from mom_helper.declarations import GuestUsers
from mom_helper.kernel import FOLDER, MOST_BYTES, Allowance, read_at

UNIFIED: Final = ""
"""The unified hierarchy of control groups (v2), as /proc/PID/cgroup names it; `memory` is that of v1."""

_TOP: Final = "/sys/fs/cgroup"
HIERARCHIES: Final = {UNIFIED: f"{_TOP}/unified" if os.path.isdir(f"{_TOP}/unified") else _TOP, "memory": f"{_TOP}/memory"}  # noqa: PTH112  # pathlib takes 1 MB
"""Where systemd mounts them, and OpenRC."""


_MOST_KEPT: Final = min(resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 8, 2000)
"""Guests that are kept open, with up to five descriptors and some 2 KiB each."""


class Guests:
    """The guests of a connection, kept open from one order to the next; and how much of their memory may be moved, in bytes.

    :param rules: what guests are; None: any process is taken for one, and its group for its own, by the word of a mom that is root itself
    :param mounts: where the hierarchies of control groups are mounted
    """

    def __init__(self, rules: Sequence[GuestUsers] | None, mounts: Mapping[str, str], allowance: Allowance) -> None:
        self.allowance, self._rules, self._mounts = allowance, rules, mounts
        self._kept: dict[tuple[int, int | None], Guest] = {}

    def find(self, pid: int, started: int | None) -> Guest:
        """A guest that is there, and where it was when it was opened.

        :param started: when it was started, in clock ticks since the boot; None: whichever has that number now
        :raises ProcessLookupError: it has ended, or is another one by now
        :raises PermissionError: it is no guest
        """
        guest = self._kept.pop((pid, started), None)
        if guest is None or not guest.is_as_found():
            guest = Guest(pid, started, self._rules, self._mounts)
        self._kept[pid, started] = guest
        if len(self._kept) > _MOST_KEPT:
            del self._kept[next(iter(self._kept))]  # the one that no order was about for the longest
        return guest


class Guest:
    """A guest's process. All is found below one descriptor of its folder in /proc, which never becomes another process's, and neither does
    `handle` (a pidfd). They are closed when nothing refers to it any more. Raises as `Guests.find`."""

    def __init__(self, pid: int, started: int | None, rules: Iterable[GuestUsers] | None, mounts: Mapping[str, str]) -> None:
        self.pid, self._mounts, self._whatever = pid, mounts, rules is None
        self._files: list[int] = []
        self._opened: dict[str, tuple[int, str, bool]] = {}
        self._ended = select.poll()
        if not 0 < pid <= 1 << 22:  # the kernel's own bound
            raise ProcessLookupError(errno.ESRCH, "no process has that number")
        self.handle = self._keep(os.pidfd_open(pid))  # there is none to a thread that is not the first of its process
        self._ended.register(self.handle, select.POLLIN)
        self.folder = self._keep(os.open(f"/proc/{pid}", FOLDER))
        self._owner = os.fstat(self.folder).st_uid
        self._cgroup = self._keep(os.open("cgroup", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.folder))
        self._found = os.pread(self._cgroup, MOST_BYTES, 0)
        words = read_at(self.folder, "stat").rpartition(b")")[2].split(None, 20)
        if started not in {None, int(words[19])} or not self.is_as_found():
            raise ProcessLookupError(errno.ESRCH, "it has ended, or is in another group now")
        self._groups = _paths(self._found)
        self._below = ("/",) if rules is None else self._rule_among(rules).groups

    def __del__(self) -> None:
        for file in self._files:
            os.close(file)

    def is_as_found(self) -> bool:
        """Whether it is still there, of the same user and in the same groups."""
        same = not self._ended.poll(0) and os.fstat(self.folder).st_uid == self._owner
        return same and os.pread(self._cgroup, MOST_BYTES, 0) == self._found

    def group(self, hierarchy: str) -> tuple[int, str]:
        """A descriptor of the folder of its own group, and its path. Raises `OSError`."""
        if hierarchy not in self._opened:
            path = self._groups.get(hierarchy, "")
            if (".." in path.split("/") and not self._whatever) or not path.startswith(self._below):
                raise PermissionError(errno.EPERM, "it has no group below those of guests")
            # libvirt's are named for their guests; in another one, no other process may be.
            named = path.endswith(".libvirt-qemu") or (path.rpartition("/")[2].startswith("machine-qemu") and path.endswith(".scope"))
            path = f"{self._mounts[hierarchy]}{path}"
            self._opened[hierarchy] = self._keep(os.open(path, FOLDER)), path, named or self._whatever
            if not self.is_as_found():
                raise ProcessLookupError(errno.ESRCH, "it has ended, or is in another group now")
        folder, path, its_own = self._opened[hierarchy]
        if not its_own and read_at(folder, "cgroup.procs").split() != [b"%d" % self.pid]:
            raise PermissionError(errno.EPERM, "its group has others in it")
        return folder, path

    def _keep(self, file: int) -> int:
        self._files.append(file)
        return file

    def _rule_among(self, rules: Iterable[GuestUsers]) -> GuestUsers:
        """What makes it a guest; one with other users' rights besides is none."""
        users = [int(user) for user in read_at(self.folder, "status").partition(b"\nUid:\t")[2].split(None, 4)[:4]]
        for rule in rules:
            if users and rule.users.issuperset(users) and any(path.startswith(rule.groups) for path in self._groups.values()):
                return rule
        raise PermissionError(errno.EPERM, "it is no guest")


def _paths(content: bytes) -> Mapping[str, str]:
    """The whole guest's groups, above those that libvirt makes in it, in the unified hierarchy and that of memory."""
    found: dict[str, str] = {}
    for line in filter(None, content.decode(errors="surrogateescape").split("\n")):  # a group's name may hold any other break
        _, controllers, path = line.split(":", 2)
        for hierarchy in {UNIFIED, "memory"}.intersection(controllers.split(",")):
            found[hierarchy] = path.removesuffix("/emulator").removesuffix("/libvirt")
    return found
