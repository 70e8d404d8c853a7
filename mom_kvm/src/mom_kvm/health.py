"""Criteria for an unhealthy guest (docs/guests.md), and for stale readings. An unknown value never counts as zero."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from mom_core import MomError, PluginContext, Snapshot, Value, as_number

_STALE_PERIODS: Final = 3
_LEAST_STALE_SECONDS: Final = 10.0
"""Readings are stale if older than three periods, but never before 10 s."""


def stale_seconds(period: float) -> float:
    """Return the age in seconds above which readings are stale, if there is a reading every `period` seconds."""
    return max(_LEAST_STALE_SECONDS, _STALE_PERIODS * period)


def seen_lately(snapshot: Snapshot | None, context: PluginContext, lost: str) -> Snapshot:
    """Return `snapshot`. Raise `MomError` if it is None or too old.

    :param lost: consequence for the error message, such as `nothing can be said`
    """
    if snapshot is None:
        raise MomError("mom has not looked at the host yet", hint="ask again in a moment")
    age = context.monotonic() - snapshot.monotonic
    if age > stale_seconds(context.interval):
        raise MomError(f"mom has not looked at the host for {age:.0f} s: {lost}", hint="see `mom status`")
    return snapshot


class HealthLimits:
    """Limits beyond which a guest is unhealthy."""

    SHORT_KIB: Final = 32 * 1024
    """A guest with less usable memory is unhealthy. By default, the balloon plugin leaves each guest at least this amount (`reserve`)."""

    SHORT_SHARE: Final = 0.025
    """Like `SHORT_KIB`, but as a fraction of the guest's size. The larger limit applies."""

    SWAP_KIB: Final = 256.0
    """KiB/s of swap traffic. A guest that reads more is unhealthy, and mom never shrinks a guest that reads or writes more. On an SSD, 64
    pages per second cost a program about 1 % of its time."""

    MAJOR_FAULTS: Final = 200.0
    """Major faults per second. A guest with more is unhealthy: its page cache is too small."""

    PRESSURE_PERCENT: Final = 10.0
    """Percentage of time in which some tasks wait for memory. A guest above it is unhealthy. systemd-oomd acts at 60 % (of all tasks)."""

    TAKEN_KIB: Final = 8 << 10
    """mom ignores shortages of a guest from which it has reclaimed less than this: returning so little would not help."""

    BROKEN_KIB: Final = 1024
    """How far a guest may be below its promise before the promise counts as broken. Balloons move in pages, some of 2 MiB."""

    @classmethod
    def breaks(cls, size_kib: float, promised_kib: float) -> bool:
        """Return whether this size is below the promise by more than `BROKEN_KIB`."""
        return size_kib < promised_kib - cls.BROKEN_KIB

    @staticmethod
    def reasons(snapshot: Snapshot) -> Sequence[str | None]:
        """Return why each guest is unhealthy, in the snapshot's order: empty if it is healthy, None if unknown."""
        return [_unhealthy_reason(figures) for figures in zip(*map(snapshot.numbers, _TOLD), strict=True)]


_STALE_SECONDS: Final = 15.0
"""Older statistics count as unknown."""

_PRESSURES: Final = ("guest_psi_memory_some_avg10", "host_psi_memory_some_avg10")


def field_number(fields: Mapping[str, Value], name: str, unknown: float = 0.0) -> float:
    """Return a field's number, or `unknown`."""
    number = as_number(fields.get(name))
    return unknown if number is None else float(number)


def pages_kib(fields: Mapping[str, Value], name: str, unknown: float = 0.0) -> float:
    """Convert a field's number of pages to KiB. Return `unknown` without a number."""
    product = field_number(fields, name, math.nan) * field_number(fields, "page_size", math.nan)
    return unknown if math.isnan(product) else product


_TOLD: Final = ("balloon_cur", "mem_usable", "stats_age", "swap_in", "major_fault", *_PRESSURES, "guest_guarantee")


def _unhealthy_reason(figures: Sequence[float | None]) -> str | None:
    size, usable, age, swap_in, faults, guest_pressure, host_pressure, guarantee = figures
    if size is None or usable is None or age is None or age > _STALE_SECONDS:
        return None
    if usable < HealthLimits.SHORT_KIB or usable < HealthLimits.SHORT_SHARE * size:
        return "short of memory"
    if swap_in and swap_in > HealthLimits.SWAP_KIB:
        return "swapping"
    if faults and faults > HealthLimits.MAJOR_FAULTS:
        return "waiting for disk"
    if max(guest_pressure or 0.0, host_pressure or 0.0) > HealthLimits.PRESSURE_PERCENT:
        return "waiting for memory"
    return "below guarantee" if guarantee and HealthLimits.breaks(size, guarantee) else ""
