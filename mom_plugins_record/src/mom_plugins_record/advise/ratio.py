"""How much memory a host can sell at a stated risk, from the learned daily use of its guests. Pure functions.

The needs of all guests are added day by day, to keep common movements such as Monday morning. The largest total need on a day is the day's
peak, and the largest peak of a month counts.

Peaks follow Gumbel's distribution of extreme values (Coles, An Introduction to Statistical Modeling of Extreme Values, 2001, chapter 3),
separately for working days and other days. The confidence comes from a bootstrap (Efron, Bootstrap Methods, 1979) over copies and days.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from operator import add
from typing import Final

from mom_plugins_record.forecast.past import PastGuest

LEAST_DAYS: Final = 14
"""Days that mom must have learned, so that each day of the week has occurred twice."""

MONTH_DAYS: Final = 30.0

RISK: Final = 0.01
CONFIDENCE: Final = 0.95

BOOTSTRAPS: Final = 200
"""Number of bootstrap results."""

MOST_FILLED: Final = 40
LEAST_FILLED: Final = 8
FILLED_GUESTS: Final = 1600
"""mom fills a simulated host `FILLED_GUESTS` / (number of guests) times, but at least `LEAST_FILLED` and at most `MOST_FILLED` times."""

STEP: Final = 0.02
"""Step between two amounts tried, as a fraction of the memory for guests."""

MOST_SOLD: Final = 10.0
"""Largest amount tried, as a multiple of the memory for guests."""

HOPELESS: Final = 1.5
"""mom stops filling the host when the mean peak exceeds this multiple of the memory for guests."""

FEWEST_OF_A_KIND: Final = 4
"""If fewer working days or other days than this are known, all days count as one kind."""

DAYS_OF_A_WEEK: Final = 7
WORKING_DAYS: Final = 5

EULER: Final = 0.5772156649015329

RESERVE_KIB: Final = 32 << 10
RESERVE_SHARE: Final = 0.05
"""A guest's reserve is the larger of `RESERVE_KIB` and this fraction of its use, as in the balloon plugin."""

BESIDE_KIB: Final = 64 << 10
"""KiB of QEMU's own memory, as the balloon plugin assumes before the first sweep."""


@dataclass(frozen=True, slots=True)
class SoldAtRisk:
    """Memory in KiB that a host can sell at an accepted risk that some guest lacks memory within a month.

    :param sold_kib: amount with a confidence of `CONFIDENCE`
    :param sold_middle_kib: median, which has a confidence of 50 %
    :param days: number of days on which the result is based; likewise `guests`
    :param complete: False if `sold_middle_kib` is the largest amount tried
    """

    sold_kib: float
    sold_middle_kib: float
    days: int
    guests: int
    complete: bool = True


