"""How much memory can be sold on a host at a stated risk, from days of its guests that were learned. Pure: numbers in, numbers out.

A day is drawn as a whole, for all guests together: what moves them together, such as Monday morning, stays in it. The host is filled with
its guests, and with copies of some that are drawn, until more than enough is sold; what they need together at most on a day is the day's
peak. The largest of a month's peaks is what counts. Days that are worse than all that were learned come, too: peaks are taken for Gumbel's
distribution of extreme values (Coles, An Introduction to Statistical Modeling of Extreme Values, 2001, chapter 3), by their mean and their
deviation, of working days and of other days apart. Its tail has no end, and guests' memory has: it errs to the safe side. How sure that is
follows from a bootstrap (Efron, Bootstrap Methods, 1979): the same for other copies, and from days that are drawn again and again from
those that were learned.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date
from operator import add
from typing import Final, NamedTuple

LEAST_DAYS: Final = 14
"""Days: in fewer, no working day and no weekend has come twice."""

MONTH_DAYS: Final = 30.0

RISK: Final = 0.01
CONFIDENCE: Final = 0.95

BOOTSTRAPS: Final = 200
"""How often days are drawn: with so many, the twentieth part from below is the tenth smallest."""

MOST_FILLED: Final = 40
LEAST_FILLED: Final = 8
FILLED_GUESTS: Final = 1600
"""How often the host is filled anew for these: so often that this many guests are drawn together, within these bounds. The more guests
a host has, the less it matters of which there are copies."""

STEP: Final = 0.02
"""Of the host's memory: by so much more is sold from one to the next of the numbers that are looked at."""

MOST_SOLD: Final = 10.0
"""Times the host's memory: no more is looked at."""

HOPELESS: Final = 1.5
"""Times what guests can have: a day whose peak is beyond that is not filled any further."""

FEWEST_OF_A_KIND: Final = 4
"""Days: with fewer working days or fewer others, all count as of one kind."""

DAYS_OF_A_WEEK: Final = 7
WORKING_DAYS: Final = 5

EULER: Final = 0.5772156649015329

RESERVE_KIB: Final = 32 << 10
RESERVE_SHARE: Final = 0.05
"""KiB, and of its need: what a guest keeps above its need, as the plugin balloon has it where nothing else is set. With less, it lacks."""

BESIDE_KIB: Final = 64 << 10
"""KiB: what QEMU holds beside a guest's memory, as the plugin balloon takes it until it has seen a sweep."""


class LearnedGuest(NamedTuple):
    """What a guest was sold (KiB), and what it used at most in each slot of its days (KiB, None: unknown), by the days' ordinals."""

    sold: float
    days: Mapping[int, Sequence[float | None]]


class SoldAtRisk(NamedTuple):
    """How much can be sold, in KiB, so that the chance of some guest lacking memory within a month is no more than was asked for.

    `sold` holds with `CONFIDENCE`; `middle` is as likely too much as too little. `days` and `guests` are what it was learned from.
    `complete` is false where it is the most that was looked at.
    """

    sold: float
    middle: float
    days: int
    guests: int
    complete: bool = True


