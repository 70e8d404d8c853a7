"""Promises of memory to guests, and guarantees: the parts that the host can keep.

The YAML file, the guest's metadata, its class and its management system may promise memory. The largest promise counts.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from operator import is_
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, TypeAlias

from mom_core import Guest, PluginContext, Portion, Scope, Snapshot, UnitError, Value, as_number, first_names, format_kib, printable
from mom_kvm import Promises

GUARANTEE = "mem_guarantee"
GUARANTEE_SHARE = "mem_guarantee_share"
"""Fields of promises by service class: in KiB, and as a ratio of the guest's maximum. The larger promise counts."""

PLATFORMS_GUARANTEE = "balloon_min"
"""Field: promise of the management system, or of the YAML file and the metadata, in KiB."""

HOLDS = "guest_guarantee"

PROMISED = "mem_promised"

_PROMISES = (PROMISED, GUARANTEE, PLATFORMS_GUARANTEE)
SOURCES = (HOLDS, *_PROMISES, GUARANTEE_SHARE)

VOUCHED = "mem_vouched"
"""Field of guests that report their own size: KiB confirmed by another source. Promises beyond it shrink first."""

PRIORITY = "priority"
ORDINARY_PRIORITY = 50.0
"""Priority of guests without one, from 0 to 100."""

METADATA = "mem_guarantee"
"""Guest property: promise in the guest's definition, as a string."""

AT_START: Final = "start"

Guaranteed: TypeAlias = Portion | Literal["start"]
"""Promise as an operator writes it: a size, a share of the maximum, or `start`."""


class GuestPromise(NamedTuple):
    """Promise to one guest, in KiB."""

    guest: Guest
    promised: float
    """Largest promise, capped at the guest's maximum."""
    firm: int
    """Part of the promise that does not depend on figures from the guest itself."""
    priority: float
    beyond: float | None = None
    """Largest promise if it exceeds the guest's maximum; otherwise None."""
    guarantee: int = 0


