"""Control law of cold memory, based on feedback alone: how much memory to take from each guest, and how much the host needs.

By Little's law, a page stays in swap on average for T = (memory in swap) / (memory returning per second). Memory untouched for 120 s is
cold (Lagar-Cavilla et al., ASPLOS 2019). mom takes more while T is longer than 120 s, and limits the guest's stall time, as Meta's
senpai does (Weiner et al., TMO, ASPLOS 2022). When half of the reclaimed memory returns, the kernel is reclaiming memory in use: the
guest's resident memory is then its working set.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from mom_core import Host, format_kib

COLD_SECONDS: Final = 120.0
"""Pages that stay in swap for longer on average were cold."""

WARM_SECONDS: Final = 60.0
"""If pages return sooner on average, they were warm, and mom pauses. Between this and `COLD_SECONDS`, mom takes nothing."""

MOST_SHARE: Final = 0.01
"""Fastest pace, as a share of the guest's memory per second. If mom takes the wrong 1 %, that memory returns within a second."""

MADVISE_SHARE: Final = 0.0025
"""Fastest pace where the kernel reclaims hot pages along with cold ones."""

FIRST_SHARE: Final = 0.00125
"""First pace. It doubles with each step."""

KEPT_SHARE: Final = 0.10
"""Share of a guest's memory that mom never takes: its kernel, and memory that it needs first after long idleness."""

MERGED_SHARE: Final = 0.05
"""If KSM has merged more than this share of a guest's memory, mom spares merged pages. Reclaim through a control group takes them too,
and each guest then reads back its own copy."""

LEAST_KIB: Final = 256
"""Smallest amount that mom takes. The kernel reclaims in batches of 32 pages."""

LEAST_REFAULTS_KIB: Final = 128.0
LEAST_REFAULTS_SHARE: Final = 0.0005
"""Refaults per second are noise below `LEAST_REFAULTS_KIB` (one or two readaheads), or below this share of the guest's memory."""

REFAULTED_SHARE: Final = 0.5
"""If this share of the reclaimed memory returns, more reclaim is futile."""

RECENT_SECONDS: Final = 10.0
"""Time constant of the short average of stalls, like that of the kernel's avg10."""

HARM_SECONDS: Final = WARM_SECONDS
"""Time constant of the long average of stalls, which shows lasting harm."""

FIRST_PAUSE_SECONDS: Final = 10.0
"""First pause after harm: long enough for wrongly reclaimed pages to return."""

LONGEST_PAUSE_SECONDS: Final = 640.0
"""Longest pause after harm: mom notices a changed working set within about ten minutes."""

CALM_STEPS: Final = 20
"""Number of steps without harm after which the next pause is short again."""

_PRICE_SECONDS: Final = 3600.0
"""Memory that returns after an hour on average costs twice as much as memory that never returns."""


@dataclass(frozen=True, slots=True)
class ObservedGuest:
    """Guest as observed now. None: unknown.

    :param resident_kib: memory on the host, including `merged_kib`, the part that KSM shares
    :param away_kib: memory in swap
    :param refaults_kib: KiB/s read back since the last step
    :param stall: fraction of time that the guest waited for memory
    :param hold: why mom must not take memory; empty if mom may
    :param suffers: how the guest itself is short of memory; empty if it is not
    :param cost: relative cost of this guest's memory, from its service class
    :param most_share: fastest pace, as a share of the guest's memory per second
    """

    resident_kib: float | None
    away_kib: float | None
    refaults_kib: float | None
    stall: float
    merged_kib: float = 0.0
    hold: str = ""
    suffers: str = ""
    cost: float = 1.0
    most_share: float = MOST_SHARE


@dataclass(frozen=True, slots=True)
class StallAverage:
    """Average of refaults (KiB/s) and of the fraction of time stalled."""

    refaults_kib: float = 0.0
    stall: float = 0.0

    def after(self, now: StallAverage, seconds: float, constant: float) -> StallAverage:
        """Return the exponential average after `seconds` with the values `now`. `constant` is the time constant in seconds."""
        weight = 1 - math.exp(-max(0.0, seconds) / constant)
        return StallAverage(
            self.refaults_kib + weight * (now.refaults_kib - self.refaults_kib), self.stall + weight * (now.stall - self.stall)
        )


