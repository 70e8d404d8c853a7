"""Applies decisions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, NamedTuple

from mom_core.engine.collect import ask, not_called
from mom_core.engine.judgement import Controller, Found, items, joined, known, named_items, same, target_of, without_writing
from mom_core.errors import StateError
from mom_core.ledger import LARGEST_VALUE, Ledger, can_be_kept
from mom_core.model import ControlSpec, Decision, Entity, LedgerEntry, Outcome, Problem, Scope, Snapshot, Source, Status, Target
from mom_core.plugins.registry import Plugin, PluginSet
from mom_core.values import Value

NOT_KEPT: Final = f"not JSON of at most {LARGEST_VALUE >> 10} KiB: the ledger cannot save the value, so mom could not restore it"


def observe(snapshot: Snapshot, decisions: Sequence[Decision], plugins: PluginSet) -> list[Outcome]:
    """Return an outcome for each decision, but change nothing."""
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
    """Save the original values in the ledger, then let the plugins write in parallel."""
    ledger.resolve(lambda entry: present(snapshot, entry, plugins))
    owners = _Owners(decisions, plugins)
    silent = owners.read(decisions)
    on_progress()
    plan = owners.plan(snapshot, decisions, ledger, silent)
    try:
        ledger.record(plan.entries)
    except StateError as error:
        owners.problems.append(Problem(Source("core"), error.message, hint=error.hint))
        refused = [Outcome(decision, present(snapshot, decision, plugins), None, Status.REFUSED, error.message) for decision in plan.due]
        return [*plan.outcomes, *refused], owners.problems
    if stopping.is_set():
        return plan.outcomes, owners.problems
    written = owners.write(plan.due)
    # If mom's write failed, the value still belongs to the other process that set it.
    failed = plan.foreign and {target_of(outcome.decision) for outcome in written if outcome.status is Status.FAILED} & plan.foreign
    ledger.settle(_noted(owners.specs[outcome.decision.control], outcome, failed) for outcome in written)
    return [*plan.outcomes, *written], owners.problems


class _Plan(NamedTuple):
    due: list[Decision]
    entries: list[LedgerEntry]
    foreign: set[Target]
    outcomes: list[Outcome]


class _Owners:
    def __init__(self, decisions: Sequence[Decision], plugins: PluginSet) -> None:
        names = {decision.control for decision in decisions}
        self.by_control = {name: owner for name in names if (owner := plugins.owner(name)) is not None}
        self.specs = {name: owner.controls[name] for name, owner in self.by_control.items()}
        owners = self.by_control.values()
        self.controllers = {owner.name: Controller(owner.controls, owner.hooks, plugins.hypervisor) for owner in owners}
        self.found: dict[Target, Found] = {}
        self.problems: list[Problem] = []

    def plan(self, snapshot: Snapshot, decisions: Sequence[Decision], ledger: Ledger, silent: Mapping[str, str]) -> _Plan:
        plan = _Plan([], [], set(), [])
        owners = self.by_control.values()
        uncalled = {owner.name: not_called(owner, "mom_write") for owner in owners if owner.worker.why_not("mom_write")}
        for decision in decisions:
            control, entity, value = decision.control, decision.entity, decision.value
            plugin, spec, target = self.by_control[control].name, self.specs[control], Target(entity, control)
            if spec.gradual:
                self.found[target] = _stands(snapshot, entity, spec)
            guest = None if entity.scope is Scope.HOST else snapshot.guests.get(entity.id)
            incarnation = ledger.boot if guest is None else guest.incarnation
            noted = ledger.entries.get((entity.id, control))
            if noted is not None and noted.incarnation != incarnation:
                noted = None
            outcome = (
                _failed(decision, silent[plugin]) if plugin in silent else self._unwritten(decision, target, noted, uncalled.get(plugin))
            )
            if outcome is not None:
                plan.outcomes.append(outcome)
                continue
            current = known(self.found[target])
            if noted is None or noted.applied != value:
                here = LedgerEntry(entity, control, current, value, plugin, snapshot.time, incarnation)
                if noted is not None and _was_given_back(spec, noted, current):
                    here, noted = here._replace(in_doubt=True), None
                plan.entries.append(here if noted is None else _next(spec, noted, value, current))
            if noted is not None and not noted.explains(current, spec.tolerance):
                plan.foreign.add(target)
            plan.due.append(decision)
        return plan

    def _unwritten(self, decision: Decision, target: Target, noted: LedgerEntry | None, uncalled: Problem | None) -> Outcome | None:
        found, value = self.found[target], decision.value
        outcome = without_writing(self.specs[decision.control], decision, found, noted)
        if outcome is not None:
            return outcome
        current = known(found)
        if noted is None and current == value:
            return Outcome(decision, value, value, Status.UNCHANGED)
        if uncalled is not None:
            # Note no attempt: the ledger keeps only a few, and must not lose values that the plugin did set.
            return _failed(decision, self._message_of(uncalled))
        if noted is not None and noted.applied == value:
            return None
        if not can_be_kept(value):
            return Outcome(decision, None, None, Status.REFUSED, f"the new value is {NOT_KEPT}")
        if noted is None and not can_be_kept(current):
            return Outcome(decision, None, None, Status.REFUSED, f"its present value is {NOT_KEPT}")
        return None

    def read(self, decisions: Sequence[Decision]) -> dict[str, str]:
        targets: dict[Plugin, list[Target]] = {}
        for decision in decisions:
            if not self.specs[decision.control].gradual:
                targets.setdefault(self.by_control[decision.control], []).append(target_of(decision))
        works = [(owner, partial(self.controllers[owner.name].read, targets_read)) for owner, targets_read in targets.items()]
        answers = dict(ask(works, "mom_read", self.problems))
        for answer in answers.values():
            self.found.update(answer)
        return {owner.name: self._why_silent(owner.name) for owner in targets if owner not in answers}

    def write(self, due: Sequence[Decision]) -> list[Outcome]:
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
                outcomes += [_failed(decision, silent) for decision in share]
        return outcomes

    def _message_of(self, problem: Problem) -> str:
        if problem not in self.problems:
            self.problems.append(problem)
        return problem.message

    def _why_silent(self, name: str) -> str:
        messages = (problem.message for problem in reversed(self.problems) if problem.source.name == name)
        return next(messages, f"the {name} plugin did not report the result")


def _failed(decision: Decision, reason: str) -> Outcome:
    return Outcome(decision, None, None, Status.FAILED, reason)


def _was_given_back(spec: ControlSpec, noted: LedgerEntry, current: Value) -> bool:
    certain = not (spec.key or spec.gradual or noted.attempted or noted.in_doubt or noted.found is not None)
    return certain and noted.applied == noted.before and current is not None and not noted.explains(current, spec.tolerance)


def _next(spec: ControlSpec, noted: LedgerEntry, value: Value, stands: Value) -> LedgerEntry:
    # mom still owns items that it has set and now omits. For an item that mom has not set, or has restored, the present value is the
    # original.
    entry = noted.next(value)
    if spec.gradual and _is_near(spec, stands, noted.earlier) and not _is_near(spec, stands, noted.applied):
        # The control reached `applied` and returned by itself, as a balloon does after a sweep.
        entry = entry._replace(earlier=noted.earlier)
    if not spec.key:
        return entry
    mine = {name for values in (noted.applied, noted.earlier, *noted.attempted) for name in items(spec, values)}
    if not (noted.attempted or noted.in_doubt):
        then, last = items(spec, noted.before), {**items(spec, noted.earlier), **items(spec, noted.applied)}
        back = {name for name, item in then.items() if name in last and same(spec, [item], [last[name]])}
        mine -= {name for name in back if not same(spec, [then[name]], stands)}
    new = [item for name, item in items(spec, named_items(spec, value, stands)).items() if name not in mine]
    before = joined(spec, noted.before, new) if new and can_be_kept(new) else noted.before
    # If mom was interrupted, some items may still have their earlier values.
    standing = [item for item in items(spec, noted.earlier).values() if same(spec, [item], stands)]
    return entry._replace(before=before, earlier=joined(spec, joined(spec, noted.earlier, entry.earlier), standing))


def _is_near(spec: ControlSpec, first: Value, second: Value) -> bool:
    return isinstance(first, int | float) and isinstance(second, int | float) and abs(first - second) <= spec.tolerance


def _noted(spec: ControlSpec, outcome: Outcome, foreign: Collection[Target]) -> Outcome:
    # Do not record a value that another process set.
    if foreign and target_of(outcome.decision) in foreign:
        return replace(outcome, after=None)
    return replace(outcome, after=named_items(spec, outcome.decision.value, outcome.after)) if spec.key else outcome


def present(snapshot: Snapshot, about: Decision | LedgerEntry, plugins: PluginSet) -> Value:
    """Return the present value of a control; None if unknown."""
    spec = plugins.declarations.controls.get(about.control)
    if spec is None:
        return None
    return _stands(snapshot, about.entity, spec)


def _stands(snapshot: Snapshot, entity: Entity, spec: ControlSpec) -> Value:
    if entity.scope is Scope.HOST:
        return snapshot.host.fields.get(spec.field)
    guest = snapshot.guests.get(entity.id)
    return None if guest is None else guest.fields.get(spec.field)
