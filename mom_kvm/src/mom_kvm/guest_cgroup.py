"""A guest's own cgroup: paths, headroom below limits, pressure, CPU time."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

from mom_kvm.cgroup_mounts import Hierarchies
from mom_kvm.kernel_files import Pressure, read_kernel_file

_MOST_LEVELS: Final = 32
"""A container in a pod is at level 5."""

_INACTIVE_FILE: Final = re.compile(rb"^inactive_file ([0-9]{1,19})$", re.MULTILINE)


class GroupLimit(NamedTuple):
    """Limit of a group and its usage in KiB."""

    folder: str
    limit: int
    used: int

    @property
    def room(self) -> int:
        """Headroom in KiB."""
        return max(0, self.limit - self.used)

    @property
    def name(self) -> str:
        """Last part of the folder."""
        return self.folder.rpartition("/")[2]

    @classmethod
    def of_memory(cls, folder: str, top: str) -> GroupLimit | None:
        """Return the tightest `memory.max` of a group and its parents; None without a visible limit.

        Inactive page cache is not usage: the kernel reclaims it first.

        :param top: mount point of the hierarchy
        """
        return cls._tightest(folder, top, "memory.max", "memory.current", spared=_INACTIVE_FILE)

    @classmethod
    def of_swap(cls, folder: str, top: str) -> GroupLimit | None:
        """Return the tightest `memory.swap.max`, like `of_memory`."""
        return cls._tightest(folder, top, "memory.swap.max", "memory.swap.current")

    @classmethod
    def _tightest(cls, folder: str, top: str, limit: str, current: str, spared: re.Pattern[bytes] | None = None) -> GroupLimit | None:
        tightest: GroupLimit | None = None
        for group in levels(folder, top):
            most, used = kib_in(f"{group}/{limit}"), kib_in(f"{group}/{current}")
            if most is None or used is None:  # `max`, or no such file
                continue
            match = None if spared is None else spared.search(read_kernel_file(f"{group}/memory.stat"))
            one = cls(group, most, max(0, used - (int(match[1]) >> 10 if match else 0)))
            if tightest is None or one.room < tightest.room:
                tightest = one
        return tightest


def levels(folder: str, top: str) -> Iterator[str]:
    """Yield the folders of group and parents."""
    for _ in range(_MOST_LEVELS):
        if not folder.startswith(f"{top}/") or len(folder) <= len(top) + 1:
            return
        yield folder
        folder = folder.rpartition("/")[0]


def kib_in(file: str) -> int | None:
    """Return the size in a group's file in KiB; None if it is `max` or unreadable."""
    text = read_kernel_file(file).strip()
    return int(text) >> 10 if text.isdigit() and len(text) < 20 else None


_CGROUP_BYTES = 16 << 10
_FILE_BYTES = 4096

_IN_POD = re.compile(r"pod[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}(?:\.slice)?/.")
"""Group of a container in a pod, or a group below it."""

_MOST_IN_CONTAINER = 64
"""Maximum number of processes; a container of KubeVirt has about six."""


class CpuCounters(NamedTuple):
    """CPU time and throttled time in seconds; None if not counted."""

    used: float | None
    throttled: float | None


def cgroups_of(process: str) -> Mapping[str, str]:
    """Return the guest's groups above libvirt's subgroups, keyed by controller. Empty if the process has exited.

    :param process: its folder in /proc
    """
    return _paths(read_kernel_file(f"{process}/cgroup", _CGROUP_BYTES))


@lru_cache(maxsize=1024)  # read again in each sample, and nearly always the same
def _paths(content: bytes) -> Mapping[str, str]:
    paths: dict[str, str] = {}
    for line in content.decode(errors="surrogateescape").split("\n"):  # a group's name may contain other line breaks
        _, _, line_end = line.partition(":")
        controllers, colon, path = line_end.partition(":")
        if not colon or not path.startswith("/") or controllers.startswith("name="):
            continue
        for controller in controllers.split(","):
            paths[controller] = path.removesuffix("/emulator").removesuffix("/libvirt")
    return paths