@dataclass(frozen=True, slots=True)
class ReclaimState:
    """The law's state for one guest between steps. Times are monotonic seconds.

    :param until: mom takes nothing before this time, for `reason`
    :param pause: length of the next pause after lasting harm
    :param calm: number of steps without harm
    :param share: pace, as a share of the guest's memory per second
    :param working_set: working set in KiB, learned at the time `learnt`
    :param recent: short average of stalls until the time `seen`
    :param lasting: long average of stalls until the time `seen`
    """

    until: float = 0.0
    pause: float = FIRST_PAUSE_SECONDS
    calm: int = 0
    share: float = FIRST_SHARE
    reason: str = ""
    working_set: float | None = None
    learnt: float = 0.0
    recent: StallAverage = StallAverage()
    lasting: StallAverage = StallAverage()
    seen: float | None = None


@dataclass(frozen=True, slots=True)
class ColdOffer:
    """Pace in KiB/s at which a guest can release memory now (0: none, for `reason`), and the relative price of that memory."""

    pace_kib: int
    price: float
    state: ReclaimState
    reason: str = ""


def next_offer(seen: ObservedGuest, state: ReclaimState, reclaimed_kib: float, limit: float, now: float, urgency: float = 1.0) -> ColdOffer:
    """Return the next step's offer.

    :param reclaimed_kib: KiB/s reclaimed since the last step
    :param limit: fraction of time that the guest may wait for memory
    :param now: monotonic seconds
    :param urgency: factor that raises `limit` while the host is short of memory; otherwise 1
    """
    limit, cold_seconds, warm_seconds = limit * urgency, COLD_SECONDS / urgency, WARM_SECONDS / urgency
    if seen.resident_kib is None or seen.away_kib is None or seen.refaults_kib is None:
        missing = "its memory on the host" if seen.resident_kib is None else "its memory in swap" if seen.away_kib is None else ""
        return _nothing(state, seen.hold or f"{missing or 'its rate of refaults'} is unknown")
    size = seen.resident_kib + seen.away_kib
    state = _averaged(state, StallAverage(seen.refaults_kib, seen.stall), now)
    harm_now = _harm(seen.away_kib, size, state.recent, limit, warm_seconds)
    pauses = now < state.until and bool(urgency <= 1 or harm_now)  # earlier harm may be acceptable now
    harm = "" if pauses else _harm(seen.away_kib, size, state.lasting, limit, warm_seconds)
    if harm:
        pause = min(2 * state.pause, LONGEST_PAUSE_SECONDS)
        until, held = now + state.pause, seen.resident_kib
        state = ReclaimState(until, pause, 0, FIRST_SHARE, harm, held, now, state.recent, seen=now)
        return _nothing(state, harm)
    if seen.hold or seen.suffers:
        return _nothing(state, seen.hold or seen.suffers)
    if pauses:
        return _nothing(state, f"{state.reason}; next try in {state.until - now:.0f} s")
    if harm_now:
        share, until = max(FIRST_SHARE, state.share / 2), now + FIRST_PAUSE_SECONDS
        state = replace(state, until=until, share=share, reason=harm_now, working_set=seen.resident_kib, learnt=now)
        return _nothing(state, harm_now)
    away_seconds = _time_away(seen.away_kib, max(state.recent.refaults_kib, state.lasting.refaults_kib), size)
    if away_seconds < cold_seconds:
        state = replace(state, share=FIRST_SHARE, working_set=seen.resident_kib, learnt=now)
        return _nothing(state, f"it reads swapped memory back after {away_seconds:.0f} s on average")
    if reclaimed_kib and seen.refaults_kib >= max(LEAST_REFAULTS_KIB, REFAULTED_SHARE * reclaimed_kib):
        state = replace(state, share=max(FIRST_SHARE, state.share / 2), calm=0, working_set=seen.resident_kib, learnt=now)
    elif reclaimed_kib:
        calm = state.calm + 1
        pause = FIRST_PAUSE_SECONDS if calm >= CALM_STEPS else state.pause
        share = min(2 * state.share, seen.most_share)
        state = replace(state, share=share, calm=calm, pause=pause, working_set=seen.resident_kib, learnt=now)
    spare = seen.resident_kib - seen.merged_kib - KEPT_SHARE * size
    pace = int(min(state.share, seen.most_share) * size * (1 - max(state.recent.stall, state.lasting.stall) / limit))
    if spare < LEAST_KIB or pace < LEAST_KIB:
        least = "its memory is already at the minimum that mom leaves to it"
        return _nothing(state, least if spare < LEAST_KIB else "it already waits for memory as long as the limit allows")
    return ColdOffer(min(pace, int(spare)), seen.cost * (1 + _PRICE_SECONDS / away_seconds), state)


