"""What a picture shows, taken out of a recording in two passes: the first chooses guests, the second keeps their values, and no others."""

from __future__ import annotations

import fnmatch
import math
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Final

from mom_core import Guest, MomError, Report, Status
from mom_plugins_record.recording.cycles import FARTHEST
from mom_plugins_record.recording.reader import Recorded, Recording, apart, nothing_in
from mom_toolkit import GUARANTEE, UNKNOWN_NUMBER, ailment, field_number, pages_kib, program_need, taken_from, value_number

BALLOON: Final = "balloon_target"

POINTS: Final = 1500
"""Points of a line at most: more than a picture has dots from left to right."""

NOTED: Final = 10
"""Moments that are told with their reasons: those in which most memory changed hands."""

SHOWN_ALL: Final = 48
"""Guests that are all shown, unless it is said how many: eight rows of six."""

SHOWN_WORST: Final = 24
"""How many are shown of more; all of them are in one field of colours then."""

COLUMNS: Final = 240
"""Parts of the time in that field, at most: what a person can tell apart from left to right."""

MOMENTS: Final = 40
"""Parts of the time for moments: numbers beside each other must not touch."""

MOST_MARKS: Final = 400
"""Changes of one guest that are drawn; the smallest go first."""

GAP_CYCLES: Final = 12.0
"""So many intervals without a cycle are a gap: longer than any cycle out of step, and than a restart of mom."""


@dataclass(slots=True)
class HostSeries:
    """The host over time: seconds since the epoch, KiB, percent. What is unknown is no number."""

    times: list[float] = field(default_factory=list)
    total: list[float] = field(default_factory=list)
    free: list[float] = field(default_factory=list)
    guests: list[float] = field(default_factory=list)
    itself: list[float] = field(default_factory=list)
    reclaimed: list[float] = field(default_factory=list)
    shared: list[float] = field(default_factory=list)
    swapped: list[float] = field(default_factory=list)
    pressure: list[float] = field(default_factory=list)
    sold: list[float] = field(default_factory=list)
    changes: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Mark:
    """A decision that was applied: when, to which guest, from and to which size in KiB, and why."""

    time: float
    guest: str
    before: float
    after: float
    reason: str


@dataclass(slots=True)
class GuestSeries:
    """One guest over time: its size, what it needs, the size that it was sold and the one it is guaranteed, in KiB."""

    name: str
    times: list[float] = field(default_factory=list)
    size: list[float] = field(default_factory=list)
    need: list[float] = field(default_factory=list)
    most: list[float] = field(default_factory=list)
    guaranteed: list[float] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)


def _lines_of(series: HostSeries | GuestSeries) -> Sequence[list[float]]:
    """Its lines, in the order in which they are declared, as points have their values."""
    return [getattr(series, one.name) for one in fields(series) if one.type == "list[float]"]


@dataclass(slots=True)
class BusyMoment:
    """What was changed within a short time: which guests gave and got memory, how much (KiB), and the largest change of one."""

    time: float
    gave: set[str] = field(default_factory=set)
    given: float = 0.0
    got: set[str] = field(default_factory=set)
    gotten: float = 0.0
    largest: Mark | None = None

    def add(self, mark: Mark) -> None:
        """One more change."""
        change = mark.after - mark.before
        if change < 0:
            self.gave.add(mark.guest)
            self.given -= change
        else:
            self.got.add(mark.guest)
            self.gotten += change
        if self.largest is None or abs(change) > abs(self.largest.after - self.largest.before):
            self.largest, self.time = mark, mark.time


@dataclass(slots=True)
class _Score:
    """How badly a guest fared: cycles in which it was short of memory, and how often its size was changed."""

    name: str
    short: int = 0
    changed: int = 0
    shrunk: float = 0.0


@dataclass(slots=True)
class Story:
    """All that a picture shows.

    `left_out` counts the guests that are not among `guests`. `spare` has a row for each guest, the worst first, when some are left out:
    in each part of the time the least of its memory that it did not need, as a ratio of what it was sold; negative: it was short.
    `damage` says what of the recording is damaged, and where; empty: nothing. `set_back` is how often the clock was set back.
    """

    host: HostSeries
    guests: list[GuestSeries]
    noted: list[BusyMoment]
    left_out: int
    cycles: int
    damage: str
    spare: list[array[float]] = field(default_factory=list)
    set_back: int = 0


