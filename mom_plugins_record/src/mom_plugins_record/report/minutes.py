"""Host's history by minutes: minimum, average and maximum, so that plots of a week show every low."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Final, NamedTuple

from mom_core import Report

MINUTE: Final = 60.0

FORECAST_ERRORS: Final = ("forecast_error", "forecast_error_unlearned")
"""Host fields: errors of the forecast, and of expecting no change."""

HOST: Final = (
    "mem_available", "mem_really_available", "ksm_saved", "swap_usage", "psi_memory_some_avg10", "killed_today", *FORECAST_ERRORS,
)  # fmt: skip

TOGETHER: Final = ("rss", "cold")
"""Guests' fields, as sums."""


class MinuteRow(NamedTuple):
    """Figure in one minute since the epoch. A sum over guests is called `guests.` and its field."""

    minute: int
    series: str
    least: float
    mean: float
    most: float


class Minutes:
    """Figures of the present minute, and of past minutes until `take`. Not thread-safe."""

    def __init__(self) -> None:
        self._minute = 0
        self._values: dict[str, list[float]] = {}
        self._over: list[MinuteRow] = []

    def add(self, report: Report) -> None:
        """Add one cycle."""
        if (minute := int(report.time // MINUTE)) != self._minute:
            self._over += self._current()
            self._minute, self._values = minute, {}
        snapshot = report.snapshot
        numbers_now = {name: snapshot.host.number(name) for name in HOST}
        for name in TOGETHER:
            numbers = [value for value in snapshot.numbers(name) if value is not None]
            numbers_now[f"guests.{name}"] = sum(numbers) if numbers else None
        for name, value in numbers_now.items():
            if value is not None:
                self._values.setdefault(name, []).append(value)

    def take(self) -> Sequence[MinuteRow]:
        """Return the minutes since the last call, and the present minute so far."""
        over, self._over = self._over, []
        return [*over, *self._current()]

    def _current(self) -> Sequence[MinuteRow]:
        return [MinuteRow(self._minute, name, min(figures), fmean(figures), max(figures)) for name, figures in self._values.items()]
