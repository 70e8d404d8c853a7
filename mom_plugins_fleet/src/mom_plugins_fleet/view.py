"""All of the fleet as a reader of the buckets sees it: members, groups, states and orders, kept up to date by what is heard."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from mom_core import MomError
from mom_plugins_fleet.link import Store, StoredEntry
from mom_plugins_fleet.records import (
    Appointments,
    FleetRecord,
    GuestState,
    HostState,
    Member,
    Move,
    MoveState,
    OrderProgress,
    Orders,
    Progress,
    read,
)
from mom_plugins_fleet.signatures import opened
from mom_plugins_fleet.subjects import APPOINTMENTS, COORDINATORS, ORDERS, PROGRESS, ROSTER, STATES

SILENT_SECONDS: Final = 75.0
"""A host that has said nothing for so long is lost: two signs of life are missing. By the listener's clock; hosts' clocks are
never compared."""

ARRIVES_SECONDS: Final = 120.0
"""When the host to which a guest has gone tells how it is so long after, and not of that guest, the guest is not there: it has ended. A
host's mom has looked at its guests by then, and has told twice."""

Kind = TypeVar("Kind", bound=FleetRecord)


@dataclass(slots=True)
class Bucket(Generic[Kind]):
    """A bucket as it was read: revision and record by key, and what was wrong with those that could not be read.

    `trusted` are the public keys of those who sign what stands there, None where it is not signed: nothing else counts, and nothing that is
    older than what was here before. The revision is the signed one then.
    """

    kind: type[Kind]
    name: str
    trusted: frozenset[str] | None = None
    records: dict[str, tuple[int, Kind]] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)
    set_at: dict[str, float] = field(default_factory=dict)
    """When what stands at a key was set, by the servers' clock; only of keys that were read, not of those that were heard of."""
    newest: dict[str, int] = field(default_factory=dict)
    """The newest revision that was signed for each key."""
    seen: dict[str, bytes] = field(default_factory=dict)
    """What was opened at each key, so that a signature is not checked again with each look."""

    def take(self, key: str, kept: StoredEntry) -> None:
        """What stands at that key now."""
        self.damaged.pop(key, None)
        self.set_at.pop(key, None)
        if kept.at:
            self.set_at[key] = kept.at
        if kept.data is None:
            self.records.pop(key, None)
            return
        try:
            self.records[key] = self._read(key, kept.revision, kept.data)
        except MomError as error:
            self.records.pop(key, None)
            self.damaged[key] = error.message

    def _read(self, key: str, revision: int, data: bytes) -> tuple[int, Kind]:
        if self.trusted is None:
            return revision, read(self.kind, data)
        known = self.records.get(key)
        if known is not None and self.seen.get(key) == data:
            return known
        found, newest = opened(self.kind, self.name, key, data, self.trusted), self.newest.get(key, 0)
        if found.revision < newest:
            raise MomError(f"revision {found.revision} is older than {newest}, which stood here")
        self.seen[key], self.newest[key] = data, found.revision
        return found.revision, found.record

    def trust(self, keys: frozenset[str]) -> None:
        """From now on these public keys sign what stands here."""
        if keys != self.trusted:
            self.trusted = keys
            self.seen.clear()

    def get(self, key: str) -> Kind | None:
        """The record at that key."""
        found = self.records.get(key)
        return None if found is None else found[1]


