"""Who gives and who gets: all asks of one cycle weighed against the host.

Guests that keep their size, or get at once what costs nothing, are left out. The others are settled by one kind of change after the other
(`KINDS`): each kind gives its amounts to guests that no kind before it has settled.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from mom_plugins_balloon.gate import ShrinkLimits, gate
from mom_plugins_balloon.law.context import LawContext
from mom_plugins_balloon.law.offer import NO_OFFER, TRIMS, Offer, Shortage, TrimMeans
from mom_plugins_balloon.law.reasons import ReasonCode
from mom_plugins_balloon.law.want import Ask
from mom_plugins_balloon.memory import GuestMemory


class SizeSuggestion(NamedTuple):
    """Suggested balloon size for one guest; `None` keeps the current size."""

    target: float | None
    code: ReasonCode
    gain: float | None = None
    """Gain of the host by a sweep to that size, in KiB."""


class Weighed(NamedTuple):
    """One guest that may get or give memory."""

    place: int
    """Its place among all guests."""
    guest: GuestMemory
    ask: Ask
    offer: Offer
    """Its offer, or none where it is left alone because it is expected to use more."""


class SizeChange(NamedTuple):
    """Change of one guest's size, in KiB; 0: none, as nothing is left for it."""

    amount: float
    code: ReasonCode | None = None
    """None: the code of its ask."""
    gain: float | None = None


class Balance(NamedTuple):
    """What guests want and the host lacks, in KiB."""

    urgent: float
    relief: float
    lacks: float
    """Lacking of the high watermark, and of what guests want now."""
    wanted: float
    """The same, with what guests are expected to take."""
    ahead: float
    """To be available for what guests are expected to take."""


Changes = Mapping[int, SizeChange]
"""Changes of guests that are settled, by their place among those that are weighed."""


def share_out(guests: Sequence[GuestMemory], asks: Sequence[Ask], context: LawContext, limits: ShrinkLimits) -> list[SizeSuggestion]:
    """Return the size that each guest should have, as far as it passes the gate."""
    crowd, balance = _weighed(guests, asks, context)
    generic = _generic_code(balance, context)
    suggestions = [SizeSuggestion(ask.full or None, ask.code or generic) for ask in asks]
    changes: Changes = {}
    for kind in KINDS:
        changes = {**changes, **kind(crowd, changes, balance, context)}
    growth_left = max(0.0, context.host.available)
    for number, one in enumerate(crowd):
        change, size = changes.get(number), one.guest.size or 0.0
        if change is None or not change.amount:
            suggestions[one.place] = SizeSuggestion(None, _why_unchanged(one, one.ask.code or generic, balance, context.step))
            continue
        passed, code = gate(int(size + min(change.amount, growth_left)), one.guest, limits).size, change.code or one.ask.code or generic
        growth_left = max(0.0, growth_left - max(0.0, (passed or 0.0) - size))
        suggestions[one.place] = SizeSuggestion(passed, code, None if passed is None else change.gain)
    return suggestions


def _weighed(guests: Sequence[GuestMemory], asks: Sequence[Ask], context: LawContext) -> tuple[Sequence[Weighed], Balance]:
    """Return the guests that may get or give memory, and what all of them want."""
    host = context.host
    crowd = [
        Weighed(place, guest, ask, ask.offer)
        for place, (guest, ask) in enumerate(zip(guests, asks, strict=True))
        if not ask.keeps_size and not ask.full
    ]
    urgent = sum([min(one.ask.urgent, _unbacked(one.guest)) for one in crowd if one.ask.urgent])
    relief = sum([min(one.ask.relief, _unbacked(one.guest)) for one in crowd if one.ask.relief])
    lacks, ahead = host.high + (urgent + relief) - host.free, 0.0
    if _goes_by_forecast(crowd, lacks, context):
        crowd, ahead = [one._replace(offer=NO_OFFER) if one.ask.rises else one for one in crowd], host.ahead
    # What cold memory gives anyway need not be taken from guests for later.
    wanted = lacks + max(0.0, ahead - host.cold) if ahead else lacks
    return crowd, Balance(urgent, relief, lacks, wanted, ahead)


def _goes_by_forecast(crowd: Sequence[Weighed], lacks: float, context: LawContext) -> bool:
    """Return whether guests that are expected to use more give nothing.

    They give where the host lacks more than others can give without harm, and where it is below its hard watermark.
    """
    host = context.host
    if context.below_hard or not (host.ahead or any(one.ask.rises for one in crowd)):
        return False
    harmless = sum([one.offer.harmless for one in crowd if not one.ask.rises and one.offer is not NO_OFFER])
    return lacks < context.step or lacks <= host.cold + harmless


def _unbacked(guest: GuestMemory) -> float:
    """Return the memory that a guest could still take from the host: its maximum less what the host backs already.

    Nobody has to give for more than that, whatever the guest wants.
    """
    backed, maximum = guest.process.backed, guest.maximum
    return math.inf if backed is None or maximum is None else max(0.0, maximum - backed)


