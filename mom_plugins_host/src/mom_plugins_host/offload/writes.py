"""How much may be written to disks, as their cells wear: so much in any day."""

from __future__ import annotations

from collections import deque
from typing import Final

_DAY_SECONDS: Final = 86400.0
_HOURS: Final = 24
_HOUR_SECONDS: Final = _DAY_SECONDS / _HOURS


class WriteBudget:
    """The writes of the last day, by hours.

    What an earlier mom wrote is unknown; so that one that is started again and again does not write more, the first day's budget comes by
    the hour.

    :param day_kib: what may be written in a day
    :param now: monotonic seconds
    """

    def __init__(self, day_kib: int, now: float) -> None:
        self._day_kib = day_kib
        self._since = now
        self._hours: deque[tuple[int, float]] = deque()

    def spend(self, kib: float, now: float) -> None:
        """So much is written now."""
        hour = int(now // _HOUR_SECONDS)
        if self._hours and self._hours[-1][0] == hour:
            kib += self._hours.pop()[1]
        self._hours.append((hour, kib))

    def written(self, now: float) -> float:
        """The writes of the last day, in KiB."""
        oldest = int(now // _HOUR_SECONDS) - _HOURS
        while self._hours and self._hours[0][0] <= oldest:
            self._hours.popleft()
        return sum(kib for _, kib in self._hours)

    def left(self, now: float) -> float:
        """The rest of the budget, in KiB."""
        share = min(1.0, (1 + int((now - self._since) // _HOUR_SECONDS)) / _HOURS)
        return max(0.0, self._day_kib * share - self.written(now))
