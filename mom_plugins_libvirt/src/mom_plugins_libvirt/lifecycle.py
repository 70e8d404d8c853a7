"""States of guests, and changes of states: pause, shut down, save, start, migrate."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any

from mom_core import Entity, GuestBusy, GuestGone, HypervisorError, NotSupported, PluginContext
from mom_kvm import Callers, Destination, GuestState
from mom_plugins_libvirt.agents import SpareConnections
from mom_plugins_libvirt.api import Domain
from mom_plugins_libvirt.changes import OrderedDomain
from mom_plugins_libvirt.connection import Connection
from mom_plugins_libvirt.domain_entry import PAUSED
from mom_plugins_libvirt.domains import SILENT, Domains, SamplingSettings
from mom_plugins_libvirt.failures import translated
from mom_plugins_libvirt.uri import without_questions

_GIVE_UP_SECONDS = 5.0
"""Time within which libvirt must abort a job."""

_AGAIN_SECONDS = 0.5
"""Pause between attempts to abort a job."""

_REACH_SECONDS = 10.0
"""Timeout for connecting to another host's libvirt."""


class _Unanswered(GuestBusy):
    def __init__(self, message: str, call: Future[Any]) -> None:
        super().__init__(message)
        self.call = call


class LongJobs(SpareConnections):
    """Long calls on guests. When mom exits, libvirt aborts a running migration."""

    most = 4

    def do(self, doing: str, guest: Entity, timeout_seconds: float, function: Callable[[Domain], object], number: Hashable = None) -> None:
        """Make a long call on the guest. After the timeout, abort libvirt's job and raise `GuestBusy`.

        :param number: libvirt's domain ID; None to abort nothing
        """
        given_up, over = threading.Event(), threading.Event()
        left: list[Future[Any]] = []
        timer = threading.Timer(timeout_seconds, self._give_up, (doing, guest, number, given_up, over))
        timer.daemon = True
        # Aborting the job ends the call, so its connection waits a little longer.
        patience = timeout_seconds + 2 * _GIVE_UP_SECONDS
        try:
            with self.borrowed(doing, min(1.0, timeout_seconds), patience) as connection:
                if number is not None:
                    timer.start()
                connection.call(doing, guest.id, function, left.append, number)
        except HypervisorError as error:
            if left:
                raise _Unanswered(error.message, left[0]) from error
            if given_up.is_set():
                raise GuestBusy(f"{doing}: not finished within {timeout_seconds:g} s; mom aborted it") from error
            raise
        finally:
            over.set()
            timer.cancel()

    def _give_up(self, doing: str, guest: Entity, number: Hashable, given_up: threading.Event, over: threading.Event) -> None:
        given_up.set()  # set first: the job may end before libvirt answers
        late: list[Future[Any]] = []
        while not over.is_set():
            try:
                self._main.call(f"aborting {doing}", guest.id, lambda domain: domain.abortJob(), late.append, number)
            except HypervisorError as error:  # the job may have just ended
                self._main.log.info("%s", error)
            else:
                return
            if late:  # the abort has hung; more calls would only block libvirtd
                return
            over.wait(_AGAIN_SECONDS)

    def reach(self, destination: Destination, doing: str) -> Any:
        """Connect to the destination's libvirt; return the connection. Raise `HypervisorError` on failure."""
        module, uri = self._main.module, without_questions(destination.uri)
        call = self._main.callers.start(lambda: module.open(uri))
        if not Callers.came_back(call, _REACH_SECONDS):
            raise HypervisorError(f"{doing}: the destination did not answer within {_REACH_SECONDS:.0f} s")
        try:
            return call.result()
        except module.libvirtError as error:
            raise translated(error, doing) from error

    def part_from(self, reached: Any, after: Future[Any] | None) -> None:
        """Close a connection to a destination in a thread, because closing may hang.

        :param after: call that still uses the connection. Closing earlier would crash libvirt's client and lose the guest
        """
        if after is None:
            self._main.callers.start(lambda: _closed(reached))
        else:
            after.add_done_callback(lambda _: self.part_from(reached, None))


