"""Slots of the day and of the week, in local time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

SLOTS: Final = 96
"""Slots of a day, 15 minutes each."""

HOURS: Final = 24

HOUR_SLOTS: Final = SLOTS // HOURS

SHORTEST_DAY: Final = 60.0
LONGEST_DAY: Final = 7 * 86_400.0
LONGEST_WEEK: Final = 31
"""Bounds of settings, in seconds and days."""

_MONDAY: Final = 3
"""Days from Monday to 1970-01-01, a Thursday."""


def local_offset(moment: float) -> int:
    """Return local time's offset from UTC in seconds.

    :param moment: seconds since the epoch
    """
    return time.localtime(moment).tm_gmtoff


@dataclass(frozen=True, slots=True)
class Calendar:
    """Division of time: seconds of a day, and days of a week.

    Slots follow the local clock: a day of 23 hours lacks four slots.
    """

    day_seconds: float = 86_400.0
    week_days: int = 7
    offset: Callable[[float], float] = field(default=local_offset, compare=False)

    @property
    def slot_seconds(self) -> float:
        """Seconds of a slot."""
        return self.day_seconds / SLOTS

    @property
    def week_slots(self) -> int:
        """Slots of a week."""
        return SLOTS * self.week_days

    def index(self, moment: float) -> int:
        """Return the number of the slot at that time (seconds since the epoch)."""
        return int((moment + self.offset(moment)) // self.slot_seconds)

    def left(self, moment: float) -> float:
        """Return the seconds until the next slot."""
        return self.slot_seconds - (moment + self.offset(moment)) % self.slot_seconds

    def of_week(self, index: int) -> int:
        """Return the slot of the week."""
        shift = _MONDAY if self.week_days == 7 else 0  # real days of a week
        return (index + shift * SLOTS) % self.week_slots
