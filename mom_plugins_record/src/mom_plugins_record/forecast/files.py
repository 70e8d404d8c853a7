"""Files of guests' learned daily use: mom's own file, and the result of `mom forecast learn`. A guest takes less than 8 KiB."""

from __future__ import annotations

import base64
import math
import sys
import threading
from array import array
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, BaseModel, Field, NonNegativeInt, PlainSerializer, PlainValidator, model_validator

from mom_core import MomError, PluginContext, Snapshot, StateError, StateFile
from mom_kvm import Callers
from mom_plugins_record.forecast.curve import HOURS, SLOTS, Calendar, GuestDays
from mom_plugins_record.forecast.host_days import LONGEST_NAME, MOST_GUESTS, HostDays, KnownGuest
from mom_plugins_record.forecast.past import LARGEST_KIB, LAST_DAY, LEVELS, MOST_DAYS, MOST_VCPUS, PARTS, GuestPast, PastGuest, PastHost

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
    where = str(path / FILE if _is_folder(path) else path)
    pasts = [guest.past for guest in days.known.values() if guest.past.ordinals]
    guests = [PastGuest(past.sold[-1], past.days(), past.qemu_kib, past.vcpus) for past in pasts]
    return PastHost(where, days.host_name or path.parent.name, days.host_kib, days.promisable_kib, guests)


class DaysKeeper:
    """Reader and writer of a running mom's files of learned days. A separate thread writes, because a disk may be slow."""

    def __init__(self, context: PluginContext, days: HostDays) -> None:
        self._context = context
        self._days = days
        self._file = context.state_file(FILE, TITLE, days_from, loss=LOSS)
        self._learned = context.state_file(LEARNED, "the result of `mom forecast learn`, in", days_from, loss="it is not used")
        self._callers = Callers("mom forecast files", 1)
        self._lock = threading.Lock()
        """Protects the guests' days, which the thread encodes one guest at a time."""
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
        with self._lock:
            count = self._days.merge(content)
        self._context.log.info("merged the days of %d guests from %s", count, file.path)
        return True

    def see(self, snapshot: Snapshot, *, due: bool) -> None:
        """Learn from a cycle.

        :param due: whether to begin writing all days
        """
        with self._lock:
            self._days.see(snapshot)
            if due:
                self._days.forget(snapshot.time)
        self._due = self._due or due
        if self._due and (self._write is None or self._write.done()):
            self._due = False
            self._write = self._callers.start(self._save)

    def close(self, *, keep: bool) -> None:
        """End the thread.

        :param keep: whether to write all learned days first
        """
        if keep and not Callers.came_back(self._callers.start(self._save), PATIENCE):
            self._context.log.error("mom cannot save the learned days, because the disk does not respond")
        self._callers.close(0.0)

    def _save(self) -> None:
        days, texts, merged = self._days, list[str](), self._merged
        with self._lock:
            guests = days.to_keep()
        for guest in guests:
            with self._lock:
                texts.append(StateFile.as_json(kept_guest(guest)))
        with suppress(StateError):  # the files report the error in each cycle
            self._file.write_json(lambda: f'{StateFile.as_json(head_of(days))[:-1]},"guests":[{",".join(texts)}]}}')
            if merged:
                self._learned.remove()
                self._merged = False


LARGEST_NUMBER: Final = 1e30
"""Bound of any stored number."""

_MIDDLE: Final = 0x8000
"""mom does not store the lower two bytes of a float. Reading sets them to this middle value, so repeated saving loses nothing more."""


def _packed(curve: array[float]) -> str:
    # The upper two bytes of each float are stored, exact to 0.4 %.
    halves = array("H", [word >> 16 for word in array("I", curve.tobytes())])
    if sys.byteorder == "big":
        halves.byteswap()
    return _base64(halves.tobytes())


def _unpacked(text: str) -> array[float]:
    halves = array("H", base64.b64decode(text, validate=True))
    if sys.byteorder == "big":
        halves.byteswap()
    curve = array("f", array("I", [half << 16 | _MIDDLE for half in halves]).tobytes())
    # Infinite or negative sizes were never stored; NaN is unknown.
    if any(item < 0 or item > LARGEST_KIB for item in curve):
        raise ValueError("a curve contains an invalid size")
    return curve


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _rounded(number: float) -> float | None:
    return None if math.isnan(number) else float(f"{number:.6g}")


def _long(count: int) -> Any:
    return Field(min_length=count, max_length=count)


