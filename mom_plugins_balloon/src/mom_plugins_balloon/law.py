"""The balloon law: from what is known of the host and its guests to the sizes that guests should have, each with the code of its reason.

Pure: no clock, no file, no plugin. Read it from top to bottom: what is known, `decide`, what one guest asks for or can give (`GuestLook`),
and how all of that is weighed (`share`).

A guest needs what it holds and could not give up without swapping. Above that it keeps a margin, for what its programs may want before
mom looks again, and headroom for a burst like its largest lately. Headroom costs the host nothing until it is used: QEMU hands back what a
balloon takes, and what the balloon gives back is not there before the guest touches it. What costs is what a guest has used and freed. So
there are two ways to reclaim memory:

  a trim:   the guest gets smaller, and stays so, by what it has beyond its target headroom;
  a sweep:  its balloon takes all that it does not use, for a second, and gives the headroom back: what it had used and freed is the host's
            then, and the guest can burst as before.

Means are used up in this order, each before the next: memory that holds nothing (trims, then sweeps); page cache beyond what a guest was
seen to need; below 70 % of the high watermark, margins that no guest is known to want soon; below the hard one, headroom for bursts and
page cache that hurts; below the low one, all of it at once, and the law lets no guest grow beyond what it is promised.

What keeps it from oscillating: there are gaps between the watermarks; trimming ends at the very state that it began with; a guest that
waits for what was taken gets it back and keeps it; a guest is swept only when it has freed memory since; and none both gives and grows at
the same amount of usable memory.

A guest with free page reporting hands back by itself what it frees in large pieces, within seconds: it is swept for the rest only, small
pieces and page cache, when what its process holds has settled.

What is expected of guests moves only when something is taken, and of which guest: memory that hurts nobody is taken before guests use more
instead of then, and not of those that are about to use more. Where that is not enough, the law goes by what is so now, and by nothing else.

All sizes are KiB, and all times seconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Final, NamedTuple, cast

from mom_plugins_balloon.limits import KnownMemory, ShrinkLimits, gate
from mom_plugins_balloon.parameters import BALLOON_KIB_PER_SECOND, SLOW_BALLOON_KIB_PER_SECOND, UNKNOWN_REACTION_SECONDS, LawParameters
from mom_plugins_balloon.reasons import ReasonCode
from mom_toolkit import HealthLimits

BYTES: Final = 1024
"""In a KiB: settings are in bytes."""

ALL_ASKED_SECONDS: Final = 60.0
LEAST_ASKED: Final = 64
"""Within how many seconds all guests are asked for what is only expected, and how many at least in each cycle: to look at all of thousands
in each would cost more than all else that the law does, and what is expected is known a quarter of an hour before."""


class LawHost(NamedTuple):
    """What is known of the host: what is available, its watermarks (none above those before it), what is reserved for launches, what cold
    memory gave in the last cycle, and seconds between cycles. `backs_bursts`: headroom for bursts must be there on the host (goal `safe`).
    `reaction`: seconds until a guest that grows while it is swept has been noticed and gets its headroom back. `ahead` is what it is to
    have besides, for what guests are expected to take before long (`ahead_of`). `cycle` is the number of this one."""

    available: float
    high: float
    hard: float
    low: float
    reserved: float = 0.0
    cold: float = 0.0
    interval: float = 5.0
    backs_bursts: bool = False
    reaction: float = UNKNOWN_REACTION_SECONDS
    ahead: float = 0.0
    cycle: int = 0

    @property
    def free(self) -> float:
        """What is available and not reserved."""
        return self.available - self.reserved


class LawGuest(NamedTuple):
    """What is known of one guest; None: unknown.

    `usable`, `total`, `unused` are its kernel's, from `age` seconds ago; `kernel_reserved` is what that does not count in `total`. `peak`
    and `used_before` are what was used at most lately, and by the statistics before. With less than `stall_floor` usable it was seen to
    wait. `rss` is what its process holds, of which `overhead` is QEMU's. `target` is what was asked for, `target_age` seconds ago. `soon`
    is what will be usable before long. `cost`: what it costs to take from it. `growth` is what it may take in a second. With
    `autodeflate`, its balloon gives back when its kernel runs out. It is not to be swept for `sweep_rest` seconds. `burst` is what its use
    has risen by more than once lately. With `reporting`, its kernel hands free pages back by itself; `freed_age` seconds ago it was last
    seen to free memory, None: not lately. `hollow` is what the host has got back of it and it has not touched since: a balloon gets that
    first, more often than not. `missed` is what its sweeps lately were for and did not get. It is `swept_now`: that ends by itself. It was
    just started, and is to be left alone for `start_rest` seconds. `guarantee` is the largest of its promises that hold. `rises` is what it
    is expected to use more before long, 0: nothing; None: nothing is expected of it. `least` is what its balloon can bring it to at least;
    None: it reaches all of its memory.
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
    growth: float | None = None
    autodeflate: float | None = None
    sweep_rest: float | None = None
    burst: float | None = None
    reporting: float | None = None
    freed_age: float | None = None
    hollow: float | None = None
    missed: float | None = None
    swept_now: float | None = None
    start_rest: float | None = None
    guarantee: float = 0.0
    obstacle: object = None
    rises: float | None = None
    least: float | None = None


