"""Reads a recording, also one that is damaged or still being written: what is sound, in order, one cycle at a time."""

from __future__ import annotations

import gc
import math
import os
import stat
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from mom_core import ControlSpec, FieldSpec, MomError, Report, Scope, Unit, Value, parse_duration, printable
from mom_plugins_record.recording.cycles import FARTHEST, NO_KEY, CycleRecord, Key, read_record
from mom_plugins_record.recording.frames import LARGEST_BODY, MOST_PLACES, Frame, FrameKind, Losses, NoRecording, read_frames
from mom_plugins_record.recording.json_text import checked_json
from mom_plugins_record.recording.writer import KEY_EVERY, MINUTES, SUFFIX, begun, files_of

LOOKS_AHEAD = 8
"""How often a later copy of a damaged session is looked for in one file: a hostile one could ask for it at each frame."""

MOST_HELD = 10 * KEY_EVERY
"""Cycles that are held back until the key after them tells whether they are wanted."""

MOST_HELD_BYTES = 4 * LARGEST_BODY
"""Bytes of these."""

MOST_DECLARED = 4096
"""Fields, or controls, that a session may declare: mom's own plugins together declare some two hundred."""

MOST_REMEMBERED = 16 << 20
"""Fields of guests in all cycles that are held at a time: ten cycles of 10,000 guests with 160 each, in some 2 GiB."""

BUILT = 32 << 20
BUILT_A_BYTE = 256
GUEST = 48
"""Fields of guests in all cycles that are built, and more for each byte of them; a guest is as dear as so many of them. A recording
comes to 2 a byte, and to 50 where nothing but the ages of statistics changes; a forged one could repeat 30,000 guests in 200 bytes."""

USUAL_INTERVAL = 5.0
"""Seconds."""

LONGEST_APART = 86_400.0
"""Seconds between cycles of which not each one was kept."""

FORMAT = 1
"""The version of what a session holds."""


@dataclass(frozen=True, slots=True)
class RecordedSession:
    """What was so while cycles were recorded.

    `every` is how many seconds the recorded cycles are apart where not each one was kept, and 0 elsewhere.
    `configuration` is as `load_config` takes it, with secrets masked; `policies` are the texts in force by name; `version` is that
    of the mom that wrote it, `host` its name.
    """

    version: str
    host: str
    configuration: Mapping[str, Value]
    policies: Mapping[str, str]
    fields: tuple[FieldSpec, ...]
    controls: tuple[ControlSpec, ...]
    every: float = 0.0


def session_content(session: RecordedSession) -> dict[str, Value]:
    """A session as JSON has it."""
    return {
        "format": FORMAT,
        "version": session.version,
        "host": session.host,
        "every": session.every,
        "configuration": session.configuration,
        "policies": dict(session.policies),
        "fields": [[f.name, f.unit, f.scope, f.description, f.source] for f in session.fields],
        "controls": [[c.name, c.unit, c.scope, c.description, c.field, c.minimum, c.maximum, list(c.choices)] for c in session.controls],
    }


def interval_of(session: RecordedSession) -> float:
    """Seconds from one of mom's cycles to the next; mom's default where the recording does not tell."""
    interval = session.configuration.get("interval")
    try:
        return parse_duration(interval) if isinstance(interval, str) else USUAL_INTERVAL
    except ValueError:
        return USUAL_INTERVAL


def apart(session: RecordedSession) -> float:
    """Seconds from one recorded cycle to the next."""
    return max(session.every, interval_of(session))


@dataclass(slots=True)
class Recorded:
    """One cycle, and what was so then.

    `record` has guests' fields in columns. `gap` is how many cycles before it were lost. `memory` is what policies remembered after it:
    recorded once in a while, None elsewhere.
    """

    record: CycleRecord
    session: RecordedSession
    gap: int = 0
    memory: Value = None

    @property
    def report(self) -> Report:
        """The cycle as mom knew it. Raises `Corrupt`, but where `Recording.cycles` has given it."""
        return self.record.report


def follows(before: Recorded, recorded: Recorded) -> bool:
    """Whether nothing is missing between two cycles, and the plugins that decided are the same ones: they were not made anew."""
    if recorded.gap or recorded.report.number != before.report.number + 1:
        return False
    if recorded.session is before.session:
        return True
    then, now = before.session.configuration, recorded.session.configuration
    return (then.get("plugins"), then.get("guests")) == (now.get("plugins"), now.get("guests"))


def must_fit(recorded: Recorded, cycles: int) -> None:
    """Check that so many cycles like this one can be held at a time. Raises `MomError`: a recording may ask for any number."""
    fields = sum(len(guest.fields) for guest in recorded.report.snapshot.guests.values())
    if fields * cycles > MOST_REMEMBERED:
        guests = len(recorded.report.snapshot.guests)
        raise MomError(f"cycle {recorded.report.number} cannot be evaluated: {cycles} cycles of {guests} guests do not fit into memory")


