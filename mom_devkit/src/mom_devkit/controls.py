"""Has the engine set a plugin's controls and put them back, without an engine: for tests of one plugin."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from mom_core import ControlSpec, Decision, Hypervisor, LedgerEntry, Outcome, Snapshot, Status
from mom_core.engine.judgement import Controller, target_of, without_writing
from mom_core.engine.review import bounded
from mom_core.plugins.registry import HookManager, register

Kind = TypeVar("Kind")


def apply_decisions(
    plugin: object, decisions: Sequence[Decision], hypervisor: Hypervisor | None = None, snapshot: Snapshot | None = None
) -> list[Outcome]:
    """Apply these decisions as the engine does: read, write through the plugin, and read again. One outcome for each, in their order.

    There is no review but that of the bounds, no ledger and no deadline; what the plugin raises is raised here.

    :param snapshot: from which it is taken what gradual controls stand at, as the engine does; without one, they are read, too
    """
    controller = _controller(plugin, hypervisor)
    gradual = [] if snapshot is None else [one for one in decisions if controller.specs[one.control].gradual]
    found = controller.read(target_of(one) for one in decisions if one not in gradual)
    for one in gradual:
        guest = None if snapshot is None else snapshot.guests.get(one.entity.id)
        found[target_of(one)] = None if guest is None else guest.fields.get(controller.specs[one.control].field)
    outcomes = {}
    due = []
    for decision in decisions:
        spec = controller.specs[decision.control]
        value, reason = bounded(decision.value, spec)
        wanted = replace(decision, value=value)
        outcome = without_writing(spec, wanted, found[target_of(decision)], None)
        if value is None:
            outcomes[target_of(decision)] = Outcome(decision, None, None, Status.REFUSED, reason)
        elif outcome is None:
            due.append(wanted)
        else:
            outcomes[target_of(decision)] = outcome
    outcomes |= {target_of(outcome.decision): outcome for outcome in controller.apply(due, found)}
    return [outcomes[target_of(decision)] for decision in decisions]


def put_back(plugin: object, entries: Sequence[LedgerEntry], hypervisor: Hypervisor | None = None) -> list[Outcome]:
    """The outcomes that the engine makes of these entries of the ledger when mom ends: one outcome for each, in their order."""
    outcomes = {target_of(outcome.decision): outcome for outcome in _controller(plugin, hypervisor).put_back(entries)}
    return [outcomes[target_of(entry)] for entry in entries]


def declared(plugin: object, kind: type[Kind]) -> list[Kind]:
    """The declarations of a plugin of one kind: `FieldSpec`, `ControlSpec`, `DefaultPolicy` or `GuestColumn`."""
    specs: Iterable[object] = plugin.mom_declare()  # type: ignore[attr-defined]  # a plugin is any object with hooks
    return [one for one in specs if isinstance(one, kind)]


def _controller(plugin: object, hypervisor: Hypervisor | None) -> Controller:
    specs = {spec.name: spec for spec in declared(plugin, ControlSpec)}
    controller = Controller(specs, register(HookManager(), plugin, "plugin"))
    return controller if hypervisor is None else replace(controller, hypervisor=hypervisor)
