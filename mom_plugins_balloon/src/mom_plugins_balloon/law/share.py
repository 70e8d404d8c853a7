"""Decision of the host: which guests give memory and which get it.

The law skips guests that keep their size or get headroom at no cost. It then applies the changes of `KINDS` in order. A guest
changes by the first kind that applies to it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Final, NamedTuple, TypeAlias

from mom_plugins_balloon.gate import ShrinkLimits, gate
from mom_plugins_balloon.law.need import LawContext, context_of
from mom_plugins_balloon.law.offer import NO_OFFER, TRIMS, Balance, Offer
from mom_plugins_balloon.law.reasons import ReasonCode
from mom_plugins_balloon.law.want import Ask, ask_of, ready_memory
from mom_plugins_balloon.memory import GuestMemory, HostMemory, guaranteed_size
from mom_plugins_balloon.parameters import STEP_KIB, LawParameters


class WeighedGuest(NamedTuple):
    """Guest that may get or give memory."""

    place: int
    guest: GuestMemory
    ask: Ask
    offer: Offer
    """`NO_OFFER` if the law spares the guest, because the guest is expected to use more memory."""


class SizeChange(NamedTuple):
    """Change of one guest's size, in KiB. 0 if the host has no memory left for the guest."""

    amount: float
    code: ReasonCode | None = None
    """None if the code of the guest's `Ask` applies."""
    gain: float | None = None


Changes: TypeAlias = Mapping[int, SizeChange]
"""Changes of size, keyed by the guest's index."""

ChangeKind: TypeAlias = Callable[[Sequence[WeighedGuest], Changes, Balance, LawContext], Changes]
"""Function that returns the changes of one kind."""


def unbacked_memory(guest: GuestMemory) -> float:
    """Return the memory that a guest could still take from the host."""
    backed, maximum = guest.backed, guest.maximum
    return math.inf if backed is None or maximum is None else max(0.0, maximum - backed)


def level_of(parts: Sequence[tuple[float, float]], amount: float) -> float:
    """Return the level at which all parts together give `amount`.

    Each part gives `kib * min(1, level / cost)`, so cheap parts are used up first.

    :param parts: cost and KiB of each part
    """
    whole = 0.0
    shared = sum(part / cost for cost, part in parts)
    rounding = 1e-9 * shared
    for cost, part in sorted(parts):
        if whole + cost * shared >= amount:
            break
        whole += part
        shared -= part / cost
    return (amount - whole) / shared if shared > rounding else math.inf


def grow_urgently(crowd: Sequence[WeighedGuest], changes: Changes, balance: Balance, context: LawContext) -> Changes:
    """Grow urgent guests from memory above the host's low watermark. Without such memory, still grow guests up to their guarantee."""
    grown = _grown(crowd, changes, attrgetter("urgent"), context.host.available - context.host.low)
    for place, guest, ask, _ in crowd:
        if ask.code is ReasonCode.PROMISED:
            lacks = guaranteed_size(guest) - (guest.size or 0.0)
            grown[place] = SizeChange(max(grown[place].amount, lacks))
    return grown


def relieve(crowd: Sequence[WeighedGuest], changes: Changes, balance: Balance, context: LawContext) -> Changes:
    """Grow stalling guests, with memory beyond the hard watermark."""
    supply = context.host.free - (balance.urgent + context.host.hard)
    return _grown(crowd, changes, attrgetter("relief"), supply) if supply > 0 else {}


def refill_cache(crowd: Sequence[WeighedGuest], changes: Changes, balance: Balance, context: LawContext) -> Changes:
    """Give back headroom for page cache while the host is above its high watermark, first to guests with expected growth."""
    filling = [candidate for candidate in crowd if candidate.ask.cache_refill >= STEP_KIB]
    supply, want = context.host.free - (context.host.high + balance.urgent + balance.relief), attrgetter("cache_refill")
    first = _grown([candidate for candidate in filling if candidate.ask.rises], changes, want, supply)
    return first | _grown(filling, {**changes, **first}, want, supply - (balance.ahead + _amount(first)))


def give_back_memory(crowd: Sequence[WeighedGuest], changes: Changes, balance: Balance, context: LawContext) -> Changes:
    """Give memory back to trimmed guests if the host has plenty."""
    supply = context.host.free - (context.plenty + balance.ahead + _amount(changes))
    return _grown(crowd, changes, attrgetter("give_back"), supply, ReasonCode.GIVEN_BACK)


def _amount(changes: Changes) -> float:
    return sum([max(0.0, change.amount) for change in changes.values()])


def _grown(
    crowd: Sequence[WeighedGuest], changes: Changes, want: Callable[[Ask], float], supply: float, code: ReasonCode | None = None
) -> dict[int, SizeChange]:
    # Each guest gets the same amount, but no more than it wants. A small amount is rounded up to a step, so that some guests get none.
    demands = [(candidate, demand) for candidate in crowd if (demand := want(candidate.ask)) and candidate.place not in changes]
    most = level_of([(kib, kib) for _, kib in demands], max(0.0, supply)) if demands else 0.0  # a part gives `min(part, level)`
    grown = {}
    for candidate, demand in demands:
        amount = min(max(most, STEP_KIB), demand, supply)
        amount = amount if amount >= min(demand, STEP_KIB) else 0.0
        supply -= min(amount, unbacked_memory(candidate.guest)) if amount else 0.0
        grown[candidate.place] = SizeChange(amount, code if amount else None)
    return grown


