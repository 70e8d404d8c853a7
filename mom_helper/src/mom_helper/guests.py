"""Guests as the kernel shows them. The helper trusts nothing that mom says about a guest."""

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
"""Name of the unified hierarchy (v2) in /proc/PID/cgroup. The hierarchy of v1 is called `memory`."""

_TOP: Final = "/sys/fs/cgroup"
HIERARCHIES: Final = {UNIFIED: f"{_TOP}/unified" if os.path.isdir(f"{_TOP}/unified") else _TOP, "memory": f"{_TOP}/memory"}
"""Mount points of the hierarchies, as systemd and OpenRC choose them."""

_MOST_KEPT: Final = min(resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 8, 2000)
"""Maximum number of guests whose files stay open. Each guest takes up to five descriptors and 2 KiB."""


class Guests:
    """Guests that a connection refers to. Their files in /proc stay open.

    :param rules: identify guests; None, for a mom that is root itself, accepts any process and its control group
    :param mounts: mount points of control groups, keyed by hierarchy
    :param allowance: rate limit for bytes of moved memory
    """

    def __init__(self, rules: Sequence[GuestUsers] | None, mounts: Mapping[str, str], allowance: Allowance) -> None:
        self.allowance, self._rules, self._mounts = allowance, rules, mounts
        self._kept: dict[tuple[int, int | None], Guest] = {}

    def find(self, pid: int, started: int | None) -> Guest:
        """Return the running guest with this PID. Its process, user and control groups must be as in the first call with this PID.

        :param started: start time in clock ticks since boot; None for any process with this PID
        :raises ProcessLookupError: the process has exited, or another process has its PID
        :raises PermissionError: the process is not a guest
        """
        guest = self._kept.pop((pid, started), None)
        if guest is None or not guest.is_unchanged():
            guest = Guest(pid, started, self._rules, self._mounts)
        self._kept[pid, started] = guest
        if len(self._kept) > _MOST_KEPT:
            del self._kept[next(iter(self._kept))]  # the least recently used one
        return guest


class Guest:
    """Process of a guest. The constructor raises the same errors as `Guests.find`.

    All files are opened below one descriptor in /proc. Neither this descriptor nor `handle` (a pidfd) ever refers to another process.
    """

    def __init__(self, pid: int, started: int | None, rules: Iterable[GuestUsers] | None, mounts: Mapping[str, str]) -> None:
        self.pid, self._mounts, self._whatever = pid, mounts, rules is None
        self._files: list[int] = []
        self._opened: dict[str, tuple[int, str, bool]] = {}
        self._ended = select.poll()
        if not 0 < pid <= 1 << 22:  # the kernel's own bound
            raise ProcessLookupError(errno.ESRCH, "no process has this PID")
        self.handle = self._keep(os.pidfd_open(pid))  # fails for a thread other than the process's first
        self._ended.register(self.handle, select.POLLIN)
        self.folder = self._keep(os.open(f"/proc/{pid}", FOLDER))
        self._owner = os.fstat(self.folder).st_uid
        self._cgroup = self._keep(os.open("cgroup", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.folder))
        self._first_groups = os.pread(self._cgroup, MOST_BYTES, 0)
        words = read_at(self.folder, "stat").rpartition(b")")[2].split(None, 20)
        if started not in {None, int(words[19])} or not self.is_unchanged():
            raise ProcessLookupError(errno.ESRCH, "the process has exited, or is in another control group now")
        self._groups = _paths(self._first_groups)
        self._below = ("/",) if rules is None else self._rule_among(rules).groups

    def __del__(self) -> None:
        for file in self._files:
            os.close(file)

    def is_unchanged(self) -> bool:
        """Return whether the process still runs, with the same user and control groups."""
        same = not self._ended.poll(0) and os.fstat(self.folder).st_uid == self._owner
        return same and os.pread(self._cgroup, MOST_BYTES, 0) == self._first_groups

    def group(self, hierarchy: str) -> tuple[int, str]:
        """Return the descriptor and the path of the guest's own control group. Raise `OSError` if it has none."""
        if hierarchy not in self._opened:
            path = self._groups.get(hierarchy, "")
            if (".." in path.split("/") and not self._whatever) or not path.startswith(self._below):
                raise PermissionError(errno.EPERM, "the process has no control group below those declared for guests")
            # libvirt names control groups after guests. A group with another name must contain no other process.
            named = path.endswith(".libvirt-qemu") or (path.rpartition("/")[2].startswith("machine-qemu") and path.endswith(".scope"))
            path = f"{self._mounts[hierarchy]}{path}"
            self._opened[hierarchy] = self._keep(os.open(path, FOLDER)), path, named or self._whatever
            if not self.is_unchanged():
                raise ProcessLookupError(errno.ESRCH, "the process has exited, or is in another control group now")
        folder, path, its_own = self._opened[hierarchy]
        if not its_own and read_at(folder, "cgroup.procs").split() != [b"%d" % self.pid]:
            raise PermissionError(errno.EPERM, "the control group also contains other processes")
        return folder, path

    def _keep(self, file: int) -> int:
        self._files.append(file)
        return file

    def _rule_among(self, rules: Iterable[GuestUsers]) -> GuestUsers:
        # All four user IDs (real, effective, saved, file system) must match.
        users = [int(user) for user in read_at(self.folder, "status").partition(b"\nUid:\t")[2].split(None, 4)[:4]]
        for rule in rules:
            if users and rule.users.issuperset(users) and any(path.startswith(rule.groups) for path in self._groups.values()):
                return rule
        raise PermissionError(errno.EPERM, "the process is not a guest")


def _paths(content: bytes) -> Mapping[str, str]:
    # libvirt makes child groups for parts of a guest: use their parent.
    paths: dict[str, str] = {}
    for line in filter(None, content.decode(errors="surrogateescape").split("\n")):  # a group's name may contain other line breaks
        _, controllers, path = line.split(":", 2)
        for hierarchy in {UNIFIED, "memory"}.intersection(controllers.split(",")):
            paths[hierarchy] = path.removesuffix("/emulator").removesuffix("/libvirt")
    return paths