class GuestOffer(NamedTuple):
    """What one guest can give; KiB, and 0 where it is nothing.

    `sweep` is what the host gets by a sweep, for which the balloon takes `depth`. `trims` is what can be trimmed by each of `TRIMS`, with
    those before it; nothing: it gives nothing. `backed` is what the host gains by the first. `cost`: what it costs to take from it.
    """

    sweep: float = 0.0
    depth: float = 0.0
    backed: float = 0.0
    trims: Sequence[float] = ()
    cost: float = 1.0

    @property
    def empty(self) -> float:
        """What the host gains of it of memory that holds nothing: what it may be swept for or trimmed of is the same memory."""
        return self.sweep if self.sweep > self.backed else self.backed

    @property
    def costless(self) -> float:
        """What the host gains of it by what hurts no guest: memory that holds nothing, and page cache that is not known to be wanted."""
        return self.empty + (self.trims[1] - self.trims[0] if self.trims else 0.0)


NO_OFFER: Final = GuestOffer()


class GuestAsk(NamedTuple):
    """What one guest asks for; KiB, and 0 where it is nothing. And what it can give.

    `full`: the size that it gets at once, as it costs nothing. `grows` is wanted at once, `eases` as far as the host has it, `fills` as far
    as it has more than it should, `returns` is what it may get back. `untouched` is what it has and does not use. `keeps`: it keeps its
    size, whatever the host has. `rises`: it is expected to use more before long.
    """

    code: ReasonCode | None = None
    keeps: bool = False
    full: float = 0.0
    grows: float = 0.0
    eases: float = 0.0
    fills: float = 0.0
    returns: float = 0.0
    untouched: float = 0.0
    offer: GuestOffer = NO_OFFER
    rises: bool = False


TRIMS: Final = (ReasonCode.TRIM_EMPTY, ReasonCode.TRIM_CACHE, ReasonCode.TRIM_MARGIN, ReasonCode.TRIM_BURST)
"""The means by which a guest is made smaller, each used up before the next: what holds nothing, page cache, margins that no guest is known
to want, and all but the least that it keeps."""


class SizeSuggestion(NamedTuple):
    """The size that a guest should be set to (None: it keeps what it has), why, and what the host is to get by a sweep to that size."""

    target: float | None
    code: ReasonCode
    gain: float | None = None


NOTHING: Final = GuestAsk(None, True)
LEFT_ALONE: Final = GuestAsk(ReasonCode.SPARED, True)
SILENT, UNKNOWN, STALE = GuestAsk(ReasonCode.SILENT, True), GuestAsk(ReasonCode.UNKNOWN, True), GuestAsk(ReasonCode.STALE, True)
IN_TRANSITION, UNSETTLED = GuestAsk(ReasonCode.IN_TRANSITION, True), GuestAsk(ReasonCode.UNSETTLED, True)
"""Of guests that keep their size."""


def decide(host: LawHost, guests: Sequence[LawGuest], parameters: LawParameters, limits: ShrinkLimits) -> list[SizeSuggestion]:
    """The sizes that these guests should have, in their order."""
    # As long as no guest has to give, whatever guests want, those that have all of their memory need not be looked at.
    left = host.free + parameters.step / BYTES - host.high
    for guest in guests:
        if left <= 0:
            break
        size, maximum = guest.size, guest.maximum
        if size is not None and maximum is not None and maximum > size:
            left -= maximum - size
    if left <= 0 or left > host.ahead:
        look = GuestLook(host, parameters, easy=left > 0)
        return share(host, guests, [look.at(guest) for guest in guests], parameters, limits)
    # What is only expected comes in minutes: some guests are asked for that in each cycle, the others in the next ones.
    look, rest = GuestLook(host, parameters, easy=False), GuestLook(host, parameters, easy=True, sparing=True)
    count = len(guests)
    asked = max(LEAST_ASKED, math.ceil(count * host.interval / ALL_ASKED_SECONDS))
    first = asked * host.cycle
    asks = [(look if (place - first) % count < asked and not look.rises(guest) else rest).at(guest) for place, guest in enumerate(guests)]
    return share(host, guests, asks, parameters, limits)


def sweep_of(host: LawHost, guest: LawGuest, parameters: LawParameters, limits: ShrinkLimits) -> SizeSuggestion:
    """The sweep of one guest that is to be moved, whatever the host has: what it has used and freed would be sent with it. By the same
    rules as any sweep; the target is None where there is none.

    :param host: its `interval` is for how long the balloon may take memory
    """
    ask, size = GuestLook(host, parameters, easy=False, deepest=BALLOON_KIB_PER_SECOND * host.interval).at(guest), guest.size
    if size is not None and ask.offer.sweep and not ask.eases:
        passed = gate(int(size - ask.offer.depth), _known(guest, size), limits).size
        if passed is not None and passed < size:
            return SizeSuggestion(passed, ReasonCode.SWEEP, ask.offer.sweep)
    return SizeSuggestion(None, ask.code or ReasonCode.NOTHING_TO_GIVE)


def ahead_of(host: LawHost, guests: Sequence[LawGuest], rise: float, parameters: LawParameters) -> float:
    """What the host is to have available, in KiB, for what guests are expected to take before long, and do not hold already.

    :param rise: KiB that they are expected to use more, together
    """
    if rise <= 0:
        return 0.0
    look = GuestLook(host, parameters, easy=False)
    return parameters.rise_share * max(0.0, rise - sum([look.ready(guest) for guest in guests if guest.rises]))


