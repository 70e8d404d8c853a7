"""When a guest fares badly, and what it needs: one definition for the trial of policies, replay, simulations, pictures, advice and the
demonstration. docs/guests.md states it. What is unknown stays apart from what is nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from mom_core import Guest, Snapshot, Value, as_number

GUARANTEE: Final = "guest_guarantee"
"""Field with the guarantee that holds for a guest now."""

# --- when a guest is unhealthy --------------------------------------------------------------------------------------------------------


class HealthLimits:
    """Beyond these, a guest is unhealthy."""

    SHORT_KIB: Final = 32 * 1024
    """With less usable, a guest is short of memory: the balloon plugin leaves so much at least to any guest that it shrinks."""

    SHORT_SHARE: Final = 0.025
    """The same as a share of its size; the larger of the two counts."""

    SWAP_IN_KIB: Final = 256.0
    """KiB/s from its own swap from which on a guest lacks memory: 64 pages a second are more than strays, and about 1 % of the time of a
    program that waits for an SSD. Such a guest gives nothing, whoever decides; it grows as far as the host has memory; and mom looks again
    at once when that begins."""

    MAJOR_FAULTS: Final = 200.0
    """Faults a second that wait for its disks, from which on its page cache is too small: it grows, too."""

    PRESSURE_PERCENT: Final = 10.0
    """Of time that some tasks wait for memory: systemd-oomd begins to act at 60 % of all tasks, senpai keeps guests below 0.1 %."""

    BROKEN_KIB: Final = 1024
    """KiB of tolerance below a promise: balloons move in pages, in some guests of 2 MiB."""

    @classmethod
    def breaks(cls, size_kib: float, promised_kib: float) -> bool:
        """Tell whether a guest of this size has less than a promise says."""
        return size_kib < promised_kib - cls.BROKEN_KIB


STALE_SECONDS: Final = 15.0
"""Older statistics tell nothing."""

_PRESSURES: Final = ("guest_psi_memory_some_avg10", "host_psi_memory_some_avg10")


def field_number(fields: Mapping[str, Value], name: str, unknown: float = 0.0) -> float:
    """Return a field as a number, or `unknown` if it is not a number."""
    number = as_number(fields.get(name))
    return unknown if number is None else float(number)


def pages_kib(fields: Mapping[str, Value], name: str, unknown: float = 0.0) -> float:
    """Return a field of the host that counts pages, in KiB; `unknown` where it, or the size of the host's pages, is none."""
    product = field_number(fields, name, math.nan) * field_number(fields, "page_size", math.nan)
    return unknown if math.isnan(product) else product


def taken_from(guest: Guest) -> float:
    """Return how much smaller the guest is than it was sold, in KiB; 0 where that is unknown."""
    return max(0.0, field_number(guest.fields, "balloon_max", math.nan) - field_number(guest.fields, "balloon_cur", math.nan))


def need_of(guest: Guest) -> tuple[float | None, str]:
    """Return the size in KiB below which a guest is harmed, and why: its guarantee, or its working set. None: unknown.

    A guest that is smaller than its need already is not harmed by staying so.
    """
    guaranteed = guest.number(GUARANTEE)
    size = field_number(guest.fields, "balloon_cur", math.nan)
    used = size - field_number(guest.fields, "mem_usable", math.nan)
    best = guaranteed if guaranteed is None or math.isnan(size) else min(guaranteed, size)
    if not math.isnan(used) and (best is None or used > best):
        return used, "uses"
    return best, "is guaranteed"


def unhealthy_reasons(snapshot: Snapshot) -> Sequence[str | None]:
    """Return why each guest is unhealthy, in the order of `snapshot.guests`: empty if it is well, None if its state is unknown."""
    return [_unhealthy_reason(figures) for figures in zip(*map(snapshot.numbers, _TOLD), strict=True)]


_TOLD: Final = ("balloon_cur", "mem_usable", "stats_age", "swap_in", "major_fault", *_PRESSURES, GUARANTEE)


def _unhealthy_reason(figures: Sequence[float | None]) -> str | None:
    size, usable, age, swap_in, faults, guest_pressure, host_pressure, guarantee = figures
    if size is None or usable is None or age is None or age > STALE_SECONDS:
        return None
    if usable < HealthLimits.SHORT_KIB or usable < HealthLimits.SHORT_SHARE * size:
        return "short of memory"
    if swap_in and swap_in > HealthLimits.SWAP_IN_KIB:
        return "swapping"
    if faults and faults > HealthLimits.MAJOR_FAULTS:
        return "waiting for disk"
    if max(guest_pressure or 0.0, host_pressure or 0.0) > HealthLimits.PRESSURE_PERCENT:
        return "waiting for memory"
    return "below guarantee" if guarantee and HealthLimits.breaks(size, guarantee) else ""
