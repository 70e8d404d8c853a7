"""Who gives and who gets: all asks of one cycle weighed against the host.

Some guests keep their size, or get headroom that costs nothing. The law weighs all others, and folds over the kinds of changes (`KINDS`).
Each kind changes guests that no kind before it has changed. To add a kind, write one function and add it to the list.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from mom_plugins_balloon.gate import ShrinkLimits, gate
from mom_plugins_balloon.law.changes import Balance, ChangeKind, Changes, WeighedGuest, unbacked_memory
from mom_plugins_balloon.law.context import LawContext
from mom_plugins_balloon.law.growth import give_back_memory, grow_urgently, refill_cache, relieve
from mom_plugins_balloon.law.offer import NO_OFFER
from mom_plugins_balloon.law.reasons import ReasonCode
from mom_plugins_balloon.law.reclaim import sweep, trim
from mom_plugins_balloon.law.want import Ask
from mom_plugins_balloon.memory import GuestMemory

KINDS: Final[Sequence[ChangeKind]] = (grow_urgently, relieve, sweep, trim, refill_cache, give_back_memory)
"""All kinds of changes, in their order."""


class SizeSuggestion(NamedTuple):
    """Suggested balloon size for one guest; `None` keeps the current size."""

    target: float | None
    code: ReasonCode
    gain: float | None = None
    """Gain of the host by a sweep to that size, in KiB."""


def share_out(guests: Sequence[GuestMemory], asks: Sequence[Ask], context: LawContext, limits: ShrinkLimits) -> list[SizeSuggestion]:
    """Return the size that each guest should have, after the gate."""
    crowd, balance = _weighed(guests, asks, context)
    generic = _generic_code(balance, context)
    suggestions = [SizeSuggestion(ask.full or None, ask.code or generic) for ask in asks]
    changes: Changes = {}
    for kind in KINDS:
        changes = {**changes, **kind(crowd, changes, balance, context)}
    growth_left = max(0.0, context.host.available)
    for number, candidate in enumerate(crowd):
        change, size, code = changes.get(number), candidate.guest.size or 0.0, candidate.ask.code or generic
        if change is None or not change.amount:
            suggestions[candidate.place] = SizeSuggestion(None, _why_unchanged(candidate, code, balance, context.step))
            continue
        passed = gate(int(size + min(change.amount, growth_left)), candidate.guest, limits).size
        growth_left = max(0.0, growth_left - max(0.0, (passed or 0.0) - size))
        suggestions[candidate.place] = SizeSuggestion(passed, change.code or code, None if passed is None else change.gain)
    return suggestions


def _weighed(guests: Sequence[GuestMemory], asks: Sequence[Ask], context: LawContext) -> tuple[Sequence[WeighedGuest], Balance]:
    """Return the guests that may get or give memory, and their balance with the host."""
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
    # Cold memory gives its part anyway: guests need not give it for later.
    demand = lacks + max(0.0, ahead - host.cold) if ahead else lacks
    return crowd, Balance(urgent, relief, lacks, demand, ahead)


def _goes_by_forecast(crowd: Sequence[WeighedGuest], lacks: float, context: LawContext) -> bool:
    """Return whether guests that are expected to use more give nothing.

    They give if the host lacks more than others can give without harm, or if it is below its hard watermark.
    """
    host = context.host
    if context.below_hard or not (host.ahead or any(candidate.ask.rises for candidate in crowd)):
        return False
    harmless = sum([candidate.offer.harmless for candidate in crowd if not candidate.ask.rises and candidate.offer is not NO_OFFER])
    return lacks < context.step or lacks <= host.cold + harmless


def _generic_code(balance: Balance, context: LawContext) -> ReasonCode:
    if balance.lacks >= context.step:
        return ReasonCode.NOTHING_TO_GIVE
    return ReasonCode.ENOUGH if context.host.free < context.p.return_above * context.host.high else ReasonCode.PLENTY


def _why_unchanged(candidate: WeighedGuest, code: ReasonCode, balance: Balance, step: float) -> ReasonCode:
    guest, size = candidate.guest, candidate.guest.size or 0.0
    if balance.lacks >= step and (candidate.offer.trims or candidate.offer.sweep):
        return ReasonCode.OTHERS_GIVE
    is_spared = candidate.offer is not candidate.ask.offer or (candidate.ask.rises and balance.lacks < step)
    if balance.demand >= step and candidate.ask.code is None and is_spared:
        return ReasonCode.SPARED
    if code is ReasonCode.NOTHING_TO_GIVE and 0 < guest.guarantee > size - step:
        return ReasonCode.GUARANTEED
    return ReasonCode.OUT_OF_REACH if code is ReasonCode.NOTHING_TO_GIVE and (guest.reach or 0.0) > size - step else code
