"""Fair shares of memory when guests demand more than the host has.

Water-filling gives weighted max-min fairness (D. Bertsekas and R. Gallager, Data Networks, section 6.5.2). Shares rise together from their
guarantees, in proportion to `cost`, until the memory is used up. Above used memory, a share rises more slowly: the idle tax of VMware ESX
(C. Waldspurger, OSDI 2002, section 5). An idle page costs 1 / (1 - tax) times as much as a used page.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import NamedTuple


class Claim(NamedTuple):
    """Claim of one guest in KiB. `used` includes headroom; `cost` is per KiB, above 0. Guarantee and use are capped at `most`."""

    guarantee: float
    used: float
    most: float
    cost: float = 1.0


def fair_shares(claims: Sequence[Claim], room: float, idle_tax: float = 0.75) -> list[float]:
    """Return fair shares in KiB, in the order of the claims.

    Shares lie between guarantee and maximum, and add up to `room` or all maxima. Guarantees above `room` shrink by the same ratio.

    :param room: in KiB
    :param idle_tax: from 0 (idle memory counts like used memory) to below 1
    """
    guarantees = [min(claim.guarantee, claim.most) for claim in claims]
    left = room - sum(guarantees)
    if left <= 0:
        promised = sum(guarantees)
        part = max(0.0, room) / promised if promised > 0 else 0.0
        return [guarantee * part for guarantee in guarantees]
    if left >= sum(claim.most for claim in claims) - sum(guarantees):
        return [claim.most for claim in claims]
    keeps = 1.0 - idle_tax
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
