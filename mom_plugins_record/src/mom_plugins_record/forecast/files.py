"""Files of guests' learned daily use: mom's own file, and the result of `mom forecast learn`. A guest takes less than 8 KiB."""

from __future__ import annotations

import base64
import math
import sys
from array import array
from collections.abc import Mapping, Sized
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from mom_core import MomError, PluginContext, Snapshot, StateError, StateFile
from mom_kvm import Callers
from mom_plugins_record.forecast.curve import HOURS, SLOTS, UNKNOWN, WEEK_SLOTS, Calendar, GuestDays
from mom_plugins_record.forecast.host_days import LONGEST_NAME, MOST_GUESTS, HostDays, KnownGuest
from mom_plugins_record.forecast.past import LARGEST_KIB, LAST_DAY, LEVELS, MOST_DAYS, PARTS, GuestPast, PastDay, PastGuest, PastHost

FILE: Final = "days.json"
LEARNED: Final = "learned.json"
"""File with the result of `mom forecast learn`. mom merges the content at its start or reload, and removes the file."""

TITLE: Final = "the file of guests' daily memory use"
LOSS: Final = "mom learns the daily memory use again, and `mom advise --risk` has an answer again after two weeks"

PATIENCE: Final = 5.0
"""Seconds that the stopping plugin waits for the disk. If mom itself stops, this wait is shorter."""


def leave(folder: Path, days: HostDays) -> None:
    """Add learned days to a state folder, for the mom that uses this folder. Raise `MomError` on failure."""
    file = _at(folder / LEARNED)
    before = file.look()
    if before is not None:
        days.merge(before)
    file.write(content_of(days))


def days_in(path: Path) -> HostDays:
    """Return the learned days in this file, or in all files of this folder together. Raise `MomError` if they are unreadable."""
    result: HostDays | None = None
    for file in (path / FILE, path / LEARNED) if _is_folder(path) else (path,):
        content = _at(file).look()
        if result is None:
            result = content
        elif content is not None:
            result.merge(content)
    if result is None:
        hint = "the forecast plugin writes it every hour; `mom forecast learn RECORDING` learns it from a recording"
        raise MomError(f"there is no daily memory use of guests in {path} yet", hint=hint)
    return result


def _at(path: Path) -> StateFile[HostDays]:
    return StateFile(path, TITLE, days_from, loss=LOSS, sets_aside=False)


def _is_folder(path: Path) -> bool:
    with suppress(OSError):
        return path.is_dir()
    return False


def past_in(path: Path) -> PastHost:
    """Return the past days of all guests in this file, or in all files of this folder. Raise `MomError` if they are unreadable."""
    days = days_in(path)
    pasts = [guest.past for guest in days.known.values() if guest.past.by_day]
    guests = [PastGuest(past.by_day[max(past.by_day)].sold, past.days(), past.qemu_kib, past.vcpus) for past in pasts]
    return PastHost(days.host_name or path.parent.name, days.host_kib, days.promisable_kib, guests)


class DaysKeeper:
    """Reader and writer of a running mom's files of learned days. A separate thread writes, because a disk may be slow."""

    def __init__(self, context: PluginContext, days: HostDays) -> None:
        self._context = context
        self._days = days
        self._file = context.state_file(FILE, TITLE, days_from, loss=LOSS)
        self._learned = context.state_file(LEARNED, "the result of `mom forecast learn`, in", days_from, loss="it is not used")
        self._callers = Callers("mom forecast files", 1)
        self._write: Future[None] | None = None
        self._merged = self._due = False
        self._merge(self._file)
        self.take_in()

    def take_in(self) -> None:
        """Merge the result of `mom forecast learn`. The next write removes its file."""
        if self._merge(self._learned):
            self._due = self._merged = True

    def _merge(self, file: StateFile[HostDays]) -> bool:
        content = file.read()
        if content is None:
            return False
        self._days.merge(content)
        self._context.log.info("merged the days of guests from %s", file.path)
        return True

    def see(self, snapshot: Snapshot, *, due: bool) -> None:
        """Learn from a cycle.

        :param due: whether to begin writing all days
        """
        self._days.see(snapshot)
        if due:
            self._days.forget(snapshot.time)
        self._due = self._due or due
        if self._due and (self._write is None or self._write.done()):
            self._due = False
            self._write = self._begin_write()

    def close(self, *, keep: bool) -> None:
        """End the thread.

        :param keep: whether to write all learned days first
        """
        if keep and not Callers.came_back(self._begin_write(), PATIENCE):
            self._context.log.error("mom cannot save the learned days, because the disk does not respond")
        self._callers.close(0.0)

    def _begin_write(self) -> Future[None]:
        # Encoding 1,000 guests takes 0.1 s: it is simpler to do it in the plugin's thread than to lock the days.
        return self._callers.start(partial(self._save, content_of(self._days), self._merged))

    def _save(self, content: Mapping[str, Any], merged: bool) -> None:
        with suppress(StateError):  # the files report the error in each cycle
            self._file.write(content)
            if merged:
                self._learned.remove()
                self._merged = False


LARGEST_NUMBER: Final = 1e30
"""Bound of any stored number."""

