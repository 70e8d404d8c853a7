"""Forecasts: each guest's use by time of day and week, as a plugin has learned it, for plugins that make room, keep memory or advise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Days:
    """Learned days of a guest. Sizes in KiB; None: unknown.

    A day has `slots` slots of `slot_seconds` each, in local time; a week has `week_days` days, and begins on Monday where a day has 24
    hours. `expected` is the median use in each slot of the week, `most` the most.

    :param error_kib: recent median error of its forecast for the next hour (four slots)
    :param surprise_kib: most KiB used beyond the forecast in 19 of 20 slots
    :param errors_by_hour: `error_kib` for each of 24 parts of the day
    :param now_error_kib: error of "it stays as it is now" meanwhile
    :param growth: seen growth in each slot of a day, in KiB/s
    :param came: last use in each slot of a day
    :param learned_slots: number of slots with known use
    :param has_pattern: its forecast is better than "it stays as it is now"
    :param weight: weight of its forecast now, 0 to 1
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
    """Expected use of guests. For any thread; does not wait.

    A guest without a pattern has no forecast, and adds nothing to sums.
    """

    def most_expected(self, uuid: str, seconds: float) -> int | None:
        """Return the most KiB that this guest is expected to use within so many seconds, including its forecasts' error. None: it has no
        pattern, or its day differs from earlier ones."""

    def rise_expected(self, seconds: float) -> int:
        """Return how many KiB more all guests with a pattern will use within so many seconds, including the usual error. 0: no rise is
        expected, or known."""

    def days(self, uuid: str) -> Days | None:
        """Return this guest's learned days; None: none."""


@dataclass(frozen=True, slots=True)
class PastGuest:
    """A guest's past days. `sold_kib` is its recent maximum; `days` has by a day's ordinal (as in `datetime.date`) the most use in each
    part of that day in KiB, in local time; None: unknown. All days have equally many parts."""

    id: str
    name: str
    sold_kib: float
    days: Mapping[int, Sequence[float | None]]


class PastDays(Protocol):
    """Past days of a host's guests, for verbs. Raises `MomError` if unreadable."""

    @property
    def where(self) -> str:
        """Name for people, such as the file."""

    @property
    def host(self) -> str:
        """The host's name."""

    @property
    def host_kib(self) -> float | None:
        """The host's memory; None: unknown."""

    @property
    def promisable_kib(self) -> float | None:
        """Part of it that the host can promise to guests; None: unknown."""

    def guests(self) -> Sequence[PastGuest]:
        """Return the guests with at least one known day."""
