"""Walks through a guest's process, for guests whose memory cannot be taken by a control group. Pure, but for what /proc tells."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, chain
from typing import Final

from mom_helper.orders import MOST_PIECE_KIB
from mom_kvm import open_process_file

LEAST_AREA_KIB: Final = 16 << 10
"""Areas of a process that are larger hold a guest's memory; QEMU's own are smaller, and few."""

_MOST_AREAS: Final = 10_000

_STEP: Final = MOST_PIECE_KIB << 10


def areas_of(process: str) -> Sequence[tuple[int, int]]:
    """Where a process has large areas of memory that it may write: first and last address. Raises `OSError`.

    :param process: its folder in /proc
    """
    found: list[tuple[int, int]] = []
    with os.fdopen(open_process_file(process, "maps"), "rb") as file:
        for line in file:
            where, rights = line.split(None, 2)[:2]
            first, last = (int(word, 16) for word in where.split(b"-"))
            if rights.startswith(b"rw") and last - first >= LEAST_AREA_KIB << 10 and len(found) < _MOST_AREAS:
                found.append((first, last))
    return found


def steps_of(areas: Sequence[tuple[int, int]], at: int) -> Iterator[tuple[int, int]]:
    """The areas in steps (address, length in bytes), each once, from where the last walk ended. They are made one by one: a process may
    reserve terabytes of addresses.

    :param at: how many steps all walks have gone
    """
    steps = [range(first, last, _STEP) for first, last in areas]
    ends = list(accumulate(map(len, steps)))  # the number of the step that comes after each area
    count = ends[-1] if ends else 0
    start = at % count if count else 0
    for number in chain(range(start, count), range(start)):
        area = bisect_right(ends, number)
        first = steps[area][number - ends[area]]  # counted from the area's end
        yield first, min(_STEP, areas[area][1] - first)
