"""What a snapshot says, as the numbers that the law takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mom_core import Snapshot
from mom_plugins_balloon.law import LawGuest, LawHost, SizeSuggestion, decide
from mom_plugins_balloon.limits import ShrinkLimits, most_kib
from mom_plugins_balloon.names import GROUP_ROOM, STOPPED_BELOW, SWEPT_NOW
from mom_plugins_balloon.parameters import LawParameters
from mom_plugins_balloon.reasons import ReasonCode
from mom_plugins_balloon.states import HostWanted, StateGoal

_FIELDS: Final = (
    "balloon_cur", "balloon_max", "mem_usable", "stats_age", "mem_available", "mem_unused", "mem_usable_soon", "kernel_reserved",
    "mem_used_peak", "mem_used_before", "mem_stall_floor", "mem_cache_share", "rss", "rss_before", "qemu_overhead", "host_swap",
    "balloon_target", "balloon_target_age", "swap_in", "swap_out", "major_fault", "reclaim_cost", "mem_growth_rate",
    "balloon_autodeflate", "sweep_rest", "mem_burst", "balloon_reporting", "mem_freed_age", "mem_hollow", SWEPT_NOW,
)  # fmt: skip
"""Of guests, in the order of `LawGuest`, up to its guarantee."""


def suggestions(
    snapshot: Snapshot, law: LawParameters, wanted: HostWanted, limits: ShrinkLimits, *, interval: float
) -> Sequence[SizeSuggestion]:
    """The law's suggestions for all guests, in their order.

    :param wanted: what the operator wants of the host
    :param limits: what the operator allows
    :param interval: seconds between cycles
    """
    host = law_host(snapshot, wanted, interval)
    if host is None:
        return [SizeSuggestion(None, ReasonCode.HOST_UNKNOWN)] * len(snapshot.guests)
    return decide(host, law_guests(snapshot), law, limits)


def law_host(snapshot: Snapshot, wanted: HostWanted, interval: float) -> LawHost | None:
    """The host, as far as it is known; None where the least that the law needs is not."""
    host = snapshot.host
    total, available = host.number("mem_available"), host.number("mem_really_available")
    high, hard, low = (host.number(name) for name in ("mem_watermark_high", "mem_watermark_hard", "mem_watermark_low"))
    if total is not None and (high is None or hard is None or low is None):  # in the first cycle, before guests were seen
        high, hard, low = wanted.reserve(total, stopped_below=host.number(STOPPED_BELOW) or 0.0)
    if available is None or high is None or hard is None or low is None:
        return None
    known = LawHost(
        available, high, min(high, hard), min(high, hard, low), host.number("mem_reserved") or 0.0, host.number("offload_net") or 0.0,
        interval, wanted.goal is StateGoal.SAFE,
    )  # fmt: skip
    reaction = host.number("balloon_reaction")
    return known if reaction is None else known._replace(reaction=reaction)


def law_guests(snapshot: Snapshot) -> Sequence[LawGuest]:
    """All guests, as far as they are known, in their order."""
    promises = [snapshot.numbers(name) for name in ("balloon_min", "guest_guarantee")]
    guarantees = [max(own or 0.0, all_of_it or 0.0) for own, all_of_it in zip(*promises, strict=True)]
    columns = [snapshot.numbers(name) for name in _FIELDS]
    room = snapshot.numbers(GROUP_ROOM)
    if any(kib is not None for kib in room):  # as of few guests
        size, maximum, rss, beside = (columns[_FIELDS.index(name)] for name in ("balloon_cur", "balloon_max", "rss", "qemu_overhead"))
        columns[_FIELDS.index("balloon_max")] = list(map(most_kib, maximum, size, room, rss, beside))
    return list(map(LawGuest._make, zip(*columns, guarantees, snapshot.column("balloon_obstacle"), strict=True)))
