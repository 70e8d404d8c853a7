"""One cycle: collect, evaluate, review, control. What a plugin does wrong on the way is contained and becomes part of the report."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mom_core.engine import control
from mom_core.engine.answers import contained, invalid, wrong_part
from mom_core.engine.collect import GUESTS_UNKNOWN, SEE_DOCTOR, Collector, ask
from mom_core.engine.problems import few, few_of_each
from mom_core.engine.restore import forget_gone
from mom_core.engine.review import Claims, Proposal, apply_revisions, review
from mom_core.engine.schedule import Clock, Tick
from mom_core.engine.verdict import CORE, HeldConditions, accepted, own_conditions
from mom_core.ledger import Ledger
from mom_core.model import Condition, Decision, Outcome, Problem, Report, Revision, Severity, ShadowDecisions, Snapshot, Source
from mom_core.plugins.registry import PluginSet


@dataclass(slots=True)
class CycleSteps:
    """The way of the data, with one set of plugins. Run from one thread only.

    :param history: the older snapshots, oldest first; filled by this
    :param conditions: what plugins say is wrong, held from cycle to cycle
    :param on_report: called before the plugins have the report
    :param on_progress: called after each call of plugins
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
    claims: Claims = field(init=False)

    def __post_init__(self) -> None:
        """Nothing is claimed yet."""
        self.claims = Claims([plugin.name for plugin in self.plugins.having("mom_evaluate")])

    def run(self, number: int, tick: Tick, skipped: int, known: Snapshot | None = None) -> Report:
        """Do one cycle and give its report; the plugins' `mom_report` have it too by then.

        :param known: the snapshot, where none is to be taken
        """
        began = self.clock.monotonic()
        snapshot, problems = (known, []) if known is not None else self.collector.snapshot(number, self.clock.wall(), began)
        if not self.stopping.is_set():
            snapshot = self.collector.derived(snapshot, tuple(self.history), problems)
            self.on_progress()
        self._end_entries_of_the_gone(snapshot, problems)
        decisions: list[Decision] = []
        revisions: list[Revision] = []
        outcomes: list[Outcome] = []
        wanted: Sequence[Decision] = ()
        considered: list[ShadowDecisions] = []
        said: dict[str, Sequence[Condition] | None] = {plugin.name: None for plugin in self.plugins.having("mom_act")}
        if not self.stopping.is_set():
            wanted, decisions, revisions = self._decide(snapshot, problems, considered, said)
        if self.stopping.is_set():
            pass
        elif self.enforce:
            outcomes, more = control.apply(snapshot, decisions, self.plugins, self.ledger, self.stopping, self.on_progress)
            problems.extend(more)
            self.on_progress()
        else:
            outcomes = control.observe(snapshot, decisions, self.plugins)
        of_ledger = self._ledger_conditions()
        problems.extend(Problem(Source(CORE), one.message, hint=one.cure) for one in of_ledger)
        problems.extend(self._troubles_with_state())
        plugins = tuple(plugin.worker.report() for plugin in self.plugins.plugins)
        said[CORE] = own_conditions(plugins, self._guests_unknown(problems), of_ledger)
        self.history.append(snapshot)
        report = Report(
            number=number,
            time=snapshot.time,
            mode="enforce" if self.enforce else "observe",
            snapshot=snapshot,
            decisions=tuple(wanted),
            revisions=tuple(revisions),
            outcomes=tuple(outcomes),
            problems=tuple(few_of_each(problems)),
            plugins=plugins,
            duration=self.clock.monotonic() - began,
            lag=tick.lag,
            skipped=skipped,
            woken_by=tick.woken_by,
            considered=tuple(decision for trial in considered for decision in trial.decisions) if considered else None,
            verdict=self.conditions.take(said, self.clock.monotonic(), self.clock.wall()),
        )
        self.on_report(report)
        # What goes wrong now is in the next report, by its plugin's state.
        ask([(one, one.work("mom_report", report=report)) for one in self.plugins.having("mom_report")], "mom_report", [])
        return report

    def _end_entries_of_the_gone(self, snapshot: Snapshot, problems: Sequence[Problem]) -> None:
        owner = self.plugins.hypervisor_owner
        if owner is not None and not self._guests_unknown(problems) and not self.stopping.is_set():
            self.missing = forget_gone(self.ledger, snapshot, self.missing)

    def _guests_unknown(self, problems: Sequence[Problem]) -> Problem | None:
        """The problem that the hypervisor did not list its guests; None when it did, or there is none."""
        owner = self.plugins.hypervisor_owner
        name = None if owner is None else owner.name
        return next((p for p in problems if p.source.name == name and p.message.startswith(GUESTS_UNKNOWN)), None)

    def _decide(
        self, snapshot: Snapshot, problems: list[Problem], considered: list[ShadowDecisions], said: dict[str, Sequence[Condition] | None]
    ) -> tuple[Sequence[Decision], list[Decision], list[Revision]]:
        """The plugins' decisions, those that reviewers leave, and their changes.

        :param considered: takes in what is decided on trial
        :param said: takes in the conditions that plugins say
        """
        plugins = self.plugins
        arguments: dict[str, object] = {"snapshot": snapshot, "history": tuple(self.history)}
        proposals: list[Proposal] = []
        for hook in ("mom_evaluate", "mom_act"):
            for plugin, answer in ask([(one, one.work(hook, **arguments)) for one in plugins.having(hook)], hook, problems):
                if isinstance(answer, Iterable) and not isinstance(answer, Mapping | str):
                    items: list[object] = []
                    conditions: list[Condition] = []
                    told: list[Problem] = []
                    for item in answer:
                        if why := wrong_part(item):
                            problems.append(invalid(plugin.name, hook, why))
                        elif isinstance(item, ShadowDecisions):
                            considered.append(item.signed(plugin.name))
                        elif isinstance(item, Condition) and hook == "mom_act":
                            conditions.append(item)
                        elif isinstance(item, Problem):
                            told.append(item)
                        else:
                            items.append(item.signed(plugin.name) if isinstance(item, Decision) else item)
                    proposals.append(Proposal(plugin.name, [*few(told, plugin.name), *items], acts=hook == "mom_act"))
                    if hook == "mom_act":
                        with contained(plugin.name, hook, problems):
                            said[plugin.name] = accepted(plugin.name, conditions, problems)
                elif answer is not None:
                    problems.append(Problem(Source(plugin.name), f"{hook} must return decisions, not {type(answer).__name__}"))
                elif hook == "mom_act":
                    said[plugin.name] = ()
            self.on_progress()
        rank = {plugin.name: rank for rank, plugin in enumerate(plugins.plugins)}
        proposals.sort(key=lambda proposal: rank[proposal.plugin])
        wanted = tuple(item for proposal in proposals for item in proposal.items if isinstance(item, Decision))
        decisions, revisions, more = review(snapshot, proposals, plugins.declarations, self.claims)
        problems.extend(more)
        for plugin in plugins.having("mom_review"):
            work = plugin.work("mom_review", snapshot=snapshot, decisions=tuple(decisions))
            reviewed = None
            for _, answer in ask([(plugin, work)], "mom_review", problems):
                with contained(plugin.name, "mom_review", problems):
                    given = answer if isinstance(answer, Iterable) else () if answer is None else (answer,)
                    reviewed = apply_revisions(decisions, given, plugin.name, snapshot, plugins.declarations)
            self.on_progress()
            if reviewed is None:
                # A reviewer protects guests: without its word on them, the decisions on its own controls are not applied.
                silent = f"the plugin {plugin.name} could not review it"
                dropped = [decision for decision in decisions if decision.control in plugin.controls]
                revisions.extend(Revision(decision, None, silent, "core") for decision in dropped)
                decisions = [decision for decision in decisions if decision.control not in plugin.controls]
            else:
                decisions, changed, more = reviewed
                revisions.extend(changed)
                problems.extend(more)
        return wanted, decisions, revisions

    def _ledger_conditions(self) -> list[Condition]:
        """The troubles with the core's own memory of what it has changed, for as long as they last."""
        found = (
            (self.ledger.file.damage, "look into the damaged file for what stood there before, and put it back by hand"),
            (self.ledger.file.write_error, f"see that its folder can be written and has room; {SEE_DOCTOR}"),
        )
        return [Condition("ledger", text, cure=cure) for text, cure in found if text]

    def _troubles_with_state(self) -> Iterable[Problem]:
        """The troubles with plugins' files of state, for as long as they last."""
        for plugin in self.plugins.plugins:
            for file in plugin.context.state_files:
                if file.damage:
                    yield Problem(Source(plugin.name), file.damage, severity=Severity.WARNING, hint=file.cure)
                if file.write_error:
                    hint = "free space, or repair the disk; what it should hold lasts until mom ends"
                    yield Problem(Source(plugin.name), file.write_error, severity=Severity.WARNING, hint=hint)
