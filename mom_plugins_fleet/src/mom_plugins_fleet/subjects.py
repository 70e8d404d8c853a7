"""The fleet's buckets in JetStream, and what each kind of client may do with them.

A key-value bucket NAME is a stream `KV_NAME`, and a key in it a subject `$KV.NAME.KEY`: so a host can be allowed exactly its own keys.
Hosts use no consumers, as permissions for those cannot be cut to a key: they read a key directly, and hear of its changes by subscribing
to its subject.
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
"""For so long a token is good by which a host joins: an operator takes it there at once, and who finds it later can do nothing with it."""

JOINING: Final = "join"
"""The name of a client that has a token."""

COORDINATOR: Final = "coordinator"
"""The key of the lease."""

COORDINATORS: Final = "coordinators"
"""The key of the authorized."""

GROUPS_KEPT: Final = 16
"""How many earlier versions of a group's record the server keeps, for a person who asks what it was."""


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """The entry at a key, as servers tell it: the revision, which changes with each change, the bytes (None where nothing stands), and
    when that was set, in seconds since the epoch by the servers' clock; 0 where it is not known."""

    revision: int
    data: bytes | None
    at: float = 0.0


def is_deleted(headers: Mapping[str, str]) -> bool:
    """True for headers of a message which says that nothing stands at its key any more."""
    return headers.get("KV-Operation") in ("DEL", "PURGE")


def subject(bucket: str, key: str) -> str:
    """Where a key is published, and heard of."""
    return f"$KV.{bucket}.{key}"


def direct(bucket: str, key: str) -> str:
    """Where a key is asked for."""
    return f"$JS.API.DIRECT.GET.KV_{bucket}.$KV.{bucket}.{key}"


def taken(bucket: str, key: str) -> str:
    """Where what lies at a key is asked for that is given once."""
    return f"$JS.API.CONSUMER.MSG.NEXT.KV_{bucket}.{key}"


def inbox(name: str) -> str:
    """The prefix of the subjects at which a client gets its answers: no other client may listen there."""
    return f"_INBOX_mom_{name}"


def buckets(replicas: int) -> Iterable[KeyValueConfig]:
    """All of them, as they are made."""
    kept = {ROSTER: 8, GROUPS: GROUPS_KEPT, STATES: 1, ORDERS: 1, PROGRESS: 1, AUTHORIZED: 8, LEASES: 1, INVITATIONS: 1}
    for name, history in kept.items():
        ends = INVITED_SECONDS if name == INVITATIONS else None
        largest = LARGEST_RECORD + 4096
        yield KeyValueConfig(name, None, largest, history, ends, storage=StorageType.FILE, replicas=replicas, direct=True)


def used(host: str, group: str) -> list[str]:
    """The subjects that a host sends something to: keys that it sets, and others that it asks for."""
    read = [direct(ROSTER, host), direct(GROUPS, group), direct(ORDERS, host), direct(AUTHORIZED, COORDINATORS), taken(INVITATIONS, host)]
    return [subject(STATES, host), subject(PROGRESS, host), *read]


def heard(host: str, group: str) -> list[str]:
    """Keys of whose changes a host hears."""
    return [subject(ROSTER, host), subject(GROUPS, group), subject(ORDERS, host), subject(AUTHORIZED, COORDINATORS)]