def _generic_code(balance: Balance, context: LawContext) -> ReasonCode:
    if balance.lacks >= context.step:
        return ReasonCode.NOTHING_TO_GIVE
    return ReasonCode.ENOUGH if context.host.free < context.p.return_above * context.host.high else ReasonCode.PLENTY


def _why_unchanged(one: Weighed, code: ReasonCode, balance: Balance, step: float) -> ReasonCode:
    guest, size = one.guest, one.guest.size or 0.0
    if balance.lacks >= step and (one.offer.trims or one.offer.sweep):
        return ReasonCode.OTHERS_GIVE
    is_spared = one.offer is not one.ask.offer or (one.ask.rises and balance.lacks < step)
    if balance.wanted >= step and one.ask.code is None and is_spared:
        return ReasonCode.SPARED
    if code is ReasonCode.NOTHING_TO_GIVE and 0 < guest.guarantee > size - step:
        return ReasonCode.GUARANTEED
    return ReasonCode.OUT_OF_REACH if code is ReasonCode.NOTHING_TO_GIVE and (guest.reach or 0.0) > size - step else code


# --- guests that get memory --------------------------------------------------------------------------------------------------------------


def _grow_urgently(crowd: Sequence[Weighed], changes: Changes, balance: Balance, context: LawContext) -> Changes:
    """Guests that cannot wait grow, down to the host's low watermark. A guarantee holds below that, too."""
    there = context.host.available - context.host.low
    grown = dict(_grown([(number, one, one.ask.urgent) for number, one in enumerate(crowd) if one.ask.urgent], there, context.step))
    for number, change in grown.items():
        guest = crowd[number].guest
        if crowd[number].ask.code is ReasonCode.PROMISED:
            lacks = min(guest.guarantee, guest.maximum or 0.0) - (guest.size or 0.0)
            grown[number] = change._replace(amount=max(change.amount, lacks))
    return grown


def _relieve(crowd: Sequence[Weighed], changes: Changes, balance: Balance, context: LawContext) -> Changes:
    """Guests that stall grow: down to the hard watermark and what others have not touched, or beyond the high watermark."""
    host = context.host
    wanting = [(number, one, one.ask.relief) for number, one in enumerate(crowd) if one.ask.relief]
    untouched = sum([one.ask.untouched for one in crowd])
    there = host.free - (untouched + balance.urgent + host.hard) if balance.relief else 0.0
    there = max(there, host.free - (balance.urgent + host.high))
    return dict(_grown(wanting, there, context.step)) if there > 0 else {}


def _grown(wanting: Sequence[tuple[int, Weighed, float]], there: float, step: float) -> Iterator[tuple[int, SizeChange]]:
    """Share out what there is among guests that want so much each: a large want leaves small ones theirs."""
    most = level_of([(kib, kib) for *_, kib in wanting], max(0.0, there)) if wanting else 0.0
    for number, one, wanted in wanting:
        amount = _in_turn(most, wanted, step, there)
        there -= min(amount, _unbacked(one.guest)) if amount else 0.0
        yield number, SizeChange(amount)


def _refill_cache(crowd: Sequence[Weighed], changes: Changes, balance: Balance, context: LawContext) -> Changes:
    """Guests get back headroom that they fill with page cache, from what the host has beyond the high watermark."""
    there, asked, step = _beyond(balance, context), sum([one.ask.cache_refill for one in crowd]), context.step
    ratio, calm_ratio = _ratio(there, asked), _ratio(there - balance.ahead, asked)
    found = {}
    for number, one in enumerate(crowd):
        wanted, rises = one.ask.cache_refill, one.ask.rises
        if number in changes or wanted < step:
            continue
        amount = _in_turn((ratio if rises else calm_ratio) * wanted, wanted, step, there if rises else there - balance.ahead)
        if amount:
            there -= amount
            found[number] = SizeChange(amount)
    return found


def _give_back(crowd: Sequence[Weighed], changes: Changes, balance: Balance, context: LawContext) -> Changes:
    """Guests get back what was taken from them, while the host has plenty."""
    host, refilled = context.host, min(_beyond(balance, context), sum([one.ask.cache_refill for one in crowd]))
    there = host.free - (balance.urgent + balance.relief + refilled + balance.ahead + context.p.return_above * host.high)
    ratio = _ratio(there, sum([one.ask.give_back for one in crowd]))
    found = {}
    for number, one in enumerate(crowd):
        wanted = one.ask.give_back
        if wanted and number not in changes and (amount := _in_turn(ratio * wanted, wanted, context.step, there)):
            there -= amount
            found[number] = SizeChange(amount, ReasonCode.GIVEN_BACK)
    return found


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


