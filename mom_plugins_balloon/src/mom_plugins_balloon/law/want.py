"""One `Ask` for each guest: memory that the guest wants, and memory that it can give."""

from __future__ import annotations

from typing import Final, NamedTuple

from mom_plugins_balloon.law.need import LawContext, Need, headroom_returns, need_of
from mom_plugins_balloon.law.offer import NO_OFFER, Offer, offer_of
from mom_plugins_balloon.law.reasons import ReasonCode
from mom_plugins_balloon.memory import GuestMemory, guaranteed_size, newer_by
from mom_plugins_balloon.parameters import STEP_KIB, longest_move_seconds

STALE_INTERVALS: Final = 1.6
LEAST_STALE_SECONDS: Final = 2.0
"""The law uses statistics up to this many intervals old, and up to 2 s in any case, because ages may be in whole seconds."""

RUNS_OUT: Final = 0.2
"""Multiple of the margin: with less usable memory, a guest runs out of memory."""

GROWS_TO: Final = 1.5
"""Multiple of the margin: a guest that ran out of memory grows to at least this headroom."""

EXHAUSTED: Final = 0.1
"""Multiple of the margin: with less usable memory, a guest is assumed to need more memory than ever before."""

GROWS_SHARE: Final = 0.5
"""A guest that needs more memory than ever before gets back this ratio of the memory taken from it."""

RETURN_SHARE: Final = 0.1
"""Ratio of a guest's maximum that mom returns in one cycle. Returns are slower than reclaim, because mom may have to reclaim again."""


class Ask(NamedTuple):
    """Memory that one guest wants, and memory that it can give, in KiB."""

    code: ReasonCode | None = None
    keeps_size: bool = False
    """Whether the guest keeps its size, however much memory the host has."""
    full: float = 0.0
    """Size to which the guest grows at once, at no cost to the host; otherwise 0."""
    urgent: float = 0.0
    """Memory wanted at once."""
    relief: float = 0.0
    """Memory wanted if the host has memory to spare."""
    cache_refill: float = 0.0
    """Memory wanted if the host is above its high watermark."""
    give_back: float = 0.0
    """Memory that mom returns while the host has plenty."""
    offer: Offer = NO_OFFER
    rises: bool = False


def no_change(code: ReasonCode | None = None) -> Ask:
    """Return the ask of a guest that keeps its size."""
    return Ask(code, keeps_size=True)


def ask_of(guest: GuestMemory, context: LawContext) -> Ask:
    """Return the memory that a guest wants and can give."""
    size, maximum, usable, age = guest.size, guest.maximum, guest.statistics.usable, guest.statistics.age
    if guest.sweeps.under_way:  # the sweep ends by itself, before statistics could show that the guest wants its headroom
        return no_change(ReasonCode.IN_TRANSITION)
    if size is None or maximum is None or usable is None or age is None:
        return _without_statistics(guest, ReasonCode.UNKNOWN)
    if age > max(LEAST_STALE_SECONDS, STALE_INTERVALS * context.host.interval):
        return _without_statistics(guest, ReasonCode.STALE)
    if guest.origin_unknown:
        return no_change(ReasonCode.BEFORE_UNKNOWN)
    is_new, target = newer_by(guest) >= 0, guest.target
    if context.no_reclaim and is_new and size >= maximum and (target is None or target >= size):
        return no_change()
    need = need_of(guest, maximum, usable, context)
    headroom = _headroom_back(guest, need, size, context)
    if headroom is not None:
        return headroom
    if not is_new:
        return no_change(ReasonCode.UNSETTLED)
    promised = guaranteed_size(guest)
    if need.usable < max(RUNS_OUT * need.margin, need.floors.killed) or size < promised:
        return _urgent(guest, need, maximum - size, promised - size, context)
    return _ask_in_health(guest, need, size, maximum, context)


def _without_statistics(guest: GuestMemory, code: ReasonCode) -> Ask:
    # A guest gets its guarantee whatever it reports.
    lacks = 0.0 if guest.size is None or guest.maximum is None else guaranteed_size(guest) - guest.size
    return Ask(ReasonCode.PROMISED, urgent=lacks) if lacks > 0 else no_change(code)


def ready_memory(guest: GuestMemory, context: LawContext) -> float:
    """Return how many KiB of its expected growth the guest can take from freed memory that the host still backs."""
    usable = guest.statistics.usable
    if not guest.rise or guest.maximum is None or usable is None:
        return 0.0
    return min(guest.rise, need_of(guest, guest.maximum, usable, context).freed)


