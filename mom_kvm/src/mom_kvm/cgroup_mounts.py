"""Mounted cgroup hierarchies, read from /proc/self/mountinfo."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from mom_core import Guest
from mom_kvm.kernel_files import read_kernel_file

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
            self._own[mount.folder] = _way_to_own(self._top_of(mount), depth)
        return self._own[mount.folder]


def _way_to_own(top: str, depth: int) -> Sequence[str]:
    ways = islice(_ways(top, depth), _MOST_SEARCHED)
    return next((way for way in ways if _holds("/".join((top, *way)), b"%d" % os.getpid())), ())


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


def _holds(folder: str, pid: bytes) -> bool:
    return pid in read_kernel_file(f"{folder}/cgroup.procs", _PROCESSES_BYTES).split()


def _above(path: str) -> tuple[int, Sequence[str]]:
    steps = [step for step in path.split("/") if step]
    above = next((number for number, step in enumerate(steps) if step != ".."), len(steps))
    return above, steps[above:]
