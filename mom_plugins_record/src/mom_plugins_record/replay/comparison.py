"""Comparison of recorded decisions with new decisions on the same snapshots."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final

from mom_core import Decision, Guest, Scope, Severity, Snapshot, Value, as_number, format_kib
from mom_kvm import RunSummary, field_number
from mom_plugins_record.recording.reader import RecordedCycle, Recording, follows, nothing_in
from mom_plugins_record.recording.writer import GROUP
from mom_plugins_record.replay.engine import RecordedEngine

BALLOON: Final = "balloon_target"


@dataclass(slots=True)
class BelowNeed:
    """Decisions below what one guest needs: number, first time, and the worst case."""

    entity: str
    first: float
    count: int = 0
    worst: float = 0.0
    example: str = ""


@dataclass(slots=True)
class DecisionSeries:
    """Number of decisions of several cycles, and those below what guests need, keyed by guest id."""

    decisions: int = 0
    below_need: dict[str, BelowNeed] = field(default_factory=dict)

    def add(self, snapshot: Snapshot, decisions: Sequence[Decision]) -> None:
        """Add one cycle's decisions, as they were before any review."""
        self.decisions += len(decisions)
        for decision in decisions:
            guest, value = snapshot.guests.get(decision.entity.id), as_number(decision.value)
            if decision.control != BALLOON or guest is None or value is None:
                continue
            need, why = need_of(guest)
            if need is None or value >= need:
                continue
            case = self.below_need.setdefault(guest.id, BelowNeed(str(decision.entity), snapshot.time))
            case.count += 1
            if need - value > case.worst:
                case.worst, case.example = need - value, f"{format_kib(value)}, but the guest {why} {format_kib(need)}"

    @property
    def worst_first(self) -> list[BelowNeed]:
        """Decisions below what guests need, the worst guest first."""
        return sorted(self.below_need.values(), key=lambda case: (-case.worst, -case.count, case.entity))


SHOWN_PROBLEMS: Final = 10


@dataclass(slots=True)
class DecisionDifference:
    """Difference between decisions on one control: the first case, and the number of cycles.

    :param then: recorded value; None for no decision
    :param now: value in the replay; None for no decision
    :param then_from: source of the recorded decision; `now_from`: of the new decision
    """

    entity: str
    control: str
    time: float
    number: int
    then: Value
    now: Value
    then_from: str
    now_from: str
    cycles: int = 0


@dataclass(slots=True)
class Comparison:
    """Outcome of a replay. Times are seconds since the epoch.

    :param warming: number of cycles not compared, because evaluators' memory or history was incomplete
    :param then: recorded decisions; `now`: new decisions
    :param left_out: plugins that are not replayed, with the reasons
    :param failures: number of cycles in which a policy failed
    :param lost: number of cycles lost by damage
    """

    evaluated: int = 0
    compared: int = 0
    warming: int = 0
    identical: int = 0
    begins: float | None = None
    ends: float | None = None
    differences: dict[tuple[str, str], DecisionDifference] = field(default_factory=dict)
    then: DecisionSeries = field(default_factory=DecisionSeries)
    now: DecisionSeries = field(default_factory=DecisionSeries)
    left_out: dict[str, str] = field(default_factory=dict)
    problems: dict[str, int] = field(default_factory=dict)
    failures: int = 0
    lost: int = 0
    damage: str = ""
    """Description of the recording's damage; empty if there is none."""
    apart: int = 0
    """Number of recorded decisions of plugins that are not replayed."""

    @property
    def most_different(self) -> list[DecisionDifference]:
        """All differences, the most frequent first."""
        return sorted(self.differences.values(), key=lambda item: (-item.cycles, item.entity, item.control))


def compare(
    recording: Recording, policies: Mapping[str, str] | None = None, since: float = float("-inf"), until: float = float("inf")
) -> Comparison:
    """Evaluate every recorded cycle of that period again, and compare the decisions.

    :param policies: texts keyed by name; None for the recorded policies
    :raises MomError: there is no cycle to evaluate, or no plugin that decides
    """
    result = Comparison()
    run: _Run | None = None
    with ExitStack() as engines:
        for recorded in recording.cycles(_warms_from(recording, since), until):
            if run is None or not follows(run.last, recorded):
                engines.close()  # of the last part
                run = _Run(recorded, policies, since, result)
                engines.callback(run.engine.close)
            run.take(recorded)
    result.lost, result.damage = recording.damage.cycles, recording.damage.summary()
    if not result.evaluated:
        raise nothing_in(recording)
    return result