@dataclass(slots=True)
class Damage:
    """What could not be read: cycles that are lost, bytes that are no frame, files that end in the middle of a frame.

    `places` says of the first damaged places which file, which byte of it, and what is wrong there.
    """

    cycles: int = 0
    rubbish: int = 0
    cut_off: list[str] = field(default_factory=list)
    places: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.cycles or self.rubbish)

    def add(self, path: Path, losses: Losses, cycles: int) -> None:
        """What a file has lost."""
        self.cycles += cycles
        self.rubbish += losses.rubbish
        if losses.cut_off:
            self.cut_off.append(str(path))
        room = MOST_PLACES - len(self.places)
        self.places.extend(f"{path}, byte {at}: {what}" for at, what in losses.places[:room])

    def summary(self) -> str:
        """The damage in a line; empty when there is none."""
        if not self:
            return ""
        lost = f"{self.cycles} cycles are lost" if self.cycles else f"{self.rubbish} bytes are no part of a recording"
        return f"{lost}: the recording is damaged" + (f" ({printable(self.places[0], 300)})" if self.places else "")


class Recording:
    """A recording: a folder, or one file of it. `damage` is complete when `cycles` has come to the end.

    `files` have each cycle. `minutes` have one a minute, also of the time before these, for which they are read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damage = Damage()
        self._built = 0
        """What the files before have built beyond what their bytes allow."""
        try:
            self.files = files_of(path) if path.is_dir() else [path]
            self.minutes = files_of(path / MINUTES) if (path / MINUTES).is_dir() else []
        except OSError as error:
            raise MomError(f"cannot read {path}: {error.strerror}", hint="run as root, or as the user that recorded it") from error
        if not self.files and not self.minutes:
            raise MomError(f"there is no recording in {path}", hint=f"name a folder with files *{SUFFIX}, or one such file")

    def cycles(self, since: float = float("-inf"), until: float = float("inf")) -> Iterator[Recorded]:
        """All cycles of that time (seconds since the epoch), in the order in which they were recorded.

        Raises `MomError` when there is no such file, when it is no recording, or when it is of a newer version.
        """
        return self._read(since, until, reports=True)

    def records(self, since: float = float("-inf"), until: float = float("inf")) -> Iterator[Recorded]:
        """The same cycles, of which no reports are made: in a fifth of the time."""
        return self._read(since, until, reports=False)

    def sparse(self, since: float, until: float, most: int) -> Iterator[CycleRecord]:
        """At most so many cycles of that time, about as far apart as each other: of those that stand by themselves, so that no others are
        read for them. What is damaged is left out.
        """
        begins = math.nextafter(self._begins(), -math.inf) if self.minutes else math.inf
        minutes = [(path, min(until, begins)) for path in ending_after(self.minutes, since)] if since <= begins else []
        places = (*minutes, *((path, until) for path in ending_after(self.files, since)))
        counted = [(path, sum(1 for _ in _key_frames(path)), end) for path, end in places]
        step = -(-sum(count for _, count, _ in counted) // max(1, most)) or 1
        place = 0
        for path, _, end in counted:
            for frame in _key_frames(path):
                place += 1
                if place % step:
                    continue
                found = _cycle(frame, None, Losses())
                if found is not None and since <= found[0].time <= end:
                    yield found[0]

    def sessions(self) -> Iterator[RecordedSession]:
        """What was so while cycles were recorded, as often as it is said."""
        for path in [*self.minutes, *self.files]:
            with suppress(FileNotFoundError), _opened(path) as source:
                for frame in read_frames(source, str(path), Losses()):
                    if frame.kind is FrameKind.SESSION and (session := _session(frame, str(path), Losses())) is not None:
                        yield session

    def _read(self, since: float, until: float, *, reports: bool) -> Iterator[Recorded]:
        self.damage, self._built = Damage(), 0
        if self.minutes:
            # Strictly before the first that has each cycle; read before the damage of its file would be counted twice.
            begins = math.nextafter(self._begins(), -math.inf)
            self.damage, self._built = Damage(), 0
            if since <= begins:
                for path in ending_after(self.minutes, since):
                    yield from self._of_file(path, since, min(until, begins), reports)
        for path in ending_after(self.files, since):
            yield from self._of_file(path, since, until, reports)

    def _begins(self) -> float:
        """When the first cycle was that stands in a file with each."""
        for path in self.files:
            with closing(self._of_file(path, -math.inf, math.inf, False)) as found:
                first = next(found, None)
            if first is not None:
                return first.record.time
        return math.inf

    def _of_file(self, path: Path, since: float, until: float, reports: bool) -> Generator[Recorded, None, None]:
        losses = Losses()
        with ExitStack() as stack:
            try:
                source = stack.enter_context(_opened(path))
            except FileNotFoundError as error:
                if [path] == [*self.minutes, *self.files]:
                    raise MomError(f"there is no file {path}") from error
                self.damage.cut_off.append(str(path))  # given up by the writer while we read
                return
            except OSError as error:
                raise MomError(f"cannot read {path}: {error.strerror}") from error
            sessions = _Sessions(path, losses)
            wanted = (since, until) if reports else None
            key: tuple[int, Key] | None = None
            lost, built, at = 0, self._built, 0
            waiting: Recorded | None = None  # what policies remember after a cycle stands after it
            try:
                for frame in _from(since, read_frames(source, str(path), losses)):
                    lost += losses.frames
                    losses.frames = 0
                    if frame.kind is FrameKind.MEMORY:
                        if waiting is not None and not lost:
                            waiting.memory = _memory(frame, losses)
                        continue
                    if waiting is not None:
                        yield waiting
                        waiting = None
                    if frame.kind is FrameKind.SESSION:
                        sessions.take(frame)
                        continue
                    session = sessions.of(frame)
                    found = None if session is None else _cycle(frame, key, losses, wanted)
                    if found is None or session is None:
                        lost += 1
                        continue
                    record, new = found
                    at = frame.at
                    built += len(new.guests) * (GUEST + len(new.columns))
                    if built > BUILT + BUILT_A_BYTE * at:
                        losses.note(at, "its cycles hold more than those of a recording: the rest is not read")
                        lost += 1
                        break
                    key = (frame.number, new) if frame.kind is FrameKind.KEY else key
                    self.damage.cycles += lost
                    if since <= record.time <= until:
                        waiting = Recorded(record, session, lost)
                    lost = 0
                if waiting is not None:
                    yield waiting
            except NoRecording:
                if not self.path.is_dir():
                    raise
            except OSError as error:
                raise MomError(f"cannot read {path}: {error.strerror}") from error
            finally:
                self._built = max(0, built - BUILT_A_BYTE * at)
                self.damage.add(path, losses, lost)


@contextmanager
def rarely_collected() -> Iterator[None]:
    """For those who read thousands of cycles; serves as a decorator, too. What is made of them holds no circles of references: to look for
    these takes a fifth of the time."""
    usual = gc.get_threshold()
    gc.set_threshold(100_000, *usual[1:])
    try:
        yield
    finally:
        gc.set_threshold(*usual)


def _opened(path: Path) -> BinaryIO:
    """The file, open. Raises `OSError`, and `MomError` when it is something else, such as a pipe, which may have no end."""
    number = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe would wait for a writer
    if stat.S_ISREG(os.fstat(number).st_mode):
        return os.fdopen(number, "rb")
    os.close(number)
    raise MomError(f"{path} is no file", hint=f"name a folder with files *{SUFFIX}, or one such file")


def ending_after(paths: Sequence[Path], since: float) -> Sequence[Path]:
    """The files without those that ended before, which the next one's name tells."""
    moment = datetime.fromtimestamp(max(since, 0.0), UTC) if since < FARTHEST else datetime.max.replace(tzinfo=UTC)
    first = 0
    while first + 1 < len(paths) and (start := begun(paths[first + 1])) is not None and start <= moment:
        first += 1
    return paths[first:]


