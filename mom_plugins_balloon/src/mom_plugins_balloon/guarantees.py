"""What guests are promised, by whomever, and what of it holds when that is more than the host has."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import is_
from typing import NamedTuple

from mom_core import Guest, GuestSettings, Portion, Snapshot, UnitError, as_number, format_kib, parse_portion, printable

GUARANTEE = "mem_guarantee"
GUARANTEE_SHARE = "mem_guarantee_share"
"""Fields of a plugin that makes promises, such as for classes of guests: KiB, and a ratio of the guest's maximum. The larger counts."""

PLATFORMS_GUARANTEE = "balloon_min"
"""The field with what the management system has promised, in KiB; where it has none, what the YAML file and the metadata promise."""

_NOTHING_COLLECTED = (None, None, None)

_NOT_LOOKED_UP = Portion(share=0.0)
"""Stands where what the YAML file says was not looked up yet."""

PRIORITY = "priority"
ORDINARY_PRIORITY = 50.0
"""Of a guest whose priority is unknown: the middle of 0 to 100."""

METADATA = "mem_guarantee"
"""The property of a guest with what its metadata promises, as it is written there."""

ALL_OF_IT = Portion(share=1.0)
"""What holds instead of a promise that cannot be understood: the guest is not shrunk, which is safe for it, and gets noticed."""

NAMES_SHOWN = 5
"""Guests that are named where many are concerned; the rest is counted."""


class Promise(NamedTuple):
    """KiB that a guest is promised, none of it more than it can have, and how important that is; more is more."""

    kib: float
    priority: float


def kept(promises: Mapping[str, Promise], room_kib: float | None) -> dict[str, int]:
    """What holds of each promise, in KiB, on a host that can promise `room_kib` (None: unknown, and all of it holds).

    Promises that are together more than that shrink until they are not: first those of the lowest priority, all in the same proportion,
    down to nothing if that is needed, then those of the next. Every promise of a higher priority is whole before any of a lower one counts.
    """
    whole = {identity: math.ceil(promise.kib) for identity, promise in promises.items()}
    lacking = 0 if room_kib is None else sum(whole.values()) - max(0, math.floor(room_kib))
    if lacking <= 0:
        return whole
    for priority in sorted({promise.priority for promise in promises.values()}):
        least = [identity for identity, promise in promises.items() if promise.priority == priority]
        together = sum(whole[identity] for identity in least)
        left = max(0, together - lacking)
        for identity in least:
            whole[identity] = whole[identity] * left // together if together else 0
        lacking -= together
        if lacking <= 0:
            break
    return whole


class Shrunk(NamedTuple):
    """A guest whose promise does not hold as a whole, in KiB."""

    guest: Guest
    promised: float
    kept: int


class Excess(NamedTuple):
    """A guest that is promised more than it can have, in KiB."""

    guest: Guest
    promised: float
    maximum: float


class Unclear(NamedTuple):
    """A guest whose metadata promises something that cannot be understood."""

    guest: Guest
    error: UnitError


@dataclass(frozen=True, slots=True)
class PromisesKept:
    """How promises stand in one snapshot: KiB by guest id, of those that are promised something, and KiB of the host.

    `room` is what the host can promise, None where its memory is unknown.
    """

    promised: Mapping[str, float] = field(default_factory=dict)
    holds: Mapping[str, int] = field(default_factory=dict)
    room: float | None = None
    shrunk: Sequence[Shrunk] = ()
    excessive: Sequence[Excess] = ()
    unclear: Sequence[Unclear] = ()

    @property
    def total(self) -> float:
        """All promises together."""
        return sum(self.promised.values())

    def oversold(self) -> str:
        """That more is promised than the host has, and who pays for it; empty when it is not so."""
        if not self.shrunk or self.room is None:
            return ""
        named = [
            f"{printable(one.guest.name, 30)} {format_kib(one.kept)} of {format_kib(one.promised)}" for one in self.shrunk[:NAMES_SHOWN]
        ]
        more = f" and {len(self.shrunk) - NAMES_SHOWN} more" if len(self.shrunk) > NAMES_SHOWN else ""
        return (
            f"guests are promised {format_kib(self.total)} together, and this host can promise {format_kib(self.room)}:"
            f" guarantees shrink, those of the lowest priority first. What holds now: {', '.join(named)}{more}"
        )


