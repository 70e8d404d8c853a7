"""When the host will be full, if it goes on as it did: a straight line through the days, and how sure it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import linear_regression, pvariance
from typing import Final

from mom_plugins_record.report.sizes import KIB_PER_GIB

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
    """Growth with its 95 % bounds, by so many days that were seen, and when the host is full (seconds since the epoch).

    None: not in two years, or unknown; then `why_unknown` says why.
    """

    days: int = 0
    gib_each_week: float | None = None
    gib_each_week_least: float | None = None
    gib_each_week_most: float | None = None
    full_on: float | None = None
    full_on_earliest: float | None = None
    why_unknown: str = ""


def growth_of(days: Sequence[tuple[float, float]], limit: float | None, last: float) -> Growth:
    """Return the growth of what is needed.

    :param days: a day's number and the most that was needed in it, in KiB
    :param limit: KiB at which the host is full; None: unknown
    :param last: where the last day ends, in seconds since the epoch
    """
    count = len(days)
    if count < LEAST_DAYS:
        return Growth(count, why_unknown=f"it takes {LEAST_DAYS} days at least, and {count} were seen as a whole")
    slope, intercept = linear_regression(*zip(*days, strict=True))
    left = math.fsum((needed - intercept - slope * day) ** 2 for day, needed in days)
    across = count * pvariance(day for day, _ in days)
    student = next(value for least, value in reversed(_STUDENT) if count - 2 >= least)
    unsure = student * math.sqrt(left / (count - 2) / across)
    week, least, most = (each_day * 7 / KIB_PER_GIB for each_day in (slope, slope - unsure, slope + unsure))
    if limit is None:
        return Growth(count, week, least, most, why_unknown="what the host is to keep free is unknown")
    room = limit - (intercept + slope * days[-1][0])
    return Growth(count, week, least, most, _reached(room, slope, last), _reached(room, slope + unsure, last))


def _reached(room: float, each_day: float, last: float) -> float | None:
    if room <= 0:
        return last
    days = room / each_day if each_day > 0 else math.inf
    return last + days * 86_400 if days <= FARTHEST_DAYS else None
