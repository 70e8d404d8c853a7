"""Slots of the day and of the week, by local wall-clock time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

SLOTS: Final = 96
"""Of a day: with 24 hours, 15 minutes each."""

HOURS: Final = 24
"""Parts of the day by which errors are told."""

HOUR_SLOTS: Final = SLOTS // HOURS
"""The next hour, by which forecasts are judged."""

SHORTEST_DAY: Final = 60.0
LONGEST_DAY: Final = 7 * 86_400.0
LONGEST_WEEK: Final = 31
"""Seconds, and days, that a setting may say."""

_MONDAY: Final = 3
"""Days from the first Monday back to 1970-01-01, a Thursday."""


def local_offset(moment: float) -> int:
    """By how many seconds the local clock is ahead of UTC at that time (seconds since the epoch)."""
    return time.localtime(moment).tm_gmtoff


@dataclass(frozen=True, slots=True)
class Calendar:
    """How time is divided: a day of so many seconds, a week of so many days.

    Slots are counted by the local clock: on a day of 23 hours four are left out, and on one of 25 hours four come twice.
    """

    day_seconds: float = 86_400.0
    week_days: int = 7
    offset: Callable[[float], float] = local_offset

    @property
    def slot_seconds(self) -> float:
        """How long a slot is."""
        return self.day_seconds / SLOTS

    @property
    def week_slots(self) -> int:
        """Slots of a week."""
        return SLOTS * self.week_days

    def same_as(self, other: Calendar) -> bool:
        """Return True if days and weeks of both are as long."""
        return (self.day_seconds, self.week_days) == (other.day_seconds, other.week_days)

    def index(self, moment: float) -> int:
        """Return the number of the slot that this time (seconds since the epoch) is in, counted from long ago."""
        return int((moment + self.offset(moment)) // self.slot_seconds)

    def left(self, moment: float) -> float:
        """Seconds until the next slot begins."""
        return self.slot_seconds - (moment + self.offset(moment)) % self.slot_seconds

    def of_week(self, index: int) -> int:
        """Return which slot of the week that is; the first is Monday's first, where a day has 24 hours."""
        shift = _MONDAY if self.week_days == 7 else 0  # the days of a week
        return (index + shift * SLOTS) % self.week_slots


def calendar_of(content: Any) -> Calendar:
    """Return the calendar whose `day` and `week` were kept. Raises any error for one that cannot be."""
    day, week = content["day"], content["week"]
    if not (SHORTEST_DAY <= day <= LONGEST_DAY and isinstance(week, int) and 1 <= week <= LONGEST_WEEK):
        raise ValueError("days, or weeks, are of a length that they cannot have")
    return Calendar(float(day), week)