def _headroom_back(guest: GuestMemory, need: Need, size: float, context: LawContext) -> Ask | None:
    ahead = _size_ahead(guest, size)
    owes = size - ahead
    if need.full - ahead < STEP_KIB:
        return None
    changed = guest.target_age
    if need.then_is_known and owes >= STEP_KIB and changed is not None and changed < longest_move_seconds(owes) and not need.growing:
        return no_change(ReasonCode.IN_TRANSITION)
    if need.keeps_full or (need.leaves_empty and headroom_returns(context.host)):
        return Ask(ReasonCode.HEADROOM_BACK, full=need.full)
    return None


def _urgent(guest: GuestMemory, need: Need, missing: float, unkept: float, context: LawContext) -> Ask:
    # `missing` is the memory below the guest's maximum, `unkept` below its guarantee (KiB).
    if missing <= 0:
        return no_change()
    margin, usable, peak = need.margin, need.usable, guest.habits.peak
    # If so, the guest's past does not show how much it wants.
    is_new = peak is None or guest.statistics.total is None or need.used > peak + STEP_KIB or usable < EXHAUSTED * margin
    headroom = max(GROWS_TO * margin, need.burst + margin, need.floors.killed) - usable
    growth = max(headroom, GROWS_SHARE * missing if is_new else 0.0, unkept)
    if unkept > 0:
        code = ReasonCode.PROMISED
    elif usable < (guest.statistics.usable or 0.0):
        code = ReasonCode.FORECAST
    else:
        code = ReasonCode.RUNS_OUT if usable < RUNS_OUT * margin else ReasonCode.STALL_FLOOR
    return Ask(code, urgent=min(growth, missing))


def _ask_in_health(guest: GuestMemory, need: Need, size: float, maximum: float, context: LawContext) -> Ask:
    code, relief, refill, give_back = None, 0.0, 0.0, 0.0
    rises = guest.rise is not None and guest.rise > 0 and guest.rise >= context.worth(size)
    if maximum > size:
        if need.usable < need.floors.stall or guest.statistics.swaps_in or guest.statistics.waits_for_disk:
            code, relief = _relief(guest, need, maximum - size, context)
        elif not need.leaves_empty and need.full - _size_ahead(guest, size) >= STEP_KIB:
            code, refill = ReasonCode.CACHE_REFILL, max(0.0, need.full - size)
        if rises and not need.leaves_empty and not relief:
            growth = min(maximum, need.full + (guest.rise or 0.0)) - size
            code, refill = (ReasonCode.RISES, growth) if growth > refill + STEP_KIB else (code, refill)
        if context.host.free > context.plenty:
            give_back = min(maximum - size, max(STEP_KIB, RETURN_SHARE * maximum))
    spared = None if context.below_hard or context.no_reclaim else _why_new(guest, need)
    offer = NO_OFFER if spared else offer_of(guest, need, size, context)
    code = spared if code is None else code
    return Ask(code=code, relief=relief, cache_refill=refill, give_back=give_back, offer=offer, rises=rises)


def _why_new(guest: GuestMemory, need: Need) -> ReasonCode | None:
    if guest.start_rest:
        return ReasonCode.STARTED
    # mom learns this while the balloon rests. Once trims have begun, the balloon might move in each cycle.
    is_learned = need.then_is_known or guest.statistics.total is None or guest.habits.counts_balloon
    return None if is_learned else ReasonCode.LEARNING


def _relief(guest: GuestMemory, need: Need, missing: float, context: LawContext) -> tuple[ReasonCode | None, float]:
    swaps, waits, target = guest.statistics.swaps_in, guest.statistics.waits_for_disk, need.floors.stall
    if need.usable >= target:
        # While the host takes margins, it would take back memory above `tight` from a guest that waits for its disk.
        target = need.floors.tight if waits and not swaps and context.takes_margins else need.floors.headroom
    growth = min(missing, target - need.usable)
    if growth < STEP_KIB:
        return None, 0.0
    return (ReasonCode.SWAPS if swaps else ReasonCode.WAITS_FOR_DISK if waits else ReasonCode.STALL_FLOOR), growth


def _size_ahead(guest: GuestMemory, size: float) -> float:
    return size if guest.target is None or guest.target >= size else guest.target