def gives_headroom_back(host: LawHost, parameters: LawParameters) -> bool:
    """True where guests get headroom for bursts back."""
    return host.available >= parameters.bursts_above * host.hard


# --- one guest -------------------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)  # not frozen: as one is made for each guest, that would be a tenth of all the time
class GuestNeed:
    """What one guest needs and should have.

    `need` is what it holds and could not give up without swapping; `usable` what it has above that, or will have before long. `tight` is
    what should be usable at least, with memory for a `burst` like its largest; with less than `stall_floor` it was seen to wait. `used` is
    what its kernel and programs use, and `inside` its size when its statistics were made, as far as it is `told`. `full` is the size that
    it gets at no cost to the host, where it is `sparse`: it leaves empty what it does not need.
    """

    need: float
    usable: float
    margin: float
    burst: float
    tight: float
    stall_floor: float
    used: float
    inside: float
    told: bool
    full: float
    sparse: bool
    growing: bool


class GuestLook:
    """Looks at guests of one host: what is the same for all of them is worked out once.

    Much of it is written out instead of calling `min` and `max`, which take half of the time that a guest takes otherwise.

    :param easy: no guest has to give anything, whatever guests want
    :param sparing: others give for what is expected: those that are expected to use more are told so
    :param deepest: KiB that the balloon of a guest that is swept takes at most, with what it has to go through
    """

    def __init__(self, host: LawHost, parameters: LawParameters, *, easy: bool, sparing: bool = False, deepest: float = math.inf) -> None:
        # As plain attributes: those of a pydantic model take ten times as long.
        self._p = p = cast(LawParameters, SimpleNamespace(**vars(parameters)))
        self._host, self._easy, self._sparing, self._deepest = host, easy, sparing, deepest
        self._step = p.step / BYTES
        self._margin, self._margin_share = p.margin / BYTES, p.margin_percent / 100
        self._moves = BALLOON_KIB_PER_SECOND * host.interval
        self._oldest = p.statistics_age or max(2.0, 1.6 * host.interval)
        self._plenty = host.free > p.return_above * host.high
        self._deflates = gives_headroom_back(host, p)
        # Below the low watermark a sweep relies on being ended in time.
        self._careful = host.available >= host.low
        self._fills = -1.0 if host.backs_bursts else p.fills
        self._worth, self._sweep_keeps = p.sweep_step / BYTES, p.sweep_keeps / BYTES
        self._growth = p.growth_rate / BYTES
        self._below_hard, self._tight, self._reserves = host.available < host.hard, host.available < tight_below(host, p), host.reserved > 0

    def ready(self, guest: LawGuest) -> float:
        """What a guest that is expected to use more had used and freed, and the host has still: it needs nothing of the host for that."""
        rises, total, unused, reserved = guest.rises, guest.total, guest.unused, guest.kernel_reserved
        if not rises or total is None or reserved is None:
            return 0.0
        if unused is None:
            size, maximum, usable = guest[:3]
            if size is None or maximum is None or usable is None:
                return 0.0
            unused = self.need(guest, size, maximum, usable, settled=True).usable
        idle = _idle(guest, reserved + total - unused)
        return rises if rises < idle else idle

    def rises(self, guest: LawGuest) -> bool:
        """True if a guest is expected to use so much more before long that it is worth taking."""
        return bool(guest.rises and guest.size is not None and guest.rises >= self._least_worth(guest.size))

    def at(self, guest: LawGuest) -> GuestAsk:
        """What this guest asks for, or can give."""
        size, maximum, usable, age = guest[:4]
        if guest.swept_now:  # it looks at the guest's process, and is told sooner than any statistics when the guest wants its headroom
            return IN_TRANSITION
        if usable is None:
            return SILENT
        if size is None or maximum is None or age is None:
            return UNKNOWN
        if age > self._oldest:
            return STALE
        target, target_age, step = guest.target, guest.target_age, self._step
        settled = target_age is None or age <= target_age
        if self._easy and settled and size >= maximum and (target is None or target >= size):
            return LEFT_ALONE if self._sparing and self.rises(guest) else NOTHING
        seen = self.need(guest, size, maximum, usable, settled)
        # What it was asked to give and has not given yet; whether it has, or will have, less than it could have.
        owes = 0.0 if target is None or target >= size else size - target
        lacks = seen.full - (size - owes) >= step
        if lacks:
            slowest = self._p.sweep_wait + owes / SLOW_BALLOON_KIB_PER_SECOND
            if seen.told and owes >= step and target_age is not None and target_age < slowest and not seen.growing:
                return IN_TRANSITION
            if seen.sparse and self._deflates:
                return GuestAsk(ReasonCode.HEADROOM_GROWING if seen.growing else ReasonCode.HEADROOM_BACK, False, seen.full)
        if not settled:
            return UNSETTLED
        promised = guest.guarantee if guest.guarantee < maximum else maximum
        if seen.usable < self._p.runs_out * seen.margin or size < promised:
            return self._runs_out(guest, seen, maximum - size, promised - size)
        worth = self._least_worth(size)
        rises = guest.rises is not None and guest.rises >= worth
        swaps, waits = (guest.swap_in or 0.0) > HealthLimits.SWAP_IN_KIB, (guest.major_faults or 0.0) > HealthLimits.MAJOR_FAULTS
        code, eases, fills, returns, untouched = None, 0.0, 0.0, 0.0, 0.0
        if maximum > size:
            if swaps or waits or seen.usable < seen.stall_floor:
                code, eases = self._stalls(seen, maximum - size, swaps=swaps, waits=waits)
            elif lacks and not seen.sparse:
                code, fills = ReasonCode.FILLS, max(0.0, seen.full - size)
            if rises and not seen.sparse and not eases and (wanted := min(maximum, seen.full + (guest.rises or 0.0)) - size) > fills + step:
                code, fills = ReasonCode.RISES, wanted
            returns = min(maximum - size, max(step, self._p.return_share * maximum)) if self._plenty else 0.0
            untouched = self._p.untouched_share * (size - guest.rss) if guest.rss is not None and size > guest.rss else 0.0
        swaps = swaps or (guest.swap_out or 0.0) > HealthLimits.SWAP_IN_KIB
        is_new = bool(guest.start_rest) and not self._below_hard and not self._easy
        keeps = promised if guest.least is None or guest.least < promised else guest.least
        gives_nothing = self._easy or swaps or is_new or guest.obstacle is not None or size <= keeps
        offer = NO_OFFER if gives_nothing else self._offer(guest, seen, size, size - keeps, worth, waits=waits)
        code = ReasonCode.STARTED if is_new and code is None else code
        return GuestAsk(code, False, 0.0, 0.0, eases, fills, returns, untouched, offer, rises)  # by name it takes twice as long

    def not_swept(self, guest: LawGuest, seen: GuestNeed, size: float) -> float:
        """What no sweep gets of what a guest had used and freed: what sweeps have missed, and a rest that is not worth one."""
        missed = guest.missed or 0.0
        rest = max(0.0, self.held(guest, seen)[2] - missed) % self._moves
        return missed + (rest if rest < self._least_worth(size) else 0.0)

    def not_trimmed(self, size: float) -> float:
        """What no trim takes of a guest that could go down to this size: a rest that is not worth one by the size that it has then."""
        return self._least_worth(size + self._least_worth(size))

    def _least_worth(self, size: float) -> float:
        """The least that is worth taking of a guest of this size."""
        worth = self._p.sweep_step_share * size
        worth = worth if worth < 0.5 * self._moves else 0.5 * self._moves  # a large guest's balloon moves a smaller share of it
        return worth if worth > self._worth else self._worth

    def need(self, guest: LawGuest, size: float, maximum: float, reported: float, settled: bool) -> GuestNeed:
        """What the guest uses, and should have.

        :param reported: what was usable by its statistics
        :param settled: these are from after its last change
        """
        total, _, soon, reserved, peak, used_before, floor, cache_share, rss, rss_before = guest[4:14]
        step = self._step
        # What a burst like its largest would still take. A forecast is not taken for going on beyond that.
        used = to_peak = 0.0
        if peak is not None and total is not None:
            used = total - reported
            to_peak = peak - used if peak > used else 0.0
        usable, burst = reported, to_peak
        if soon is not None:
            usable = min(reported, max(soon, reported - to_peak) if to_peak > step else soon)
            burst = max(0.0, to_peak - (reported - usable))
        # Its size when its statistics were made is known where what its kernel reserves is.
        told, inside = False, size
        if reserved is not None and total is not None:
            told, inside = True, reserved + total
            # What libvirt tells of a guest that grows is up to a second old.
            settled = settled and not (guest.target is not None and size + step < inside <= guest.target + step)
        need = (size if settled else inside) - usable
        if need < 0:
            need = 0.0
        margin = self._margin + self._margin_share * need  # as `margin_of`
        tight = margin if peak is None or total is None else burst + self._p.tight_margin * (margin + self._margin_share * burst)
        if floor is None:
            floor = 0.0
        elif tight < floor:
            tight = floor
        # What stays empty costs nothing: a guest that leaves it so may have all.
        sparse = told and cache_share is not None and cache_share <= self._fills
        full = maximum if sparse or need + tight > maximum else need + tight
        growing = (
            usable + step < reported
            or (used_before is not None and used > used_before + step)
            or (rss is not None and rss_before is not None and rss > rss_before + step)
        )
        return GuestNeed(need, usable, margin, burst, tight, floor, used, inside, told, full, sparse, growing)

    def margin_of(self, need: float) -> float:
        """The margin that a guest with this need keeps above it."""
        return self._margin + self._margin_share * need

    def _target_headroom(self, seen: GuestNeed) -> float:
        """The headroom that a guest should have."""
        headroom = self._p.target_headroom * seen.margin
        bursting = seen.burst + (seen.margin + self._margin_share * seen.burst)  # with the margin of what it needs in its burst
        headroom = headroom if headroom > bursting else bursting
        return headroom if headroom > seen.stall_floor else seen.stall_floor

    def _runs_out(self, guest: LawGuest, seen: GuestNeed, taken: float, promised: float) -> GuestAsk:
        """A guest that runs out of memory, or has less than it is promised: it grows at once, to more than it needs now.

        :param taken: what it could grow by
        :param promised: what it lacks of its promise
        """
        if taken <= 0:
            return NOTHING
        p, margin, usable, peak = self._p, seen.margin, seen.usable, guest.peak
        # How much a guest wants is unknown where its past does not tell.
        is_new = peak is None or guest.total is None or seen.used > peak + self._step or usable < p.exhausted * margin
        wanted = max(p.grows_to * margin - usable, seen.burst + margin - usable, p.grows_share * taken if is_new else 0.0, promised)
        code = ReasonCode.PROMISED if promised > 0 else ReasonCode.FORECAST if usable < (guest.usable or 0.0) else ReasonCode.RUNS_OUT
        return GuestAsk(code, grows=min(wanted, taken))

    def _stalls(self, seen: GuestNeed, taken: float, *, swaps: bool, waits: bool) -> tuple[ReasonCode | None, float]:
        """A guest that waits for its swap or its disk, or has as little as when it was seen to wait: what it wants, and why."""
        target = seen.stall_floor
        if seen.usable >= target:
            # Where margins are taken, one that waits for its disk does not get what would be taken again.
            target = seen.tight if waits and not swaps and self._tight else self._target_headroom(seen)
        wanted = min(taken, target - seen.usable)
        if wanted < self._step:
            return None, 0.0
        return (ReasonCode.SWAPS if swaps else ReasonCode.WAITS_FOR_DISK if waits else ReasonCode.STALL_FLOOR), wanted

    def held(self, guest: LawGuest, seen: GuestNeed) -> tuple[float, float, float]:
        """What a guest has and uses for nothing; what it holds, page cache included; and what the host has backed besides, as the guest had
        used and freed it."""
        unused = seen.usable if guest.unused is None else guest.unused
        if not seen.told:
            return unused, seen.inside, 0.0
        held = seen.inside - unused
        return unused, held, _idle(guest, held)

    def _offer(self, guest: LawGuest, seen: GuestNeed, size: float, spare: float, worth: float, *, waits: bool) -> GuestOffer:
        """What the guest can give.

        :param spare: what it has above its guarantee, and can be taken by its balloon
        :param worth: a sweep for less is none
        :param waits: it waits for its disk, and gives only what is taken below the hard watermark
        """
        unused, held, idle = self.held(guest, seen)
        calm, sweep, depth = 0.0 if waits else spare, 0.0, 0.0
        # Below the low watermark a sweep goes deeper, and may get what those before it have not.
        missed = guest.missed if self._careful and guest.missed is not None else 0.0
        least = worth + missed
        if idle >= least and calm >= least and (freed := self._sweep(guest, seen, idle)) >= least:
            # A kernel allocates from its smallest free pieces first, and reports the largest: a balloon gets what was not reported before.
            hollow = 0.0 if guest.reporting else guest.hollow or 0.0
            most = min(self._moves + hollow, self._deepest, calm, size - self.swept_keeps(guest, seen, held)) - hollow
            freed = freed if freed < most else most
            sweep, depth = (freed - missed, freed + hollow) if freed >= least else (0.0, 0.0)
        # A sparse guest has all of it: that is taken only below the hard watermark.
        trims = () if seen.sparse and not self._below_hard else self._trims(seen, unused, worth, calm, spare)
        if not sweep and not trims:
            return NO_OFFER
        backed = 0.0 if not trims else idle if seen.told and idle < trims[0] else trims[0]
        return GuestOffer(sweep, depth, backed, trims, guest.cost if guest.cost is not None and guest.cost > 0 else 1.0)

    def _sweep(self, guest: LawGuest, seen: GuestNeed, idle: float) -> float:
        """What can be swept: memory that the guest had used and freed, if it was left in peace for a while.

        :param idle: that memory
        """
        # A host below its hard watermark takes a little of all in each cycle, and none would ever be swept.
        p = self._p
        if seen.growing or guest.sweep_rest or guest.age is None or guest.age > p.sweep_statistics_age:
            return 0.0
        if guest.target_age is not None and guest.target_age < (0.0 if self._below_hard else p.sweep_rest):
            return 0.0
        return self._not_reported(guest, idle) if guest.reporting else idle

    def swept_keeps(self, guest: LawGuest, seen: GuestNeed, held: float) -> float:
        """The size that a sweep leaves a guest which holds so much."""
        uses = held if held > seen.need else seen.need
        keeps = uses + self._sweep_keeps
        if self._careful and not guest.autodeflate:
            grown = uses + (self._growth if guest.growth is None else guest.growth) * self._host.reaction
            keeps = keeps if keeps > grown else grown
            if not self._tight and guest.maximum is not None:
                # Linux refuses a program that asks for more in one piece than there is and swap: a burst may come like that.
                keeps = max(keeps, min((guest.burst or 0.0) + (guest.kernel_reserved or 0.0), self._p.sweep_least * guest.maximum))
        return keeps

    def _not_reported(self, guest: LawGuest, idle: float) -> float:
        """What a guest with free page reporting does not hand back by itself of what it had used and freed: nothing is known of that until
        it has settled. What a burst like its last ones takes again is left to it while the host has room, as filling it anew costs time."""
        if guest.freed_age is not None and guest.freed_age < self._p.reporting_settles:
            return 0.0
        return idle if self._below_hard else idle - (guest.burst or 0.0)

    def _trims(self, seen: GuestNeed, unused: float, worth: float, calm: float, spare: float) -> Sequence[float]:
        """What can be trimmed by each of `TRIMS`.

        :param calm: what it may give at all; nothing where it waits for its disk
        :param spare: what it may give below the hard watermark
        """
        moves, part, usable, empty, cache, tight = self._moves, self._p.shrink_share, seen.usable, 0.0, 0.0, 0.0
        # In one cycle a part of what it can spare is taken, or nothing if that is not worth a step. Below the hard watermark one that waits
        # gives what holds nothing, as others do: else it would have to give what it waits for, where that is enough.
        idle = spare if self._below_hard else calm
        if idle >= worth:
            beyond = usable - self._target_headroom(seen)
            if beyond >= worth:
                beyond = beyond if beyond < idle else idle
                empty = min(moves, beyond, unused - self._sweep_keeps)
                empty = empty if empty >= worth else 0.0
                cache = part * beyond if calm and part * beyond > empty else empty
            # Below what it was seen to wait with, it would get back at once what it gives for a launch.
            least = seen.margin if seen.margin > seen.stall_floor else seen.stall_floor
            above = usable - (least if self._reserves and least < seen.tight else seen.tight)
            above = above if above < calm else calm
            tight = part * above if above >= worth and part * above > cache else cache
        above = usable - self._p.least * seen.margin
        most = part * (above if above < spare else spare)
        most = most if most > tight else tight
        if most > moves:
            cache, tight, most = min(moves, cache), min(moves, tight), moves
        return (empty, cache, tight, most) if most >= self._step else ()


