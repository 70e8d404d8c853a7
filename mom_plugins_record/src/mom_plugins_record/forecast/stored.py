"""Days of guests at rest, for verbs: in the folder in which a mom keeps what it has learned, or in one file of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mom_kvm import Days, PastGuest
from mom_plugins_record.forecast.host_days import days_of
from mom_plugins_record.forecast.kept import DAYS, PAST, is_folder
from mom_plugins_record.forecast.slots import Calendar


def days_at(path: Path, calendar: Calendar | None = None) -> Mapping[str, Days]:
    """Return the days of all guests that were seen, by their ids. Raises `MomError` where there are none, or they cannot be read."""
    known = DAYS.at_rest(path, calendar).known
    return {identity: days_of(guest) for identity, guest in known.items() if guest.days.slots}


class StoredPast:
    """`PastDays`. Raises `MomError` where there are none, or they cannot be read."""

    def __init__(self, path: Path, calendar: Calendar | None = None) -> None:
        self.where = str(path / PAST.file if is_folder(path) else path)
        self._past = PAST.at_rest(path, calendar)
        self.host = self._past.host or path.parent.name
        """The host's name; where that was not known, that of the folder of its file."""
        self.host_kib = self._past.host_kib
        self.promisable_kib = self._past.promisable_kib

    def guests(self) -> Sequence[PastGuest]:
        """Return the guests that have any days."""
        return [PastGuest(identity, one.name, one.sold[-1], one.days()) for identity, one in self._past.guests.items() if one.ordinals]
