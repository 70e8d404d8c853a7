"""All of the fleet as a reader of the buckets sees it: members, groups, states and orders, kept up to date by what is heard."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from mom_core import MomError
from mom_plugins_fleet.link import Store, StoredEntry
from mom_plugins_fleet.records import FleetRecord, GuestState, HostState, Member, Move, MoveState, Orders, read
from mom_plugins_fleet.subjects import ORDERS, ROSTER, STATES

SILENT_SECONDS: Final = 75.0
"""A host that has said nothing for so long is lost: two signs of life are missing. By the listener's clock; hosts' clocks are
never compared."""

ARRIVES_SECONDS: Final = 120.0
"""When the host to which a guest has gone tells how it is so long after, and not of that guest, the guest is not there: it has ended. A
host's mom has looked at its guests by then, and has told twice."""

Kind = TypeVar("Kind", bound=FleetRecord)


@dataclass(slots=True)
class Bucket(Generic[Kind]):
    """A bucket as it was read: revision and record by key, and what was wrong with those that could not be read."""

    kind: type[Kind]
    records: dict[str, tuple[int, Kind]] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)
    set_at: dict[str, float] = field(default_factory=dict)
    """When what stands at a key was set, by the servers' clock; only of keys that were read, not of those that were heard of."""

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
            self.records[key] = (kept.revision, read(self.kind, kept.data))
        except MomError as error:
            self.records.pop(key, None)
            self.damaged[key] = error.message

    def get(self, key: str) -> Kind | None:
        """The record at that key."""
        found = self.records.get(key)
        return None if found is None else found[1]


@dataclass(slots=True)
class FleetView:
    """The fleet at this moment. States of hosts that are no members are left out wherever they would count."""

    members: Bucket[Member] = field(default_factory=lambda: Bucket(Member))
    states: Bucket[HostState] = field(default_factory=lambda: Bucket(HostState))
    orders: Bucket[Orders] = field(default_factory=lambda: Bucket(Orders))
    heard: dict[str, float] = field(default_factory=dict)
    """When each host was heard of, in monotonic seconds; a state that was only read from the bucket may be old."""
    left: dict[tuple[str, str], float] = field(default_factory=dict)
    """Since when guests are known to have left a host, and were not seen where they went to; monotonic seconds by host and guest."""

    async def load(self, store: Store) -> None:
        """Read all buckets anew."""
        await _load(store, ROSTER, self.members)
        await _load(store, STATES, self.states)
        await _load(store, ORDERS, self.orders)

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
        done = {
            (host, move.guest) for host, (_, orders) in self.orders.records.items() for move in orders.moves if move.state is MoveState.DONE
        }
        self.left = {key: since for key, since in self.left.items() if key in done}


async def _load(store: Store, bucket: str, shelf: Bucket[Kind]) -> None:
    found = await store.load(bucket)
    for gone in [key for key in shelf.records if key not in found]:
        shelf.take(gone, StoredEntry(0, None))
    for key, kept in found.items():
        shelf.take(key, kept)
