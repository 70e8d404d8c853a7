"""One cycle: collect, evaluate, review, control."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from mom_core.engine import control
from mom_core.engine.collect import GUESTS_UNKNOWN, Collector, ask
from mom_core.engine.problems import SEE_DOCTOR, HeldConditions, contained, few_of_each, own_conditions
from mom_core.engine.restore import forget_gone
from mom_core.engine.review import Proposal, apply_revisions, review
from mom_core.engine.schedule import Clock, Tick
from mom_core.ledger import Ledger
from mom_core.model import (
    CORE,
    Condition,
    Decision,
    Entity,
    Outcome,
    PluginReport,
    Problem,
    Report,
    Revision,
    Severity,
    Snapshot,
    Source,
    Verdict,
)
from mom_core.plugins.registry import PluginSet

_DECISIONS: Final = (Decision, Decision.Trial, Problem)

_PARTS: Final[Mapping[type, Mapping[str, Any]]] = {
    Problem: {"source": Source, "message": str, "entity": Entity | None, "severity": Severity, "hint": str},
    Condition: {"name": str, "message": str, "why": str, "cure": str, "severity": Severity, "after": int | float},
}


class _Plan(NamedTuple):
    proposed: Sequence[Decision]
    trials: Sequence[Decision.Trial]
    decisions: list[Decision]
    revisions: list[Revision]
    conditions: dict[str, Sequence[Condition] | None]


@dataclass(slots=True)
class CycleSteps:
    """Steps of a cycle.

    :param history: older snapshots, oldest first
    :param on_report: called before `mom_report`
    """

    plugins: PluginSet
    ledger: Ledger
    history: deque[Snapshot]
    enforce: bool
    clock: Clock
    stopping: threading.Event
    collector: Collector
    conditions: HeldConditions
    on_report: Callable[[Report], None]
    on_progress: Callable[[], None]
    missing: Mapping[str, int] = field(default_factory=dict)

    def run(self, number: int, tick: Tick, skipped: int, recorded: Snapshot | None = None) -> Report:
        """Run one cycle. `recorded` is the snapshot to use; None to collect one."""
        began = self.clock.monotonic()
        collected = (recorded, []) if recorded is not None else self.collector.snapshot(number, self.clock.wall(), began)
        snapshot, problems = collected
        if not self.stopping.is_set():
            snapshot = self.collector.derived(snapshot, tuple(self.history), problems)
            self.on_progress()
        self._end_entries_of_the_gone(snapshot, problems)
        plan = self._decide(snapshot, problems)
        outcomes = self._apply(snapshot, plan.decisions, problems)
        plugins, verdict = self._verdict(plan.conditions, problems)
        self.history.append(snapshot)
        report = Report(
            number=number,
            time=snapshot.time,
            mode="enforce" if self.enforce else "observe",
            snapshot=snapshot,
            decisions=plan.proposed,
            revisions=tuple(plan.revisions),
            outcomes=tuple(outcomes),
            problems=tuple(few_of_each(problems)),
            plugins=plugins,
            duration=self.clock.monotonic() - began,
            lag=tick.lag,
            skipped=skipped,
            woken_by=tick.woken_by,
            considered=tuple(decision for trial in plan.trials for decision in trial.decisions) if plan.trials else None,
            verdict=verdict,
        )
        self.on_report(report)
        # Ignore failures: the plugin's state in the next report shows them.
        ask([(plugin, plugin.work("mom_report", report=report)) for plugin in self.plugins.having("mom_report")], "mom_report", [])
        return report

    def _decide(self, snapshot: Snapshot, problems: list[Problem]) -> _Plan:
        conditions: dict[str, Sequence[Condition] | None] = {plugin.name: None for plugin in self.plugins.having("mom_problems")}
        if self.stopping.is_set():
            return _Plan((), [], [], [], conditions)
        trials: list[Decision.Trial] = []
        proposals = self._proposals(snapshot, problems, trials)
        conditions.update(self._conditions(snapshot, problems))
        proposed = tuple(decision for proposal in proposals for decision in proposal.decisions)
        decisions, revisions = self._reviewed(snapshot, proposals, problems)
        return _Plan(proposed, trials, decisions, revisions, conditions)

    def _apply(self, snapshot: Snapshot, decisions: Sequence[Decision], problems: list[Problem]) -> list[Outcome]:
        if self.stopping.is_set():
            return []
        if not self.enforce:
            return control.observe(snapshot, decisions, self.plugins)
        outcomes, failures = control.apply(snapshot, decisions, self.plugins, self.ledger, self.stopping, self.on_progress)
        problems.extend(failures)
        self.on_progress()
        return outcomes

    def _verdict(
        self, conditions: dict[str, Sequence[Condition] | None], problems: list[Problem]
    ) -> tuple[tuple[PluginReport, ...], Verdict]:
        of_ledger = self._ledger_conditions()
        problems.extend(Problem(Source(CORE), condition.message, hint=condition.cure) for condition in of_ledger)
        problems.extend(self._troubles_with_state())
        plugins = tuple(plugin.worker.report() for plugin in self.plugins.plugins)
        conditions[CORE] = own_conditions(plugins, self._guests_unknown(problems), of_ledger)
        return plugins, self.conditions.take(conditions, self.clock.monotonic(), self.clock.wall())

    def _end_entries_of_the_gone(self, snapshot: Snapshot, problems: Sequence[Problem]) -> None:
        owner = self.plugins.hypervisor_owner
        if owner is not None and not self._guests_unknown(problems) and not self.stopping.is_set():
            self.missing = forget_gone(self.ledger, snapshot, self.missing)

    def _guests_unknown(self, problems: Sequence[Problem]) -> Problem | None:
        owner = self.plugins.hypervisor_owner
        name = None if owner is None else owner.name
        return next((p for p in problems if p.source.name == name and p.message.startswith(GUESTS_UNKNOWN)), None)

    def _proposals(self, snapshot: Snapshot, problems: list[Problem], considered: list[Decision.Trial]) -> list[Proposal]:
        proposals: list[Proposal] = []
        for hook in ("mom_evaluate", "mom_act"):
            for plugin, items in self._lists(hook, _DECISIONS, problems, snapshot=snapshot, history=tuple(self.history)):
                proposal = Proposal(plugin, [], acts=hook == "mom_act")
                with contained(plugin, hook, problems):
                    proposal.decisions.extend(item.signed(plugin) for item in items if isinstance(item, Decision))
                    considered.extend(item.signed(plugin) for item in items if isinstance(item, Decision.Trial))
                proposals.append(proposal)
        rank = {plugin.name: rank for rank, plugin in enumerate(self.plugins.plugins)}
        return sorted(proposals, key=lambda proposal: rank[proposal.plugin])

    def _conditions(self, snapshot: Snapshot, problems: list[Problem]) -> dict[str, Sequence[Condition]]:
        lists = self._lists("mom_problems", (Problem, Condition), problems, snapshot=snapshot)
        return {plugin: [item for item in items if isinstance(item, Condition)] for plugin, items in lists}

    def _lists(
        self, hook: str, kinds: tuple[type, ...], problems: list[Problem], **arguments: object
    ) -> Iterator[tuple[str, list[object]]]:
        # Yield each plugin's valid items; append its problems, and faults of its answer, to `problems`.
        works = [(plugin, plugin.work(hook, **arguments)) for plugin in self.plugins.having(hook)]
        for plugin, answer in ask(works, hook, problems):
            if answer is not None and (isinstance(answer, Mapping | str) or not isinstance(answer, Iterable)):
                problems.append(Problem(Source(plugin.name), f"{hook} must return a list, not {type(answer).__name__}"))
                continue
            items: list[object] = []
            for item in answer or ():
                if why := _why_wrong(item, kinds):
                    problems.append(Problem(Source(plugin.name), f"{hook} returned {why}"))
                elif isinstance(item, Problem):
                    problems.append(item)
                else:
                    items.append(item)
            yield plugin.name, items
        self.on_progress()

    def _reviewed(
        self, snapshot: Snapshot, proposals: Sequence[Proposal], problems: list[Problem]
    ) -> tuple[list[Decision], list[Revision]]:
        plugins = self.plugins
        decisions, revisions, more = review(snapshot, proposals, plugins.declarations)
        problems.extend(more)
        for plugin in plugins.having("mom_review"):
            work = plugin.work("mom_review", snapshot=snapshot, decisions=tuple(decisions))
            reviewed = None
            for _, answer in ask([(plugin, work)], "mom_review", problems):
                with contained(plugin.name, "mom_review", problems):
                    answered: Any = () if answer is None else answer
                    reviewed = apply_revisions(decisions, answered, plugin.name, snapshot, plugins.declarations)
            self.on_progress()
            if reviewed is None:
                # A reviewer protects guests. Without its answer, drop the decisions on its own controls.
                silent = f"the {plugin.name} plugin failed to review this decision"
                dropped = [decision for decision in decisions if decision.control in plugin.controls]
                revisions.extend(Revision(decision, None, silent, "core") for decision in dropped)
                decisions = [decision for decision in decisions if decision.control not in plugin.controls]
            else:
                decisions, changed = reviewed
                revisions.extend(changed)
        return decisions, revisions

    def _ledger_conditions(self) -> list[Condition]:
        faults = (
            (self.ledger.file.damage, "look up the original values in the damaged file, and restore them by hand"),
            (self.ledger.file.write_error, f"make its folder writable, and free space on its disk; {SEE_DOCTOR}"),
        )
        return [Condition("ledger", text, cure=cure) for text, cure in faults if text]

    def _troubles_with_state(self) -> Iterable[Problem]:
        for plugin in self.plugins.plugins:
            for file in plugin.context.state_files:
                if file.damage:
                    yield Problem(Source(plugin.name), file.damage, severity=Severity.WARNING, hint=file.cure)
                if file.write_error:
                    hint = "free space, or repair the disk; until then, these data are lost when mom exits"
                    yield Problem(Source(plugin.name), file.write_error, severity=Severity.WARNING, hint=hint)


def _why_wrong(item: object, kinds: tuple[type, ...]) -> str:
    if type(item) not in kinds:
        return f"{type(item).__name__} instead of {kinds[0].__name__}"
    parts = _PARTS.get(type(item), {})
    wrong = next((name for name, kind in parts.items() if not isinstance(getattr(item, name), kind)), "")
    return f"a {type(item).__name__} whose {wrong} is {type(getattr(item, wrong)).__name__}" if wrong else ""
