"""Builders of the records of the host and all guests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from types import MappingProxyType
from typing import Any, TypeAlias, TypeVar

from mom_core import Snapshot
from mom_plugins_balloon import names
from mom_plugins_balloon.gate import ShrinkLimits, most_kib
from mom_plugins_balloon.law.reasons import ReasonCode
from mom_plugins_balloon.law.share import SizeSuggestion, ahead_of, decide
from mom_plugins_balloon.memory import FIELDS, PARTS, GuestMemory, HostMemory
from mom_plugins_balloon.parameters import LawParameters
from mom_plugins_balloon.states import HostWanted, StateGoal

_Column: TypeAlias = Sequence[float | None]
_Record = TypeVar("_Record")


def suggestions(
    snapshot: Snapshot,
    law: LawParameters,
    wanted: HostWanted,
    limits: ShrinkLimits,
    *,
    interval: float,
    guests: Sequence[GuestMemory] | None = None,
) -> tuple[Sequence[SizeSuggestion], float]:
    """Return the law's suggestions for all guests, in order, and the KiB to keep available for guests' expected growth.

    :param guests: memory of the guests, in order; None: built from the snapshot alone
    """
    host, guests = host_memory(snapshot, wanted, interval), guest_memories(snapshot) if guests is None else guests
    if host is None:
        return [SizeSuggestion(None, ReasonCode.HOST_UNKNOWN)] * len(guests), 0.0
    ahead = ahead_of(host, guests, snapshot.host.number(names.RISE) or 0.0, law, limits)
    return decide(host._replace(ahead=ahead), guests, law, limits), ahead


def host_memory(snapshot: Snapshot, wanted: HostWanted, interval: float) -> HostMemory | None:
    """Return the host's memory; None if a required figure is unknown."""
    host = snapshot.host
    total, available = host.number("mem_available"), host.number("mem_really_available")
    high, hard, low = (host.number(name) for name in ("mem_watermark_high", "mem_watermark_hard", "mem_watermark_low"))
    if total is not None and (high is None or hard is None or low is None):  # in the first cycle
        high, hard, low = wanted.reserve(total, stopped_below=host.number(names.STOPPED_BELOW) or 0.0)
    if available is None or high is None or hard is None or low is None:
        return None
    memory = HostMemory(
        available, high, hard=min(high, hard), low=min(high, hard, low), reserved=host.number("mem_reserved") or 0.0,
        cold=host.number("offload_net") or 0.0, interval=interval, backs_bursts=wanted.goal is StateGoal.SAFE,
        keeps_sizes=wanted.goal is StateGoal.TRUTHFUL,
    )  # fmt: skip
    reaction = host.number("balloon_reaction")
    return memory if reaction is None else memory._replace(reaction=reaction)


def guest_memories(snapshot: Snapshot, remembered: Mapping[str, Iterable[object]] = MappingProxyType({})) -> Sequence[GuestMemory]:
    """Return the memory of all guests, in order.

    :param remembered: columns from the plugin itself, keyed by attribute; other attributes come from the snapshot's fields
    """
    numbers = {name: snapshot.numbers(field) for name, field in FIELDS.items()}
    maximum, room = snapshot.numbers("balloon_max"), snapshot.numbers(names.GROUP_ROOM)
    if any(kib is not None for kib in room):  # true for few guests
        maximum = [*map(most_kib, maximum, numbers["size"], room, numbers["rss"], numbers["qemu_overhead"])]
    if snapshot.host.number("swap_usage") == 0:  # then an unreported swap is 0
        numbers["host_swap"] = [kib or 0.0 for kib in numbers["host_swap"]]
    promises = [[kib or 0.0 for kib in snapshot.numbers(name)] for name in ("balloon_min", "guest_guarantee")]
    columns: dict[str, Iterable[object]] = {
        **numbers,
        "maximum": maximum,
        "guarantee": map(max, *promises),
        "obstacle": [str(why) if why else "" for why in snapshot.column(names.OBSTACLE)],
        "rise": _rises(snapshot),
        **remembered,
    }
    return [*_records(GuestMemory, {**columns, **{part: _records(record, columns) for part, record in PARTS.items()}})]


def _records(record: Any, columns: Mapping[str, Iterable[object]]) -> Iterator[_Record]:
    defaults = record._field_defaults
    return map(record, *[columns[name] if name in columns else repeat(defaults[name]) for name in record._fields])


def _rises(snapshot: Snapshot) -> _Column:
    soon = snapshot.numbers(names.EXPECTED_SOON)
    if soon.count(None) == len(soon):
        return soon
    total, size, usable = (snapshot.numbers(name) for name in ("mem_available", "balloon_cur", "mem_usable"))
    forecast = map(snapshot.numbers, (names.EXPECTED, names.RISES_IN, names.WEIGHT))
    return [*map(_expected_rise, soon, map(used_kib, total, size, usable), *forecast)]


def used_kib(total: float | None, size: float | None, usable: float | None) -> float | None:
    """Return the memory that a guest uses, in KiB. With autodeflate, the kernel's total includes the balloon."""
    if total is None or size is None or usable is None:
        return None
    return (total if total < size else size) - usable  # twice as fast as with `min`


def _expected_rise(
    soon: float | None, used: float | None, expected: float | None, rises_in: float | None, weight: float | None
) -> float | None:
    if expected is None or soon is None or used is None:
        return None
    more = 0.0 if rises_in is None else soon - used
    return 0.0 if more <= 0 else more if weight is None else more * weight