def _warms_from(recording: Recording, since: float) -> float:
    # The first compared cycle needs all its history.
    first = next(recording.cycles(since), None) if since > -math.inf else None
    return since if first is None else since - (GROUP + first.session.history + 2) * first.session.interval


class _Run:
    # Part of the recording in which no cycle is missing.

    def __init__(self, first: RecordedCycle, policies: Mapping[str, str] | None, since: float, result: Comparison) -> None:
        self.last = first
        self.engine = engine = RecordedEngine(first.session, policies)
        self._policies, self._since, self._result = policies, since, result
        self._knows = first.report.number == 1
        """Whether the policies' memory is known."""
        self._looked_back = engine.history if self._knows else 0
        result.left_out.update(engine.left_out)

    def take(self, recorded: RecordedCycle) -> None:
        report, engine, result = recorded.report, self.engine, self._result
        if recorded.session is not self.last.session:
            engine.use(recorded.session)
        self.last = recorded
        again = engine.cycle(report.snapshot)
        result.evaluated += 1
        exact = self._knows and self._looked_back >= engine.history
        if recorded.cycle.memory is not None and (not self._knows or report.number == 1):
            if self._policies is None and self._knows and engine.memory != recorded.cycle.memory:
                exact = False  # the daemon started with the memory of an earlier run
            engine.remember(recorded.cycle.memory)
            self._knows = True
        self._looked_back += 1
        if report.time < self._since:
            return
        of_decisions = RunSummary.problems_of_decisions(again)
        result.failures += any(of_decision.severity is Severity.ERROR for of_decision in of_decisions)
        for problem in of_decisions:
            if len(result.problems) < SHOWN_PROBLEMS or problem.message in result.problems:
                result.problems[problem.message] = result.problems.get(problem.message, 0) + 1
        if not exact:
            result.warming += 1
            return
        then = tuple(decision for decision in report.decisions if engine.is_compared(decision))
        result.apart += len(report.decisions) - len(then)
        _compare(recorded, then, tuple(again.decisions), result)


def _compare(recorded: RecordedCycle, then: tuple[Decision, ...], now: tuple[Decision, ...], result: Comparison) -> None:
    report = recorded.report
    result.compared += 1
    result.begins = report.time if result.begins is None else min(result.begins, report.time)
    result.ends = report.time if result.ends is None else max(result.ends, report.time)
    result.then.add(report.snapshot, then)
    result.now.add(report.snapshot, now)
    if then == now:
        result.identical += 1
        return
    for difference in _differences(recorded, then, now):
        result.differences.setdefault((difference.entity, difference.control), difference).cycles += 1


def _differences(recorded: RecordedCycle, then: Iterable[Decision], now: Iterable[Decision]) -> Iterator[DecisionDifference]:
    before = {(d.entity.id, d.control): d for d in then}
    after = {(d.entity.id, d.control): d for d in now}
    for key, some in (before | after).items():
        old, new = before.get(key), after.get(key)
        if old != new:
            yield DecisionDifference(
                "host" if some.entity.scope is Scope.HOST else str(some.entity),
                some.control,
                recorded.report.time,
                recorded.report.number,
                old.value if old else None,
                new.value if new else None,
                str(old.source) if old else "",
                str(new.source) if new else "",
            )


def need_of(guest: Guest) -> tuple[float | None, str]:
    """Return the size in KiB below which a guest is harmed, and the reason; None if unknown."""
    guaranteed = guest.number("guest_guarantee")
    size = field_number(guest.fields, "balloon_cur", math.nan)
    used = size - field_number(guest.fields, "mem_usable", math.nan)
    best = guaranteed if guaranteed is None or math.isnan(size) else min(guaranteed, size)
    if not math.isnan(used) and (best is None or used > best):
        return used, "uses"
    return best, "is guaranteed"
