"""What a picture shows, taken out of a recording in two passes: the first chooses guests, the second keeps their values, and no others."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from mom_core import Guest, MomError, Report, Status
from mom_plugins_sim.measures import PAGE_KIB, UNKNOWN, number, number_of, taken_from
from mom_plugins_sim.recording.reader import Recording, nothing_in
from mom_plugins_sim.replay.verdicts import need_of

BALLOON: Final = "balloon_target"

POINTS: Final = 1500
"""Points of a line at most: more than a picture has dots from left to right."""

NOTED: Final = 12
"""Decisions that are told with their reasons: those that changed most."""

TIGHT: Final = 0.05
"""Ratio of a guest's size: with less of it usable, the guest is short of memory."""


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

    def lines(self) -> Sequence[list[float]]:
        """All of them."""
        return (self.times, self.total, self.free, self.guests, self.itself, self.reclaimed, self.shared, self.swapped, self.pressure,
                self.sold, self.changes)  # fmt: skip


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
    """One guest over time: its size, what it needs, the size that it was sold and the one it was promised, in KiB."""

    name: str
    times: list[float] = field(default_factory=list)
    size: list[float] = field(default_factory=list)
    need: list[float] = field(default_factory=list)
    most: list[float] = field(default_factory=list)
    promised: list[float] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)

    def lines(self) -> Sequence[list[float]]:
        """All of them."""
        return self.times, self.size, self.need, self.most, self.promised


@dataclass(slots=True)
class _Score:
    """How badly a guest fared: cycles in which it was short of memory, and how often its size was changed."""

    name: str
    short: int = 0
    changed: int = 0
    shrunk: float = 0.0


@dataclass(slots=True)
class Story:
    """All that a picture shows. `left_out` counts the guests that are not among `guests`."""

    host: HostSeries
    guests: list[GuestSeries]
    noted: list[Mark]
    left_out: int
    cycles: int
    lost: int


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


def story_of(recording: Recording, patterns: Sequence[str], limit: int, since: float, until: float) -> Story:
    """Read the recording. Guests that match a pattern, or the worst if there is none, at most `limit`.

    Raises `MomError` when nothing was recorded in that time, or no guest matches.
    """
    host = HostSeries()
    thinner = _Thinner(host.lines())
    scores: dict[str, _Score] = {}
    cycles = 0
    for recorded in recording.cycles(since, until):
        cycles += 1
        thinner.add(_host_point(recorded.report))
        _score(recorded.report, scores)
    if not cycles:
        raise nothing_in(recording)
    lost = recording.damage.cycles
    chosen = _chosen(scores, patterns, limit)
    guests = {identity: GuestSeries(scores[identity].name) for identity in chosen}
    thinners = {identity: _Thinner(series.lines()) for identity, series in guests.items()}
    for recorded in recording.cycles(since, until):
        report = recorded.report
        for identity in chosen:
            guest = report.snapshot.guests.get(identity)
            thinners[identity].add(_guest_point(report.time, guest))
        for mark, identity in _marks(report):
            if identity in guests:
                guests[identity].marks.append(mark)
    noted = sorted((mark for series in guests.values() for mark in series.marks), key=lambda m: -abs(m.after - m.before))[:NOTED]
    return Story(host, list(guests.values()), sorted(noted, key=lambda m: m.time), len(scores) - len(chosen), cycles, lost)


def _chosen(scores: dict[str, _Score], patterns: Sequence[str], limit: int) -> list[str]:
    if patterns:
        found = [identity for identity, score in scores.items() if any(fnmatch.fnmatchcase(score.name, pattern) for pattern in patterns)]
        if not found:
            raise MomError(f"no guest is named {' or '.join(patterns)}", hint="`mom plot` without --guest takes the worst")
    else:
        found = list(scores)
    return sorted(found, key=lambda i: (-scores[i].short, -scores[i].shrunk, -scores[i].changed, scores[i].name))[:limit]


def _score(report: Report, scores: dict[str, _Score]) -> None:
    for identity, guest in report.snapshot.guests.items():
        score = scores.get(identity)
        if score is None:
            score = scores[identity] = _Score(guest.name)
        size, usable, most = (number(guest.fields, name, UNKNOWN) for name in ("balloon_cur", "mem_usable", "balloon_max"))
        if usable < TIGHT * size or number(guest.fields, "swap_in", UNKNOWN) > 0:
            score.short += 1
        if most > size:
            score.shrunk = max(score.shrunk, (most - size) / most)
    for mark, identity in _marks(report):
        if identity in scores and mark.after != mark.before:
            scores[identity].changed += 1


def _marks(report: Report) -> Iterator[tuple[Mark, str]]:
    for outcome in report.outcomes:
        decision = outcome.decision
        if decision.control == BALLOON and outcome.status in {Status.APPLIED, Status.OBSERVED}:
            before, after = number_of(outcome.before, UNKNOWN), number_of(decision.value, UNKNOWN)
            yield Mark(report.time, str(decision.entity), before, after, decision.reason), decision.entity.id


def _host_point(report: Report) -> tuple[float, ...]:
    fields = report.snapshot.host.fields
    total, free = number(fields, "mem_available", UNKNOWN), number(fields, "mem_really_available", UNKNOWN)
    if math.isnan(free):
        free = number(fields, "mem_free", UNKNOWN)
    guests = sold = reclaimed = 0.0
    for guest in report.snapshot.guests.values():
        size, most = number(guest.fields, "balloon_cur", UNKNOWN), number(guest.fields, "balloon_max", UNKNOWN)
        held = number(guest.fields, "rss", UNKNOWN)
        guests += size if math.isnan(held) else held
        sold += 0.0 if math.isnan(most) else most
        reclaimed += taken_from(guest)
    shared = number(fields, "ksm_pages_sharing", UNKNOWN) * PAGE_KIB
    used = total - free
    guests = min(max(0.0, guests - (0.0 if math.isnan(shared) else shared)), used) if not math.isnan(used) else guests
    changes = sum(outcome.status is Status.APPLIED for outcome in report.outcomes)
    return (report.time, total, free, guests, used - guests, reclaimed, shared, number(fields, "swap_usage", UNKNOWN),
            number(fields, "psi_memory_some_avg10", UNKNOWN), sold, float(changes))  # fmt: skip


def _guest_point(time: float, guest: Guest | None) -> tuple[float, ...]:
    if guest is None:
        return (time, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN)
    fields = guest.fields
    promised = number(fields, "mem_guarantee", UNKNOWN)
    if math.isnan(promised):
        promised = number(fields, "balloon_min", UNKNOWN)
    need = number(fields, "sim_need", UNKNOWN)
    if math.isnan(need):
        found = need_of(guest)[0]
        need = UNKNOWN if found is None else found
    return (time, number(fields, "balloon_cur", UNKNOWN), need, number(fields, "balloon_max", UNKNOWN), promised)