class _Timeline:
    """Times that only grow: a clock that is set back is taken to have gone on. The same recording gives the same times."""

    def __init__(self) -> None:
        self.set_back = 0
        self.last: float | None = None
        self.interval = 1e-3  # the longest so far
        self._apart = 0.0
        self._ahead = 0.0

    def at(self, recorded: Recorded) -> tuple[float, float | None]:
        """The time of this cycle, and that of the one before it if there is a gap between them."""
        before_it, interval = self._apart, max(1e-3, apart(recorded.session))
        self._apart, self.interval = interval, max(interval, self.interval)
        time = recorded.report.time + self._ahead
        before = self.last
        if before is not None and time < before:
            self.set_back += 1
            self._ahead += before + interval - time
            time = before + interval
        if time > FARTHEST:
            raise MomError("its clock jumps too far to be drawn", hint="choose a part with --from and --to")
        self.last = time
        return time, before if before is not None and time - before > GAP_CYCLES * max(interval, before_it) else None


class _Thinner:
    """Lines of one length, of which every second point is given up whenever they are too long."""

    def __init__(self, lines: Sequence[list[float]]) -> None:
        self._lines = lines
        self._every = 1
        self._seen = 0

    def add(self, values: Iterable[float]) -> None:
        """One more point of each line, or not."""
        self._seen += 1
        if (self._seen - 1) % self._every:
            return
        for line, value in zip(self._lines, values, strict=True):
            line.append(value)
        if len(self._lines[0]) > 2 * POINTS:
            for line in self._lines:
                del line[1::2]
            self._every *= 2

    def gap(self, begins: float, ends: float) -> None:
        """Nothing is known in between: lines break off."""
        for time in (begins, ends):
            for place, line in enumerate(self._lines):
                line.append(UNKNOWN_NUMBER if place else time)


def story_of(recording: Recording, patterns: Sequence[str], limit: int | None, since: float, until: float) -> Story:
    """Read the recording. Guests that match a pattern, or the worst if there is none, at most `limit` (None: as many as fit well).

    Raises `MomError` when nothing was recorded in that time, or no guest matches.
    """
    host = HostSeries()
    thinner = _Thinner(_lines_of(host))
    scores: dict[str, _Score] = {}
    cycles = 0
    line = _Timeline()
    begins = 0.0
    for recorded in recording.cycles(since, until):
        time, before = line.at(recorded)
        begins = begins if cycles else time
        cycles += 1
        if before is not None:
            thinner.gap(before, time)
        thinner.add(_host_point(time, recorded.report))
        _score(recorded.report, scores)
    if not cycles or line.last is None:
        raise nothing_in(recording)
    parts = _Parts(begins, max(1e-3, line.last - begins), max(1, min(COLUMNS, int((line.last - begins) / line.interval))))
    ranked = _ranked(scores, patterns)
    most = limit if limit is not None else SHOWN_ALL if len(ranked) <= SHOWN_ALL else SHOWN_WORST
    guests = {identity: GuestSeries(scores[identity].name) for identity in ranked[:most]}
    spare = {identity: array("f", [UNKNOWN_NUMBER]) * parts.columns for identity in ranked} if len(ranked) > most else {}
    moments: dict[int, BusyMoment] = {}
    story = Story(host, list(guests.values()), [], len(scores) - len(guests), cycles, recording.damage.told(), list(spare.values()))
    _second_pass(recording.cycles(since, until), parts, guests, spare, moments)
    noted = sorted((m for m in moments.values() if m.gave or m.got), key=lambda m: -(m.given + m.gotten))[:NOTED]
    story.noted = sorted(noted, key=lambda m: m.time)
    story.set_back = line.set_back
    return story


@dataclass(frozen=True, slots=True)
class _Parts:
    """The time (seconds), in parts of the same length."""

    begins: float
    seconds: float
    columns: int

    def of(self, time: float, count: int) -> int:
        """In which of `count` parts a moment lies."""
        return min(count - 1, int((time - self.begins) / self.seconds * count))


