"""Snapshots from plain dictionaries, for short tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

from mom_core.model import Guest, Host, Snapshot, Value

__all__ = ["snapshot"]

Fields = Mapping[str, Value]


class Sample(TypedDict, total=False):
    """Older sample: the host's fields, and the guests' fields keyed by guest name."""

    host: Fields
    guests: Mapping[str, Fields]


def snapshot(
    host: Fields | None = None,
    guests: Mapping[str, Fields] | None = None,
    properties: Mapping[str, Fields] | None = None,
    history: Sequence[Sample] = (),
    interval: float = 5.0,
) -> Snapshot:
    """Build a snapshot.

    :param host: newest fields; the value None means collected as unknown
    :param guests: newest fields, keyed by guest name
    :param properties: properties keyed by guest name, or `host`; `name` and `uuid` are added if missing
    :param history: older samples, oldest first, `interval` seconds apart
    """
    properties_by_name = properties or {}
    samples: list[Sample] = [*history, {"host": host or {}, "guests": guests or {}}]
    snapshots: list[Snapshot] = []
    for number, sample in enumerate(samples):
        snapshots.append(
            Snapshot(
                host=_host(sample.get("host", {}), properties_by_name.get(Host.ID, {})),
                guests={
                    guest.id: guest
                    for guest in (_guest(n, f, properties_by_name.get(n, {})) for n, f in sorted(sample.get("guests", {}).items()))
                },
                time=number * interval,
                monotonic=number * interval,
                number=number,
                history=tuple(snapshots) if number == len(samples) - 1 else (),
            )
        )
    return snapshots[-1]


def _host(fields: Fields, properties: Fields) -> Host:
    return Host(str(properties.get("name", Host.ID)), dict(fields), {"name": Host.ID, **properties})


def _guest(name: str, fields: Fields, properties: Fields) -> Guest:
    identity = str(properties.get("uuid", name))
    return Guest(identity, name, dict(fields), {"name": name, "uuid": identity, **properties})