def sold_at_risk(guests: Sequence[PastGuest], capacity: float, *, risk: float = RISK) -> SoldAtRisk | str:
    """Return how much memory a host can sell, or why that is unknown.

    :param capacity: KiB for all guests together, QEMU included
    :param risk: risk for a month, between 0 and 1
    """
    if capacity <= 0:
        return "the host has no memory for guests"
    days = days_of(guests)
    if len(days) < LEAST_DAYS:
        return f"{len(days)} days are known for at least half of the guests, and {LEAST_DAYS} are needed"
    pool = [(guest.sold_kib, needs) for guest in guests if (needs := needs_on(guest, days)) is not None and guest.sold_kib > 0]
    drawn = random.Random(1)  # noqa: S311  # the same days give the same answer
    grid = [capacity * STEP * place for place in range(1, round(MOST_SOLD / STEP) + 1)]
    filled = max(LEAST_FILLED, min(MOST_FILLED, FILLED_GUESTS // len(pool)))
    kinds, steps = _kinds(days), []
    for _ in range(filled):
        peaks = _filled(pool, len(days), grid, capacity, drawn)
        steps += [_largest(peaks, [drawn.choices(kind, k=len(kind)) for kind in kinds], risk) for _ in range(BOOTSTRAPS // filled)]
    steps.sort()
    low, middle = steps[int((1 - CONFIDENCE) * len(steps))], steps[len(steps) // 2]
    sold = [0.0, *grid]
    return SoldAtRisk(sold[low], sold[middle], len(days), len(pool), middle < len(grid))


def days_of(guests: Sequence[PastGuest]) -> list[int]:
    """Return the ordinals of days on which the use of at least half of the guests is known. Leave out an unfinished last day."""
    counted = Counter(ordinal for guest in guests for ordinal, used in guest.days.items() if is_known(used))
    days = sorted(ordinal for ordinal, count in counted.items() if 2 * count >= len(guests))
    ends = (guest.days.get(days[-1], ())[-1:] for guest in guests if days)
    return days if any(item is not None for end in ends for item in end) else days[:-1]


def is_known(used: Sequence[float | None]) -> bool:
    """Return whether at least half of a day's values are known."""
    return len(used) > 0 and 2 * sum(item is not None for item in used) >= len(used)


def needs_on(guest: PastGuest, days: Sequence[int]) -> list[float] | None:
    """Return a guest's need in each slot of these days, in KiB; None if the guest's use is known on too few days.

    An unknown slot counts as its day's worst slot, and an unknown day as the nearest known day of the same kind.
    """
    known_days = {ordinal: used for ordinal in days if is_known(used := guest.days.get(ordinal, ()))}
    if len(known_days) < min(LEAST_DAYS, len(days)) // 2 or not known_days:
        return None
    needs: list[float] = []
    for day in days:
        used = known_days.get(day, ())
        if not used:
            used = known_days[min(known_days, key=lambda one: (works_on(one) is not works_on(day), abs(one - day)))]
        worst = max(item for item in used if item is not None)
        needs += [needed_kib(worst if item is None else item, guest.sold_kib) for item in used]
    return needs


def works_on(ordinal: int) -> bool:
    """Return whether the day is a working day, Monday to Friday."""
    return date.fromordinal(ordinal).weekday() < WORKING_DAYS


def needed_kib(used: float, sold: float) -> float:
    """Return the least host memory in KiB that a guest needs, from its use and its sold size."""
    return min(sold, used + max(RESERVE_KIB, RESERVE_SHARE * used)) + BESIDE_KIB


def _filled(
    pool: Sequence[tuple[float, Sequence[float]]], days: int, grid: Sequence[float], capacity: float, drawn: random.Random
) -> list[list[float]]:
    # Peaks are relative to the capacity. `pool` has each guest's sold size, and its needs in each slot.
    order = drawn.sample(range(len(pool)), len(pool))
    slots = len(pool[0][1]) // days
    load, sold, number = [0.0] * (slots * days), 0.0, 0
    before, peaks = [0.0] * days, list[list[float]]()
    while len(peaks) < len(grid) and sum(before) < HOPELESS * days:
        memory, needs = pool[order[number] if number < len(order) else drawn.randrange(len(pool))]
        number += 1
        load = list(map(add, load, needs))
        after = [max(load[at : at + slots]) / capacity for at in range(0, len(load), slots)]
        while len(peaks) < len(grid) and grid[len(peaks)] <= sold + memory:  # a part of the last guest counts
            part = (grid[len(peaks)] - sold) / memory
            peaks.append([low + part * (high - low) for low, high in zip(before, after, strict=True)])
        sold, before = sold + memory, after
    return peaks


def _kinds(days: Sequence[int]) -> list[list[int]]:
    kinds = [[place for place, day in enumerate(days) if works_on(day) is works] for works in (True, False)]
    return kinds if min(map(len, kinds)) >= FEWEST_OF_A_KIND else [list(range(len(days)))]


def _largest(peaks: Sequence[Sequence[float]], kinds: Sequence[Sequence[int]], risk: float) -> int:
    good, bad = 0, len(peaks) + 1
    while bad - good > 1:
        middle = (good + bad) // 2
        if month_risk([[peaks[middle - 1][day] for day in kind] for kind in kinds]) <= risk:
            good = middle
        else:
            bad = middle
    return good


def month_risk(kinds: Sequence[Sequence[float]]) -> float:
    """Return the probability that a daily peak exceeds the capacity within a month.

    :param kinds: daily peaks as fractions of the capacity: a list for working days and a list for other days, or one list for all days
    """
    works = WORKING_DAYS / DAYS_OF_A_WEEK
    expected = 0.0
    for part, peaks in zip((works, 1 - works) if len(kinds) > 1 else (1.0,), kinds, strict=True):
        mean = sum(peaks) / len(peaks)
        scale = max(math.sqrt(6 * sum((peak - mean) ** 2 for peak in peaks) / len(peaks)) / math.pi, 1e-9)
        expected += part * MONTH_DAYS * math.exp(min(700.0, (mean - EULER * scale - 1.0) / scale))
    return 1 - math.exp(-expected)
