"""What a snapshot says, as the numbers that the law takes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final, NamedTuple, TypeAlias

from mom_core import Snapshot
from mom_plugins_balloon import names
from mom_plugins_balloon.law import LawGuest, LawHost, SizeSuggestion, ahead_of, decide
from mom_plugins_balloon.limits import ShrinkLimits, most_kib
from mom_plugins_balloon.parameters import LawParameters
from mom_plugins_balloon.reasons import ReasonCode
from mom_plugins_balloon.states import HostWanted, StateGoal

_Number: TypeAlias = float | None
"""None: unknown."""

_FIELDS: Final = (
    "balloon_cur", "balloon_max", "mem_usable", "stats_age", "mem_available", "mem_unused", "mem_usable_soon", "kernel_reserved",
    "mem_used_peak", "mem_used_before", "mem_stall_floor", "mem_cache_share", "rss", "rss_before", "qemu_overhead", "host_swap",
    "balloon_target", "balloon_target_age", "swap_in", "swap_out", "major_fault", "reclaim_cost", "mem_growth_rate",
    "balloon_autodeflate", "sweep_rest", "mem_burst", "balloon_reporting", "mem_freed_age", "mem_hollow",
    "sweep_missed", names.SWEPT_NOW, names.START_REST,
)  # fmt: skip
"""Of guests, in the order of `LawGuest`, up to its guarantee."""


class Suggested(NamedTuple):
    """The law's suggestions for all guests, in their order; what the host is to have besides, as guests are expected to take it, in KiB."""

    sizes: Sequence[SizeSuggestion]
    ahead: float = 0.0


def suggestions(snapshot: Snapshot, law: LawParameters, wanted: HostWanted, limits: ShrinkLimits, *, interval: float) -> Suggested:
    """The law's suggestions.

    :param wanted: what the operator wants of the host
    :param limits: what the operator allows
    :param interval: seconds between cycles
    """
    host, guests = law_host(snapshot, wanted, interval), law_guests(snapshot, expecting=law.rise_share > 0)
    if host is None:
        return Suggested([SizeSuggestion(None, ReasonCode.HOST_UNKNOWN)] * len(guests))
    ahead = ahead_of(host, guests, snapshot.host.number(names.RISE) or 0.0, law)
    return Suggested(decide(host._replace(ahead=ahead), guests, law, limits), ahead)


def law_host(snapshot: Snapshot, wanted: HostWanted, interval: float) -> LawHost | None:
    """The host, as far as it is known; None where the least that the law needs is not."""
    host = snapshot.host
    total, available = host.number("mem_available"), host.number("mem_really_available")
    high, hard, low = (host.number(name) for name in ("mem_watermark_high", "mem_watermark_hard", "mem_watermark_low"))
    if total is not None and (high is None or hard is None or low is None):  # in the first cycle, before guests were seen
        high, hard, low = wanted.reserve(total, stopped_below=host.number(names.STOPPED_BELOW) or 0.0)
    if available is None or high is None or hard is None or low is None:
        return None
    known = LawHost(
        available, high, min(high, hard), min(high, hard, low), host.number("mem_reserved") or 0.0, host.number("offload_net") or 0.0,
        interval, wanted.goal is StateGoal.SAFE, cycle=snapshot.number,
    )  # fmt: skip
    reaction = host.number("balloon_reaction")
    return known if reaction is None else known._replace(reaction=reaction)


def law_guests(snapshot: Snapshot, *, expecting: bool = True) -> Sequence[LawGuest]:
    """All guests, as far as they are known, in their order.

    :param expecting: with what is expected of them
    """
    promises = [[kib or 0.0 for kib in snapshot.numbers(name)] for name in ("balloon_min", "guest_guarantee")]
    guarantees = map(max, *promises)
    columns = [snapshot.numbers(name) for name in _FIELDS]
    room = snapshot.numbers(names.GROUP_ROOM)
    if any(kib is not None for kib in room):  # as of few guests
        size, maximum, rss, beside = (columns[_FIELDS.index(name)] for name in ("balloon_cur", "balloon_max", "rss", "qemu_overhead"))
        columns[_FIELDS.index("balloon_max")] = list(map(most_kib, maximum, size, room, rss, beside))
    obstacles, rises = snapshot.column("balloon_obstacle"), _rises(snapshot) if expecting else [None] * len(snapshot.guests)
    others = (guarantees, obstacles, rises, snapshot.numbers(names.LEAST))
    return list(map(partial(tuple.__new__, LawGuest), zip(*columns, *others, strict=True)))


def _rises(snapshot: Snapshot) -> Sequence[float | None]:
    """What each guest is expected to use more before long, as `LawGuest.rises`."""
    soon = snapshot.numbers(names.EXPECTED_SOON)
    if soon.count(None) == len(soon):
        return soon
    told = (names.EXPECTED, names.RISES_IN, names.WEIGHT, "mem_available", "balloon_cur", "mem_usable")
    return list(map(rise_kib, soon, *map(snapshot.numbers, told)))


def rise_kib(
    soon: _Number, expected: _Number, rises_in: _Number, weight: _Number, total: _Number, size: _Number, usable: _Number
) -> float | None:
    """What a guest is expected to use more before long, in KiB, by so much as its forecast counts. 0: nothing; None: that is unknown.

    :param soon: the most that it is expected to use before long
    :param expected: what it usually uses at this time; None: nothing is expected of it
    :param rises_in: seconds until it begins to use more; None: it does not
    :param weight: how much its forecast counts, from 0 to 1
    :param total: what its kernel has in all; where its balloon deflates by itself, what that holds is in it
    :param usable: how much of that is usable
    """
    if expected is None or soon is None or total is None or size is None or usable is None:
        return None
    if rises_in is None:
        return 0.0
    more = soon + usable - (total if total < size else size)  # without `min` and `max`, in half of the time
    return 0.0 if more <= 0 else more if weight is None else more * weight
