"""Days of guests at rest, for verbs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mom_core import MomError, StateFile
from mom_plugins_forecast.host_days import HostDays, days_of
from mom_plugins_forecast.slots import Calendar
from mom_plugins_forecast.state import LOSS, WHAT, days_from, stored_days
from mom_toolkit import Days


class StoredDays:
    """`LearnedDays`: the folder in which a mom keeps what it has learned, or one file of it."""

    def __init__(self, path: Path, calendar: Calendar | None) -> None:
        self._path = path
        self._calendar = calendar

    @property
    def where(self) -> str:
        """The folder or file."""
        return str(self._path)

    def read(self) -> HostDays:
        """All that was learned. Raises `MomError` where there is nothing."""
        if self._path.suffix:
            found = StateFile(self._path, WHAT, days_from, loss=LOSS, sets_aside=False).look()
        else:
            found = stored_days(self._path, self._calendar)
        if found is None:
            raise MomError(
                f"there are no guests' days in {self._path} yet",
                hint="a mom with the plugin forecast writes them each hour; `mom forecast learn RECORDING` learns from what was recorded",
            )
        return found

    def all_days(self) -> Mapping[str, Days]:
        """The days of all guests that were seen, by their ids."""
        return {identity: days_of(guest) for identity, guest in self.read().known.items() if guest.days.slots}