def _key_frames(path: Path) -> Iterator[Frame]:
    """Those of a file that stand by themselves; none where it cannot be read any more."""
    with suppress(OSError, NoRecording), _opened(path) as source:
        yield from (frame for frame in read_frames(source, str(path), Losses()) if frame.kind is FrameKind.KEY)


def _from(since: float, frames: Iterator[Frame]) -> Iterator[Frame]:
    """The frames without the cycles between two keys that are both from before that time: to unpack all of a day takes minutes."""
    held: list[Frame] = []
    early = False
    size = 0
    for frame in frames:
        if frame.kind is FrameKind.KEY:
            found = _cycle(frame, None, Losses()) if since > float("-inf") else None
            yet = found is not None and found[0].time < since
            yield from (one for one in held if not yet or one.kind is not FrameKind.CYCLE)
            held, early, size = [], yet, 0
        elif early and (held or frame.kind is FrameKind.CYCLE) and len(held) < MOST_HELD and size < MOST_HELD_BYTES:
            held.append(frame)
            size += len(frame.packed)
            continue
        elif held:  # this many without a key is no recording of ours
            yield from held
            held, early, size = [], False, 0
        yield frame
    yield from held


class _Sessions:
    """The session that is in force in a file, taken from its first sound copy: a key frame says which one it needs."""

    def __init__(self, path: Path, losses: Losses) -> None:
        self._path = path
        self._losses = losses
        self._number = -1
        self._session: RecordedSession | None = None
        self._looks = LOOKS_AHEAD

    def take(self, frame: Frame) -> None:
        """A session, or another copy of one."""
        if frame.key != self._number or self._session is None:
            self._number, self._session = frame.key, _session(frame, str(self._path), self._losses)

    def of(self, frame: Frame) -> RecordedSession | None:
        """The session of a cycle; None when it is lost."""
        if frame.kind is FrameKind.KEY and (frame.key != self._number or self._session is None):
            self._number, self._session = frame.key, self._ahead(frame.key)
        return self._session

    def _ahead(self, number: int) -> RecordedSession | None:
        self._looks -= 1
        if self._looks < 0:
            return None
        with suppress(OSError), self._path.open("rb") as source:  # it may be gone since
            for frame in read_frames(source, str(self._path), Losses()):
                if frame.kind is FrameKind.SESSION and frame.key == number:
                    found = _session(frame, str(self._path), Losses())
                    if found is not None:
                        return found
        return None