_Curve = Annotated[Any, PlainValidator(_unpacked), PlainSerializer(_packed)]
_DayCurve = Annotated[_Curve, _long(SLOTS)]
_Number = Annotated[float, Field(ge=-LARGEST_NUMBER, le=LARGEST_NUMBER)]
_Amount = Annotated[float, Field(ge=0, le=LARGEST_NUMBER), PlainSerializer(_rounded)]
_MaybeNumber = Annotated[_Number | None, AfterValidator(lambda number: math.nan if number is None else number), PlainSerializer(_rounded)]
_Sums = Annotated[list[_Amount], AfterValidator(partial(array, "d")), PlainSerializer(lambda sums: [*map(_rounded, sums)])]
_Kib = Annotated[float, Field(ge=1, le=LARGEST_KIB)]
_Name = Annotated[str, Field(max_length=LONGEST_NAME)]


class _KeptDays(BaseModel):
    # As in `GuestDays`.
    by_day: _DayCurve
    by_week: _Curve
    last: _DayCurve
    excess: _DayCurve
    growth: _DayCurve
    hour_errors: Annotated[_Curve, _long(HOURS)]
    usual: _MaybeNumber
    losses: Annotated[_Sums, _long(3)]
    week_losses: Annotated[_Sums, _long(3)]
    wrong: Annotated[_Sums, _long(4)]
    lasting: Annotated[list[_Number], _long(2), AfterValidator(partial(array, "d")), PlainSerializer(lambda sums: [*map(_rounded, sums)])]
    margin: _Amount
    average: _MaybeNumber
    weight: Annotated[float, Field(ge=0, le=1)]
    slots: NonNegativeInt
    has_pattern: bool


class _KeptPast(BaseModel):
    # As in `GuestPast`.
    ordinals: Annotated[list[Annotated[int, Field(gt=0, le=LAST_DAY)]], Field(max_length=MOST_DAYS), PlainSerializer(list)]
    sold: Annotated[list[_Kib], PlainSerializer(lambda sold: [*map(round, sold)])]
    used: Annotated[Any, PlainValidator(partial(base64.b64decode, validate=True)), PlainSerializer(_base64)]
    qemu_kib: Annotated[int, Field(ge=0, le=int(LARGEST_KIB))]
    vcpus: Annotated[int, Field(ge=0, le=MOST_VCPUS)]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        days = self.ordinals
        if days != sorted(set(days)) or len(self.sold) != len(days) or len(self.used) != PARTS * len(days):
            raise ValueError("days of a guest are invalid")
        if max(self.used, default=0) > 1 + LEVELS:
            raise ValueError("a part of a day is out of bounds")
        return self


class _KeptGuest(BaseModel):
    id: _Name
    name: _Name
    present_at: int
    days: _KeptDays
    past: _KeptPast


class _KeptHost(BaseModel):
    day: Annotated[float, Field(ge=60, le=86_400)]
    margin: _Amount
    usual: _Amount
    host: _Name
    host_kib: _Kib | None
    promisable_kib: _Kib | None
    guests: Annotated[list[_KeptGuest], Field(max_length=MOST_GUESTS)]


def content_of(days: HostDays) -> Mapping[str, Any]:
    """Return all days as JSON content."""
    return {**head_of(days), "guests": [kept_guest(guest) for guest in days.to_keep()]}


def head_of(days: HostDays) -> Mapping[str, Any]:
    """Return everything except the guests as JSON content."""
    own = {name: getattr(days, name) for name in ("margin", "usual", "host_kib", "promisable_kib")}
    return {**own, "day": days.calendar.day_seconds, "host": days.host_name}


def kept_guest(guest: KnownGuest) -> Mapping[str, Any]:
    """Return a guest's days as JSON content."""
    about = {"id": guest.id[:LONGEST_NAME], "name": guest.name[:LONGEST_NAME], "present_at": int(guest.present_at)}
    return {**about, "days": _kept(_KeptDays, guest.days), "past": _kept(_KeptPast, guest.past)}


def _kept(kind: type[BaseModel], record: object) -> Mapping[str, Any]:
    return kind.model_construct(**{name: getattr(record, name) for name in kind.model_fields}).model_dump(warnings=False)


def days_from(content: Any) -> HostDays:
    """Return the days in a file's content. Raise `ValueError` for content that is not from `content_of`."""
    kept = _KeptHost.model_validate(content)
    calendar = Calendar(kept.day)
    result = HostDays(calendar)
    result.margin, result.usual = kept.margin, kept.usual
    result.host_name, result.host_kib, result.promisable_kib = kept.host, kept.host_kib, kept.promisable_kib
    for guest in kept.guests:
        days, past = GuestDays(calendar, **dict(guest.days)), guest.past
        own = GuestPast(array("i", past.ordinals), array("f", past.sold), bytearray(past.used), past.qemu_kib, past.vcpus)
        result.known[guest.id] = KnownGuest(guest.id, guest.name, days, guest.present_at, own)
    return result
