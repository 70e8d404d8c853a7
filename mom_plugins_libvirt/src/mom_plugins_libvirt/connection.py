"""Connection to one libvirtd. mom opens it on demand, abandons it when a call hangs, and reopens it with back-off.

The connection makes one call at a time, without keepalive. In libvirt's client before 10.3, a second thread or keepalive can corrupt
memory (CVE-2024-4418).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence, Set
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from mom_core import GuestBusy, GuestGone, HypervisorError
from mom_kvm import Callers, CallPatience, StatisticsRecord
from mom_plugins_libvirt.api import OPERATION_INVALID, Domain, cure_for, error_numbers, translated, without_questions
from mom_plugins_libvirt.changes import OrderRefused, opened
from mom_plugins_libvirt.events import LIFECYCLE, STARTED, EventLoop, GuestEvent
from mom_plugins_libvirt.open_connection import BulkStatistics, GuestRecord, OpenConnection, is_running, register_events

T = TypeVar("T")

_FIRST_RETRY_SECONDS = 0.25
"""Pause after the first failed attempt to connect. Each further pause is twice as long."""

_OPEN_SECONDS = 30.0
"""Timeout of an attempt to connect."""

_FIRST_ATTEMPT, _SECOND_ATTEMPT, _LAST_ATTEMPT = 1.0, 1.6, 2.0
"""When a bulk call's attempts end, as multiples of the call timeout."""

_HOOK_POLL_SECONDS = 0.1

_NO_ANSWER_CURE = "find out why libvirtd has hung (journalctl -u libvirtd), or restart it: guests continue to run"

_CLOSE_SECONDS = 0.15
"""Timeout for closing the connection, and for stopping the event loop."""


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """URI of libvirtd, and timeouts in seconds."""

    uri: str = "qemu:///system"
    readonly: bool = False
    call_timeout: float = 2.0
    way: Callable[[], AbstractContextManager[str]] | None = None
    """Returns a context manager that yields the URI for one attempt to connect, or raises `HypervisorError`. None to use `uri`."""
    longest_retry: float = 15.0
    most_open_calls: int = 10
    """How many calls may hang before mom makes no more."""
    most_opening: int = 3
    """How many attempts to connect may hang at the same time."""
    most_events: int | None = None
    """Maximum number of events between two bulk calls. After more events, mom abandons the connection. None for no limit."""
    lost_level: int = logging.WARNING
    """Log level for an abandoned connection."""


