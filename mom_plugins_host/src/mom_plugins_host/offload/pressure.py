"""What guests themselves, and the kernel, say of how they fare. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mom_core import Guest, format_kib
from mom_kvm import HealthLimits, StoreKind, SwapStore
from mom_plugins_host.offload.law import PAGE_KIB

_PAGE_IN_SECONDS: Final = {StoreKind.ZRAM: 25e-6, StoreKind.ZSWAP: 25e-6, StoreKind.DISK: 200e-6, StoreKind.ROTATING: 10e-3}
"""What a vCPU waits for a page: 5 us for the fault, and 5 to 20 of decompression, or a read of an SSD: 17 us in
all with lzo-rle."""

_SWEPT_KIB: Final = 48 << 10
_SWEPT_SHARE: Final = 0.03
"""What a guest holds and had freed is swept when it is more than this, and this share of its size, as the policy of the balloon has it."""


def stall_of(guest: Guest, refaults_kib: float, stores: Sequence[SwapStore]) -> float:
    """The share of time (0 to 1) in which a guest waits for memory that was away, by the larger of two accounts.

    :param refaults_kib: what comes back, in KiB per second
    """
    slowest = max((_PAGE_IN_SECONDS[store.kind] for store in stores if store.free_kib < store.size_kib), default=25e-6)
    counted = guest.number("host_psi_memory_some_avg10") or 0.0
    return max(refaults_kib / PAGE_KIB * slowest, counted / 100)


def own_pressure(guest: Guest) -> str:
    """The lack of memory that a guest tells of itself; empty: nothing, or it does not tell."""
    swap_in = guest.number("swap_in") or 0.0
    if swap_in > HealthLimits.SWAP_IN_KIB:
        return f"it lacks memory itself: it reads {swap_in:.0f} KiB/s back from its own swap"
    pressure = guest.number("guest_psi_memory_some_avg10") or 0.0
    if pressure > HealthLimits.PRESSURE_PERCENT:
        return f"it lacks memory itself: its tasks wait for it {pressure:.0f} % of the time"
    return ""


def swept_first(guest: Guest, away_kib: float) -> str:
    """Why a guest is to be swept before its memory is swapped: it holds what it had used and freed. Empty: no such thing, or unknown."""
    names = ("rss", "qemu_overhead", "kernel_reserved", "mem_available", "mem_unused", "balloon_cur")
    numbers = [guest.number(name) for name in names]
    if guest.fields.get("balloon_obstacle") is not None or any(number is None for number in numbers):
        return ""
    rss, beside, hidden, available, unused, size = (number or 0.0 for number in numbers)
    idle = rss + away_kib - beside - (hidden + available - unused)
    if idle < max(_SWEPT_KIB, _SWEPT_SHARE * size):
        return ""
    return f"it holds {format_kib(idle)} that it had used and freed: its balloon takes that first"
