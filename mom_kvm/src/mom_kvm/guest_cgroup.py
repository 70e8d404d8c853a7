"""Reader of a guest's cgroup: path, headroom below limits, pressure, and CPU time."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Final, NamedTuple

from mom_kvm.cgroup_mounts import Hierarchies
from mom_kvm.kernel_files import Pressure, read_kernel_file

_MOST_LEVELS: Final = 32
"""Maximum number of cgroup levels to search for limits."""

_INACTIVE_FILE: Final = re.compile(rb"^inactive_file ([0-9]{1,19})$", re.MULTILINE)


class GroupLimit(NamedTuple):
    """Limit of a cgroup and its usage in KiB."""

    folder: str
    limit: int
    used: int

    @property
    def room(self) -> int:
        """Headroom in KiB."""
        return max(0, self.limit - self.used)

    @property
    def name(self) -> str:
        """Name of the cgroup: the last part of its folder."""
        return self.folder.rpartition("/")[2]

    @staticmethod
    def kib_in(file: str) -> int | None:
        """Return the size in KiB that a cgroup's file contains in bytes; None if it contains `max` or is unreadable."""
        text = read_kernel_file(file).strip()
        return int(text) >> 10 if text.isdigit() and len(text) < 20 else None

    @classmethod
    def of_memory(cls, folder: str, top: str) -> GroupLimit | None:
        """Among a cgroup and its parents, return the `memory.max` that leaves the least headroom; None without a visible limit.

        Inactive page cache does not count as used: the kernel reclaims it first.
        """
        return cls._tightest(folder, top, "memory.max", "memory.current", spared=_INACTIVE_FILE)

    @classmethod
    def of_swap(cls, folder: str, top: str) -> GroupLimit | None:
        """Return the `memory.swap.max` that leaves the least headroom, like `of_memory`."""
        return cls._tightest(folder, top, "memory.swap.max", "memory.swap.current")

    @classmethod
    def _tightest(cls, folder: str, top: str, limit: str, current: str, spared: re.Pattern[bytes] | None = None) -> GroupLimit | None:
        tightest: GroupLimit | None = None
        for group in levels(folder, top):
            most, used = cls.kib_in(f"{group}/{limit}"), cls.kib_in(f"{group}/{current}")
            if most is None or used is None:  # `max`, or no such file
                continue
            match = None if spared is None else spared.search(read_kernel_file(f"{group}/memory.stat"))
            candidate = cls(group, most, max(0, used - (int(match[1]) >> 10 if match else 0)))
            if tightest is None or candidate.room < tightest.room:
                tightest = candidate
        return tightest


def levels(folder: str, top: str) -> Iterator[str]:
    """Yield the folders of a cgroup and its parents, below the mount point `top`."""
    for _ in range(_MOST_LEVELS):
        if not folder.startswith(f"{top}/") or len(folder) <= len(top) + 1:
            return
        yield folder
        folder = folder.rpartition("/")[0]


_FILE_BYTES = 4096

_IN_POD = re.compile(r"pod[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}(?:\.slice)?/.")
"""Matches the path of a container's cgroup in a pod, or of a cgroup below it."""

_MOST_IN_CONTAINER = 64


class CpuCounters(NamedTuple):
    """CPU time and throttled time in seconds; None if not counted."""

    used: float | None
    throttled: float | None


class Cgroups:
    """Reader of guests' cgroups. Paths are as in /proc/PID/cgroup."""

    def __init__(self, hierarchies: Hierarchies) -> None:
        self._hierarchies = hierarchies

    def own(self, pid: int, groups: Mapping[str, str], guests: Collection[int] = ()) -> dict[str, str]:
        """Return those of `groups` that contain only this guest (in Kubernetes, its container), keyed by controller.

        :param guests: PIDs of all guests
        """
        return {controller: path for controller, path in groups.items() if self._is_own(controller, path, pid, guests)}

    def _is_own(self, controller: str, path: str, pid: int, guests: Collection[int]) -> bool:
        name, folder = path.rpartition("/")[2], self._hierarchies.folder(controller, path)
        if not name or folder is None:
            return False
        if name.endswith(".libvirt-qemu") or (name.startswith("machine-qemu") and name.endswith(".scope")):
            return True
        processes = read_kernel_file(f"{folder}/cgroup.procs", _FILE_BYTES).split()
        if _IN_POD.search(path) is None:
            return processes == [str(pid).encode()]
        return len(processes) <= _MOST_IN_CONTAINER and {int(process) for process in processes if process.isdigit()}.intersection(
            guests
        ) == {pid}

    def limit(self, groups: Mapping[str, str]) -> GroupLimit | None:
        """Return the memory limit that leaves the least headroom, shared cgroups included; None if no limit is visible."""
        folder = self._folder(groups)
        top = None if folder is None else self._hierarchies.top(Hierarchies.UNIFIED, folder)
        return None if folder is None or top is None else GroupLimit.of_memory(folder, top)

    def pressure(self, own: Mapping[str, str]) -> dict[str, float]:
        """Return the cgroup's pressure, like `Pressure.averages`."""
        folder = self._folder(own)
        return {} if folder is None else Pressure.averages(folder)

    def cpu(self, own: Mapping[str, str]) -> CpuCounters:
        """Return the cgroup's CPU time."""
        counts = self._counts(own, "cpu.stat")
        used, throttled = _whole(counts.get(b"usage_usec")), _whole(counts.get(b"throttled_usec"))
        return CpuCounters(None if used is None else used / 1e6, None if throttled is None else throttled / 1e6)

    def huge_kib(self, own: Mapping[str, str]) -> int | None:
        """Return the cgroup's KiB in transparent huge pages; None if the kernel does not count them."""
        counts = self._counts(own, "memory.stat")
        anonymous, shared = _whole(counts.get(b"anon_thp")), _whole(counts.get(b"shmem_thp"))
        return None if anonymous is None else (anonymous + (shared or 0)) >> 10

    def _counts(self, own: Mapping[str, str], file: str) -> dict[bytes, bytes]:
        folder = self._folder(own)
        lines = [] if folder is None else read_kernel_file(f"{folder}/{file}").splitlines()
        return dict(line.split(b" ", 1) for line in lines if b" " in line)

    def _folder(self, own: Mapping[str, str]) -> str | None:
        path = own.get(Hierarchies.UNIFIED)
        return None if path is None else self._hierarchies.folder(Hierarchies.UNIFIED, path)


def _whole(text: bytes | None) -> int | None:
    return int(text) if text and text.isdigit() and len(text) < 20 else None
