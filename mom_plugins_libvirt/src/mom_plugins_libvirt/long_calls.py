"""Long calls on guests, on extra connections: they would block the main connection."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from mom_core import Entity, GuestBusy, HypervisorError
from mom_kvm import Callers, CallPatience, Destination
from mom_plugins_libvirt.api import Domain, qemu_binding, translated, without_questions
from mom_plugins_libvirt.changes import OrderedDomain
from mom_plugins_libvirt.connection import Connection

_LONGEST_SECONDS = 60
"""Longest timeout that mom requests from libvirtd for an agent command."""

_SLACK_SECONDS = 1.0
"""How long mom waits for the answer after libvirtd's own timeouts."""

_GIVE_UP_SECONDS = 5.0
"""Time within which libvirt must abort a job."""

_AGAIN_SECONDS = 0.5
"""Pause between attempts to abort a job."""

_REACH_SECONDS = 10.0
"""Timeout for connecting to another host's libvirt."""


class SpareConnections:
    """Pool of extra connections with the main connection's settings, opened on demand."""

    most: int
    """Maximum number of concurrent calls."""

    def __init__(self, main: Connection) -> None:
        self._main = main
        self._lock, self._permits = threading.Lock(), threading.Semaphore(self.most)
        self._idle: list[Connection] = []
        self._all: list[Connection] = []
        self._closed = False

    @contextmanager
    def borrowed(self, doing: str, patience: float, call_timeout: float) -> Iterator[Connection]:
        """Lend a connection for one call.

        Raise `GuestBusy` if none is free within `patience` seconds, `HypervisorError` if all are closed.
        """
        if not self._permits.acquire(timeout=patience):
            raise GuestBusy(f"{doing}: {self.most} such calls are already running")
        try:
            connection = self._free(doing)
            connection.settings = replace(self._main.settings, call_timeout=call_timeout)
            try:
                yield connection
            finally:
                self._idle.append(connection)
        finally:
            self._permits.release()

    def _free(self, doing: str) -> Connection:
        with self._lock:
            if self._closed:
                raise HypervisorError(f"{doing}: the connection to libvirt is closed")
            if self._idle:
                return self._idle.pop()
            whole = CallPatience(lasts=0.0)  # earlier timeouts do not shorten a call's timeout
            self._all.append(Connection(self._main.settings, self._main.log, self._main.module, patience=whole))
            return self._all[-1]

    def close(self) -> Sequence[threading.Thread]:
        """Close the connections in threads. Return the threads, which end within a fifth of a second."""
        with self._lock:
            self._closed = True
        threads = [threading.Thread(target=connection.close, name="libvirt-close", daemon=True) for connection in self._all]
        for thread in threads:
            thread.start()
        return threads


class AgentCommands(SpareConnections):
    """Sender of commands to agents in guests. Uses its own connections."""

    most = 8

    def command(self, guest: Entity, command: str, timeout_seconds: float) -> str:
        """Send a JSON command to the guest's agent; return the answer.

        The call may take twice the timeout (in whole seconds) plus a second, because libvirt first synchronizes with the agent.
        """
        doing = f"querying the agent of {guest}"
        seconds = min(_LONGEST_SECONDS, max(1, math.ceil(timeout_seconds)))
        qemu = qemu_binding(doing)

        def ask(domain: Domain) -> object:
            if isinstance(domain, OrderedDomain):
                return domain.ask_agent(command, seconds)
            return qemu.qemuAgentCommand(domain, command, seconds, 0)

        with self.borrowed(doing, seconds, 2 * seconds + _SLACK_SECONDS) as connection:
            answer: object = connection.call(doing, guest.id, ask)
        if not isinstance(answer, str):
            raise HypervisorError(f"{doing}: libvirt gave no answer")
        return answer


class Unanswered(GuestBusy):
    """Call that has not ended although mom has aborted it."""

    def __init__(self, message: str, call: Future[Any]) -> None:
        super().__init__(message)
        self.call = call


class LongJobs(SpareConnections):
    """Long calls on guests. When mom exits, libvirt aborts a running migration."""

    most = 4

    def do(self, doing: str, guest: Entity, timeout_seconds: float, function: Callable[[Domain], object], number: Hashable = None) -> None:
        """Make a long call on the guest. After the timeout, abort libvirt's job and raise `GuestBusy`.

        :param number: libvirt's domain ID; None to abort nothing
        :raises Unanswered: the call has not ended even then
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
                raise Unanswered(error.message, left[0]) from error
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
            self._main.callers.start(reached.close)
        else:
            after.add_done_callback(lambda _: self.part_from(reached, None))