@dataclass(slots=True)
class FleetView:
    """The fleet at this moment. States of hosts that are no members are left out wherever they would count."""

    operators: frozenset[str] = frozenset()
    """The public keys of operators: what none of them has signed directs nothing."""
    members: Bucket[Member] = field(default_factory=lambda: Bucket(Member, ROSTER, frozenset()))
    states: Bucket[HostState] = field(default_factory=lambda: Bucket(HostState, STATES))
    orders: Bucket[Orders] = field(default_factory=lambda: Bucket(Orders, ORDERS, frozenset()))
    progress: Bucket[Progress] = field(default_factory=lambda: Bucket(Progress, PROGRESS))
    appointments: Bucket[Appointments] = field(default_factory=lambda: Bucket(Appointments, APPOINTMENTS, frozenset()))
    heard: dict[str, float] = field(default_factory=dict)
    """When each host was heard of, in monotonic seconds; a state that was only read from the bucket may be old."""
    left: dict[tuple[str, str], float] = field(default_factory=dict)
    """Since when guests are known to have left a host, and were not seen where they went to; monotonic seconds by host and guest."""

    async def load(self, store: Store) -> None:
        """Read all buckets anew."""
        self.members.trust(self.operators)
        self.appointments.trust(self.operators)
        await _load(store, self.members)
        await _load(store, self.states)
        await _load(store, self.appointments)
        self.orders.trust(self.orderers)
        await _load(store, self.orders)
        await _load(store, self.progress)

    @property
    def orderers(self) -> frozenset[str]:
        """Whose orders hosts follow: operators, and coordinators that one has appointed."""
        appointed = self.appointments.get(COORDINATORS)
        return self.operators | {*(() if appointed is None else appointed.keys)}

    def ordered(self, host: str) -> Orders | None:
        """A host's orders, with how far it says that it is with each of its moves."""
        orders, told = self.orders.get(host), self.progress.get(host)
        if orders is None or told is None:
            return orders
        by_move = {(one.guest, one.order): one for one in told.moves}
        return orders.model_copy(update={"moves": tuple(_merged(move, by_move.get((move.guest, move.order))) for move in orders.moves)})

    def all_ordered(self) -> Iterator[tuple[str, Orders]]:
        """Of all hosts that have orders."""
        for host in list(self.orders.records):
            orders = self.ordered(host)
            if orders is not None:
                yield host, orders

    async def heard_state(self, key: str, kept: StoredEntry) -> None:
        """A host says how it is. One that is called otherwise than its key, or is no member, lies."""
        self.states.take(key, kept)
        state = self.states.get(key)
        if state is not None and state.host != key:
            del self.states.records[key]
            self.states.damaged[key] = f"it says that it is {state.host}"
        elif state is not None and key in self.members.records:
            self.heard[key] = time.monotonic()

    def is_fresh(self, host: str) -> bool:
        """Whether that host is known to be there now."""
        at = self.heard.get(host)
        return at is not None and time.monotonic() - at < SILENT_SECONDS

    def ages(self, lease: StoredEntry) -> Mapping[str, float]:
        """How many seconds older than the newest sign of life each host's state is that was read, by the servers' clock: no host's counts.

        :param lease: the coordinator's, which is a sign of life, too
        """
        newest = max((*self.states.set_at.values(), lease.at))
        return {key: newest - at for key, at in self.states.set_at.items()}

    def guests(self, host: str) -> Mapping[str, GuestState]:
        """The guests that a host tells about, by id."""
        state = self.states.get(host)
        return {} if state is None else {guest.id: guest for guest in state.guests}

    def is_coming(self, host: str, move: Move) -> bool:
        """Whether a guest that left `host` has yet to be seen where it went to. One that has ended since is not waited for."""
        if move.state is not MoveState.DONE or move.to not in self.members.records or move.guest in self.guests(move.to):
            return False
        since = self.left.setdefault((host, move.guest), time.monotonic())
        return not (self.is_fresh(move.to) and self.heard[move.to] - since > ARRIVES_SECONDS)

    def forget_arrivals(self) -> None:
        """Forget since when guests have left whose moves are over: they may leave again."""
        done = {(host, move.guest) for host, orders in self.all_ordered() for move in orders.moves if move.state is MoveState.DONE}
        self.left = {key: since for key, since in self.left.items() if key in done}


def _merged(move: Move, told: OrderProgress | None) -> Move:
    return move if told is None else move.model_copy(update={"state": told.state, "error": told.error})


async def _load(store: Store, shelf: Bucket[Kind]) -> None:
    found = await store.load(shelf.name)
    for gone in [key for key in shelf.records if key not in found]:
        shelf.take(gone, StoredEntry(0, None))
    for key, kept in found.items():
        shelf.take(key, kept)