def level_of(parts: Sequence[tuple[float, float]], wanted: float) -> float:
    """Return the level at which these give so much together, each `part * min(1, level / cost)`: the cheap give all before the dear give.

    :param parts: cost and KiB of each
    """
    whole = 0.0
    shared = sum(part / cost for cost, part in parts)
    rounding = 1e-9 * shared
    for cost, part in sorted(parts):
        if whole + cost * shared >= wanted:
            break
        whole += part
        shared -= part / cost
    return (wanted - whole) / shared if shared > rounding else max((cost for cost, _ in parts), default=0.0)


# --- guests that give memory -------------------------------------------------------------------------------------------------------------


def _sweep(crowd: Sequence[Weighed], changes: Changes, balance: Balance, context: LawContext) -> Changes:
    """Sweep no more guests than it takes: the cheap first.

    Among equal costs those go first of which a trim, which is counted on already, gets less. Then guests that are known not to use more
    before long, and last those that are expected to. Of these the ones that freed memory last, as they are the least likely to want it at
    once. No guest is swept that has less than half of what another has.
    """
    wanted = balance.wanted - sum([one.offer.backed for one in crowd if one.offer.trims])
    able = [(number, one) for number, one in enumerate(crowd) if one.offer.sweep and number not in changes]
    worth = 0.5 * max((one.offer.sweep for _, one in able), default=0.0)
    found = {}
    for number, one in sorted([pair for pair in able if pair[1].offer.sweep >= worth], key=_sweep_order):
        if wanted < context.step:
            break
        offer = one.offer
        found[number] = SizeChange(-offer.depth, ReasonCode.SWEEP, offer.sweep)
        wanted -= offer.sweep - offer.backed if offer.sweep > offer.backed else offer.sweep
    return found


def _sweep_order(numbered: tuple[int, Weighed]) -> tuple[float, bool, int, float, int]:
    number, one = numbered
    offer, freed_age = one.offer, one.guest.process.freed_age
    forecast = 2 if one.ask.rises else 1 if one.guest.rise is None else 0
    return offer.cost, offer.sweep <= offer.backed, forecast, math.inf if freed_age is None else freed_age, number


class Taking(NamedTuple):
    """What is taken of one means: of each donor, in their order."""

    means: TrimMeans
    share: float
    could_give: Sequence[float]
    amounts: Sequence[float]


def _trim(crowd: Sequence[Weighed], changes: Changes, balance: Balance, context: LawContext) -> Changes:
    """Trim guests by each means of `TRIMS`, as far as the host lacks what the means before it give.

    Where shares are smaller than a step, the guests that can spare most give a step each until that is enough.
    """
    donors, step = [(number, one.offer) for number, one in enumerate(crowd) if one.offer.trims], context.step
    takings = _takings([offer for _, offer in donors], _shortage(crowd, balance), context)
    if not takings:
        return {}
    last = takings[-1].means
    amounts = [float(sum(parts)) for parts in zip(*[taking.amounts for taking in takings], strict=True)]
    could_give = [float(sum(parts)) for parts in zip(*[taking.could_give for taking in takings], strict=True)]
    by_cost = [kib / last.cost(offer) for (_, offer), kib in zip(donors, could_give, strict=True)]
    average = 0.99 * sum(by_cost) / len(by_cost)  # less a hair's breadth for rounding
    left, found = sum(amounts), {}
    for (number, _), amount, kib, weighed in zip(donors, amounts, could_give, by_cost, strict=True):
        if number in changes or left <= 0:
            continue
        given = amount if amount >= step else step if kib >= step and weighed >= average else 0.0
        left -= given
        found[number] = SizeChange(-given, last.code)
    return found


def _shortage(crowd: Sequence[Weighed], balance: Balance) -> Shortage:
    offers = [one.offer for one in crowd if one.offer is not NO_OFFER]
    return Shortage(
        wanted=balance.wanted,
        urgent=balance.urgent,
        relief=balance.relief,
        backed=sum([one.backed for one in offers]),
        empty=sum([one.empty for one in offers]),
        cache=sum([one.cache for one in offers]),
        margin=sum([one.margin for one in offers]),
    )


def _takings(donors: Sequence[Offer], shortage: Shortage, context: LawContext) -> Sequence[Taking]:
    """Return what is taken by each means, up to the last that is used; nothing where none is."""
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
        takings = [one if one.means.hurts else one._replace(amounts=one.could_give) for one in takings]
    if last.means.hurts:
        costs = [last.means.cost(offer) for offer in donors]
        level = level_of(list(zip(costs, last.could_give, strict=True)), sum(last.amounts))
        takings[-1] = last._replace(amounts=[kib * min(1.0, level / cost) for cost, kib in zip(costs, last.could_give, strict=True)])
    return takings


KINDS: Final = (_grow_urgently, _relieve, _sweep, _trim, _refill_cache, _give_back)
"""The kinds of changes, in the order in which they are made."""
