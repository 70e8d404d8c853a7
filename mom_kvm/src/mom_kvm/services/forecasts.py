"""Forecasts: how much each guest uses by time of day and week, as a plugin has learned it.

Who learns knows what guests used; who makes room, keeps memory or advises knows what may be taken from whom. Both know only this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Days:
    """The days of one guest, as they were learned. Sizes in KiB; None: not known.

    A day has `slots` slots of `slot_seconds` each, by local wall-clock time; a week has `week_days` days, and begins with a Monday where a
    day has 24 hours. `expected` is the middle of what the guest uses in each slot of the week, `most` the most that it uses within it.

    :param error_kib: what its forecast of the next hour (four slots) was wrong by lately, in the middle
    :param surprise_kib: KiB used beyond the forecast, at most in 19 of 20 slots
    :param errors_by_hour: the same as `error_kib`, for each of 24 parts of the day
    :param now_error_kib: what "it stays as it is now" was wrong by meanwhile
    :param growth: how fast it was seen to grow in each slot of a day, in KiB/s
    :param came: last use in each slot of a day
    :param learned_slots: number of slots with known use
    :param has_pattern: its forecast is better than "it stays as it is now"
    :param weight: how much its forecast counts now, 0 to 1
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
    """What guests are expected to use, by their days. Any thread may call this; none of it waits.

    A guest without a pattern has no forecast, and nothing is counted for it.
    """

    def most_expected(self, uuid: str, seconds: float) -> int | None:
        """Return the most KiB that the guest with this id is expected to use within so many seconds, with what its forecasts were
        wrong by added. None: it has no pattern, or its day differs from those before."""

    def rise_expected(self, seconds: float) -> int:
        """Return how many KiB more all guests with a pattern will use within so many seconds, with the usual error added.
        0: no rise is expected, or none is known."""

    def days(self, uuid: str) -> Days | None:
        """Return the days of the guest with this id; None: nothing was learned of it."""


@dataclass(frozen=True, slots=True)
class PastGuest:
    """A guest and its days as they were. `sold_kib` is what it can have at most, lately; `days` has by a day's ordinal (as `datetime.date`)
    what it used at most in each part of that day, in KiB, by local wall-clock time; None: unknown. All days have as many parts."""

    id: str
    name: str
    sold_kib: float
    days: Mapping[int, Sequence[float | None]]


class PastDays(Protocol):
    """Days of a host's guests as they were, at rest, for verbs. Raises `MomError` where they cannot be read."""

    @property
    def where(self) -> str:
        """How people name it, such as its file."""

    @property
    def host(self) -> str:
        """The host's name."""

    @property
    def host_kib(self) -> float | None:
        """The host's memory; None: unknown."""

    @property
    def promisable_kib(self) -> float | None:
        """What of it the host can promise to guests; None: unknown."""

    def guests(self) -> Sequence[PastGuest]:
        """Return the host's guests of which at least one day is known."""
