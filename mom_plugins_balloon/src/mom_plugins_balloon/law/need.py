"""Need of a guest: memory in use that it could give up only by swapping. Above it, the guest keeps a margin, and headroom for a burst."""

from __future__ import annotations

from typing import NamedTuple

from mom_plugins_balloon.law.context import LawContext
from mom_plugins_balloon.memory import GuestMemory, size_then


class Floors(NamedTuple):
    """Usable memory that a guest keeps, in KiB. Page cache, margins and headroom each have a floor, at which mom stops taking."""

    stall: float
    """With less, the guest has stalled, or its kernel has killed programs. 0 if neither happened."""
    killed: float
    """With less, the guest's kernel has killed programs, so it grows at once. 0 below the hard watermark: other guests would pay."""
    headroom: float
    """Target headroom: floor for taking page cache."""
    tight: float
    """Floor while the host is above its hard watermark: one burst, and the stall floor."""
    margin: float
    """Floor for taking margins: `tight`, or less for a launch."""
    least: float
    """Floor for taking headroom for bursts: part of the margin, or memory kept after the guest ran out or its kernel killed programs."""


class Need(NamedTuple):
    """Need and headroom of one guest, in KiB."""

    need: float
    usable: float
    """Memory above the need, now or in the next cycles."""
    margin: float
    burst: float
    """Usable memory that the next burst would take; may be more than `usable`."""
    floors: Floors
    used: float
    size_then: float
    """Size when the statistics were made; the present size if that is unknown."""
    then_is_known: bool
    full: float
    """Size up to which the guest grows at no cost to the host."""
    leaves_empty: bool
    """Whether the guest keeps its full size and is only swept: it leaves headroom empty, so that headroom costs the host nothing, or the
    goal is `truthful`. Other guests fill headroom with page cache."""
    growing: bool


def need_of(guest: GuestMemory, maximum: float, reported: float, context: LawContext) -> Need:
    """Return a guest's need.

    :param reported: usable memory according to its statistics
    """
    total, peak, step = guest.statistics.total, guest.habits.peak, context.step
    used = to_peak = 0.0
    if peak is not None and total is not None:
        used = total - reported
        to_peak = peak - used if peak > used else 0.0
    usable = reported if guest.statistics.usable_soon is None else _usable_soon(guest, reported, to_peak, step)
    burst = to_peak - (reported - usable) if to_peak > reported - usable else 0.0
    then, then_is_known = size_then(guest), total is not None and guest.habits.kernel_reserved is not None
    need = then - usable if then > usable else 0.0
    margin = context.margin_above(need)
    floors = _floors(guest, margin, None if peak is None or total is None else burst, context)
    cached = guest.habits.cache_share
    fills_nothing = then_is_known and cached is not None and not context.host.backs_bursts and cached <= context.p.fills
    leaves_empty = fills_nothing or context.host.keeps_sizes
    full = maximum if leaves_empty else min(maximum, need + floors.tight)
    growing = usable + step < reported or guest.habits.recent_growth > step
    return Need(
        need=need, usable=usable, margin=margin, burst=burst, floors=floors, used=used, size_then=then, then_is_known=then_is_known,
        full=full, leaves_empty=leaves_empty, growing=growing,
    )  # fmt: skip


def is_settled(guest: GuestMemory) -> bool:
    """Return whether the statistics are newer than the last resize."""
    age, changed = guest.statistics.age, guest.target_age
    return changed is None or age is None or age <= changed


def _floors(guest: GuestMemory, margin: float, burst: float | None, context: LawContext) -> Floors:
    p, habits = context.p, guest.habits
    stall, killed, taken = habits.stall_floor or 0.0, habits.kill_floor or 0.0, burst or 0.0
    in_burst = margin + context.margin_share * taken  # margin of the need in a burst
    tight = max(stall, margin if burst is None else burst + p.tight_margin * in_burst)
    least = max(p.least * margin, habits.kept_headroom or 0.0, 0.0 if context.below_low else killed)
    # A launch may take more of the margin, but never memory below the stall floor.
    for_launch = min(max(margin, stall), tight)
    return Floors(
        stall=stall,
        killed=0.0 if context.below_hard else killed,
        headroom=max(p.target_headroom * margin, taken + margin + context.margin_share * taken, stall),
        tight=tight,
        margin=max(tight if context.host.reserved <= 0 else for_launch, least),
        least=least,
    )


def _usable_soon(guest: GuestMemory, reported: float, to_peak: float, step: float) -> float:
    soon = guest.statistics.usable_soon
    if soon is None:
        return reported
    return min(reported, max(soon, reported - to_peak) if to_peak > step else soon)
