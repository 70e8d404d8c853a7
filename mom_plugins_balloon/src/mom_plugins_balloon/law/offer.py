"""Memory that a guest can give by each means, and its cost.

A trim makes the guest smaller until the host has room again. The law uses up each means of `TRIMS` before the next.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Final, NamedTuple

from mom_plugins_balloon.gate import least_kib
from mom_plugins_balloon.law.need import BYTES, LawContext, Need
from mom_plugins_balloon.law.reasons import ReasonCode
from mom_plugins_balloon.memory import GuestMemory
from mom_plugins_balloon.parameters import SHRINK_SHARE, STEP_KIB, SWEEP_KEEPS_KIB

SLACK: Final = 0.02
"""Multiple of the high watermark: for a smaller shortage, mom takes no page cache and no margins."""

SWEEP_LEAST: Final = 0.5
"""A sweep leaves memory for one burst, but at most this ratio of the guest's maximum. Linux refuses allocations larger than free memory,
but allocations of more than half of the memory are rare."""

SWEEP_STATISTICS_SECONDS: Final = 3.0
"""Maximum age of a guest's statistics when mom chooses the guest for a sweep. The sweep waits for statistics of the last second."""

SWEEP_REST_SECONDS: Final = 5.0
"""A guest is not swept for this time after a change of its size, unless the host is below its hard watermark."""

REPORTING_SETTLES_SECONDS: Final = 5.0
"""With free page reporting, a guest is swept after it has freed no memory for this time. Linux reports freed memory every 2 s, and has
finished after two rounds without freed memory."""


class Offer(NamedTuple):
    """Memory that one guest can give by each means, in KiB."""

    sweep: float = 0.0
    """Host's gain from a sweep."""
    depth: float = 0.0
    """Inflation of the balloon for a sweep, hollow memory included."""
    backed: float = 0.0
    """Guest's empty memory that the host backs. With goal `safe`, all the guest's empty memory."""
    unbacked: float = 0.0
    """Empty memory that the host does not back. Taking it gains nothing, but the balloon takes it before page cache."""
    cache: float = 0.0
    """Usable memory above the headroom floor, after empty memory: mostly page cache."""
    margin: float = 0.0
    """Part of the margin that the guest is not expected to use soon."""
    burst: float = 0.0
    """Headroom for bursts, and page cache that the guest will read again."""
    cost: float = 1.0
    """Cost of taking memory, relative to an ordinary guest (`reclaim_cost`)."""
    trims: bool = False

    @property
    def empty(self) -> float:
        """Gain from empty memory. A sweep and a trim would take the same memory, so the larger gain counts."""
        return self.sweep if self.sweep > self.backed else self.backed

    @property
    def harmless(self) -> float:
        """Host's gain from memory that the guest will not miss."""
        return self.empty + self.cache


NO_OFFER: Final = Offer()


class Balance(NamedTuple):
    """Memory that guests want, and memory that the host lacks, in KiB."""

    urgent: float
    """Memory for guests that run out of memory."""
    relief: float
    """Memory for guests that stall."""
    lacks: float
    """Memory missing below the high watermark, plus `urgent` and `relief`."""
    demand: float
    """`lacks`, plus memory that guests are expected to take."""
    ahead: float
    """Memory to keep available for guests' expected growth."""


class TrimMeans(NamedTuple):
    """One means of trimming guests."""

    code: ReasonCode
    could_give: Callable[[Offer], float]
    wanted: Callable[[Balance, LawContext], float]
    """Returns how much all means up to this one should give together."""
    hurts: bool = True
    """Whether guests will miss the memory, so that guests with a high cost give less."""

    def gain(self, offer: Offer) -> float:
        """Return the host's gain from an offer. For empty memory, the gain by a sweep counts if larger."""
        return self.could_give(offer) if self.hurts else offer.empty

    def cost(self, offer: Offer) -> float:
        """Return the cost of this means for one guest."""
        return offer.cost if self.hurts else 1.0

    def amount(self, supply: float, gained: float, balance: Balance, context: LawContext) -> float:
        """Return how much the host takes by this means.

        :param supply: KiB that all guests together could give by this means
        :param gained: KiB that the host gains from all guests by all earlier means
        """
        lacks, host = self.wanted(balance, context) - gained, context.host
        worth = max(STEP_KIB, SLACK * host.high) if self.hurts else 0.0
        if supply <= 0 or lacks <= 0 or lacks < worth or (not self.hurts and balance.demand < STEP_KIB):
            return 0.0
        return supply if self.hurts and context.below_low else min(supply, lacks)


def _demand(balance: Balance, _: LawContext) -> float:
    return balance.demand


def _for_margins(balance: Balance, context: LawContext) -> float:
    host = context.host
    return context.margins_below + balance.urgent + balance.relief - host.free - host.cold


def _for_bursts(balance: Balance, context: LawContext) -> float:
    host = context.host
    return host.hard + balance.urgent - host.available - host.cold


TRIMS: Final = (
    TrimMeans(ReasonCode.TRIM_EMPTY, attrgetter("backed"), _demand, hurts=False),
    TrimMeans(ReasonCode.TRIM_CACHE, attrgetter("cache"), _demand),
    TrimMeans(ReasonCode.TRIM_MARGIN, attrgetter("margin"), _for_margins),
    TrimMeans(ReasonCode.TRIM_BURST, attrgetter("burst"), _for_bursts),
)
"""Means in the order in which the law uses them. As a shortage grows, each must begin no later than the next, because the law
subtracts earlier gains from later demands."""


