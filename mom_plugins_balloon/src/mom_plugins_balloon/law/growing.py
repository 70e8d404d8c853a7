"""Kinds of changes by which guests get memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mom_plugins_balloon.law.changes import Balance, Changes, SizeChange, WeighedGuest, unbacked_memory
from mom_plugins_balloon.law.context import LawContext
from mom_plugins_balloon.law.level import level_of
from mom_plugins_balloon.law.reasons import ReasonCode


def grow_urgently(crowd: Sequence[WeighedGuest], changes: Changes, balance: Balance, context: LawContext) -> Changes:
    """Grow guests that cannot wait, down to the host's low watermark. A guarantee holds below that, too."""
    there = context.host.available - context.host.low
    wanting = [(number, candidate, candidate.ask.urgent) for number, candidate in enumerate(crowd) if candidate.ask.urgent]
    grown = dict(_grown(wanting, there, context.step))
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
    there = host.free - (untouched + balance.urgent + host.hard) if balance.relief else 0.0
    there = max(there, host.free - (balance.urgent + host.high))
    return dict(_grown(wanting, there, context.step)) if there > 0 else {}


def _grown(wanting: Sequence[tuple[int, WeighedGuest, float]], there: float, step: float) -> Iterator[tuple[int, SizeChange]]:
    """Share memory among guests that want so much each. A large want leaves small wants theirs."""
    most = level_of([(kib, kib) for *_, kib in wanting], max(0.0, there)) if wanting else 0.0
    for number, candidate, wanted in wanting:
        amount = _in_turn(most, wanted, step, there)
        there -= min(amount, unbacked_memory(candidate.guest)) if amount else 0.0
        yield number, SizeChange(amount)


def refill_cache(crowd: Sequence[WeighedGuest], changes: Changes, balance: Balance, context: LawContext) -> Changes:
    """Return headroom that guests fill with page cache, from the memory that the host has beyond its high watermark."""
    there, asked, step = _beyond(balance, context), sum([candidate.ask.cache_refill for candidate in crowd]), context.step
    ratio, calm_ratio = _ratio(there, asked), _ratio(there - balance.ahead, asked)
    changed = {}
    for number, candidate in enumerate(crowd):
        wanted, rises = candidate.ask.cache_refill, candidate.ask.rises
        if number in changes or wanted < step:
            continue
        amount = _in_turn((ratio if rises else calm_ratio) * wanted, wanted, step, there if rises else there - balance.ahead)
        if amount:
            there -= amount
            changed[number] = SizeChange(amount)
    return changed


def give_back_memory(crowd: Sequence[WeighedGuest], changes: Changes, balance: Balance, context: LawContext) -> Changes:
    """Give back memory that was taken from guests, while the host has plenty."""
    host, refilled = context.host, min(_beyond(balance, context), sum([candidate.ask.cache_refill for candidate in crowd]))
    there = host.free - (balance.urgent + balance.relief + refilled + balance.ahead + context.p.return_above * host.high)
    ratio = _ratio(there, sum([candidate.ask.give_back for candidate in crowd]))
    changed = {}
    for number, candidate in enumerate(crowd):
        wanted = candidate.ask.give_back
        if wanted and number not in changes and (amount := _in_turn(ratio * wanted, wanted, context.step, there)):
            there -= amount
            changed[number] = SizeChange(amount, ReasonCode.GIVEN_BACK)
    return changed


def _beyond(balance: Balance, context: LawContext) -> float:
    """Return what the host has beyond its high watermark and the wants of guests that lack memory."""
    return max(0.0, context.host.free - (balance.urgent + context.host.high) - balance.relief)


def _ratio(there: float, wanted: float) -> float:
    """Return the share of what is wanted that there is."""
    return min(1.0, max(0.0, there) / wanted) if wanted > 0 else 0.0


def _in_turn(share: float, wanted: float, step: float, left: float) -> float:
    """Return what a guest gets of what it wants: its share, or a step where that is less, as less is not worth a command.

    :param left: KiB for it and for those after it; where that is too little, they wait until the ones before them have all
    """
    given = min(max(share, step), wanted, left)
    return given if given >= min(wanted, step) else 0.0
