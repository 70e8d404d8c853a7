"""Reader of a recording, even a damaged or growing one: yields the intact cycles in order."""

from __future__ import annotations

import math
import shlex
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice, pairwise
from pathlib import Path
from typing import Final

from mom_core import MomError, count_of, printable
from mom_kvm import PastCycle
from mom_plugins_record.recording.cycles import FARTHEST, SESSION, CycleRead, RecordedSession, read_cycle, read_session
from mom_plugins_record.recording.groups import SUFFIX, Corrupt, NoRecording, RecordingFile, checksum
from mom_plugins_record.recording.writer import GROUP, files_of, start_of

MOST_PLACES: Final = 20


def format_time(time: float) -> str:
    """Format seconds since the epoch in UTC, because recordings are often read on other machines."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M:%S")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedCycle(PastCycle):
    """Recorded cycle with its session. `gap` is the number of cycles lost directly before this cycle."""

    cycle: CycleRead
    session: RecordedSession
    gap: int = 0


def follows(before: RecordedCycle, recorded: RecordedCycle) -> bool:
    """Return whether `recorded` directly follows `before`, with the same settings of plugins and guests."""
    if recorded.gap or recorded.report.number != before.report.number + 1:
        return False
    then, now = before.session.configuration, recorded.session.configuration
    return then is now or (then.get("plugins"), then.get("guests")) == (now.get("plugins"), now.get("guests"))


@dataclass(slots=True)
class Damage:
    """Damage to a recording: number of lost cycles, and the first damaged places."""

    cycles: int = 0
    places: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.cycles or self.places)

    def note(self, path: Path, at: int, what: str) -> None:
        """Add damage at byte `at` of a file."""
        if len(self.places) < MOST_PLACES:
            self.places.append(f"{path}, byte {at}: {what}")

    def summary(self) -> str:
        """Return the damage in one line, or an empty string."""
        if not self:
            return ""
        lost = f"{count_of(self.cycles, 'cycle')} lost: " if self.cycles else ""
        return f"{lost}the recording is damaged" + (f" ({printable(self.places[0], 300)})" if self.places else "")


class Recording:
    """`PastCycles` of a recording: all files of a folder, or a single file.

    `damage` is complete after all of `cycles` is read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.where = str(path)
        self.damage = Damage()
        try:
            self.files = files_of(path) if path.is_dir() else [path]
        except OSError as error:
            raise MomError(f"cannot read {path}: {error.strerror}", hint="run as root, or as the user that recorded it") from error
        if not self.files:
            raise NoRecording(
                f"there is no recording in {path}", hint=f"give the path of a folder with files *{SUFFIX}, or of one such file"
            )

    def cycles(self, since: float = -math.inf, until: float = math.inf) -> Iterator[RecordedCycle]:
        """Yield the intact cycles of a period (seconds since the epoch) as recorded. Raise `MomError` if a file is unreadable."""
        self.damage = Damage()
        for path in ending_after(self.files, since):
            yield from self._cycles_of_file(path, since, until)

    def sparse(self, since: float, until: float, most: int) -> Iterator[CycleRead]:
        """Yield about `most` intact cycles of a period, evenly spread.

        If the period has more than `most` groups, read only the first cycle of some groups.
        """
        selected = [(path, _groups_of(file, since, until)) for path in ending_after(self.files, since) for file in _open_readable(path)]
        step = -(-sum(len(groups) for _, groups in selected) * GROUP // max(1, most)) or 1
        for path, groups in selected:
            for file in _open_readable(path) if groups else ():
                for group in groups[:: -(-step // GROUP)]:
                    yield from (item for item in _some_of(file, group, step) if since <= item.report.time <= until)

    def sessions(self) -> Iterator[RecordedSession]:
        """Yield the sessions of all files, some repeatedly."""
        for path in self.files:
            for file in _open_readable(path):
                yield from _heads(file)[0].values()

    def _cycles_of_file(self, path: Path, since: float, until: float) -> Iterator[RecordedCycle]:
        try:
            with closing(RecordingFile(path)) as file:
                yield from self._cycles_of_groups(file, since, until)
        except NoRecording as error:
            if not self.path.is_dir():
                raise
            if path.stat().st_size:
                self.damage.note(path, 0, str(error))
        except FileNotFoundError as error:
            if not self.path.is_dir():  # otherwise, the recorder has just deleted the file
                raise NoRecording(f"there is no file {path}") from error
        except OSError as error:
            raise MomError(f"cannot read {path}: {error.strerror}") from error

    def _cycles_of_groups(self, file: RecordingFile, since: float, until: float) -> Iterator[RecordedCycle]:
        damage = self.damage
        sessions, times = _heads(file)
        expected: int | None = 0
        broken = False
        for group, (begins, ends) in enumerate(pairwise(times)):
            broken = False
            if begins is not None and ends is not None and (max(begins, ends) < since or min(begins, ends) > until):
                expected = None
                continue
            try:
                for text in file.lines(group):
                    if text.startswith(SESSION):
                        continue
                    cycle = read_cycle(text)
                    session = sessions.get(cycle.session)
                    if session is None:
                        raise Corrupt("the configuration of these cycles is lost")
                    lost = 0 if expected is None else max(0, cycle.place - expected)
                    expected = cycle.place + 1
                    damage.cycles += lost
                    if since <= cycle.report.time <= until:
                        yield RecordedCycle(cycle.report, session.policies, cycle=cycle, session=session, gap=lost)
            except Corrupt as error:
                broken = True
                damage.note(file.path, file.groups[group], f"cycles are lost: {error}")
        damage.cycles += broken  # at least one cycle; only the next group tells how many


def ending_after(paths: Sequence[Path], since: float) -> Sequence[Path]:
    """Return the files that may contain cycles after `since`. Leave out files that end earlier, unless the clock was set back."""
    moment = datetime.fromtimestamp(max(since, 0.0), UTC) if since < FARTHEST else datetime.max.replace(tzinfo=UTC)
    for first, (own, following) in enumerate(pairwise(map(start_of, paths))):
        if own is None or following is None or not own <= following <= moment:
            return paths[first:]
    return paths[-1:]


def _open_readable(path: Path) -> Iterator[RecordingFile]:
    with suppress(OSError, NoRecording), closing(RecordingFile(path)) as file:
        yield file


def _heads(file: RecordingFile) -> tuple[Mapping[str, RecordedSession], Sequence[float | None]]:
    # Return sessions keyed by checksum, and times of groups' first cycles (None if unreadable), with a final None.
    sessions: dict[str, RecordedSession] = {}
    times: list[float | None] = []
    for group in range(len(file.groups)):
        first = _head(file, group, sessions)
        times.append(None if first is None else first.report.time)
    return sessions, [*times, None]


def _head(file: RecordingFile, group: int, sessions: dict[str, RecordedSession]) -> CycleRead | None:
    with suppress(Corrupt, OSError):
        for text in file.lines(group):
            if not text.startswith(SESSION):
                return read_cycle(text)
            sessions[checksum(text)] = read_session(text)
    return None


def _groups_of(file: RecordingFile, since: float, until: float) -> range:
    # After a jump of the clock, groups may be missing.

    def begins(group: int) -> float:
        heads = (_head(file, item, {}) for item in range(group, len(file.groups)))
        return next((head.report.time for head in heads if head is not None), math.inf)

    groups = range(len(file.groups))
    return groups[max(0, bisect_right(groups, since, key=begins) - 1) : bisect_right(groups, until, key=begins)]


def _some_of(file: RecordingFile, group: int, step: int) -> Iterator[CycleRead]:
    with suppress(Corrupt, OSError):
        cycles = (text for text in file.lines(group) if not text.startswith(SESSION))
        for text in islice(cycles, 0, GROUP if step < GROUP else 1, step):
            yield read_cycle(text)


def nothing_in(recording: Recording) -> MomError:
    """Return the error for a recording without readable cycles."""
    if recording.damage:
        return MomError(f"cannot read any cycle of {recording.path}: {recording.damage.summary()}")
    return MomError(
        f"{recording.path} has no cycle in that period",
        hint=f"`mom record show {shlex.quote(recording.where)}` shows the period that the recording covers",
    )
