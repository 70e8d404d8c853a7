"""Memory of guests' QEMU processes outside of the guests' memory, as settings of KubeVirt and Harvester."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Final, NamedTuple

from mom_plugins_record.forecast.past import PastGuest

_MIB: Final = 1024.0
"""KiB."""

_QEMU_KIB: Final = (30 + 8 + 32) * _MIB
_VCPU_KIB: Final = 8 * _MIB
"""KiB that KubeVirt assumes for QEMU: itself, its I/O thread and video memory, and each vCPU (GetMemoryOverhead in
launcherhypervisorresources.go)."""

_POD_KIB: Final = (25 + 100 + 25 + 40) * _MIB
_TABLES_SHARE: Final = 1 / 512
"""KiB that it assumes for the other processes of a pod, and ratio of the guest's memory for page tables."""


class QemuMemory(NamedTuple):
    """QEMU's own memory, and settings with which it fits into each guest's pod."""

    guests: int
    median_kib: float
    largest_kib: float
    overhead_ratio: float
    """KubeVirt's additionalGuestMemoryOverheadRatio, rounded up; at least 1."""
    reserved_mib: int
    """Harvester's reserved memory of a guest with a ratio of 1, rounded up."""


def qemu_memory_of(guests: Sequence[PastGuest]) -> QemuMemory | None:
    """Return QEMU's memory; None if it was never measured."""
    measured = [guest for guest in guests if guest.qemu_kib]
    if not measured:
        return None
    sizes = [guest.qemu_kib for guest in measured]
    lacking = [guest.qemu_kib - _assumed_kib(guest) for guest in measured]
    pods = [_POD_KIB + _TABLES_SHARE * guest.sold_kib + _assumed_kib(guest) for guest in measured]
    ratio = max(1 + kib / pod for kib, pod in zip(lacking, pods, strict=True))
    return QemuMemory(
        len(measured), median(sizes), max(sizes), max(1.0, math.ceil(100 * ratio) / 100), math.ceil(max(0.0, *lacking) / _MIB)
    )


def _assumed_kib(guest: PastGuest) -> float:
    return _QEMU_KIB + _VCPU_KIB * max(1, guest.vcpus)
