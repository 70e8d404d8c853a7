"""Made-up days of guests: their use in each slot of many weeks, with weekends, holidays and noise."""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

SLOTS: Final = 96
GIB: Final = 1024.0 * 1024


@dataclass(frozen=True, slots=True)
class MadeUpGuest:
    """Use of a guest in each slot, and its peak, in KiB, from a Monday on."""

    kind: str
    used: Sequence[float]
    most: Sequence[float]


def _office(rng: random.Random, is_free: Callable[[int], bool]) -> Callable[[int, int], float]:
    """Desktop: its user works from about eight to five, with a break at noon, and not on free days."""
    comes, goes, much = rng.gauss(32, 2), rng.gauss(68, 3), rng.uniform(0.8, 3.0)
    shifts: dict[int, tuple[float, float, float]] = {}

    def use(day: int, slot: int) -> float:
        if is_free(day):
            return 0.0
        late, long, busy = shifts.setdefault(day, (rng.gauss(0, 1), rng.gauss(0, 2), rng.uniform(0.85, 1.15)))
        begins, ends = comes + late, goes + long
        if not begins <= slot < ends:
            return 0.0
        return much * busy * (min(1.0, (slot - begins + 1) / 3)) * (0.85 if 48 <= slot < 52 else 1.0)

    return use


def _web(rng: random.Random, is_free: Callable[[int], bool]) -> Callable[[int, int], float]:
    """Web server: follows the day, with half the load on free days."""
    much, peak = rng.uniform(1.0, 6.0), rng.uniform(52, 80)
    days: dict[int, float] = {}

    def use(day: int, slot: int) -> float:
        busy = days.setdefault(day, rng.gauss(1.0, 0.08))
        return much * busy * (0.5 if is_free(day) else 1.0) * (0.5 + 0.5 * math.cos((slot - peak) / SLOTS * 2 * math.pi))

    return use


def _nightly(rng: random.Random, is_free: Callable[[int], bool]) -> Callable[[int, int], float]:
    """Backup each night, of varying length, twice as long on Sundays."""
    begins, lasts, much = rng.randrange(0, 20), rng.uniform(4, 10), rng.uniform(1.0, 4.0)
    lengths: dict[int, float] = {}

    def use(day: int, slot: int) -> float:
        long = lengths.setdefault(day, lasts * rng.uniform(0.7, 1.3) * (2 if day % 7 == 6 else 1))
        return much if begins <= slot < begins + long else 0.0

    return use


def _hourly(rng: random.Random, is_free: Callable[[int], bool]) -> Callable[[int, int], float]:
    """Jobs at fixed times of the day, and a large weekly one."""
    times = {rng.randrange(SLOTS): rng.uniform(0.3, 2.0) for _ in range(6)}
    weekly, at = rng.randrange(7), rng.randrange(SLOTS - 12)

    def use(day: int, slot: int) -> float:
        large = 3.0 if day % 7 == weekly and at <= slot < at + 10 else 0.0
        return large + sum(much for begins, much in times.items() if begins <= slot < begins + 3)

    return use


def _none(rng: random.Random, is_free: Callable[[int], bool]) -> Callable[[int, int], float]:
    """No pattern: the use changes at random times."""
    state = [rng.uniform(0.5, 2.0)]

    def use(day: int, slot: int) -> float:
        if rng.random() < 0.03:
            state[0] = rng.uniform(0.2, 4.0)
        return state[0]

    return use


def _flat(rng: random.Random, is_free: Callable[[int], bool]) -> Callable[[int, int], float]:
    """Constant use."""
    much = rng.uniform(0.5, 3.0)
    return lambda day, slot: much


KINDS: Final = {"office": _office, "web": _web, "nightly": _nightly, "hourly": _hourly, "none": _none, "flat": _flat}


def made_up_guest(kind: str, days: int, seed: int, holidays: Sequence[int] = ()) -> MadeUpGuest:
    """Return a guest of this kind. `holidays`, counted from 0, are like Sundays."""
    rng = random.Random(f"{kind} {seed}")  # noqa: S311  # the same numbers each time

    def is_free(day: int) -> bool:
        return day % 7 >= 5 or day in holidays

    use = KINDS[kind](rng, is_free)
    base, strays, noise = rng.uniform(0.3, 1.0), 0.0, rng.uniform(0.01, 0.05)
    used, most = array("d"), array("d")
    for slot in range(days * SLOTS):
        strays = 0.9 * strays + rng.gauss(0.0, noise)
        value = max(0.05, base + use(*divmod(slot, SLOTS)) + strays) * GIB
        used.append(value)
        most.append(value * (1.0 + abs(rng.gauss(0.0, 0.05))))
    return MadeUpGuest(kind, used, most)