def _idle(guest: LawGuest, held: float) -> float:
    """What the host has backed of a guest that holds so much, as the guest had used and freed it."""
    rss, overhead = guest.rss, guest.overhead
    if rss is None or overhead is None:
        return 0.0
    # What is in the host's swap went there as cold: it counts as in use, as what was freed lately is not there, and a sweep of what is
    # would read it back.
    here = held - (guest.host_swap or 0.0)
    idle = rss - overhead - (here if here > 0 else 0.0)
    return idle if idle > 0 else 0.0


# --- all of them -----------------------------------------------------------------------------------------------------------------------


class ReclaimMeans(NamedTuple):
    """How much of each of `TRIMS` is used: shares of what all guests can give of it, from 0 to 1. Of the first, what the host has `backed`
    goes before the rest, of which it gains nothing: that is another share. The `last` that is used is divided among guests by `level`:
    each gives that share of its part, divided by its cost, and no guest more than its part."""

    backed: float
    shares: Sequence[float]
    last: int
    level: float = 0.0

    def can(self, offer: GuestOffer) -> float:
        """What a guest can give of all that is used."""
        return offer.trims[self.last] if self.last or self.shares[0] else offer.backed

    def part(self, offer: GuestOffer) -> float:
        """What a guest can give of the last means."""
        return offer.trims[self.last] - offer.trims[self.last - 1]

    def of(self, offer: GuestOffer) -> float:
        """What a guest gives."""
        trims = offer.trims
        given = self.backed * offer.backed + self.shares[0] * (trims[0] - offer.backed)
        for place in range(1, self.last):
            given += self.shares[place] * (trims[place] - trims[place - 1])
        return given + self.part(offer) * min(1.0, self.level / offer.cost) if self.last else given


