"""The record `GuestMemory` of each guest in one cycle, from its snapshot and its past."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from types import MappingProxyType
from typing import Final, NamedTuple

from mom_core import Guest, Snapshot
from mom_plugins_balloon.memory import GuestMemory
from mom_plugins_balloon.names import CONTROL, PINNED
from mom_plugins_balloon.remembered import Remembered
from mom_plugins_balloon.seen import guest_memories
from mom_plugins_balloon.sizes import CLOCK_SLACK_SECONDS

PROMISE_UNKNOWN: Final = "what its class promises is not known yet"
NEW: Final = "it was started a moment ago, and its programs may not have begun yet"
GAVE: Final = "the guest has given by these very statistics: what it can spare now is not known yet"
START_UNKNOWN: Final = "what the guest was started with is promised to it, and not known yet"


class CycleFacts(NamedTuple):
    """Facts of one cycle that other parts of the plugin know of guests, by guest id."""

    holds: Mapping[str, float] | None = None
    """KiB of the promises that hold; None: the fields of the snapshot count."""
    start_unknown: Set[str] = frozenset()
    """Guests that are promised their size at the start, which is unknown so far."""
    promise_unknown: Set[str] = frozenset()
    """Guests whose promises are unknown so far. They may grow, and are not shrunk."""
    moving: Mapping[str, str] = MappingProxyType({})
    """Why guests keep their size that move, or are about to."""
    restores: bool = False
    """mom restores sizes later, so it must know the sizes before."""


class DescribedGuests(NamedTuple):
    """One snapshot with the record of each guest."""

    snapshot: Snapshot
    memories: Sequence[GuestMemory]
    places: Mapping[str, int]
    """Place of each guest in `memories`, by id."""


def describe(snapshot: Snapshot, pasts: Sequence[Remembered], facts: CycleFacts, new: Sequence[bool]) -> DescribedGuests:
    """Build the records of all guests of a snapshot.

    :param pasts: in the order of the snapshot's guests
    :param new: guests that were just started, and do not give yet
    """
    guests, now = snapshot.listed, snapshot.monotonic
    requests = [past.request for past in pasts]
    made = [now - (age or 0.0) for age in snapshot.numbers("stats_age")]
    columns: dict[str, Sequence[object]] = {
        "on_its_way": [request is not None and not request.arrived for request in requests],
        "largest": [past.most_since(at - CLOCK_SLACK_SECONDS, now) for past, at in zip(pasts, made, strict=True)],
        "obstacle": [
            guest.why_blocked(CONTROL) or obstacle(guest, past, facts.promise_unknown) or (NEW if rests and past.has_come else "")
            for guest, past, rests in zip(guests, pasts, new, strict=True)
        ],
        "pause": [
            facts.moving.get(guest.id) or (GAVE if past.gave_by(at) else "") for guest, past, at in zip(guests, pasts, made, strict=True)
        ],
        "unsettled": _unsettled(snapshot, pasts, facts),
    }
    if any(requests):
        targets = snapshot.numbers(CONTROL)
        columns["target"] = [kib if request is None else request.target for request, kib in zip(requests, targets, strict=True)]
    kernels = [None if past.learned is None else past.learned.usage.kernel for past in pasts]
    if any(kernel is not None for kernel in kernels):
        columns["kernel_reserved"] = [
            kib if kernel is None or kernel.reserved is None else int(kernel.reserved)
            for kernel, kib in zip(kernels, snapshot.numbers("kernel_reserved"), strict=True)
        ]
        columns["counts_balloon"] = [kernel is not None and kernel.counts_balloon for kernel in kernels]
    if facts.holds is not None:
        columns["guarantee"] = [facts.holds.get(guest.id, 0.0) for guest in guests]
    places = {guest.id: place for place, guest in enumerate(guests)}
    return DescribedGuests(snapshot, guest_memories(snapshot, columns), places)


def _unsettled(snapshot: Snapshot, pasts: Sequence[Remembered], facts: CycleFacts) -> Sequence[str]:
    """Return why sizes must not be changed yet, as `GuestMemory.unsettled`."""
    numbers = map(snapshot.numbers, ("balloon_cur", "balloon_max"))
    return [
        START_UNKNOWN
        if guest.id in facts.start_unknown
        else past.why_unsettled(size, maximum, snapshot.monotonic)
        if facts.restores
        else ""
        for guest, past, size, maximum in zip(snapshot.listed, pasts, *numbers, strict=True)
    ]


def obstacle(guest: Guest, past: Remembered, promise_unknown: Set[str]) -> str:
    """Return why a guest must not be shrunk, though it may be resized; empty: it may."""
    pinned = guest.properties.get(PINNED)
    if isinstance(pinned, str) and pinned:
        return pinned
    return PROMISE_UNKNOWN if guest.id in promise_unknown else past.cooperation.why_aside
