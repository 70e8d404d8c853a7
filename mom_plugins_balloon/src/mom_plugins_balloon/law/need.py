"""Context of one cycle (host and parameters in KiB), and the need of a guest.

The need is memory in use that a guest could give up only by swapping. Above it, the guest keeps a margin, and headroom for a burst.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from mom_plugins_balloon.gate import ShrinkLimits
from mom_plugins_balloon.memory import GuestMemory, HostMemory, size_then
from mom_plugins_balloon.parameters import BALLOON_KIB_PER_SECOND, STEP_KIB, LawParameters

BYTES: Final = 1024

BURSTS_ABOVE: Final = 1.25
"""Multiple of the hard watermark: with more available memory, guests get their headroom for bursts back."""

TIGHT_MARGIN: Final = 0.6
"""Beyond its burst, a guest keeps this multiple of the margin, unless the host is below its hard watermark."""

LEAST_MARGIN: Final = 0.25
"""A guest always keeps this multiple of the margin."""

CACHE_FILLS: Final = 0.25
"""Ratio of usable memory. A guest with more page cache than this is expected to use new memory as page cache."""

SWEEP_STEP_SHARE: Final = 0.03
"""A sweep is worth this ratio of the guest's size, or `sweep_step` if larger."""


class LawContext(NamedTuple):
    """Host and parameters of the law; sizes in KiB."""

    host: HostMemory
    limits: ShrinkLimits
    law: LawParameters
    margins_below: float
    """Available memory below which mom takes some of the guests' margins."""
    moves: float
    """Memory that a balloon moves in one cycle."""
    below_hard: bool
    takes_margins: bool
    """Whether the host is so short of memory that mom takes part of the margins."""
    below_low: bool
    no_reclaim: bool
    """Whether no guest has to give memory, even if all grow."""

    @property
    def plenty(self) -> float:
        """Available memory above which guests get memory back."""
        return self.law.return_above * self.host.high

    def margin_above(self, need: float) -> float:
        """Return a guest's margin above this need."""
        return self.law.margin / BYTES + self.law.margin_percent / 100 * need

    def worth(self, size: float) -> float:
        """Return the smallest amount that is worth taking from a guest of this size."""
        return max(self.law.sweep_step / BYTES, min(SWEEP_STEP_SHARE * size, 0.5 * self.moves))  # large balloons move a smaller share


def context_of(host: HostMemory, law: LawParameters, limits: ShrinkLimits, *, no_reclaim: bool = False) -> LawContext:
    """Return the context of one cycle."""
    # With a reservation, the limit is the high watermark, because the reserved memory must be available before the launch.
    margins_below = host.high if host.reserved > 0 else max(host.hard, law.tight_below * host.high)
    return LawContext(
        host, limits, law, margins_below, moves=BALLOON_KIB_PER_SECOND * host.interval, below_hard=host.available < host.hard,
        takes_margins=host.available < margins_below, below_low=host.available < host.low, no_reclaim=no_reclaim,
    )  # fmt: skip


def headroom_returns(host: HostMemory) -> bool:
    """Return whether the host has enough memory to return headroom for bursts."""
    return host.available >= BURSTS_ABOVE * host.hard


class Floors(NamedTuple):
    """Usable memory that a guest keeps, in KiB: floors at which mom stops taking page cache, margins and headroom.

    `headroom` is the highest of them, then `tight`, `margin` and `burst`.
    """

    stall: float
    """Usable memory below which the guest stalled before, or its kernel killed programs. 0 if neither happened."""
    killed: float
    """Usable memory below which the guest grows at once, because its kernel killed programs. 0 while the host is below its hard
    watermark."""
    headroom: float
    """Floor for taking page cache: the largest of target headroom, burst plus margin, `stall`, and kept headroom."""
    tight: float
    """Floor while the host is above its hard watermark: one burst plus part of the margin, or `stall` if larger."""
    margin: float
    """Floor for taking margins: `tight`, or less for a launch."""
    burst: float
    """Floor for taking headroom for bursts: part of the margin, or more after the guest ran out of memory or its kernel killed
    programs."""


