"""Balloon law: computes each guest's size, with the reason.

The law is pure: it reads no clock and no file. Read the files in this order: `memory.py` (input), `need.py` (memory that a guest must
keep), `want.py` (memory that a guest wants), `offer.py` (memory that a guest can give), `share.py` (the host's decision), `reasons.py`.

The law takes memory in this order:

1. empty memory, by sweeps and trims;
2. page cache beyond a guest's target headroom;
3. below 70 % of the high watermark: margins;
4. below the hard watermark: headroom for bursts;
5. below the low watermark: all of these at once, and no guest grows beyond its guarantee.

The law does not oscillate, because

- there are gaps between the watermarks;
- a guest that stalled keeps the memory that it got back, and a guest that ran out keeps its headroom for a minute;
- a guest is swept again only after it has freed more memory;
- no guest shrinks and grows at the same amount of usable memory.

Forecasts decide when mom takes harmless memory, and from which guests. If harmless memory is not enough, the law ignores forecasts.
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
"""s in which the law asks every guest to give memory for expected growth. Forecasts look 15 minutes ahead."""

LEAST_ASKED: Final = 64
"""Minimum number of guests asked. Asking thousands would dominate the law's CPU time."""


def decide(host: HostMemory, guests: Sequence[GuestMemory], parameters: LawParameters, limits: ShrinkLimits) -> list[SizeSuggestion]:
    """Return the suggested size of each guest, in order."""
    left = _left_if_all_grow(host, guests, parameters)
    context = context_of(host, parameters, no_reclaim=left > 0)
    if left <= 0 or left > host.ahead:
        return share_out(guests, [ask_of(guest, context) for guest in guests], context, limits)
    # Expected growth is minutes away: ask some guests in this cycle and the others in later cycles.
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
    left = host.free + parameters.step / BYTES - host.high
    for guest in guests:
        if left <= 0:
            break
        if guest.size is not None and guest.maximum is not None and guest.maximum > guest.size:
            left -= guest.maximum - guest.size
    return left


def sweep_of(host: HostMemory, guest: GuestMemory, parameters: LawParameters, limits: ShrinkLimits) -> SizeSuggestion:
    """Return the sweep of a guest before its migration. Without a target, no sweep is needed.

    :param host: `interval` is the time in which the balloon may inflate
    """
    ask = ask_of(guest, context_of(host, parameters, depth=BALLOON_KIB_PER_SECOND * host.interval))
    if guest.size is not None and ask.offer.sweep and not ask.relief:
        passed = gate(int(guest.size - ask.offer.depth), guest, limits).size
        if passed is not None and passed < guest.size:
            return SizeSuggestion(passed, ReasonCode.SWEEP, ask.offer.sweep)
    return SizeSuggestion(None, ask.code or ReasonCode.NOTHING_TO_GIVE)


def ahead_of(host: HostMemory, guests: Sequence[GuestMemory], rise: float, parameters: LawParameters) -> float:
    """Return the KiB to keep available for guests' expected growth.

    :param rise: expected growth of all guests together, in KiB
    """
    if rise <= 0:
        return 0.0
    context = context_of(host, parameters)
    return parameters.rise_share * max(0.0, rise - sum([ready_memory(guest, context) for guest in guests if guest.rise]))
