"""Files of learned days: two kinds, each with a second file from `mom forecast learn`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Generic, NamedTuple, Protocol, Self, TypeVar

from mom_core import MomError, PluginContext, StateError, StateFile
from mom_kvm import Callers, Days, PastGuest
from mom_plugins_record.forecast import past, state
from mom_plugins_record.forecast.host_days import HostDays, days_of
from mom_plugins_record.forecast.past import HostPast
from mom_plugins_record.forecast.slots import Calendar

LOOKS_EVERY: Final = 60.0
"""s between looks at the files."""

PATIENCE: Final = 5.0
"""s that a stop waits for the disk. A stopping mom waits less."""


class Content(Protocol):
    """Content of a file."""

    calendar: Calendar

    def merge(self, other: Self, /) -> int:
        """Add learned days. Return the number of changed guests."""


AnyContent = TypeVar("AnyContent", bound=Content)


@dataclass(frozen=True, slots=True)
class DaysFile(Generic[AnyContent]):
    """Kind of file.

    :param learned: name of the file of `mom forecast learn`
    :param form: builds the content from JSON
    :param part: the content's part of a host's days
    :param head: everything except the guests
    :param guest: returns one guest by id; None if there is nothing to keep
    """

    name: str
    learned: str
    description: str
    loss: str
    form: Callable[[Any], AnyContent]
    part: Callable[[HostDays], AnyContent]
    head: Callable[[AnyContent], Mapping[str, Any]]
    guest: Callable[[AnyContent, str], Sequence[Any] | None]
    missing: str
    hint: str

    def guest_text(self, content: AnyContent, identity: str) -> str:
        """Return a guest as JSON, or an empty string. Raise `OSError` on failure."""
        kept = self.guest(content, identity)
        return "" if kept is None else StateFile.as_json(kept)

    def text(self, content: AnyContent, guests: Iterable[str]) -> str:
        """Return the file's JSON from the texts of guests."""
        return f'{StateFile.as_json(self.head(content))[:-1]},"guests":[{",".join(filter(None, guests))}]}}'

    def _at(self, path: Path) -> StateFile[AnyContent]:
        return StateFile(path, self.description, self.form, loss=self.loss, sets_aside=False)

    def leave(self, folder: Path, days: HostDays) -> None:
        """Leave learned days for the mom with this state folder, merged with earlier days. Raise `MomError` on failure."""
        file, content = self._at(folder / self.learned), self.part(days)
        before = file.look()
        if before is not None and before.calendar.same_as(content.calendar):
            content.merge(before)
        texts = [self.guest_text(content, identity) for identity in days.to_keep()]
        file.write_json(lambda: self.text(content, texts))

    def at_rest(self, path: Path, calendar: Calendar | None = None) -> AnyContent:
        """Return the content of this file, or of a folder's files together. Raise `MomError` if it is unreadable.

        :param calendar: ignore days of other calendars; None for the first file's calendar
        """
        result: AnyContent | None = None
        for file in (path / self.name, path / self.learned) if is_folder(path) else (path,):
            content = self._at(file).look()
            if content is None or (calendar is not None and not content.calendar.same_as(calendar)):
                continue
            calendar = content.calendar
            if result is None:
                result = content
            else:
                result.merge(content)
        if result is None:
            raise MomError(f"{self.missing} in {path} yet", hint=self.hint)
        return result


def is_folder(path: Path) -> bool:
    """Return True for a folder."""
    with suppress(OSError):
        return path.is_dir()
    return False


DAYS: Final[DaysFile[HostDays]] = DaysFile(
    name=state.FILE,
    learned=state.LEARNED,
    description="the file of guests' days",
    loss="mom learns guests' days again",
    form=state.days_from,
    part=lambda days: days,
    head=state.head_of,
    guest=state.kept_guest,
    missing="there are no guests' days",
    hint="the forecast plugin writes them every hour; `mom forecast learn RECORDING` learns them from a recording",
)

PAST: Final[DaysFile[HostPast]] = DaysFile(
    name=past.FILE,
    learned=past.LEARNED,
    description="the file of guests' past days",
    loss="`mom advise --risk` has an answer again after two weeks",
    form=past.past_from,
    part=lambda days: days.past,
    head=HostPast.head,
    guest=HostPast.kept,
    missing="there are no past days of guests",
    hint="the forecast plugin writes them every hour, and has enough after two weeks; `mom forecast learn RECORDING` learns "
    "them from a recording",
)

KINDS: Final[Sequence[DaysFile[Any]]] = (DAYS, PAST)


def days_at(path: Path, calendar: Calendar | None = None) -> Mapping[str, Days]:
    """Return the learned days of all guests keyed by id. Raise `MomError` if there are none."""
    guests = DAYS.at_rest(path, calendar).known
    return {identity: days_of(guest) for identity, guest in guests.items() if guest.days.slots}


class StoredPast:
    """`PastDays` from files. Raises `MomError` if there are none."""

    def __init__(self, path: Path, calendar: Calendar | None = None) -> None:
        self.where = str(path / PAST.name if is_folder(path) else path)
        self._past = PAST.at_rest(path, calendar)
        self.host = self._past.host or path.parent.name
        self.host_kib = self._past.host_kib
        self.promisable_kib = self._past.promisable_kib

    def guests(self) -> Sequence[PastGuest]:
        """Return the guests that have days."""
        return [
            PastGuest(identity, guest.name, guest.sold[-1], guest.days(), guest.qemu_kib, guest.vcpus)
            for identity, guest in self._past.guests.items()
            if guest.ordinals
        ]


