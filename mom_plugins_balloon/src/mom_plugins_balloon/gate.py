"""Gate: checks every decision on a guest's size, from any plugin. A restore of the original size is limited in `resizer.py`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from mom_core import Value, format_kib
from mom_kvm import HealthLimits
from mom_plugins_balloon.memory import GuestMemory, guaranteed_size, newer_by, size_then

MINIMUM_KIB = 1024
"""No guest runs in 1 MiB: so small a target is an error in a policy."""


@dataclass(frozen=True, slots=True)
class ShrinkLimits:
    """Operator's limits for every shrink."""

    reserve_kib: float
    """Memory that a guest keeps above its need."""
    reserve_share: float
    """Reserve as a ratio of the need. It applies if larger than `reserve_kib`."""
    stale_after: float
    """Maximum age of statistics in seconds."""


class Limit(Enum):
    """Reason not to permit a wanted size."""

    ORIGIN_UNKNOWN = "{origin_unknown}"
    MAXIMUM = "above {maximum}: the guest's maximum, or as much as its cgroup's memory limit permits"
    MAXIMUM_UNKNOWN = "the guest's maximum is unknown"
    GUARANTEE = "below the guarantee of {guarantee}"
    REACH = "below {least}, the smallest size that the guest's balloon can reach: a balloon cannot take memory of virtio-mem devices"
    NEED = "the guest needs {floor}, including a reserve"
    NOTHING_TO_SPARE = "the guest has nothing to spare: it needs {floor}, including a reserve"
    PAUSED = "{pause}"
    UNSETTLED = "mom has resized the guest since its last statistics, so its spare memory is not known yet"
    HELD = "{held}"
    UNKNOWN = "the guest's usable memory, or the age of its statistics, is unknown"
    STALE = "the guest's statistics are {age:.0f} s old"
    SWAPS = "the guest swaps {swapping}/s: it lacks memory"

    def words(self, guest: GuestMemory, limits: ShrinkLimits) -> str:
        """Return this limit in words, with the guest's sizes."""
        sizes = {
            "maximum": guest.maximum, "guarantee": _guarantee(guest), "least": guest.reach, "floor": floor_kib(guest, limits),
            "swapping": guest.statistics.swapping,
        }  # fmt: skip
        words = {"origin_unknown": guest.origin_unknown, "pause": guest.pause, "held": guest.obstacle}
        return self.value.format(**{name: format_kib(kib or 0.0) for name, kib in sizes.items()}, **words, age=guest.statistics.age or 0.0)


class GateResult(NamedTuple):
    """Permitted size in KiB (None: no change), and the limit that the wanted size violates. `stops`: whether a running shrink must stop."""

    size: int | None
    limit: Limit | None = None
    stops: bool = False
    reason: str = ""
    """`limit` in words; empty if the wanted size passes."""


def gate(wanted: int, guest: GuestMemory, limits: ShrinkLimits) -> GateResult:
    """Return the permitted size for a guest of known size that should get `wanted` KiB.

    A guest grows at most to its maximum. It shrinks only with recent statistics, not below its guarantee, its balloon's reach, or its
    floor. If a running shrink must stop, the result is the present size.
    """
    guarantee, current, maximum = _guarantee(guest), guest.size or 0.0, guest.maximum
    size, limit = wanted, None
    if guest.origin_unknown:
        return GateResult(None, Limit.ORIGIN_UNKNOWN)
    if maximum is None and wanted > current and wanted > guarantee:
        return GateResult(None, Limit.MAXIMUM_UNKNOWN)
    if maximum is not None and wanted > maximum:
        size, limit = math.floor(maximum), Limit.MAXIMUM
    if size < guarantee:
        size, limit = guarantee, Limit.GUARANTEE
    if guest.reach is not None and size < min(guest.reach, current):
        size, limit = math.ceil(min(guest.reach, current)), Limit.REACH
    if size >= current:
        return GateResult(size, limit)
    if guest.pause:
        return GateResult(None, Limit.PAUSED)
    if newer_by(guest) <= 0:
        return GateResult(None, Limit.UNSETTLED)
    floor, never = floor_kib(guest, limits), never_shrunk(guest, limits)
    if never is None and floor is not None:
        if size >= floor:
            return GateResult(size, limit)
        if floor < current:
            return GateResult(floor, Limit.NEED)
        never = Limit.NOTHING_TO_SPARE
    limit = never
    if guest.on_its_way and guest.target is not None and guest.target < current:
        return GateResult(max(math.ceil(current), guarantee), limit, stops=True)
    return GateResult(None, limit)


def permitted(target: Value, guest: GuestMemory, limits: ShrinkLimits) -> GateResult:
    """Check a value of any type as `gate` does, and return the reason in words."""
    if type(target) is not int and (isinstance(target, bool) or not isinstance(target, int | float) or not math.isfinite(target)):
        return GateResult(None, reason=f"{target!r:.40} is not a valid size")
    if target <= MINIMUM_KIB:
        return GateResult(None, reason=f"{target:g} KiB is not a valid size for a guest")
    passed = gate(int(target), guest, limits)
    why = "" if passed.limit is None else passed.limit.words(guest, limits)
    return passed._replace(reason=f"{why}; the shrink in progress is stopped" if passed.stops else why)


def never_shrunk(guest: GuestMemory, limits: ShrinkLimits) -> Limit | None:
    """Return why this guest must not shrink at all now; None if it may."""
    statistics = guest.statistics
    if guest.obstacle:
        return Limit.HELD
    if statistics.usable is None or statistics.age is None:
        return Limit.UNKNOWN
    if statistics.age > limits.stale_after:
        return Limit.STALE
    return Limit.SWAPS if statistics.swapping > HealthLimits.SWAP_KIB else None


def floor_kib(guest: GuestMemory, limits: ShrinkLimits) -> int | None:
    """Return the sum of need and reserve in KiB; None if the need is unknown."""
    need = need_kib(guest)
    return None if need is None else math.ceil(need + max(limits.reserve_kib, limits.reserve_share * need))


def need_kib(guest: GuestMemory) -> float | None:
    """Return the KiB that a guest could give up only by swapping; None if unknown."""
    usable, then = guest.statistics.usable, size_then(guest)
    if usable is None:
        return None
    return then - usable if then > usable else 0.0


def least_kib(guest: GuestMemory, limits: ShrinkLimits) -> int | None:
    """Return the smallest permitted size in KiB; None if the guest must not shrink."""
    passed = gate(MINIMUM_KIB + 1, guest, limits)
    return None if passed.stops or passed.size is None or passed.size >= (guest.size or 0.0) else passed.size


def most_kib(maximum: float | None, size: float | None, room: float | None, rss: float | None, qemu_overhead: float | None) -> float | None:
    """Return a guest's largest size in KiB: its maximum, or less due to its control group's limit. None if unknown.

    :param room: KiB that the control group can still take; None without a limit
    """
    if maximum is None or size is None or room is None or rss is None:
        return maximum
    return min(maximum, max(size, float(math.floor(rss + room - (qemu_overhead or 0.0)))))


def _guarantee(guest: GuestMemory) -> int:
    return math.ceil(guaranteed_size(guest))
