"""A host as a member of its fleet: take its group's policies, tell how it is, and move the guests that it is told to move.

It runs in a thread of its own. Nothing of mom waits for it: without servers, the host goes on with the policies that it has.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from mom_core import MomError, printable
from mom_kvm import Callers, Destination
from mom_plugins_fleet.link import Access, LinkError, Store, linked
from mom_plugins_fleet.records import AuthorizedKeys, Group, HostState, Member, Move, MoveState, OrderProgress, Orders, Progress, shown
from mom_plugins_fleet.revisions import SeenRevisions
from mom_plugins_fleet.signatures import Opened
from mom_plugins_fleet.subjects import AUTHORIZED, COORDINATORS, GROUPS, ORDERS, PROGRESS, ROSTER, STATES

RESYNC_SECONDS: Final = 30.0
"""How often everything is read again, in case a message was lost. With 10,000 hosts that is 1,000 reads a second, which a server answers
from memory."""

HEARTBEAT_SECONDS: Final = 30.0
"""How often a host tells how it is although nothing has changed: others know by that that it is there."""

CLOSING_SECONDS: Final = 0.3
"""How long the end waits for the connection: plugins have 0.4 s."""

AGAIN_SECONDS: Final = 10.0
"""How soon it is tried again when the servers could not even be asked."""

BALANCE_SECONDS: Final = 300.0
"""A host lets no more than one guest leave for balance in so long, whatever a coordinator orders."""

_POLL_SECONDS: Final = 0.2

APPLY_SECONDS: Final = 30.0
"""How long it may take to put a group's record in force: the largest policies are compiled within seconds, and the rest is files."""

READY_ATTEMPTS: Final = 50
"""How often the evaluator is asked, at the start, whether it is ready: plugins have 10 s for that."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A record of the host's group, the revision that it is, and why it is not in force (empty: it is)."""

    group: str
    revision: int
    record: Group
    refused: str = ""


