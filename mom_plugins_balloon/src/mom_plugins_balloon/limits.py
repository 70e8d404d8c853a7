"""What a guest's size may become, whatever plugin decided it: numbers in, a number and a reason out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from mom_core import Value, format_kib
from mom_toolkit import SWAP_IN_KIB

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
    `overhead` is what it never counts: its own code, its page tables. `largest` is the largest size that the guest has had since then.
    `pending` is the size that was asked for and that the guest has not reached yet. `swapping` is in KiB/s, in or out, whichever is
    more; `statistics_age` in seconds. `obstacle` says why the guest is not to be shrunk whatever it reports; empty: nothing is in the way.
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


class SafeSize(NamedTuple):
    """The size in KiB that is safe (None: leave the guest alone), and why it is not the one that was wanted (empty: it is)."""

    target: int | None
    reason: str


def need_kib(memory: KnownMemory) -> float | None:
    """What the guest holds and could not give up without swapping, in KiB: never less than the truth. None when it does not tell.

    It is the guest's size at the time of its statistics, less what was usable then. That size is not known, as a balloon moves between
    two statistics, but two numbers are never below it: the largest size since, and what the guest's kernel had in all plus
    its overhead. (A balloon with deflate-on-oom is not taken off the kernel's total, which makes that sum too large, and so safe.)
    """
    size, usable, largest, total, overhead = memory.current, memory.usable, memory.largest, memory.total, memory.overhead
    if usable is None:
        return None
    if largest is not None and largest > size:
        size = largest
    if total is not None and overhead is not None and total + overhead < size:
        size = total + overhead
    return size - usable if size > usable else 0.0


def floor_kib(memory: KnownMemory, limits: ShrinkLimits) -> int | None:
    """The size in KiB below which this guest must not be shrunk: its need and the reserve. None when its need is unknown."""
    need = need_kib(memory)
    return None if need is None else math.ceil(need + max(limits.reserve_kib, limits.reserve_share * need))


def why_not_shrink(memory: KnownMemory, limits: ShrinkLimits) -> str:
    """Why this guest must not be shrunk at all now; empty when it may be."""
    if memory.obstacle:
        return memory.obstacle
    if memory.usable is None:
        return "what the guest could spare is unknown"
    if memory.statistics_age is None:
        return "the age of the guest's statistics is unknown"
    if memory.statistics_age > limits.stale_after:
        return f"the guest's statistics are {memory.statistics_age:.0f} s old"
    if memory.swapping > SWAP_IN_KIB:
        return f"the guest swaps {format_kib(memory.swapping)}/s: it lacks memory"
    return ""


def permitted(target: Value, memory: KnownMemory, limits: ShrinkLimits) -> SafeSize:
    """The size that this guest may be set to when `target` KiB are wanted.

    Growing is allowed up to the maximum. Shrinking ends at the guarantee and at the floor, and needs statistics to believe in. Where it
    is not allowed while an earlier shrink is still under way, the guest is kept at the size that it has now, as doing nothing would let
    that shrink go on.
    """
    if type(target) is not int and (isinstance(target, bool) or not isinstance(target, int | float) or not math.isfinite(target)):
        return SafeSize(None, f"{target!r:.40} is no size")
    if target <= MINIMUM_KIB:
        return SafeSize(None, f"{target:g} KiB is no size for a guest")
    value, reason = int(target), ""
    guarantee = _guaranteed(memory)
    if memory.maximum is not None:
        if value > memory.maximum:
            value, reason = int(memory.maximum), f"above the guest's maximum of {format_kib(memory.maximum)}"
    elif value > max(memory.current, guarantee):
        return SafeSize(None, "the guest's maximum is unknown")
    if value < guarantee:
        value, reason = guarantee, f"below the guarantee of {format_kib(guarantee)}"
    if value >= memory.current:
        return SafeSize(value, reason)
    return _shrunk(value, reason, memory, limits)


def _guaranteed(memory: KnownMemory) -> int:
    if memory.guarantee is None:
        return 0
    guarantee = memory.guarantee if memory.maximum is None else min(memory.guarantee, memory.maximum)
    return math.ceil(guarantee)


def _shrunk(value: int, reason: str, memory: KnownMemory, limits: ShrinkLimits) -> SafeSize:
    """The verdict on a size below the present one."""
    obstacle = why_not_shrink(memory, limits)
    floor = floor_kib(memory, limits)
    if not obstacle and floor is not None:
        if value >= floor:
            return SafeSize(value, reason)
        if floor < memory.current:
            return SafeSize(floor, f"the guest needs {format_kib(floor)} with its reserve")
        obstacle = f"the guest has nothing to spare: it needs {format_kib(floor)} with its reserve"
    if memory.pending is not None and memory.pending < memory.current:
        return SafeSize(max(math.ceil(memory.current), _guaranteed(memory)), f"{obstacle}; the shrink under way is stopped")
    return SafeSize(None, obstacle)
