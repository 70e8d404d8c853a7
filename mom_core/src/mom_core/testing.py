"""Snapshots from plain dictionaries, so that a test of a policy or a plugin reads as the numbers that it is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

from mom_core.model import HOST_ID, Guest, Host, Snapshot, Value

__all__ = ["snapshot"]

Fields = Mapping[str, Value]


class Sample(TypedDict, total=False):
    """One older sample: the host's fields, and the guests' by name."""

    host: Fields
    guests: Mapping[str, Fields]


def snapshot(
    host: Fields | None = None,
    guests: Mapping[str, Fields] | None = None,
    properties: Mapping[str, Fields] | None = None,
    history: Sequence[Sample] = (),
    interval: float = 5.0,
) -> Snapshot:
    """A snapshot of these fields, with older ones in its `history`.

    :param host: the host's newest fields by name; None as a value: collected, and found to be unknown
    :param guests: the guests' newest fields, by guest name
    :param properties: properties of the host (under `host`) and of guests by name; `name` and `uuid` are filled in where they are missing
    :param history: older samples, oldest first, `interval` seconds apart
    """
    known = properties or {}
    samples: list[Sample] = [*history, {"host": host or {}, "guests": guests or {}}]
    made: list[Snapshot] = []
    for number, sample in enumerate(samples):
        made.append(
            Snapshot(
                host=_host(sample.get("host", {}), known.get(HOST_ID, {})),
                guests={guest.id: guest for guest in (_guest(n, f, known.get(n, {})) for n, f in sorted(sample.get("guests", {}).items()))},
                time=number * interval,
                monotonic=number * interval,
                number=number,
                history=tuple(made) if number == len(samples) - 1 else (),
            )
        )
    return made[-1]


def _host(fields: Fields, properties: Fields) -> Host:
    return Host(str(properties.get("name", HOST_ID)), dict(fields), {"name": HOST_ID, **properties})


def _guest(name: str, fields: Fields, properties: Fields) -> Guest:
    identity = str(properties.get("uuid", name))
    return Guest(identity, name, dict(fields), {"name": name, "uuid": identity, **properties})
