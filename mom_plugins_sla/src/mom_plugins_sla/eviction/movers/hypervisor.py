"""Built-in mover: the hypervisor migrates the guest, such as from libvirt to libvirt."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final

from mom_kvm import Callers, Destination, MoverAbilities
from mom_plugins_sla.eviction.movers.mover_plugin import DONE, RUNNING, UNKNOWN, failed, why_failed
from mom_plugins_sla.eviction.protocols import MigrationControl, MoveJob, MoveReport

AFTER_SECONDS: Final = 60.0
"""After a restart of mom, a move has failed if the guest is still here this long after the time limit."""


class HypervisorMover:
    """`Mover` on a hypervisor with `MigrationControl`."""

    name = "hypervisor"
    abilities = MoverAbilities(live=True)

    def __init__(self, hypervisor: MigrationControl, monotonic: Callable[[], float]) -> None:
        self.hypervisor, self._monotonic = hypervisor, monotonic
        self._callers = Callers("mom eviction moves")
        self._lock = threading.Lock()
        self._calls: dict[str, Future[None]] = {}
        self._began = monotonic()

    def why_not(self, destination: Destination) -> str:
        """Return why the destination is not a hypervisor's URI; empty if it is."""
        return "" if destination.is_hypervisor else f"the {self.name} moves guests to URIs of hypervisors only, not to {destination}"

    def begin(self, job: MoveJob) -> str:
        """Start the move in another thread. Return an empty reference."""
        with self._lock:
            call = self._callers.start(lambda: self.hypervisor.migrate(job.guest, job.destination, job.seconds))
            self._calls[job.id] = call
        return ""

    def look(self, job: MoveJob) -> MoveReport:
        """Return the state of the move; unknown after a `TimeoutError`."""
        with self._lock:
            call = self._calls.get(job.id)
        if call is None:
            expired = self._monotonic() >= self._began + job.seconds + AFTER_SECONDS
            return failed("mom stopped during the move, and the guest is still here") if expired else UNKNOWN
        if not call.done():
            return RUNNING
        error = call.exception()
        if isinstance(error, TimeoutError):
            return UNKNOWN
        with self._lock:
            self._calls.pop(job.id, None)  # the move is over
        return DONE if error is None else failed(why_failed(error))

    def cancel(self, job: MoveJob) -> None:
        """Do nothing: the hypervisor cancels the move at its time limit."""

    def close(self) -> None:
        """Start no more moves."""
        self._callers.close(0)
