"""What a guest's size may become, whatever plugin decided it: numbers in, a number and a reason out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from mom_core import Value, format_kib
from mom_toolkit import HealthLimits

MINIMUM_KIB = 1024
"""KiB. No guest lives in 1 MiB: a target this small is a mistake in a policy, never a wish."""


@dataclass(frozen=True, slots=True)
class ShrinkLimits:
    """What the operator allows: a guest keeps `reserve_kib`, or `reserve_share` of its need if that is more, above its need.

    `stale_after` is the age in seconds from which on a guest's statistics are not believed.
    """

    reserve_kib: float
    reserve_share: float
    stale_after: float


class KnownMemory(NamedTuple):
    """What is known of one guest's memory. Sizes in KiB, None: unknown.

    `usable` and `total` are what the guest's kernel could make available, and has in all, both when the statistics were taken;
    `overhead` is what it never counts: its own code, its page tables. `largest` is the largest size that the guest has had since then, as
    far as it was seen. `reserved` is what `total` lacked of the size when both stood still; None: its kernel counts what its balloon has
    taken, too (Windows; Linux with autodeflate), or it is not known yet.
    `maximum` is no more than its control group allows, where that says less than the guest's own: then it is `held_by_group`.
    `pending` is the size that was asked for and that the guest has not reached yet. `swapping` is in KiB/s, in or out, whichever is
    more; `statistics_age` in seconds. `obstacle` says why the guest is not to be shrunk whatever it reports; empty: nothing is in the way.
    `least` is what its balloon can bring it to at least; None: it reaches all of its memory.
    """

    current: float
    maximum: float | None = None
    guarantee: float | None = None
    usable: float | None = None
    statistics_age: float | None = None
    swapping: float = 0.0
    total: float | None = None
    overhead: float | None = None
    largest: float | None = None
    pending: float | None = None
    obstacle: str = ""
    held_by_group: bool = False
    reserved: float | None = None
    least: float | None = None


def most_kib(maximum: float | None, size: float | None, room: float | None, rss: float | None, beside: float | None) -> float | None:
    """The most that a guest can have, in KiB: its maximum, or what the limit of its control group leaves. Never less than it has: a limit
    takes nothing from it here. None: unknown.

    A guest that touches all of its memory takes its size, and what QEMU takes beside. Where its group cannot hold that, the kernel kills
    the guest, whatever the host has.

    :param room: KiB that its group can still take; None: there is no limit
    :param rss: KiB that its process holds
    :param beside: KiB of these that are QEMU's own; None: not known yet, and taken for nothing
    """
    if maximum is None or size is None or room is None or rss is None:
        return maximum
    return min(maximum, max(size, float(math.floor(rss + room - (beside or 0.0)))))


class SafeSize(NamedTuple):
    """The size in KiB that is safe (None: leave the guest alone), and why it is not the one that was wanted (empty: it is)."""

    target: int | None
    reason: str


def need_kib(memory: KnownMemory) -> float | None:
    """What the guest holds and could not give up without swapping, in KiB: never less than the truth. None when it does not tell.

    It is the guest's size at the time of its statistics, less what was usable then. That size is not known, as a balloon moves between
    two statistics, but two numbers are never below it: the largest size since, and what the guest's kernel had in all plus
    its overhead. (A balloon with deflate-on-oom is not taken off the kernel's total, which makes that sum too large, and so safe.) As
    libvirt tells sizes up to a second late, it is no less than what the kernel had in all and what it is known to reserve.
    """
    size, usable, largest, total, overhead = memory.current, memory.usable, memory.largest, memory.total, memory.overhead
    if usable is None:
        return None
    if largest is not None and largest > size:
        size = largest
    if total is not None and overhead is not None and total + overhead < size:
        size = total + overhead
    if total is not None and memory.reserved is not None and total + memory.reserved > size:
        size = total + memory.reserved
    return size - usable if size > usable else 0.0


def floor_kib(memory: KnownMemory, limits: ShrinkLimits) -> int | None:
    """The size in KiB below which this guest must not be shrunk: its need and the reserve. None when its need is unknown."""
    need = need_kib(memory)
    return None if need is None else math.ceil(need + max(limits.reserve_kib, limits.reserve_share * need))


class Limit(Enum):
    """Why a guest may not have the size that is wanted; the last five: why it must not be shrunk at all now."""

    MAXIMUM = "above the guest's maximum of {maximum}"
    GROUP = "above the {maximum} that the memory limit of the guest's control group has room for"
    MAXIMUM_UNKNOWN = "the guest's maximum is unknown"
    GUARANTEE = "below the guarantee of {guarantee}"
    REACH = "below the {least} to which the guest's balloon can bring it: virtio-mem's memory is out of its reach"
    NEED = "the guest needs {floor} with its reserve"
    NOTHING_TO_SPARE = "the guest has nothing to spare: it needs {floor} with its reserve"
    HELD = "{held}"
    USABLE_UNKNOWN = "what the guest could spare is unknown"
    AGE_UNKNOWN = "the age of the guest's statistics is unknown"
    STALE = "the guest's statistics are {age:.0f} s old"
    SWAPS = "the guest swaps {swapping}/s: it lacks memory"

    def words(self, memory: KnownMemory, limits: ShrinkLimits) -> str:
        """The same with the figures of a guest."""
        return self.value.format(
            maximum=format_kib(memory.maximum or 0.0),
            guarantee=format_kib(_guaranteed(memory)),
            least=format_kib(memory.least or 0.0),
            floor=format_kib(floor_kib(memory, limits) or 0),
            held=memory.obstacle,
            age=memory.statistics_age or 0.0,
            swapping=format_kib(memory.swapping),
        )


def never_shrunk(memory: KnownMemory, limits: ShrinkLimits) -> Limit | None:
    """Why this guest must not be shrunk at all now; None when it may be."""
    if memory.obstacle:
        return Limit.HELD
    if memory.usable is None:
        return Limit.USABLE_UNKNOWN
    if memory.statistics_age is None:
        return Limit.AGE_UNKNOWN
    if memory.statistics_age > limits.stale_after:
        return Limit.STALE
    return Limit.SWAPS if memory.swapping > HealthLimits.SWAP_IN_KIB else None


def permitted(target: Value, memory: KnownMemory, limits: ShrinkLimits) -> SafeSize:
    """The size that this guest may be set to when `target` KiB are wanted, as `gate` says, and why in words."""
    if type(target) is not int and (isinstance(target, bool) or not isinstance(target, int | float) or not math.isfinite(target)):
        return SafeSize(None, f"{target!r:.40} is no size")
    if target <= MINIMUM_KIB:
        return SafeSize(None, f"{target:g} KiB is no size for a guest")
    passed = gate(int(target), memory, limits)
    why = "" if passed.limit is None else passed.limit.words(memory, limits)
    return SafeSize(passed.size, f"{why}; the shrink under way is stopped" if passed.stops else why)


class Passed(NamedTuple):
    """The size in KiB that passes the gate (None: leave the guest alone), what was in the way of the wanted one (None: nothing), and
    whether a shrink that is under way is stopped by it."""

    size: int | None
    limit: Limit | None = None
    stops: bool = False


def gate(wanted: int, memory: KnownMemory, limits: ShrinkLimits) -> Passed:
    """The size that may be asked of a guest when `wanted` KiB are: the one function that everything passes which resizes a guest.

    Growing is allowed up to the maximum. Shrinking ends at the guarantee, at what the balloon reaches, and at the floor, and needs
    statistics to believe in. Where it is not allowed while an earlier shrink is still under way, the guest is kept at the size that it has
    now, as doing nothing would let that shrink go on.
    """
    guarantee = _guaranteed(memory)
    current, maximum = memory.current, memory.maximum
    size, limit = wanted, None
    if maximum is None and wanted > current and wanted > guarantee:
        return Passed(None, Limit.MAXIMUM_UNKNOWN)
    if maximum is not None and wanted > maximum:
        size, limit = math.floor(maximum), Limit.GROUP if memory.held_by_group else Limit.MAXIMUM
    if size < guarantee:
        size, limit = guarantee, Limit.GUARANTEE
    if memory.least is not None and size < memory.least and size < current:
        size, limit = math.ceil(min(memory.least, current)), Limit.REACH
    if size >= current:
        return Passed(size, limit)
    floor, never = floor_kib(memory, limits), never_shrunk(memory, limits)
    if never is None and floor is not None:
        if size >= floor:
            return Passed(size, limit)
        if floor < current:
            return Passed(floor, Limit.NEED)
        never = Limit.NOTHING_TO_SPARE
    limit = never
    if memory.pending is not None and memory.pending < current:
        return Passed(max(math.ceil(current), guarantee), limit, stops=True)
    return Passed(None, limit)


def least_kib(memory: KnownMemory, limits: ShrinkLimits) -> int | None:
    """The smallest size in KiB that this guest may be shrunk to now; None where it must not be."""
    passed = gate(MINIMUM_KIB + 1, memory, limits)
    return None if passed.stops or passed.size is None or passed.size >= memory.current else passed.size


def _guaranteed(memory: KnownMemory) -> int:
    if memory.guarantee is None:
        return 0
    guarantee = memory.guarantee if memory.maximum is None else min(memory.guarantee, memory.maximum)
    return math.ceil(guarantee)