_CURVES: Final = {"by_day": SLOTS, "by_week": WEEK_SLOTS, "last": SLOTS, "excess": SLOTS, "hour_errors": HOURS}
_SUMS: Final = {"losses": 3, "week_losses": 3, "wrong": 4, "lasting": 2}
"""Attributes of `GuestDays` with their lengths."""

_NUMBERS: Final = ("usual", "margin", "average", "weight")

_MIDDLE: Final = 0x8000
"""mom does not store the lower two bytes of a float. Reading sets them to this middle value, so repeated saving loses nothing more."""


def content_of(days: HostDays) -> Mapping[str, Any]:
    """Return all days as JSON content."""
    return {
        **{name: getattr(days, name) for name in ("margin", "usual", "host_kib", "promisable_kib")},
        "day": days.calendar.day_seconds,
        "host": days.host_name,
        "guests": [_kept_guest(guest) for guest in days.to_keep()],
    }


def _kept_guest(guest: KnownGuest) -> Mapping[str, Any]:
    days, past = guest.days, sorted(guest.past.by_day.items())
    return {
        "id": guest.id[:LONGEST_NAME],
        "name": guest.name[:LONGEST_NAME],
        "present_at": int(guest.present_at),
        "days": {
            **{name: _packed(getattr(days, name)) for name in _CURVES},
            **{name: [*map(_rounded, getattr(days, name))] for name in _SUMS},
            **{name: _rounded(getattr(days, name)) for name in _NUMBERS},
            "slots": days.slots,
            "has_pattern": days.has_pattern,
        },
        "past": {
            "ordinals": [ordinal for ordinal, _ in past],
            "sold": [day.sold for _, day in past],
            "used": base64.b64encode(b"".join(day.used for _, day in past)).decode(),
            "qemu_kib": guest.past.qemu_kib,
            "vcpus": guest.past.vcpus,
        },
    }


def days_from(content: Any) -> HostDays:
    """Return the days in a file's content. Raise an error for content that is not from `content_of`."""
    calendar = Calendar(_number(content["day"], 60, 86_400))
    result = HostDays(calendar)
    result.margin, result.usual = _number(content["margin"], 0), _number(content["usual"], 0)
    result.host_name = content["host"][:LONGEST_NAME]
    result.host_kib, result.promisable_kib = (
        None if kib is None else _number(kib, 1, LARGEST_KIB) for kib in (content["host_kib"], content["promisable_kib"])
    )
    for kept in content["guests"][:MOST_GUESTS]:
        identity, name = kept["id"][:LONGEST_NAME], kept["name"][:LONGEST_NAME]
        days, past = _read_days(kept["days"], calendar), _read_past(kept["past"])
        result.known[identity] = KnownGuest(identity, name, days, int(kept["present_at"]), past)
    return result


def _read_days(kept: Mapping[str, Any], calendar: Calendar) -> GuestDays:
    days = GuestDays(calendar, slots=int(_number(kept["slots"], 0)), has_pattern=bool(kept["has_pattern"]))
    for name, length in _CURVES.items():
        setattr(days, name, _unpacked(kept[name], length))
    for name, length in _SUMS.items():
        setattr(days, name, array("d", map(_number, _of_length(kept[name], length))))
    for name in _NUMBERS:
        setattr(days, name, UNKNOWN if kept[name] is None else _number(kept[name]))
    return days


def _read_past(kept: Mapping[str, Any]) -> GuestPast:
    used, past = base64.b64decode(kept["used"], validate=True), GuestPast()
    if max(used, default=0) > 1 + LEVELS:
        raise ValueError("a part of a day is out of range")
    _of_length(used, PARTS * len(kept["ordinals"]))
    for place, (ordinal, sold) in enumerate(zip(kept["ordinals"][:MOST_DAYS], kept["sold"], strict=True)):
        day = PastDay(_number(sold, 1, LARGEST_KIB), bytearray(used[PARTS * place : PARTS * (place + 1)]))
        past.by_day[int(_number(ordinal, 1, LAST_DAY))] = day
    past.see_process(_number(kept["qemu_kib"], 0), _number(kept["vcpus"], 0))
    return past


def _packed(curve: array[float]) -> str:
    # The upper two bytes of each float are stored, exact to 0.4 %.
    halves = array("H", [word >> 16 for word in array("I", curve.tobytes())])
    if sys.byteorder == "big":
        halves.byteswap()
    return base64.b64encode(halves.tobytes()).decode()


def _unpacked(text: str, length: int) -> array[float]:
    halves = array("H", base64.b64decode(text, validate=True))
    if sys.byteorder == "big":
        halves.byteswap()
    curve = array("f", array("I", [half << 16 | _MIDDLE for half in _of_length(halves, length)]).tobytes())
    # Infinite or negative sizes were never stored; NaN is unknown.
    if any(item < 0 or item > LARGEST_KIB for item in curve):
        raise ValueError("a curve contains an invalid size")
    return curve


def _rounded(number: float) -> float | None:
    return None if math.isnan(number) else float(f"{number:.6g}")


def _number(value: float, least: float = -LARGEST_NUMBER, most: float = LARGEST_NUMBER) -> float:
    if not least <= value <= most:
        raise ValueError("a number is out of range")
    return value


Items = TypeVar("Items", bound=Sized)


def _of_length(items: Items, length: int) -> Items:
    if len(items) != length:
        raise ValueError("a list has the wrong length")
    return items
