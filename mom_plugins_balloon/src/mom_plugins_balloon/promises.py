"""Promises of memory to guests, and the guarantees that hold of them.

Several parties promise memory to one guest: the operator in the YAML file, the guest's metadata, its class, its management system. The
largest promise counts. Where all promises together exceed the host, a guarantee is the part of a promise that the host can keep.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, Literal, NamedTuple, TypeAlias, TypeVar

from mom_core import Guest, Portion, UnitError, Value, as_number, first_names, format_kib, printable

GUARANTEE = "mem_guarantee"
GUARANTEE_SHARE = "mem_guarantee_share"
"""Fields of a plugin that promises memory by class: KiB, and a ratio of the guest's maximum. The larger counts."""

PLATFORMS_GUARANTEE = "balloon_min"
"""Field with the promise of the management system in KiB; without one, that of the YAML file and the metadata."""

HOLDS = "guest_guarantee"
"""Field with the guarantee: the part of the largest promise that the host can keep."""

PROMISED = "mem_promised"
"""Field with the largest promise."""

_PROMISES = (PROMISED, GUARANTEE, PLATFORMS_GUARANTEE)
SOURCES = (HOLDS, *_PROMISES, GUARANTEE_SHARE)

VOUCHED = "mem_vouched"
"""Field for guests that report their own size: KiB that somebody else confirms. A share of more than that is the first to shrink."""

PRIORITY = "priority"
ORDINARY_PRIORITY = 50.0
"""Priority of a guest without one: the middle of 0 to 100."""

METADATA = "mem_guarantee"
"""Property of a guest with the promise in its definition, as text."""

AT_START: Final = "start"
"""Promise of the size that the guest was started with."""

Guaranteed: TypeAlias = Portion | Literal["start"]
"""A promise as an operator writes it: a size, a share of the maximum, or `start`."""


Key = TypeVar("Key", bound=Hashable)


class Promise(NamedTuple):
    """Memory promised to a guest, or a part of it."""

    kib: float
    priority: float
    """A higher priority is more important."""
    firm: bool = True
    """It needs no trust in figures which the guest reports itself."""


def kept(promises: Mapping[Key, Promise], room_kib: float | None) -> dict[Key, int]:
    """Return the guarantee for each promise in KiB on a host that can promise `room_kib`. `None` means unknown: every promise holds.

    Promises beyond the room shrink, down to nothing: first those that are not firm, then the lowest priority. Equal ones shrink in
    proportion.
    """
    whole = {identity: math.ceil(promise.kib) for identity, promise in promises.items()}
    excess = 0 if room_kib is None else sum(whole.values()) - max(0, math.floor(room_kib))
    for rank in sorted({(promise.firm, promise.priority) for promise in promises.values()}):
        if excess <= 0:
            break
        lowest = [identity for identity, promise in promises.items() if (promise.firm, promise.priority) == rank]
        together = sum(whole[identity] for identity in lowest)
        left = max(0, together - excess)
        for identity in lowest:
            whole[identity] = whole[identity] * left // together if together else 0
        excess -= together
    return whole


class GuestPromise(NamedTuple):
    """Promise to one guest, in KiB."""

    guest: Guest
    promised: float
    """Largest promise, at most the guest's maximum."""
    firm: int
    """Part of it that needs no trust in figures which the guest reports itself."""
    priority: float
    beyond: float | None = None
    """Largest promise where it exceeds the guest's maximum."""
    guarantee: int = 0
    """Part of the promise that the host can keep."""


@dataclass(frozen=True)
class PromisesKept:
    """Promises and guarantees in one snapshot."""

    guests: Mapping[str, GuestPromise] = field(default_factory=dict)
    """Guests with a promise, by id."""
    room: float | None = None
    """Memory in KiB that the host can promise; None: its size was never known."""
    unclear: Sequence[tuple[Guest, UnitError]] = ()
    """Guests whose metadata contains an invalid promise."""
    unsettled: Set[str] = frozenset()
    """Guests whose promise is their size at the start, before that is known. They are promised their present size and not resized."""
    unheard: Set[str] = frozenset()
    """Guests without an answer of the plugin that promises by class. They are not shrunk."""

    @cached_property
    def holds(self) -> Mapping[str, int]:
        """Guarantees in KiB by guest id."""
        return {identity: promise.guarantee for identity, promise in self.guests.items()}

    @cached_property
    def shrunk(self) -> Sequence[GuestPromise]:
        """Guests whose guarantee is less than their promise, the lowest priority first."""
        losers = [promise for promise in self.guests.values() if promise.guarantee < promise.promised]
        return sorted(losers, key=lambda promise: (promise.priority, promise.guest.name))

    def of(self, guest: Guest) -> GuestPromise | None:
        """Return the promise to a guest; None for a guest that was started anew since."""
        promise = self.guests.get(guest.id)
        return promise if promise is not None and promise.guest.incarnation == guest.incarnation else None

    @property
    def total(self) -> float:
        """Sum of all promises in KiB."""
        return sum(promise.promised for promise in self.guests.values())

    def fields(self) -> Mapping[str, Value]:
        """Return the host's fields."""
        return {} if self.room is None else {PROMISED: math.ceil(self.total), "mem_promisable": int(self.room)}

    def oversold_by(self) -> str:
        """Return a message that promises exceed the host; empty where they do not."""
        if not self.shrunk or self.room is None:
            return ""
        return f"guests are promised {format_kib(self.total)}, this host can promise {format_kib(self.room)}"

    def losers(self) -> str:
        """Return the guests whose guarantees shrink, in words."""
        names = [
            f"{printable(loser.guest.name, 30)} has {format_kib(loser.guarantee)} of {format_kib(loser.promised)}" for loser in self.shrunk
        ]
        return f"guarantees shrink, the lowest priority first: {first_names(names)}"


def guaranteed_kib(fields: Mapping[str, Value]) -> float | None:
    """Return the guarantee by a guest's fields. In the first cycle, before guarantees are known, it is the largest promise."""
    holds = as_number(fields.get(HOLDS))
    return promised_kib(fields) if holds is None else holds


def promised_kib(fields: Mapping[str, Value]) -> float | None:
    """Return the largest promise by a guest's fields. A field of 0 is no promise."""
    promises = [as_number(fields.get(name)) for name in _PROMISES]
    maximum, share = as_number(fields.get("balloon_max")), as_number(fields.get(GUARANTEE_SHARE))
    if maximum is not None and share is not None:
        promises.append(min(1.0, share) * maximum)
    return largest_kib(promises, maximum) or None


def largest_kib(promises: Iterable[float | None], maximum: float | None = None) -> float | None:
    """Return the largest known promise, at most `maximum`."""
    largest = max((kib for kib in promises if kib is not None), default=None)
    return largest if largest is None or maximum is None else min(largest, maximum)
