"""How a size was spread over time: seconds by bins of sizes, from which percentiles are read.

A bin is a sixteenth of a doubling wide, so a percentile, which is told as the upper edge of its bin, is at most 4.4 % too high.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

BINS_EACH_DOUBLING: Final = 16

PER_NATURAL: Final = BINS_EACH_DOUBLING / math.log(2)


def bin_of(kib: float) -> int:
    """Return the bin of a size in KiB; what is less than 1 KiB is in the first."""
    return int(math.log(kib) * PER_NATURAL) if kib > 1 else 0


def upper_edge(number: int) -> float:
    """KiB."""
    return float(2 ** ((number + 1) / BINS_EACH_DOUBLING))


def percentile(spread: Mapping[int, float], share: float) -> float | None:
    """Return the size in KiB below which it was for this share (ratio) of the seconds; None: it was never seen."""
    whole = sum(spread.values())
    if whole <= 0:
        return None
    passed = 0.0
    for number in sorted(spread):
        passed += spread[number]
        if passed >= share * whole * (1 - 1e-9):
            break
    return upper_edge(number)
