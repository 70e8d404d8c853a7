"""Guests for tests of the balloon law, and functions that call the law."""

from collections.abc import Mapping, Sequence
from typing import Any

from mom_core import Value
from mom_core.testing import snapshot
from mom_plugins_balloon.gate import ShrinkLimits
from mom_plugins_balloon.law.share import SizeSuggestion
from mom_plugins_balloon.parameters import LawParameters
from mom_plugins_balloon.seen import suggestions
from mom_plugins_balloon.states import HostWanted, StateGoal

MIB = 1024
GIB = 1024 * MIB
LIMITS = ShrinkLimits(32 * MIB, 0.05, 15.0)
"""Limits of a plugin without settings, in cycles of 5 s."""

KNOWN = (
    "balloon_min", "guest_guarantee", "mem_unused", "mem_available", "kernel_reserved", "mem_used_peak", "mem_used_before",
    "mem_stall_floor", "mem_cache_share", "rss", "rss_before", "qemu_overhead", "balloon_target", "balloon_target_age",
    "balloon_obstacle", "reclaim_cost", "host_swap", "mem_kept_headroom",
)  # fmt: skip

Fields = Mapping[str, Value]


def a_guest(size: float = 2 * GIB, need: float = 512 * MIB, **more: Value) -> dict[str, Value]:
    """Return a healthy guest of at most 2 GiB, without learned habits."""
    fields: dict[str, Value] = dict.fromkeys(KNOWN)
    fields |= {
        "balloon_cur": int(size), "balloon_max": 2 * GIB, "mem_usable": int(size - need), "stats_age": 1.0, "swap_in": 0, "major_fault": 0,
    }  # fmt: skip
    return fields | more


HIDDEN, BESIDE = 50 * MIB, 60 * MIB


def a_known_guest(
    size: float = 2 * GIB, need: float = 512 * MIB, *, peak: float = 1024 * MIB, idle: float = 0, cache: float = 0, **more: Value
) -> dict[str, Value]:
    """Return a guest with learned habits: it needs `peak` in bursts, has freed `idle`, and `cache` of its usable memory is page cache."""
    usable = size - need
    unused = usable - cache
    fields: dict[str, Value] = {
        "mem_available": int(size - HIDDEN), "mem_unused": int(unused), "kernel_reserved": HIDDEN, "mem_used_peak": int(peak - HIDDEN),
        "mem_used_before": int(need - HIDDEN), "mem_cache_share": cache / usable if usable else 0.0,
        "rss": int(BESIDE + need + cache + idle), "rss_before": int(BESIDE + need + cache + idle), "qemu_overhead": BESIDE,
    }  # fmt: skip
    return a_guest(size, need) | fields | more


LAW = LawParameters()


def law_on(
    host: Fields,
    guests: Mapping[str, Fields],
    law: LawParameters = LAW,
    *,
    goal: Value = "balanced",
    limits: ShrinkLimits = LIMITS,
    interval: float = 5.0,
) -> tuple[Sequence[SizeSuggestion], float]:
    """Return what the law suggests for guests, in the order of their names, and the KiB to keep available for their growth."""
    return suggestions(snapshot(host=host, guests=guests), law, HostWanted(StateGoal(str(goal))), limits, interval=interval)


def sizes_on(host: Fields, guests: Mapping[str, Fields], *args: Any, **more: Any) -> dict[str, SizeSuggestion]:
    """Return the suggestions of `law_on` by guest."""
    return dict(zip(sorted(guests), law_on(host, guests, *args, **more)[0], strict=True))
