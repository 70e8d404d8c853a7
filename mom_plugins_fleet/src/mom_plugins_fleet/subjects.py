"""Buckets of the fleet in JetStream, and each client's rights to them.

A bucket NAME is a stream `KV_NAME`, and a key in it a subject `$KV.NAME.KEY`. A host gets rights to exactly its own keys. It uses no
consumers, because their permissions cannot be limited to a key: it reads keys directly, and subscribes to the subjects.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from nats.js.api import KeyValueConfig, StorageType

from mom_plugins_fleet.records import LARGEST_RECORD

ROSTER: Final = "mom-roster"
GROUPS: Final = "mom-groups"
STATES: Final = "mom-states"
ORDERS: Final = "mom-orders"
PROGRESS: Final = "mom-progress"
AUTHORIZED: Final = "mom-authorized"
LEASES: Final = "mom-leases"
INVITATIONS: Final = "mom-invitations"

INVITED_SECONDS: Final = 3600
"""Validity of a token: operators use it at once, and nobody can use one that is found later."""

JOINING: Final = "join"
"""Name of a client with a token."""

COORDINATOR: Final = "coordinator"
"""Key of the lease."""

COORDINATORS: Final = "coordinators"
"""Key of the authorized coordinators."""

GROUPS_KEPT: Final = 16
"""Earlier versions of a group's record that the servers keep, for people."""


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """Entry of a bucket: the servers' revision, its data (None: removed), and when it was set, in epoch seconds (0: unknown)."""

    revision: int
    data: bytes | None
    at: float = 0.0


def is_deleted(headers: Mapping[str, str]) -> bool:
    """Tell whether a message's headers mark a removed key."""
    return headers.get("KV-Operation") in ("DEL", "PURGE")


def subject(bucket: str, key: str) -> str:
    """Return the subject of a key."""
    return f"$KV.{bucket}.{key}"


def direct(bucket: str, key: str) -> str:
    """Return the subject that reads a key."""
    return f"$JS.API.DIRECT.GET.KV_{bucket}.$KV.{bucket}.{key}"


def taken(bucket: str, key: str) -> str:
    """Return the subject that takes an entry laid out once."""
    return f"$JS.API.CONSUMER.MSG.NEXT.KV_{bucket}.{key}"


def inbox(name: str) -> str:
    """Return the prefix of a client's answers, which no other client can hear."""
    return f"_INBOX_mom_{name}"


def buckets(replicas: int) -> Iterable[KeyValueConfig]:
    """Yield all buckets' configurations."""
    kept = {ROSTER: 8, GROUPS: GROUPS_KEPT, STATES: 1, ORDERS: 1, PROGRESS: 1, AUTHORIZED: 8, LEASES: 1, INVITATIONS: 1}
    for name, history in kept.items():
        ends = INVITED_SECONDS if name == INVITATIONS else None
        largest = LARGEST_RECORD + 4096
        yield KeyValueConfig(name, None, largest, history, ends, storage=StorageType.FILE, replicas=replicas, direct=True)


def used(host: str, group: str) -> list[str]:
    """Return the subjects that a host publishes to: its own keys, and requests."""
    read = [direct(ROSTER, host), direct(GROUPS, group), direct(ORDERS, host), direct(AUTHORIZED, COORDINATORS), taken(INVITATIONS, host)]
    return [subject(STATES, host), subject(PROGRESS, host), *read]


def heard(host: str, group: str) -> list[str]:
    """Return the subjects that a host subscribes to."""
    return [subject(ROSTER, host), subject(GROUPS, group), subject(ORDERS, host), subject(AUTHORIZED, COORDINATORS)]
