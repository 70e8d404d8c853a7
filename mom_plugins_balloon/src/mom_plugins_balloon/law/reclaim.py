"""Kinds of changes that take memory from guests: sweeps and trims."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from mom_plugins_balloon.law.changes import Balance, Changes, SizeChange, WeighedGuest, level_of
from mom_plugins_balloon.law.context import LawContext
from mom_plugins_balloon.law.offer import NO_OFFER, TRIMS, Offer, Shortage, TrimMeans
from mom_plugins_balloon.law.reasons import ReasonCode


def sweep(crowd: Sequence[WeighedGuest], changes: Changes, balance: Balance, context: LawContext) -> Changes:
    """Sweep as few guests as the shortage needs, the cheap first.

    Among equal costs, guests go first whose trim gets less than the sweep, as a trim is counted on already. Guests that are known not to
    use more before long follow, and guests that are expected to use more come last. Among these, the guest that freed memory last goes
    first: it is the least likely to want the memory at once. A guest with less than half of the largest offer is not swept.
    """
    demand = balance.demand - sum([candidate.offer.backed for candidate in crowd if candidate.offer.trims])
    able = [(number, candidate) for number, candidate in enumerate(crowd) if candidate.offer.sweep and number not in changes]
    worth = 0.5 * max([candidate.offer.sweep for _, candidate in able], default=0.0)
    worthy = [(number, candidate) for number, candidate in able if candidate.offer.sweep >= worth]
    changed = {}
    for number, candidate in sorted(worthy, key=_sweep_order):
        if demand < context.step:
            break
        offer = candidate.offer
        changed[number] = SizeChange(-offer.depth, ReasonCode.SWEEP, offer.sweep)
        demand -= offer.sweep - offer.backed if offer.sweep > offer.backed else offer.sweep
    return changed


def _sweep_order(numbered: tuple[int, WeighedGuest]) -> tuple[float, bool, int, float, int]:
    number, candidate = numbered
    offer, freed_age = candidate.offer, candidate.guest.process.freed_age
    forecast = 2 if candidate.ask.rises else 1 if candidate.guest.rise is None else 0
    return offer.cost, offer.sweep <= offer.backed, forecast, math.inf if freed_age is None else freed_age, number


class Taking(NamedTuple):
    """Amounts that one means takes from each donor, in their order."""

    means: TrimMeans
    share: float
    could_give: Sequence[float]
    amounts: Sequence[float]


def trim(crowd: Sequence[WeighedGuest], changes: Changes, balance: Balance, context: LawContext) -> Changes:
    """Trim guests by each means of `TRIMS`, until the host lacks nothing.

    If shares are smaller than a step, the guests that can spare most give a step each until that is enough.
    """
    donors, step = [(number, candidate.offer) for number, candidate in enumerate(crowd) if candidate.offer.trims], context.step
    takings = _takings([offer for _, offer in donors], _shortage(crowd, balance), context)
    if not takings:
        return {}
    last = takings[-1].means
    amounts = [float(sum(parts)) for parts in zip(*[taking.amounts for taking in takings], strict=True)]
    could_give = [float(sum(parts)) for parts in zip(*[taking.could_give for taking in takings], strict=True)]
    by_cost = [kib / last.cost(offer) for (_, offer), kib in zip(donors, could_give, strict=True)]
    average = 0.99 * sum(by_cost) / len(by_cost)  # less a hair's breadth for rounding
    left, changed = sum(amounts), {}
    for (number, _), amount, kib, weighed in zip(donors, amounts, could_give, by_cost, strict=True):
        if number in changes or left <= 0:
            continue
        loss = amount if amount >= step else step if kib >= step and weighed >= average else 0.0
        left -= loss
        changed[number] = SizeChange(-loss, last.code)
    return changed


def _shortage(crowd: Sequence[WeighedGuest], balance: Balance) -> Shortage:
    offers = [candidate.offer for candidate in crowd if candidate.offer is not NO_OFFER]
    return Shortage(
        demand=balance.demand,
        urgent=balance.urgent,
        relief=balance.relief,
        backed=sum([offer.backed for offer in offers]),
        empty=sum([offer.empty for offer in offers]),
        cache=sum([offer.cache for offer in offers]),
        margin=sum([offer.margin for offer in offers]),
    )


def _takings(donors: Sequence[Offer], shortage: Shortage, context: LawContext) -> Sequence[Taking]:
    """Return the amounts of each means, up to the last means that is used; empty if none is used."""
    takings: list[Taking] = []
    for means in TRIMS:
        could_give = [*map(means.could_give, donors)]
        share = means.taken(sum(could_give), shortage, context)
        takings.append(Taking(means, share, could_give, [share * kib for kib in could_give]))
    while takings and not takings[-1].share:
        takings.pop()
    if not takings:
        return []
    last = takings[-1]
    if last.means.behind_empty:
        takings = [taking if taking.means.hurts else taking._replace(amounts=taking.could_give) for taking in takings]
    if last.means.hurts:
        costs = [last.means.cost(offer) for offer in donors]
        level = level_of(list(zip(costs, last.could_give, strict=True)), sum(last.amounts))
        takings[-1] = last._replace(amounts=[kib * min(1.0, level / cost) for cost, kib in zip(costs, last.could_give, strict=True)])
    return takings