def cold_kib(seen: ObservedGuest, state: ReclaimState) -> float | None:
    """Return the guest's KiB beyond its working set, including memory in swap; None if unknown."""
    if state.working_set is None or seen.resident_kib is None or seen.away_kib is None:
        return None
    return max(0.0, seen.resident_kib + seen.away_kib - state.working_set)


def _nothing(state: ReclaimState, reason: str) -> ColdOffer:
    return ColdOffer(0, 0.0, state, reason)


def _time_away(away_kib: float, refaults_kib: float, size_kib: float) -> float:
    returns = refaults_kib >= max(LEAST_REFAULTS_KIB, LEAST_REFAULTS_SHARE * size_kib)
    return away_kib / refaults_kib if returns else float("inf")


def _averaged(state: ReclaimState, stall: StallAverage, now: float) -> ReclaimState:
    if state.seen is None:
        return replace(state, recent=stall, seen=now)
    seconds = now - state.seen
    recent, lasting = state.recent.after(stall, seconds, RECENT_SECONDS), state.lasting.after(stall, seconds, HARM_SECONDS)
    return replace(state, recent=recent, lasting=lasting, seen=now)


def _harm(away_kib: float, size_kib: float, average: StallAverage, limit: float, warm_seconds: float) -> str:
    if not away_kib:
        return ""
    away = _time_away(away_kib, average.refaults_kib, size_kib)
    if average.stall >= limit:
        return f"it waits for memory {average.stall:.1%} of the time, and {limit:.1%} is the limit"
    if away < warm_seconds:
        return f"it uses the swapped memory, and reads that back after {away:.0f} s on average"
    return ""


_TARGET_SHARE: Final = 0.10
_MOST_TARGET_KIB: Final = 32 << 20
"""Desired available memory without `mem_watermark_high`: a tenth of the host's memory, at most 32 GiB."""

AHEAD: Final = "mem_rise_ahead"
"""Field with the memory that guests will soon allocate, according to the balloon law."""

_ENOUGH: Final = 1.1
"""Reclaim starts below the target, and ends at this multiple of it."""

_TIGHT: Final = 0.7
"""Multiple of the target below which the balloon policy takes guests' margins."""

_MOST_URGENT: Final = 4.0
"""Highest urgency, reached at a sixth of the target, where ballooning takes memory that guests need to survive."""


@dataclass(frozen=True, slots=True)
class HostNeed:
    """KiB that the host lacks.

    :param words: explanation; empty if the host's memory is unknown
    :param urgency: 1 to 4; multiplies a guest's permitted stalls, because ballooning would hurt the guest more
    """

    lack_kib: float
    words: str
    urgency: float = 1.0


def need_of(host: Host, *, working: bool) -> HostNeed:
    """Return the host's need.

    :param working: whether the last cycle reclaimed memory. If so, reclaim goes on until `_ENOUGH` times the target is available
    """
    available, total = host.number("mem_really_available"), host.number("mem_available")
    target = host.number("mem_watermark_high")
    if target is None and total is not None:
        target = min(_TARGET_SHARE * total, _MOST_TARGET_KIB)
    if available is None or target is None:
        return HostNeed(0.0, "")
    free = available - (host.number("mem_reserved") or 0.0)
    words = f"the host has {format_kib(available)} available, and should have {format_kib(target)}"
    ahead = host.number(AHEAD) or 0.0
    if ahead:
        words += f", plus the {format_kib(ahead)} that guests are expected to need soon"
    lack = _ENOUGH * target + ahead - free if free < target + ahead or working else 0.0
    urgency = min(_MOST_URGENT, max(1.0, _TIGHT * target / max(free, 1.0)))
    return HostNeed(max(0.0, lack), words, urgency)


def chosen(offers: Mapping[str, ColdOffer], most_kib: float, seconds: float) -> dict[str, int]:
    """Choose guests, the cheapest first, until their total suffices. Return their paces in KiB/s, keyed by guest id.

    :param most_kib: memory to move in this cycle
    :param seconds: length of a cycle
    """
    paces: dict[str, int] = {}
    left = most_kib
    for identity, offer in sorted(offers.items(), key=lambda item: (item[1].price, -item[1].pace_kib, item[0])):
        pace = int(min(offer.pace_kib, left / seconds))
        if pace <= 0:
            continue
        paces[identity] = pace
        left -= pace * seconds
    return paces
