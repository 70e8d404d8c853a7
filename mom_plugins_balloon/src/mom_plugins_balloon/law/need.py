"""Memory that a guest needs, and memory that it should keep.

A guest needs the memory that it holds and could not give up without swapping. Above that it keeps a margin, for programs that want memory
before mom looks again, and headroom for a burst like its largest lately.
"""

from __future__ import annotations

from typing import NamedTuple

from mom_plugins_balloon.law.context import LawContext
from mom_plugins_balloon.memory import GuestMemory, size_then


class Floors(NamedTuple):
    """Usable memory that one guest keeps, in KiB. `_floors` is the only place that sets it."""

    stall: float
    """With less, it was seen to stall, or its kernel to kill programs; 0: neither."""
    headroom: float
    """Page cache is taken down to this: its target headroom."""
    tight: float
    """It has this at least while the host is above its hard watermark: for its burst, and where it was seen to stall."""
    margin: float
    """Margins are taken down to this: `tight`, or less for a launch."""
    least: float
    """Headroom for bursts is taken down to this: a part of its margin, the headroom that it got when it ran out lately, or more than the
    memory with which its kernel killed programs."""


class Need(NamedTuple):
    """Need of one guest, and the memory that it should have."""

    need: float
    """Memory that it holds and could not give up without swapping."""
    usable: float
    """Memory above that, now or before long."""
    margin: float
    burst: float
    """Memory that a burst like its largest would take of `usable` and beyond."""
    floors: Floors
    used: float
    """Memory that its kernel and programs use."""
    size_then: float
    """Its size when its statistics were made, or its present size."""
    then_is_known: bool
    full: float
    """Size that it gets without any cost to the host."""
    leaves_empty: bool
    """It leaves unneeded memory empty, so headroom is free; other guests fill it with page cache."""
    growing: bool


def need_of(guest: GuestMemory, maximum: float, reported: float, context: LawContext) -> Need:
    """Return the need of a guest.

    :param reported: usable memory by its statistics
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
    leaves_empty = then_is_known and cached is not None and not context.host.backs_bursts and cached <= context.p.fills
    full = maximum if leaves_empty else min(maximum, need + floors.tight)
    growing = usable + step < reported or guest.habits.recent_growth > step
    return Need(
        need=need,
        usable=usable,
        margin=margin,
        burst=burst,
        floors=floors,
        used=used,
        size_then=then,
        then_is_known=then_is_known,
        full=full,
        leaves_empty=leaves_empty,
        growing=growing,
    )


def is_settled(guest: GuestMemory) -> bool:
    """Return whether the guest's statistics are from after its last change."""
    age, changed = guest.statistics.age, guest.target_age
    return changed is None or age is None or age <= changed


def _floors(guest: GuestMemory, margin: float, burst: float | None, context: LawContext) -> Floors:
    """Return the memory that a guest keeps.

    :param burst: None: its past is unknown
    """
    p, habits = context.p, guest.habits
    stall, taken = habits.stall_floor or 0.0, burst or 0.0
    in_burst = margin + context.margin_share * taken  # the margin of its need in a burst
    tight = max(stall, margin if burst is None else burst + p.tight_margin * in_burst)
    least = max(p.least * margin, habits.kept_headroom or 0.0, habits.kill_floor or 0.0)
    # A launch may have more of the margin, but no memory that the guest stalled without.
    for_launch = min(max(margin, stall), tight)
    return Floors(
        stall=stall,
        headroom=max(p.target_headroom * margin, taken + margin + context.margin_share * taken, stall),
        tight=tight,
        margin=max(tight if context.host.reserved <= 0 else for_launch, least),
        least=least,
    )


def _usable_soon(guest: GuestMemory, reported: float, to_peak: float, step: float) -> float:
    """Return the memory that will be usable before long. A forecast does not go beyond the guest's peak."""
    soon = guest.statistics.usable_soon
    if soon is None:
        return reported
    return min(reported, max(soon, reported - to_peak) if to_peak > step else soon)
