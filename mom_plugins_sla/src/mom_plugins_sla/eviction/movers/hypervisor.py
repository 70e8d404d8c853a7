"""mom's own mover: the hypervisor here moves a guest to another one, such as libvirt to libvirt."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final

from mom_kvm import Callers, Destination, MigrationControl, MoveJob, MoverAbilities, MoveReport
from mom_plugins_sla.eviction.movers.reports import DONE, RUNNING, UNKNOWN, failed, why_failed

AFTER_SECONDS: Final = 60.0
"""A move that an earlier mom began ends with its connection. So long after its time, counted anew, a guest that is still here has not
moved."""


class HypervisorMover:
    """`Mover` on a hypervisor that has `MigrationControl`. Its name is no URI: that may be too long for a file of state."""

    name = "hypervisor"
    abilities = MoverAbilities(live=True)

    def __init__(self, hypervisor: MigrationControl, monotonic: Callable[[], float]) -> None:
        self.hypervisor, self._monotonic = hypervisor, monotonic
        self._callers = Callers("mom eviction moves")
        self._lock = threading.Lock()
        self._calls: dict[str, Future[None]] = {}
        self._began = monotonic()

    def why_not(self, destination: Destination) -> str:
        """It moves to other hypervisors, and has no names of its own for hosts."""
        return "" if destination.is_hypervisor else f"the {self.name} here moves guests to URIs of hypervisors only, not to {destination}"

    def begin(self, job: MoveJob) -> str:
        """In a thread of its own: the hypervisor's call returns when the guest has moved, or has been given up."""
        with self._lock:
            call = self._callers.start(lambda: self.hypervisor.migrate(job.guest, job.destination, job.seconds))
            self._calls[job.id] = call
        return ""

    def look(self, job: MoveJob) -> MoveReport:
        """By the call: with `TimeoutError`, the hypervisor has not answered. One that an earlier mom made is not known here, and was given
        up when that one ended."""
        with self._lock:
            call = self._calls.get(job.id)
        if call is None:
            is_over = self._monotonic() >= self._began + job.seconds + AFTER_SECONDS
            return failed("mom ended while it was under way, and the guest is still here") if is_over else UNKNOWN
        if not call.done():
            return RUNNING
        error = call.exception()
        if isinstance(error, TimeoutError):
            return UNKNOWN
        with self._lock:
            self._calls.pop(job.id, None)  # it is over, and is not asked for again
        return DONE if error is None else failed(why_failed(error))

    def cancel(self, job: MoveJob) -> None:
        """The hypervisor gives it up by itself when its time is over."""

    def close(self) -> None:
        """Begin nothing more."""
        self._callers.close(0)
