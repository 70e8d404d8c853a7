"""The data of a picture, taken out of a recording in two passes: the first chooses guests, the second keeps their values, and no others."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from mom_core import Guest, MomError, Report, Status, Value, as_number
from mom_plugins_record.recording.reader import Recording, nothing_in
from mom_toolkit import field_number, need_of, pages_kib, taken_from, unhealthy_reasons

BALLOON: Final = "balloon_target"

POINTS: Final = 1500
"""Points of a line at most: more than a picture has dots from left to right."""

SHOWN_ALL: Final = 48
"""Guests that are all shown, unless it is said how many: eight rows of six."""

SHOWN_WORST: Final = 24
"""How many are shown of more."""

MOST_MARKS: Final = 400
"""Changes of one guest that are drawn; the smallest go first."""

GAP_CYCLES: Final = 12.0
"""So many intervals without a cycle are a gap: longer than any cycle out of step, and than a restart of mom."""


class Lines:
    """Values over `time` (seconds since the epoch), by name. Every second point is given up whenever there are too many."""

    def __init__(self, *names: str) -> None:
        self.values: dict[str, list[float]] = {name: [] for name in ("time", *names)}
        self._every = 1
        self._seen = 0

    def __getitem__(self, name: str) -> list[float]:
        return self.values[name]

    def add(self, time: float, *values: float) -> None:
        """One more point of each, or not. The order is that of the names; what is unknown is no number."""
        self._seen += 1
        if (self._seen - 1) % self._every:
            return
        for line, value in zip(self.values.values(), (time, *values), strict=True):
            line.append(value)
        if len(self["time"]) > 2 * POINTS:
            for line in self.values.values():
                del line[1::2]
            self._every *= 2

    def gap(self, begins: float, ends: float) -> None:
        """Nothing is known in between: lines break off."""
        for time in (begins, ends):
            for name, line in self.values.items():
                line.append(time if name == "time" else math.nan)


@dataclass(frozen=True, slots=True)
class Mark:
    """A decision that was applied: when, and from and to which size in KiB."""

    time: float
    before: float
    after: float

    @property
    def change(self) -> float:
        """KiB; less than nothing: the guest gave memory."""
        return self.after - self.before


@dataclass(slots=True)
class GuestSeries:
    """One guest over time, in KiB: its size, what it needs, the size that it was sold and the one it is guaranteed."""

    name: str
    lines: Lines = field(default_factory=lambda: Lines("size", "need", "most", "guaranteed"))
    marks: list[Mark] = field(default_factory=list)

    def mark(self, mark: Mark) -> None:
        """One more change."""
        self.marks.append(mark)
        if len(self.marks) > MOST_MARKS:
            self.marks.sort(key=lambda m: -abs(m.change))
            del self.marks[MOST_MARKS // 2 :]


@dataclass(frozen=True, slots=True)
class PlotSeries:
    """All that a picture shows: the host in KiB and percent, and guests.

    `left_out` counts the guests that are not among `guests`; `damage` says what of the recording is damaged, and where.
    """

    host: Lines
    guests: Sequence[GuestSeries]
    left_out: int
    cycles: int
    damage: str


@dataclass(slots=True)
class _Score:
    """How badly a guest fared: cycles in which it was short of memory, how far and how often its size was changed."""

    name: str
    short: int = 0
    changed: int = 0
    shrunk: float = 0.0

    def look(self, guest: Guest, trouble: str | None) -> None:
        size, most = (field_number(guest.fields, name, math.nan) for name in ("balloon_cur", "balloon_max"))
        self.short += bool(trouble or size < _need(guest))
        if most > size:
            self.shrunk = max(self.shrunk, (most - size) / most)


def series_of(recording: Recording, patterns: Sequence[str], limit: int | None, since: float, until: float) -> PlotSeries:
    """Read the recording. Guests that match a pattern, or the worst if there is none, at most `limit` (None: as many as fit well).

    Raises `MomError` when nothing was recorded in that time, or no guest matches.
    """
    host = Lines("total", "free", "guests", "itself", "reclaimed", "shared", "swapped", "pressure", "sold", "changes")
    scores: dict[str, _Score] = {}
    cycles = 0
    for time, before, report in _timed(recording, since, until):
        cycles += 1
        if before is not None:
            host.gap(before, time)
        host.add(time, *_host_point(report))
        for guest, trouble in zip(report.snapshot.guests.values(), unhealthy_reasons(report.snapshot), strict=True):
            scores.setdefault(guest.id, _Score(guest.name)).look(guest, trouble)
        for identity, mark in _marks(time, report):
            if identity in scores:
                scores[identity].changed += bool(mark.change)
    if not cycles:
        raise nothing_in(recording)
    ranked = _ranked(scores, patterns)
    most = limit if limit is not None else SHOWN_ALL if len(ranked) <= SHOWN_ALL else SHOWN_WORST
    guests = {identity: GuestSeries(scores[identity].name) for identity in ranked[:most]}
    for time, before, report in _timed(recording, since, until):
        for identity, series in guests.items():
            if before is not None:
                series.lines.gap(before, time)
            series.lines.add(time, *_guest_point(report.snapshot.guests.get(identity)))
        for identity, mark in _marks(time, report):
            if identity in guests:
                guests[identity].mark(mark)
    return PlotSeries(host, list(guests.values()), len(scores) - len(guests), cycles, recording.damage.summary())


def _timed(recording: Recording, since: float, until: float) -> Iterator[tuple[float, float | None, Report]]:
    """Each cycle with its time, which never goes back, and with that of the cycle before it if there is a gap between them."""
    last = interval = 0.0
    for recorded in recording.cycles(since, until):
        report = recorded.report
        time, before = max(last, report.time), last
        longest = GAP_CYCLES * max(interval, recorded.session.interval)
        yield time, before if before and time - before > longest else None, report
        last, interval = time, recorded.session.interval


def _ranked(scores: Mapping[str, _Score], patterns: Sequence[str]) -> list[str]:
    """The guests of these names, or all; the worst first."""
    found = [i for i, score in scores.items() if not patterns or any(fnmatch.fnmatchcase(score.name, pattern) for pattern in patterns)]
    if patterns and not found:
        raise MomError(f"no guest is named {' or '.join(patterns)}", hint="`mom plot` without --guest takes the worst")
    return sorted(found, key=lambda i: (-scores[i].short, -scores[i].shrunk, -scores[i].changed, scores[i].name))


def _marks(time: float, report: Report) -> Iterator[tuple[str, Mark]]:
    for outcome in report.outcomes:
        decision = outcome.decision
        if decision.control == BALLOON and outcome.status in {Status.APPLIED, Status.OBSERVED}:
            yield decision.entity.id, Mark(time, _number(outcome.before), _number(decision.value))


def _host_point(report: Report) -> tuple[float, ...]:
    fields = report.snapshot.host.fields
    total, free = field_number(fields, "mem_available", math.nan), field_number(fields, "mem_really_available", math.nan)
    if math.isnan(free):
        free = field_number(fields, "mem_free", math.nan)
    guests = sold = reclaimed = 0.0
    for guest in report.snapshot.guests.values():
        size = field_number(guest.fields, "balloon_cur", math.nan)
        guests += field_number(guest.fields, "rss", size)
        sold += field_number(guest.fields, "balloon_max")
        reclaimed += taken_from(guest)
    shared = pages_kib(fields, "ksm_pages_sharing", math.nan)
    used = total - free
    if not math.isnan(used):
        guests = min(max(0.0, guests - (0.0 if math.isnan(shared) else shared)), used)
    changes = sum(outcome.status is Status.APPLIED for outcome in report.outcomes)
    return (total, free, guests, used - guests, reclaimed, shared, field_number(fields, "swap_usage", math.nan),
            field_number(fields, "psi_memory_some_avg10", math.nan), sold, float(changes))  # fmt: skip


def _guest_point(guest: Guest | None) -> tuple[float, ...]:
    if guest is None:
        return (math.nan,) * 4
    size, most, guaranteed = (field_number(guest.fields, name, math.nan) for name in ("balloon_cur", "balloon_max", "guest_guarantee"))
    return size, _need(guest), most, guaranteed


def _need(guest: Guest) -> float:
    """The need of a guest's programs, in KiB: a simulation knows it; of others it is `need_of`."""
    known = guest.number("sim_need")
    need = need_of(guest)[0] if known is None else known
    return math.nan if need is None else need


def _number(value: Value) -> float:
    number = as_number(value)
    return math.nan if number is None else float(number)
