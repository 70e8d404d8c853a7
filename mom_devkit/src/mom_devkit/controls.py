"""Functions for tests: set and restore a plugin's controls as the engine does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from mom_core import ControlSpec, Decision, Hypervisor, LedgerEntry, Outcome, Snapshot, Status
from mom_core.engine.judgement import Controller, target_of, without_writing
from mom_core.engine.review import bounded
from mom_core.plugins.registry import hook_manager, register

Kind = TypeVar("Kind")


def apply_decisions(
    plugin: object, decisions: Sequence[Decision], hypervisor: Hypervisor | None = None, snapshot: Snapshot | None = None
) -> list[Outcome]:
    """Apply decisions as the engine does: read, write, and read back.

    Only bounds are checked; there is no ledger and no deadline. The plugin's errors are raised.

    :param snapshot: source of present values of gradual controls; None to read them through the plugin
    """
    controller = _controller(plugin, hypervisor)
    gradual = [] if snapshot is None else [decision for decision in decisions if controller.specs[decision.control].gradual]
    present = controller.read(target_of(decision) for decision in decisions if decision not in gradual)
    for decision in gradual:
        guest = None if snapshot is None else snapshot.guests.get(decision.entity.id)
        present[target_of(decision)] = None if guest is None else guest.fields.get(controller.specs[decision.control].field)
    outcomes = {}
    due = []
    for decision in decisions:
        spec = controller.specs[decision.control]
        value, reason = bounded(decision.value, spec)
        reviewed = replace(decision, value=value)
        outcome = without_writing(spec, reviewed, present[target_of(decision)], None)
        if value is None:
            outcomes[target_of(decision)] = Outcome(decision, None, None, Status.REFUSED, reason)
        elif outcome is None:
            due.append(reviewed)
        else:
            outcomes[target_of(decision)] = outcome
    outcomes |= {target_of(outcome.decision): outcome for outcome in controller.apply(due, present)}
    return [outcomes[target_of(decision)] for decision in decisions]


def put_back(plugin: object, entries: Sequence[LedgerEntry], hypervisor: Hypervisor | None = None) -> list[Outcome]:
    """Restore the original values in these ledger entries."""
    outcomes = {target_of(outcome.decision): outcome for outcome in _controller(plugin, hypervisor).put_back(entries)}
    return [outcomes[target_of(entry)] for entry in entries]


def declared(plugin: object, kind: type[Kind]) -> list[Kind]:
    """Return a plugin's declarations of one kind."""
    specs: Iterable[object] = plugin.mom_declare()  # type: ignore[attr-defined]  # a plugin is any object with hooks
    return [spec for spec in specs if isinstance(spec, kind)]


def _controller(plugin: object, hypervisor: Hypervisor | None) -> Controller:
    specs = {spec.name: spec for spec in declared(plugin, ControlSpec)}
    controller = Controller(specs, register(hook_manager(), plugin, "plugin"))
    return controller if hypervisor is None else replace(controller, hypervisor=hypervisor)