def with_guarantees(promises: Sequence[GuestPromise], room_kib: float | None) -> Mapping[str, GuestPromise]:
    """Return the promises with their guarantees, keyed by guest ID.

    If promises exceed the room, parts that are not `firm` shrink first; among them, the lowest priority. Parts of
    equal priority shrink in proportion.

    :param room_kib: memory that the host can promise; if None (unknown), every promise holds
    """
    ranks = defaultdict[tuple[bool, float], dict[str, int]](dict)
    for promise in promises:
        ranks[True, promise.priority][promise.guest.id] = promise.firm
        if promise.firm < promise.promised:
            ranks[False, promise.priority][promise.guest.id] = math.ceil(promise.promised - promise.firm)
    sums = {rank: sum(parts.values()) for rank, parts in ranks.items()}
    excess = 0 if room_kib is None else sum(sums.values()) - max(0, math.floor(room_kib))
    holds = Counter[str]()
    for rank, parts in sorted(ranks.items()):
        left = max(0, sums[rank] - max(0, excess))
        holds.update({identity: kib * left // (sums[rank] or 1) for identity, kib in parts.items()})
        excess -= sums[rank]
    return {promise.guest.id: promise._replace(guarantee=holds[promise.guest.id]) for promise in promises}


@dataclass(frozen=True)
class PromisesKept:
    """Promises and guarantees in one snapshot."""

    guests: Mapping[str, GuestPromise] = field(default_factory=dict)
    room: float | None = None
    """KiB that the host can promise; None if unknown."""
    unclear: Sequence[tuple[Guest, UnitError]] = ()
    start_unknown: Set[str] = frozenset()
    """Guests with the promise `start` whose size at the start is unknown. They keep their present size."""
    unheard: Set[str] = frozenset()
    """Guests for which the plugin that promises by class has not answered. mom does not shrink them."""

    @cached_property
    def holds(self) -> Mapping[str, int]:
        """Guarantees in KiB keyed by guest ID."""
        return {identity: promise.guarantee for identity, promise in self.guests.items()}

    @cached_property
    def shrunk(self) -> Sequence[GuestPromise]:
        """Promises that exceed their guarantees, the lowest priority first."""
        losers = [promise for promise in self.guests.values() if promise.guarantee < promise.promised]
        return sorted(losers, key=lambda promise: (promise.priority, promise.guest.name))

    def of(self, guest: Guest) -> GuestPromise | None:
        """Return a guest's promise; None if the guest has none, or was restarted since the snapshot."""
        promise = self.guests.get(guest.id)
        return promise if promise is not None and promise.guest.incarnation == guest.incarnation else None

    @property
    def total(self) -> float:
        """Sum of all promises in KiB."""
        return sum(promise.promised for promise in self.guests.values())

    def fields(self) -> Mapping[str, Value]:
        """Return the host's fields about promises."""
        return {} if self.room is None else {PROMISED: math.ceil(self.total), "mem_promisable": int(self.room)}

    def oversold_by(self) -> str:
        """Return the message that promises exceed the host's memory; empty if they do not."""
        if not self.shrunk or self.room is None:
            return ""
        return f"guests are promised {format_kib(self.total)}, but this host can promise only {format_kib(self.room)}"

    def losers(self) -> str:
        """Return the guests whose guarantees shrink, in words."""
        names = [
            f"{printable(loser.guest.name, 30)} has {format_kib(loser.guarantee)} of {format_kib(loser.promised)}" for loser in self.shrunk
        ]
        return f"guarantees shrink, the lowest priority first: {first_names(names)}"


def guaranteed_kib(fields: Mapping[str, Value]) -> float | None:
    """Return the guarantee (KiB) in a guest's fields; the largest promise while guarantees are unknown."""
    holds = as_number(fields.get(HOLDS))
    return promised_kib(fields) if holds is None else holds


def promised_kib(fields: Mapping[str, Value]) -> float | None:
    """Return the largest promise (KiB) in a guest's fields; None if no promise exceeds 0."""
    promises = [as_number(fields.get(name)) for name in _PROMISES]
    maximum, share = as_number(fields.get("balloon_max")), as_number(fields.get(GUARANTEE_SHARE))
    if maximum is not None and share is not None:
        promises.append(min(1.0, share) * maximum)
    return largest_kib(promises, maximum) or None


def largest_kib(promises: Iterable[float | None], maximum: float | None = None) -> float | None:
    """Return the largest known promise, capped at `maximum`."""
    largest = max((kib for kib in promises if kib is not None), default=None)
    return largest if largest is None or maximum is None else min(largest, maximum)


_NOTHING: Final = (Portion(size=0), Portion(share=0.0))


class _Known(NamedTuple):
    # Last known figures of a guest. A missing figure must not cost other guests their guarantees.

    maximum: float | None = None
    vouched: float | None = None
    by_class: tuple[float | None, float | None, float | None] | None = None
    """Promise by class in KiB and as a share, and its priority; None until the plugin that promises by class answers."""


_NOTHING_KNOWN: Final = _Known()


class _OwnPromises(NamedTuple):
    guest: Guest
    promises: Sequence[Guaranteed]
    error: UnitError | None = None


@dataclass(eq=False)
class Guarantees(Promises):
    """All promises to guests."""

    context: PluginContext
    of_file: Callable[[Guest], Guaranteed | None]
    host_reserve: Portion
    started: Callable[[Guest, float | None], float | None] = lambda guest, maximum: None
    """Returns the promise `start` in KiB for a guest with this maximum; None if unknown."""
    standing: PromisesKept = field(default_factory=PromisesKept)
    _own_cache: tuple[Sequence[Guest], object, Mapping[str, _OwnPromises]] = ((), None, MappingProxyType({}))
    _known: Mapping[tuple[str, str], _Known] = field(default_factory=dict)
    """Figures keyed by guest ID and incarnation."""
    _host_kib: float | None = None

    @property
    def by_class(self) -> bool:
        """Whether a plugin promises memory by class."""
        return (Scope.GUEST, GUARANTEE) in self.context.declarations.fields

    def look(self, snapshot: Snapshot) -> PromisesKept:
        """Return promises and guarantees in this snapshot."""
        guests = snapshot.listed
        if guests:  # an empty list forgets no guest: the hypervisor did not answer
            self._known = self._known_in(snapshot)
        known = [self._known_of(guest) for guest in guests]
        own = {identity: entry for identity, entry in self._own(guests).items() if entry.promises}
        rows = zip(guests, known, snapshot.numbers(PLATFORMS_GUARANTEE), snapshot.numbers("balloon_cur"), strict=True)
        promises = [
            self._promise(guest, own[guest.id].promises if guest.id in own else (), figures, by_platform, size)
            for guest, figures, by_platform, size in rows
            if guest.id in own or by_platform or (figures.by_class is not None and any(figures.by_class[:2]))  # true for few guests
        ]
        room = self._room(snapshot.host.number("mem_available"))
        self.standing = PromisesKept(
            with_guarantees([promise for promise in promises if promise.promised > 0], room),
            room,
            unclear=[(entry.guest, entry.error) for entry in own.values() if entry.error is not None],
            start_unknown={guest for guest, entry in own.items() if AT_START in entry.promises and self.started(entry.guest, None) is None},
            unheard={guest.id for guest, figures in zip(guests, known, strict=True) if self.by_class and figures.by_class is None},
        )
        return self.standing

    def _known_of(self, guest: Guest) -> _Known:
        return self._known.get((guest.id, guest.incarnation), _NOTHING_KNOWN)

    def _known_in(self, snapshot: Snapshot) -> Mapping[tuple[str, str], _Known]:
        # If the columns of promises by class are missing, the last answer holds.
        has_answered = not self.by_class or bool({GUARANTEE, GUARANTEE_SHARE} & snapshot.columns.keys())
        known = dict[tuple[str, str], _Known]()
        numbers = map(snapshot.numbers, ("balloon_max", VOUCHED, GUARANTEE, GUARANTEE_SHARE, PRIORITY))
        for guest, maximum, vouched, *of_class in zip(snapshot.listed, *numbers, strict=True):
            last = self._known_of(guest)
            kib, share, priority = of_class
            known[guest.id, guest.incarnation] = _Known(
                last.maximum if maximum is None else maximum,
                last.vouched if vouched is None else vouched,
                (kib, share, priority) if has_answered else last.by_class,
            )
        return known

    def _promise(
        self, guest: Guest, own: Sequence[Guaranteed], known: _Known, by_platform: float | None, size: float | None
    ) -> GuestPromise:
        maximum, vouched, (by_class, share, priority) = known.maximum, known.vouched, known.by_class or (None, None, None)
        whole = size if maximum is None else maximum
        by_share = None if share is None or whole is None else min(1.0, share) * whole
        promises = [by_class, by_platform, by_share, *(self._kib(promise, guest, whole, size) for promise in own)]
        largest = max((kib for kib in promises if kib is not None and math.isfinite(kib)), default=0.0)
        kib = largest if maximum is None else min(largest, maximum)
        firm = math.ceil(kib)
        if vouched is not None:
            sizes = [promise.kib_of(None) for promise in own if isinstance(promise, Portion)]
            firm = min(firm, math.ceil(largest_kib([vouched, by_class, *sizes]) or 0))
        return GuestPromise(guest, kib, firm, ORDINARY_PRIORITY if priority is None else priority, largest if kib < largest else None)

    def own(self, guests: Sequence[Guest]) -> Mapping[str, float]:
        """Return the promises of the YAML file and the metadata in KiB, keyed by guest ID. 0: no promise. No key: unknown."""
        promised: dict[str, float] = {}
        for identity, entry in self._own(guests).items():
            maximum = self._known_of(entry.guest).maximum
            sizes = [self._kib(promise, entry.guest, maximum, None) for promise in entry.promises]
            kib = largest_kib(sizes, maximum) if entry.promises else 0.0
            if kib is not None:
                promised[identity] = kib
        return promised

    def columns(self, guests: Sequence[Guest]) -> dict[str, Sequence[Value]]:
        """Return guests' fields about promises in the last snapshot, keyed by name."""
        own, last = self.own(guests), [self.standing.of(guest) for guest in guests]
        if self.standing.shrunk:
            holds = {promise.guest.id: promise.guarantee for promise in last if promise is not None}
            own = {identity: min(kib, holds.get(identity, kib)) for identity, kib in own.items()}
        columns: dict[str, Sequence[float | None]] = {
            PLATFORMS_GUARANTEE: [own.get(guest.id) for guest in guests],
            HOLDS: [None if promise is None else promise.guarantee for promise in last],
            PROMISED: [None if promise is None else promise.promised for promise in last],
        }
        return {name: [None if kib is None else math.ceil(kib) for kib in column] for name, column in columns.items()}

    def written(self, guests: Sequence[Guest]) -> Mapping[str, Sequence[Guaranteed]]:
        """Return the promises as the YAML file and the metadata state them, keyed by guest ID."""
        return {identity: entry.promises for identity, entry in self._own(guests).items() if entry.promises}

    def guaranteed_kib(self, guest: Guest) -> float | None:
        """Return the guarantee in KiB."""
        kib, last = guaranteed_kib(guest.fields), self.standing.of(guest)
        return kib if HOLDS in guest.fields or last is None else largest_kib((kib, last.guarantee))

    def promised_kib(self, guest: Guest) -> float | None:
        """Return the largest promise in KiB."""
        kib, last = promised_kib(guest.fields), self.standing.of(guest)
        return kib if PROMISED in guest.fields or last is None else largest_kib((kib, last.promised))

    def _kib(self, promise: Guaranteed, guest: Guest, whole: float | None, size: float | None) -> float | None:
        if isinstance(promise, Portion):
            return promise.kib_of(whole)
        started = self.started(guest, self._known_of(guest).maximum)
        return size if started is None else started

    def _own(self, guests: Sequence[Guest]) -> Mapping[str, _OwnPromises]:
        settings_of = self.context.guest_settings
        before, settings_before, entries = self._own_cache
        if settings_before is not settings_of or len(before) != len(guests) or not all(map(is_, guests, before)):
            entries = {guest.id: entry for guest in guests if (entry := self._own_of(guest)) is not None}
            self._own_cache = (guests, settings_of, entries)
        return entries

    def _own_of(self, guest: Guest) -> _OwnPromises | None:
        text = guest.properties.get(METADATA)
        metadata, error = _read(text) if isinstance(text, str) else (None, None)
        promises = [promise for promise in (self.of_file(guest), metadata) if promise is not None and promise not in _NOTHING]
        return _OwnPromises(guest, promises, error) if promises or metadata is not None else None

    def _room(self, host_kib: float | None) -> float | None:
        self._host_kib = host_kib = self._host_kib if host_kib is None else host_kib
        return None if host_kib is None else max(0.0, host_kib - (self.host_reserve.kib_of(host_kib) or 0.0))


@lru_cache(maxsize=1024)
def _read(text: str) -> tuple[Guaranteed, UnitError | None]:
    # An invalid promise counts as all memory, which is safe.
    if text.strip() == AT_START:
        return AT_START, None
    try:
        return Portion.parse(text), None
    except UnitError as error:
        return Portion(share=1.0), error
