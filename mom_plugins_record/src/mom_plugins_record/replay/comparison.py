"""Comparison of recorded decisions with new decisions on the same snapshots."""

from __future__ import annotations

import inspect
import math
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from mom_core import (
    Clock,
    Decision,
    Declarations,
    Engine,
    Guest,
    MomError,
    PluginError,
    Report,
    Scope,
    Severity,
    Snapshot,
    Value,
    as_number,
    format_kib,
    load_config,
)
from mom_kvm import GuestField, PolicyState, PolicyTexts, RunSummary
from mom_plugins_record.recording.cycles import RecordedSession
from mom_plugins_record.recording.plugin import RecordPlugin
from mom_plugins_record.recording.reader import RecordedCycle, Recording, follows, nothing_in
from mom_plugins_record.recording.writer import GROUP


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
            if decision.control != GuestField.BALLOON or guest is None or value is None:
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
    differences: dict[str, DecisionDifference] = field(default_factory=dict)
    then: DecisionSeries = field(default_factory=DecisionSeries)
    now: DecisionSeries = field(default_factory=DecisionSeries)
    left_out: dict[str, str] = field(default_factory=dict)
    problems: dict[str, int] = field(default_factory=dict)
    failures: int = 0
    lost: int = 0
    damage: str = ""
    """Description of the recording's damage; empty if there is none."""

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
                run = _Run(RecordedEngine(recorded.session, policies, engines), recorded, since, result)
            run.take(recorded)
    result.lost, result.damage = recording.damage.cycles, recording.damage.summary()
    if not result.evaluated:
        raise nothing_in(recording)
    return result


def _warms_from(recording: Recording, since: float) -> float:
    # The first compared cycle needs all its history.
    first = next(recording.cycles(since), None) if since > -math.inf else None
    if first is None:
        return since
    config = load_config({**_schedule_of(first.session), "plugins": {"record": {}}})
    return since - (GROUP + config.history + 2) * config.interval


def _schedule_of(session: RecordedSession) -> Mapping[str, Value]:
    return {name: session.configuration[name] for name in ("interval", "history") if name in session.configuration}


class _Run:
    # Part of the recording in which no cycle is missing.

    def __init__(self, engine: RecordedEngine, first: RecordedCycle, since: float, result: Comparison) -> None:
        self.last, self.engine = first, engine
        self._since, self._result = since, result
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
            if engine.own_policies is None and self._knows and engine.memory != recorded.cycle.memory:
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
        result.differences.setdefault(f"{difference.entity} {difference.control}", difference).cycles += 1


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
    size, usable = guest.number("balloon_cur"), guest.number("mem_usable")
    best = guaranteed if guaranteed is None or size is None else min(guaranteed, size)
    if size is not None and usable is not None and (best is None or size - usable > best):
        return size - usable, "uses"
    return best, "is guaranteed"


_COLLECTING: Final = ("mom_collect_host", "mom_collect_guests")


