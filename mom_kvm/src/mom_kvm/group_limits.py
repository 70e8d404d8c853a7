"""Headroom below the limits of control groups (v2): a group's own limit, and the limits of all groups above it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from mom_kvm.kernel_files import read_kernel_file

_MOST_LEVELS: Final = 32
"""Groups above each other that are looked at. The group of a container in a pod is the fifth."""

_INACTIVE_FILE: Final = re.compile(rb"^inactive_file ([0-9]{1,19})$", re.MULTILINE)


class GroupLimit(NamedTuple):
    """A limit of one group: the group's folder, and in KiB the limit and what counts against it."""

    folder: str
    limit: int
    used: int

    @property
    def room(self) -> int:
        """KiB that are left."""
        return max(0, self.limit - self.used)

    @property
    def name(self) -> str:
        """The group's own name."""
        return self.folder.rpartition("/")[2]

    @classmethod
    def of_memory(cls, folder: str, top: str) -> GroupLimit | None:
        """Return the tightest memory limit (`memory.max`) of a group and the groups above it; None: mom sees no limit.

        Page cache that was not used lately does not count: the kernel drops it before a group is at its limit.

        :param folder: of the group
        :param top: mount point of the hierarchy, which has no limit itself
        """
        return cls._tightest(folder, top, "memory.max", "memory.current", spared=_INACTIVE_FILE)

    @classmethod
    def of_swap(cls, folder: str, top: str) -> GroupLimit | None:
        """Return the same of swap (`memory.swap.max`)."""
        return cls._tightest(folder, top, "memory.swap.max", "memory.swap.current")

    @classmethod
    def _tightest(cls, folder: str, top: str, limit: str, current: str, spared: re.Pattern[bytes] | None = None) -> GroupLimit | None:
        tightest: GroupLimit | None = None
        for group in levels(folder, top):
            most, used = kib_in(f"{group}/{limit}"), kib_in(f"{group}/{current}")
            if most is None or used is None:  # "max", or not there
                continue
            match = None if spared is None else spared.search(read_kernel_file(f"{group}/memory.stat"))
            one = cls(group, most, max(0, used - (int(match[1]) >> 10 if match else 0)))
            if tightest is None or one.room < tightest.room:
                tightest = one
        return tightest


def levels(folder: str, top: str) -> Iterator[str]:
    """Return a group's folder and those above it, without `top`."""
    for _ in range(_MOST_LEVELS):
        if not folder.startswith(f"{top}/") or len(folder) <= len(top) + 1:
            return
        yield folder
        folder = folder.rpartition("/")[0]


def kib_in(file: str) -> int | None:
    """Return the size in a file of a group, in KiB; None where it is `max`, or cannot be read."""
    text = read_kernel_file(file).strip()
    return int(text) >> 10 if text.isdigit() and len(text) < 20 else None
