"""Limits of disks and network interfaces, found by device name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from mom_core import DiskTune, Entity, NetTune, NotSupported, printable

Tune = TypeVar("Tune", DiskTune, NetTune)


def tune_named(guest: Entity, kind: str, name: str, tunes: Iterable[Tune]) -> Tune:
    """Return a device's limits. Raise `NotSupported` without such a device.

    :param kind: for the message, such as `disk`
    """
    by_name = {tune.name: tune for tune in tunes}
    if name not in by_name:
        has = f"; it has {', '.join(map(printable, by_name))}" if by_name else ""
        raise NotSupported(f"{guest} has no {kind} {printable(name)}{has}")
    return by_name[name]


def wanted_limits(guest: Entity, disk: str, disks: Sequence[DiskTune], limits: Mapping[str, int]) -> dict[str, int]:
    """Return all limits after a change, or raise `NotSupported`."""
    return {**tune_named(guest, "disk", disk, disks).current, **limits}
