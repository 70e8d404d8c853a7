"""Files of guests' learned daily use: mom's own file, and the result of `mom forecast learn`. A guest takes less than 8 KiB."""

from __future__ import annotations

import base64
import math
import sys
import threading
from array import array
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple, Self

from pydantic import AfterValidator, BaseModel, Field, NonNegativeInt, PlainSerializer, PlainValidator, model_validator

from mom_core import MomError, PluginContext, Snapshot, StateError, StateFile
from mom_kvm import Callers
from mom_plugins_record.forecast.curve import HOURS, LONGEST_DAY, LONGEST_WEEK, SHORTEST_DAY, SLOTS, Calendar, GuestDays
from mom_plugins_record.forecast.host_days import LONGEST_NAME, MOST_GUESTS, HostDays, KnownGuest
from mom_plugins_record.forecast.past import LARGEST_KIB, LAST_DAY, LEVELS, MOST_DAYS, PARTS, GuestPast, PastGuest, PastHost

FILE: Final = "days.json"
LEARNED: Final = "learned.json"
"""File with the result of `mom forecast learn`. The running mom merges the content, and removes the file."""

TITLE: Final = "the file of guests' daily memory use"
LOSS: Final = "mom learns the daily memory use again, and `mom advise --risk` has an answer again after two weeks"

LOOKS_EVERY: Final = 60.0
"""Seconds between two checks of the files."""

PATIENCE: Final = 5.0
"""Seconds that the stopping plugin waits for the disk. If mom itself stops, this wait is shorter."""


def leave(folder: Path, days: HostDays) -> None:
    """Add learned days to a state folder, for the mom that uses this folder. Raise `MomError` on failure."""
    file = _at(folder / LEARNED)
    before = file.look()
    if before is not None and before.calendar == days.calendar:
        days.merge(before)
    file.write(content_of(days))


def days_in(path: Path, calendar: Calendar | None = None) -> HostDays:
    """Return the learned days in this file, or in all files of this folder together. Raise `MomError` if they are unreadable.

    :param calendar: ignore files with another calendar; None for the first file's calendar
    """
    result: HostDays | None = None
    for file in (path / FILE, path / LEARNED) if _is_folder(path) else (path,):
        content = _at(file).look()
        if content is None or content.calendar != (calendar or content.calendar):
            continue
        if result is None:
            result, calendar = content, content.calendar
        else:
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


def past_in(path: Path, calendar: Calendar | None = None) -> PastHost:
    """Return the past days of all guests in this file, or in all files of this folder. Raise `MomError` if they are unreadable."""
    days = days_in(path, calendar)
    where = str(path / FILE if _is_folder(path) else path)
    pasts = [guest.past for guest in days.known.values() if guest.past.ordinals]
    guests = [PastGuest(past.sold[-1], past.days()) for past in pasts]
    return PastHost(where, days.host_name or path.parent.name, days.host_kib, days.promisable_kib, guests)


_Version = tuple[int, int]


class _LeftFile(NamedTuple):
    file: StateFile[HostDays]
    version: _Version
    content: HostDays | None = None


