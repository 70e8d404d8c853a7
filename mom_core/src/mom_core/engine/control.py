"""Lets controllers apply what was decided, after what stood there before is safely in the ledger."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, NamedTuple

from mom_core.engine.collect import ask, not_called
from mom_core.engine.judgement import Controller, Found, items, joined, known, same, spoken_of, target_of, without_writing
from mom_core.errors import StateError
from mom_core.ledger import LARGEST_VALUE, Ledger, can_be_kept
from mom_core.model import ControlSpec, Decision, Entity, LedgerEntry, Outcome, Problem, Scope, Snapshot, Source, Status, Target
from mom_core.plugins.registry import Plugin, PluginSet
from mom_core.values import Value

NOT_KEPT: Final = f"none that the ledger can keep (JSON of up to {LARGEST_VALUE >> 10} KiB), so it could not be put back"


def observe(snapshot: Snapshot, decisions: Sequence[Decision], plugins: PluginSet) -> list[Outcome]:
    """The outcomes of decisions that are not applied: nothing is touched."""
    return [
        Outcome(decision, before, before, Status.OBSERVED) for decision in decisions for before in [present(snapshot, decision, plugins)]
    ]


def apply(
    snapshot: Snapshot,
    decisions: Sequence[Decision],
    plugins: PluginSet,
    ledger: Ledger,
    stopping: threading.Event,
    on_progress: Callable[[], None],
) -> tuple[list[Outcome], list[Problem]]:
    """Note what stands there, then let each controller apply its decisions, all controllers at the same time.

    :param on_progress: called between the calls of plugins
    """
    ledger.resolve(lambda entry: present(snapshot, entry, plugins))
    owners = _Owners(decisions, plugins)
    silent = owners.read(decisions)
    on_progress()
    plan = owners.planned(snapshot, decisions, ledger, silent)
    try:
        ledger.record(plan.entries)
    except StateError as error:
        owners.problems.append(Problem(Source("core"), error.message, hint=error.hint))
        refused = [Outcome(one, present(snapshot, one, plugins), None, Status.REFUSED, error.message) for one in plan.due]
        return [*plan.outcomes, *refused], owners.problems
    if stopping.is_set():
        return plan.outcomes, owners.problems
    written = owners.written(plan.due)
    # What another process has set, and still stands, does not become mom's because mom has failed to change it.
    failed = plan.foreign and {target_of(one.decision) for one in written if one.status is Status.FAILED} & plan.foreign
    ledger.settle(_noted(owners.specs[one.decision.control], one, failed) for one in written)
    return [*plan.outcomes, *written], owners.problems


class _Plan(NamedTuple):
    """The fate of decisions: those that are due, the entries of the ledger for them, where another process has set something, and the
    outcomes of the others."""

    due: list[Decision]
    entries: list[LedgerEntry]
    foreign: set[Target]
    outcomes: list[Outcome]


class _Owners:
    """The plugins that apply decisions, with what they have found and what went wrong with them."""

    def __init__(self, decisions: Sequence[Decision], plugins: PluginSet) -> None:
        names = {decision.control for decision in decisions}
        self.by_control = {name: owner for name in names if (owner := plugins.owner(name)) is not None}
        self.specs = {name: owner.controls[name] for name, owner in self.by_control.items()}
        self.controllers = {one.name: Controller(one.controls, one.hooks, plugins.hypervisor) for one in self.by_control.values()}
        self.found: dict[Target, Found] = {}
        self.problems: list[Problem] = []

    def planned(self, snapshot: Snapshot, decisions: Sequence[Decision], ledger: Ledger, silent: Mapping[str, str]) -> _Plan:
        """Sort these decisions by what is found, which takes in what gradual controls stand at."""
        plan, found = _Plan([], [], set(), []), self.found
        ways = {name: (owner.name, self.specs[name]) for name, owner in self.by_control.items()}
        uncalled = {one.name: not_called(one, "mom_write") for one in self.by_control.values() if one.worker.why_not("mom_write")}
        for decision in decisions:
            control, entity, value = decision.control, decision.entity, decision.value
            plugin, spec = ways[control]
            if plugin in silent:
                plan.outcomes.append(Outcome(decision, None, None, Status.FAILED, silent[plugin]))
                continue
            target = Target(entity, control)
            guest = None if entity.scope is Scope.HOST else snapshot.guests.get(entity.id)
            if spec.gradual:  # no plugin was asked for it: it stands at what the snapshot says
                found[target] = _stands(snapshot, entity, spec)
            before = found[target]
            incarnation = ledger.boot if guest is None else guest.incarnation
            noted = ledger.entries.get((entity.id, control))
            if noted is not None and noted.incarnation != incarnation:
                noted = None
            outcome = without_writing(spec, decision, before, noted)
            stands = known(before)
            if outcome is not None:
                plan.outcomes.append(outcome)
                continue
            if noted is None and stands == value:
                plan.outcomes.append(Outcome(decision, value, value, Status.UNCHANGED))
                continue
            if plugin in uncalled:
                # Not noted as attempted: of those, only the last few are known, and what the plugin did set must be among them.
                plan.outcomes.append(Outcome(decision, None, None, Status.FAILED, self._said_of(uncalled[plugin])))
                continue
            if noted is None or noted.applied != value:
                if not can_be_kept(value) or (noted is None and not can_be_kept(stands)):
                    which = "its present value" if can_be_kept(value) else "the new value"
                    plan.outcomes.append(Outcome(decision, None, None, Status.REFUSED, f"{which} is {NOT_KEPT}"))
                    continue
                here = LedgerEntry(entity, control, stands, value, plugin, snapshot.time, incarnation)
                if noted is not None and _was_given_back(spec, noted, stands):
                    here, noted = here._replace(in_doubt=True), None
                plan.entries.append(here if noted is None else _next(spec, noted, value, stands))
            if noted is not None and not noted.explains(stands, spec.tolerance):
                plan.foreign.add(target)
            plan.due.append(decision)
        return plan

    def read(self, decisions: Sequence[Decision]) -> dict[str, str]:
        """Find out the present values where something was decided; the plugins that did not say, with the reason."""
        targets: dict[Plugin, list[Target]] = {}
        for decision in decisions:
            if not self.specs[decision.control].gradual:
                targets.setdefault(self.by_control[decision.control], []).append(target_of(decision))
        works = [(owner, partial(self.controllers[owner.name].read, wanted)) for owner, wanted in targets.items()]
        answers = dict(ask(works, "mom_read", self.problems))
        for answer in answers.values():
            self.found.update(answer)  # type: ignore[call-overload]  # what Controller.read gives
        return {owner.name: self._why_silent(owner.name) for owner in targets if owner not in answers}

    def written(self, due: Sequence[Decision]) -> list[Outcome]:
        """Let the plugins apply their decisions, all at the same time; an outcome for each decision."""
        shares: dict[Plugin, list[Decision]] = {}
        for decision in due:
            shares.setdefault(self.by_control[decision.control], []).append(decision)
        works = [(owner, partial(self.controllers[owner.name].apply, share, self.found)) for owner, share in shares.items()]
        answers = dict(ask(works, "mom_write", self.problems))
        outcomes: list[Outcome] = []
        for owner, share in shares.items():
            answer = answers.get(owner)
            if isinstance(answer, list):
                outcomes += answer
            else:
                silent = self._why_silent(owner.name)
                outcomes += [Outcome(decision, None, None, Status.FAILED, silent) for decision in share]
        return outcomes

    def _said_of(self, problem: Problem) -> str:
        """The words of a problem, which is noted once."""
        if problem not in self.problems:
            self.problems.append(problem)
        return problem.message

    def _why_silent(self, name: str) -> str:
        """Why there is no answer of a plugin, by the last problem with it."""
        said = (problem.message for problem in reversed(self.problems) if problem.source.name == name)
        return next(said, f"the plugin {name} did not say what came of it")


def _was_given_back(spec: ControlSpec, noted: LedgerEntry, stands: Value) -> bool:
    """True if mom itself had set again what stood there before, and another process has set something since: that is what stands before mom
    now."""
    certain = not (spec.key or spec.gradual or noted.attempted or noted.in_doubt or noted.found is not None)
    return certain and noted.applied == noted.before and stands is not None and not noted.explains(stands, spec.tolerance)


def _next(spec: ControlSpec, noted: LedgerEntry, value: Value, stands: Value) -> LedgerEntry:
    """The entry when another value is about to be set.

    A list may speak of other items than the one before it, which stay mom's. Of an item that mom has not set yet, or had set again as it
    stood before, what stands now is what stood there before mom.
    """
    entry = noted.next(value)
    if spec.gradual and _is_near(spec, stands, noted.earlier) and not _is_near(spec, stands, noted.applied):
        # It moved to `applied` and has come back by itself since, as a guest does after a sweep.
        entry = entry._replace(earlier=noted.earlier)
    if not spec.key or spec.absent is not None:
        return entry
    mine = {name for one in (noted.applied, noted.earlier, *noted.attempted) for name in items(spec, one)}
    if not (noted.attempted or noted.in_doubt):
        then, last = items(spec, noted.before), {**items(spec, noted.earlier), **items(spec, noted.applied)}
        back = {name for name, item in then.items() if name in last and same(spec, [item], [last[name]])}
        mine -= {name for name in back if not same(spec, [then[name]], stands)}
    new = [item for name, item in items(spec, spoken_of(spec, value, stands)).items() if name not in mine]
    before = joined(spec, noted.before, new) if new and can_be_kept(new) else noted.before
    # A mom that was cut off may not have set all that it was about to: what it had set before that stands then.
    standing = [item for item in items(spec, noted.earlier).values() if same(spec, [item], stands)]
    return entry._replace(before=before, earlier=joined(spec, joined(spec, noted.earlier, entry.earlier), standing))


def _is_near(spec: ControlSpec, one: Value, other: Value) -> bool:
    return isinstance(one, int | float) and isinstance(other, int | float) and abs(one - other) <= spec.tolerance


def _noted(spec: ControlSpec, outcome: Outcome, foreign: Collection[Target]) -> Outcome:
    """An outcome as the ledger takes it in: without what stands there by another process."""
    if foreign and target_of(outcome.decision) in foreign:
        return replace(outcome, after=None)
    return replace(outcome, after=spoken_of(spec, outcome.decision.value, outcome.after)) if spec.key else outcome


def present(snapshot: Snapshot, about: Decision | LedgerEntry, plugins: PluginSet) -> Value:
    """The present value of the control of a decision or an entry; None when it is unknown."""
    spec = plugins.declarations.controls.get(about.control)
    if spec is None:
        return None
    return _stands(snapshot, about.entity, spec)


def _stands(snapshot: Snapshot, entity: Entity, spec: ControlSpec) -> Value:
    if entity.scope is Scope.HOST:
        return snapshot.host.fields.get(spec.field)
    guest = snapshot.guests.get(entity.id)
    return None if guest is None else guest.fields.get(spec.field)