class Cgroups:
    """Groups below a folder such as /sys/fs/cgroup."""

    def __init__(self, root: Path, hierarchies: Hierarchies) -> None:
        self._root = str(root)
        self._unified = str(root if (root / "cgroup.controllers").exists() else root / "unified")
        self._hierarchies = hierarchies

    def folder(self, controller: str, path: str) -> str:
        """Return a group's folder; empty if not reachable."""
        if ".." in path.split("/"):
            return self._hierarchies.folder(controller, path) or ""
        return (self._unified if controller == Hierarchies.UNIFIED else f"{self._root}/{controller}") + path

    def own(self, pid: int, groups: Mapping[str, str], guests: Collection[int] = ()) -> dict[str, str]:
        """Return the groups that belong to this guest alone, also its pod's container in Kubernetes.

        :param guests: process ids of all guests
        """
        return {controller: path for controller, path in groups.items() if self._is_own(controller, path, pid, guests)}

    def _is_own(self, controller: str, path: str, pid: int, guests: Collection[int]) -> bool:
        name, folder = path.rpartition("/")[2], self.folder(controller, path)
        if not name or not folder:
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
        """Return the tightest memory limit, also of shared groups; None without a visible limit."""
        path = groups.get(Hierarchies.UNIFIED, "/")
        folder = "" if path == "/" else self.folder(Hierarchies.UNIFIED, path)
        if not folder:
            return None
        top = self._hierarchies.top(Hierarchies.UNIFIED) if ".." in path.split("/") else self._unified
        return GroupLimit.of_memory(folder, top or self._unified)

    def pressure(self, own: Mapping[str, str]) -> dict[str, float]:
        """Return the group's pressure, like `pressure_in`."""
        return pressure_in(self.folder(Hierarchies.UNIFIED, own[Hierarchies.UNIFIED])) if Hierarchies.UNIFIED in own else {}

    def cpu(self, own: Mapping[str, str]) -> CpuCounters:
        """Return the group's CPU time."""
        counts = self._counts(Hierarchies.UNIFIED, own, "cpu.stat")
        used, throttled = _whole(counts.get(b"usage_usec")), _whole(counts.get(b"throttled_usec"))
        if used is not None:
            return CpuCounters(used / 1e6, None if throttled is None else throttled / 1e6)
        if "cpuacct" in own:
            used = _whole(read_kernel_file(f"{self.folder('cpuacct', own['cpuacct'])}/cpuacct.usage", _FILE_BYTES).strip())
        return CpuCounters(None if used is None else used / 1e9, None)

    def huge_kib(self, own: Mapping[str, str]) -> int | None:
        """Return KiB in transparent huge pages; None if not counted, or without a memory controller."""
        counts = self._counts(Hierarchies.UNIFIED, own, "memory.stat")
        anonymous, shared = _whole(counts.get(b"anon_thp")), _whole(counts.get(b"shmem_thp"))
        if anonymous is None:
            anonymous = _whole(self._counts("memory", own, "memory.stat").get(b"total_rss_huge"))
        return None if anonymous is None else (anonymous + (shared or 0)) >> 10

    def _counts(self, controller: str, own: Mapping[str, str], file: str) -> dict[bytes, bytes]:
        if controller not in own:
            return {}
        lines = read_kernel_file(f"{self.folder(controller, own[controller])}/{file}").splitlines()
        return dict(line.split(b" ", 1) for line in lines if b" " in line)


def pressure_in(folder: str) -> dict[str, float]:
    """Return a group's pressure (avg10), keyed by `RESOURCE_some` and `RESOURCE_full`."""
    read = ((resource, Pressure.parse(read_kernel_file(f"{folder}/{resource}.pressure"))) for resource in ("memory", "cpu", "io"))
    return {f"{resource}_{kind}": pressure.avg10 for resource, kinds in read for kind, pressure in kinds.items()}


def _whole(text: bytes | None) -> int | None:
    return int(text) if text and text.isdigit() and len(text) < 20 else None