def sweep(crowd: Sequence[WeighedGuest], changes: Changes, balance: Balance, context: LawContext) -> Changes:
    """Sweep as few guests as the shortage needs, the cheapest first.

    Among equal costs, guests whose sweep yields more than a trim come first. Then come guests without expected growth, then those that
    freed memory most recently. The law skips offers below half of the largest.
    """
    demand = balance.demand - sum([candidate.offer.backed for candidate in crowd if candidate.offer.trims])
    able = [candidate for candidate in crowd if candidate.offer.sweep and candidate.place not in changes]
    worth = 0.5 * max([candidate.offer.sweep for candidate in able], default=0.0)
    changed = {}
    for candidate in sorted([candidate for candidate in able if candidate.offer.sweep >= worth], key=_sweep_order):
        if demand < STEP_KIB:
            break
        offer = candidate.offer
        changed[candidate.place] = SizeChange(-offer.depth, ReasonCode.SWEEP, offer.sweep)
        demand -= offer.sweep - offer.backed if offer.sweep > offer.backed else offer.sweep
    return changed


def _sweep_order(candidate: WeighedGuest) -> tuple[float, bool, bool, float, int]:
    offer, freed_age = candidate.offer, candidate.guest.habits.freed_age
    return offer.cost, offer.sweep <= offer.backed, candidate.ask.rises, math.inf if freed_age is None else freed_age, candidate.place


def trim(crowd: Sequence[WeighedGuest], changes: Changes, balance: Balance, context: LawContext) -> Changes:
    """Trim guests by each means of `TRIMS`, until the host has enough.

    If all shares are smaller than a step, the guests with the most spare memory give one step each. A guest that gives page cache also
    gives its unbacked memory, which balloons take first. When the law takes margins, all donors give their unbacked memory.
    """
    donors, offers = [candidate for candidate in crowd if candidate.offer.trims], [candidate.offer for candidate in crowd]
    last, gained, amounts, able = None, 0.0, [0.0] * len(donors), [0.0] * len(donors)
    for means in TRIMS:
        parts = [(means.cost(donor.offer), means.could_give(donor.offer)) for donor in donors]
        amount = means.amount(sum([kib for _, kib in parts]), gained, balance, context)
        gained += sum([means.gain(offer) for offer in offers])
        if amount:
            last, level = means, level_of(parts, amount)
            amounts = [taken + kib * min(1.0, level / cost) for taken, (cost, kib) in zip(amounts, parts, strict=True)]
            able = [kib_before + kib for kib_before, (_, kib) in zip(able, parts, strict=True)]
    if last is None:
        return {}
    by_cost = [kib / last.cost(donor.offer) for donor, kib in zip(donors, able, strict=True)]
    average = 0.99 * sum(by_cost) / len(by_cost)  # slightly less, for rounding
    left, changed = sum(amounts), {}
    for donor, amount, kib, weighed in zip(donors, amounts, able, by_cost, strict=True):
        if donor.place in changes:
            continue
        gives = left > 0 and (amount >= STEP_KIB or (kib >= STEP_KIB and weighed >= average))
        loss = max(amount, STEP_KIB) if gives else 0.0
        left -= loss
        unbacked = donor.offer.unbacked if last.hurts and (gives or context.takes_margins) else 0.0
        changed[donor.place] = SizeChange(-loss - unbacked, last.code)
    return changed


KINDS: Final[Sequence[ChangeKind]] = (grow_urgently, relieve, sweep, trim, refill_cache, give_back_memory)


class SizeSuggestion(NamedTuple):
    """Suggested balloon size for one guest; `None` keeps the current size."""

    target: float | None
    code: ReasonCode
    gain: float | None = None
    """Host's gain from a sweep to `target`, in KiB."""


def share_out(guests: Sequence[GuestMemory], asks: Sequence[Ask], context: LawContext) -> list[SizeSuggestion]:
    """Return each guest's suggested size, after the gate."""
    crowd, balance = _weighed(guests, asks, context)
    generic = ReasonCode.NOTHING_TO_GIVE if balance.lacks >= STEP_KIB else ReasonCode.ENOUGH
    suggestions = [SizeSuggestion(ask.full or None, ask.code or generic) for ask in asks]
    changes: Changes = {}
    for kind in KINDS:
        changes = {**changes, **kind(crowd, changes, balance, context)}
    growth_left = max(0.0, context.host.available)
    for candidate in crowd:
        change, size, code = changes.get(candidate.place), candidate.guest.size or 0.0, candidate.ask.code or generic
        if change is None or not change.amount:
            suggestions[candidate.place] = SizeSuggestion(None, _why_unchanged(candidate, code, balance, context))
            continue
        passed = gate(int(size + min(change.amount, growth_left)), candidate.guest, context.limits).size
        growth_left = max(0.0, growth_left - max(0.0, (passed or 0.0) - size))
        suggestions[candidate.place] = SizeSuggestion(passed, change.code or code, None if passed is None else change.gain)
    return suggestions


