"""How much cold memory is taken from a guest in one step, and what it works on: a control law on plain numbers, by feedback alone.

What is away and never asked for is cold; what comes back at once was not. By Little's law, a page that is away stays so for

    time away = what is away / what comes back in a second

on average. Memory that is not touched for 120 s is what Google calls cold (Lagar-Cavilla et al., Software-Defined Far Memory in Warehouse-
Scale Computers, ASPLOS 2019: a third of it): as long as pages stay away for that long, more is taken. What a guest feels is the time that
it waits: that has a limit, too, as in Meta's senpai (Weiner et al., TMO, ASPLOS 2022). The pace doubles from step to step while nothing
comes back, and is halved when half of what is taken does: then the kernel takes what is in use. What the guest holds at that moment is its
working set. A guest that is harmed at this moment is left alone for a while, and what was taken of it may come back; one that was harmed
over a minute is left alone for twice as long each time. A program that begins something new reads back for some seconds what it writes
over, and is none the worse for it a minute later.

What the host lacks, and which guests' cold memory makes up for it. Pure."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final

from mom_core import Host, format_kib

COLD_SECONDS: Final = 120.0
"""Pages that stay away so long on average were cold."""

WARM_SECONDS: Final = 60.0
"""Pages that come back sooner on average were not: nothing is taken for a while. Between the two, nothing is taken either."""

MOST_SHARE: Final = 0.01
"""Of a guest, in a second. 1 % that was wrong is read back within a second, and a third of a guest is taken in about a minute."""

MADVISE_SHARE: Final = 0.0025
"""The same where the kernel takes hot pages with cold ones: what was wrong is more of it."""

FIRST_SHARE: Final = 0.00125
"""Of a guest, in a second: the first step. The pace is at its most with the fourth."""

KEPT_SHARE: Final = 0.10
"""Of a guest, stays: one that was idle for a week has its kernel and what it begins with when it is used again."""

LEAST_KIB: Final = 256
"""Less is not worth a call: the kernel reclaims in batches of 32 pages."""

LEAST_REFAULTS_KIB: Final = 128.0
LEAST_REFAULTS_SHARE: Final = 0.0005
"""KiB per second, and of a guest in a second: less tells of nothing. 32 pages are a readahead or two, and 0.5 MiB of 1 GiB come back in
0.6 % of the time."""

REFAULTED_SHARE: Final = 0.5
"""When half of what is taken comes back, taking on is futile."""

RECENT_SECONDS: Final = 10.0
"""Over which what a guest feels is averaged (the time constant of an exponential average), as the kernel does for its shortest share of
waiting. Some of what is taken in a step comes back within the next second: over one second that is a tenth of the guest's time."""

HARM_SECONDS: Final = 60.0
"""Over which harm is averaged that lasts: as long as what is warm may be away. When every burst of a guest was called that, pauses grew to
their longest, and little was taken from twelve guests of which half was cold (benchmarks/squeeze, mix `cold`)."""

FIRST_PAUSE_SECONDS: Final = 10.0
"""What was wrong is back by then: 1 % of a guest a second, for some seconds."""

LONGEST_PAUSE_SECONDS: Final = 640.0
"""A guest whose working set has changed is found out within ten minutes."""

CALM_STEPS: Final = 20
"""After so many steps without harm the next pause is a short one again."""

_PRICE_SECONDS: Final = 3600.0
"""What is away for an hour on average costs twice as much to take as what never comes back."""

PAGE_KIB: Final = os.sysconf("SC_PAGE_SIZE") >> 10
"""What a fault brings back."""


@dataclass(frozen=True, slots=True)
class ObservedGuest:
    """A guest at this moment; None: unknown.

    `resident_kib` the host's memory holds of it, `away_kib` are in swap, `merged_kib` of the first are held by other guests, too.
    `refaults_kib` came back in each second since the last look. `stall` is the share of time (0 to 1) in which it waited for memory.
    `hold` is why nothing may be taken at all, `suffers` what the guest itself says of its memory.
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
class Felt:
    """A guest's stall on average: what came back, in KiB per second, and the share of time (0 to 1) in which it waited for memory."""

    refaults_kib: float = 0.0
    stall: float = 0.0

    def then(self, now: Felt, seconds: float, constant: float) -> Felt:
        """After so many seconds in which it felt that, as an exponential average with this time constant (s)."""
        weight = 1 - math.exp(-max(0.0, seconds) / constant)
        return Felt(self.refaults_kib + weight * (now.refaults_kib - self.refaults_kib), self.stall + weight * (now.stall - self.stall))


