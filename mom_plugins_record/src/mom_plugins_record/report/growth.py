"""When the host will be full, if it goes on as it did: a straight line through the days, and how sure it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

LEAST_DAYS: Final = 7
"""With fewer days, a week's rhythm looks like growth."""

FARTHEST_DAYS: Final = 730.0
"""Two years; a date beyond is not told: no host is planned so far by some weeks."""

# Student's t at 97.5 % by degrees of freedom, from so many on.
_STUDENT: Final = (
    (5, 2.571), (6, 2.447), (7, 2.365), (8, 2.306), (9, 2.262), (10, 2.228), (12, 2.179), (15, 2.131),
    (20, 2.086), (30, 2.042),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Growth:
    """Growth in KiB a day with its 95 % bounds, and in how many days from the last one the host is full.

    None: not in two years, or unknown; then `why` says why.
    """

    days: int = 0
    each_day: float | None = None
    least: float | None = None
    most: float | None = None
    full_in: float | None = None
    earliest: float | None = None
    why: str = ""


def growth_of(days: Sequence[tuple[float, float]], limit: float | None) -> Growth:
    """The growth of what is needed.

    :param days: a day's number and the most that was needed in it, in KiB
    :param limit: KiB at which the host is full; None: unknown
    """
    count = len(days)
    if count < LEAST_DAYS:
        return Growth(count, why=f"it takes {LEAST_DAYS} days at least, and {count} were seen")
    middle = math.fsum(day for day, _ in days) / count
    mean = math.fsum(needed for _, needed in days) / count
    across = math.fsum((day - middle) ** 2 for day, _ in days)
    slope = math.fsum((day - middle) * (needed - mean) for day, needed in days) / across
    left = math.fsum((needed - mean - slope * (day - middle)) ** 2 for day, needed in days)
    unsure = _student(count - 2) * math.sqrt(left / (count - 2) / across)
    if limit is None:
        return Growth(count, slope, slope - unsure, slope + unsure, why="what the host is to keep free is unknown")
    room = limit - (mean + slope * (days[-1][0] - middle))
    return Growth(count, slope, slope - unsure, slope + unsure, _reached(room, slope), _reached(room, slope + unsure))


def _student(freedom: int) -> float:
    return next(value for least, value in reversed(_STUDENT) if freedom >= least)


def _reached(room: float, slope: float) -> float | None:
    if room <= 0:
        return 0.0
    days = room / slope if slope > 0 else math.inf
    return days if days <= FARTHEST_DAYS else None
