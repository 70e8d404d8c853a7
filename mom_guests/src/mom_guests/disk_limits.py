"""Limits of guests' disks: which there are, and what becomes of them when some are set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from mom_core import DiskTune, Entity, NotSupported, printable

DISK_LIMITS: Final = ("total_bytes_sec", "read_bytes_sec", "write_bytes_sec", "total_iops_sec", "read_iops_sec", "write_iops_sec")


def wanted_limits(guest: Entity, disk: str, disks: Sequence[DiskTune], limits: Mapping[str, int]) -> dict[str, int]:
    """All limits of a disk once these are set: what is not given stays. Raises `NotSupported` for a disk that the guest has not."""
    tunes = {tune.name: tune for tune in disks}
    if disk not in tunes:
        has = f"; it has {', '.join(printable(name) for name in tunes)}" if tunes else ""
        raise NotSupported(f"{guest} has no disk {printable(disk)}{has}")
    return {**tunes[disk].current, **limits}