@dataclass(frozen=True, slots=True)
class ReclaimState:
    """The state of the law for one guest, from step to step. Times are monotonic seconds.

    Nothing is taken before `until`, because of `reason`; the pause after the next harm that lasts is `pause` seconds; `calm` counts steps
    without harm. `share` is the pace, as a share of the guest in a second. `working_set` is what it held (KiB) when that was last learnt,
    at `learnt`. `recent` and `lasting` are what it felt until `seen`, over ten seconds and over a minute. `wants_back` says that the last
    step found harm: what is away may come back at once.
    """

    until: float = 0.0
    pause: float = FIRST_PAUSE_SECONDS
    calm: int = 0
    share: float = FIRST_SHARE
    reason: str = ""
    working_set: float | None = None
    learnt: float = 0.0
    recent: Felt = Felt()
    lasting: Felt = Felt()
    seen: float | None = None
    wants_back: bool = False


@dataclass(frozen=True, slots=True)
class ColdOffer:
    """Cold memory that may be taken of a guest now, in KiB per second (0: none, then why), and its price: the cheapest is taken first."""

    pace_kib: int
    price: float
    state: ReclaimState
    reason: str = ""


def next_offer(seen: ObservedGuest, state: ReclaimState, reclaimed_kib: float, limit: float, now: float, urgency: float = 1.0) -> ColdOffer:
    """The next step.

    :param reclaimed_kib: what was taken since the last look, in KiB per second
    :param limit: the share of time (0 to 1) that the guest may wait for memory
    :param now: monotonic seconds
    :param urgency: how many times as much the guest may feel, as it would be hurt otherwise (1: the host is not in such need)
    """
    limit, cold_seconds, warm_seconds = limit * urgency, COLD_SECONDS / urgency, WARM_SECONDS / urgency
    state = replace(state, wants_back=False)
    if seen.resident_kib is None or seen.away_kib is None or seen.refaults_kib is None:
        missing = "what the host holds of it" if seen.resident_kib is None else "what of it is in swap" if seen.away_kib is None else ""
        return _nothing(state, seen.hold or f"{missing or 'what comes back of it'} is unknown")
    size = seen.resident_kib + seen.away_kib
    state = _averaged(state, Felt(seen.refaults_kib, seen.stall), now)
    harm_now = _harm(seen.away_kib, size, state.recent, limit, warm_seconds)
    rests = now < state.until and bool(urgency <= 1 or harm_now)  # what was harm before the host came into need may be none now
    harm = "" if rests else _harm(seen.away_kib, size, state.lasting, limit, warm_seconds)
    if harm:
        pause = min(2 * state.pause, LONGEST_PAUSE_SECONDS)
        until, held = now + state.pause, seen.resident_kib
        state = ReclaimState(until, pause, 0, FIRST_SHARE, harm, held, now, state.recent, seen=now, wants_back=True)
        return _nothing(state, harm)
    if seen.hold or seen.suffers:
        return _nothing(state, seen.hold or seen.suffers)
    if rests:
        return _nothing(state, f"{state.reason}; tried again in {state.until - now:.0f} s")
    if harm_now:
        share, until = max(FIRST_SHARE, state.share / 2), now + FIRST_PAUSE_SECONDS
        state = replace(state, until=until, share=share, reason=harm_now, working_set=seen.resident_kib, learnt=now, wants_back=True)
        return _nothing(state, harm_now)
    away_seconds = _time_away(seen.away_kib, max(state.recent.refaults_kib, state.lasting.refaults_kib), size)
    if away_seconds < cold_seconds:
        state = replace(state, share=FIRST_SHARE, working_set=seen.resident_kib, learnt=now)
        return _nothing(state, f"what is away of it comes back after {away_seconds:.0f} s on average")
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
        return _nothing(state, "it holds no more than stays in any case" if spare < LEAST_KIB else "it waits for memory as long as it may")
    return ColdOffer(min(pace, int(spare)), seen.cost * (1 + _PRICE_SECONDS / away_seconds), state)


def cold_kib(seen: ObservedGuest, state: ReclaimState) -> float | None:
    """The guest's memory beyond its working set, in KiB, in the host's memory or in swap; None while that is unknown."""
    if state.working_set is None or seen.resident_kib is None or seen.away_kib is None:
        return None
    return max(0.0, seen.resident_kib + seen.away_kib - state.working_set)


def _nothing(state: ReclaimState, reason: str) -> ColdOffer:
    return ColdOffer(0, 0.0, state, reason)