class _Growth(NamedTuple):
    """How much guests get of what they ask for, by what they want as `GuestAsk` has it. `grows` and `eases`: so much each at most, in KiB,
    so that a large guest's want leaves small ones theirs; `fills` and `returns` are ratios, and the last four what there is for all, in
    KiB."""

    grows: float
    eases: float
    fills: float
    returns: float
    calm_fills: float
    """Of guests that are not expected to use more before long."""
    growing: float
    easing: float
    filling: float
    returning: float


def _growth(host: LawHost, asks: Sequence[GuestAsk], p: LawParameters, grows: float, eases: float, ahead: float) -> _Growth:
    """What there is for guests that want some; all together grow by no more than the host has.

    :param grows: what all guests want at once, `eases`: what they want as far as the host has it
    :param ahead: what is kept for what guests are expected to take
    """
    fills, returns = sum([one.fills for one in asks]), sum([one.returns for one in asks])
    for_easing = host.free - (sum([one.untouched for one in asks]) + grows + host.hard) if eases else 0.0
    # What the host has beyond what it should have goes to those that suffer before page cache, whatever others have not touched.
    beyond = host.free - (grows + host.high)
    for_easing = for_easing if for_easing > beyond else beyond
    for_filling = max(0.0, beyond - eases)
    for_returning = host.free - (grows + eases + min(for_filling, fills) + ahead + p.return_above * host.high)
    return _Growth(
        _most_each(host.available - host.low, [one.grows for one in asks]), _most_each(for_easing, [one.eases for one in asks]),
        _ratio(for_filling, fills), _ratio(for_returning, returns), _ratio(for_filling - ahead, fills),
        host.available - host.low, for_easing, for_filling, for_returning,
    )  # fmt: skip