def sold_at_risk(guests: Sequence[LearnedGuest], capacity: float, *, risk: float = RISK) -> SoldAtRisk | str:
    """Return how much can be sold on a host; or why that cannot be told.

    :param capacity: KiB that guests can have together, QEMU included
    :param risk: of a month, above 0 and below 1
    """
    if capacity <= 0:
        return "the host has nothing for guests"
    days = days_of(guests)
    if len(days) < LEAST_DAYS:
        return f"{len(days)} days were learned of at least half of the guests, and {LEAST_DAYS} are needed"
    pool = [(guest.sold, needs) for guest in guests if (needs := needs_on(guest, days)) is not None and guest.sold > 0]
    drawn = random.Random(1)  # noqa: S311  # the same days give the same answer
    grid = [capacity * STEP * place for place in range(1, round(MOST_SOLD / STEP) + 1)]
    filled = max(LEAST_FILLED, min(MOST_FILLED, FILLED_GUESTS // len(pool)))
    kinds, found = _kinds(days), []
    for _ in range(filled):
        peaks = _filled(pool, len(days), grid, capacity, drawn)
        found += [_largest(peaks, [drawn.choices(kind, k=len(kind)) for kind in kinds], risk) for _ in range(BOOTSTRAPS // filled)]
    found.sort()
    low, middle = found[int((1 - CONFIDENCE) * len(found))], found[len(found) // 2]
    sold = [0.0, *grid]
    return SoldAtRisk(sold[low], sold[middle], len(days), len(pool), middle < len(grid))


def days_of(guests: Sequence[LearnedGuest]) -> list[int]:
    """Return the days, in their order, of which at least half of the guests are known, without the last one where it is not over: its peak
    may be still to come, and a quiet day among others makes peaks look further apart than they are.
    """
    counted = Counter(ordinal for guest in guests for ordinal, used in guest.days.items() if is_known(used))
    days = sorted(ordinal for ordinal, count in counted.items() if 2 * count >= len(guests))
    ends = (guest.days.get(days[-1], ())[-1:] for guest in guests if days)
    return days if any(item is not None for end in ends for item in end) else days[:-1]


def is_known(used: Sequence[float | None]) -> bool:
    """Return True if at least half of a day is."""
    return len(used) > 0 and 2 * sum(item is not None for item in used) >= len(used)


def needs_on(guest: LearnedGuest, days: Sequence[int]) -> list[float] | None:
    """What a guest needs of the host in each slot of these days, one after the other, in KiB; None where too few of its days are known.

    In a slot that is unknown it needs as much as at most that day, and on a day that is unknown as much as on the next one of its kind.
    """
    known = {ordinal: used for ordinal in days if is_known(used := guest.days.get(ordinal, ()))}
    if len(known) < min(LEAST_DAYS, len(days)) // 2 or not known:
        return None
    needs: list[float] = []
    for day in days:
        used = known.get(day, ())
        if not used:
            used = known[min(known, key=lambda one: (works_on(one) is not works_on(day), abs(one - day)))]
        worst = max(item for item in used if item is not None)
        needs += [needed_kib(worst if item is None else item, guest.sold) for item in used]
    return needs


def works_on(ordinal: int) -> bool:
    """True for Monday to Friday."""
    return date.fromordinal(ordinal).weekday() < WORKING_DAYS


def needed_kib(used: float, sold: float) -> float:
    """What a guest that uses so much needs of the host at least, in KiB."""
    return min(sold, used + max(RESERVE_KIB, RESERVE_SHARE * used)) + BESIDE_KIB


def _filled(
    pool: Sequence[tuple[float, Sequence[float]]], days: int, grid: Sequence[float], capacity: float, drawn: random.Random
) -> list[list[float]]:
    """For each amount sold the peaks of all days, as parts of what guests can have together, on a host that is filled with these guests,
    and then with copies of some. Fewer, where all that is more would be hopeless.

    :param pool: of each guest what it was sold, and what it needs in each slot of all days, one after the other
    """
    order = drawn.sample(range(len(pool)), len(pool))
    slots = len(pool[0][1]) // days
    load, sold, number = [0.0] * (slots * days), 0.0, 0
    before, peaks = [0.0] * days, list[list[float]]()
    while len(peaks) < len(grid) and sum(before) < HOPELESS * days:
        memory, needs = pool[order[number] if number < len(order) else drawn.randrange(len(pool))]
        number += 1
        load = list(map(add, load, needs))
        after = [max(load[at : at + slots]) / capacity for at in range(0, len(load), slots)]
        while len(peaks) < len(grid) and grid[len(peaks)] <= sold + memory:  # of a guest that does not fit as a whole, a part
            part = (grid[len(peaks)] - sold) / memory
            peaks.append([one + part * (other - one) for one, other in zip(before, after, strict=True)])
        sold, before = sold + memory, after
    return peaks


def _kinds(days: Sequence[int]) -> list[list[int]]:
    """Return the places of working days, and of others."""
    kinds = [[place for place, day in enumerate(days) if works_on(day) is works] for works in (True, False)]
    return kinds if min(map(len, kinds)) >= FEWEST_OF_A_KIND else [list(range(len(days)))]


def _largest(peaks: Sequence[Sequence[float]], kinds: Sequence[Sequence[int]], risk: float) -> int:
    """Return how many steps can be sold, by the days that were drawn of each kind; no number is less risky than one before it."""
    good, bad = 0, len(peaks) + 1
    while bad - good > 1:
        middle = (good + bad) // 2
        if month_risk([[peaks[middle - 1][day] for day in kind] for kind in kinds]) <= risk:
            good = middle
        else:
            bad = middle
    return good


def month_risk(kinds: Sequence[Sequence[float]]) -> float:
    """Return the chance that a day's peak is more than guests can have together, at least once in a month.

    :param kinds: peaks of days as parts of that, of working days and of others apart; or of all together
    """
    works = WORKING_DAYS / DAYS_OF_A_WEEK
    expected = 0.0
    for part, peaks in zip((works, 1 - works) if len(kinds) > 1 else (1.0,), kinds, strict=True):
        mean = sum(peaks) / len(peaks)
        scale = max(math.sqrt(6 * sum((peak - mean) ** 2 for peak in peaks) / len(peaks)) / math.pi, 1e-9)
        expected += part * MONTH_DAYS * math.exp(min(700.0, (mean - EULER * scale - 1.0) / scale))
    return 1 - math.exp(-expected)
