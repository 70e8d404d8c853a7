"""Headroom below the limits of a cgroup and its parents (v2)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from mom_kvm.kernel_files import read_kernel_file

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