class RecordedEngine:
    """mom's engine with a recorded session's settings. It applies no decisions.

    It runs the session's deciding plugins. `left_out` names plugins that cannot run, with reasons. Their decisions are not compared.

    :param policies: texts keyed by name; None for the recorded policies
    :param engines: closes the engine, and deletes its files
    :raises MomError: no deciding plugin is installed, or its evaluators refuse the policies
    """

    def __init__(self, session: RecordedSession, policies: Mapping[str, str] | None, engines: ExitStack) -> None:
        self.left_out: dict[str, str] = {}
        self._session = session
        self.own_policies = policies
        self._snapshot = Snapshot()
        folder = Path(engines.enter_context(tempfile.TemporaryDirectory(prefix="mom-replay-")))
        self._engine = engines.enter_context(self._open(folder))
        self.history = max(1, self._engine.config.history - 1)  # like the engine: older snapshots, and the present one
        self._texts = self._engine.service(PolicyTexts)
        self._install(session.policies if policies is None else policies)

    def use(self, session: RecordedSession) -> None:
        """Use the policies of this session from now on."""
        if self.own_policies is None and session.policies != self._session.policies:
            self._install(session.policies)
        self._session = session

    def cycle(self, snapshot: Snapshot) -> Report:
        """Return mom's report for this snapshot."""
        self._snapshot = snapshot
        return self._engine.cycle(snapshot=snapshot)

    @property
    def memory(self) -> Value:
        """Values that policies remember; None without such values."""
        return None if self._texts is None else self._texts.memory()

    def remember(self, memory: Value) -> None:
        """Set the values that policies remember."""
        if self._texts is not None:
            self._texts.set_memory(memory)

    def is_compared(self, decision: Decision) -> bool:
        """Return whether the evaluator of a recorded decision is part of this replay."""
        if decision.source.line > 0:  # from a policy
            return self._texts is not None
        return decision.source.name not in self.left_out

    def _open(self, folder: Path) -> Engine:
        session = self._session
        plugins = self._deciding_plugins()
        declared = Declarations({(spec.scope, spec.name): spec for spec in session.fields}, {spec.name: spec for spec in session.controls})
        while plugins:
            document = {
                **_schedule_of(session),
                "mode": "observe",
                "root": str(folder / "root"),
                "state_directory": str(folder / "state"),
                "run_directory": str(folder / "run"),
                "plugins": {name: plugin.settings for name, plugin in plugins.items()},
                "guests": _guest_rules(session.configuration, plugins.values()),
            }
            clock = Clock(lambda: self._snapshot.monotonic, lambda: self._snapshot.time)
            engine = Engine(load_config(document), clock, serve=False, declared=declared)
            try:
                engine.open()
            except PluginError as error:
                for item in error.errors:
                    del plugins[item.plugin]
                    self.left_out[item.plugin] = f"it cannot be set up here: {item.message}"
                continue
            return engine
        reasons = "; ".join(f"{name}: {reason}" for name, reason in self.left_out.items())
        raise MomError(f"no recorded plugin can be evaluated here: {reasons or 'no plugin decided anything'}")

    def _deciding_plugins(self) -> dict[str, _DecidingPlugin]:
        result: dict[str, _DecidingPlugin] = {}
        for name, recorded in _section(self._session.configuration, "plugins").items():
            settings = {key: value for key, value in recorded.items() if key not in SOURCES}
            try:
                loaded = load_config({"plugins": {name: settings}}).plugins[name].loaded
            except MomError as error:
                self.left_out[name] = str(error)
                continue
            plugin_class = loaded.plugin_class
            if not any(hasattr(plugin_class, hook) for hook in ("mom_evaluate", "mom_act", "mom_problems")):
                continue
            if plugin_class is RecordPlugin:
                continue  # the recorder would record the replay
            if hasattr(plugin_class, "mom_hypervisor"):
                self.left_out[name] = "a replay uses no hypervisor"
            elif _needs_results(plugin_class):
                self.left_out[name] = "it needs the results of its own changes, and a replay makes no changes"
            else:
                model = loaded.guest_settings_class
                result[name] = _DecidingPlugin(settings, frozenset(model.model_fields if model is not None else ()))
        return result

    def _install(self, policies: Mapping[str, str]) -> None:
        if self._texts is None:
            if self.own_policies is not None:
                raise MomError("no plugin of this recording evaluates policies", hint="omit --policy")
            return
        try:
            self._texts.change(policies, who="replay", replace_all=True)
        except PolicyState.Refused as error:
            raise MomError(f"these policies cannot be replayed: {error}", hint="run `mom policy check` for details") from error


def _needs_results(plugin_class: type) -> bool:
    # A snapshot lacks the results of a plugin's actions.
    asks = [getattr(plugin_class, hook) for hook in _COLLECTING if hasattr(plugin_class, hook)]
    everything = len(asks) == len(_COLLECTING) and all("hypervisor" in inspect.signature(hook).parameters for hook in asks)
    return everything and hasattr(plugin_class, "mom_act")


SOURCES: Final = frozenset({"directory", "file", "shadow"})
"""Settings for the sources of policies. A replay ignores them, because the recording contains the texts."""


class _DecidingPlugin(NamedTuple):
    # Recorded settings of a plugin without `SOURCES`, and the names of its settings for guests.
    settings: Mapping[str, Value]
    guest_settings: Collection[str]


def _guest_rules(configuration: Mapping[str, Value], plugins: Iterable[_DecidingPlugin]) -> dict[str, Value]:
    # Other plugins' settings for guests would be errors.
    names = {name for plugin in plugins for name in plugin.guest_settings}
    return {
        pattern: {name: value for name, value in settings.items() if name in names}
        for pattern, settings in _section(configuration, "guests").items()
    }


def _section(configuration: Mapping[str, Value], name: str) -> dict[str, Mapping[str, Value]]:
    section = configuration.get(name)
    items = section.items() if isinstance(section, Mapping) else ()
    return {key: settings if isinstance(settings, Mapping) else {} for key, settings in items}
