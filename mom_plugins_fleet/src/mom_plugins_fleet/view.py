"""All of the fleet as a reader of the buckets sees it: members, groups, states and orders, kept up to date by what is heard."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic

from mom_core import MomError
from mom_kvm import Destination
from mom_plugins_fleet.link import LinkError, Store
from mom_plugins_fleet.records import (
    AuthorizedKeys,
    Group,
    HostedGuest,
    HostState,
    Kind,
    Member,
    Move,
    MoveState,
    Orders,
    Progress,
    read,
    shown,
)
from mom_plugins_fleet.revisions import SeenRevisions
from mom_plugins_fleet.subjects import AUTHORIZED, COORDINATOR, COORDINATORS, GROUPS, LEASES, ORDERS, PROGRESS, ROSTER, STATES, StoredEntry

SILENT_SECONDS: Final = 75.0
"""A host that has said nothing for so long is lost: two signs of life are missing. By the listener's clock; hosts' clocks are
never compared."""

ARRIVES_SECONDS: Final = 120.0
"""When the host to which a guest has gone tells how it is so long after, and not of that guest, the guest is not there: it has ended. A
host's mom has looked at its guests by then, and has told twice."""

SETTLES_SECONDS: Final = 60.0
"""A host lists a guest from the moment on in which it begins to come, and may have told how much memory is available then, and not since:
so long after it has come its memory counts as not seen there yet. Hosts tell how they are every 30 s at least."""

AGAIN_SECONDS: Final = 1.0
"""How soon a watch that has ended is begun anew."""


@dataclass(slots=True)
class Bucket(Generic[Kind]):
    """A bucket as it was read: revision and record by key, and what was wrong with those that could not be read.

    `trusted` are the public keys of those who sign what stands there, None where it is not signed: nothing else counts, and nothing that
    `revisions` knows to be over. The revision is the signed one then.
    """

    kind: type[Kind]
    name: str
    trusted: frozenset[str] | None = None
    revisions: SeenRevisions = field(default_factory=SeenRevisions)
    removed: Mapping[str, int] = field(default_factory=dict)
    """Of keys that were removed, the last revision: neither it nor one before counts."""
    records: dict[str, tuple[int, Kind]] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)
    set_at: dict[str, float] = field(default_factory=dict)
    """When what stands at a key was set, by the servers' clock."""
    heard: dict[str, float] = field(default_factory=dict)
    """When each key was heard to be set, in monotonic seconds; what stood there before it was watched may be old."""
    current: bool = False
    """True while this is all, and each change is heard of."""
    _stored: dict[str, StoredEntry] = field(default_factory=dict)
    """Signed entries, as they stand there: each is opened again when others are trusted, and not again as long as it stays."""
    _revisions: dict[str, int] = field(default_factory=dict)
    """The servers' revision of each key, since this was begun to be told: what comes later may be an older answer."""
    _told: set[str] = field(default_factory=set)

    def begins(self) -> None:
        """All of it is told from here on. Servers that were set up anew, or have lost their last minute, count from where they are."""
        self.current = False
        self._told, self._revisions = set(), {}

    def told(self, key: str, kept: StoredEntry, *, live: bool) -> None:
        """The entry at that key now.

        :param live: it was set just now
        """
        self._told.add(key)
        if not live and 0 < kept.at < self.set_at.get(key, 0.0):
            self.heard.pop(key, None)  # servers that were set back: it is older than what was heard
        self.take(key, kept)
        if live and key in self.records:
            self.heard[key] = time.monotonic()

    def complete(self) -> None:
        """All of it has been told."""
        for gone in (self.records.keys() | self.damaged.keys() | self.set_at.keys()) - self._told - self._revisions.keys():
            self._put(gone, StoredEntry(0, None))
        self.current = True

    def take(self, key: str, kept: StoredEntry) -> None:
        """Take the entry at that key, unless a newer one is known."""
        if kept.revision >= self._revisions.get(key, 0):
            self._revisions[key] = kept.revision
            self._put(key, kept)

    def _put(self, key: str, kept: StoredEntry) -> None:
        if kept.data is None:
            for by_key in (self.damaged, self.set_at, self.heard, self.records, self._stored):
                by_key.pop(key, None)
            return
        if kept.at:
            self.set_at[key] = kept.at
        if self.trusted is not None:
            known = self._stored.get(key)
            self._stored[key] = kept
            if known is not None and known.data == kept.data and key not in self.damaged:
                return
        self._open(key, kept.revision, kept.data)

    def _open(self, key: str, revision: int, data: bytes) -> None:
        self.damaged.pop(key, None)
        try:
            if self.trusted is None:
                self.records[key] = revision, read(self.kind, data)
            else:
                found = self.revisions.open(self.kind, self.name, key, data, self.trusted)
                if found.revision <= self.removed.get(key, 0):
                    raise MomError("an operator has removed it")
                self.records[key] = found.revision, found.record
        except MomError as error:
            self.records.pop(key, None)
            self.damaged[key] = error.message

    def trust(self, keys: frozenset[str], removed: Mapping[str, int] | None = None) -> None:
        """From now on these public keys sign what stands here. What was not taken is looked at again: it may have been the clock."""
        changed = keys != self.trusted or (removed or {}) != self.removed
        again = [*self._stored] if changed else [key for key in self.damaged if key in self._stored]
        self.trusted, self.removed = keys, removed or {}
        for key in again:
            kept = self._stored[key]
            self._open(key, kept.revision, kept.data or b"")

    def signed(self, key: str) -> str:
        """The record at that key, with its signature; empty where nothing counts."""
        kept = self._stored.get(key)
        return "" if kept is None or kept.data is None or key not in self.records else kept.data.decode()

    def stands(self, key: str) -> int:
        """The servers' revision of what is at that key; 0: nothing."""
        return self._stored[key].revision if key in self._stored else 0

    def get(self, key: str) -> Kind | None:
        """The record at that key."""
        found = self.records.get(key)
        return None if found is None else found[1]


