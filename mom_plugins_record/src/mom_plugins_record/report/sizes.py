"""Which guests are bought too large or too small, the size that would do, and its risk by the evidence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

MARGIN_SHARE: Final = 0.25
MARGIN_KIB: Final = 80 * 1024.0
"""A guest needs that beside what it uses, by the balloon law: with less, programs were killed in guests of 1 GiB (docs/balloon-law.md)."""

STEP_KIB: Final = 256 * 1024.0
"""Sizes are told in these steps, rounded up."""

LEAST_HOURS: Final = 24
"""With fewer hours that were seen, nothing is said: a day is the shortest time after which work comes again."""

KIB_PER_GIB: Final = float(1 << 20)

CONFIDENCE: Final = 0.95

LARGE_SHARE: Final = 0.75
"""Of what it was sold, what a guest needs at the most to be called too large: less of a difference is not worth a restart."""

WAITING_SHARE: Final = 0.01
"""Of its time, what a guest that has all it was sold waits for memory and is called too small."""


class Fit(StrEnum):
    """How what a guest was sold fits what it was seen to use."""

    LARGE = "too large"
    SMALL = "too small"
    FITS = "fits"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class SizeAdvice:
    """Size that would do for a guest; None: unknown.

    `risk` is the ratio of hours that may need more than was seen in any of `hours`: with 95 % confidence, it is no more.
    """

    fit: Fit = Fit.UNKNOWN
    would_do_gib: float | None = None
    risk: float | None = None
    hours: int = 0
    why: str = ""


NO_ADVICE: Final = SizeAdvice()


def risk_of(hours: int) -> float:
    """Return the ratio of hours that can be beyond all of so many that were seen: more would have shown itself with 95 % confidence."""
    return float(1 - (1 - CONFIDENCE) ** (1 / hours))


def advise(
    sold: float, most: float, hours: int, waited_besides: float, seconds: float, killed: int, waited_for_mom: float = 0.0
) -> SizeAdvice:
    """Judge a guest.

    :param sold: KiB
    :param most: the most that it was ever seen to use, in KiB, be it in an hour of which too little was seen to be one of these `hours`
    :param waited_besides: seconds that it waited for memory while mom held nothing back from it, of all these seconds
    :param waited_for_mom: the same while mom held something back
    """
    if not (hours or most):
        return SizeAdvice(Fit.UNKNOWN, why="it does not tell what it uses")
    if hours < LEAST_HOURS:
        return SizeAdvice(Fit.UNKNOWN, hours=hours, why=f"it takes {LEAST_HOURS} hours at least, and {hours} were seen")
    would_do = math.ceil((most * (1 + MARGIN_SHARE) + MARGIN_KIB) / STEP_KIB) * STEP_KIB
    risk = risk_of(hours)

    def advice(fit: Fit, kib: float, why: str = "") -> SizeAdvice:
        return SizeAdvice(fit, kib / KIB_PER_GIB, None if why else risk, hours, f"{why}; how much it wants is not seen" if why else "")

    if seconds and waited_besides >= WAITING_SHARE * seconds:
        return advice(Fit.SMALL, max(would_do, sold + STEP_KIB), "it waits for memory though it has all that it was sold")
    if killed and would_do > sold:
        return advice(Fit.SMALL, would_do, "programs were killed in it")
    if killed or (seconds and waited_for_mom >= WAITING_SHARE * seconds):  # it would have used more, had it had more
        why = "programs were killed in it" if killed else "it waited for memory that mom held back"
        return SizeAdvice(Fit.UNKNOWN, hours=hours, why=f"{why}; how much it wants is not seen")
    return advice(Fit.LARGE, would_do) if would_do <= LARGE_SHARE * sold else advice(Fit.FITS, min(would_do, sold))