class Guarantees:
    """All promises: those that an operator wrote for a guest, those of its metadata, and those that other plugins collect.

    Every promise counts, so the largest holds; at most a guest's maximum, and at most what the host can promise.

    :param settings: gives what the YAML file promises a guest
    :param host_reserve: what the host keeps for itself
    """

    def __init__(self, own: Callable[[GuestSettings], Portion | None], host_reserve: Portion) -> None:
        self._own = own
        self._host_reserve = host_reserve
        self._written: dict[tuple[str, str], Portion | None] = {}
        self._written_from: object = None
        self._written_for_last: tuple[list[str], list[str], list[Portion | None]] = ([], [], [])
        self._own_of: tuple[Sequence[Guest], object, Sequence[tuple[Guest, Portion | None]]] = ((), None, ())
        self._read: dict[str, Portion | UnitError] = {}
        self._maxima: dict[str, float] = {}
        self._maxima_of: tuple[Sequence[Guest], Sequence[float | None]] = ((), ())
        """Guests, and their maxima, as they were taken in last."""
        self._of: tuple[Snapshot, object] | None = None
        self.standing = PromisesKept()
        """As of the last snapshot that was looked at."""

    def look(self, snapshot: Snapshot, settings_of: Callable[[Guest], GuestSettings]) -> PromisesKept:
        """How all promises stand in this snapshot."""
        if self._of is not None and self._of[0] is snapshot and self._of[1] is settings_of:
            return self.standing
        self._of = snapshot, settings_of
        maxima, sizes = self._maxima, snapshot.numbers("balloon_max")
        if self._maxima_of[0] is not snapshot.listed or self._maxima_of[1] != sizes:
            self._maxima_of = snapshot.listed, sizes
            maxima.update((identity, size) for identity, size in zip(snapshot.guests, sizes, strict=True) if size is not None)
        promises: dict[str, Promise] = {}
        excessive: list[Excess] = []
        unclear: list[Unclear] = []
        for guest, own in self._that_may_be_promised(snapshot, settings_of):
            identity, fields, maximum, metadata = guest.id, guest.fields, guest.number("balloon_max"), self._metadata(guest)
            others = as_number(fields.get(GUARANTEE)), as_number(fields.get(PLATFORMS_GUARANTEE))
            share = as_number(fields.get(GUARANTEE_SHARE))
            if isinstance(metadata, UnitError):
                unclear.append(Unclear(guest, metadata))
                metadata = ALL_OF_IT
            # A share of what is not known now is one of what was known last, or of what the guest has: it is not shrunk below that.
            whole = maximum if maximum is not None else maxima.get(identity, as_number(fields.get("balloon_cur")))
            portions = [portion.kib_of(whole) for portion in (own, metadata) if portion is not None]
            if share is not None and whole is not None:
                portions.append(min(1.0, share) * whole)
            promised = max((kib for kib in (*portions, *others) if kib is not None and math.isfinite(kib)), default=0.0)
            if promised <= 0:
                continue
            if maximum is not None and promised > maximum:
                excessive.append(Excess(guest, promised, maximum))
                promised = maximum
            priority = as_number(fields.get(PRIORITY))
            promises[identity] = Promise(promised, ORDINARY_PRIORITY if priority is None else priority)
        if len(maxima) > len(snapshot.guests) > 0:  # without any guest the hypervisor is away
            for identity in maxima.keys() - snapshot.guests.keys():
                del maxima[identity]
        room = self._room(snapshot.host.number("mem_available"))
        holds = kept(promises, room)
        shrunk = [
            Shrunk(snapshot.guests[identity], promise.kib, holds[identity])
            for identity, promise in promises.items()
            if holds[identity] < promise.kib
        ]
        shrunk.sort(key=lambda one: (promises[one.guest.id].priority, one.guest.name))
        self.standing = PromisesKept(
            {identity: promise.kib for identity, promise in promises.items()}, holds, room, shrunk, excessive, unclear
        )
        return self.standing

    def _that_may_be_promised(
        self, snapshot: Snapshot, settings_of: Callable[[Guest], GuestSettings]
    ) -> Iterable[tuple[Guest, Portion | None]]:
        """The guests that may be promised something, which are few, and what the YAML file says of each."""
        written = {guest.id: portion for guest, portion in self._with_promises(snapshot.listed, settings_of)}
        promises = (GUARANTEE, GUARANTEE_SHARE, PLATFORMS_GUARANTEE)
        collected = zip(*map(snapshot.column, promises), strict=True)
        return [
            (snapshot.guests[guest.id], written.get(guest.id))
            for guest, told in zip(snapshot.listed, collected, strict=True)
            if told != _NOTHING_COLLECTED or guest.id in written
        ]

    def own(self, guests: Sequence[Guest], settings_of: Callable[[Guest], GuestSettings]) -> Mapping[str, float]:
        """What the YAML file and the metadata promise to these guests in KiB, by guest id, before their sizes are collected.

        A share is one of the maximum that was known last; a guest without a promise, or of which that is not known, has no place here.
        """
        found: dict[str, float] = {}
        for guest, written in self._with_promises(guests, settings_of):
            metadata = self._metadata(guest)
            if isinstance(metadata, UnitError):
                metadata = ALL_OF_IT
            maximum = self._maxima.get(guest.id)
            portions = [portion.kib_of(maximum) for portion in (written, metadata) if portion is not None]
            known = [kib for kib in portions if kib is not None]
            if known:
                found[guest.id] = max(known)
        return found

    def _with_promises(
        self, guests: Sequence[Guest], settings_of: Callable[[Guest], GuestSettings]
    ) -> Sequence[tuple[Guest, Portion | None]]:
        """The guests to which the YAML file or the metadata promise something, which are few, and what the file says of each. They are
        looked for when the guests are not the very same as before, or the configuration is not."""
        before, settings_before, found = self._own_of
        if settings_before is not settings_of or len(before) != len(guests) or not all(map(is_, guests, before)):
            pairs = zip(guests, self._written_for(guests, settings_of), strict=True)
            found = [(guest, written) for guest, written in pairs if written is not None or METADATA in guest.properties]
            self._own_of = guests, settings_of, found
        return found

    def _room(self, host_kib: float | None) -> float | None:
        """What the host can promise, in KiB."""
        if host_kib is None:
            return None
        return max(0.0, host_kib - (self._host_reserve.kib_of(host_kib) or 0.0))

    def _written_for(self, guests: Sequence[Guest], settings_of: Callable[[Guest], GuestSettings]) -> Iterable[Portion | None]:
        """What the YAML file says. It changes only with the configuration, so each guest is looked up once, the same guests together."""
        ids, names = [guest.id for guest in guests], [guest.name for guest in guests]
        ids_before, names_before, found = self._written_for_last
        if self._written_from is settings_of and ids == ids_before and names == names_before:
            return found
        if self._written_from is not settings_of or len(self._written) > 2 * len(guests):
            self._written, self._written_from = {}, settings_of
        written, found = self._written, []
        for key, guest in zip(zip(ids, names, strict=True), guests, strict=True):
            portion = written.get(key, _NOT_LOOKED_UP)
            if portion is _NOT_LOOKED_UP:
                portion = written[key] = self._own(settings_of(guest))
            found.append(portion)
        self._written_for_last = ids, names, found
        return found

    def _metadata(self, guest: Guest) -> Portion | UnitError | None:
        text = guest.properties.get(METADATA)
        if not isinstance(text, str):
            return None
        found = self._read.get(text)
        if found is None:
            try:
                found = parse_portion(text)
            except UnitError as error:
                found = error
            if len(self._read) >= 1000:  # as many different texts as no host has; what is forgotten is read again
                self._read.clear()
            self._read[text] = found
        return found
