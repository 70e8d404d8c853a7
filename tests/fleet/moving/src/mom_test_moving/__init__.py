"""A controller that moves guests, for hosts in tests: what a hypervisor can do, and nothing besides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from mom_core import (
    ControlSpec,
    Decision,
    FieldSpec,
    Guest,
    Hypervisor,
    HypervisorError,
    LedgerEntry,
    MigrationControl,
    Outcome,
    PluginContext,
    PluginSettings,
    Scope,
    Status,
    Unit,
    Value,
    hookimpl,
)


class MovingPlugin:
    """Moves guests wherever it is told to."""

    contract = "1.1"

    def __init__(self, settings: PluginSettings, context: PluginContext) -> None:
        pass

    @hookimpl
    def mom_fields(self) -> Iterable[FieldSpec]:
        return [FieldSpec("guest_runs_at", Unit.TEXT, Scope.GUEST, "the URI of its hypervisor")]

    @hookimpl
    def mom_controls(self) -> Iterable[ControlSpec]:
        return [ControlSpec("guest_migrate", Unit.TEXT, Scope.GUEST, "the URI that the guest moves to", "guest_runs_at")]

    @hookimpl
    def mom_collect_guests(self, hypervisor: Hypervisor, guests: Sequence[Guest]) -> Mapping[str, Mapping[str, Value]]:
        return {guest.id: {"guest_runs_at": hypervisor.uri} for guest in guests}

    @hookimpl
    def mom_control(self, hypervisor: Hypervisor, decisions: Sequence[Decision]) -> Iterable[Outcome]:
        for decision in decisions:
            assert isinstance(hypervisor, MigrationControl)
            try:
                hypervisor.migrate(decision.entity, str(decision.value), 60.0)
            except HypervisorError as error:
                yield Outcome(decision, hypervisor.uri, hypervisor.uri, Status.FAILED, str(error))
            else:
                yield Outcome(decision, hypervisor.uri, decision.value, Status.APPLIED)

    @hookimpl
    def mom_restore(self, entries: Sequence[LedgerEntry]) -> Iterable[Outcome]:
        return [Outcome(Decision(entry.entity, entry.control, entry.before), None, None, Status.GONE) for entry in entries]
