"""How many fit at which risk: tries numbers of guests, several times each, until it knows or its time is over."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

Z: Final = 1.96
"""Standard deviations of a 95 % interval."""


def wilson(harmed: int, runs: int) -> tuple[float, float]:
    """The 95 % interval for a risk of which `harmed` of `runs` were seen (E. B. Wilson, Probable Inference, JASA 1927)."""
    if not runs:
        return 0.0, 1.0
    share, square = harmed / runs, Z * Z
    middle = (share + square / (2 * runs)) / (1 + square / runs)
    half = Z * math.sqrt(share * (1 - share) / runs + square / (4 * runs * runs)) / (1 + square / runs)
    return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(slots=True)
class TriedCount:
    """One number of guests, how often it was simulated, how often a guest came to harm, and how, the first time."""

    count: int
    runs: int = 0
    harmed: int = 0
    harm: str = ""

    @property
    def risk(self) -> float:
        """The share of runs in which a guest came to harm."""
        return self.harmed / self.runs if self.runs else 1.0

    @property
    def interval(self) -> tuple[float, float]:
        """What the risk is with 95 % confidence."""
        return wilson(self.harmed, self.runs)


@dataclass(slots=True)
class CapacitySearch:
    """Finds the largest number of guests whose risk is at most `risk`, by doubling and then halving; more guests are never less risky.

    :param run: simulates so many guests with a seed, and says which guest came to harm; empty: none
    :param out_of_time: whether to end with what is known
    """

    run: Callable[[int, int], str]
    seeds: int
    most: int
    risk: float
    out_of_time: Callable[[], bool] = lambda: False
    tried: dict[int, TriedCount] = field(default_factory=dict)
    complete: bool = False

    def largest(self) -> int | None:
        """The number; None: even without any more guests a guest comes to harm."""
        if not self._holds(0):
            self.complete = self._done(0)
            return None
        good, bad = 0, self.most + 1
        step = 1
        while good + step < bad and step <= self.most and not self.out_of_time():
            if not self._holds(good + step):
                bad = good + step
                break
            good += step
            step *= 2
        while bad - good > 1 and not self.out_of_time():
            middle = (good + bad) // 2
            if self._holds(middle):
                good = middle
            else:
                bad = middle
        self.complete = (bad - good == 1) and self._done(good) and (bad > self.most or bad in self.tried)
        return good

    def _done(self, count: int) -> bool:
        tried = self.tried.get(count)
        return tried is not None and (tried.runs >= (self.seeds if count else 1) or tried.risk > self.risk)

    def _holds(self, count: int) -> bool:
        """Whether so many are within the risk, as far as the runs tell; ends as soon as they cannot be any more."""
        tried = self.tried.setdefault(count, TriedCount(count))
        allowed = math.floor(self.risk * self.seeds + 1e-9)
        # Without any newcomer there is nothing to draw: all runs are the same.
        for seed in range(tried.runs + 1, (self.seeds if count else 1) + 1):
            if tried.harmed > allowed or (tried.runs and self.out_of_time()):
                break
            harm = self.run(count, seed)
            tried.runs += 1
            if harm:
                tried.harmed += 1
                tried.harm = tried.harm or harm
        return tried.harmed <= (allowed if count else 0)