def _most_each(there: float, wanted: Sequence[float]) -> float:
    """How much each gets at most where there is so much for all."""
    asked = [kib for kib in wanted if kib > 0]
    return level_of([(kib, kib) for kib in asked], max(0.0, there)) if asked else 0.0


def share(
    host: LawHost, guests: Sequence[LawGuest], asks: Sequence[GuestAsk], parameters: LawParameters, limits: ShrinkLimits
) -> list[SizeSuggestion]:
    """Weigh what guests ask for and can give: what each is to have, as far as that passes the gate."""
    p, step, free, high = parameters, parameters.step / BYTES, host.free, host.high
    # Those that keep their size, or get at once what costs nothing, leave it to the others what there is.
    places = [place for place, ask in enumerate(asks) if not ask.keeps and not ask.full]
    weighed, those = [asks[place] for place in places], [guests[place] for place in places]
    grows = sum([min(one.grows, _unbacked(guest)) for one, guest in zip(weighed, those, strict=True) if one.grows])
    eases = sum([min(one.eases, _unbacked(guest)) for one, guest in zip(weighed, those, strict=True) if one.eases])
    lacks = high + (grows + eases) - free
    offers, ahead = _spared(host, weighed, lacks, step)
    growth, growth_left = _growth(host, weighed, p, grows, eases, ahead), max(0.0, host.available)
    donors = [one for one in offers if one.trims]
    # What cold memory gives anyway need not be taken of guests for later.
    wants = lacks + max(0.0, ahead - host.cold) if ahead else lacks
    means = _means(host, donors, sum([one.empty for one in offers if one is not NO_OFFER]), p, wants, grows, eases)
    sweeps = wants - sum([one.backed for one in donors])
    swept = _swept(those, weighed, offers, sweeps, step, growing=growth.eases > 0)
    trims = [means.of(one) if one.trims else 0.0 for one in offers]
    left, average, trim = sum(trims), _average(donors, means), TRIMS[means.last]
    growing, easing, filling, returning = growth[-4:]

    generic = ReasonCode.NOTHING_TO_GIVE if lacks >= step else ReasonCode.ENOUGH if free < p.return_above * high else ReasonCode.PLENTY
    suggestions = [SizeSuggestion(ask.full or None, ask.code or generic) for ask in asks]
    for number, (place, guest, ask, offer, trimmed) in enumerate(zip(places, those, weighed, offers, trims, strict=True)):
        code, size, change, passed, gain = ask.code or generic, guest.size, 0.0, None, None
        if size is None or guest.maximum is None:
            continue
        if ask.grows:
            change = _in_turn(growth.grows, ask.grows, step, growing)
            growing -= min(change, _unbacked(guest))
            if ask.code is ReasonCode.PROMISED:  # that holds below the low watermark, too
                change = max(change, min(guest.guarantee, guest.maximum) - size)
        elif ask.eases and growth.eases > 0:
            change = _in_turn(growth.eases, ask.eases, step, easing)
            easing -= min(change, _unbacked(guest))
        elif number in swept:
            change, code, gain = -offer.depth, ReasonCode.SWEEP, offer.sweep
        elif offer.trims and left > 0:
            given, can = trimmed, means.can(offer)
            if given < step:  # when all shares are smaller, those give a step that can spare most
                given = step if can >= step and (can / offer.cost if means.level else can) >= average else 0.0
            if given:
                change, code = -given, trim
                left -= given
        elif ask.fills >= step and (
            filled := _in_turn(
                (growth.fills if ask.rises else growth.calm_fills) * ask.fills, ask.fills, step, filling - (0.0 if ask.rises else ahead)
            )
        ):
            change = filled
            filling -= filled
        elif ask.returns and (back := _in_turn(growth.returns * ask.returns, ask.returns, step, returning)):
            change, code = back, ReasonCode.GIVEN_BACK
            returning -= back
        if change:
            passed = gate(int(size + min(change, growth_left)), _known(guest, size), limits).size
            growth_left = max(0.0, growth_left - max(0.0, (passed or 0.0) - size))
        elif lacks >= step and (offer.trims or offer.sweep):
            code = ReasonCode.OTHERS_GIVE
        elif wants >= step and ask.code is None and (offer is not ask.offer or (ask.rises and lacks < step)):
            code = ReasonCode.SPARED
        elif code is ReasonCode.NOTHING_TO_GIVE and 0 < guest.guarantee > size - step:
            code = ReasonCode.GUARANTEED
        elif code is ReasonCode.NOTHING_TO_GIVE and guest.least is not None and guest.least > size - step:
            code = ReasonCode.OUT_OF_REACH
        suggestions[place] = SizeSuggestion(passed, code, None if passed is None else gain)
    return suggestions


