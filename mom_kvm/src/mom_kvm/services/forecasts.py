"""Forecasts of guests' memory use by time of day and week, learned by a plugin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Days:
    """Learned days of a guest. Sizes in KiB; None if unknown.

    A day has `slots` slots of `slot_seconds` in local time, a week `week_days` days. `expected` and `most` are for each slot of the week.

    :param error_kib: recent median error of the forecast for the next four slots
    :param surprise_kib: use above the forecast, 95th percentile
    :param errors_by_hour: `error_kib` for 24 parts of the day
    :param now_error_kib: error of the forecast "stays as now"
    :param growth: growth in each slot of a day, in KiB/s
    :param came: last use in each slot of a day
    :param has_pattern: the forecast is better than "stays as now"
    :param weight: weight of the forecast now, 0 to 1
    """

    id: str
    name: str
    slot_seconds: float
    slots: int
    week_days: int
    expected: Sequence[float | None]
    most: Sequence[float | None]
    error_kib: float | None = None
    surprise_kib: float | None = None
    errors_by_hour: Sequence[float | None] = ()
    now_error_kib: float | None = None
    growth: Sequence[float | None] = ()
    came: Sequence[float | None] = ()
    learned_slots: int = 0
    has_pattern: bool = False
    weight: float = 0.0


class Forecasts(Protocol):
    """Expected memory use of guests. Thread-safe; does not wait.

    Guests without a pattern have no forecast.
    """

    def most_expected(self, uuid: str, seconds: float) -> int | None:
        """Return the largest use in KiB that is expected of this guest within `seconds`; None if unknown."""

    def rise_expected(self, seconds: float) -> int:
        """Return the expected growth of all guests' use within `seconds`, in KiB; 0 if unknown."""

    def days(self, uuid: str) -> Days | None:
        """Return this guest's learned days."""