def offer_of(guest: GuestMemory, need: Need, size: float, context: LawContext) -> Offer:
    """Return the memory that a guest can give."""
    least = None if context.no_reclaim else least_kib(guest, context.limits)
    if least is None:
        return NO_OFFER
    most = size - least
    gain, depth = _sweep_of(guest, need, size, most, context)
    cost = guest.cost if guest.cost is not None and guest.cost > 0 else 1.0
    # With goal `safe`, the host keeps memory for all empty memory, and gains from all of it.
    is_known = need.then_is_known and not context.host.backs_bursts
    untouched = max(0.0, need.unused - need.freed) if is_known else 0.0
    # Below the hard watermark, guests that leave headroom empty are trimmed, too, unless their growth is limited.
    is_trimmed = not need.keeps_full and (context.below_hard or not need.leaves_empty)
    trims = _trims_of(guest, need, size, most, untouched, context) if is_trimmed else None
    if trims is None:
        return Offer(sweep=gain, depth=depth, cost=cost) if gain else NO_OFFER
    empty, cache, margin, burst = trims
    backed = min(need.freed, empty) if is_known else empty
    return Offer(
        sweep=gain, depth=depth, backed=backed, unbacked=empty - backed, cache=cache - empty, margin=margin - cache, burst=burst - margin,
        cost=cost, trims=True,
    )  # fmt: skip


def _calm(guest: GuestMemory, most: float) -> float:
    # A guest that waits for its disk gives memory only below the hard watermark.
    return 0.0 if guest.statistics.waits_for_disk else most


def _sweep_of(guest: GuestMemory, need: Need, size: float, most: float, context: LawContext) -> tuple[float, float]:
    # Returns the host's gain and the inflation for that gain. After sweeps that missed memory, the inflation is the same, and the expected
    # gain is smaller. Below the low watermark, sweeps go deeper, and may get that memory.
    missed, calm = 0.0 if context.below_low else guest.sweeps.missed or 0.0, _calm(guest, most)
    least = context.worth(size) + missed
    idle = _sweepable(guest, need, context) if min(need.freed, calm) >= least else 0.0
    if idle < least:
        return 0.0, 0.0
    # Kernels allocate small free blocks first and report large ones: a balloon mostly gets memory that was not reported.
    hollow = 0.0 if guest.sweeps.reporting else guest.habits.hollow or 0.0
    keeps = swept_keeps(guest, max(need.held, need.need), context)
    idle = min(idle, min(context.moves + hollow, calm, size - keeps) - hollow)
    return (idle - missed, idle + hollow) if idle >= least else (0.0, 0.0)


def swept_keeps(guest: GuestMemory, uses: float, context: LawContext) -> float:
    """Return the size that a sweep leaves to a guest that uses so many KiB."""
    keeps = uses + SWEEP_KEEPS_KIB
    if context.below_low or guest.sweeps.autodeflate:
        return keeps
    rate = context.law.growth_rate / BYTES if guest.habits.growth_rate is None else guest.habits.growth_rate
    keeps = max(keeps, uses + rate * context.host.reaction)
    if context.takes_margins or guest.maximum is None:
        return keeps
    # A burst may be one large allocation. Linux refuses it if it exceeds free memory and swap.
    burst = (guest.habits.burst or 0.0) + (guest.habits.kernel_reserved or 0.0)
    return max(keeps, min(burst, SWEEP_LEAST * guest.maximum))


def _sweepable(guest: GuestMemory, need: Need, context: LawContext) -> float:
    age, changed, freed_age = guest.statistics.age, guest.target_age, guest.habits.freed_age
    # Below its hard watermark, the host takes memory from all guests in each cycle. With a rest, no guest would ever be swept.
    rests = changed is not None and changed < SWEEP_REST_SECONDS and not context.below_hard
    if need.growing or guest.sweeps.rest or rests or age is None or age > SWEEP_STATISTICS_SECONDS:
        return 0.0
    if not guest.sweeps.reporting:
        return need.freed
    # With free page reporting, the kernel returns most memory by itself. The remainder is known later.
    if freed_age is not None and freed_age < REPORTING_SETTLES_SECONDS:
        return 0.0
    # While the host has room, leave memory for the next burst: to fault it in again takes time.
    return need.freed if context.below_hard else need.freed - (guest.habits.burst or 0.0)


def _trims_of(
    guest: GuestMemory, need: Need, size: float, most: float, untouched: float, context: LawContext
) -> tuple[float, float, float, float] | None:
    # Returns the KiB taken in one cycle by each means and all means before it: empty memory, page cache, margin, burst.
    worth, floors, empty, part = context.worth(size), need.floors, 0.0, SHRINK_SHARE
    calm = _calm(guest, most)
    # Below the hard watermark, a guest that waits for its disk gives empty memory, not the page cache that it waits for.
    beyond = min(need.usable - floors.headroom, most if context.below_hard else calm)
    if beyond >= worth:
        empty = min(context.moves, beyond, need.unused - SWEEP_KEEPS_KIB)
        empty = empty if empty >= worth else 0.0
    above, most = min(need.usable - floors.margin, calm), min(need.usable - floors.burst, most)
    # A balloon takes untouched memory first. A guest gives all of it, and `part` of the rest.
    sure = (1 - part) * min(empty, untouched)
    cache = max(empty, sure + part * beyond if calm and worth <= beyond > untouched else 0.0)
    margin = max(cache, sure + part * above if above >= worth else 0.0)
    burst = min(context.moves, max(margin, sure + part * most))
    return (empty, min(cache, burst), min(margin, burst), burst) if burst >= STEP_KIB else None