class DaysKeeper:
    """Reader and writer of a running mom's files of learned days, in a separate thread, because a disk may be slow."""

    def __init__(self, context: PluginContext, days: HostDays) -> None:
        self._context = context
        self._days = days
        self._file = context.state_file(FILE, TITLE, days_from, loss=LOSS)
        self._learned = context.state_file(LEARNED, "the result of `mom forecast learn`, in", days_from, loss="it is not used")
        self._callers = Callers("mom forecast files", 1)
        self._lock = threading.Lock()
        """Protects the guests' days, which the thread encodes one guest at a time."""
        self._write: Future[None] | None = None
        self._reads: Future[Sequence[_LeftFile]] | None = None
        self._merged: dict[Path, _Version] = {}
        """Versions of the files whose content was merged into the days."""
        self._looked = context.monotonic()
        self._due = False
        self._take_in(self._read(self._left([self._file, self._learned])))

    def see(self, snapshot: Snapshot, *, due: bool) -> None:
        """Learn from a cycle, and merge files that were read meanwhile.

        :param due: whether to begin writing all days
        """
        with self._lock:
            self._days.see(snapshot)
            if self._reads is not None and self._reads.done():
                left, self._reads = self._reads.result(), None
                self._take_in(left)
                self._days.forget(snapshot.time)
            if due:
                self._days.forget(snapshot.time)
        self._due = self._due or due
        is_written = self._write is None or self._write.done()
        if is_written and self._due:
            self._due = is_written = False
            self._write = self._callers.start(self._save)
        if self._reads is None:
            # After a reload, the former plugin may still write its file.
            files = [self._file] if is_written else []
            if self._context.monotonic() - self._looked >= LOOKS_EVERY:
                self._looked = self._context.monotonic()
                files.append(self._learned)
            if left := self._left(files):
                self._reads = self._callers.start(partial(self._read, left))

    def close(self, *, keep: bool) -> None:
        """End the thread.

        :param keep: whether to write all learned days first
        """
        if keep:
            with suppress(StateError):  # such as too many open files; own days are written anyway
                self._take_in(self._read(self._left([self._file])))
            if not Callers.came_back(self._callers.start(self._save), PATIENCE):
                self._context.log.error("mom cannot save the learned days, because the disk does not respond")
        self._callers.close(0.0)

    def _save(self) -> None:
        days, texts, merged = self._days, list[str](), self._merged.get(self._learned.path)
        with self._lock:
            guests = days.to_keep()
        for guest in guests:
            with self._lock:
                texts.append(StateFile.as_json(kept_guest(guest)))
        with suppress(StateError):  # the files report the error in each cycle
            self._file.write_json(lambda: f'{StateFile.as_json(head_of(days))[:-1]},"guests":[{",".join(texts)}]}}')
            if (version := _version(self._file.path)) is not None:
                self._merged[self._file.path] = version
            if merged is not None and merged == _version(self._learned.path):
                self._learned.remove()

    def _left(self, files: Iterable[StateFile[HostDays]]) -> Sequence[_LeftFile]:
        versions = ((file, _version(file.path)) for file in files)
        return [_LeftFile(file, version) for file, version in versions if version not in (None, self._merged.get(file.path))]

    def _read(self, left: Sequence[_LeftFile]) -> Sequence[_LeftFile]:
        return [item._replace(content=self._usable(item.file)) for item in left]

    def _usable(self, file: StateFile[HostDays]) -> HostDays | None:
        content = file.read()
        if content is None or content.calendar == self._days.calendar:
            return content
        file.refuse("the length of its days or weeks differs from the settings")
        return None

    def _take_in(self, left: Sequence[_LeftFile]) -> None:
        for file, version, content in left:
            if content is not None:
                count = self._days.merge(content)
                self._context.log.info("merged the days of %d guests from %s", count, file.path)
            if content is not None or file is self._file:  # an unusable file that cannot be set aside is not read again
                self._merged[file.path] = version
            if content is not None and file is self._learned:
                self._due = True  # after the write, mom removes the learned file


def _version(path: Path) -> _Version | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns


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
    day: Annotated[float, Field(ge=SHORTEST_DAY, le=LONGEST_DAY)]
    week: Annotated[int, Field(ge=1, le=LONGEST_WEEK)]
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
    return {**own, "day": days.calendar.day_seconds, "week": days.calendar.week_days, "host": days.host_name}


def kept_guest(guest: KnownGuest) -> Mapping[str, Any]:
    """Return a guest's days as JSON content."""
    about = {"id": guest.id[:LONGEST_NAME], "name": guest.name[:LONGEST_NAME], "present_at": int(guest.present_at)}
    return {**about, "days": _kept(_KeptDays, guest.days), "past": _kept(_KeptPast, guest.past)}


def _kept(kind: type[BaseModel], record: object) -> Mapping[str, Any]:
    return kind.model_construct(**{name: getattr(record, name) for name in kind.model_fields}).model_dump(warnings=False)


def days_from(content: Any) -> HostDays:
    """Return the days in a file's content, with the file's calendar. Raise `ValueError` for content that is not from `content_of`."""
    kept = _KeptHost.model_validate(content)
    calendar = Calendar(kept.day, kept.week)
    result = HostDays(calendar, calendar.slot_seconds)
    result.margin, result.usual = kept.margin, kept.usual
    result.host_name, result.host_kib, result.promisable_kib = kept.host, kept.host_kib, kept.promisable_kib
    for guest in kept.guests:
        days, past = GuestDays(calendar, **dict(guest.days)), guest.past
        own = GuestPast(array("i", past.ordinals), array("f", past.sold), bytearray(past.used))
        result.known[guest.id] = KnownGuest(guest.id, guest.name, days, guest.present_at, own)
    return result
