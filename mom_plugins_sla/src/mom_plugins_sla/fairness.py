"""Fair shares of memory when guests demand more than the host has.

Water-filling gives weighted max-min fairness (Bertsekas and Gallager, Data Networks, section 6.5.2). Shares rise together from their
guarantees, in proportion to `cost`, until the memory is used up. Above used memory, a share rises more slowly: the idle tax of VMware ESX
(Waldspurger, OSDI 2002, section 5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import NamedTuple

from mom_core import Guest, Snapshot
from mom_kvm import Promises

HEADROOM_SHARE, HEADROOM_KIB = 0.25, 80 << 10
"""Headroom above used memory: the sum of these two, as in the default balloon policy."""

KEPT_SHARE, KEPT_KIB = 0.05, 32 << 10
"""Reserve above used memory: the larger of these two, as in the balloon plugin."""

_SIZE, _OBSTACLE = "balloon_target", "balloon_obstacle"
"""Control of a guest's size, and field that says why it cannot shrink."""


@dataclass(frozen=True, slots=True)
class Fairness:
    """Fair shares in KiB keyed by guest id, and the host's lack of memory (None if unknown)."""

    shares: Mapping[str, float] = field(default_factory=dict)
    lack: float | None = None


IDLE_TAX = 0.75
"""A guest gets a quarter as much idle memory as used memory, as in VMware ESX."""

KEEPS_SHARE = 0.05
"""Linux begins to swap if less than this fraction of the host's memory is available."""


def fairness_of(snapshot: Snapshot, promises: Promises) -> Fairness:
    """Return fair shares. Guests that cannot shrink, or whose sizes are unknown, keep their memory and have no share."""
    host = snapshot.host
    total, available = host.number("mem_available"), host.number("mem_really_available")
    if total is None or available is None:
        return Fairness()
    keeps = host.number("mem_watermark_hard")
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
    shares = fair_shares(list(claims.values()), max(0.0, total_size - lack))
    return Fairness(dict(zip(claims, shares, strict=True)), max(0.0, lack))


def used_kib(guest: Guest, size: float) -> float:
    """Return used memory plus headroom in KiB. If the guest has no statistics, return its size."""
    in_use = _in_use_kib(guest, size)
    return size if in_use is None else in_use * (1 + HEADROOM_SHARE) + HEADROOM_KIB


def _kept_kib(guest: Guest, size: float) -> float:
    # mom never reclaims this memory (KiB). Without statistics, it is the guest's size.
    in_use = _in_use_kib(guest, size)
    return size if in_use is None else min(size, in_use + max(KEPT_SHARE * in_use, KEPT_KIB))


def _in_use_kib(guest: Guest, size: float) -> float | None:
    usable = guest.number("mem_usable")
    return None if usable is None else max(0.0, size - usable)


class Claim(NamedTuple):
    """Claim of one guest in KiB. `used` includes headroom; `cost` is per KiB, above 0. Guarantee and use are capped at `most`."""

    guarantee: float
    used: float
    most: float
    cost: float = 1.0


def fair_shares(claims: Sequence[Claim], room: float) -> list[float]:
    """Return fair shares in KiB, in the order of the claims.

    Shares lie between guarantee and maximum, and add up to `room` if the maxima allow that. If the guarantees exceed `room`, all shrink
    by the same ratio.

    :param room: memory to share, in KiB
    """
    guarantees = [min(claim.guarantee, claim.most) for claim in claims]
    left = room - sum(guarantees)
    if left <= 0:
        promised = sum(guarantees)
        part = max(0.0, room) / promised if promised > 0 else 0.0
        return [guarantee * part for guarantee in guarantees]
    if left >= sum(claim.most for claim in claims) - sum(guarantees):
        return [claim.most for claim in claims]
    keeps = 1.0 - IDLE_TAX
    # Each share is a function of the level: it rises with slope `cost` up to `turns`, then with `cost * keeps` up to `full`.
    turns = [max(0.0, min(claim.used, claim.most) - low) / claim.cost for claim, low in zip(claims, guarantees, strict=True)]
    full = [
        turn + (claim.most - max(low, min(claim.used, claim.most))) / (claim.cost * keeps)
        for claim, low, turn in zip(claims, guarantees, turns, strict=True)
    ]
    level = _level(claims, turns, full, left, keeps)
    return [
        low + claim.cost * (level if level <= turn else turn + keeps * (min(level, end) - turn))
        for claim, low, turn, end in zip(claims, guarantees, turns, full, strict=True)
    ]


def _level(claims: Sequence[Claim], turns: Sequence[float], full: Sequence[float], left: float, keeps: float) -> float:
    bends = [(turn, -claim.cost * (1.0 - keeps)) for claim, turn in zip(claims, turns, strict=True)]
    bends += [(end, -claim.cost * keeps) for claim, end in zip(claims, full, strict=True)]
    slope = sum(claim.cost for claim in claims)
    level = 0.0
    for bend, change in sorted(bends, key=itemgetter(0)):
        rises = slope * (bend - level)
        if rises >= left:
            break
        left -= rises
        level = bend
        slope += change
    return level + left / slope if slope > 0 else level
