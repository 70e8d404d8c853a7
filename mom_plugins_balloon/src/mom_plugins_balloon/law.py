"""The balloon law: from what is known of the host and its guests to the sizes that guests should have, each with the code of its reason.

Pure: no clock, no file, no plugin. Read it from top to bottom: what is known, what one guest asks for or can give (`look`), how all of that
is weighed (`share`), and `decide`, which is both.

A guest needs what it holds and could not give up without swapping. Above that it keeps a margin, for what its programs may want before
mom looks again, and room for a burst like its largest lately. Room costs the host nothing until it is used: QEMU hands back what a balloon
takes, and what the balloon gives back is not there before the guest touches it. What costs is what a guest has used and freed. So there
are two ways to reclaim memory:

  a trim:   the guest gets smaller, and stays so, by what it keeps beyond its comfort;
  a sweep:  its balloon takes all that it does not use, for a second, and gives the room back: what it had used and freed is the host's
            then, and the guest can burst as before.

Means are used up in this order, each before the next: memory that holds nothing (trims, then sweeps); page cache beyond what a guest was
seen to need; below 70 % of the high watermark, margins that no guest is known to want soon; below the hard one, room for bursts and page
cache that hurts; below the low one, all of it at once, and no guest grows.

What keeps it from oscillating: there are gaps between the watermarks; trimming ends at the very state that it began with; a guest that
waits for what was taken gets it back and keeps it; a guest is swept only when it has freed memory since; and none both gives and grows at
the same amount of usable memory.

A guest with free page reporting hands back by itself what it frees in large pieces, within seconds: it is swept for the rest only, small
pieces and page cache, when what its process holds has settled.

All sizes are KiB, and all times seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final, NamedTuple

from mom_plugins_balloon.limits import KnownMemory, ShrinkLimits, gate
from mom_plugins_balloon.parameters import (
    BALLOON_KIB_PER_SECOND,
    SLOW_BALLOON_KIB_PER_SECOND,
    UNKNOWN_REACTION_SECONDS,
    LawParameters,
)
from mom_toolkit import MAJOR_FAULTS, SWAP_IN_KIB

BYTES: Final = 1024
"""In a KiB: settings are in bytes."""


class ReasonCode(StrEnum):
    """Why a guest gets a size, or keeps the one that it has. `reasons` has the sentence of each."""

    # It keeps its size.
    HOST_UNKNOWN = "host-unknown"
    UNKNOWN = "unknown"
    SILENT = "silent"
    STALE = "stale"
    IN_TRANSITION = "in-transition"
    UNSETTLED = "unsettled"
    ENOUGH = "enough"
    PLENTY = "plenty"
    NOTHING_TO_GIVE = "nothing-to-give"
    OTHERS_GIVE = "others-give"
    # It grows, or should.
    ROOM_GROWING = "room-growing"
    ROOM_BACK = "room-back"
    PROMISED = "promised"
    FORECAST = "forecast"
    RUNS_OUT = "runs-out"
    SWAPS = "swaps"
    WAITS_FOR_DISK = "waits-for-disk"
    STALL_FLOOR = "stall-floor"
    FILLS = "fills"
    GIVEN_BACK = "given-back"
    # It gives.
    SWEEP = "sweep"
    TRIM_EMPTY = "trim-empty"
    TRIM_CACHE = "trim-cache"
    TRIM_MARGIN = "trim-margin"
    TRIM_BURST = "trim-burst"


class LawHost(NamedTuple):
    """What is known of the host: what is available, its watermarks, what is reserved for launches, what cold memory gave in the last cycle,
    and seconds between cycles. `backs_bursts`: room for bursts must be there on the host (goal `safe`). `reaction`: seconds until a guest
    that grows while it is swept has been noticed and gets its room back."""

    available: float
    high: float
    hard: float
    low: float
    reserved: float = 0.0
    cold: float = 0.0
    interval: float = 5.0
    backs_bursts: bool = False
    reaction: float = UNKNOWN_REACTION_SECONDS


class LawGuest(NamedTuple):
    """What is known of one guest; None: unknown.

    `usable`, `total`, `unused` are its kernel's, from `age` seconds ago; `kernel_reserved` is what that does not count in `total`. `peak`
    and `used_before` are what was used at most lately, and by the statistics before. With less than `stall_floor` usable it was seen to
    wait. `rss` is what its process holds, of which `overhead` is QEMU's. `target` is what was asked for, `target_age` seconds ago. `soon`
    is what will be usable before long. `guarantee` is the largest of its promises that hold. `cost`: what it costs to take from it.
    `growth` is what it may take in a second. With `autodeflate`, its balloon gives back when its kernel runs out. It is not to be swept
    for `sweep_rest` seconds. `burst` is what its use has risen by more than once lately. With `reporting`, its kernel hands free pages back
    by itself; `freed_age` seconds ago it was last seen to free memory, None: not lately.
    """

    size: float | None = None
    maximum: float | None = None
    usable: float | None = None
    age: float | None = None
    total: float | None = None
    unused: float | None = None
    soon: float | None = None
    kernel_reserved: float | None = None
    peak: float | None = None
    used_before: float | None = None
    stall_floor: float | None = None
    cache_share: float | None = None
    rss: float | None = None
    rss_before: float | None = None
    overhead: float | None = None
    host_swap: float | None = None
    target: float | None = None
    target_age: float | None = None
    swap_in: float | None = None
    swap_out: float | None = None
    major_faults: float | None = None
    cost: float | None = None
    guarantee: float | None = None
    obstacle: object = None
    growth: float | None = None
    autodeflate: float | None = None
    sweep_rest: float | None = None
    burst: float | None = None
    reporting: float | None = None
    freed_age: float | None = None


class GuestAsk(NamedTuple):
    """What one guest asks for, or can give; KiB, and 0 where it is nothing.

    `room`: the size that it gets at once, as it costs nothing. `grows` is wanted at once, `eases` as far as the host has it, `fills` as far
    as it has more than it should, `back` is what it may get back. `sweep` can be swept. `empty`, `cache`, `lean` and `most` can be trimmed:
    what holds nothing, that and page cache, that and margins that no guest is known to want, and all but the least that it keeps; `backed`
    is the part of `empty` that the host gains. `untouched` is what it has and does not use.
    """

    code: ReasonCode | None = None
    room: float = 0.0
    grows: float = 0.0
    eases: float = 0.0
    fills: float = 0.0
    back: float = 0.0
    sweep: float = 0.0
    empty: float = 0.0
    backed: float = 0.0
    cache: float = 0.0
    lean: float = 0.0
    most: float = 0.0
    cost: float = 1.0
    untouched: float = 0.0


class SizeSuggestion(NamedTuple):
    """The size that a guest should be set to (None: it keeps what it has), and why."""

    target: float | None
    code: ReasonCode


NOTHING: Final = GuestAsk()


def decide(host: LawHost, guests: Sequence[LawGuest], parameters: LawParameters, limits: ShrinkLimits) -> list[SizeSuggestion]:
    """The sizes that these guests should have, in their order."""
    step = parameters.step / BYTES
    free = host.available - host.reserved
    # As long as no guest has to give, whatever guests want, those that have all of their memory need not be looked at.
    taken = 0.0
    if host.high < free + step:
        taken = sum(max(0.0, one.maximum - one.size) for one in guests if one.maximum is not None and one.size is not None)
    easy = host.high + taken < free + step
    look = GuestLook(host, parameters, easy=easy)
    asks = [look.at(guest) for guest in guests]
    return share(host, guests, asks, parameters, limits)


# --- one guest -------------------------------------------------------------------------------------------------------------------------


class GuestNeed(NamedTuple):
    """What one guest uses and should have.

    `need` is what it holds and could not give up without swapping; `usable` what it has above that, or will have before long. `comfort` and
    `lean` are what should be usable: in any case, and at least with room for a burst. `held` is what it uses of what it has, page cache
    included, and `idle` what the host has backed besides: what the guest had used and freed. `room` is the size that it gets at no cost to
    the host, where it is `roomy`: it leaves what it does not need empty.
    """

    need: float
    usable: float
    margin: float
    burst: float
    comfort: float
    lean: float
    stall_floor: float
    unused: float
    held: float
    idle: float
    room: float
    roomy: bool
    growing: bool
    settled: bool
    is_new: bool


class GuestLook:
    """Looks at guests of one host: what is the same for all of them is worked out once.

    :param easy: no guest has to give anything, whatever guests want
    """

    def __init__(self, host: LawHost, parameters: LawParameters, *, easy: bool) -> None:
        self._host = host
        self._p = parameters
        self._easy = easy
        self._hard = min(host.high, host.hard)
        self._tight = tight_below(host, parameters)
        self._step = parameters.step / BYTES
        self._margin = parameters.margin / BYTES
        self._margin_share = parameters.margin_percent / 100
        self._moves = BALLOON_KIB_PER_SECOND * host.interval
        self._oldest = parameters.statistics_age or max(2.0, 1.6 * host.interval)
        self._plenty = host.available - host.reserved > parameters.return_above * host.high

    def at(self, guest: LawGuest) -> GuestAsk:
        """What this guest asks for, or can give."""
        size, maximum, usable, age = guest[:4]
        if usable is None:
            return GuestAsk(ReasonCode.SILENT)
        if size is None or maximum is None or age is None:
            return GuestAsk(ReasonCode.UNKNOWN)
        if age > self._oldest:
            return GuestAsk(ReasonCode.STALE)
        target, target_age = guest.target, guest.target_age
        if self._easy and size >= maximum and (target is None or target >= size) and (target_age is None or age <= target_age):
            return NOTHING
        seen = self.need(guest, size, maximum, usable, age)
        # What it was asked to give and has not given yet; whether it has, or will have, less than its room.
        owes = 0.0 if target is None or target >= size else size - target
        lacks_room = seen.room - (size - owes) >= self._step
        if lacks_room and (ask := self._waits_for_balloon(guest, seen, owes)) is not None:
            return ask
        if not seen.settled:
            return GuestAsk(ReasonCode.UNSETTLED)
        p, promised = self._p, guest.guarantee or 0.0
        promised = min(promised, maximum)
        if seen.usable < p.runs_out * seen.margin or size < promised:
            return self._runs_out(seen, usable, maximum - size, promised - size)
        code, eases, fills, back, untouched = None, 0.0, 0.0, 0.0, 0.0
        swaps, waits = (guest.swap_in or 0.0) > SWAP_IN_KIB, (guest.major_faults or 0.0) > MAJOR_FAULTS
        if maximum > size:
            if swaps or waits or seen.usable < seen.stall_floor:
                code, eases = self._suffers(seen, maximum - size, swaps=swaps, waits=waits)
            elif lacks_room and not seen.roomy:
                code, fills = ReasonCode.FILLS, max(0.0, seen.room - size)
            back = min(maximum - size, p.return_share * maximum) if self._plenty else 0.0
            untouched = p.untouched_share * max(0.0, size - guest.rss) if guest.rss is not None else 0.0
        if self._easy or swaps or (guest.swap_out or 0.0) > SWAP_IN_KIB or guest.obstacle is not None or size <= promised:
            return GuestAsk(code, 0.0, 0.0, eases, fills, back, untouched=untouched)
        spare = size - promised
        worth = max(p.sweep_step, p.sweep_step_share * size * BYTES) / BYTES
        sweep = self._sweep(guest, seen, size, worth, 0.0 if waits else spare)
        empty, cache, lean, most = self._trims(seen, worth, 0.0 if waits else spare, spare)
        if sweep or most:
            code = ReasonCode.OTHERS_GIVE
        cost = guest.cost if guest.cost is not None and guest.cost > 0 else 1.0
        backed = empty if guest.kernel_reserved is None or guest.total is None or empty < seen.idle else seen.idle
        return GuestAsk(code, 0.0, 0.0, eases, fills, back, sweep, empty, backed, cache, lean, most, cost, untouched)

    def need(self, guest: LawGuest, size: float, maximum: float, reported: float, age: float) -> GuestNeed:
        """What the guest uses, and should have.

        :param reported: what was usable by its statistics, made `age` seconds ago
        """
        (_, _, _, _, total, unused, soon, reserved, peak, used_before, floor, cache_share, rss, rss_before, overhead, swapped, *_) = guest
        p, step = self._p, self._step
        # What a burst like its largest would still take. A forecast is not taken for going on beyond that.
        used = to_peak = 0.0
        if peak is not None and total is not None:
            used = total - reported
            to_peak = peak - used if peak > used else 0.0
        usable = reported
        if soon is not None:
            usable = min(reported, max(soon, reported - to_peak) if to_peak > step else soon)
        burst = max(0.0, to_peak - (reported - usable))
        # Its size when its statistics were made is known where what its kernel reserves is.
        inside, told = size, False
        if reserved is not None and total is not None:
            inside, told = reserved + total, True
        settled = guest.target_age is None or age <= guest.target_age
        need = (size if settled else inside) - usable
        if need < 0:
            need = 0.0
        margin = self._margin + self._margin_share * need
        burst_margin = margin + self._margin_share * burst  # of what it needs in its burst
        floor = floor or 0.0
        comfort = max(p.comfort * margin, burst + burst_margin, floor)
        lean = max(margin if peak is None or total is None else burst + p.lean * burst_margin, floor)
        # Room that stays empty costs nothing: a guest that leaves it so may have all.
        roomy = told and cache_share is not None and cache_share <= p.fills and not self._host.backs_bursts
        room = maximum if roomy else min(maximum, need + lean)
        growing = (
            usable + step < reported
            or (used_before is not None and used > used_before + step)
            or (rss is not None and rss_before is not None and rss > rss_before + step)
        )
        if unused is None:
            unused = usable
        held, idle = (inside - unused, 0.0) if told else (size, 0.0)
        if told and rss is not None and overhead is not None:
            # What is in the host's swap went there as cold: it counts as in use, as what was freed lately is not there, and a sweep of what
            # is would read it back.
            idle = max(0.0, rss - overhead - max(0.0, held - (swapped or 0.0)))
        # What its past does not tell is unknown.
        is_new = peak is None or total is None or used > peak + step or usable < p.exhausted * margin
        return GuestNeed(need, usable, margin, burst, comfort, lean, floor, unused, held, idle, room, roomy, growing, settled, is_new)

    def _waits_for_balloon(self, guest: LawGuest, seen: GuestNeed, owes: float) -> GuestAsk | None:
        """A guest that has less than its room, as while it is swept: it is waited for, or gets its room back; None if it is neither.

        :param owes: what it was asked to give and has not given yet
        """
        told = guest.kernel_reserved is not None and guest.total is not None
        slowest = self._p.sweep_wait + owes / SLOW_BALLOON_KIB_PER_SECOND
        if told and owes >= self._step and guest.target_age is not None and guest.target_age < slowest and not seen.growing:
            return GuestAsk(ReasonCode.IN_TRANSITION)
        if seen.roomy and self._host.available >= self._p.bursts_above * self._hard:
            return GuestAsk(ReasonCode.ROOM_GROWING if seen.growing else ReasonCode.ROOM_BACK, room=seen.room)
        return None

    def _runs_out(self, seen: GuestNeed, reported: float, taken: float, promised: float) -> GuestAsk:
        """A guest that runs out of memory, or has less than it is promised: it grows at once, to more than it needs now.

        :param taken: what it could grow by
        :param promised: what it lacks of its promise
        """
        if taken <= 0:
            return NOTHING
        p, margin = self._p, seen.margin
        unforeseen = p.grows_share * taken if seen.is_new else 0.0
        wanted = max(p.grows_to * margin - seen.usable, seen.burst + margin - seen.usable, unforeseen, promised)
        code = ReasonCode.PROMISED if promised > 0 else ReasonCode.FORECAST if seen.usable < reported else ReasonCode.RUNS_OUT
        return GuestAsk(code, grows=min(wanted, taken))

    def _suffers(self, seen: GuestNeed, taken: float, *, swaps: bool, waits: bool) -> tuple[ReasonCode | None, float]:
        """A guest that waits for its swap or its disk, or has as little as when it was seen to wait: what it wants, and why."""
        target = seen.stall_floor if seen.usable < seen.stall_floor else seen.comfort
        wanted = min(taken, target - seen.usable)
        if wanted < self._step:
            return None, 0.0
        return (ReasonCode.SWAPS if swaps else ReasonCode.WAITS_FOR_DISK if waits else ReasonCode.STALL_FLOOR), wanted

    def _sweep(self, guest: LawGuest, seen: GuestNeed, size: float, worth: float, spare: float) -> float:
        """What can be swept: memory that the guest had used and freed, if it was left in peace for a while."""
        # A host below its hard watermark takes a little of all in each cycle, and none would ever be swept.
        p, host = self._p, self._host
        short = host.available < self._hard
        if seen.growing or guest.sweep_rest or guest.age is None or guest.age > p.sweep_statistics_age:
            return 0.0
        if guest.target_age is not None and guest.target_age < (0.0 if short else p.sweep_rest):
            return 0.0
        keeps = max(seen.need, seen.held) + p.sweep_keeps / BYTES
        # A reservation counts on all that guests do not use: for it, as below the low watermark, a sweep relies on being ended in time.
        if host.reserved <= 0 and host.available >= min(self._hard, host.low) and not guest.autodeflate:
            growth = p.growth_rate / BYTES if guest.growth is None else guest.growth
            keeps = max(keeps, max(seen.need, seen.held) + growth * host.reaction)
            if host.available >= self._tight and guest.maximum is not None:
                # Linux refuses a program that asks for more in one piece than there is and swap: a burst may come like that.
                keeps = max(keeps, min((guest.burst or 0.0) + (guest.kernel_reserved or 0.0), p.sweep_least * guest.maximum))
        idle = self._not_reported(guest, seen.idle) if guest.reporting else seen.idle
        sweep = min(spare, idle, self._moves, size - keeps)
        return sweep if sweep >= worth else 0.0

    def _not_reported(self, guest: LawGuest, idle: float) -> float:
        """What a guest with free page reporting does not hand back by itself of what it had used and freed: nothing is known of that until
        it has settled. What a burst like its last ones takes again is left to it while the host has room, as filling it anew costs time."""
        if guest.freed_age is not None and guest.freed_age < self._p.reporting_settles:
            return 0.0
        return idle - (guest.burst or 0.0) if self._host.available >= self._hard else idle

    def _trims(self, seen: GuestNeed, worth: float, calm: float, spare: float) -> tuple[float, float, float, float]:
        """What can be trimmed: what holds nothing, that and page cache, that and margins, and all but the least that the guest keeps.

        :param calm: what it may give at all; nothing where it waits for its disk
        :param spare: what it may give below the hard watermark
        """
        p, host = self._p, self._host
        if seen.roomy and host.available >= self._hard:  # its room is taken only below the hard watermark
            return 0.0, 0.0, 0.0, 0.0
        beyond = min(calm, seen.usable - seen.comfort)
        empty = min(self._moves, beyond, seen.unused - p.sweep_keeps / BYTES)
        if empty < worth:
            empty = 0.0
        cache = max(empty, self._part_of(beyond, worth))
        kept = min(seen.lean, seen.margin) if host.reserved > 0 else seen.lean
        lean = max(cache, self._part_of(min(calm, seen.usable - kept), worth))
        most = max(lean, min(self._moves, p.shrink_share * max(0.0, min(spare, seen.usable - p.least * seen.margin))))
        return (empty, cache, lean, most) if most >= self._step else (0.0, 0.0, 0.0, 0.0)

    def _part_of(self, spare: float, worth: float) -> float:
        """What is taken in one cycle of what a guest can spare: a part, or nothing if it is not worth a step."""
        return min(self._moves, self._p.shrink_share * spare) if spare >= worth else 0.0


# --- all of them -----------------------------------------------------------------------------------------------------------------------


class ReclaimMeans(NamedTuple):
    """How much of each means is used: shares of what all guests can give of it, from 0 to 1. The last one that is used is divided among
    guests by `level`: each gives that share of its part, divided by its cost, and no guest more than its part."""

    empty: float
    cache: float
    lean: float
    most: float
    level: float = 0.0

    def code(self) -> ReasonCode:
        """The last means that is used."""
        return (
            ReasonCode.TRIM_BURST
            if self.most
            else ReasonCode.TRIM_MARGIN
            if self.lean
            else ReasonCode.TRIM_CACHE
            if self.cache
            else ReasonCode.TRIM_EMPTY
        )

    def can(self, ask: GuestAsk) -> float:
        """What a guest can give of all means that are used."""
        return ask.most if self.most else ask.lean if self.lean else ask.cache if self.cache else ask.empty

    def before(self, ask: GuestAsk) -> float:
        """What it can give of those before the last."""
        return ask.lean if self.most else ask.cache if self.lean else ask.empty

    def of(self, ask: GuestAsk) -> float:
        """What a guest gives."""
        given = self.empty * ask.empty + (self.cache if self.lean or self.most else 0.0) * (ask.cache - ask.empty)
        given += (self.lean if self.most else 0.0) * (ask.lean - ask.cache)
        if self.cache or self.lean or self.most:
            given += (self.can(ask) - self.before(ask)) * min(1.0, self.level / ask.cost)
        return given


def share(
    host: LawHost, guests: Sequence[LawGuest], asks: Sequence[GuestAsk], parameters: LawParameters, limits: ShrinkLimits
) -> list[SizeSuggestion]:
    """Weigh what guests ask for and can give: what each is to have, as far as that passes the gate."""
    p, step = parameters, parameters.step / BYTES
    available, high = host.available, host.high
    hard, low = min(high, host.hard), min(high, host.hard, host.low)
    free = available - host.reserved
    grows, eases, fills = (sum(kib) for kib in ((one.grows for one in asks), (one.eases for one in asks), (one.fills for one in asks)))
    back, untouched = sum(one.back for one in asks), sum(one.untouched for one in asks)
    wanted = grows + eases
    # What there is for guests that want some; all together grow by no more than the host has.
    grow_ratio = _ratio(available - low, grows)
    ease_ratio = _ratio(free - (untouched + grows + hard), eases)
    for_filling = max(0.0, free - (wanted + high))
    fill_ratio = _ratio(for_filling, fills)
    back_ratio = _ratio(free - (wanted + min(for_filling, fills) + p.return_above * high), back)
    growth_left = max(0.0, available)

    lacks = high + wanted - free
    means = _means(host, asks, p, lacks, grows, eases)
    swept = _swept(asks, lacks - sum(one.backed for one in asks), step, growing=ease_ratio > 0)
    left = sum(means.of(one) for one in asks if one.most)
    average = _average(asks, means)
    trim = means.code()

    easy = ReasonCode.ENOUGH if free < p.return_above * high else ReasonCode.PLENTY
    generic = ReasonCode.NOTHING_TO_GIVE if lacks >= step else easy
    found = []
    for place, (guest, ask) in enumerate(zip(guests, asks, strict=True)):
        code = ask.code or generic
        if code is ReasonCode.OTHERS_GIVE and lacks < step:
            code = generic
        if ask is NOTHING or guest.size is None or guest.maximum is None:
            found.append(SizeSuggestion(None, code))
            continue
        if ask.room:
            found.append(SizeSuggestion(min(ask.room, guest.maximum), code))
            continue
        change = 0.0
        if ask.grows:
            change = grow_ratio * ask.grows
        elif ask.eases and ease_ratio > 0:
            change = ease_ratio * ask.eases
        elif place in swept:
            change, code = -ask.sweep, ReasonCode.SWEEP
        elif ask.most and left > 0:
            given = means.of(ask)
            if given < step:  # when all shares are smaller, those give a step that can spare most
                can = means.can(ask)
                given = step if can >= step and (can / ask.cost if means.level else can) >= average else 0.0
            if given:
                change, code = -given, trim
                left -= given
        elif fill_ratio * ask.fills >= step:
            change = fill_ratio * ask.fills
        elif ask.back and back_ratio > 0:
            given = back_ratio * ask.back
            if given >= step or guest.size + given >= guest.maximum:
                change, code = given, ReasonCode.GIVEN_BACK
        if not change:
            found.append(SizeSuggestion(None, code))
            continue
        passed = gate(int(guest.size + min(change, growth_left)), _known(guest, guest.size), limits).size
        growth_left = max(0.0, growth_left - max(0.0, (passed or 0.0) - guest.size))
        found.append(SizeSuggestion(passed, code))
    return found


def _known(guest: LawGuest, size: float) -> KnownMemory:
    """What the gate goes by."""
    swapping = max(guest.swap_in or 0.0, guest.swap_out or 0.0)
    return KnownMemory(size, guest.maximum, guest.guarantee, guest.usable, guest.age, swapping, guest.total, guest.kernel_reserved)


def _ratio(there: float, wanted: float) -> float:
    """The share of what is wanted that there is."""
    return min(1.0, max(0.0, there) / wanted) if wanted > 0 else 0.0


def tight_below(host: LawHost, p: LawParameters) -> float:
    """With less than this available, guests give of their margins. A reservation is made before anybody else may want it: margins are taken
    for it at once."""
    return host.high if host.reserved > 0 else max(min(host.high, host.hard), p.tight_below * host.high)


def _means(host: LawHost, asks: Sequence[GuestAsk], p: LawParameters, lacks: float, grows: float, eases: float) -> ReclaimMeans:
    """Which means are used, and how far.

    :param lacks: what the host lacks of its high watermark and of what guests want
    """
    high, hard, low = host.high, min(host.high, host.hard), min(host.high, host.hard, host.low)
    step = p.step / BYTES
    slack, danger = max(step, p.slack * high), host.available < low
    able = [one for one in asks if one.most]
    empty, backed, cache = sum(one.empty for one in able), sum(one.backed for one in able), sum(one.cache for one in able)
    lean, most, sweep = sum(one.lean for one in able), sum(one.most for one in able), sum(one.sweep for one in asks)
    costless = backed + sweep
    tight = tight_below(host, p)
    free = host.available - host.reserved
    lacks_much = tight + grows + eases - (free + costless + (cache - empty) + host.cold)
    lacks_all = hard + grows - (host.available + costless + host.cold + (lean - empty))

    def used(lack: float, there: float) -> float:
        """The share of a means: all of it in danger, and nothing for a shortage that is not worth it."""
        return 0.0 if lack < slack or there <= 0 else 1.0 if danger else min(1.0, lack / there)

    means = ReclaimMeans(
        _ratio(lacks, empty) if lacks >= step else 0.0,
        used(lacks - costless, cache - empty),
        used(lacks_much, lean - cache),
        used(lacks_all, most - lean),
    )
    if not (means.cache or means.lean or means.most):
        return means
    ratio = means.most or means.lean or means.cache
    parts = [(one.cost, means.can(one) - means.before(one)) for one in able]
    return means._replace(level=level_of(parts, ratio * sum(part for _, part in parts)))


def level_of(parts: Sequence[tuple[float, float]], wanted: float) -> float:
    """The level at which these give so much together, each `part * min(1, level / cost)`: the cheap give all before the dear give for them.

    :param parts: cost and KiB of each
    """
    whole = 0.0
    shared = sum(part / cost for cost, part in parts)
    for cost, part in sorted(parts):
        if whole + cost * shared >= wanted:
            break
        whole += part
        shared -= part / cost
    return (wanted - whole) / shared if shared > 1e-9 * max(1.0, wanted) else max((cost for cost, _ in parts), default=0.0)


def _swept(asks: Sequence[GuestAsk], wanted: float, step: float, *, growing: bool) -> set[int]:
    """The places of guests that are swept: no more than it takes, the cheap first, and of those that have most.

    :param growing: guests that wait for memory get some, and are not swept then
    """
    if wanted < step:
        return set()
    worth = 0.5 * max((one.sweep for one in asks), default=0.0)
    able = [(one.cost, place) for place, one in enumerate(asks) if one.sweep and one.sweep >= worth and not (growing and one.eases)]
    found: set[int] = set()
    for _, place in sorted(able):
        if wanted < step:
            break
        found.add(place)
        wanted -= asks[place].sweep
    return found


def _average(asks: Sequence[GuestAsk], means: ReclaimMeans) -> float:
    """What the average of those that can be trimmed can give, by its cost where that counts; less a hair's breadth for rounding."""
    able = [means.can(one) / one.cost if means.level else means.can(one) for one in asks if one.most]
    return 0.99 * sum(able) / len(able) if able else 0.0
