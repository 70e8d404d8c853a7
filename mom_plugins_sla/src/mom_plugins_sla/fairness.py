"""Fair shares of a snapshot's guests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mom_core import Guest, Portion, Snapshot
from mom_kvm import Promises
from mom_plugins_sla.fair_share import Claim, fair_shares

HEADROOM_SHARE, HEADROOM_KIB = 0.25, 80 << 10
"""Headroom above used memory, as in the default balloon policy. Without it, every burst stalls."""

KEPT_SHARE, KEPT_KIB = 0.05, 32 << 10
"""Reserve above used memory, the larger of the two, as in the balloon plugin."""

_SIZE, _OBSTACLE = "balloon_target", "balloon_obstacle"
"""Control of a guest's size, and field that says why it cannot shrink."""


@dataclass(frozen=True, slots=True)
class Fairness:
    """Fair shares in KiB keyed by guest id, and the host's lack of memory (None if unknown)."""

    shares: Mapping[str, float] = field(default_factory=dict)
    lack: float | None = None


KEEPS_SHARE = 0.05
"""Ratio of the host's memory. With less available, a Linux host begins to swap."""


def fairness_of(snapshot: Snapshot, host_keeps: Portion | None, idle_tax: float, promises: Promises) -> Fairness:
    """Return fair shares. Guests that cannot shrink or have unknown sizes keep their memory and have no share.

    :param host_keeps: memory to keep available; None for the balloon plugin's hard watermark
    """
    host = snapshot.host
    total, available = host.number("mem_available"), host.number("mem_really_available")
    if total is None or available is None:
        return Fairness()
    keeps = host.number("mem_watermark_hard") if host_keeps is None else host_keeps.kib_of(total)
    lack = (KEEPS_SHARE * total if keeps is None else keeps) - available
    claims: dict[str, Claim] = {}
    total_size = 0.0
    for identity, guest in snapshot.guests.items():
        size, maximum = guest.number("balloon_cur"), guest.number("balloon_max")
        if size is None or maximum is None or guest.why_blocked(_SIZE) or guest.text(_OBSTACLE):
            continue
        total_size += size
        # Memory that mom would not reclaim is not distributed: the guest could not shrink to a smaller share.
        least, cost = max(promises.guaranteed_kib(guest) or 0.0, _kept_kib(guest, size)), guest.number("reclaim_cost") or 1.0
        claims[identity] = Claim(least, used_kib(guest, size), maximum, cost)
    shares = fair_shares(list(claims.values()), max(0.0, total_size - lack), idle_tax)
    return Fairness(dict(zip(claims, shares, strict=True)), max(0.0, lack))


def used_kib(guest: Guest, size: float) -> float:
    """Return used memory plus headroom in KiB; the guest's size without statistics."""
    in_use = _in_use_kib(guest, size)
    return size if in_use is None else in_use * (1 + HEADROOM_SHARE) + HEADROOM_KIB


def _kept_kib(guest: Guest, size: float) -> float:
    # mom never reclaims this memory (KiB). Without statistics, it is the guest's size.
    in_use = _in_use_kib(guest, size)
    return size if in_use is None else min(size, in_use + max(KEPT_SHARE * in_use, KEPT_KIB))


def _in_use_kib(guest: Guest, size: float) -> float | None:
    usable = guest.number("mem_usable")
    return None if usable is None else max(0.0, size - usable)