def _weighed(guests: Sequence[GuestMemory], asks: Sequence[Ask], context: LawContext) -> tuple[Sequence[WeighedGuest], Balance]:
    host = context.host
    crowd = [
        WeighedGuest(place, guest, ask, ask.offer)
        for place, (guest, ask) in enumerate(zip(guests, asks, strict=True))
        if not ask.keeps_size and not ask.full
    ]
    urgent = sum([min(candidate.ask.urgent, unbacked_memory(candidate.guest)) for candidate in crowd if candidate.ask.urgent])
    relief = sum([min(candidate.ask.relief, unbacked_memory(candidate.guest)) for candidate in crowd if candidate.ask.relief])
    lacks, ahead = host.high + (urgent + relief) - host.free, 0.0
    if _goes_by_forecast(crowd, lacks, context):
        crowd, ahead = [candidate._replace(offer=NO_OFFER) if candidate.ask.rises else candidate for candidate in crowd], host.ahead
    # Cold memory goes to swap anyway, so guests need not give that part.
    demand = lacks + max(0.0, ahead - host.cold) if ahead else lacks
    return crowd, Balance(urgent, relief, lacks, demand, ahead)


def _goes_by_forecast(crowd: Sequence[WeighedGuest], lacks: float, context: LawContext) -> bool:
    # Guests with an expected growth give nothing if other guests can give enough without harm.
    host = context.host
    if context.below_hard or not (host.ahead or any(candidate.ask.rises for candidate in crowd)):
        return False
    harmless = sum([candidate.offer.harmless for candidate in crowd if not candidate.ask.rises and candidate.offer is not NO_OFFER])
    return lacks < STEP_KIB or lacks <= host.cold + harmless


def _why_unchanged(candidate: WeighedGuest, code: ReasonCode, balance: Balance, context: LawContext) -> ReasonCode:
    guest, offer, size = candidate.guest, candidate.offer, candidate.guest.size or 0.0
    if balance.lacks >= STEP_KIB and (offer.harmless >= STEP_KIB or (offer.trims and context.takes_margins)):
        return ReasonCode.OTHERS_GIVE
    if balance.lacks >= STEP_KIB and offer.unbacked >= STEP_KIB:
        return ReasonCode.UNTOUCHED
    is_spared = offer is not candidate.ask.offer or (candidate.ask.rises and balance.lacks < STEP_KIB)
    if balance.demand >= STEP_KIB and candidate.ask.code is None and is_spared:
        return ReasonCode.SPARED
    if code is ReasonCode.NOTHING_TO_GIVE and 0 < guest.guarantee > size - STEP_KIB:
        return ReasonCode.GUARANTEED
    return ReasonCode.OUT_OF_REACH if code is ReasonCode.NOTHING_TO_GIVE and (guest.reach or 0.0) > size - STEP_KIB else code


def decide(host: HostMemory, guests: Sequence[GuestMemory], parameters: LawParameters, limits: ShrinkLimits) -> list[SizeSuggestion]:
    """Return the suggested size of each guest, in order."""
    no_reclaim = _left_if_all_grow(host, guests) > host.ahead
    context = context_of(host, parameters, limits, no_reclaim=no_reclaim)
    return share_out(guests, [ask_of(guest, context) for guest in guests], context)


def _left_if_all_grow(host: HostMemory, guests: Sequence[GuestMemory]) -> float:
    left = host.free + STEP_KIB - host.high
    for guest in guests:
        if left <= 0:
            break
        if guest.size is not None and guest.maximum is not None and guest.maximum > guest.size:
            left -= guest.maximum - guest.size
    return left


def sweep_of(host: HostMemory, guest: GuestMemory, parameters: LawParameters, limits: ShrinkLimits) -> SizeSuggestion:
    """Return the size to which a sweep shrinks a guest before its migration; `target` None if no sweep is needed.

    :param host: `interval` is the time in which the balloon may inflate
    """
    ask = ask_of(guest, context_of(host, parameters, limits))
    if guest.size is not None and ask.offer.sweep and not ask.relief:
        passed = gate(int(guest.size - ask.offer.depth), guest, limits).size
        if passed is not None and passed < guest.size:
            return SizeSuggestion(passed, ReasonCode.SWEEP, ask.offer.sweep)
    return SizeSuggestion(None, ask.code or ReasonCode.NOTHING_TO_GIVE)


def ahead_of(host: HostMemory, guests: Sequence[GuestMemory], rise: float, parameters: LawParameters, limits: ShrinkLimits) -> float:
    """Return the KiB to keep available for guests' expected growth.

    :param rise: expected growth of all guests together, in KiB
    """
    if rise <= 0:
        return 0.0
    context = context_of(host, parameters, limits)
    return max(0.0, rise - sum([ready_memory(guest, context) for guest in guests if guest.rise]))
