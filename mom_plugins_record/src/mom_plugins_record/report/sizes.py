"""Advice on guests' sizes: whether the sold memory fits, a sufficient size, and its risk."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import linear_regression, pvariance
from typing import Final

LEAST_DAYS: Final = 7
"""Days of data needed. In fewer days, the rhythm of a week looks like growth."""

FARTHEST_DAYS: Final = 730.0
"""If the host will be full later than this, mom names no date: the data cover few weeks."""

# Student's t at 97.5 % by minimal degrees of freedom.
_STUDENT: Final = (
    (5, 2.571), (6, 2.447), (7, 2.365), (8, 2.306), (9, 2.262), (10, 2.228), (12, 2.179), (15, 2.131),
    (20, 2.086), (30, 2.042),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Growth:
    """Growth of the needed memory with 95 % bounds, and when the host will be full (seconds since the epoch).

    Values are None if unknown (`why_unknown`), or more than two years away.
    """

    days: int = 0
    gib_each_week: float | None = None
    gib_each_week_least: float | None = None
    gib_each_week_most: float | None = None
    full_on: float | None = None
    full_on_earliest: float | None = None
    why_unknown: str = ""


def growth_of(days: Sequence[tuple[float, float]], limit: float | None, last: float) -> Growth:
    """Return the growth of the needed memory.

    :param days: each day's number and largest need in KiB
    :param limit: needed memory in KiB at which the host is full; None if unknown
    :param last: end of the last day, in seconds since the epoch
    """
    count = len(days)
    if count < LEAST_DAYS:
        return Growth(count, why_unknown=f"{LEAST_DAYS} complete days are needed, and {count} are known")
    slope, intercept = linear_regression(*zip(*days, strict=True))
    left = math.fsum((needed - intercept - slope * day) ** 2 for day, needed in days)
    across = count * pvariance(day for day, _ in days)
    student = next(value for least, value in reversed(_STUDENT) if count - 2 >= least)
    unsure = student * math.sqrt(left / (count - 2) / across)
    week, least, most = (each_day * 7 / KIB_PER_GIB for each_day in (slope, slope - unsure, slope + unsure))
    if limit is None:
        return Growth(count, week, least, most, why_unknown="the memory that the host should keep free is unknown")
    room = limit - (intercept + slope * days[-1][0])
    return Growth(count, week, least, most, _reached(room, slope, last), _reached(room, slope + unsure, last))


def _reached(room: float, each_day: float, last: float) -> float | None:
    if room <= 0:
        return last
    days = room / each_day if each_day > 0 else math.inf
    return last + days * 86_400 if days <= FARTHEST_DAYS else None


MARGIN_SHARE: Final = 0.25
MARGIN_KIB: Final = 80 * 1024.0
"""Reserve of a guest above its use: a share of the use, plus an amount in KiB, as in the balloon law. With less, guests of 1 GiB had OOM
kills."""

STEP_KIB: Final = 256 * 1024.0
"""Advised sizes are multiples of this size in KiB."""

LEAST_HOURS: Final = 24
"""Hours of data needed for advice. Work repeats after a day at the earliest."""

KIB_PER_GIB: Final = float(1 << 20)

CONFIDENCE: Final = 0.95

LARGE_SHARE: Final = 0.75
"""A guest is too large, and worth a restart, if at most this share of its sold memory is sufficient."""

WAITING_SHARE: Final = 0.01
"""A guest is too small if it stalls for at least this share of its time although mom holds nothing back."""


class Fit(StrEnum):
    """How a guest's sold memory fits its use."""

    LARGE = "too large"
    SMALL = "too small"
    FITS = "fits"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class SizeAdvice:
    """Advice on the size of a guest. Values are None if unknown.

    :param would_do_gib: sufficient size
    :param risk: largest share of hours that may exceed all known hours, with 95 % confidence
    :param why: why the size is too small, or the fit is unknown
    """

    fit: Fit = Fit.UNKNOWN
    would_do_gib: float | None = None
    risk: float | None = None
    hours: int = 0
    why: str = ""


NO_ADVICE: Final = SizeAdvice()


def risk_of(hours: int) -> float:
    """Return the largest probability, with 95 % confidence, that an hour exceeds all of `hours` known hours."""
    return float(1 - (1 - CONFIDENCE) ** (1 / hours))


def advise(
    sold: float, most: float, hours: int, waited_besides: float, seconds: float, killed: int, waited_for_mom: float = 0.0
) -> SizeAdvice:
    """Return advice on the size of a guest.

    :param sold: sold memory in KiB
    :param most: maximum of the guest's use in KiB
    :param hours: hours with known use
    :param waited_besides: stall seconds while mom held nothing back, out of all `seconds`
    :param waited_for_mom: stall seconds while mom held memory back
    """
    if not (hours or most):
        return SizeAdvice(Fit.UNKNOWN, why="the guest does not report its memory use")
    if hours < LEAST_HOURS:
        return SizeAdvice(Fit.UNKNOWN, hours=hours, why=f"{LEAST_HOURS} hours of data are needed, and {hours} are known")
    would_do = math.ceil((most * (1 + MARGIN_SHARE) + MARGIN_KIB) / STEP_KIB) * STEP_KIB
    risk = risk_of(hours)

    def advice(fit: Fit, kib: float, why: str = "") -> SizeAdvice:
        return SizeAdvice(fit, kib / KIB_PER_GIB, None if why else risk, hours, f"{why}; the real need is unknown" if why else "")

    if seconds and waited_besides >= WAITING_SHARE * seconds:
        return advice(Fit.SMALL, max(would_do, sold + STEP_KIB), "the guest waits for memory although mom withholds none")
    if killed and would_do > sold:
        return advice(Fit.SMALL, would_do, "the guest's kernel killed programs")
    if killed or (seconds and waited_for_mom >= WAITING_SHARE * seconds):  # with more memory, it would have used more
        why = "the guest's kernel killed programs" if killed else "the guest waited for memory that mom had taken"
        return SizeAdvice(Fit.UNKNOWN, hours=hours, why=f"{why}; the real need is unknown")
    return advice(Fit.LARGE, would_do) if would_do <= LARGE_SHARE * sold else advice(Fit.FITS, min(would_do, sold))
