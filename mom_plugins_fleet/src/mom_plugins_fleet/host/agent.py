"""Agent of a host: applies group policies and orders, and reports the host's state.

mom never waits for the agent: without servers, the host keeps its policies.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Final

from mom_core import MomError
from mom_plugins_fleet.buckets import AUTHORIZED, COORDINATORS, GROUPS, ORDERS, ROSTER, STATES
from mom_plugins_fleet.client import Access
from mom_plugins_fleet.host.group_policies import GroupPolicies
from mom_plugins_fleet.host.orders import HostOrders
from mom_plugins_fleet.link import LinkError, Store, linked
from mom_plugins_fleet.records import HostState, MoveState, shown
from mom_plugins_fleet.signatures import SeenRevisions

RESYNC_SECONDS: Final = 30.0
"""Time between reads of all records, in case a message was lost."""

PUBLISH_SECONDS: Final = 5.0
"""Shortest time between two reports of the host's state."""

HEARTBEAT_SECONDS: Final = 30.0
"""Time between two reports of an unchanged state."""

CLOSING_SECONDS: Final = 0.3
"""Time limit for closing the connection. All plugins together have 0.4 s to stop."""

AGAIN_SECONDS: Final = 10.0

_POLL_SECONDS: Final = 0.2


class FleetAgent:
    """Agent of a host in a fleet, with its own thread for `run`, `follow` and `report`. Other methods are thread-safe.

    :param state: returns the host's state; None if unknown
    """

    def __init__(
        self,
        access: Access,
        host: str,
        log: logging.Logger,
        *,
        revisions: SeenRevisions,
        group: GroupPolicies,
        orders: HostOrders,
        state: Callable[[], HostState | None],
    ) -> None:
        self._access, self._host, self._log = access, host, log
        self._revisions, self._group, self.orders, self._state = revisions, group, orders, state
        self.connected = False
        self.trouble = ""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._dirty = asyncio.Event()
        self._ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="mom fleet", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()
        self._ready.result(5.0)

    def close(self) -> None:
        """Stop the thread; wait at most `CLOSING_SECONDS`."""
        if self._task is not None:
            self._call_soon(self._task.cancel)
        self._thread.join(CLOSING_SECONDS)

    def finished(self, guest: str, state: MoveState, error: str = "") -> None:
        """Report the end of a move."""
        self.orders.finish(guest, state, error)
        self.look()

    def look(self) -> None:
        """Read the orders again soon."""
        self._call_soon(self._dirty.set)

    def _call_soon(self, call: Callable[[], object]) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(call)

    def _run(self) -> None:
        with suppress(asyncio.CancelledError):
            asyncio.run(self.run())

    async def run(self) -> None:
        """Follow the fleet until cancelled."""
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._ready.set_result(None)
        resumed = False
        while True:
            try:
                if not resumed:  # retry: with too many open files, a file may be unreadable at first
                    self._revisions.load()
                    await self._group.resume(self._say)
                    resumed = True
                await self._connect()
            except Exception as error:  # noqa: BLE001  # an unreadable key, which an operator may repair, or a bug in mom or in the library
                self.connected = False
                if not isinstance(error, MomError) and shown(error) != self.trouble:
                    self._log.error("the fleet agent failed and restarts in %g s", AGAIN_SECONDS, exc_info=True)
                self._say(shown(error))
            await asyncio.sleep(AGAIN_SECONDS)

    async def _connect(self) -> None:
        async with linked(self._access, self._host, self._log, patient=True, cannot=self._say) as store:
            reporting = asyncio.create_task(self.report(store))
            try:
                await self.follow(store)
            finally:
                reporting.cancel()
                with suppress(asyncio.CancelledError):
                    await reporting

    async def follow(self, store: Store) -> None:
        """Follow all records. Raise `MomError` if the servers refuse the key."""
        heard: set[str] = set()
        while True:
            self._dirty.clear()
            try:
                await self._look(store, heard)
            except MomError as error:
                self.connected = store.connected
                if store.closed:  # reconnect with the current key file
                    raise
                self._say(shown(error))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._dirty.wait(), RESYNC_SECONDS * random.uniform(0.8, 1.2) if self.connected else 2.0)  # noqa: S311  # spreads load
            await asyncio.sleep(_POLL_SECONDS * random.random())  # noqa: S311  # spreads the reads of all hosts after a change

    async def _look(self, store: Store, heard: set[str]) -> None:
        async def listen(bucket: str, key: str) -> None:
            if bucket + key not in heard:
                await store.hear(bucket, key, self._dirty.set)
                heard.add(bucket + key)

        for bucket, key in ((ROSTER, self._host), (ORDERS, self._host), (AUTHORIZED, COORDINATORS)):
            await listen(bucket, key)
        member = await self.orders.read(store)
        if member is not None:
            await listen(GROUPS, member.group)
            await self._group.follow(store, member.group, self._revisions)
            self.orders.follow()
        self.connected = True
        self._say("" if member is not None else f"the fleet does not know the host {self._host}; `mom fleet enroll` admits it")

    def _say(self, trouble: str) -> None:
        if trouble and trouble != self.trouble:
            self._log.warning("%s", trouble)
        self.trouble = trouble

    async def report(self, store: Store) -> None:
        """Write the state on changes, and at least every `HEARTBEAT_SECONDS`."""
        written: HostState | None = None
        at = float("-inf")
        while True:
            try:
                state = self._state()
                if state is not None and (state != written or time.monotonic() - at >= HEARTBEAT_SECONDS):
                    await store.put(STATES, self._host, state.packed())
                    written, at = state, time.monotonic()
            except LinkError as error:
                self._log.debug("%s", shown(error))
            except Exception as error:  # noqa: BLE001  # too large a record, or a bug, also of other plugins; retry
                self._log.error("cannot report this host's state to the fleet: %s", shown(error))
            await asyncio.sleep(PUBLISH_SECONDS)