class GuestLifecycle(Domains):
    """Implementation of `LifecycleControl` and `MigrationControl`."""

    def __init__(self, connection: Connection, settings: SamplingSettings, context: PluginContext) -> None:
        super().__init__(connection, settings, context)
        self._jobs = LongJobs(connection)

    def standings(self, guests: Sequence[Entity]) -> Mapping[str, GuestState]:
        """Return the guests' states, keyed by ID. mom makes one call for each guest."""
        standings: dict[str, GuestState] = {}
        for guest in guests:
            if self.has_open_call(guest.id):
                raise GuestBusy(f"reading the state of {guest}: {SILENT}")
            with suppress(GuestGone):
                standings[guest.id] = self.connection.call(
                    f"reading the state of {guest}", guest.id, _standing, partial(self.note_open_call, guest.id)
                )
        return standings

    def pause(self, guest: Entity) -> None:
        """Stop the guest's vCPUs."""
        self._order(guest, f"pausing {guest}", lambda domain: domain.suspend())

    def resume(self, guest: Entity) -> None:
        """Continue the guest's vCPUs, even if libvirt itself paused them."""
        self._order(guest, f"resuming {guest}", lambda domain: domain.resume())

    def shut_down(self, guest: Entity) -> None:
        """Shut the guest down by agent or power button. Raise `NotSupported` for a transient guest."""
        doing = f"shutting {guest} down"
        self._order(guest, doing, lambda domain: _only_persistent(domain, doing).shutdown())

    def save(self, guest: Entity, timeout_seconds: float) -> None:
        """Save the guest's memory to a file, and stop the guest. Raise `NotSupported` for a transient guest."""
        doing, number = f"saving {guest}", self.start_of(guest)
        self._jobs.do(doing, guest, timeout_seconds, lambda domain: _only_persistent(domain, doing).managedSave(0), number)

    def start(self, guest: Entity, timeout_seconds: float) -> None:
        """Start the guest. A saved guest continues from its saved memory."""
        self.check_writable()
        self._jobs.do(f"starting {guest}", guest, timeout_seconds, lambda domain: domain.create())

    def _order(self, guest: Entity, doing: str, function: Callable[[Domain], object]) -> None:
        entry = self.ready(guest)
        self.ask(entry, doing, function, entry.start)

    def migrate(self, guest: Entity, destination: Destination, timeout_seconds: float) -> None:
        """Migrate the guest as mom's user. With mom-libvirt-helper, migrate as root, but only to destinations that root declared."""
        doing, number = f"moving {guest} to {destination.uri}", self.start_of(guest)
        self.connection.call(doing, guest.id, lambda domain: None, number=number)  # raises `GuestGone` before connecting
        module = self.connection.module
        reached = None if self.connection.by_helper else self._jobs.reach(destination, doing)
        flags = module.VIR_MIGRATE_LIVE | module.VIR_MIGRATE_ABORT_ON_ERROR
        parameters = {module.VIR_MIGRATE_PARAM_URI: destination.way} if destination.way else {}

        def move(domain: Domain) -> object:
            if isinstance(domain, OrderedDomain):
                return domain.migrate(destination)
            # Define a persistent guest on the destination, and no longer here: nobody must start it twice.
            persistent = module.VIR_MIGRATE_PERSIST_DEST | module.VIR_MIGRATE_UNDEFINE_SOURCE if domain.isPersistent() else 0
            return domain.migrate3(reached, parameters, flags | persistent)

        left: Future[Any] | None = None
        try:
            self._jobs.do(doing, guest, timeout_seconds, move, number)
        except _Unanswered as error:  # TimeoutError, because HypervisorError means that the guest is still here
            left = error.call
            raise TimeoutError(error.message) from error
        finally:
            if reached is not None:
                self._jobs.part_from(reached, left)


def _standing(domain: Domain) -> GuestState:
    if domain.isActive():
        return GuestState.PAUSED if domain.state()[0] == PAUSED else GuestState.RUNNING
    return GuestState.SAVED if domain.hasManagedSaveImage() else GuestState.OFF


def _only_persistent(domain: Domain, doing: str) -> Domain:
    if not domain.isPersistent():
        raise NotSupported(
            f"{doing}: the guest is transient: once stopped, libvirt cannot start it again",
            hint="make the guest persistent: virsh define FILE",
        )
    return domain


def _closed(connection: Any) -> None:
    with suppress(Exception):  # no longer needed
        connection.close()
