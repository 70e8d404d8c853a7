"""Lasting connection to one libvirtd: opened on demand, abandoned when a call on it hangs, opened again with back-off.

Once started, it returns by itself after a loss: events arrive only over an open connection.

It serves one call at a time, and none after a call that did not return in time. libvirt's client before 10.3 corrupts its memory when a
second thread, or its own keepalive, interrupts a waiting call (CVE-2024-4418). So threads take turns, a hanging call keeps its connection
until it returns, and keepalive is off: mom gives hanging calls up anyway.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence, Set
from concurrent.futures import Future
from contextlib import nullcontext, suppress
from functools import partial
from typing import Any, TypeVar

from mom_core import GuestBusy, GuestGone, HypervisorError
from mom_kvm import Callers, CallPatience
from mom_plugins_libvirt.api import Domain, Record
from mom_plugins_libvirt.bulk_statistics import BulkStatistics
from mom_plugins_libvirt.changes import OrderRefused, opened
from mom_plugins_libvirt.connection_settings import ConnectionSettings
from mom_plugins_libvirt.event_loop import EventLoop
from mom_plugins_libvirt.events import LIFECYCLE, STARTED, GuestEvent
from mom_plugins_libvirt.failures import OPERATION_INVALID, cure_for, error_numbers, translated
from mom_plugins_libvirt.open_connection import GuestRecord, OpenConnection, is_running, register_events
from mom_plugins_libvirt.uri import without_questions

T = TypeVar("T")

_FIRST_RETRY_SECONDS = 0.25
"""Back-off between attempts to connect, doubled up to the longest. A restart of libvirtd takes one to some tens of seconds."""

_OPEN_SECONDS = 30.0
"""How long a hanging attempt to connect may still succeed; a vanished host would not be noticed otherwise."""

_FIRST_ATTEMPT, _SECOND_ATTEMPT, _LAST_ATTEMPT = 1.0, 1.6, 2.0
"""By when each attempt of a bulk call must be back, in call timeouts from its begin: it has two in all, which are less than a deadline."""

_HOOK_POLL_SECONDS = 0.1
"""Interval of the checks whether a call about all guests waits for a hook by now."""

_NO_ANSWER_CURE = "look why it hangs (journalctl -u libvirtd), or restart it: guests go on without it"

_CLOSE_SECONDS = 0.15
"""Time for closing a connection, and then the event loop: a plugin has 0.4 s to end."""


class Connection:
    """Connection to one libvirtd, for several threads.

    :param module: libvirt's Python binding, or a stand-in
    :param blocked_in_start_hook: returns guests whose start waits for a hook: libvirtd answers no call that reaches one
    :param callers: shared threads for calls; `close` does not end them
    :param patience: shared patience with calls about single guests
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
        """Why neither mom nor its helper can change guests, as of the last connection, and what to do about it; empty: one can."""
        self.by_helper = False
        """The helper changes guests; as of the last connection, too."""
        self.opened = 0
        """How often the connection was opened: a larger number means that events may have been missed."""
        self.on_event: Callable[[GuestEvent], None] | None = None
        """Told of guests' events, in libvirt's thread, so it must not call libvirt. To be set before the connection is first used."""
        self.on_return: Callable[[], None] | None = None
        """Called when libvirtd can be reached after it could not; as `on_event`."""
        self.on_open: Callable[[], None] | None = None
        """Called each time that it was reached, after `on_return`."""
        self._too_many = f"libvirtd has not come back from {settings.most_open_calls} earlier calls"
        self.log = log
        self.module = module
        self._monotonic = monotonic
        self._bulk = BulkStatistics(module, blocked_in_start_hook)
        self._changed = threading.Condition()
        self.callers = callers or Callers("libvirt-call")
        self._own_callers = self.callers if callers is None else None
        self._patience = patience or CallPatience(monotonic)
        self._shares_patience = patience is not None
        self._loop: EventLoop | None = None
        self._own_loop: EventLoop | None = None
        self._live: OpenConnection | None = None
        self._opening_since: float | None = None
        self._opening = 0
        self._coming_back = False
        self._open_calls: list[Future[Any]] = []
        """Calls that were given up and have perhaps not come back."""
        self._open_fallback: Future[Any] | None = None
        """The last of those that asked no guest."""
        self._refusal: HypervisorError | None = None
        self._retry_at = 0.0
        self._retry_after = _FIRST_RETRY_SECONDS
        self._closed = False

    def start(self) -> None:
        """Start the event loop. The connection opens on demand, and returns by itself from now on."""
        self._loop = self._own_loop = EventLoop(self.module)
        self._loop.start()

    def join(self, loop: EventLoop) -> None:
        """Receive events through a running loop that others use too. The connection returns on `reach`, or with a call."""
        self._loop = loop

    def reach(self) -> None:
        """Begin to connect if it is time to try; do not wait."""
        with self._changed, suppress(HypervisorError):
            if self._live is None and not self._closed:
                self._begin_to_open()

    def close(self) -> None:
        """Close the connection and end all threads, in less than half a second. Threads in a hanging call are left behind."""
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

    def of(self, guests: Set[str]) -> Mapping[str, Record]:
        """Return the balloon records of these guests, by id, from one bulk call, without ended and silent guests."""
        records = self.statistics(self.module.VIR_DOMAIN_STATS_BALLOON, guests) if guests else ()
        return {record.uuid: record.record for record in records}

    def statistics(self, groups: int, uuids: Collection[str] | None = None, fallback: int = 0) -> Sequence[GuestRecord]:
        """Return the statistics of all active guests, or of these, from one call that does not wait for busy guests.

        A hanging QEMU blocks the first call that reaches it. libvirt then counts that guest as busy, so the second attempt returns the
        others' statistics. If it hangs too, because several guests do, the last asks for `fallback`: groups that libvirtd knows without
        asking guests. Takes at most two call timeouts, and less for single guests after others hung.
        """
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
                about_all = uuids is None and not self._bulk.blocked_in_start_hook()
                ask = partial(self._bulk.read, groups=attempted, uuids=uuids)
                return self._made(ask, doing, began + end * timeout, late, single=uuids is not None, about_all=about_all)
            except GuestBusy as error:
                busy = error
        raise HypervisorError(busy.message, hint="if libvirtd is well, set a longer call_timeout for the plugin libvirt") from busy

    def call(
        self,
        doing: str,
        uuid: str,
        function: Callable[[Domain], T],
        late: Callable[[Future[Any]], None] | None = None,
        number: Hashable = None,
    ) -> T:
        """Return the result of `function`, which makes one call on the guest's domain. Takes at most one call timeout.

        Raises `GuestBusy` if it does not return in time. It may still take effect; `late` receives the open call. Raises another
        `HypervisorError` for each error of libvirt.

        :param number: libvirt's number of the guest's start. For another start, `GuestGone` is raised, and `function` not called: handles
            find a guest by its UUID, so the call would change the next one
        """

        def ask(live: OpenConnection) -> T:
            domain = live.changeable(uuid, number)
            if number is not None and live.connection.lookupByUUIDString(uuid).ID() != number:
                raise GuestGone(f"{doing}: it has ended, or was started anew")
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
        about_all: bool = False,
    ) -> T:
        """Return the result of `ask`, made in a thread and on a connection of its own.

        :param single: about single guests
        :param about_all: a hook of any guest's start blocks it
        """
        live = self._borrowed(doing, end)
        patience = max(0.0, end - self._monotonic())
        call = self.callers.start(lambda: self._used(live, ask, doing))
        if not self._came_back(call, patience, about_all=about_all):
            self._give_up(live, f"{doing}: no answer")
            self._left_behind(call, single=single)
            if late is not None:
                late(call)
            raise GuestBusy(f"{doing}: no answer within {patience:.2g} s")
        return call.result()

    def _came_back(self, call: Future[Any], patience: float, *, about_all: bool) -> bool:
        while about_all and patience > _HOOK_POLL_SECONDS:
            if Callers.came_back(call, _HOOK_POLL_SECONDS):
                return True
            if self._bulk.blocked_in_start_hook():  # since it began: it would come back when that guest starts
                return False
            patience -= _HOOK_POLL_SECONDS
        return Callers.came_back(call, patience)

    def _left_behind(self, call: Future[Any], *, single: bool) -> None:
        if single or not self._shares_patience:  # that this libvirtd hangs must not cost the guests of others their time
            self._patience.given_up()
        with self._changed:
            self._open_calls.append(call)

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
        except Exception as error:  # the binding takes texts for UTF-8, and fails at a name with other bytes
            self._give_up(live, "its answer cannot be read")
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
        """Return a connection marked as busy, opened if it is time to try."""
        with self._changed:
            while True:
                if self._closed:
                    raise HypervisorError(f"{doing}: the connection to libvirt is closed")
                live = self._live
                if live is not None and not live.busy and not live.connection.isAlive():
                    self._forget(live, "libvirtd has ended it")
                    live = None
                if live is not None and not live.busy:
                    live.busy = True
                    return live
                if live is None:
                    self._begin_to_open()
                if not self._changed.wait(max(0.0, end - self._monotonic())):
                    why = "libvirtd does not answer" if live is None else "it is busy with other calls"
                    raise HypervisorError(f"{doing}: {why}")

    def _begin_to_open(self) -> None:
        """Start an attempt to connect. Raises the last refusal until it is time to try again. The lock is held."""
        now = self._monotonic()
        if self._opening_since is not None and (now - self._opening_since < _OPEN_SECONDS or self._opening >= self.settings.most_opening):
            if now - self._opening_since > self.settings.call_timeout:
                raise HypervisorError(f"{self.settings.uri} cannot be reached: libvirtd does not answer", hint=_NO_ANSWER_CURE)
            return
        if self._pause() > 0 and self._refusal is not None:
            raise type(self._refusal)(self._refusal.message, hint=self._refusal.hint)
        try:
            self.callers.start(partial(self._open, now))
        except RuntimeError as error:
            why = "the system gives mom no more threads"
            raise HypervisorError(
                f"{self.settings.uri} cannot be reached: {why}", hint="see TasksMax of mom's unit, and pids.max"
            ) from error
        self._opening_since = now
        self._opening += 1

    def _pause(self) -> float:
        """Return the seconds until the next attempt to connect, with the lock held."""
        return 0.0 if self._refusal is None else self._retry_at - self._monotonic()

    def _return(self) -> None:
        """Connect again in the background, as often as needed. The lock is held."""
        if self._own_loop is None or self._closed or self._coming_back:
            return
        self._coming_back = True
        self.callers.start(self._come_back)

    def _come_back(self) -> None:
        with self._changed:
            while self._live is None and not self._closed:
                with suppress(HypervisorError):  # it is not yet time, or an attempt hangs
                    self._begin_to_open()
                self._changed.wait(max(_FIRST_RETRY_SECONDS, self._pause()) if self._opening_since is None else _FIRST_RETRY_SECONDS)
            self._coming_back = False

    def _open(self, since: float) -> None:
        """Connect; each call in it may hang. `since` identifies this attempt."""
        uri = self.settings.uri
        live: OpenConnection | None = None
        returned = False
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
                    self._return()
                elif is_needed:
                    returned = self._refusal is not None or self._monotonic() - since > self.settings.call_timeout
                    self._refusal = None
                    self._retry_after = _FIRST_RETRY_SECONDS
                    self._live = live
                    self.opened += 1
                    self.log.log(min(self.settings.lost_level, logging.INFO), "connected to %s", uri)
                self._changed.notify_all()
        if live is not None and not is_needed:
            live.close()
        if returned and self.on_return is not None:
            self.on_return()
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
        if self._loop is not None:
            with suppress(module.libvirtError):  # a driver within the library has no server to lose
                connection.registerCloseCallback(self._lost, None)
        return OpenConnection(connection, callbacks, helper)

    def _give_up(self, live: OpenConnection, why: str) -> None:
        with self._changed:
            self._forget(live, why)

    def _forget(self, live: OpenConnection, why: str) -> None:
        """Abandon this connection; close it now, or at the end of its call. The lock is held."""
        if live.given_up:
            return
        live.given_up = True
        if self._live is live:
            self._live = None
            self._return()
            self.log.log(self.settings.lost_level, "the connection to %s is given up: %s", self.settings.uri, why)
        if not live.busy and not self._closed:
            self.callers.start(live.close)
        self._changed.notify_all()

    def _lost(self, connection: object, reason: int, opaque: object) -> None:
        """Abandon an ended connection: libvirt's callback, which must not call libvirt."""
        with self._changed:
            live = self._live
            if live is not None and live.connection is connection:
                self._forget(live, "libvirtd has ended it")

    def _are_too_many(self) -> bool:
        self._bulk.events += 1
        if self.settings.most_events is None or self._bulk.events <= self.settings.most_events:
            return False
        with self._changed:
            if self._live is not None:
                self._forget(self._live, "it tells of too many events")
        return True

    def _told(self, connection: object, domain: Domain, *details_and_kind: Any) -> None:
        """Pass an event on: libvirt's callback, with the details of the event's kind, then the kind."""
        *details, kind = details_and_kind
        if self.on_event is None or self._are_too_many():
            return
        code, detail, *_ = [*(number for number in details if isinstance(number, int)), 0, 0]
        if kind == LIFECYCLE and code == STARTED:
            self._bulk.started(domain.UUIDString())
        try:
            self.on_event(GuestEvent(kind, domain.UUIDString(), domain.name(), code, detail))
        except Exception:  # containment: no caller is above this in libvirt's thread
            self.log.exception("an event of a guest could not be used")
