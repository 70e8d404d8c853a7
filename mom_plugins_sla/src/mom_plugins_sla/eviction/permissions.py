"""Permissions for steps and moves, and the hypervisor as a mover, such as from libvirt to libvirt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Final

from mom_core import Guest, Hypervisor, MomError, PluginContext, Scope, Value, printable
from mom_kvm import Callers, Destination, MoverAbilities
from mom_plugins_sla.eviction.jobs import MOVED
from mom_plugins_sla.eviction.movers.mover import DONE, RUNNING, UNKNOWN, MigrationControl, MoveJob, Mover, MoveReport, failed, why_failed
from mom_plugins_sla.eviction.settings import EVICTED, EVICTION_ERROR, EvictionSettings
from mom_plugins_sla.eviction.steps import TERMS, EvictionField, Step

AFTER_SECONDS: Final = 60.0
"""After a restart of mom, a move has failed if the guest is still here this long after the time limit."""


class HypervisorMover:
    """`Mover` on a hypervisor with `MigrationControl`."""

    name = "hypervisor"
    abilities = MoverAbilities(live=True)

    def __init__(self, hypervisor: MigrationControl, monotonic: Callable[[], float]) -> None:
        self.hypervisor, self._monotonic = hypervisor, monotonic
        self._callers = Callers("mom eviction moves")
        self._calls: dict[str, Future[None]] = {}
        self._began = monotonic()

    def why_not(self, destination: Destination) -> str:
        """Return why the destination is not a hypervisor's URI; empty if it is."""
        return "" if destination.is_hypervisor else f"the {self.name} moves guests to URIs of hypervisors only, not to {destination}"

    def begin(self, job: MoveJob) -> str:
        """Start the move in another thread. Return an empty reference."""
        self._calls[job.id] = self._callers.start(lambda: self.hypervisor.migrate(job.guest, job.destination, job.seconds))
        return ""

    def look(self, job: MoveJob) -> MoveReport:
        """Return the state of the move; unknown after a `TimeoutError`."""
        call = self._calls.get(job.id)
        if call is None:
            expired = self._monotonic() >= self._began + job.seconds + AFTER_SECONDS
            return failed("mom stopped during the move, and the guest is still here") if expired else UNKNOWN
        if not call.done():
            return RUNNING
        error = call.exception()
        if isinstance(error, TimeoutError):
            return UNKNOWN
        self._calls.pop(job.id, None)  # the move is over
        return DONE if error is None else failed(why_failed(error))

    def cancel(self, job: MoveJob) -> None:
        """Do nothing: the hypervisor cancels the move at its time limit."""

    def close(self) -> None:
        """Start no more moves."""
        self._callers.close(0)


class Permissions:
    """Permissions of guests, and this host's movers. Implements `GuestMoves`."""

    control = Step.MIGRATE.control

    def __init__(self, settings: EvictionSettings, context: PluginContext) -> None:
        self._settings = settings
        self._context = context
        self.hypervisor: Hypervisor | None = None
        self._own: HypervisorMover | None = None

    def close(self) -> None:
        """Start no more moves."""
        if self._own is not None:
            self._own.close()

    # --- classes ---------------------------------------------------------------------------------------------------------------

    def why_forbidden(self, step: Step, guest: Guest, drains: bool) -> str:
        """Return why the guest's class forbids a step, or an empty string."""
        field = TERMS[step].allowed_by
        allowed = guest.fields.get(field)
        if allowed is None and not (drains and self._settings.move_unclassed):
            return f"the guest has no class that allows this step ({field})"
        if allowed is None:
            answers = EvictionField.ANSWERS
            silent = (Scope.GUEST, answers) in self._context.declarations.fields and answers not in guest.fields
            return "the guest's class is unknown now: the plugin that assigns classes has not answered" if silent else ""
        name = printable(str(guest.fields.get(EvictionField.CLASS)), 40)
        return "" if allowed == 1 else f"the guest's class {name} does not allow this step ({field})"

    # --- movers ----------------------------------------------------------------------------------------------------------------

    def movers(self) -> Sequence[Mover]:
        """Return plugins' movers in YAML order, then mom's own mover."""
        hypervisor = self.hypervisor
        if hypervisor is not None and isinstance(hypervisor, MigrationControl):
            self._own = self._own or HypervisorMover(hypervisor, self._context.monotonic)
            self._own.hypervisor = hypervisor
        return [*self._context.services(Mover), *([] if self._own is None else [self._own])]

    def mover_to(self, destination: Destination) -> Mover | str:
        """Return the first mover for a destination, or why there is none."""
        movers, reasons = self.movers(), []
        for mover in movers:
            reasons.append(mover.why_not(destination))
            if not reasons[-1]:
                return mover
        if movers:
            return "; ".join(reasons)
        return "no plugin on this host moves guests" if self.hypervisor is None else f"{self.hypervisor.uri} cannot move guests"

    def why_not_there(self, guest: Guest, value: Value | Destination, drains: bool) -> str:
        """Return why the guest must not move to `value`, or an empty string."""
        try:
            destination = Destination.parse(value)
        except MomError as error:
            return error.message
        if not drains and destination != self._settings.destination:
            return "guests move only to `destination` in the settings, or to the destination that a fleet's operator orders"
        mover = self.mover_to(destination)
        return mover if isinstance(mover, str) else _why_not_by(mover, guest)

    # --- GuestMoves ------------------------------------------------------------------------------------------------------------

    def mover(self) -> tuple[str, MoverAbilities] | None:
        """Return the first mover's name and abilities."""
        return next(((mover.name, mover.abilities) for mover in self.movers()), None)

    def why_must_stay(self, guest: Guest) -> str:
        """Return why the guest must not move now, or an empty string."""
        return guest.why_blocked(Step.MIGRATE.control) or self.why_forbidden(Step.MIGRATE, guest, drains=True)

    def why_stays(self, guest: Guest) -> str:
        """Return why a drain cannot move the guest anywhere, or an empty string."""
        if why := self.why_must_stay(guest):
            return why
        mover = next(iter(self.movers()), None)
        return "no plugin on the host moves guests" if mover is None else _why_not_by(mover, guest)

    def is_moving(self, guest: Guest) -> bool | None:
        """Return whether the guest is moving; None if unknown."""
        activity = guest.text(EVICTED)
        return None if activity is None else MOVED in activity

    def why_failed(self, guest: Guest) -> str:
        """Return why the guest's last move failed; empty if it did not."""
        return guest.text(EVICTION_ERROR) or ""


def _why_not_by(mover: Mover, guest: Guest) -> str:
    # Stopping the guest requires permission to save it.
    if mover.abilities.live is True or guest.fields.get(EvictionField.MAY_SAVE) == 1:
        return ""
    return f"the mover {mover.name} may stop the guest during the move, which the guest's class does not allow ({EvictionField.MAY_SAVE})"
