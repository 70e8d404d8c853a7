"""Mounted cgroup hierarchies, and guests' cgroups: path, headroom below limits, pressure, CPU time."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from mom_core import Guest
from mom_kvm.kernel_files import Pressure, read_kernel_file

BELIEVED_SECONDS = 60.0
"""How long mom uses the list of mounts before reading it again."""

_MOST_SEARCHED: Final = 20_000
"""Maximum number of cgroups among which mom searches for its own."""

_PROCESSES_BYTES: Final = 256 << 10

_CGROUP_BYTES: Final = 16 << 10

_OCTAL = re.compile(r"\\([0-7]{3})")


class Mount(NamedTuple):
    """Mount of a cgroup hierarchy."""

    controllers: frozenset[str]
    root: str
    folder: str
    writable: bool


def mounts_in(mountinfo: str) -> list[Mount]:
    """Parse /proc/self/mountinfo.

    `ID PARENT MAJOR:MINOR ROOT MOUNTPOINT OPTIONS [more …] - TYPE SOURCE SUPEROPTIONS` (proc_pid_mountinfo(5)).
    """
    mounts = []
    for line in mountinfo.split("\n"):  # the kernel escapes only blanks and line feeds in names
        before, dash, after = line.partition(" - ")
        words, kinds = before.split(" "), after.split(" ")
        if not dash or len(words) < 6 or len(kinds) < 3 or kinds[0] not in {"cgroup", "cgroup2"}:
            continue
        root, folder = (_OCTAL.sub(lambda match: chr(int(match[1], 8)), word) for word in words[3:5])
        controllers = [Hierarchies.UNIFIED] if kinds[0] == "cgroup2" else kinds[2].split(",")
        mounts.append(Mount(frozenset(controllers), root, folder, "rw" in words[5].split(",") and "rw" in kinds[2].split(",")))
    return mounts


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


class Hierarchies:
    """Mounted cgroup hierarchies.

    In a container, /proc shows paths relative to the container's cgroup. A path such as `/../../other` is outside of it.

    :param root: folder that contains /proc and /sys
    """

    UNIFIED: Final = ""
    """Controller name of cgroup v2 in /proc/PID/cgroup."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._until = 0.0
        self._own: dict[str, Sequence[str]] = {}
        self.mounts: Sequence[Mount] = ()

    @staticmethod
    def paths_of(process: str) -> Mapping[str, str]:
        """Return a process's cgroup paths, keyed by controller, without libvirt's subgroups; empty if the process has exited."""
        return _paths(read_kernel_file(f"{process}/cgroup", _CGROUP_BYTES))

    def keep_fresh(self) -> None:
        """Read the mounts again if the last reading is older than `BELIEVED_SECONDS`."""
        if time.monotonic() >= self._until:
            self.refresh()

    def refresh(self) -> None:
        """Read the mounts now. An unreadable list counts as empty."""
        self._until = time.monotonic() + BELIEVED_SECONDS
        try:
            text = (self._root / "proc/self/mountinfo").read_bytes().decode(errors="surrogateescape")
        except OSError:
            text = ""
        if not text:
            self._until = 0.0
        self.mounts = sorted(mounts_in(text), key=lambda mount: -_above(mount.root)[0])  # mounts that show more groups first
        self._own = {folder: own for folder, own in self._own.items() if own}

    def mount_of(self, controller: str) -> Mount | None:
        """Return the controller's first mount, or None."""
        return next((mount for mount in self.mounts if controller in mount.controllers), None)

    def top(self, controller: str, folder: str = "") -> str | None:
        """Return the folder of the controller's root cgroup; None if the controller is not mounted.

        :param folder: folder of a cgroup that the mount must contain; empty for any mount
        """
        tops = (self._top_of(mount) for mount in self.mounts if controller in mount.controllers)
        return next((top for top in tops if not folder or f"{folder}/".startswith(f"{top}/")), None)

    def _top_of(self, mount: Mount) -> str:
        return f"{self._root / mount.folder.lstrip('/')}"

    def folder(self, controller: str, path: str) -> str | None:
        """Return the folder of a cgroup; None if no mount shows it."""
        above, steps = _above(path)
        if not path.startswith("/") or ".." in steps:
            return None
        for mount in self.mounts:
            if controller not in mount.controllers:
                continue
            inside = self._inside(mount, above, steps)
            if inside is not None:
                return "/".join((self._top_of(mount), *inside)).rstrip("/")
        return None

    def group_of(self, guest: Guest, controller: str = UNIFIED) -> str | None:
        """Return the folder of the guest's own cgroup, from its property `cgroups`; None if unknown."""
        paths = guest.properties.get("cgroups")
        path = paths.get(controller) if isinstance(paths, Mapping) else None
        return self.folder(controller, path) if isinstance(path, str) else None

    def _inside(self, mount: Mount, above: int, steps: Sequence[str]) -> Sequence[str] | None:
        mount_above, mount_steps = _above(mount.root)
        if mount_above and not mount_steps:
            own = self._own_group(mount, mount_above) if above < mount_above else ()
            return [*own[: mount_above - above], *steps] if above == mount_above or own else None
        if above or ".." in mount_steps or list(steps[: len(mount_steps)]) != list(mount_steps):
            return None
        return steps[len(mount_steps) :]

    def _own_group(self, mount: Mount, depth: int) -> Sequence[str]:
        if mount.folder not in self._own:
            top = self._top_of(mount)
            ways = islice(_ways(top, depth), _MOST_SEARCHED)
            self._own[mount.folder] = next((way for way in ways if _holds_mom("/".join((top, *way)))), ())
        return self._own[mount.folder]


def _ways(folder: str, depth: int) -> Iterator[Sequence[str]]:
    if not depth:
        yield ()
        return
    try:
        with os.scandir(folder) as entries:
            names = sorted(
                (entry.name for entry in entries if entry.is_dir(follow_symlinks=False)), key=lambda name: ("kube" not in name, name)
            )
    except OSError:  # the group has been removed
        return
    for name in names:
        for way in _ways(f"{folder}/{name}", depth - 1):
            yield (name, *way)


def _holds_mom(folder: str) -> bool:
    return b"%d" % os.getpid() in read_kernel_file(f"{folder}/cgroup.procs", _PROCESSES_BYTES).split()


def _above(path: str) -> tuple[int, Sequence[str]]:
    steps = [step for step in path.split("/") if step]
    above = next((number for number, step in enumerate(steps) if step != ".."), len(steps))
    return above, steps[above:]


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