class Connection:
    """Connection to one libvirtd. Thread-safe.

    :param blocked_in_start_hook: returns the IDs of guests whose start a hook delays
    :param callers: threads shared with other connections; `close` does not stop them
    :param patience: timeout of calls about one guest, shared with other connections
    """

    def __init__(
        self,
        settings: ConnectionSettings,
        log: logging.Logger,
        module: Any,
        monotonic: Callable[[], float] = time.monotonic,
        blocked_in_start_hook: Callable[[], Set[str]] = frozenset,
        callers: Callers | None = None,
        patience: CallPatience | None = None,
    ) -> None:
        self.settings = settings
        self.why_no_changes = self.cure_of_no_changes = ""
        """Why neither mom nor its helper can change guests, and the cure; both empty if one can."""
        self.by_helper = False
        self.opened = 0
        self.on_event: Callable[[GuestEvent], None] | None = None
        """Called for each event, in libvirt's thread. The function must not call libvirt. Set it before using the connection."""
        self.on_open: Callable[[], None] | None = None
        """Called each time the connection is opened. Like `on_event`, it must not call libvirt."""
        self._too_many = f"libvirtd has not answered {settings.most_open_calls} earlier calls"
        self.log = log
        self.module = module
        self._monotonic = monotonic
        self._bulk = BulkStatistics(module, blocked_in_start_hook)
        self._changed = threading.Condition()
        self.callers = callers or Callers("libvirt-call")
        self._own_callers = self.callers if callers is None else None
        self._patience = patience or CallPatience(monotonic)
        self._own_loop: EventLoop | None = None
        self._live: OpenConnection | None = None
        self._opening_since: float | None = None
        self._opening = 0
        self._open_calls: list[Future[Any]] = []
        """Timed-out calls that may still run."""
        self._open_fallback: Future[Any] | None = None
        """Last timed-out call in which `statistics` read only `fallback`."""
        self._refusal: HypervisorError | None = None
        self._retry_at = 0.0
        self._retry_after = _FIRST_RETRY_SECONDS
        self._closed = False

    def start(self) -> None:
        """Start an event loop, unless another connection has started one."""
        self._own_loop = EventLoop(self.module)
        self._own_loop.start()

    def reach(self) -> None:
        """Start to connect if the pause after a failure is over. Do not wait for the result."""
        with self._changed, suppress(HypervisorError):
            if self._live is None and not self._closed:
                self._begin_to_open()

    def close(self) -> None:
        """Close the connection, and stop its threads within half a second. Threads that hang continue."""
        with self._changed:
            self._closed = True
            live, self._live = self._live, None
            idle = live is not None and not live.busy
            if live is not None:
                live.given_up = True
            self._changed.notify_all()
        if live is not None and idle:
            Callers.came_back(self.callers.start(live.close), _CLOSE_SECONDS)
        if self._own_loop is not None:
            self._own_loop.stop(_CLOSE_SECONDS)
        if self._own_callers is not None:
            self._own_callers.close(_CLOSE_SECONDS / 3)

    def of(self, guests: Set[str]) -> Mapping[str, StatisticsRecord]:
        """Return the guests' balloon statistics, keyed by UUID."""
        records = self.statistics(self.module.VIR_DOMAIN_STATS_BALLOON, guests) if guests else ()
        return {record.uuid: record.record for record in records}

    def statistics(self, groups: int, uuids: Collection[str] | None = None, fallback: int = 0) -> Sequence[GuestRecord]:
        """Return the statistics of the guests in `uuids`, or of all active guests if None, within two call timeouts.

        `groups` holds VIR_DOMAIN_STATS flags. The last attempt reads only those in `fallback`, which need no answer from QEMU.
        """
        # A QEMU that has hung blocks the first attempt, but not the second.
        doing = f"reading the guests from {self.settings.uri}"
        timeout, began = self.settings.call_timeout if uuids is None else self._wait(), self._monotonic()
        attempts = [(groups, _FIRST_ATTEMPT), (groups, _SECOND_ATTEMPT if fallback else _LAST_ATTEMPT)]
        if self._too_many_open():
            attempts = []
        if fallback and (self._open_fallback is None or self._open_fallback.done()):
            attempts.append((fallback, _LAST_ATTEMPT))
        busy = GuestBusy(f"{doing}: {self._too_many}")
        for attempted, end in attempts:
            late = self._fallback_is_late if attempted == fallback else None
            try:
                ask = partial(self._bulk.read, groups=attempted, uuids=uuids)
                return self._made(ask, doing, began + end * timeout, late, single=uuids is not None)
            except GuestBusy as error:
                busy = error
        raise HypervisorError(busy.message, hint="if libvirtd is only slow, increase call_timeout of the libvirt plugin") from busy

    def call(
        self,
        doing: str,
        uuid: str,
        function: Callable[[Domain], T],
        late: Callable[[Future[Any]], None] | None = None,
        number: Hashable = None,
    ) -> T:
        """Call `function` with the guest's domain, within one call timeout.

        Raise `HypervisorError` on failure. After `GuestBusy`, the call may still take effect. `late` then receives the call's future.

        :param number: libvirt's domain ID, which is new at each start. If the ID has changed, the method raises `GuestGone`
        """

        def ask(live: OpenConnection) -> T:
            domain = live.changeable(uuid, number)
            if number is not None and live.connection.lookupByUUIDString(uuid).ID() != number:
                raise GuestGone(f"{doing}: the guest has stopped, or was started again")
            try:
                return function(domain)
            except (self.module.libvirtError, OrderRefused) as error:
                if error_numbers(error)[0] != OPERATION_INVALID or not live.connection.isAlive():
                    raise
                raise translated(error, doing, running=is_running(self.module, domain)) from error

        if self._too_many_open():
            raise GuestBusy(f"{doing}: {self._too_many}")
        return self._made(ask, doing, self._monotonic() + self._wait(), late)

    def _fallback_is_late(self, call: Future[Any]) -> None:
        self._open_fallback = call

    # --- one call ----------------------------------------------------------------------------------------------------------------

    def _made(
        self,
        ask: Callable[[OpenConnection], T],
        doing: str,
        end: float,
        late: Callable[[Future[Any]], None] | None = None,
        *,
        single: bool = True,
    ) -> T:
        live = self._borrowed(doing, end)
        patience = max(0.0, end - self._monotonic())
        call = self.callers.start(lambda: self._used(live, ask, doing))
        if not self._came_back(call, patience, single=single):
            self._give_up(live, f"{doing}: no answer")
            if single:
                self._patience.given_up()
            with self._changed:
                self._open_calls.append(call)
            if late is not None:
                late(call)
            raise GuestBusy(f"{doing}: no answer within {patience:.2g} s")
        return call.result()

    def _came_back(self, call: Future[Any], patience: float, *, single: bool) -> bool:
        polls = not single and not self._bulk.blocked_in_start_hook()
        while polls and patience > _HOOK_POLL_SECONDS:
            if Callers.came_back(call, _HOOK_POLL_SECONDS):
                return True
            if self._bulk.blocked_in_start_hook():  # the call will return when that guest starts
                return False
            patience -= _HOOK_POLL_SECONDS
        return Callers.came_back(call, patience)

    def _too_many_open(self) -> bool:
        with self._changed:
            self._open_calls = [call for call in self._open_calls if not call.done()]
            return len(self._open_calls) >= self.settings.most_open_calls

    def _wait(self) -> float:
        return self._patience.seconds(self.settings.call_timeout)

    def _used(self, live: OpenConnection, ask: Callable[[OpenConnection], T], doing: str) -> T:
        try:
            return ask(live)
        except (self.module.libvirtError, OrderRefused) as error:
            if live.connection.isAlive():
                raise translated(error, doing) from error
            self._give_up(live, str(error))
            raise HypervisorError(f"{doing}: the connection to libvirt is lost: {error}") from error
        except HypervisorError:
            raise
        except Exception as error:  # the binding fails on names that are not UTF-8
            self._give_up(live, "an answer is unreadable")
            raise translated(error, f"{doing}: libvirtd's answer cannot be read") from error
        finally:
            with self._changed:
                live.busy = False
                over = live.given_up
                self._changed.notify_all()
            if over:
                live.close()

    # --- the connection ----------------------------------------------------------------------------------------------------------

    def _borrowed(self, doing: str, end: float) -> OpenConnection:
        with self._changed:
            while True:
                if self._closed:
                    raise HypervisorError(f"{doing}: the connection to libvirt is closed")
                live = self._live
                if live is not None and not live.busy and not live.connection.isAlive():
                    self._forget(live, "libvirtd has closed it")
                    live = None
                if live is not None and not live.busy:
                    live.busy = True
                    return live
                if live is None:
                    self._begin_to_open()
                if not self._changed.wait(max(0.0, end - self._monotonic())):
                    why = "libvirtd does not answer" if live is None else "the connection is busy with other calls"
                    raise HypervisorError(f"{doing}: {why}")

    def _begin_to_open(self) -> None:
        now = self._monotonic()
        if self._opening_since is not None and (now - self._opening_since < _OPEN_SECONDS or self._opening >= self.settings.most_opening):
            if now - self._opening_since > self.settings.call_timeout:
                raise HypervisorError(f"{self.settings.uri} cannot be reached: libvirtd does not answer", hint=_NO_ANSWER_CURE)
            return
        if self._refusal is not None and now < self._retry_at:
            raise type(self._refusal)(self._refusal.message, hint=self._refusal.hint)
        self.callers.start(partial(self._open, now))
        self._opening_since = now
        self._opening += 1

    def _open(self, since: float) -> None:
        uri = self.settings.uri
        live: OpenConnection | None = None
        refusal = HypervisorError(f"{uri} cannot be reached")
        try:
            live = self._opened()
        except self.module.libvirtError as error:
            refusal = translated(error, f"{uri} cannot be reached", hint=cure_for(*error_numbers(error), uri))
        except HypervisorError as error:
            refusal = error
        finally:
            with self._changed:
                self._opening -= 1
                if self._opening_since == since:
                    self._opening_since = None
                is_needed = live is not None and not self._closed and self._live is None
                if live is None:
                    self._refusal = refusal
                    self._retry_at = self._monotonic() + self._retry_after
                    self._retry_after = min(self._retry_after * 2, self.settings.longest_retry)
                elif is_needed:
                    self._refusal = None
                    self._retry_after = _FIRST_RETRY_SECONDS
                    self._live = live
                    self.opened += 1
                    self.log.log(min(self.settings.lost_level, logging.INFO), "connected to %s", uri)
                self._changed.notify_all()
        if live is not None and not is_needed:
            live.close()
        if is_needed and self.on_open is not None:
            self.on_open()

    def _opened(self) -> OpenConnection:
        module, settings = self.module, self.settings
        way = nullcontext(without_questions(settings.uri)) if settings.way is None else settings.way()
        with way as uri:
            connection, helper, self.why_no_changes, self.cure_of_no_changes = opened(
                module, uri, readonly=settings.readonly, found=settings.way is not None
            )
        self.by_helper = helper is not None
        callbacks = () if self.on_event is None else register_events(module, connection, self._told)
        return OpenConnection(connection, callbacks, helper)

    def _give_up(self, live: OpenConnection, why: str) -> None:
        with self._changed:
            self._forget(live, why)

    def _forget(self, live: OpenConnection, why: str) -> None:
        if live.given_up:
            return
        live.given_up = True
        if self._live is live:
            self._live = None
            self.log.log(self.settings.lost_level, "mom abandons the connection to %s: %s", self.settings.uri, why)
        if not live.busy and not self._closed:
            self.callers.start(live.close)
        self._changed.notify_all()

    def _told(self, connection: object, domain: Domain, *details_and_kind: Any) -> None:
        *details, kind = details_and_kind
        self._bulk.events += 1
        if self.on_event is None:
            return
        if self.settings.most_events is not None and self._bulk.events > self.settings.most_events:
            if (live := self._live) is not None:
                self._give_up(live, "libvirtd sends too many events")
            return
        code = next((number for number in details if isinstance(number, int)), 0)
        if kind == LIFECYCLE and code == STARTED:
            self._bulk.started(domain.UUIDString())
        try:
            self.on_event(GuestEvent(kind, domain.UUIDString(), domain.name(), code))
        except Exception:  # such as a name that is not UTF-8; libvirt's thread would not catch it
            self.log.exception("cannot process an event of a guest")
