"""Limits of guests' disks: which there are, and which can be set together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from mom_core import DiskTune, Entity, NotSupported, printable

DISK_LIMITS: Final = ("total_bytes_sec", "read_bytes_sec", "write_bytes_sec", "total_iops_sec", "read_iops_sec", "write_iops_sec")

MOST_DISK_LIMIT: Final = 10**15
"""Bytes or operations per second: QEMU takes no more (include/qemu/throttle.h)."""


def wanted_limits(guest: Entity, disk: str, disks: Sequence[DiskTune], limits: Mapping[str, int]) -> dict[str, int]:
    """All limits of a disk once these are set: what is not given stays. Raises `NotSupported` for a disk that the guest has not, and for
    limits that cannot be."""
    tunes = {tune.name: tune for tune in disks}
    if disk not in tunes:
        has = f"; it has {', '.join(printable(name) for name in tunes)}" if tunes else ""
        raise NotSupported(f"{guest} has no disk {printable(disk)}{has}")
    for key, limit in limits.items():
        if key not in DISK_LIMITS:
            raise NotSupported(f"{printable(key)} is no limit of a disk; there are {', '.join(DISK_LIMITS)}")
        if isinstance(limit, bool) or not isinstance(limit, int) or not 0 <= limit <= MOST_DISK_LIMIT:
            raise NotSupported(f"{limit!r:.40} is out of range for {key}: 0 to {MOST_DISK_LIMIT}, 0 for no limit")
    wanted = {**tunes[disk].current, **limits}
    for kind in ("bytes", "iops"):
        if wanted.get(f"total_{kind}_sec") and (wanted.get(f"read_{kind}_sec") or wanted.get(f"write_{kind}_sec")):
            raise NotSupported(f"{disk}: total_{kind}_sec cannot be limited together with read_{kind}_sec or write_{kind}_sec")
    return wanted
