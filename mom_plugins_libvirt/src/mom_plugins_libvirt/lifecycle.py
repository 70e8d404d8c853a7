"""Stopping guests and letting them go on, and moving them to another libvirt: calls that may take minutes.

A connection carries one call at a time, so the long ones have connections of their own, as few as there are of them at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any

from mom_core import Entity, GuestBusy, GuestGone, HypervisorError, NotSupported
from mom_kvm import Callers, Destination, GuestState
from mom_plugins_libvirt.api import Domain
from mom_plugins_libvirt.changes import OrderedDomain
from mom_plugins_libvirt.domains import SILENT, Domains
from mom_plugins_libvirt.failures import translated
from mom_plugins_libvirt.spare_connections import SpareConnections
from mom_plugins_libvirt.states import PAUSED
from mom_plugins_libvirt.uri import without_questions

_GIVE_UP_SECONDS = 5.0
"""How long libvirt may take to give a job up that has taken too long: it then lets the guest run on."""

_AGAIN_SECONDS = 0.5
"""Between two attempts to tell libvirt that a job is given up."""

_REACH_SECONDS = 10.0
"""How long another host's libvirt may take to let mom in."""


class _Unanswered(GuestBusy):
    """The call has not come back, though its time is over: it may still take effect."""

    def __init__(self, message: str, call: Future[Any]) -> None:
        super().__init__(message)
        self.call = call


class LongJobs(SpareConnections):
    """Calls on guests that take long. A migration that is under way at the end is given up by libvirt: the guest stays."""

    most = 4
    """Saving and moving are bound by the disk and the network: more at once make each slower."""

    def do(self, doing: str, guest: Entity, timeout_seconds: float, function: Callable[[Domain], object], number: Hashable = None) -> None:
        """Make the call. Raises `GuestBusy` when it took too long, and the call's own errors.

        :param number: as for `Connection.call`; None: it is for a guest that does not run, and cannot be given up
        """
        given_up, over = threading.Event(), threading.Event()
        left: list[Future[Any]] = []
        timer = threading.Timer(timeout_seconds, self._give_up, (doing, guest, number, given_up, over))
        timer.daemon = True
        # The call itself is ended by giving the job up; its connection waits a little longer for the end.
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
                raise GuestBusy(f"{doing}: it took longer than {timeout_seconds:g} s and was given up") from error
            raise
        finally:
            over.set()
            timer.cancel()

    def _give_up(self, doing: str, guest: Entity, number: Hashable, given_up: threading.Event, over: threading.Event) -> None:
        """Give the job up, in the timer's thread: repeat while the connection is busy."""
        given_up.set()  # before it is: the job may be over before libvirt has answered here
        late: list[Future[Any]] = []
        while not over.is_set():
            try:
                self._main.call(f"giving up {doing}", guest.id, lambda domain: domain.abortJob(), late.append, number)
            except HypervisorError as error:  # perhaps because it has just ended
                self._main.log.info("%s", error)
            else:
                return
            if late:  # it is under way, and does not come back; more of them would only hold up libvirtd
                return
            over.wait(_AGAIN_SECONDS)

    def reach(self, destination: Destination, doing: str) -> Any:
        """Return a connection to the other libvirt. Raises `HypervisorError`."""
        module, uri = self._main.module, without_questions(destination.uri)
        call = self._main.callers.start(lambda: module.open(uri))
        if not Callers.came_back(call, _REACH_SECONDS):
            raise HypervisorError(f"{doing}: it does not answer within {_REACH_SECONDS:.0f} s")
        try:
            return call.result()
        except module.libvirtError as error:
            raise translated(error, doing) from error

    def part_from(self, reached: Any, after: Future[Any] | None) -> None:
        """Close a connection to another libvirt, in a thread, as that may hang.

        :param after: a call that uses it still: libvirt's client would crash without it, and the guest be lost there. None: there is none
        """
        if after is None:
            self._main.callers.start(lambda: _closed(reached))
        else:
            after.add_done_callback(lambda _: self.part_from(reached, None))


