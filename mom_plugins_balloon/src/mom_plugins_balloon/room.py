"""How much memory the host can get from its guests, and how soon, without any of them falling below what it needs or is promised.

Careful on purpose: what is promised to a launch by this must really come. What a guest keeps is what the law leaves it and what passes the
gate; what is in swap is never promised to anybody, and what is cold only in part.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from mom_core import Guest, Host, Snapshot
from mom_kvm import HealthLimits
from mom_plugins_balloon.ballooned_guests import CONTROL, BalloonedGuests
from mom_plugins_balloon.gate import ShrinkLimits, least_kib, need_kib
from mom_plugins_balloon.law.context import LawContext, context_of
from mom_plugins_balloon.law.need import need_of
from mom_plugins_balloon.law.offer import held_memory, swept_keeps
from mom_plugins_balloon.law.want import ready_memory
from mom_plugins_balloon.memory import GuestMemory, HostMemory
from mom_plugins_balloon.names import OBSTACLE, START_REST
from mom_plugins_balloon.parameters import BALLOON_KIB_PER_SECOND, LawParameters
from mom_plugins_balloon.promises import guaranteed_kib
from mom_plugins_balloon.seen import guest_memories, host_memory
from mom_plugins_balloon.states import HostWanted

COUNTED_SHARE: Final = 0.5
"""Ratio of what a guest was seen to get along without: it may have begun to use some since."""

OLDEST_SECONDS: Final = 600.0
"""s. What a guest got along with longer ago says nothing of now."""

RETURNING_SHARE: Final = 0.1
"""Ratio of guests' memory in the host's swap: what is kept free for them, whatever is reserved, about what comes back in a minute of what
stays away for ten."""

PACE_SHARE: Final = 0.0025
"""Ratio of what guests hold, in a second: a quarter of what is taken at most of a guest that does not feel it."""


class Spare(NamedTuple):
    """What guests can give: KiB in all, of which `sure` can be counted on, and one guest gives `largest` at most. `cold` is what the host
    gains besides when what they hardly touch goes to its swap, at `cold_pace` KiB/s."""

    total: float
    sure: float
    cold: float = 0.0
    cold_pace: float = 0.0
    largest: float = 0.0


def spare_of(records: BalloonedGuests, law: LawParameters, limits: ShrinkLimits, interval: float = 5.0) -> Spare:
    """The host's gain when all its guests give what they can spare."""
    snapshot = records.snapshot
    host = host_memory(snapshot, HostWanted(), interval) or HostMemory(0.0, 0.0, 0.0, 0.0)
    context = context_of(host, law)
    total = sure = cold = holders = largest = 0.0
    not_asked = law.step / 1024 / law.shrink_share  # who can spare less is not asked: its share is less than the smallest step
    for guest, numbers in zip(snapshot.guests.values(), guest_memories(snapshot, expecting=law.rise_share > 0), strict=True):
        gives, rest = _spare_kib(guest, numbers, context, records, limits)
        total += gives
        sure += max(0.0, gives - max(not_asked, rest))
        largest = max(largest, gives)
        beyond = counted_kib(guest) - gives  # what the balloon would take of the same counts once
        if beyond > 0:
            cold += beyond
            holders += guest.number("rss") or 0.0
    back = interval * sum(kib for kib in snapshot.numbers("offload_refaults") if kib is not None)
    return Spare(total, sure, gained_kib(cold, snapshot.host, back), PACE_SHARE * holders, largest)