class FleetAgent:
    """A host in its fleet. Other threads may call what has no underscore.

    :param operators: the public keys of those who direct this host; without any, it only tells how it is
    :param revisions: the newest revisions of what has directed this host
    :param apply: puts a group's record in force, and keeps what stood there; raises `MomError` if that cannot be
    :param remembered: the group, revision and record that were in force last
    :param state: what to tell; None as long as nothing is known
    :param accepts: why this host does not move that guest now; empty: it does; None: it cannot say yet
    :param wake: asks for a cycle
    """

    def __init__(
        self,
        access: Access,
        host: str,
        publish_seconds: float,
        log: logging.Logger,
        *,
        operators: Collection[str],
        revisions: SeenRevisions,
        apply: Callable[[str, Opened[Group], bytes | None], None],
        remembered: Callable[[], tuple[str, Opened[Group]] | None],
        state: Callable[[], HostState | None],
        accepts: Callable[[Move], str | None],
        wake: Callable[[str], None],
    ) -> None:
        self._access, self._host, self._publish_seconds, self._log = access, host, publish_seconds, log
        self._operators, self._revisions = frozenset(operators), revisions
        self._apply, self._remembered, self._state, self._accepts, self._wake = apply, remembered, state, accepts, wake
        self._lock = threading.Lock()
        self._results: dict[str, tuple[MoveState, str]] = {}
        self._moves: Mapping[str, Move] = {}
        self.taken: Taken | None = None
        """The group's record when it was looked at last; None before that."""
        self.draining = False
        """True when all guests are to leave this host, as far as is known."""
        self.balance = False
        """True when guests may leave it for balance, as far as is known."""
        self.connected = False
        """True while the fleet's servers can be reached."""
        self.trouble = ""
        """The trouble of this host with its fleet, for the operator; empty: none."""
        self._had_servers = False
        """True once there was a connection."""
        self._told_progress: Progress | None = None
        self._balanced_at = float("-inf")
        """When a guest was let go for balance last, in monotonic seconds."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._dirty = asyncio.Event()
        self._callers = Callers("mom fleet applies")
        self._application: Future[None] | None = None
        """The last record that was put in force; what has hung in that is not begun a second time."""
        self._ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="mom fleet", daemon=True)

    # --- from other threads ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin."""
        self._thread.start()
        self._ready.result(5.0)

    def close(self) -> None:
        """End, soon."""
        if self._task is not None:
            self._soon(self._task.cancel)
        self._thread.join(CLOSING_SECONDS)
        self._callers.close(0)

    def moves(self) -> Mapping[str, Move]:
        """The moves that this host has accepted and has not done yet, by guest id."""
        with self._lock:
            return {guest: move for guest, move in self._moves.items() if guest not in self._results}

    def finished(self, guest: str, state: MoveState, error: str = "") -> None:
        """A guest is gone, or stays."""
        with self._lock:
            self._results[guest] = (state, error)
        self.look()

    def look(self) -> None:
        """Look at the orders again, soon."""
        self._soon(self._dirty.set)

    def _soon(self, what: Callable[[], object]) -> None:
        """Have that done in this agent's own thread."""
        if self._loop is not None:
            with suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(what)

    # --- in its own ------------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        with suppress(asyncio.CancelledError):
            asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._ready.set_result(None)
        resumed = False
        while True:
            try:
                if not resumed:  # also where what the last run has left cannot be read at first, as too many files are open
                    self._revisions.load()
                    await self._resume()
                    resumed = True
                await self._belong()
            except MomError as error:  # such as a key that cannot be read: the operator may see to it while mom runs
                self.connected = False
                self._say(shown(error))
            except Exception as error:  # noqa: BLE001  # a mistake of ours, or of the library's: no caller is above this in this thread
                self.connected = False
                said = printable(f"a mistake of mom's: {type(error).__name__}: {error}", 400)
                if said != self.trouble:
                    self._log.error("the fleet is left for %g s", AGAIN_SECONDS, exc_info=True)
                self._say(said)
            await asyncio.sleep(AGAIN_SECONDS)

    async def _belong(self) -> None:
        """Be connected, and do what a member does."""
        self._told_progress = None  # these may be other servers
        async with linked(self._access, self._host, self._log, patient=True, cannot=self._say) as store:
            if self._had_servers:
                self._log.info("connected to the fleet's servers again")
            self._had_servers = True
            telling = asyncio.create_task(self._tell(store))
            try:
                await self._follow(store)
            finally:
                telling.cancel()
                with suppress(asyncio.CancelledError):
                    await telling

    async def _resume(self) -> None:
        """Go on with the policies of the last run, until the servers say something else."""
        last = self._remembered()
        if last is None:
            return
        group, found = last
        for _ in range(READY_ATTEMPTS):
            try:
                await self._put_in_force(group, found, None)
            except MomError as error:
                self._say(shown(error))
                await asyncio.sleep(_POLL_SECONDS)
                continue
            self.taken = Taken(group, found.revision, found.record)
            self._say("")
            return

    async def _put_in_force(self, group: str, found: Opened[Group], data: bytes | None) -> None:
        """Have a record applied in a thread of its own, which no end of mom waits for. Raises `MomError`, also when that takes too long."""
        if self._application is not None and not self._application.done():
            raise MomError("what was to be put in force before has not come back", hint="mom's disk may hang: see its log")
        self._application = self._callers.start(lambda: self._apply(group, found, data))
        done = asyncio.wrap_future(self._application)
        done.add_done_callback(lambda one: one.cancelled() or one.exception())  # also where it is not waited for any longer
        await asyncio.wait([done], timeout=APPLY_SECONDS)
        if not done.done():
            raise MomError(f"it is not in force after {APPLY_SECONDS:g} s", hint="mom's disk may hang: see its log")
        try:
            done.result()
        except MomError:
            raise
        except Exception as error:  # containment: it is other plugins' code, and the host stays in its fleet
            self._log.debug("what was to be put in force fails", exc_info=True)
            raise MomError(f"a plugin here fails: {type(error).__name__}: {error}", hint="tell its authors") from error

    async def _follow(self, store: Store) -> None:
        """Do what stands in the buckets, whenever it changes and every now and then."""
        listening_to: set[str] = set()

        async def listen(bucket: str, key: str) -> None:
            if bucket + key not in listening_to:
                await store.hear(bucket, key, self._dirty.set)
                listening_to.add(bucket + key)

        while True:
            self._dirty.clear()
            try:
                if not self._operators:
                    raise MomError(
                        "the configuration has no key of an operator: nothing of the fleet's is followed here",
                        hint="give the plugin fleet `operators`, the public keys that `mom fleet key` has printed",
                    )
                await listen(ROSTER, self._host)
                await listen(ORDERS, self._host)
                await listen(AUTHORIZED, COORDINATORS)
                member = await self._member(store)
                if member is not None:
                    await listen(GROUPS, member.group)
                    await self._take_group(store, member.group)
                    await self._take_orders(store, member)
                self.connected = True
                self._say("" if member is not None else f"the fleet does not know the host {self._host}; `mom fleet enroll` lets it in")
            except MomError as error:
                self.connected = store.connected
                if store.closed:  # it is begun anew, with the key as it is then
                    raise
                self._say(shown(error))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._dirty.wait(), RESYNC_SECONDS * random.uniform(0.8, 1.2) if self.connected else 2.0)  # noqa: S311  # spreads load
            await asyncio.sleep(_POLL_SECONDS * random.random())  # noqa: S311  # a change for all hosts does not bring all of them at once

    def _say(self, trouble: str) -> None:
        """Once for each thing that is wrong."""
        if trouble and trouble != self.trouble:
            self._log.warning("%s", trouble)
        self.trouble = trouble

    async def _member(self, store: Store) -> Member | None:
        kept = await store.read(ROSTER, self._host)
        member = None
        if kept.data is not None:
            try:
                member = self._revisions.open(Member, ROSTER, self._host, kept.data, self._operators).record
            except MomError as error:
                raise LinkError(f"this host's entry in the fleet: {shown(error)}") from None
        self.draining, self.balance = member is not None and member.draining, member is not None and member.balance
        return member

    async def _take_group(self, store: Store, group: str) -> None:
        kept = await store.read(GROUPS, group)
        if kept.data is None:
            return  # no operator has said anything, so that what is in force stays
        taken = Taken(group, 0, Group())
        try:
            found = self._revisions.open(Group, GROUPS, group, kept.data, self._operators)
            taken = Taken(group, found.revision, found.record)
            await self._put_in_force(group, found, kept.data)  # also where it is the same: what is in force here may have been changed
        except MomError as error:  # it is tried again with each look, as the host's own policies may be the cause
            taken = replace(taken, refused=shown(error))
        if taken == self.taken:
            return
        self.taken = taken
        if taken.refused:
            self._log.error("the policies of the group %s are not taken: %s; the ones before stay", group, taken.refused)
        else:
            self._log.info("the policies of the group %s are in force, revision %d", group, taken.revision)

    async def _take_orders(self, store: Store, member: Member) -> None:
        kept = await store.read(ORDERS, self._host)
        if kept.data is None:
            return  # no coordinator has said anything
        balanced_at = self._balanced_at
        try:
            authorized = await self._authorized(store)
            orders = self._revisions.open(Orders, ORDERS, self._host, kept.data, self._operators | {*authorized.keys}).record
            before = self._revisions.moves
            if not member.draining and any((move.guest, move.order) not in before for move in orders.moves):
                member = await self._member(store) or member  # that the host is drained was written before these: maybe after it was read
            found = [self._progress(move, before, member, orders, authorized.removed) for move in orders.moves]
            told = [one for one in found if one is not None]
            self._revisions.note(told)
        except MomError as error:
            self._balanced_at = balanced_at  # what could not be noted is not begun
            raise LinkError(f"this host's orders: {shown(error)}: nothing more is moved") from None
        accepted = {one.guest for one in told if one.state is MoveState.ACCEPTED}
        self._keep({move.guest: move for move in orders.moves if move.guest in accepted})
        progress = Progress(moves=tuple(told))
        if told or progress != self._told_progress:  # with each look: servers that have lost it would have a drain wait for that for ever
            await store.put(PROGRESS, self._host, progress.packed())
            self._told_progress = progress

    async def _authorized(self, store: Store) -> AuthorizedKeys:
        """Return the coordinators whose orders this host follows beside operators', and the hosts that were removed."""
        kept = await store.read(AUTHORIZED, COORDINATORS)
        if kept.data is None:
            return AuthorizedKeys()
        return self._revisions.open(AuthorizedKeys, AUTHORIZED, COORDINATORS, kept.data, self._operators).record

    def _progress(
        self, move: Move, before: Mapping[tuple[str, int], OrderProgress], member: Member, orders: Orders, removed: Mapping[str, int]
    ) -> OrderProgress | None:
        """How far this host is with a move; None: it cannot say yet. One that it is done with is not begun again: what is signed may be
        said more than once."""
        earlier = before.get((move.guest, move.order))
        if earlier is None:
            why = self._why_not_there(move, member, orders, removed) or self._why_stays(move, member)
            if why is None:
                return None
            if why:
                self._log.warning("guest %s is not moved to %s: %s", printable(move.name), move.to, printable(why, 200))
            return OrderProgress(move.guest, move.order, MoveState.FAILED if why else MoveState.ACCEPTED, printable(why, 400))
        with self._lock:
            result = self._results.get(move.guest)
        if result is not None and earlier.state is MoveState.ACCEPTED:
            return OrderProgress(move.guest, move.order, result[0], printable(result[1], 400))
        return earlier

    def _why_not_there(self, move: Move, member: Member, orders: Orders, removed: Mapping[str, int]) -> str:
        """Why no operator lets guests of this host go there; empty: one does. A coordinator's word is not enough: its key may be stolen."""
        try:
            entry = self._revisions.open(Member, ROSTER, move.to, orders.entries.get(move.to, "").encode(), self._operators)
        except MomError as error:
            return f"the entry of {move.to}: {shown(error)}"
        there = entry.record
        if entry.revision <= removed.get(move.to, 0):
            return f"an operator has removed {move.to} from the fleet"
        if there.group != member.group or there.cordoned or there.draining:
            return f"no operator lets guests of this host go to {move.to}"
        return "" if move.destination in (there.address, Destination.ANYWHERE) else f"by its entry {move.to} is reached elsewhere"

    def _why_stays(self, move: Move, member: Member) -> str | None:
        """Why a guest does not leave this host now; empty: it does; None: it cannot say yet. For balance one does at a time, whatever is
        ordered."""
        if member.draining:
            return self._accepts(move)
        if not (member.balance and move.balance):
            return "the host is not drained"
        if time.monotonic() - self._balanced_at < BALANCE_SECONDS:
            return "another guest has left for balance only just now"
        why = self._accepts(move)
        if why == "":
            self._balanced_at = time.monotonic()
        return why

    def _keep(self, moves: Mapping[str, Move]) -> None:
        with self._lock:
            new = moves.keys() - self._moves.keys()
            self._moves = moves
            self._results = {guest: result for guest, result in self._results.items() if guest in moves}
        if new:
            self._wake("fleet: guests are to leave")

    async def _tell(self, store: Store) -> None:
        """Tell how this host is when that has changed, and as a sign of life."""
        told: HostState | None = None
        at = float("-inf")
        while True:
            try:
                state = self._state()
                if state is not None and (state != told or time.monotonic() - at >= HEARTBEAT_SECONDS):
                    await store.put(STATES, self._host, state.packed())
                    told, at = state, time.monotonic()
            except LinkError as error:
                self._log.debug("%s", shown(error))
            except Exception as error:  # noqa: BLE001  # too much for a message, or a mistake, also of other plugins: later it may be otherwise
                self._log.error("what this host is cannot be told to the fleet: %s", shown(error))
            await asyncio.sleep(self._publish_seconds)
