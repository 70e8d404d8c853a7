"""Builders of the records of the host and all guests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from operator import ne
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from mom_core import Guest, Snapshot
from mom_plugins_balloon import names
from mom_plugins_balloon.gate import ShrinkLimits, most_kib
from mom_plugins_balloon.law.reasons import ReasonCode
from mom_plugins_balloon.law.share import SizeSuggestion, ahead_of, decide
from mom_plugins_balloon.memory import FIELDS, PARTS, GuestMemory, HostMemory
from mom_plugins_balloon.names import CONTROL, PINNED
from mom_plugins_balloon.parameters import LawParameters
from mom_plugins_balloon.promises import PromisesKept
from mom_plugins_balloon.remembered import Remembered
from mom_plugins_balloon.sizes import CLOCK_SLACK_SECONDS
from mom_plugins_balloon.states import HostWanted, StateGoal

PROMISE_UNKNOWN: Final = "the guarantee of its service class is not known yet"
NEW: Final = "it has just started, and its programs may still be starting"
GAVE: Final = "it has shrunk since its last statistics, so its spare memory is not known yet"
START_UNKNOWN: Final = "its guarantee is its size at the start, which is not known yet"


class CycleFacts(NamedTuple):
    """Facts of one cycle from other parts of the plugin."""

    promises: PromisesKept | None = None
    """None: the snapshot's fields contain the guarantees."""
    moving: Mapping[str, str] = MappingProxyType({})
    """Why moving guests must not shrink, keyed by guest ID."""
    restores: bool = False
    """Whether mom will restore sizes later, so that it must know the original sizes."""


class DescribedGuests(NamedTuple):
    """Snapshot with the memory of each guest."""

    snapshot: Snapshot
    memories: Mapping[str, GuestMemory]
    """In the snapshot's order, keyed by guest ID."""


def describe(snapshot: Snapshot, pasts: Sequence[Remembered], facts: CycleFacts, new: Sequence[bool]) -> DescribedGuests:
    """Build the memory of all guests of a snapshot.

    :param new: whether each guest has just started
    """
    guests, now, promises = snapshot.listed, snapshot.monotonic, facts.promises
    requests = [past.request for past in pasts]
    made = [now - (age or 0.0) for age in snapshot.numbers("stats_age")]
    columns: dict[str, Sequence[object]] = {
        "on_its_way": [request is not None and not request.arrived for request in requests],
        "largest": [past.most_since(at - CLOCK_SLACK_SECONDS, now) for past, at in zip(pasts, made, strict=True)],
        "obstacle": [
            guest.why_blocked(CONTROL) or obstacle(guest, past, promises) or (NEW if rests and past.has_come else "")
            for guest, past, rests in zip(guests, pasts, new, strict=True)
        ],
        "pause": [
            facts.moving.get(guest.id) or (GAVE if past.gave_by(at) else "") for guest, past, at in zip(guests, pasts, made, strict=True)
        ],
        "origin_unknown": _origin_unknown(snapshot, pasts, facts),
        "target": [kib if request is None else request.target for request, kib in zip(requests, snapshot.numbers(CONTROL), strict=True)],
        "kernel_reserved": [
            kib if past.learned is None or past.learned.usage.kernel.reserved is None else int(past.learned.usage.kernel.reserved)
            for past, kib in zip(pasts, snapshot.numbers("kernel_reserved"), strict=True)
        ],
    }
    if promises is not None:
        columns["guarantee"] = [promises.holds.get(guest.id, 0.0) for guest in guests]
    return DescribedGuests(snapshot, dict(zip([guest.id for guest in guests], guest_memories(snapshot, columns), strict=True)))


def _origin_unknown(snapshot: Snapshot, pasts: Sequence[Remembered], facts: CycleFacts) -> Sequence[str]:
    numbers = map(snapshot.numbers, ("balloon_cur", "balloon_max"))
    return [
        START_UNKNOWN
        if facts.promises is not None and guest.id in facts.promises.start_unknown
        else past.why_origin_unknown(size, maximum, snapshot.monotonic)
        if facts.restores
        else ""
        for guest, past, size, maximum in zip(snapshot.listed, pasts, *numbers, strict=True)
    ]


def obstacle(guest: Guest, past: Remembered, promises: PromisesKept | None) -> str:
    """Return why mom must not shrink a resizable guest; empty if mom may."""
    pinned = guest.properties.get(PINNED)
    if isinstance(pinned, str) and pinned:
        return pinned
    return PROMISE_UNKNOWN if promises is not None and guest.id in promises.unheard else past.cooperation.why_aside


_Column: TypeAlias = Sequence[float | None]
_Record = TypeVar("_Record")


class Suggested(NamedTuple):
    """The law's suggestions for all guests, in order."""

    sizes: Sequence[SizeSuggestion]
    ahead: float = 0.0
    """KiB to keep available for guests' expected growth."""


def suggestions(
    snapshot: Snapshot,
    law: LawParameters,
    wanted: HostWanted,
    limits: ShrinkLimits,
    *,
    interval: float,
    guests: Sequence[GuestMemory] | None = None,
) -> Suggested:
    """Return the law's suggestions.

    :param guests: memory of the guests, in order; None: built from the snapshot alone
    """
    host, guests = host_memory(snapshot, wanted, interval), guest_memories(snapshot) if guests is None else guests
    if host is None:
        return Suggested([SizeSuggestion(None, ReasonCode.HOST_UNKNOWN)] * len(guests))
    ahead = ahead_of(host, guests, snapshot.host.number(names.RISE) or 0.0, law, limits)
    return Suggested(decide(host._replace(ahead=ahead), guests, law, limits), ahead)


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
    size, own_maximum, rss = numbers["size"], snapshot.numbers("balloon_max"), numbers["rss"]
    maximum, room = own_maximum, snapshot.numbers(names.GROUP_ROOM)
    if any(kib is not None for kib in room):  # true for few guests
        maximum = [*map(most_kib, own_maximum, size, room, rss, numbers["qemu_overhead"])]
    if snapshot.host.number("swap_usage") == 0:  # then an unreported swap is 0
        numbers["host_swap"] = [kib or 0.0 for kib in numbers["host_swap"]]
    promises = [[kib or 0.0 for kib in snapshot.numbers(name)] for name in ("balloon_min", "guest_guarantee")]
    columns: dict[str, Iterable[object]] = {
        **numbers,
        "maximum": maximum,
        "limited_by_group": map(ne, maximum, own_maximum),
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