def _spare_kib(
    guest: Guest, numbers: GuestMemory, context: LawContext, records: BalloonedGuests, limits: ShrinkLimits
) -> tuple[float, float]:
    """The host's gain when this guest gives what it can spare, in KiB: 0 when it must not be shrunk, or cannot be counted on. And how much
    of that is left in the end, as it is not worth a trim.

    Memory that the guest has never touched is no gain, whatever its size: with the size at the floor, its process holds about the floor.
    """
    memory = records.known(guest, guaranteed_kib(guest.fields))
    if (
        memory is None
        or memory.size is None
        or memory.statistics.usable is None
        or guest.why_blocked(CONTROL)
        or guest.text(OBSTACLE)
        or guest.number(START_REST)
    ):
        return 0.0, 0.0
    if (
        numbers.statistics.major_faults or 0.0
    ) > HealthLimits.MAJOR_FAULTS:  # it waits for its disk: the law takes of it only to save the host
        return 0.0, 0.0
    need, least = need_kib(memory), least_kib(memory, limits)
    if need is None or least is None:
        return 0.0, 0.0
    keeps = max(least, need + max(context.margin_above(need), numbers.habits.stall_floor or 0.0))
    seen = need_of(numbers, memory.size, memory.maximum or memory.size, memory.statistics.usable, context)
    if seen.leaves_empty:  # it is swept, and left its page cache, and what it grows by until that is noticed; others are trimmed
        if numbers.process.backed is None:
            return 0.0, 0.0
        keeps = max(keeps, swept_keeps(numbers, seen, max(need, held_memory(numbers, seen)[1]), context))
        keeps += _not_swept(numbers, held_memory(numbers, seen)[2], memory.size, context)
    process = numbers.process
    holds = memory.size if process.rss is None else min(memory.size, process.rss - (process.qemu_overhead or 0.0))
    gives = max(0.0, holds - keeps - ready_memory(numbers, context))  # what it had used and freed, and is about to use again, is left to it
    return gives, 0.0 if seen.leaves_empty else _not_trimmed(memory.size - gives, context)


def _not_swept(guest: GuestMemory, freed: float, size: float, context: LawContext) -> float:
    """Return what no sweep gets of freed memory: what sweeps have missed, and a rest that is not worth one."""
    missed = guest.sweeps.missed or 0.0
    rest = max(0.0, freed - missed) % context.moves
    return missed + (rest if rest < context.worth(size) else 0.0)


def _not_trimmed(size: float, context: LawContext) -> float:
    """Return what no trim takes of a guest that could go down to this size: a rest that is not worth one by its size then."""
    return context.worth(size + context.worth(size))


def counted_kib(guest: Guest) -> float:
    """The part of a guest that can be counted on to go to swap, in KiB: 0 where what it works on is unknown, or was learnt long ago."""
    held, working_set, age = (guest.number(name) for name in ("rss", "working_set", "working_set_age"))
    if held is None or working_set is None or age is None or age > OLDEST_SECONDS:
        return 0.0
    return COUNTED_SHARE * max(0.0, held - working_set)


def gained_kib(kib: float, host: Host, back: float = 0.0) -> float:
    """The host's gain when so much goes to swap: no more than its swap takes, less what that takes compressed; 0 while one of the two
    is unknown.

    :param back: KiB that come back from there within a cycle: they leave room, and take it again when they go, which gains nothing
    """
    room, ratio = host.number("offload_room"), host.number("offload_ratio")
    if room is None or ratio is None or ratio <= 1:
        return 0.0
    return max(0.0, min(kib, room) - back) * (1 - 1 / ratio)


def returning_kib(snapshot: Snapshot) -> float:
    """The memory that is kept for guests that want back what is in the host's swap of them."""
    return RETURNING_SHARE * sum(kib for kib in snapshot.numbers("host_swap") if kib is not None)


def seconds_to_free(wanted_kib: float, spare: Spare, cycle_seconds: float, law: LawParameters) -> float | None:
    """How long guests take to give so much. None when they do not have it.

    In each cycle all give the same share of what they can spare still, so that nearly all of it takes longer than half of it; and no guest
    gives faster than its balloon moves.
    """
    if wanted_kib <= 0:
        return 0.0
    by_balloons = min(wanted_kib, spare.total)
    cold = wanted_kib - by_balloons
    if cold > spare.cold:
        return None
    seconds = cold / spare.cold_pace + cycle_seconds if cold else 0.0
    if by_balloons > 0:
        left = max(1.0, spare.total - by_balloons) / max(1.0, spare.total)
        steps = math.ceil(math.log(left, 1 - law.shrink_share)) if law.shrink_share < 1 else 1
        # A cycle more: the last step must have moved before the host's figures show it.
        moving = by_balloons / spare.total * spare.largest / BALLOON_KIB_PER_SECOND
        seconds = max(seconds, (max(1, steps) + 1) * cycle_seconds, moving + cycle_seconds)
    return seconds
