"""The fleet's buckets in JetStream, and what each kind of client may do with them.

A key-value bucket NAME is a stream `KV_NAME`, and a key in it a subject `$KV.NAME.KEY`: so a host can be allowed exactly its own keys.
Hosts use no consumers, as permissions for those cannot be cut to a key: they read a key directly, and hear of its changes by subscribing
to its subject.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Final

from nats.js.api import KeyValueConfig, StorageType

from mom_plugins_fleet.records import LARGEST_RECORD, Member

ROSTER: Final = "mom-roster"
GROUPS: Final = "mom-groups"
STATES: Final = "mom-states"
ORDERS: Final = "mom-orders"
PROGRESS: Final = "mom-progress"
APPOINTMENTS: Final = "mom-appointments"
LEASES: Final = "mom-leases"

COORDINATOR: Final = "coordinator"
"""The key of the lease."""

COORDINATORS: Final = "coordinators"
"""The key of the appointments."""

LEASE_SECONDS: Final = 10.0
"""For how long a coordinator that says nothing keeps others from taking over. Three times the time between renewals, so that two may be
lost; and a drain that stands still for ten seconds harms no guest."""

GROUPS_KEPT: Final = 16
"""How many earlier versions of a group's record the server keeps, for a person who asks what it was."""


def subject(bucket: str, key: str) -> str:
    """Where a key is published, and heard of."""
    return f"$KV.{bucket}.{key}"


def direct(bucket: str, key: str) -> str:
    """Where a key is asked for."""
    return f"$JS.API.DIRECT.GET.KV_{bucket}.$KV.{bucket}.{key}"


def inbox(name: str) -> str:
    """The prefix of the subjects at which a client gets its answers: no other client may listen there."""
    return f"_INBOX_mom_{name}"


def buckets(replicas: int) -> Iterable[KeyValueConfig]:
    """All of them, as they are made. Only the lease goes away by itself."""
    for name, history, ttl in (
        (ROSTER, 8, None),
        (GROUPS, GROUPS_KEPT, None),
        (STATES, 1, None),
        (ORDERS, 1, None),
        (PROGRESS, 1, None),
        (APPOINTMENTS, 8, None),
        (LEASES, 1, LEASE_SECONDS),
    ):
        yield KeyValueConfig(
            bucket=name,
            history=history,
            ttl=ttl,
            direct=True,
            replicas=replicas,
            storage=StorageType.FILE,
            max_value_size=LARGEST_RECORD + 4096,
        )


def host_permissions(host: str, group: str) -> Mapping[str, Mapping[str, list[str]]]:
    """The least that a host needs: to read its entry, group, orders and who is appointed, and to write its own state and progress."""
    return {
        "publish": {"allow": _asked(host, group)},
        "subscribe": {"allow": [*_heard(host, group), f"{inbox(host)}.>"]},
    }


def _asked(host: str, group: str) -> list[str]:
    """What a host sends something to: keys that it sets, and others that it asks for."""
    read = [direct(ROSTER, host), direct(GROUPS, group), direct(ORDERS, host), direct(APPOINTMENTS, COORDINATORS)]
    return [subject(STATES, host), subject(PROGRESS, host), *read]


def _heard(host: str, group: str) -> list[str]:
    """Keys of whose changes a host hears."""
    return [subject(ROSTER, host), subject(GROUPS, group), subject(ORDERS, host), subject(APPOINTMENTS, COORDINATORS)]


FLEET_ACCOUNT: Final = "MOM"
"""The account of the buckets, operators and coordinators."""


def server_accounts(members: Mapping[str, Member], operators: Iterable[str]) -> str:
    """The `accounts` block of a NATS server's configuration: who may do what, and where.

    Each host has an account of its own, into which only its own keys are let. Permissions alone would not do: a server answers to whatever
    subject a client names for the answer, without asking whether that client may write there. In the account of the buckets an answer could
    be had sent to another host's key, which would hold then what the first one likes.
    """
    services, streams = _asked("*", "*"), _heard("*", "*")
    exports = [*({"service": one} for one in services), *({"stream": one} for one in streams)]
    lines = [
        "accounts {",
        f"  {FLEET_ACCOUNT} {{",
        "    jetstream: enabled",
        "    users: [",
        *(f"      {{ nkey: {key} }}" for key in operators),
        "    ]",
        "    exports: [",
        *(f"      {json.dumps(one)}" for one in exports),
        "    ]",
        "  }",
    ]
    for name, member in sorted(members.items()):
        if member.key:
            lines += _host_account(name, member)
    return "\n".join([*lines, "}", ""])


def _host_account(host: str, member: Member) -> list[str]:
    services = [{"service": {"account": FLEET_ACCOUNT, "subject": one}} for one in _asked(host, member.group)]
    streams = [{"stream": {"account": FLEET_ACCOUNT, "subject": one}} for one in _heard(host, member.group)]
    return [
        f"  {FLEET_ACCOUNT}-{host} {{",
        f"    users: [ {{ nkey: {member.key}, permissions: {json.dumps(host_permissions(host, member.group))} }} ]",
        "    imports: [",
        *(f"      {json.dumps(one)}" for one in (*services, *streams)),
        "    ]",
        "  }",
    ]
