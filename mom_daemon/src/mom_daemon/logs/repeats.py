"""Counts what is said again and again, instead of saying it each time."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import Final, NamedTuple

from mom_core.engine.problems import FREE_NUMBERS
from mom_daemon.logs.formats import PLUGIN_LOGGER, extra_of

WINDOW_SECONDS: Final = 600.0
"""A warning or error that comes back within this is counted, and the count is said when it is over: six lines an hour for what lasts."""

ALIKE: Final = 20
"""Lines that one place in a plugin writes in a window, such as one for each guest, before the rest of them is counted: as many as a person
reads. The same for lines about guests, such as problems, that differ in nothing but the guest: some hosts have new ones all day."""

REMEMBERED: Final = 2000
"""Different texts that are remembered; with more, the oldest are forgotten, and may be said again."""

_NUMBERS: Final = re.compile(r"\d+(?:\.\d+)?")

OVER_SECONDS: Final = 60.0
"""What was not to be said for so long is over, or may be: that is told with its count."""

Key = tuple[object, ...]


@dataclass(slots=True)
class _RepeatedRecord:
    """A record: when it was said first in this window, how often since without being said, and when that was last."""

    since: float
    record: logging.LogRecord
    said: int = 1
    counted: int = 0
    last: float = 0.0


class Again(NamedTuple):
    """So often was it not said, in so many seconds, the last time so many seconds ago; the record is the first of them."""

    record: logging.LogRecord
    times: int
    seconds: float
    ago: float
    alike: bool

    @property
    def words(self) -> str:
        """Behind the text of the record."""
        minutes = max(1, round(self.seconds / 60))
        what = f"and {self.times} more like this" if self.alike else f"again {self.times} times"
        last = f", and not for {self.ago / 60:.0f} min" if self.ago >= OVER_SECONDS else ""
        return f"… {what} in the last {minutes} min{last}"


class Repeats:
    """Decides what is said. Not for several threads."""

    def __init__(self) -> None:
        self._seen: dict[Key, _RepeatedRecord] = {}

    def takes(self, record: logging.LogRecord, text: str, now: float) -> bool:
        """True if this one is to be said; otherwise it is counted. Numbers in a text (times, sizes) do not make it another one; those in
        names do, where the lines of one place are counted, too.

        :param now: seconds, monotonic
        """
        said, of_plugin = True, record.name.startswith(PLUGIN_LOGGER)
        if record.levelno >= logging.WARNING:
            same = (record.name, record.levelno, (FREE_NUMBERS if of_plugin else _NUMBERS).sub("#", text))
            said, guest = self._note(same, record, now, 1), extra_of(record).get("guest")
            if said and isinstance(guest, str) and guest:
                said = self._note((record.name, _NUMBERS.sub("#", text.replace(guest, "#")), record.levelno), record, now, ALIKE)
                if not said:
                    self._seen.pop(same, None)  # it is counted there
        if said and record.levelno >= logging.INFO and of_plugin:
            said = self._note((record.name, record.pathname, record.lineno), record, now, ALIKE)
        return said

    def over(self, now: float, *, all_of_them: bool = False) -> list[Again]:
        """The counts of windows that are over (or in all, at the end), and is to be said now."""
        ended = [key for key, seen in self._seen.items() if all_of_them or now - seen.since >= WINDOW_SECONDS]
        found = []
        for key in ended:
            seen = self._seen.pop(key)
            if seen.counted:
                found.append(Again(seen.record, seen.counted, now - seen.since, now - seen.last, alike=isinstance(key[-1], int)))
        return found

    def _note(self, key: Key, record: logging.LogRecord, now: float, most: int) -> bool:
        seen = self._seen.get(key)
        if seen is None:
            if len(self._seen) >= REMEMBERED:
                del self._seen[next(iter(self._seen))]
            self._seen[key] = _RepeatedRecord(now, record)
            return True
        if seen.said < most:
            seen.said += 1
            return True
        seen.counted, seen.last = seen.counted + 1, now
        return False