def _time_away(away_kib: float, refaults_kib: float, size_kib: float) -> float:
    tells = refaults_kib >= max(LEAST_REFAULTS_KIB, LEAST_REFAULTS_SHARE * size_kib)
    return away_kib / refaults_kib if tells else float("inf")


def _averaged(state: ReclaimState, felt: Felt, now: float) -> ReclaimState:
    """With what was observed since the last step. Before the first step it was as it is then, which has not harmed it for long."""
    if state.seen is None:
        return replace(state, recent=felt, seen=now)
    seconds = now - state.seen
    recent, lasting = state.recent.then(felt, seconds, RECENT_SECONDS), state.lasting.then(felt, seconds, HARM_SECONDS)
    return replace(state, recent=recent, lasting=lasting, seen=now)


def _harm(away_kib: float, size_kib: float, felt: Felt, limit: float, warm_seconds: float) -> str:
    """The harm that a guest suffers by what is away; empty: none."""
    if not away_kib:
        return ""
    away = _time_away(away_kib, felt.refaults_kib, size_kib)
    if felt.stall >= limit:
        return f"it waits for memory {felt.stall:.1%} of the time, and {limit:.1%} is the limit"
    if away < warm_seconds:
        return f"it works on what was taken: that comes back after {away:.0f} s on average"
    return ""


_SHARE: Final = 0.10
_MOST_KIB: Final = 32 << 20
"""What a host is to have available where no plugin says it (`mem_watermark_high`): a tenth of its memory, and no more than 32 GiB."""

AHEAD: Final = "mem_rise_ahead"
"""The host field with what is made available before guests take it, as the balloon law sees it."""

_ENOUGH: Final = 1.1
"""Times that: when so much is available, taking ends. It begins below that itself, where sweeps do: what costs more begins further down."""

_PATIENT: Final = 0.85
"""Times that: with more, what hurts is far off, as the host is not half the way down to where margins are taken."""

_TIGHT: Final = 0.7
"""Times that: below it the policy of the balloon begins to take margins."""

_MOST_URGENT: Final = 4.0
"""With a sixth of it available the balloon takes what guests may die of; one that waits 8 % of its time for cold memory works on."""


@dataclass(frozen=True, slots=True)
class HostNeed:
    """Memory that cold memory is to make available, in KiB (0: none), and what there is beyond what the host is to have.

    `urgency` is how much more a guest may feel than usual (1 to 4), as what hurts it more is taken otherwise; `patient` whether that is far
    off. `words` say how the host is; empty: that is unknown.
    """

    lack_kib: float
    beyond_kib: float
    words: str
    urgency: float = 1.0
    patient: bool = False


def need_of(host: Host, *, working: bool) -> HostNeed:
    """The need of the host.

    :param working: whether memory was taken in the last cycle: it goes on until there is a little more than begins it
    """
    available, total = host.number("mem_really_available"), host.number("mem_available")
    target = host.number("mem_watermark_high")
    if target is None and total is not None:
        target = min(_SHARE * total, _MOST_KIB)
    if available is None or target is None:
        return HostNeed(0.0, 0.0, "")
    free = available - (host.number("mem_reserved") or 0.0)
    words = f"the host has {format_kib(available)} available, and is to have {format_kib(target)}"
    ahead = host.number(AHEAD) or 0.0
    if ahead:
        words += f" and the {format_kib(ahead)} that guests are expected to take before long"
    lack = _ENOUGH * target + ahead - free if free < target + ahead or working else 0.0
    urgency = min(_MOST_URGENT, max(1.0, _TIGHT * target / max(free, 1.0)))
    return HostNeed(max(0.0, lack), max(0.0, free - ahead - _ENOUGH * target), words, urgency, free >= _PATIENT * target)


def chosen(offers: Mapping[str, ColdOffer], most_kib: float, seconds: float, spared: Collection[str] = ()) -> dict[str, int]:
    """Which guests give, by their ids, in KiB per second: the cheapest first, each at its own pace, until there is enough.

    :param most_kib: what is to go in this cycle
    :param seconds: how long a cycle is
    :param spared: the ids of those that give only what others cannot
    """
    found: dict[str, int] = {}
    left = most_kib
    for identity, offer in sorted(offers.items(), key=lambda one: (one[0] in spared, one[1].price, -one[1].pace_kib, one[0])):
        pace = int(min(offer.pace_kib, left / seconds))
        if pace <= 0:
            continue
        found[identity] = pace
        left -= pace * seconds
    return found
