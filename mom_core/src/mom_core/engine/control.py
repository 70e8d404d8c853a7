"""Lets controllers apply what was decided, after what stood there before is safely in the ledger."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from mom_core.engine.collect import ask
from mom_core.engine.judgement import Controller, Found, items, joined, known, spoken_of, target_of, without_writing
from mom_core.errors import StateError
from mom_core.ledger import Ledger, can_be_kept
from mom_core.model import (
    ControlSpec,
    Decision,
    Entity,
    InTransition,
    LedgerEntry,
    Outcome,
    Problem,
    Scope,
    Snapshot,
    Source,
    Status,
    Target,
    Value,
)
from mom_core.plugins.registry import Plugin, PluginSet

NOT_KEPT: Final = "its present value or the new one is none that the ledger can keep, so it could not be put back"

_UNREAD: Final = InTransition(None)
"""What no plugin was asked for: a gradual control stands at what the snapshot says."""


def observe(snapshot: Snapshot, decisions: Sequence[Decision], plugins: PluginSet) -> list[Outcome]:
    """What would have been done: nothing is touched."""
    return [
        Outcome(decision, before, before, Status.OBSERVED) for decision in decisions for before in [present(snapshot, decision, plugins)]
    ]


def apply(
    snapshot: Snapshot, decisions: Sequence[Decision], plugins: PluginSet, ledger: Ledger, stopping: threading.Event
) -> tuple[list[Outcome], list[Problem]]:
    """Note what stands there, then let each controller apply its decisions, all controllers at the same time."""
    ledger.resolve(lambda entry: present(snapshot, entry, plugins))
    outcomes: list[Outcome] = []
    problems: list[Problem] = []
    due: list[Decision] = []
    entries: list[LedgerEntry] = []
    owners = {name: owner for name in {decision.control for decision in decisions} if (owner := plugins.owner(name)) is not None}
    controllers = {owner.name: Controller.of(owner, plugins.hypervisor) for owner in owners.values()}
    ways = {name: (owner.name, owner.controls[name]) for name, owner in owners.items()}
    foreign: set[Target] = set()
    found, silent = _read(decisions, owners, controllers, problems)
    noted_before = ledger.entries
    for decision in decisions:
        control, entity = decision.control, decision.entity
        plugin, spec = ways[control]
        if plugin in silent:
            outcomes.append(Outcome(decision, None, None, Status.FAILED, silent[plugin]))
            continue
        target = Target(entity, control)
        guest = snapshot.guests.get(entity.id)
        before = found.get(target, _UNREAD)
        if before is _UNREAD:
            before = found[target] = _stands(snapshot, entity, spec)
        incarnation = "" if guest is None else guest.incarnation
        noted = noted_before.get((entity.id, control))
        if noted is not None and noted.incarnation != incarnation:
            noted = None
        outcome = without_writing(spec, decision, before, noted)
        if outcome is not None:
            outcomes.append(outcome)
            continue
        stands, value = known(before), decision.value
        if noted is None and stands == value:
            outcomes.append(Outcome(decision, value, value, Status.UNCHANGED))
            continue
        if noted is None or noted.applied != value:
            if not can_be_kept(value) or (noted is None and not can_be_kept(stands)):
                outcomes.append(Outcome(decision, None, None, Status.REFUSED, NOT_KEPT))
                continue
            here = (entity, control, stands, value, plugin, snapshot.time, incarnation)
            entries.append(LedgerEntry(*here) if noted is None else _next(spec, noted, value, stands))
        if noted is not None and not noted.explains(stands, spec.tolerance):
            foreign.add(target)
        due.append(decision)
    try:
        ledger.record(entries)
    except StateError as error:
        problems.append(Problem(Source("core"), error.message, hint=error.hint))
        outcomes.extend(Outcome(decision, present(snapshot, decision, plugins), None, Status.REFUSED, error.message) for decision in due)
        return outcomes, problems
    if stopping.is_set():
        return outcomes, problems
    controlled = _written(due, owners, controllers, found, problems)
    # What another process has set, and still stands, does not become mom's because mom has failed to change it.
    failed = foreign and {target_of(one.decision) for one in controlled if one.status is Status.FAILED} & foreign
    if failed or any(spec.key for _, spec in ways.values()):
        ledger.settle(_noted(ways[one.decision.control][1], one, failed) for one in controlled)
    else:
        ledger.settle(controlled)
    outcomes.extend(controlled)
    return outcomes, problems


def _next(spec: ControlSpec, noted: LedgerEntry, value: Value, stands: Value) -> LedgerEntry:
    """The entry when another value is about to be set.

    A list may speak of other items than the one before it, which stay mom's. Of an item that mom has not set yet, what stands now is what
    stood there before mom.
    """
    entry = noted.next(value)
    if spec.gradual and _is_near(spec, stands, noted.earlier) and not _is_near(spec, stands, noted.applied):
        # It moved to `applied` and has come back by itself since, as a guest does after a sweep.
        entry = entry._replace(earlier=noted.earlier)
    if not spec.key or spec.absent is not None:
        return entry
    mine = {name for one in (noted.applied, noted.earlier, *noted.attempted) for name in items(spec, one)}
    new = [item for name, item in items(spec, spoken_of(spec, value, stands)).items() if name not in mine]
    before = joined(spec, noted.before, new) if new and can_be_kept(new) else noted.before
    return entry._replace(before=before, earlier=joined(spec, noted.earlier, entry.earlier))


def _is_near(spec: ControlSpec, one: Value, other: Value) -> bool:
    return isinstance(one, int | float) and isinstance(other, int | float) and abs(one - other) <= spec.tolerance


def _noted(spec: ControlSpec, outcome: Outcome, foreign: Collection[Target]) -> Outcome:
    """An outcome as the ledger takes it in: without what stands there by another process."""
    if foreign and target_of(outcome.decision) in foreign:
        return replace(outcome, after=None)
    return replace(outcome, after=spoken_of(spec, outcome.decision.value, outcome.after)) if spec.key else outcome


def _read(
    decisions: Sequence[Decision], owners: Mapping[str, Plugin], controllers: Mapping[str, Controller], problems: list[Problem]
) -> tuple[dict[Target, Found], dict[str, str]]:
    """What stands now where something was decided; and the plugins that did not say, with the reason."""
    targets: dict[str, list[Target]] = {}
    for decision in decisions:
        owner = owners[decision.control]
        if owner.name in controllers and not owner.controls[decision.control].gradual:
            targets.setdefault(owner.name, []).append(target_of(decision))
    by_name = {owner.name: owner for owner in owners.values() if owner.name in controllers and owner.name in targets}
    works = [(owner, partial(controllers[name].read, targets[name])) for name, owner in by_name.items()]
    found: dict[Target, Found] = {}
    answers = ask(works, "mom_read", problems)
    for _, answer in answers:
        found.update(answer)  # type: ignore[call-overload]  # what Controller.read gives
    answered = {plugin.name for plugin, _ in answers}
    return found, {name: _why_silent(name, problems) for name in by_name if name not in answered}


def _written(
    due: Sequence[Decision],
    owners: Mapping[str, Plugin],
    controllers: Mapping[str, Controller],
    found: Mapping[Target, Found],
    problems: list[Problem],
) -> list[Outcome]:
    """Let the plugins apply their decisions, all at the same time; an outcome for each decision."""
    shares: dict[str, list[Decision]] = {}
    for decision in due:
        shares.setdefault(owners[decision.control].name, []).append(decision)
    by_name = {owner.name: owner for owner in owners.values()}
    works = [(by_name[name], partial(controllers[name].apply, share, found)) for name, share in shares.items()]
    answers: dict[str, object] = {plugin.name: answer for plugin, answer in ask(works, "mom_write", problems)}
    outcomes: list[Outcome] = []
    for name, share in shares.items():
        answer = answers.get(name)
        if isinstance(answer, list):
            outcomes += answer
        else:
            silent = _why_silent(name, problems)
            outcomes += [Outcome(decision, None, None, Status.FAILED, silent) for decision in share]
    return outcomes


def _why_silent(name: str, problems: Sequence[Problem]) -> str:
    """Why there is no answer of a plugin, by the last problem with it."""
    said = (problem.message for problem in reversed(problems) if problem.source.name == name)
    return next(said, f"the plugin {name} did not say what came of it")


def present(snapshot: Snapshot, about: Decision | LedgerEntry, plugins: PluginSet) -> Value:
    """What the control of a decision or an entry stands at now; None when that is unknown."""
    spec = plugins.declarations.controls.get(about.control)
    if spec is None:
        return None
    return _stands(snapshot, about.entity, spec)


def _stands(snapshot: Snapshot, entity: Entity, spec: ControlSpec) -> Value:
    if entity.scope is Scope.HOST:
        return snapshot.host.fields.get(spec.field)
    guest = snapshot.guests.get(entity.id)
    return None if guest is None else guest.fields.get(spec.field)
