"""Kinds of changes that give memory to guests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mom_plugins_balloon.law.changes import Balance, Changes, SizeChange, WeighedGuest, level_of, unbacked_memory
from mom_plugins_balloon.law.context import LawContext
from mom_plugins_balloon.law.reasons import ReasonCode


def grow_urgently(crowd: Sequence[WeighedGuest], changes: Changes, balance: Balance, context: LawContext) -> Changes:
    """Grow guests that cannot wait, down to the host's low watermark. A guarantee holds below that, too."""
    supply = context.host.available - context.host.low
    wanting = [(number, candidate, candidate.ask.urgent) for number, candidate in enumerate(crowd) if candidate.ask.urgent]
    grown = dict(_grown(wanting, supply, context.step))
    for number, change in grown.items():
        guest = crowd[number].guest
        if crowd[number].ask.code is ReasonCode.PROMISED:
            lacks = min(guest.guarantee, guest.maximum or 0.0) - (guest.size or 0.0)
            grown[number] = change._replace(amount=max(change.amount, lacks))
    return grown


def relieve(crowd: Sequence[WeighedGuest], changes: Changes, balance: Balance, context: LawContext) -> Changes:
    """Grow guests that stall, down to the hard watermark and the memory that others have not touched, or beyond the high watermark."""
    host = context.host
    wanting = [(number, candidate, candidate.ask.relief) for number, candidate in enumerate(crowd) if candidate.ask.relief]
    untouched = sum([candidate.ask.untouched for candidate in crowd])
    supply = host.free - (untouched + balance.urgent + host.hard) if balance.relief else 0.0
    supply = max(supply, host.free - (balance.urgent + host.high))
    return dict(_grown(wanting, supply, context.step)) if supply > 0 else {}


def _grown(wanting: Sequence[tuple[int, WeighedGuest, float]], supply: float, step: float) -> Iterator[tuple[int, SizeChange]]:
    """Share memory among guests that want so much each. A large want leaves small wants theirs."""
    most = level_of([(kib, kib) for *_, kib in wanting], max(0.0, supply)) if wanting else 0.0
    for number, candidate, demand in wanting:
        amount = _in_turn(most, demand, step, supply)
        supply -= min(amount, unbacked_memory(candidate.guest)) if amount else 0.0
        yield number, SizeChange(amount)


def refill_cache(crowd: Sequence[WeighedGuest], changes: Changes, balance: Balance, context: LawContext) -> Changes:
    """Return headroom that guests fill with page cache, from the memory that the host has beyond its high watermark."""
    supply, total, step = _beyond(balance, context), sum([candidate.ask.cache_refill for candidate in crowd]), context.step
    ratio, calm_ratio = _ratio(supply, total), _ratio(supply - balance.ahead, total)
    changed = {}
    for number, candidate in enumerate(crowd):
        demand, rises = candidate.ask.cache_refill, candidate.ask.rises
        if number in changes or demand < step:
            continue
        amount = _in_turn((ratio if rises else calm_ratio) * demand, demand, step, supply if rises else supply - balance.ahead)
        if amount:
            supply -= amount
            changed[number] = SizeChange(amount)
    return changed


def give_back_memory(crowd: Sequence[WeighedGuest], changes: Changes, balance: Balance, context: LawContext) -> Changes:
    """Give back memory that was taken from guests, while the host has plenty."""
    host, refilled = context.host, min(_beyond(balance, context), sum([candidate.ask.cache_refill for candidate in crowd]))
    supply = host.free - (balance.urgent + balance.relief + refilled + balance.ahead + context.p.return_above * host.high)
    ratio = _ratio(supply, sum([candidate.ask.give_back for candidate in crowd]))
    changed = {}
    for number, candidate in enumerate(crowd):
        demand = candidate.ask.give_back
        if demand and number not in changes and (amount := _in_turn(ratio * demand, demand, context.step, supply)):
            supply -= amount
            changed[number] = SizeChange(amount, ReasonCode.GIVEN_BACK)
    return changed


def _beyond(balance: Balance, context: LawContext) -> float:
    """Return the host's memory beyond its high watermark and beyond the wants of guests that lack memory."""
    return max(0.0, context.host.free - (balance.urgent + context.host.high) - balance.relief)


def _ratio(supply: float, demand: float) -> float:
    """Return the share of the demand that the supply covers."""
    return min(1.0, max(0.0, supply) / demand) if demand > 0 else 0.0


def _in_turn(share: float, demand: float, step: float, left: float) -> float:
    """Return the memory that a guest gets: its share, but at least a step, because less is not worth a command.

    :param left: KiB for this guest and all guests after it; if it is too little, later guests wait
    """
    amount = min(max(share, step), demand, left)
    return amount if amount >= min(demand, step) else 0.0
