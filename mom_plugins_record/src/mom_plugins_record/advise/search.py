"""How many fit: tries numbers of guests, several times each, until it knows or its time is over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


class TimeIsOver(Exception):
    """Raised by a run in the middle of which its time is over."""


@dataclass(slots=True)
class TriedCount:
    """One number of guests, how often it was simulated, and how a guest came to harm, in the last run; empty: in none."""

    count: int
    runs: int = 0
    harm: str = ""


@dataclass(slots=True)
class CapacitySearch:
    """Finds the largest number of guests with which none comes to harm, by doubling and then halving; more guests are never less risky.

    :param run: simulates so many guests with a seed, and says which guest came to harm; empty: none
    :param out_of_time: true if the search is to end with what is known
    """

    run: Callable[[int, int], str]
    seeds: int
    most: int
    out_of_time: Callable[[], bool] = lambda: False
    counts: dict[int, TriedCount] = field(default_factory=dict)
    complete: bool = False

    def largest(self) -> int | None:
        """Return the number; None: even without any more guests a guest comes to harm, or the time was too short to tell."""
        try:
            return self._largest()
        except TimeIsOver:
            return max((item.count for item in self.tried if not item.harm), default=None)

    @property
    def tried(self) -> list[TriedCount]:
        """The numbers that were tried, the smallest first."""
        return sorted((count for count in self.counts.values() if count.runs), key=lambda one: one.count)

    def _largest(self) -> int | None:
        if not self._holds(0):
            self.complete = True
            return None
        good, bad, step = 0, self.most + 1, 1
        while good + step < bad and not self.out_of_time():
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
        self.complete = bad - good == 1 and self.counts[good].runs == self._runs(good)
        return good

    def _runs(self, count: int) -> int:
        """Without any newcomer there is nothing to draw: all runs are the same."""
        return self.seeds if count else 1

    def _holds(self, count: int) -> bool:
        """Return True if nobody comes to harm with so many, as far as the runs tell."""
        tried = self.counts.setdefault(count, TriedCount(count))
        while not tried.harm and tried.runs < self._runs(count) and not (tried.runs and self.out_of_time()):
            tried.harm = self.run(count, tried.runs + 1)
            tried.runs += 1
        return not tried.harm
