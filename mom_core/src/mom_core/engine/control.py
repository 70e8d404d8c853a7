"""Lets controllers apply what was decided, after what stood there before is safely in the ledger."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Final

from mom_core.engine.collect import ask
from mom_core.errors import LedgerError
from mom_core.ledger import Ledger, can_be_kept
from mom_core.model import Decision, LedgerEntry, Outcome, Problem, Scope, Snapshot, Source, Status, Value
from mom_core.plugins.registry import Plugin, PluginSet

NOT_KEPT: Final = "its present value or the new one is none that the ledger can keep, so it could not be put back"


def observe(snapshot: Snapshot, decisions: Sequence[Decision], plugins: PluginSet) -> list[Outcome]:
    """What would have been done: nothing is touched."""
    return [
        Outcome(decision, before, before, Status.OBSERVED) for decision in decisions for before in [present(snapshot, decision, plugins)]
    ]


def apply(
    snapshot: Snapshot,
    decisions: Sequence[Decision],
    plugins: PluginSet,
    ledger: Ledger,
    stopping: threading.Event,
) -> tuple[list[Outcome], list[Problem]]:
    """Note what stands there, then let each controller apply its decisions, all controllers at the same time."""
    ledger.resolve(lambda entry: present(snapshot, entry, plugins))
    outcomes: list[Outcome] = []
    problems: list[Problem] = []
    due: list[Decision] = []
    entries: list[LedgerEntry] = []
    for decision in decisions:
        control, entity = decision.control, decision.entity
        before = present(snapshot, decision, plugins)
        guest = snapshot.guests.get(entity.id)
        incarnation = "" if guest is None else guest.incarnation
        noted = ledger.entries.get((entity.id, control))
        if noted is None or noted.incarnation != incarnation:
            if before is None:
                field = plugins.declarations.controls[control].field
                reason = f"its present value ({field}) is unknown, so it could not be put back"
                outcomes.append(Outcome(decision, None, None, Status.REFUSED, reason))
                continue
            if before == decision.value:
                outcomes.append(Outcome(decision, before, before, Status.UNCHANGED))
                continue
            if not (can_be_kept(before) and can_be_kept(decision.value)):
                outcomes.append(Outcome(decision, None, None, Status.REFUSED, NOT_KEPT))
                continue
            owner = plugins.declarations.control_owners[control]
            entries.append(LedgerEntry(entity, control, before, decision.value, owner, snapshot.time, incarnation))
        elif noted.applied != decision.value:
            if not can_be_kept(decision.value):
                outcomes.append(Outcome(decision, None, None, Status.REFUSED, NOT_KEPT))
                continue
            entries.append(noted.next(decision.value))
        due.append(decision)
    try:
        ledger.record(entries)
    except LedgerError as error:
        problems.append(Problem(Source("core"), error.message, hint=error.hint))
        outcomes.extend(Outcome(decision, present(snapshot, decision, plugins), None, Status.REFUSED, error.message) for decision in due)
        return outcomes, problems
    if stopping.is_set():
        return outcomes, problems
    works: list[tuple[Plugin, tuple[Decision, ...]]] = []
    for plugin in plugins.having("mom_control"):
        share = tuple(decision for decision in due if decision.control in plugin.controls)
        if share:
            works.append((plugin, share))
    hypervisor = plugins.hypervisor
    calls = [(plugin, plugin.work("mom_control", hypervisor=hypervisor, decisions=share)) for plugin, share in works]
    answers = dict_by_name(ask(calls, "mom_control", problems))
    controlled = [
        outcome for plugin, share in works for outcome in match_outcomes(share, answers.get(plugin.name), plugin, "mom_control", problems)
    ]
    ledger.settle(controlled)
    outcomes.extend(controlled)
    return outcomes, problems


def dict_by_name(answers: Iterable[tuple[Plugin, object]]) -> dict[str, object]:
    """Answers by the plugin's name."""
    return {plugin.name: answer for plugin, answer in answers}


def match_outcomes(decisions: Sequence[Decision], answer: object, plugin: Plugin, hook: str, problems: list[Problem]) -> list[Outcome]:
    """One outcome for each decision: the controller's, or that it gave none."""
    given: dict[tuple[str, str], Outcome] = {}
    if answer is not None and not isinstance(answer, Iterable):
        problems.append(Problem(Source(plugin.name), f"{hook} must return outcomes, not {type(answer).__name__}"))
    elif answer is not None:
        for item in answer:
            if isinstance(item, Outcome) and isinstance(item.decision, Decision):
                given[item.decision.entity.id, item.decision.control] = item
            else:
                problems.append(Problem(Source(plugin.name), f"{hook} returned a {type(item).__name__} where an Outcome belongs"))
    silent = f"the plugin {plugin.name} did not say what came of it"
    if answer is None:
        silent = next((problem.message for problem in reversed(problems) if problem.source.name == plugin.name), silent)
    outcomes = []
    for decision in decisions:
        outcome = given.pop((decision.entity.id, decision.control), None)
        outcomes.append(outcome or Outcome(decision, None, None, Status.FAILED, silent))
    stray = f"{hook} reports on a decision that it was not given"
    problems.extend(Problem(Source(plugin.name), stray, outcome.decision.entity) for outcome in given.values())
    return outcomes


def present(snapshot: Snapshot, about: Decision | LedgerEntry, plugins: PluginSet) -> Value:
    """What the control of a decision or an entry stands at now; None when that is unknown."""
    spec = plugins.declarations.controls.get(about.control)
    if spec is None:
        return None
    if about.entity.scope is Scope.HOST:
        return snapshot.host.fields.get(spec.field)
    guest = snapshot.guests.get(about.entity.id)
    return None if guest is None else guest.fields.get(spec.field)
