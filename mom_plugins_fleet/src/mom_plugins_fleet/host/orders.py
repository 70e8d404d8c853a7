"""Orders of this host: accepts moves, and tracks their progress."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Final

from mom_core import MomError, printable
from mom_kvm import Destination
from mom_plugins_fleet.buckets import AUTHORIZED, COORDINATORS, ORDERS, ROSTER
from mom_plugins_fleet.link import LinkError, Store
from mom_plugins_fleet.records import AuthorizedKeys, Kind, Member, Move, MoveState, OrderProgress, Orders, shown
from mom_plugins_fleet.signatures import SeenRevisions

BALANCE_SECONDS: Final = 300.0
"""Least time between two moves for balance, whatever a coordinator orders."""


class HostOrders:
    """Verified orders of a host. `moves` and `finish` are thread-safe; other methods raise `LinkError` for unusable records.

    :param operators: public keys of the operators who direct this host; if empty, the host only reports
    :param accepts: returns why a move's guest must stay for now; empty if it may leave, None if not yet known
    """

    def __init__(
        self,
        host: str,
        operators: Collection[str],
        revisions: SeenRevisions,
        log: logging.Logger,
        accepts: Callable[[Move], str | None],
        wake: Callable[[str], None],
    ) -> None:
        self._host, self.operators, self._revisions, self._log = host, frozenset(operators), revisions, log
        self._accepts, self._wake = accepts, wake
        self._lock = threading.Lock()
        self._results: dict[str, tuple[MoveState, str]] = {}
        self._moves: Mapping[str, Move] = {}
        self._balanced_at = float("-inf")
        self._orders: bytes | None = None
        self._authorized: bytes | None = None
        self._member: Member | None = None
        self.draining = False
        self.balance = False

    @property
    def progress(self) -> Collection[OrderProgress]:
        """Progress of moves, including moves of an earlier run."""
        return self._revisions.moves.values()

    def moves(self) -> Mapping[str, Move]:
        """Return accepted, unfinished moves, keyed by guest id."""
        with self._lock:
            return {guest: move for guest, move in self._moves.items() if guest not in self._results}

    def finish(self, guest: str, state: MoveState, error: str = "") -> None:
        """Record the end of a move."""
        with self._lock:
            self._results[guest] = (state, error)

    async def read(self, store: Store) -> Member | None:
        """Read the records of this host, for `follow`. Return the host's entry, if any."""
        # Read the entry last: the orders, which may count only during a drain, must not be newer.
        keys = ((ORDERS, self._host), (AUTHORIZED, COORDINATORS), (ROSTER, self._host))
        self._orders, self._authorized, entry = [(await store.read(*key)).data for key in keys]
        try:
            member = self._opened(Member, self._host, entry)
            self._revisions.save()
        except MomError as error:
            raise LinkError(f"this host's entry in the fleet cannot be used: {shown(error)}") from None
        self._member = None if member is None or member.removed else member
        self.draining, self.balance = (False, False) if self._member is None else (self._member.draining, self._member.balance)
        return self._member

    def follow(self) -> None:
        """Accept or refuse new moves, and record the progress of all moves."""
        if self._orders is None or self._member is None:
            return
        try:
            self._accept(self._orders, self._member)
        except MomError as error:
            raise LinkError(
                f"mom moves no more guests, because it cannot accept the coordinator's orders for this host: {shown(error)}"
            ) from None

    def _opened(self, kind: type[Kind], key: str, data: bytes | None, trusted: Collection[str] = ()) -> Kind | None:
        return None if data is None else self._revisions.open(kind, key, data, self.operators | {*trusted}).record

    def _accept(self, data: bytes, member: Member) -> None:
        authorized = self._opened(AuthorizedKeys, COORDINATORS, self._authorized) or AuthorizedKeys()
        orders = self._opened(Orders, self._host, data, authorized.keys) or Orders()
        before = self._revisions.moves
        steps = [self._step(move, before, member, orders) for move in orders.moves]
        progress = tuple(step for step in steps if step is not None)
        self._revisions.note(progress)  # no move starts without a record on disk
        accepted = {step.guest for step in progress if step.state is MoveState.ACCEPTED}
        self._take({move.guest: move for move in orders.moves if move.guest in accepted})

    def _take(self, moves: Mapping[str, Move]) -> None:
        with self._lock:
            has_new = bool(moves.keys() - self._moves.keys())
            self._moves = moves
            self._results = {guest: result for guest, result in self._results.items() if guest in moves}
        if has_new:
            self._wake("fleet: guests have to move away")

    def _step(self, move: Move, before: Mapping[tuple[str, int], OrderProgress], member: Member, orders: Orders) -> OrderProgress | None:
        # None means not known yet. A finished move never restarts.
        earlier = before.get((move.guest, move.order))
        if earlier is None:
            why = self._why_not_there(move, member, orders) or self._why_stays(move, member)
            if why is None:
                return None
            if why:
                self._log.warning("guest %s is not moved to %s: %s", printable(move.name), move.to, printable(why, 200))
            return OrderProgress(move.guest, move.order, MoveState.FAILED if why else MoveState.ACCEPTED, printable(why, 200))
        with self._lock:
            result = self._results.get(move.guest)
        if result is not None and earlier.state is MoveState.ACCEPTED:
            return OrderProgress(move.guest, move.order, result[0], printable(result[1], 200))
        return earlier

    def _why_not_there(self, move: Move, member: Member, orders: Orders) -> str:
        try:
            target = self._revisions.open(Member, move.to, orders.entries.get(move.to, "").encode(), self.operators).record
        except MomError as error:
            return f"the entry of {move.to} cannot be used: {shown(error)}"
        if target.group != member.group or target.cordoned or target.draining or target.removed:
            return f"no operator allows guests of this host to move to {move.to}"
        return (
            ""
            if move.destination in (target.address, Destination.ANYWHERE)
            else f"the entry of {move.to} has a different address than the order"
        )

    def _why_stays(self, move: Move, member: Member) -> str | None:
        # None means not known yet.
        if member.draining:
            return self._accepts(move)
        if not (member.balance and move.balance):
            return "the host is not drained"
        if time.monotonic() - self._balanced_at < BALANCE_SECONDS:
            return f"another guest has left for balance within the last {BALANCE_SECONDS:g} s"
        why = self._accepts(move)
        if why == "":
            self._balanced_at = time.monotonic()
        return why
