"""What becomes of the limits of a guest's disk when some are set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mom_core import DiskTune, Entity, NotSupported, printable


def wanted_limits(guest: Entity, disk: str, disks: Sequence[DiskTune], limits: Mapping[str, int]) -> dict[str, int]:
    """All limits of a disk once these are set: what is not given stays. Raises `NotSupported` for a disk that the guest has not."""
    tunes = {tune.name: tune for tune in disks}
    if disk not in tunes:
        has = f"; it has {', '.join(printable(name) for name in tunes)}" if tunes else ""
        raise NotSupported(f"{guest} has no disk {printable(disk)}{has}")
    return {**tunes[disk].current, **limits}
