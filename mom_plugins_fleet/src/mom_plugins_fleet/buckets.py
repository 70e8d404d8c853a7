"""JetStream buckets of the fleet: subjects, permissions, and checked copies that a watch updates.

A host may access only its own keys. It uses no consumers, because their permissions cannot be limited to a key.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Generic

from nats.js.api import KeyValueConfig, StorageType

from mom_core import MomError
from mom_plugins_fleet.records import LARGEST_RECORD, AuthorizedKeys, Group, HostState, Kind, Member, Orders, read
from mom_plugins_fleet.signatures import SeenRevisions

ROSTER: Final = Member.bucket
GROUPS: Final = Group.bucket
STATES: Final = HostState.bucket
ORDERS: Final = Orders.bucket
AUTHORIZED: Final = AuthorizedKeys.bucket
LEASES: Final = "mom-leases"
"""Bucket of the active coordinator's lease, which is the coordinator's name."""

COORDINATOR: Final = "coordinator"

COORDINATORS: Final = "coordinators"

GROUPS_KEPT: Final = 16
"""Versions of a group's record kept on the servers, for operators."""


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """Entry of a bucket.

    :param data: None if removed
    :param at: when it was set, in seconds since the epoch; 0 if unknown
    """

    revision: int
    data: bytes | None
    at: float = 0.0


def is_deleted(headers: Mapping[str, str]) -> bool:
    """Return whether headers mark a removed key."""
    return headers.get("KV-Operation") in ("DEL", "PURGE")


def subject(bucket: str, key: str) -> str:
    """Return the subject of messages that set a key."""
    return f"$KV.{bucket}.{key}"


def direct(bucket: str, key: str) -> str:
    """Return the subject of the request that reads a key."""
    return f"$JS.API.DIRECT.GET.KV_{bucket}.$KV.{bucket}.{key}"


def inbox(name: str) -> str:
    """Return the prefix of a client's inbox."""
    return f"_INBOX_mom_{name}"


def buckets(replicas: int) -> Iterable[KeyValueConfig]:
    """Yield the configurations of all buckets."""
    for name, history in {ROSTER: 8, GROUPS: GROUPS_KEPT, STATES: 1, ORDERS: 1, AUTHORIZED: 8, LEASES: 1}.items():
        largest = LARGEST_RECORD + 4096
        yield KeyValueConfig(name, None, largest, history, storage=StorageType.FILE, replicas=replicas, direct=True)


def used(host: str, group: str) -> list[str]:
    """Return the subjects that a host publishes to."""
    return [subject(STATES, host), direct(ROSTER, host), direct(GROUPS, group), direct(ORDERS, host), direct(AUTHORIZED, COORDINATORS)]


def heard(host: str, group: str) -> list[str]:
    """Return the subjects that a host subscribes to."""
    return [subject(ROSTER, host), subject(GROUPS, group), subject(ORDERS, host), subject(AUTHORIZED, COORDINATORS)]


_LATEST: Final = 1 << 36
"""Largest time in a record, in seconds since the epoch. Servers that report a later time are wrong."""


@dataclass(slots=True)
class Bucket(Generic[Kind]):
    """Records of a bucket, with their revisions. `trusted` lists the keys whose signatures count; None for an unsigned bucket.

    In a signed bucket, the signed revisions count, and outdated records are ignored.
    """

    kind: type[Kind]
    trusted: frozenset[str] | None = None
    revisions: SeenRevisions = field(default_factory=SeenRevisions)
    records: dict[str, tuple[int, Kind]] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)
    set_at: dict[str, float] = field(default_factory=dict)
    """Time of each key's last change, by the servers' clock."""
    newest: float = 0.0
    """Time of the last change, by the servers' clock; 0 if none."""
    newest_heard: float = field(default_factory=time.monotonic)
    """Monotonic time when `newest` arrived here."""
    current: bool = False
    stored: dict[str, StoredEntry] = field(default_factory=dict)
    """Signed entries, kept to verify them again when the trusted keys change."""
    _revisions: dict[str, int] = field(default_factory=dict)
    """Newest revision of each key since the watch began. A later answer may contain an older one."""

    def begins(self) -> None:
        """Forget the servers' revisions, because servers restored from a backup count from a lower number."""
        self.current, self._revisions = False, {}

    def complete(self) -> None:
        """End the initial load, and drop the keys that it did not contain."""
        for gone in (self.records.keys() | self.damaged.keys() | self.set_at.keys()) - self._revisions.keys():
            self._put(gone, StoredEntry(0, None))
        self.current = True

    def take(self, key: str, kept: StoredEntry) -> None:
        """Store an entry, unless a newer one is known."""
        if kept.revision >= self._revisions.get(key, 0):
            self._revisions[key] = kept.revision
            self._put(key, kept)

    def _put(self, key: str, kept: StoredEntry) -> None:
        if kept.data is None:
            for by_key in (self.damaged, self.set_at, self.records, self.stored):
                by_key.pop(key, None)
            return
        if 0 < kept.at < _LATEST:
            set_before, self.set_at[key] = self.set_at.get(key), kept.at
            was_wrong = self.current and set_before == self.newest and kept.at < set_before  # restored servers may have older entries
            if kept.at > self.newest or was_wrong:
                self.newest, self.newest_heard = max(self.set_at.values()), time.monotonic()
        if self.trusted is not None:
            before = self.stored.get(key)
            self.stored[key] = kept
            if before is not None and before.data == kept.data and key not in self.damaged:
                return
        self._open(key, kept.revision, kept.data)

    def _open(self, key: str, revision: int, data: bytes) -> None:
        self.damaged.pop(key, None)
        try:
            if self.trusted is None:
                self.records[key] = revision, read(self.kind, data)
            else:
                signed = self.revisions.open(self.kind, key, data, self.trusted)
                self.records[key] = signed.revision, signed.record
                if isinstance(signed.record, Member) and signed.record.removed:
                    del self.records[key]
        except MomError as error:
            self.records.pop(key, None)
            self.damaged[key] = error.message

    def trust(self, keys: frozenset[str]) -> None:
        """Trust these keys. Retry damaged records, because the clock may have been corrected."""
        again = [*self.stored] if keys != self.trusted else [key for key in self.damaged if key in self.stored]
        self.trusted = keys
        for key in again:
            kept = self.stored[key]
            self._open(key, kept.revision, kept.data or b"")

    def signed(self, key: str) -> str:
        """Return a record with its signature, as text; empty if there is no valid record."""
        kept = self.stored.get(key)
        return "" if kept is None or kept.data is None or key not in self.records else kept.data.decode()

    def get(self, key: str) -> Kind | None:
        """Return a key's record; None if missing or damaged."""
        return self.records[key][1] if key in self.records else None
