"""The balloon law: from the memory of the host and its guests to the sizes that guests should have, each with its reason.

Pure: no clock, no file, no plugin. Read in this order: `need.py` (the guest's need), `want.py` (its ask), `offer.py` (its offer, by each
means), `share.py` (who gives and who gets), `reasons.py`.

Headroom costs the host nothing until the guest touches it. Memory that a guest has used and freed does cost: the host still backs it. The
means are used up in this order:

1. empty memory, by sweeps and trims;
2. page cache beyond a guest's target headroom;
3. below 70 % of the high watermark, margins;
4. below the hard watermark, headroom for bursts;
5. below the low watermark all of these at once, and no guest grows beyond its guarantee.

The law does not oscillate, for five reasons:

- there are gaps between the watermarks;
- trimming ends at the state that it began with;
- a guest that stalls gets its memory back and keeps it, and a guest that ran out keeps its headroom for a minute;
- a guest is swept only when it has freed memory since its last sweep;
- no guest gives and grows at the same amount of usable memory.

Forecasts decide when memory is taken, and from which guest. If harmless memory is not enough, the law ignores forecasts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from mom_plugins_balloon.gate import ShrinkLimits, gate
from mom_plugins_balloon.law.context import BYTES, LawContext, context_of, headroom_returns
from mom_plugins_balloon.law.reasons import ReasonCode
from mom_plugins_balloon.law.share import SizeSuggestion, level_of, share_out
from mom_plugins_balloon.law.want import ask_of, is_rising, ready_memory
from mom_plugins_balloon.memory import GuestMemory, HostMemory
from mom_plugins_balloon.parameters import BALLOON_KIB_PER_SECOND, LawParameters

__all__ = ["LawContext", "SizeSuggestion", "ahead_of", "context_of", "decide", "headroom_returns", "level_of", "sweep_of"]

ALL_ASKED_SECONDS: Final = 60.0
"""s. All guests are asked within this time for memory that is only expected, which is known a quarter of an hour before."""

LEAST_ASKED: Final = 64
"""Guests asked in each cycle at least: asking all of thousands in each would cost more than all else that the law does."""


def decide(host: HostMemory, guests: Sequence[GuestMemory], parameters: LawParameters, limits: ShrinkLimits) -> list[SizeSuggestion]:
    """Return the sizes that these guests should have, in their order."""
    left = _left_if_all_grow(host, guests, parameters)
    context = context_of(host, parameters, no_reclaim=left > 0)
    if left <= 0 or left > host.ahead:
        return share_out(guests, [ask_of(guest, context) for guest in guests], context, limits)
    # Expected growth is minutes away: some guests are asked for it in this cycle, the others in the next ones.
    asking, resting = context._replace(no_reclaim=False), context
    count = max(LEAST_ASKED, math.ceil(len(guests) * host.interval / ALL_ASKED_SECONDS))
    asks = [
        ask_of(guest, asking)
        if (place - count * host.cycle) % len(guests) < count and not is_rising(guest, context)
        else ask_of(guest, resting, spares_rising=True)
        for place, guest in enumerate(guests)
    ]
    return share_out(guests, asks, asking, limits)


def _left_if_all_grow(host: HostMemory, guests: Sequence[GuestMemory], parameters: LawParameters) -> float:
    """Return the host's memory beyond its high watermark when all guests have all of their memory; at 0 or less, some may have to give."""
    left = host.free + parameters.step / BYTES - host.high
    for guest in guests:
        if left <= 0:
            break
        if guest.size is not None and guest.maximum is not None and guest.maximum > guest.size:
            left -= guest.maximum - guest.size
    return left


def sweep_of(host: HostMemory, guest: GuestMemory, parameters: LawParameters, limits: ShrinkLimits) -> SizeSuggestion:
    """Return the sweep of a guest that will be moved, so that its freed memory is not sent. Its target is None if there is no sweep.

    :param host: its `interval` is how long the balloon may take memory
    """
    ask = ask_of(guest, context_of(host, parameters, depth=BALLOON_KIB_PER_SECOND * host.interval))
    if guest.size is not None and ask.offer.sweep and not ask.relief:
        passed = gate(int(guest.size - ask.offer.depth), guest, limits).size
        if passed is not None and passed < guest.size:
            return SizeSuggestion(passed, ReasonCode.SWEEP, ask.offer.sweep)
    return SizeSuggestion(None, ask.code or ReasonCode.NOTHING_TO_GIVE)


def ahead_of(host: HostMemory, guests: Sequence[GuestMemory], rise: float, parameters: LawParameters) -> float:
    """Return the memory that the host should have available for the expected growth of guests, in KiB.

    :param rise: KiB that they are expected to use more, together
    """
    if rise <= 0:
        return 0.0
    context = context_of(host, parameters)
    return parameters.rise_share * max(0.0, rise - sum([ready_memory(guest, context) for guest in guests if guest.rise]))
