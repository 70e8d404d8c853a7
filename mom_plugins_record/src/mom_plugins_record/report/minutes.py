"""What the host's history is drawn of: the least, the average and the most of each minute, so that no low of a week is left out."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Final, NamedTuple

from mom_core import Report

MINUTE: Final = 60.0

FORECAST_ERRORS: Final = ("forecast_error", "forecast_error_unlearned")
"""Fields of the host, where guests' days are learned: what forecasts were wrong by, and that all stays as it is."""

HOST: Final = (
    "mem_available", "mem_really_available", "ksm_saved", "swap_usage", "psi_memory_some_avg10", "killed_today", *FORECAST_ERRORS,
)  # fmt: skip
"""Fields of the host."""

TOGETHER: Final = ("rss", "cold")
"""Fields of guests of which the sum is kept."""


class MinuteRow(NamedTuple):
    """One figure in one minute since the epoch. The names are those of the columns in the file of accounts.

    A sum over guests is called `guests.` and its field.
    """

    minute: int
    series: str
    least: float
    mean: float
    most: float


class Minutes:
    """Takes in each cycle's report. Not for several threads at once."""

    def __init__(self) -> None:
        self._minute = 0
        self._values: dict[str, list[float]] = {}
        self._over: list[MinuteRow] = []

    def add(self, report: Report) -> None:
        """Take in one cycle."""
        if (minute := int(report.time // MINUTE)) != self._minute:
            self._over += self._current()
            self._minute, self._values = minute, {}
        snapshot = report.snapshot
        seen = {name: snapshot.host.number(name) for name in HOST}
        for name in TOGETHER:
            numbers = [value for value in snapshot.numbers(name) if value is not None]
            seen[f"guests.{name}"] = sum(numbers) if numbers else None
        for name, value in seen.items():
            if value is not None:
                self._values.setdefault(name, []).append(value)

    def take(self) -> Sequence[MinuteRow]:
        """Return the minutes that are over since this was called last, and the one that is not, as it is now."""
        over, self._over = self._over, []
        return [*over, *self._current()]

    def _current(self) -> Sequence[MinuteRow]:
        return [MinuteRow(self._minute, name, min(seen), fmean(seen), max(seen)) for name, seen in self._values.items()]