class GuestLifecycle:
    """Pausing, saving, starting and moving guests: `LifecycleControl` and `MigrationControl`.

    Raises the errors of the hypervisor's other calls; `GuestGone` for a guest that was restarted since the last look.
    """

    def __init__(self, domains: Domains) -> None:
        self._domains = domains
        self._jobs = LongJobs(domains.connection)

    def close(self) -> Sequence[threading.Thread]:
        """Begin to close the connections of long jobs, in these threads."""
        return self._jobs.close()

    def standings(self, guests: Sequence[Entity]) -> Mapping[str, GuestState]:
        """Return how these guests are, by one call for each. A guest with an open call raises `GuestBusy`."""
        standings: dict[str, GuestState] = {}
        for guest in guests:
            if self._domains.has_open_call(guest.id):
                raise GuestBusy(f"looking at {guest}: {SILENT}")
            with suppress(GuestGone):
                standings[guest.id] = self._domains.connection.call(
                    f"looking at {guest}", guest.id, _standing, partial(self._domains.note_open_call, guest.id)
                )
        return standings

    def pause(self, guest: Entity) -> None:
        """Let its CPUs stand still."""
        self._order(guest, f"pausing {guest}", lambda domain: domain.suspend())

    def resume(self, guest: Entity) -> None:
        """Let them go on. One that libvirt has paused for another reason, such as a disk that is full, goes on too, if it can."""
        self._order(guest, f"resuming {guest}", lambda domain: domain.resume())

    def shut_down(self, guest: Entity) -> None:
        """Ask its system, by its agent or its power button. Raises `NotSupported` for one that libvirt would forget then."""
        doing = f"shutting {guest} down"
        self._order(guest, doing, lambda domain: _only_persistent(domain, doing).shutdown())

    def save(self, guest: Entity, timeout_seconds: float) -> None:
        """Have libvirt keep its memory in a file, from which it goes on when it is started. Raises as `shut_down` does."""
        doing, number = f"saving {guest}", self._domains.start_of(guest)
        self._jobs.do(doing, guest, timeout_seconds, lambda domain: _only_persistent(domain, doing).managedSave(0), number)

    def start(self, guest: Entity, timeout_seconds: float) -> None:
        """Start it, or let it go on where it was saved."""
        self._domains.check_writable()
        self._jobs.do(f"starting {guest}", guest, timeout_seconds, lambda domain: domain.create())

    def _order(self, guest: Entity, doing: str, function: Callable[[Domain], object]) -> None:
        """Make a short call, unless the guest has not answered the last one yet."""
        entry = self._domains.ready(guest)
        self._domains.ask(entry, doing, function, entry.start)

    def migrate(self, guest: Entity, destination: Destination, timeout_seconds: float) -> None:
        """Move it. mom itself goes to the other libvirt, not the one here (no peer-to-peer): as mom's user, with its keys. Where
        mom-libvirt-helper changes guests, it goes there as root, if root has declared the destination.

        Raises `TimeoutError` when libvirt has not said how it ended, though it was given up: the guest may be moving still.
        """
        doing, number = f"moving {guest} to {destination.uri}", self._domains.start_of(guest)
        self._domains.connection.call(doing, guest.id, lambda domain: None, number=number)  # for one that is gone, no other is asked
        module = self._domains.connection.module
        reached = None if self._domains.connection.by_helper else self._jobs.reach(destination, doing)
        flags = module.VIR_MIGRATE_LIVE | module.VIR_MIGRATE_ABORT_ON_ERROR
        parameters = {module.VIR_MIGRATE_PARAM_URI: destination.way} if destination.way else {}

        def move(domain: Domain) -> object:
            if isinstance(domain, OrderedDomain):
                return domain.migrate(destination)
            # A guest that is defined here is defined there then, and not here any more: it must not be started twice.
            persistent = module.VIR_MIGRATE_PERSIST_DEST | module.VIR_MIGRATE_UNDEFINE_SOURCE if domain.isPersistent() else 0
            return domain.migrate3(reached, parameters, flags | persistent)

        left: Future[Any] | None = None
        try:
            self._jobs.do(doing, guest, timeout_seconds, move, number)
        except _Unanswered as error:  # no HypervisorError, as those say that the guest is still here
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
        raise NotSupported(f"{doing}: libvirt forgets such a guest when it ends: it is not defined", hint="virsh define it")
    return domain


def _closed(connection: Any) -> None:
    with suppress(Exception):  # it is not needed any more, whatever it says
        connection.close()
