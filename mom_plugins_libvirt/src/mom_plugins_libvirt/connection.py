"""One connection to libvirtd that lasts: opened when it is needed, given up when libvirtd is silent, opened again with back-off."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from mom_core import GuestBusy, HypervisorError, format_duration
from mom_plugins_libvirt.api import Domain, LibvirtConnection, Record, binding
from mom_plugins_libvirt.calls import Call, Callers, Closed, Late
from mom_plugins_libvirt.event_loop import EventLoop
from mom_plugins_libvirt.failures import INVALID_ARGUMENT, OPERATION_INVALID, cure_for, error_numbers, translated

T = TypeVar("T")

_FIRST_RETRY_SECONDS = 1.0
_LAST_RETRY_SECONDS = 15.0
"""Back-off between attempts to connect: doubled from the first to the last. The last is about what a restart of libvirtd takes."""

_KEEPALIVE_COUNT = 3
"""Keepalive messages that may go unanswered before the connection is given up."""

_MOST_LATE_CALLS = 4
"""libvirtd works on five calls of a connection at a time (max_client_requests). With so many that do not come back, a new one is opened."""

_CLOSE_SECONDS = 0.15
"""How long a connection may take to close; the operator waits for mom to end."""


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """Where libvirtd is and how long to wait for it: `call_timeout` seconds for a call, `keepalive` between signs of life."""

    uri: str = "qemu:///system"
    readonly: bool = False
    call_timeout: float = 2.0
    keepalive: float = 5.0


def is_local(uri: str) -> bool:
    """Whether the guests behind this libvirt URI run on this host, so that their processes are in its /proc."""
    try:
        return not urlsplit(uri).netloc
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class _Live:
    """An open connection, with the event callbacks that hold on to it."""

    connection: LibvirtConnection
    callbacks: Sequence[int]

    def let_go(self) -> None:
        """Close it; what is registered must be taken back first, or the connection stays open."""
        for callback in self.callbacks:
            with suppress(Exception):  # it is given up, whatever it says
                self.connection.domainEventDeregisterAny(callback)
        with suppress(Exception):  # as above
            self.connection.close()


EventHandler = Callable[[str, Domain, Sequence[int]], None]
"""Called from libvirt's event thread with the kind of event (`lifecycle` or `device`), the guest, and the event's numbers."""


class Connection:
    """A connection to one libvirtd, for several threads.

    Every method comes back within the call timeout, with as much again where it has to connect first, and where a bulk call is repeated.

    :param module: libvirt's Python binding, or what stands in for it
    """

    def __init__(
        self,
        settings: ConnectionSettings,
        log: logging.Logger,
        module: Any = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.opened = 0
        """How often the connection was opened: a larger number means that events may have been missed."""
        self.on_event: EventHandler | None = None
        """Told of guests' events, in libvirt's thread, so it must not call libvirt. To be set before the connection is first used."""
        self._log = log
        self._module = module
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._callers = Callers("libvirt")
        self._loop: EventLoop | None = None
        self._live: _Live | None = None
        self._opening: Call[_Live] | None = None
        self._late: list[Call[object]] = []
        self._retry_at = 0.0
        self._retry_after = _FIRST_RETRY_SECONDS
        self._why = ""
        self._closed = False
        self._nowait: bool | None = None
        """Whether this driver knows the flag not to wait for busy guests; None before the first answer."""

    @property
    def module(self) -> Any:
        """libvirt's Python binding. Raises `HypervisorError` where it is missing."""
        if self._module is None:
            try:
                self._module = binding()
            except ImportError as error:
                raise HypervisorError(f"libvirt's Python binding cannot be loaded: {error}", hint="pip install libvirt-python") from error
        return self._module

    def start(self) -> None:
        """Start the event loop. Connects nowhere yet."""
        self._loop = EventLoop(self.module)
        self._loop.start()

    def close(self) -> None:
        """Let the connection go and end all threads, in well under half a second. Threads that are stuck in a call are left behind."""
        self._closed = True
        held = self._lock.acquire(timeout=_CLOSE_SECONDS / 4)  # not held longer: somebody may be waiting for libvirtd with it
        live, self._live = self._live, None
        if held:
            self._lock.release()
        if live is not None:
            with suppress(Late):
                self._callers.run(live.let_go, _CLOSE_SECONDS)
        if self._loop is not None:
            self._loop.stop(_CLOSE_SECONDS)
        self._callers.close(_CLOSE_SECONDS / 4)

    def statistics(self, groups: int, domains: Sequence[Domain] | None = None) -> Sequence[tuple[Domain, Record]]:
        """The statistics of all active guests, or of these, in one call that does not wait for guests that are busy.

        A guest whose QEMU process hangs holds up the first call that reaches it. libvirt then knows it as busy, so the second attempt gets
        the others' statistics, and what is known of that one without asking it.
        """
        doing = f"reading the guests from {self.settings.uri}"
        with suppress(GuestBusy):
            return self._ask_all(groups, domains, doing)
        try:
            return self._ask_all(groups, domains, doing)
        except GuestBusy as error:
            raise HypervisorError(error.message, hint="is libvirtd well?") from error

    def call(
        self, doing: str, function: Callable[[], T], domain: Domain | None = None, late: Callable[[Call[object]], None] | None = None
    ) -> T:
        """What `function` returns, which makes one call on a domain of this connection.

        Raises `GuestBusy` when it does not come back in time; it may still take effect, and `late` is given the call that is under way.
        Raises another `HypervisorError` for each error of libvirt.
        """
        return self._run(self._connect(), function, doing, domain, late)

    def _ask_all(self, groups: int, domains: Sequence[Domain] | None, doing: str) -> Sequence[tuple[Domain, Record]]:
        live = self._connect()
        return self._run(live, lambda: self._bulk(live, groups, domains), doing)

    def _bulk(self, live: _Live, groups: int, domains: Sequence[Domain] | None) -> Sequence[tuple[Domain, Record]]:
        module = self.module
        active = 0 if domains is not None else module.VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE
        nowait = 0 if self._nowait is False else module.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
        try:
            answer = self._ask(live.connection, groups, domains, active | nowait)
        except module.libvirtError as error:
            if self._nowait is not None or error_numbers(error)[0] != INVALID_ARGUMENT:
                raise
            self._nowait = False  # a driver that does not know the flag, as none of its calls wait for guests
            return self._ask(live.connection, groups, domains, active)
        self._nowait = nowait != 0
        return answer

    def _ask(self, live: LibvirtConnection, groups: int, domains: Sequence[Domain] | None, flags: int) -> Sequence[tuple[Domain, Record]]:
        if domains is None:
            return live.getAllDomainStats(groups, flags)
        return live.domainListGetStats(domains, groups, flags) if domains else ()

    def _run(
        self,
        live: _Live,
        function: Callable[[], T],
        doing: str,
        domain: Domain | None = None,
        late: Callable[[Call[object]], None] | None = None,
    ) -> T:
        timeout = self.settings.call_timeout
        try:
            return self._callers.run(function, timeout)
        except Late as error:
            with self._lock:
                self._late.append(error.call)
            if late is not None:
                late(error.call)
            raise GuestBusy(f"{doing}: no answer within {format_duration(timeout)}") from error
        except self.module.libvirtError as error:
            if not live.connection.isAlive():
                self._lost(live, str(error))
                raise HypervisorError(f"{doing}: the connection to libvirt is lost: {error}") from error
            raise translated(error, doing, running=self._still_runs(domain, error)) from error
        except Closed as error:
            raise HypervisorError(f"{doing}: the connection to libvirt is closed") from error

    def _still_runs(self, domain: Domain | None, error: Exception) -> bool | None:
        """Asked only where the answer decides what an error means."""
        if domain is None or error_numbers(error)[0] != OPERATION_INVALID:
            return None
        try:
            return bool(self._callers.run(domain.isActive, self.settings.call_timeout))
        except Late:
            return None
        except self.module.libvirtError:
            return False

    def _connect(self) -> _Live:
        """The live connection, opened if there is none and it is time to try."""
        with self._lock:
            if self._closed:
                raise HypervisorError(f"the connection to {self.settings.uri} is closed")
            self._late = [call for call in self._late if not call.done]
            live = self._live
            if live is not None and not live.connection.isAlive():
                self._drop("libvirtd does not answer any more")
            elif live is not None and len(self._late) >= _MOST_LATE_CALLS:
                self._drop(f"{len(self._late)} calls have not come back")
                self._retry_at = 0.0
            if self._live is None:
                self._live = self._opened()
            return self._live

    def _lost(self, live: _Live, why: str) -> None:
        with self._lock:
            if self._live is live:
                self._drop(why)

    def _drop(self, why: str) -> None:
        """Forget the connection; the lock is held."""
        live, self._live = self._live, None
        self._late = []
        self._why = why
        self._log.warning("the connection to %s is given up: %s", self.settings.uri, why)
        if live is not None:
            self._callers.start(live.let_go)

    def _opened(self) -> _Live:
        """A new connection; the lock is held. Raises `HypervisorError`, also while it is not yet time to try again."""
        uri = self.settings.uri
        if self._opening is None:
            wait = self._retry_at - self._monotonic()
            if wait > 0:
                raise HypervisorError(f"{uri} cannot be reached: {self._why}", hint=f"next attempt in {wait:.0f}s")
            self._opening = self._callers.start(self._open)
        if not self._opening.wait(self.settings.call_timeout):
            raise HypervisorError(f"{uri} cannot be reached: libvirtd does not answer", hint="mom goes on waiting for it")
        opening, self._opening = self._opening, None
        try:
            live = opening.result()
        except self.module.libvirtError as error:
            self._why = str(error)
            self._retry_at = self._monotonic() + self._retry_after
            self._retry_after = min(self._retry_after * 2, _LAST_RETRY_SECONDS)
            raise translated(error, f"{uri} cannot be reached", hint=cure_for(*error_numbers(error))) from error
        self._retry_after = _FIRST_RETRY_SECONDS
        self._nowait = None
        self.opened += 1
        self._log.info("connected to %s", uri)
        return live

    def _open(self) -> _Live:
        """In a thread of its own, as each of these calls may hang."""
        module, settings = self.module, self.settings
        connection: LibvirtConnection = (module.openReadOnly if settings.readonly else module.open)(settings.uri)
        if settings.keepalive:
            with suppress(module.libvirtError):  # drivers inside this process have none and need none
                connection.setKeepAlive(max(1, round(settings.keepalive)), _KEEPALIVE_COUNT)
        callbacks = []
        if self.on_event is not None:
            for kind, number in (
                ("lifecycle", module.VIR_DOMAIN_EVENT_ID_LIFECYCLE),
                ("device", module.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED),
            ):
                with suppress(module.libvirtError):  # without events mom notices in the next cycle
                    callbacks.append(connection.domainEventRegisterAny(None, number, self._told, kind))
        live = _Live(connection, callbacks)
        if self._closed:
            live.let_go()
        return live

    def _told(self, connection: object, domain: Domain, *numbers_and_kind: Any) -> None:
        """libvirt's event callback: the event's numbers (or an alias), then what was given at registration."""
        *numbers, kind = numbers_and_kind
        if self.on_event is None:
            return
        try:
            self.on_event(kind, domain, [number for number in numbers if isinstance(number, int)])
        except Exception:  # noqa: BLE001  # containment: nobody is above this in libvirt's thread
            self._log.exception("an event of a guest could not be used")
