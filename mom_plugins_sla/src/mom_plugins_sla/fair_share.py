"""Who should have how much when guests want more than the host has: numbers in, numbers out.

Weighted max-min fairness, found by water-filling: all guests' shares rise together from their guarantees, each as fast as its memory is
dear to take (`cost`), until it has all that it uses; from then on, slower by the idle tax, until it has all that it can have; until the
host's memory is used up. The tax is that of VMware ESX (C. Waldspurger, Memory Resource Management in VMware ESX Server, OSDI 2002,
section 5): an idle page costs 1 / (1 - tax) times what a page in use does. Weighted max-min: D. Bertsekas and R. Gallager, Data Networks,
section 6.5.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import NamedTuple


class Claim(NamedTuple):
    """Claim of one guest, in KiB: its guarantee, what it uses (and wants at hand), the most that it can have; and what a KiB costs.

    `cost` is a ratio above 0. What is guaranteed or used beyond `most` does not count.
    """

    guarantee: float
    used: float
    most: float
    cost: float = 1.0


def fair_shares(claims: Sequence[Claim], room: float, idle_tax: float = 0.75) -> list[float]:
    """Return each guest's fair share in KiB, in the order of the claims.

    No share is below its guarantee, unless the guarantees alone are more than there is: then all get the same part of theirs. No share is
    more than the guest can have; together they are `room`, or everything that all can have if that is less. With more room, no share is
    smaller. Of two guests with the same cost and guarantee, the one that lacks some of what it uses has no less than the other.
    All is in proportion: with every size doubled, so are the shares.

    :param room: KiB that all guests together can have
    :param idle_tax: from 0, no difference between idle memory and memory in use, to below 1
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
    # Each guest's share is a function of the level: it rises with slope `cost` up to `turns`, then with `cost * keeps` up to `full`.
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
    """Return how high the level rises until all shares together have risen by `left`: from one bend to the next, in their order."""
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