def _spared(host: LawHost, asks: Sequence[GuestAsk], lacks: float, step: float) -> tuple[Sequence[GuestOffer], float]:
    """What guests can give, where those that are expected to use more before long give nothing; and what the host is to have besides.
    Where the host lacks more than others can give without harm, or is below its hard watermark, nothing goes by what is expected.

    :param lacks: what the host lacks of its high watermark and of what guests want
    :param step: what is less is not lacking
    """
    offers = [one.offer for one in asks]
    if host.available < host.hard or not (host.ahead or any(one.rises for one in asks)):
        return offers, 0.0
    spared = [NO_OFFER if one.rises else one.offer for one in asks]
    if lacks >= step and lacks > host.cold + sum([one.costless for one in spared if one is not NO_OFFER]):
        return offers, 0.0
    return spared, host.ahead


def _known(guest: LawGuest, size: float) -> KnownMemory:
    """The figures that the gate goes by."""
    swapping = max(guest.swap_in or 0.0, guest.swap_out or 0.0)
    known = (size, guest.maximum, guest.guarantee, guest.usable, guest.age, swapping, guest.total, guest.kernel_reserved)
    return KnownMemory(*known, least=guest.least)


def _unbacked(guest: LawGuest) -> float:
    """What the host has not backed yet of all that a guest can have. What its balloon leaves a guest is the guest's word: what it holds
    already, nobody has to give for it, whatever it wants."""
    rss, overhead, maximum = guest.rss, guest.overhead, guest.maximum
    return math.inf if rss is None or overhead is None or maximum is None else max(0.0, maximum - (rss - overhead))


