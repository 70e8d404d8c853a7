"""Has the engine set a plugin's controls and put them back, without an engine: for tests of one plugin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mom_core.engine.judgement import Controller, target_of, without_writing
from mom_core.engine.review import bounded
from mom_core.hypervisor import Hypervisor
from mom_core.model import Change, Decision, LedgerEntry, Outcome, Status, Target
from mom_core.plugins.registry import NoHypervisor, check_hooks


def apply_decisions(plugin: object, decisions: Sequence[Decision], hypervisor: Hypervisor | None = None) -> list[Outcome]:
    """What the engine makes of these decisions: reads, writes through the plugin, and reads again. One outcome for each, in their order.

    There is no review but that of the bounds, no ledger and no deadline; what the plugin raises is raised here.
    """
    controller = _controller(plugin, hypervisor)
    found = controller.read(map(target_of, decisions))
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
    """What the engine makes of these entries of the ledger when mom ends: one outcome for each, in their order."""
    outcomes = {target_of(outcome.decision): outcome for outcome in _controller(plugin, hypervisor).put_back(entries)}
    return [outcomes[target_of(entry)] for entry in entries]


def _controller(plugin: object, hypervisor: Hypervisor | None) -> Controller:
    hooks = check_hooks(type(plugin), plugin, "plugin")
    used = hypervisor or NoHypervisor()

    def read(targets: Sequence[Target]) -> object:
        return hooks["mom_read"]({"hypervisor": used, "targets": targets})

    def write(changes: Sequence[Change]) -> object:
        return hooks["mom_write"]({"hypervisor": used, "changes": changes})

    specs = hooks["mom_controls"]({})
    return Controller({spec.name: spec for spec in specs}, used, read, write)  # type: ignore[attr-defined]  # checked when it is registered
