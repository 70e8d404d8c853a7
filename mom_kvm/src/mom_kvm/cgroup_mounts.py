"""Where the hierarchies of control groups are mounted, as /proc/self/mountinfo says."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from mom_kvm.kernel_files import read_kernel_file

BELIEVED_SECONDS = 60.0
"""How long the list of mounts is believed. On a host with containers it is long, and what guests use is mounted at its start."""

_MOST_SEARCHED: Final = 20_000
"""Groups that are looked at for the one that this process is in: those of a node with as many pods as it can have, ten times over."""

_PROCESSES_BYTES: Final = 256 << 10

_OCTAL = re.compile(r"\\([0-7]{3})")


class Mount(NamedTuple):
    """One mount: its controllers (v2: only the unified one), the group that is its root, where it is, and whether it can be written to."""

    controllers: frozenset[str]
    root: str
    folder: str
    writable: bool


def mounts_in(mountinfo: str) -> list[Mount]:
    """Return the mounted hierarchies, in the order of the text.

    A line is `ID PARENT MAJOR:MINOR ROOT MOUNTPOINT OPTIONS [more …] - TYPE SOURCE SUPEROPTIONS` (proc_pid_mountinfo(5)).
    """
    mounts = []
    for line in mountinfo.split("\n"):  # the kernel writes blanks and line feeds in names as octal numbers, and no others
        before, dash, after = line.partition(" - ")
        words, kinds = before.split(" "), after.split(" ")
        if not dash or len(words) < 6 or len(kinds) < 3 or kinds[0] not in {"cgroup", "cgroup2"}:
            continue
        root, folder = (_OCTAL.sub(lambda match: chr(int(match[1], 8)), word) for word in words[3:5])
        controllers = [Hierarchies.UNIFIED] if kinds[0] == "cgroup2" else kinds[2].split(",")
        mounts.append(Mount(frozenset(controllers), root, folder, "rw" in words[5].split(",") and "rw" in kinds[2].split(",")))
    return mounts


class Hierarchies:
    """The mounted hierarchies of a host.

    In a container, all paths begin at its own group, and lead up out of it first (`/../../other`). More of the hierarchy is seen where
    the host's is mounted into the container: from how many groups up, that says, and which these are is searched for.

    :param root: where /proc and /sys are found
    """

    UNIFIED: Final = ""
    """The name of the unified hierarchy (cgroup v2) among the controllers, as in /proc/PID/cgroup."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._until = 0.0
        self._own: dict[str, Sequence[str]] = {}
        self.mounts: Sequence[Mount] = ()

    def keep_fresh(self) -> None:
        """Look again after `BELIEVED_SECONDS`, for work of each cycle."""
        if time.monotonic() >= self._until:
            self.refresh()

    def refresh(self) -> None:
        """Look again. What cannot be read leaves no mounts, until the next time that they are kept fresh."""
        self._until = time.monotonic() + BELIEVED_SECONDS
        try:
            text = (self._root / "proc/self/mountinfo").read_bytes().decode(errors="surrogateescape")
        except OSError:
            text = ""
        if not text:
            self._until = 0.0
        self.mounts = sorted(mounts_in(text), key=lambda mount: -_above(mount.root)[0])  # what shows more of the groups goes first
        self._own = {folder: own for folder, own in self._own.items() if own}

    def mount_of(self, controller: str) -> Mount | None:
        """Return the first mount that has this controller."""
        return next((mount for mount in self.mounts if controller in mount.controllers), None)

    def top(self, controller: str) -> str | None:
        """Return the folder that has this controller's groups in it; None where it is not mounted."""
        mount = self.mount_of(controller)
        return None if mount is None else f"{self._root / mount.folder.lstrip('/')}"

    def folder(self, controller: str, path: str) -> str | None:
        """Return the folder of a group; None where it cannot be reached from here.

        :param path: as in /proc/PID/cgroup: from the root of the hierarchy, which need not be what is mounted
        """
        above, steps = _above(path)
        if not path.startswith("/") or ".." in steps:
            return None
        for mount in self.mounts:
            if controller not in mount.controllers:
                continue
            inside = self._inside(mount, above, steps)
            if inside is not None:
                return "/".join((f"{self._root / mount.folder.lstrip('/')}", *inside)).rstrip("/")
        return None

    def _inside(self, mount: Mount, above: int, steps: Sequence[str]) -> Sequence[str] | None:
        """Return the way to a group from the root of this mount; None where that is not on the way to it.

        :param above: how many groups up, from the one at which paths begin, the way begins, and then goes by these steps
        """
        mount_above, mount_steps = _above(mount.root)
        if mount_above and not mount_steps:
            own = self._own_group(mount, mount_above) if above < mount_above else ()
            return [*own[: mount_above - above], *steps] if above == mount_above or own else None
        if above or ".." in mount_steps or list(steps[: len(mount_steps)]) != list(mount_steps):
            return None
        return steps[len(mount_steps) :]

    def _own_group(self, mount: Mount, depth: int) -> Sequence[str]:
        """Return the groups from the root of this mount down to the one at which paths begin, which is this process's; empty: not found."""
        if mount.folder not in self._own:
            self._own[mount.folder] = _way_to_own(f"{self._root / mount.folder.lstrip('/')}", depth)
        return self._own[mount.folder]


def _way_to_own(top: str, depth: int) -> Sequence[str]:
    """Return the groups that lead from a folder down to the one, so far below, that this process is in; empty: it is not found there."""
    ways = islice(_ways(top, depth), _MOST_SEARCHED)
    return next((way for way in ways if _holds("/".join((top, *way)), b"%d" % os.getpid())), ())


def _ways(folder: str, depth: int) -> Iterator[Sequence[str]]:
    """Yield the ways to all groups so far below a folder, pods' groups first."""
    if not depth:
        yield ()
        return
    try:
        with os.scandir(folder) as entries:
            names = sorted(
                (entry.name for entry in entries if entry.is_dir(follow_symlinks=False)), key=lambda name: ("kube" not in name, name)
            )
    except OSError:  # it has gone
        return
    for name in names:
        for way in _ways(f"{folder}/{name}", depth - 1):
            yield (name, *way)


def _holds(folder: str, pid: bytes) -> bool:
    return pid in read_kernel_file(f"{folder}/cgroup.procs", _PROCESSES_BYTES).split()


def _above(path: str) -> tuple[int, Sequence[str]]:
    """Return how many groups a path leads up first, and its steps from there on."""
    steps = [step for step in path.split("/") if step]
    above = next((number for number, step in enumerate(steps) if step != ".."), len(steps))
    return above, steps[above:]