class Need(NamedTuple):
    """Need and headroom of one guest, in KiB."""

    need: float
    usable: float
    """Usable memory now, or in the next cycles if that is less."""
    margin: float
    burst: float
    """Usable memory that the next burst would take; may be more than `usable`."""
    floors: Floors
    used: float
    unused: float
    held: float
    """Size when the statistics were made, minus `unused`: memory in use, page cache included."""
    freed: float
    """Memory that the guest has freed and the host still backs."""
    then_is_known: bool
    """Whether the size when the statistics were made is known."""
    full: float
    """Size up to which the guest grows at no cost to the host."""
    leaves_empty: bool
    """Whether the guest keeps its full size, and mom only sweeps it. Reason: its headroom stays empty (at no cost to the host), or the goal
    is `truthful`. Other guests fill headroom with page cache."""
    keeps_full: bool
    """Whether the guest keeps its full size even below the low watermark: it leaves headroom empty, and mom limits its growth."""
    growing: bool


def need_of(guest: GuestMemory, maximum: float, reported: float, context: LawContext) -> Need:
    """Return a guest's need.

    :param reported: usable memory according to its statistics
    """
    total, peak, soon, cached = guest.statistics.total, guest.habits.peak, guest.statistics.usable_soon, guest.habits.cache_share
    used, to_peak, usable = 0.0, 0.0, reported
    if peak is not None and total is not None:
        used = total - reported
        to_peak = max(0.0, peak - used)
    if soon is not None:
        usable = min(reported, max(soon, reported - to_peak) if to_peak > STEP_KIB else soon)
    burst = max(0.0, to_peak - (reported - usable))
    then, then_is_known = size_then(guest), total is not None and guest.habits.kernel_reserved is not None
    need = max(0.0, then - usable)
    margin = context.margin_above(need)
    floors = _floors(guest, need, None if peak is None or total is None else burst, context)
    fills_nothing = then_is_known and cached is not None and not context.host.backs_bursts and cached <= CACHE_FILLS
    leaves_empty = fills_nothing or context.host.keeps_sizes
    unused = usable if guest.statistics.unused is None else guest.statistics.unused
    held = then - unused if then_is_known else then
    return Need(
        need=need, usable=usable, margin=margin, burst=burst, floors=floors, used=used, unused=unused, held=held,
        freed=_freed(guest, held) if then_is_known else 0.0, then_is_known=then_is_known,
        full=maximum if leaves_empty else min(maximum, need + floors.tight), leaves_empty=leaves_empty,
        keeps_full=fills_nothing and bool(guest.on_credit), growing=usable + STEP_KIB < reported or guest.recent_growth > STEP_KIB,
    )  # fmt: skip


def _floors(guest: GuestMemory, need: float, burst: float | None, context: LawContext) -> Floors:
    habits, margin, taken = guest.habits, context.margin_above(need), burst or 0.0
    stall, killed, kept = habits.stall_floor or 0.0, habits.kill_floor or 0.0, habits.kept_headroom or 0.0
    in_burst = context.margin_above(need + taken)
    tight = max(stall, margin if burst is None else burst + TIGHT_MARGIN * in_burst)
    least = max(LEAST_MARGIN * margin, kept, 0.0 if context.below_low else killed)
    # A launch may take more of the margin, but never memory below the stall floor.
    for_launch = min(max(margin, stall), tight)
    return Floors(
        stall=stall,
        killed=0.0 if context.below_hard else killed,
        headroom=max(context.law.target_headroom * margin, taken + in_burst, stall, kept),
        tight=tight,
        margin=max(tight if context.host.reserved <= 0 else for_launch, least),
        burst=least,
    )


def _freed(guest: GuestMemory, held: float) -> float:
    # Memory in the host's swap counts as used: a sweep would read it back.
    backed, here = guest.backed, max(0.0, held - (guest.process.host_swap or 0.0))
    return 0.0 if backed is None else max(0.0, backed - here)