_Version = tuple[int, int]


class _Kept(NamedTuple):
    kind: DaysFile[Any]
    file: StateFile[Any]


class _LeftFile(NamedTuple):
    kept: _Kept
    version: _Version
    content: Any = None


class DaysKeeper:
    """Files of a running mom's days. Not thread-safe.

    Each cycle encodes a few guests. A separate thread reads and writes, because a disk may be slow.
    """

    def __init__(self, context: PluginContext, days: HostDays) -> None:
        self._context = context
        self._calendar = days.calendar
        self._files = [_Kept(kind, context.state_file(kind.name, kind.description, kind.form, loss=kind.loss)) for kind in KINDS]
        learned = "the result of `mom forecast learn`, in"
        self._learned = [_Kept(kind, context.state_file(kind.learned, learned, kind.form, loss="it is not used")) for kind in KINDS]
        self._callers = Callers("mom forecast files", 1)
        self._round: Iterator[None] | None = None
        self._writes: list[Future[None]] = []
        self._reads: Future[Sequence[_LeftFile]] | None = None
        self._merged: dict[Path, _Version] = {}
        """Versions of files whose content is in `days`."""
        self._looked = context.monotonic()
        for kept in self._files:
            version = _version(kept.file.path)
            if (content := self._usable(kept)) is not None:
                kept.kind.part(days).merge(content)
            if version is not None:
                self._merged[kept.file.path] = version
        self._take_in(days, self._read(self._left(self._learned)))
        days.know_of_past()

    def go_on(self, days: HostDays, time: float, *, due: bool) -> None:
        """Do one cycle's part of the work.

        :param time: seconds since the epoch
        :param due: begin to write everything
        """
        is_written = self._round is None and all(write.done() for write in self._writes)
        if self._reads is not None and self._reads.done():
            left, self._reads = self._reads.result(), None
            self._take_in(days, left)
            days.forget(time)
        elif self._reads is None:
            # After a reload, the former plugin may write its files after this plugin has read them.
            files = [*self._left(self._files)] if is_written else []
            if self._context.monotonic() - self._looked >= LOOKS_EVERY:
                self._looked = self._context.monotonic()
                files += self._left(self._learned)
            if files:
                self._reads = self._callers.start(partial(self._read, files))
        if due:
            days.forget(time)
            if is_written:
                self._round = self._encode(days)
        for _ in range(max(1, days.within_a_slot(len(days.known)))):
            if self._round is not None and next(self._round, self) is self:
                self._round = None

    def close(self, days: HostDays | None) -> None:
        """Write all learned days, unless they are None, and end the thread."""
        self._round = None
        if days is not None:
            with suppress(StateError):  # for example too many open files; mom's own days are written anyway
                self._take_in(days, self._read(self._left(self._files)))
            for _ in self._encode(days):
                pass
        if self._writes and not Callers.came_back(self._writes[-1], PATIENCE):
            self._context.log.error("mom cannot save the learned days, because the disk does not respond")
        self._callers.close(0.0)

    def _encode(self, days: HostDays) -> Iterator[None]:
        self._writes = []
        days.past.keep_only(days.known)
        kept_ids = days.to_keep()
        for kept in self._files:
            content, texts = kept.kind.part(days), list[str]()
            for identity in kept_ids:
                texts.append(kept.kind.guest_text(content, identity))
                yield
            self._writes.append(self._callers.start(partial(self._write, kept, content, texts)))
        self._writes.append(self._callers.start(self._remove_merged))

    def _write(self, kept: _Kept, content: Any, texts: Sequence[str]) -> None:
        with suppress(StateError):  # the file reports the error in each cycle
            kept.file.write_json(lambda: kept.kind.text(content, texts))
            if (version := _version(kept.file.path)) is not None:
                self._merged[kept.file.path] = version

    def _left(self, files: Sequence[_Kept]) -> Sequence[_LeftFile]:
        versions = ((kept, _version(kept.file.path)) for kept in files)
        return [_LeftFile(kept, version) for kept, version in versions if version not in (None, self._merged.get(kept.file.path))]

    def _read(self, left: Sequence[_LeftFile]) -> Sequence[_LeftFile]:
        return [file._replace(content=self._usable(file.kept)) for file in left]

    def _usable(self, kept: _Kept) -> Any:
        content = kept.file.read()
        if content is None or content.calendar.same_as(self._calendar):
            return content
        kept.file.refuse("the length of its days or weeks differs from the settings")
        return None

    def _take_in(self, days: HostDays, left: Sequence[_LeftFile]) -> None:
        for kept, version, content in left:
            if content is not None:
                count = kept.kind.part(days).merge(content)
                self._context.log.info("merged the days of %d guests from %s", count, kept.file.path)
                self._round = self._encode(days)
            if content is not None or kept in self._files:  # an unusable file that cannot be set aside is not read again
                self._merged[kept.file.path] = version

    def _remove_merged(self) -> None:
        if any(kept.file.write_error for kept in self._files):
            return
        for kept in self._learned:
            version = self._merged.get(kept.file.path)
            if version is not None and version == _version(kept.file.path):
                with suppress(StateError):  # the file reports the error
                    kept.file.remove()


def _version(path: Path) -> _Version | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns
