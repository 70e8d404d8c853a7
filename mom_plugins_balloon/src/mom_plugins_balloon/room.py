"""Reservation.Room for reservations: memory that the host has, and that guests can give above their need, margin and guarantee.

Memory in swap does not count, and cold memory counts in part.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

from mom_core import Guest, Host, Snapshot, format_duration, format_kib
from mom_kvm import Reservation
from mom_plugins_balloon.ballooned_guests import BalloonedGuests
from mom_plugins_balloon.gate import ShrinkLimits, least_kib, need_kib
from mom_plugins_balloon.law.need import LawContext, context_of, need_of
from mom_plugins_balloon.law.offer import swept_keeps
from mom_plugins_balloon.law.want import ready_memory
from mom_plugins_balloon.memory import GuestMemory, HostMemory
from mom_plugins_balloon.names import OBSTACLE, STOPPED_BELOW
from mom_plugins_balloon.parameters import BALLOON_KIB_PER_SECOND, SHRINK_SHARE, STEP_KIB, LawParameters
from mom_plugins_balloon.promises import guaranteed_kib
from mom_plugins_balloon.seen import host_memory
from mom_plugins_balloon.states import HostWanted, hard_kib

COUNTED_SHARE: Final = 0.5
"""Ratio of a guest's cold memory that counts. The guest may use some of it again."""

OLDEST_SECONDS: Final = 600.0
"""A working set older than this does not count."""

RETURNING_SHARE: Final = 0.1
"""Fraction of guests' swapped memory for which the host keeps memory free."""

PACE_SHARE: Final = 0.0025
"""Fraction of guests' memory that can go to swap per second: a quarter of the largest pace without stalls."""


class Spare(NamedTuple):
    """Memory that guests can give, in KiB."""

    total: float
    sure: float
    """Part of `total` that is certain."""
    cold: float = 0.0
    """Additional gain from cold memory that goes to swap."""
    cold_pace: float = 0.0
    """Speed at which `cold` goes to swap, in KiB/s."""
    largest: float = 0.0
    """Largest part of `total` from one guest."""


def spare_of(records: BalloonedGuests, law: LawParameters, limits: ShrinkLimits, interval: float = 5.0) -> Spare:
    """Return the host's gain from all guests' spare memory."""
    described = records.described
    snapshot = described.snapshot
    host = host_memory(snapshot, HostWanted(), interval) or HostMemory(0.0, 0.0, 0.0, 0.0)
    context = context_of(host, law, limits)
    total = sure = cold = holders = largest = 0.0
    for guest, memory in zip(snapshot.guests.values(), described.memories.values(), strict=True):
        gives = _spare_kib(guest, memory, context)
        total += gives
        sure += max(0.0, gives - max(STEP_KIB / SHRINK_SHARE, context.worth(memory.size or 0.0)))  # so little is not worth a command
        largest = max(largest, gives)
        beyond = _counted_kib(guest) - gives  # memory that a balloon takes counts only once
        if beyond > 0:
            cold += beyond
            holders += guest.number("rss") or 0.0
    back = interval * sum(kib for kib in snapshot.numbers("offload_refaults") if kib is not None)
    return Spare(total, sure, _gained_kib(cold, snapshot.host, back), PACE_SHARE * holders, largest)


def _spare_kib(guest: Guest, memory: GuestMemory, context: LawContext) -> float:
    least = least_kib(memory._replace(target_age=None), context.limits)  # a guest still counts between its resize and its next statistics
    size, usable, need = memory.size, memory.statistics.usable, need_kib(memory)
    if size is None or usable is None or need is None or least is None:
        return 0.0
    if memory.statistics.waits_for_disk or memory.start_rest or guest.text(OBSTACLE):
        return 0.0
    by_law = need_of(memory, memory.maximum or size, usable, context)
    keeps = max(least, need + max(context.margin_above(need), by_law.floors.stall))
    process = memory.process
    if by_law.leaves_empty:  # swept: the guest keeps its page cache and the memory that it may take meanwhile
        if memory.backed is None:
            return 0.0
        keeps = max(keeps, swept_keeps(memory, max(by_law.need, need, by_law.held), context)) + (memory.sweeps.missed or 0.0)
    holds = size if process.rss is None else min(size, process.rss - (memory.habits.qemu_overhead or 0.0))
    return max(0.0, holds - keeps - ready_memory(memory, context))


def _counted_kib(guest: Guest) -> float:
    held, working_set, age = (guest.number(name) for name in ("rss", "working_set", "working_set_age"))
    if held is None or working_set is None or age is None or age > OLDEST_SECONDS:
        return 0.0
    return COUNTED_SHARE * max(0.0, held - working_set)


def _gained_kib(kib: float, host: Host, back: float = 0.0) -> float:
    room, ratio = host.number("offload_room"), host.number("offload_ratio")
    if room is None or ratio is None or ratio <= 1:
        return 0.0
    return max(0.0, min(kib, room) - back) * (1 - 1 / ratio)


def seconds_to_free(wanted_kib: float, spare: Spare, cycle_seconds: float) -> float | None:
    """Return the seconds that guests need to give this much memory; None if they cannot."""
    if wanted_kib <= 0:
        return 0.0
    by_balloons = min(wanted_kib, spare.total)
    cold = wanted_kib - by_balloons
    if cold > spare.cold:
        return None
    seconds = cold / spare.cold_pace + cycle_seconds if cold else 0.0
    if by_balloons > 0:
        left = max(1.0, spare.total - by_balloons) / max(1.0, spare.total)
        steps = math.ceil(math.log(left, 1 - SHRINK_SHARE))
        # One more cycle, because the host's figures show the last step a cycle later.
        moving = by_balloons / spare.total * spare.largest / BALLOON_KIB_PER_SECOND
        seconds = max(seconds, (max(1, steps) + 1) * cycle_seconds, moving + cycle_seconds)
    return seconds


def room_of(snapshot: Snapshot, last_with_guests: Snapshot, spare: Spare, host_keeps_kib: float | None, **more: Any) -> Reservation.Room:
    """Return the host's room for reservations.

    :param last_with_guests: last snapshot with guests; guests run on while the hypervisor does not answer
    :param host_keeps_kib: None for the larger of `hard_kib` and the guests' largest growth
    """
    host = snapshot.host
    if host_keeps_kib is None:
        host_keeps_kib = max(hard_kib(host.number("mem_available") or 0.0), host.number("mem_growth_peak") or 0.0)
    guests = last_with_guests.guests.values()
    return Reservation.Room(
        available_kib=int(host.number("mem_really_available") or 0),
        host_keeps_kib=math.ceil(host_keeps_kib + (host.number(STOPPED_BELOW) or 0.0)),
        can_free_kib=int(spare.sure),
        can_offload_kib=int(spare.cold),
        guaranteed_kib=int(sum(guaranteed_kib(guest.fields) or 0.0 for guest in guests)),
        returning_kib=math.ceil(RETURNING_SHARE * sum(kib or 0.0 for kib in last_with_guests.numbers("host_swap"))),
        **more,
    )


def too_large(memory_kib: int, room: Reservation.Room) -> Reservation.Refused:
    """Return the refusal of a reservation that exceeds the room."""
    why = f" ({room.why})" if room.why else ""
    parts = [f"{format_kib(room.available_kib)} are available", f"guests can release {format_kib(room.can_free_kib)}{why}"]
    if room.can_offload_kib:
        parts.append(f"{format_kib(room.can_offload_kib)} of cold memory can go to swap")
    if room.returning_kib:
        parts.append(f"{format_kib(room.returning_kib)} are kept for guests' swap-in")
    if room.rise:
        parts.append(room.rise)
    parts += [f"the host keeps {format_kib(room.host_keeps_kib)}", f"{format_kib(room.reserved_kib)} are reserved already"]
    message = f"cannot reserve {format_kib(memory_kib)}: at most {format_kib(room.most_kib)} can be reserved"
    return Reservation.Refused(message, room=room, hint=", ".join(parts))


def too_late(memory_kib: int, seconds: float, expected: float | None, room: Reservation.Room) -> Reservation.Refused:
    """Return the refusal of a reservation whose memory would come too late."""
    when = "at an unknown time" if expected is None else f"in about {expected:.0f} s"
    message = f"cannot reserve {format_kib(memory_kib)}: it would be available {when}, after the deadline in {format_duration(seconds)}"
    return Reservation.Refused(message, room=room, hint=f"{format_kib(room.free_kib)} can be reserved now; for more, set a later deadline")