def _second_pass(
    cycles: Iterable[Recorded],
    parts: _Parts,
    guests: Mapping[str, GuestSeries],
    spare: Mapping[str, array[float]],
    moments: dict[int, BusyMoment],
) -> None:
    """Fill in what belongs to guests."""
    thinners = {identity: _Thinner(_lines_of(series)) for identity, series in guests.items()}
    line = _Timeline()
    for recorded in cycles:
        report = recorded.report
        time, before = line.at(recorded)
        column = parts.of(time, parts.columns)
        for identity, thinner in thinners.items():
            if before is not None:
                thinner.gap(before, time)
            thinner.add(_guest_point(time, report.snapshot.guests.get(identity)))
        for identity, row in spare.items():
            row[column] = _lower(row[column], _spare(report.snapshot.guests.get(identity)))
        for mark, identity in _marks(time, report):
            if mark.after != mark.before and not math.isnan(mark.before):
                moments.setdefault(parts.of(time, MOMENTS), BusyMoment(time)).add(mark)
            if identity in guests:
                marks = guests[identity].marks
                marks.append(mark)
                if len(marks) > MOST_MARKS:
                    marks.sort(key=lambda m: -abs(m.after - m.before))
                    del marks[MOST_MARKS // 2 :]


def _spare(guest: Guest | None) -> float:
    """The ratio of what a guest was sold that it has and does not need; unknown where one of these is."""
    if guest is None:
        return UNKNOWN_NUMBER
    _, size, need, most, _ = _guest_point(0.0, guest)
    return (size - need) / most if most > 0 else UNKNOWN_NUMBER


def _lower(one: float, other: float) -> float:
    return one if math.isnan(other) or one <= other else other


def _ranked(scores: dict[str, _Score], patterns: Sequence[str]) -> list[str]:
    if patterns:
        found = [identity for identity, score in scores.items() if any(fnmatch.fnmatchcase(score.name, pattern) for pattern in patterns)]
        if not found:
            raise MomError(f"no guest is named {' or '.join(patterns)}", hint="`mom plot` without --guest takes the worst")
    else:
        found = list(scores)
    return sorted(found, key=lambda i: (-scores[i].short, -scores[i].shrunk, -scores[i].changed, scores[i].name))


def _score(report: Report, scores: dict[str, _Score]) -> None:
    for identity, guest in report.snapshot.guests.items():
        score = scores.get(identity)
        if score is None:
            score = scores[identity] = _Score(guest.name)
        size, most = (field_number(guest.fields, name, UNKNOWN_NUMBER) for name in ("balloon_cur", "balloon_max"))
        if ailment(guest) or size < program_need(guest):
            score.short += 1
        if most > size:
            score.shrunk = max(score.shrunk, (most - size) / most)
    for mark, identity in _marks(report.time, report):
        if identity in scores and mark.after != mark.before:
            scores[identity].changed += 1


def _marks(time: float, report: Report) -> Iterator[tuple[Mark, str]]:
    for outcome in report.outcomes:
        decision = outcome.decision
        if decision.control == BALLOON and outcome.status in {Status.APPLIED, Status.OBSERVED}:
            before, after = value_number(outcome.before, UNKNOWN_NUMBER), value_number(decision.value, UNKNOWN_NUMBER)
            yield Mark(time, str(decision.entity), before, after, decision.reason), decision.entity.id


def _host_point(time: float, report: Report) -> tuple[float, ...]:
    fields = report.snapshot.host.fields
    total, free = field_number(fields, "mem_available", UNKNOWN_NUMBER), field_number(fields, "mem_really_available", UNKNOWN_NUMBER)
    if math.isnan(free):
        free = field_number(fields, "mem_free", UNKNOWN_NUMBER)
    guests = sold = reclaimed = 0.0
    for guest in report.snapshot.guests.values():
        size, most = field_number(guest.fields, "balloon_cur", UNKNOWN_NUMBER), field_number(guest.fields, "balloon_max", UNKNOWN_NUMBER)
        held = field_number(guest.fields, "rss", UNKNOWN_NUMBER)
        guests += size if math.isnan(held) else held
        sold += 0.0 if math.isnan(most) else most
        reclaimed += taken_from(guest)
    shared = pages_kib(fields, "ksm_pages_sharing", UNKNOWN_NUMBER)
    used = total - free
    guests = min(max(0.0, guests - (0.0 if math.isnan(shared) else shared)), used) if not math.isnan(used) else guests
    changes = sum(outcome.status is Status.APPLIED for outcome in report.outcomes)
    return (time, total, free, guests, used - guests, reclaimed, shared, field_number(fields, "swap_usage", UNKNOWN_NUMBER),
            field_number(fields, "psi_memory_some_avg10", UNKNOWN_NUMBER), sold, float(changes))  # fmt: skip


def _guest_point(time: float, guest: Guest | None) -> tuple[float, ...]:
    if guest is None:
        return (time, UNKNOWN_NUMBER, UNKNOWN_NUMBER, UNKNOWN_NUMBER, UNKNOWN_NUMBER)
    fields = guest.fields
    return (
        time,
        field_number(fields, "balloon_cur", UNKNOWN_NUMBER),
        program_need(guest),
        field_number(fields, "balloon_max", UNKNOWN_NUMBER),
        field_number(fields, GUARANTEE, UNKNOWN_NUMBER),
    )