def _cycle(
    frame: Frame, key: tuple[int, Key] | None, losses: Losses, reports: tuple[float, float] | None = None
) -> tuple[CycleRecord, Key] | None:
    """The cycle, or None when it, or the key that it builds on, is damaged; of that time, reports must make sense, too."""
    if frame.kind is FrameKind.KEY:
        base = NO_KEY
    elif key is not None and key[0] == frame.key:
        base = key[1]
    else:
        return None
    try:
        record, new = read_record(frame.unpack(base.dictionary), base, len(frame.packed))
        if reports is not None and reports[0] <= record.time <= reports[1]:
            _ = record.report, record.reasons  # made here, where it is damage that they make no sense
        return record, new
    except MomError as error:
        losses.note(frame.at, f"a cycle is lost: {error}")
        return None


def _memory(frame: Frame, losses: Losses) -> Value:
    """What policies remembered; None when that is damaged."""
    try:
        remembered: Value = checked_json(frame.unpack(), len(frame.packed))
        return remembered
    except MomError as error:
        losses.note(frame.at, f"what policies remembered is lost: {error}")
        return None


def _session(frame: Frame, name: str, losses: Losses) -> RecordedSession | None:
    """What was so then, or None when that is damaged. Raises `MomError` when a newer mom has written it."""
    try:
        content: Any = checked_json(frame.unpack(), len(frame.packed))
        version = content["format"]
        if isinstance(version, int) and version > FORMAT:
            raise _Newer(f"{name} holds a session of format {version}; this mom reads {FORMAT}", hint="upgrade mom-plugins-record")
        policies, configuration = content["policies"], content["configuration"]
        if not isinstance(configuration, dict) or not all(isinstance(text, str) for text in policies.values()):
            raise TypeError("policies are texts, and a configuration is a mapping")
        if max(len(content["fields"]), len(content["controls"])) > MOST_DECLARED:
            raise ValueError(f"more than {MOST_DECLARED} fields or controls are declared")
        return RecordedSession(
            str(content["version"]),
            str(content["host"]),
            configuration,
            policies,
            tuple(FieldSpec(str(n), Unit(unit), Scope(scope), str(text), str(of)) for n, unit, scope, text, of in content["fields"]),
            tuple(
                ControlSpec(str(n), Unit(unit), Scope(scope), str(text), str(of), _bound(low), _bound(high), _choices(*more))
                for n, unit, scope, text, of, low, high, *more in content["controls"]
            ),
            _every(content.get("every", 0.0)),
        )
    except _Newer:
        raise
    except (MomError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        why = str(error) if isinstance(error, MomError) else f"{type(error).__name__}: {error}"
        losses.note(frame.at, f"what was in force is lost: {printable(why, 200)}")
        return None


def _choices(values: Sequence[int] = ()) -> tuple[int, ...]:
    """Of a control; a recording from before there were any has none."""
    return tuple(map(int, values))


def _every(value: object) -> float:
    if isinstance(value, int | float) and 0 <= value <= LONGEST_APART:
        return float(value)
    raise TypeError("how far cycles are apart is no such number")


def _bound(value: object) -> float | None:
    if value is None or (isinstance(value, int | float) and abs(value) < float("inf")):
        return value
    raise TypeError("a bound is no number")


class _Newer(MomError):
    """Another version is needed."""


def nothing_in(recording: Recording) -> MomError:
    """The error for a recording that was read and gave no cycle."""
    if recording.damage:
        return MomError(f"nothing of {recording.path} can be read: {recording.damage.summary()}")
    return MomError(f"{recording.path} has no cycle in that time", hint="`mom record show` says from when to when it reaches")