def _ratio(there: float, wanted: float) -> float:
    """The share of what is wanted that there is."""
    return min(1.0, max(0.0, there) / wanted) if wanted > 0 else 0.0


def _in_turn(share: float, wanted: float, step: float, left: float) -> float:
    """What a guest gets of what it wants: its share of what there is, or a step where that is less, as less is not worth a command. Those
    for which too little is left get theirs when the ones before them have all.

    :param left: what there is for it and for those after it
    """
    given = min(max(share, step), wanted, left)
    return given if given >= min(wanted, step) else 0.0


def tight_below(host: LawHost, p: LawParameters) -> float:
    """With less than this available, guests give of their margins. A reservation is made before anybody else may want it: margins are taken
    for it at once."""
    return host.high if host.reserved > 0 else max(host.hard, p.tight_below * host.high)


def _means(
    host: LawHost, donors: Sequence[GuestOffer], costless: float, p: LawParameters, lacks: float, grows: float, eases: float
) -> ReclaimMeans:
    """Which means are used, and how far.

    :param costless: what the host gains of all guests of memory that holds nothing
    :param lacks: what the host lacks of its high watermark, of what guests want, and of what they are expected to take
    """
    step = p.step / BYTES
    slack, danger = max(step, p.slack * host.high), host.available < host.low
    empty, cache, tight, most = map(sum, zip(*(one.trims for one in donors), strict=True)) if donors else (0.0, 0.0, 0.0, 0.0)
    backed = sum(one.backed for one in donors)
    lacks_much = tight_below(host, p) + grows + eases - (host.free + costless + (cache - empty) + host.cold)
    lacks_all = host.hard + grows - (host.available + costless + host.cold + (tight - empty))

    def used(lack: float, there: float) -> float:
        """The share of a means: all of it in danger, and nothing for a shortage that is not worth it."""
        return 0.0 if lack < slack or there <= 0 else 1.0 if danger else min(1.0, lack / there)

    shares = (
        _ratio(lacks - backed, empty - backed) if lacks >= step else 0.0,
        used(lacks - costless, cache - empty),
        used(lacks_much, tight - cache),
        used(lacks_all, most - tight),
    )
    last = max((place for place in (1, 2, 3) if shares[place]), default=0)
    if last >= 2:  # a balloon takes what holds nothing first, and page cache lies behind it
        shares = (1.0, *shares[1:])
    means = ReclaimMeans(_ratio(lacks, backed) if lacks >= step else 0.0, shares, last)
    if not last:
        return means
    parts = [(one.cost, means.part(one)) for one in donors]
    return means._replace(level=level_of(parts, shares[last] * sum(part for _, part in parts)))


def level_of(parts: Sequence[tuple[float, float]], wanted: float) -> float:
    """The level at which these give so much together, each `part * min(1, level / cost)`: the cheap give all before the dear give for them.

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


def _swept(
    guests: Sequence[LawGuest], asks: Sequence[GuestAsk], offers: Sequence[GuestOffer], wanted: float, step: float, *, growing: bool
) -> set[int]:
    """The places of guests that are swept: no more than it takes, the cheap first, of these those of which a trim, which is counted on
    already, gets less, of these those that are known not to use more before long, and those last that are expected to, of these those that
    have freed memory last, as they are the least likely to want it at once; and none that has less than half of what another has.

    :param growing: guests that wait for memory get some, and are not swept then
    """
    if wanted < step:
        return set()
    able = [place for place, one in enumerate(offers) if one.sweep and not (growing and asks[place].eases)]
    worth = 0.5 * max((offers[place].sweep for place in able), default=0.0)
    found: set[int] = set()
    order = [
        (
            offers[place].cost,
            offers[place].sweep <= offers[place].backed,
            2 if asks[place].rises else guests[place].rises is None,
            math.inf if (age := guests[place].freed_age) is None else age,
            place,
        )
        for place in able
        if offers[place].sweep >= worth
    ]
    for *_, place in sorted(order):
        if wanted < step:
            break
        found.add(place)
        one = offers[place]
        wanted -= one.sweep - one.backed if one.sweep > one.backed else one.sweep
    return found


def _average(donors: Sequence[GuestOffer], means: ReclaimMeans) -> float:
    """What the average donor can give, by its cost where that counts; less a hair's breadth for rounding."""
    able = [means.can(one) / (one.cost if means.level else 1.0) for one in donors]
    return 0.99 * sum(able) / len(able) if able else 0.0
