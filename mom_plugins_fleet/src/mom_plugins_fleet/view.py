"""View of the whole fleet, updated by watches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from mom_kvm import Destination
from mom_plugins_fleet.buckets import COORDINATOR, COORDINATORS, LEASES, Bucket, StoredEntry
from mom_plugins_fleet.link import LinkError, Store
from mom_plugins_fleet.records import AuthorizedKeys, FinishedMove, Group, HostedGuest, HostState, Member, Move, MoveState, Orders, shown
from mom_plugins_fleet.signatures import SeenRevisions

SILENT_SECONDS: Final = 75.0
"""A host counts as silent this long after its last report: two missed heartbeats, by the reader's clock."""

ARRIVES_SECONDS: Final = 120.0
"""Within this time (two reports), a moved guest must appear in the destination's reports, and disappear from the source's."""

SETTLES_SECONDS: Final = 60.0
"""For this long after a move, the destination's reported available memory may not reflect the guest yet."""

AGAIN_SECONDS: Final = 1.0


class FleetView:
    """Current view of the fleet. Non-members' states are ignored."""

    def __init__(self, operators: frozenset[str] = frozenset(), revisions: SeenRevisions | None = None) -> None:
        self.operators, self.revisions = operators, revisions or SeenRevisions()
        self.members = Bucket(Member, frozenset(), self.revisions)
        self.groups = Bucket(Group, frozenset(), self.revisions)
        self.states = Bucket(HostState)
        self.orders = Bucket(Orders, frozenset(), self.revisions)
        self.authorized = Bucket(AuthorizedKeys, frozenset(), self.revisions)
        self.lease = StoredEntry(0, None)
        self.trust()

    def trust(self) -> None:
        """Apply the authorized keys, and retry damaged records."""
        for bucket in (self.authorized, self.members, self.groups):
            bucket.trust(self.operators)
        self.orders.trust(self.orderers)

    @property
    def buckets(self) -> tuple[Bucket[Any], ...]:
        """All watched buckets."""
        return self.members, self.groups, self.states, self.authorized, self.orders

    @property
    def current(self) -> bool:
        """Whether all records are known and all watches run."""
        return all(bucket.current for bucket in self.buckets)

    @property
    def newest(self) -> float:
        """Time of the last write, by the servers' clock; 0 if never."""
        return max(self.states.newest, self.lease.at)

    @property
    def lag(self) -> float:
        """Seconds since `newest` if the whole fleet seems silent; otherwise 0."""
        lag = time.time() - self.newest if self.newest else 0.0
        return lag if lag > SILENT_SECONDS else 0.0

    async def load(self, store: Store) -> None:
        """Read all buckets once."""
        for bucket in self.buckets:
            await store.load(bucket)
        self.trust()
        self.lease = await store.read(LEASES, COORDINATOR)

    async def follow(self, store: Store, trouble: Callable[[str], None]) -> None:
        """Keep the view current until cancelled. Raise `LinkError` if the servers refuse the key.

        :param trouble: called with why the view is outdated
        """
        try:
            async with asyncio.TaskGroup() as group:
                for bucket in self.buckets:
                    group.create_task(self._follow(store, bucket, trouble))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _follow(self, store: Store, bucket: Bucket[Any], trouble: Callable[[str], None]) -> None:
        while True:
            try:
                await store.watch(bucket)
            except LinkError as error:
                if store.closed:
                    raise
                trouble(shown(error))
            await asyncio.sleep(AGAIN_SECONDS)

    @property
    def orderers(self) -> frozenset[str]:
        """Keys that may sign orders to hosts."""
        authorized = self.authorized.get(COORDINATORS)
        return self.operators | {*(() if authorized is None else authorized.keys)}

    def ordered(self, host: str) -> Orders | None:
        """Return a host's orders, with the progress that the host reported. `finished` includes moves reported as done."""
        orders, state = self.orders.get(host), self.states.get(host)
        if orders is None or state is None:
            return orders
        reported = {(step.guest, step.order): step for step in state.moves}
        moves, finished = [], [*orders.finished]
        for move in orders.moves:
            step = reported.get((move.guest, move.order))
            if step is not None and step.state is MoveState.DONE:
                finished.append(ended(move, step.state, self.states.set_at.get(host, 0.0)))
            else:
                moves.append(move if step is None else move.model_copy(update={"state": step.state, "error": step.error}))
        return orders.model_copy(update={"moves": tuple(moves), "finished": tuple(finished)})

    def all_ordered(self) -> Iterator[tuple[str, Orders]]:
        """Yield hosts that have orders, and their orders."""
        for host in list(self.orders.records):
            orders = self.ordered(host)
            if orders is not None:
                yield host, orders

    def is_fresh(self, host: str) -> bool:
        """Return whether a member recently reported a valid state."""
        age = self.age(host)
        return age is not None and age < SILENT_SECONDS and host in self.members.records and host in self.states.records

    def age(self, host: str) -> float | None:
        """Return seconds since the last report; None if never."""
        at = self.states.set_at.get(host)
        heard = self.states.newest + time.monotonic() - self.states.newest_heard
        return None if at is None else max(heard, self.newest + self.lag) - at

    def guests(self, host: str) -> Mapping[str, HostedGuest]:
        """Return the guests that a host reports, keyed by id."""
        state = self.states.get(host)
        return {} if state is None else state.guests_by_id

    def is_coming(self, host: str, move: FinishedMove) -> bool:
        """Return whether a guest that left `host` has not appeared elsewhere yet."""
        if move.state is not MoveState.DONE or move.to not in self.members.records or move.guest in self.guests(move.to):
            return False
        elsewhere = (name for name in self.members.records if name != host)
        if move.destination == Destination.ANYWHERE and any(move.guest in self.guests(name) for name in elsewhere):
            return False  # the mover chose another host
        return self.reported_after(move.to, move) <= ARRIVES_SECONDS

    def is_settling(self, move: FinishedMove) -> bool:
        """Return whether the destination's reported available memory may not reflect a new guest yet."""
        arrived = move.state is MoveState.DONE and move.guest in self.guests(move.to)
        return arrived and self.reported_after(move.to, move) < SETTLES_SECONDS

    def reported_after(self, host: str, move: FinishedMove) -> float:
        """Return seconds between the end of a move and the host's last report."""
        return self.states.set_at.get(host, 0.0) - move.at


def ended(move: Move, state: MoveState, at: float) -> FinishedMove:
    """Return a finished move. `at` is in seconds since the epoch, by the servers' clock."""
    return FinishedMove.model_validate({**dict(move), "state": state, "at": at})