@dataclass(slots=True)
class FleetView:
    """The fleet at this moment. States of hosts that are no members are left out wherever they would count."""

    operators: frozenset[str] = frozenset()
    """The public keys of operators: what none of them has signed directs nothing."""
    revisions: SeenRevisions = field(default_factory=lambda: SeenRevisions(at_once=False))
    """The revisions of this that were seen before."""
    members: Bucket[Member] = field(default_factory=lambda: Bucket(Member, ROSTER, frozenset()))
    groups: Bucket[Group] = field(default_factory=lambda: Bucket(Group, GROUPS, frozenset()))
    states: Bucket[HostState] = field(default_factory=lambda: Bucket(HostState, STATES))
    orders: Bucket[Orders] = field(default_factory=lambda: Bucket(Orders, ORDERS, frozenset()))
    progress: Bucket[Progress] = field(default_factory=lambda: Bucket(Progress, PROGRESS))
    authorized: Bucket[AuthorizedKeys] = field(default_factory=lambda: Bucket(AuthorizedKeys, AUTHORIZED, frozenset()))
    lease: StoredEntry = field(default_factory=lambda: StoredEntry(0, None))
    """The coordinator's, as it was loaded."""
    left: dict[tuple[str, str], float] = field(default_factory=dict)
    """Since when guests are known to have left a host, and were not seen where they went to; monotonic seconds by host and guest."""
    _guests_of: dict[str, tuple[HostState, Mapping[str, HostedGuest]]] = field(default_factory=dict)
    """Those of each host by id, with what they were told in: a guest that has left is looked for on all hosts."""

    def __post_init__(self) -> None:
        for bucket in self.buckets:
            bucket.revisions = self.revisions
        self.trust()

    def trust(self) -> None:
        """Believe the orders of those who are authorized now, and what was ahead of a clock that has been set since."""
        self.authorized.trust(self.operators)
        authorized = self.authorized.get(COORDINATORS)
        self.members.trust(self.operators, None if authorized is None else authorized.removed)
        self.groups.trust(self.operators)
        self.orders.trust(self.orderers)

    @property
    def buckets(self) -> tuple[Bucket[Any], ...]:
        """All that is looked at."""
        return self.members, self.groups, self.states, self.authorized, self.orders, self.progress

    @property
    def current(self) -> bool:
        """True while all is known, and each change is heard of."""
        return all(bucket.current for bucket in self.buckets)

    @property
    def newest(self) -> float:
        """When anyone in the fleet has said anything last, a coordinator included, by the servers' clock; 0: never."""
        return max((*self.states.set_at.values(), self.lease.at))

    @property
    def lag(self) -> float:
        """How many seconds ago that was, by the clock here; 0 unless all of the fleet is silent by that."""
        lag = time.time() - self.newest if self.newest else 0.0
        return lag if lag > SILENT_SECONDS else 0.0

    async def load(self, store: Store) -> None:
        """Read all buckets once.

        How long ago hosts were heard of is told by how much older than the newest sign of life their states are, by the servers' clock: no
        host's counts. The clock here does only where all of the fleet is silent by it.
        """
        for bucket in self.buckets:
            found = await store.load(bucket.name)
            bucket.begins()
            for key, kept in found.items():
                bucket.told(key, kept, live=False)
            bucket.complete()
        self.trust()
        self.lease = await store.read(LEASES, COORDINATOR)
        known = time.monotonic() - self.lag - self.newest
        self.states.heard.update({host: known + at for host, at in self.states.set_at.items()})

    async def follow(self, store: Store, trouble: Callable[[str], None]) -> None:
        """Keep all of it up to date, until this is cancelled, or the servers want no more of it: then it raises `LinkError`.

        :param trouble: told once for each reason why it is not up to date, and with an empty one when it is again
        """
        try:
            async with asyncio.TaskGroup() as group:
                for bucket in self.buckets:
                    group.create_task(self._follow(store, bucket, trouble))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        finally:
            for bucket in self.buckets:
                bucket.current = False

    async def look_often(
        self, store: Store, look: Callable[[Store], Awaitable[None]], seconds: float, trouble: Callable[[str], None]
    ) -> None:
        """Follow it, and look at it so often while it is up to date, until this is cancelled. Raises as `follow` does; what `look` cannot
        is `trouble`."""
        following = asyncio.create_task(self.follow(store, trouble))
        try:
            while not following.done():
                try:
                    if self.current:
                        await look(store)
                        trouble("")
                except LinkError as error:
                    trouble(shown(error))
                await asyncio.wait([following], timeout=seconds)
            await following
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    async def _follow(self, store: Store, bucket: Bucket[Any], trouble: Callable[[str], None]) -> None:
        def whole() -> None:
            if self.current:
                trouble("")

        while True:
            try:
                await store.watch(bucket.name, bucket, whole)
            except LinkError as error:
                bucket.current = False
                if store.closed:
                    raise
                trouble(shown(error))
            await asyncio.sleep(AGAIN_SECONDS)

    @property
    def orderers(self) -> frozenset[str]:
        """Whose orders hosts follow: operators, and coordinators that one has authorized."""
        authorized = self.authorized.get(COORDINATORS)
        return self.operators | {*(() if authorized is None else authorized.keys)}

    def ordered(self, host: str) -> Orders | None:
        """A host's orders, with how far it says that it is with each of its moves."""
        orders, told = self.orders.get(host), self.progress.get(host)
        if orders is None or told is None:
            return orders
        how_far = {(one.guest, one.order): {"state": one.state, "error": one.error} for one in told.moves}
        moves = tuple(move.model_copy(update=how_far.get((move.guest, move.order))) for move in orders.moves)
        return orders.model_copy(update={"moves": moves})

    def all_ordered(self) -> Iterator[tuple[str, Orders]]:
        """Of all hosts that have orders."""
        for host in list(self.orders.records):
            orders = self.ordered(host)
            if orders is not None:
                yield host, orders

    def hosts_of(self, group: str) -> list[str]:
        """The hosts of a group, by name."""
        return sorted(name for name, (_, member) in self.members.records.items() if member.group == group)

    def is_fresh(self, host: str) -> bool:
        """True for a member that was heard of lately, and has said what can be read."""
        age = self.age(host)
        return age is not None and age < SILENT_SECONDS and host in self.members.records and host in self.states.records

    def age(self, host: str) -> float | None:
        """How many seconds ago that host was heard of; None: never."""
        at = self.states.heard.get(host)
        return None if at is None else time.monotonic() - at

    def guests(self, host: str) -> Mapping[str, HostedGuest]:
        """The guests that a host tells about, by id."""
        state, known = self.states.get(host), self._guests_of.get(host)
        if state is None:
            return {}
        if known is None or known[0] is not state:
            known = self._guests_of[host] = state, {guest.id: guest for guest in state.guests}
        return known[1]

    def is_coming(self, host: str, move: Move) -> bool:
        """True for a guest that left `host` and has yet to be seen where it went to. One that has ended since is not waited for."""
        if move.state is not MoveState.DONE or move.to not in self.members.records or move.guest in self.guests(move.to):
            return False
        if move.destination == Destination.ANYWHERE and any(move.guest in self.guests(one) for one in self.members.records if one != host):
            return False  # its mover has chosen another host
        return not self._told_since_left(move.to, host, move)

    def is_settling(self, host: str, move: Move) -> bool:
        """True for a guest that has left `host` and has come, of which what the other host tells may not have all the memory yet."""
        if move.state is not MoveState.DONE or move.guest not in self.guests(move.to):
            return False
        since = self.left.setdefault((host, move.guest), time.monotonic())
        return self.states.heard.get(move.to, float("-inf")) - since < SETTLES_SECONDS

    def is_over(self, host: str, move: Move) -> bool:
        """True when a move from `host` is done, and that host has told how it is without the guest. One that it still tells of
        a while later has come back."""
        if move.state is not MoveState.DONE or self.is_coming(host, move):
            return False
        return move.guest not in self.guests(host) or self._told_since_left(host, host, move)

    def _told_since_left(self, teller: str, host: str, move: Move) -> bool:
        """True if `teller` has told how it is long enough after a guest left `host`."""
        since = self.left.setdefault((host, move.guest), time.monotonic())
        return self.is_fresh(teller) and self.states.heard.get(teller, float("-inf")) - since > ARRIVES_SECONDS

    def forget_arrivals(self) -> None:
        """Forget since when guests have left whose moves are over: they may leave again; and the guests of hosts that are gone."""
        self._guests_of = {host: known for host, known in self._guests_of.items() if host in self.states.records}
        done = {(host, move.guest) for host, orders in self.all_ordered() for move in orders.moves if move.state is MoveState.DONE}
        self.left = {key: since for key, since in self.left.items() if key in done}
