"""JetStream buckets of the fleet, and each client's permissions.

A host may access only its own keys. It uses no consumers, because their permissions cannot be limited to a key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from nats.js.api import KeyValueConfig, StorageType

from mom_plugins_fleet.records import LARGEST_RECORD, AuthorizedKeys, Group, HostState, Member, Orders

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
