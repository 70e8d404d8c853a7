"""What guests are promised, by whomever, and what of it holds when that is more than the host has."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import lru_cache
from operator import is_
from typing import Final, Literal, NamedTuple, TypeAlias

from mom_core import Guest, PluginContext, Portion, Scope, Snapshot, UnitError, Value, as_number, first_names, format_kib, printable

GUARANTEE = "mem_guarantee"
GUARANTEE_SHARE = "mem_guarantee_share"
"""Fields of a plugin that makes promises, such as for classes of guests: KiB, and a ratio of the guest's maximum. The larger counts."""

PLATFORMS_GUARANTEE = "balloon_min"
"""The field with what the management system has promised, in KiB; where it has none, what the YAML file and the metadata promise."""

AT_START: Final = "start"
"""The guarantee of a guest that is promised what it was started with."""

Guaranteed: TypeAlias = Portion | Literal["start"]
"""A guarantee as it is written: a size, a share of the maximum, or what the guest started with."""

HOLDS = "guest_guarantee"
"""The field with what holds: the largest promise, as far as the host can keep it."""

PROMISED = "mem_promised"
"""The field with the largest promise."""

_PROMISES = (PROMISED, GUARANTEE, PLATFORMS_GUARANTEE)

SOURCES = (HOLDS, *_PROMISES, GUARANTEE_SHARE)
"""The fields that the figures of promises are found from."""

VOUCHED = "mem_vouched"
"""The field of a hypervisor whose guests say themselves how large they are: KiB that somebody else vouches for. What is promised to a guest
above that, as a share of what it claims to be, is the first to shrink."""

PRIORITY = "priority"
ORDINARY_PRIORITY = 50.0
"""Of a guest whose priority is unknown: the middle of 0 to 100."""

METADATA = "mem_guarantee"
"""The property of a guest with what its definition promises, as it is written there."""

_NOTHING: Final = (Portion(size=0), Portion(share=0.0))


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

    `room` is what the host can promise, None where its memory was never known. `unsettled` are the ids of guests that are promised what
    they were started with, while that is not known yet: they are promised what they have, and nothing is to be asked of them. `unheard` are
    those of guests of which the plugin that makes promises has said nothing yet: they are not to be shrunk. `incarnations` are those of
    the guests that are promised something.
    """

    promised: Mapping[str, float] = field(default_factory=dict)
    holds: Mapping[str, int] = field(default_factory=dict)
    room: float | None = None
    shrunk: Sequence[Shrunk] = ()
    excessive: Sequence[Excess] = ()
    unclear: Sequence[Unclear] = ()
    unsettled: Set[str] = frozenset()
    unheard: Set[str] = frozenset()
    incarnations: Mapping[str, str] = field(default_factory=dict)

    def of(self, guests: Iterable[Guest]) -> tuple[Mapping[str, int], Mapping[str, float]]:
        """What holds of the promises to these guests, and all of them: nothing of one that was started anew since."""
        same = [guest.id for guest in guests if self.incarnations.get(guest.id) == guest.incarnation]
        return {one: self.holds[one] for one in same}, {one: self.promised[one] for one in same}

    @property
    def total(self) -> float:
        """All promises together."""
        return sum(self.promised.values())

    def fields(self) -> Mapping[str, Value]:
        """All that is promised, and what the host can promise."""
        return {} if self.room is None else {PROMISED: math.ceil(self.total), "mem_promisable": int(self.room)}

    def oversold_by(self) -> str:
        """That more is promised than the host has; empty when it is not so."""
        if not self.shrunk or self.room is None:
            return ""
        return f"guests are promised {format_kib(self.total)} together, and this host can promise {format_kib(self.room)}"

    def oversold(self) -> str:
        """The same, and who pays for it."""
        if not (more_than := self.oversold_by()):
            return ""
        named = [f"{printable(one.guest.name, 30)} {format_kib(one.kept)} of {format_kib(one.promised)}" for one in self.shrunk]
        return f"{more_than}: guarantees shrink, those of the lowest priority first. What holds now: {first_names(named)}"


@dataclass(eq=False)
class Guarantees:
    """All promises: those that an operator wrote for a guest, those of its metadata, and those that other plugins collect.

    Every promise counts, so the largest holds; at most a guest's maximum, and at most what the host can promise.

    Implements `Promises`: of a guest whose promise is missing from a snapshot, as this plugin was late or failed, what stood last holds.
    """

    context: PluginContext
    of_file: Callable[[Guest], Guaranteed | None]
    """Gives what the YAML file promises a guest."""
    host_reserve: Portion
    """What the host keeps for itself."""
    started: Callable[[Guest, float | None], float | None] = lambda guest, maximum: None
    """Gives what is guaranteed to a guest that is promised what it started with, in KiB, by its maximum; None: not known."""
    standing: PromisesKept = field(default_factory=PromisesKept)
    """As of the last snapshot that was looked at."""
    _own_of: tuple[Sequence[Guest], object, Sequence[tuple[Guest, Sequence[Guaranteed], UnitError | None]]] = ((), None, ())
    _without: Sequence[str] = ()
    """The ids of those guests to which YAML file and definition promise nothing, where that is certain."""
    _maxima: dict[tuple[str, str], float] = field(default_factory=dict)
    """As they were known last, by guest id and incarnation."""
    _vouched: dict[tuple[str, str], float] = field(default_factory=dict)
    """As above."""
    _host_kib: float | None = None
    """The host's memory, as it was known last."""
    _told: dict[str, tuple[str, Sequence[float | None]]] = field(default_factory=dict)
    """The last word of a plugin that makes promises, by guest id: incarnation, and KiB, share, priority. It may promise nothing."""

    @property
    def by_class(self) -> bool:
        """Whether a plugin makes promises to guests, such as by classes. Where it says nothing in a cycle, what it said last holds."""
        return (Scope.GUEST, GUARANTEE) in self.context.declarations.fields

    def look(self, snapshot: Snapshot) -> PromisesKept:
        """How all promises stand in this snapshot."""
        guests, maxima, vouched_for = snapshot.listed, self._maxima, self._vouched
        _remember(maxima, guests, snapshot.numbers("balloon_max"))
        _remember(vouched_for, guests, snapshot.numbers(VOUCHED))
        by_guest = self._with_promises(guests)
        own = {guest.id: portions for guest, portions, _ in by_guest}
        unclear = [Unclear(guest, error) for guest, _, error in by_guest if error is not None]
        by_plugin, unheard = self._told_by_class(snapshot)
        collected = [*by_plugin, *map(snapshot.numbers, (PLATFORMS_GUARANTEE, "balloon_cur"))]
        all_kib: dict[str, float] = {}
        promises: dict[str, Promise] = {}
        above: dict[str, Promise] = {}
        excessive: list[Excess] = []
        unsettled: set[str] = set()
        for guest, class_kib, share, priority, by_platform, size in zip(guests, *collected, strict=True):
            identity = guest.id
            if not class_kib and not by_platform and not share and identity not in own:
                continue  # as nearly all
            portions = own.get(identity, ())
            if AT_START in portions and self.started(guest, None) is None:
                unsettled.add(identity)
            # What is not known now is what was known last: one guest's promise of more than it can have must not cost the others theirs.
            most = maxima.get((identity, guest.incarnation))
            whole = size if most is None else most  # a share is one of what the guest has, at least: it is not shrunk below that
            known = [class_kib, by_platform, *(self._kib(one, guest, whole, size) for one in portions)]
            if share is not None and whole is not None:
                known.append(min(1.0, share) * whole)
            promised = max((kib for kib in known if kib is not None and math.isfinite(kib)), default=0.0)
            if promised <= 0:
                continue
            if most is not None and promised > most:
                excessive.append(Excess(guest, promised, most))
                promised = most
            all_kib[identity] = promised
            firm = math.ceil(promised)
            if (vouched := vouched_for.get((identity, guest.incarnation))) is not None:
                sizes = [
                    class_kib,
                    *(one.kib_of(None) for one in portions if isinstance(one, Portion)),
                ]  # no shares of what it claims to be
                firm = min(firm, math.ceil(_largest([vouched, *sizes]) or 0))
            promises[identity] = Promise(firm, ORDINARY_PRIORITY if priority is None else priority)
            if firm < promised:
                above[identity] = promises[identity]._replace(kib=promised - firm)
        room = self._room(snapshot.host.number("mem_available"))
        holds = kept(promises, room)
        for identity, kib in kept(above, None if room is None else room - sum(holds.values())).items():
            holds[identity] += kib
        shrunk = [
            Shrunk(snapshot.guests[identity], promised, holds[identity])
            for identity, promised in all_kib.items()
            if holds[identity] < promised
        ]
        shrunk.sort(key=lambda one: (promises[one.guest.id].priority, one.guest.name))
        incarnations = {identity: snapshot.guests[identity].incarnation for identity in promises}
        self.standing = PromisesKept(all_kib, holds, room, shrunk, excessive, unclear, unsettled, unheard, incarnations)
        return self.standing

    def _told_by_class(self, snapshot: Snapshot) -> tuple[Sequence[Sequence[float | None]], Set[str]]:
        """What a plugin promises to guests, in their order: KiB, share, priority. One that promises nothing to any has to say that, by None
        for each; where it says nothing at all, as it failed or was late, what it said last holds. And the ids of guests of which it has
        said nothing yet; of one that was started anew, what was promised to it before holds until then."""
        guests, told = snapshot.listed, [snapshot.numbers(name) for name in (GUARANTEE, GUARANTEE_SHARE, PRIORITY)]
        rows = list(zip(guests, zip(*told, strict=True), strict=True))
        if self.by_class and guests and not {GUARANTEE, GUARANTEE_SHARE} & snapshot.columns.keys():
            last = [self._told.get(guest.id, (None, row)) for guest, row in rows]
            unheard = {guest.id for guest, (incarnation, _) in zip(guests, last, strict=True) if incarnation != guest.incarnation}
            return list(zip(*[row for _, row in last], strict=True)), unheard
        if guests:
            self._told = {guest.id: (guest.incarnation, row) for guest, row in rows} if self.by_class else {}
        return told, frozenset()

    def own(self, guests: Sequence[Guest]) -> Mapping[str, float]:
        """Return the KiB that the YAML file and the definition promise to each guest, by guest id, before sizes are collected.

        0 means that neither promises anything. A guest whose promise is unknown is left out. A share is one of the maximum that was known
        last, and no promise is more than that.
        """
        with_promises = self._with_promises(guests)
        promised = dict.fromkeys(self._without, 0.0)
        for guest, portions, _ in with_promises:
            maximum = self._maxima.get((guest.id, guest.incarnation))
            largest = _largest([self._kib(one, guest, maximum, None) for one in portions], maximum)
            if largest is not None:
                promised[guest.id] = largest
        return promised

    def columns(self, guests: Sequence[Guest]) -> dict[str, Sequence[Value]]:
        """What is promised to these guests, and what holds of it as of the last snapshot; nothing where that is so of none."""
        holds, promised = self.standing.of(guests)
        own = self.own(guests)
        if self.standing.shrunk:
            own = {identity: min(kib, holds.get(identity, kib)) for identity, kib in own.items()}
        known = {PLATFORMS_GUARANTEE: own, HOLDS: holds, PROMISED: promised}
        return {
            name: [None if (kib := promises.get(guest.id)) is None else math.ceil(kib) for guest in guests]
            for name, promises in known.items()
            if promises
        }

    def written(self, guests: Sequence[Guest]) -> Mapping[str, Sequence[Guaranteed]]:
        """What the YAML file and the metadata promise to these guests."""
        return {guest.id: promises for guest, promises, _ in self._with_promises(guests)}

    def guaranteed_kib(self, guest: Guest) -> float | None:
        """The promise that holds, in KiB."""
        told = guaranteed_kib(guest.fields)
        return told if HOLDS in guest.fields else _largest((told, self.standing.of([guest])[0].get(guest.id)))

    def promised_kib(self, guest: Guest) -> float | None:
        """All that is promised, in KiB."""
        told = promised_kib(guest.fields)
        return told if PROMISED in guest.fields else _largest((told, self.standing.of([guest])[1].get(guest.id)))

    def _kib(self, promise: Guaranteed, guest: Guest, whole: float | None, size: float | None) -> float | None:
        """A promise in KiB; None where that is not known. Where it is what the guest started with, and that is not known, it is what the
        guest has: nothing is taken from it.

        :param whole: what a share is one of
        """
        if isinstance(promise, Portion):
            return promise.kib_of(whole)
        started = self.started(guest, self._maxima.get((guest.id, guest.incarnation)))
        return size if started is None else started

    def _with_promises(self, guests: Sequence[Guest]) -> Sequence[tuple[Guest, Sequence[Guaranteed], UnitError | None]]:
        """Return the guests to which the YAML file or the definition promises something, their promises, and what is wrong with those.

        They are looked for again when the guests or the configuration have changed.
        """
        settings_of = self.context.guest_settings
        before, settings_before, promised = self._own_of
        if settings_before is not settings_of or len(before) != len(guests) or not all(map(is_, guests, before)):
            promised, without = [], []
            for guest in guests:
                text = guest.properties.get(METADATA)
                metadata, error = _read(text) if isinstance(text, str) else (None, None)
                written = self.of_file(guest)
                portions = [portion for portion in (written, metadata) if portion is not None]
                if more := [portion for portion in portions if portion not in _NOTHING]:
                    promised.append((guest, more, error))
                elif metadata is not None:
                    without.append(guest.id)
            self._own_of, self._without = (guests, settings_of, promised), without
        return promised

    def _room(self, host_kib: float | None) -> float | None:
        """The host's room for promises, in KiB. While its memory is not known, it is what it was: with all promises whole for one cycle, an
        oversold host would give its guests back what it does not have."""
        self._host_kib = host_kib = self._host_kib if host_kib is None else host_kib
        if host_kib is None:
            return None
        return max(0.0, host_kib - (self.host_reserve.kib_of(host_kib) or 0.0))


def _remember(known: dict[tuple[str, str], float], guests: Sequence[Guest], figures: Sequence[float | None]) -> None:
    """Take these guests' figures that are known now; forget those of guests that have gone. Without any guest, the hypervisor is away."""
    known.update(((guest.id, guest.incarnation), kib) for guest, kib in zip(guests, figures, strict=True) if kib is not None)
    if len(known) > len(guests) > 0:
        for gone in known.keys() - {(guest.id, guest.incarnation) for guest in guests}:
            del known[gone]


@lru_cache(maxsize=1024)
def _read(text: str) -> tuple[Guaranteed, UnitError | None]:
    """What a guest's metadata promise. A promise that cannot be understood is one of all: the guest is not shrunk, which is safe for it,
    and gets noticed."""
    if text.strip() == AT_START:
        return AT_START, None
    try:
        return Portion.parse(text), None
    except UnitError as error:
        return Portion(share=1.0), error


# --- by fields alone -----------------------------------------------------------------------------------------------------------------


def guaranteed_kib(fields: Mapping[str, Value]) -> float | None:
    """What holds: see `Promises`. In the first cycle, before it is known what the host can keep, all that is promised does."""
    holds = as_number(fields.get(HOLDS))
    return promised_kib(fields) if holds is None else holds


def promised_kib(fields: Mapping[str, Value]) -> float | None:
    """Return the largest promise: see `Promises`. A field of 0 is no promise."""
    known = [as_number(fields.get(name)) for name in _PROMISES]
    maximum, share = as_number(fields.get("balloon_max")), as_number(fields.get(GUARANTEE_SHARE))
    if maximum is not None and share is not None:
        known.append(min(1.0, share) * maximum)
    return _largest(known, maximum) or None


def _largest(promises: Iterable[float | None], maximum: float | None = None) -> float | None:
    """The largest of these promises, and no more than the guest can have; None where none of them is known."""
    largest = max((kib for kib in promises if kib is not None), default=None)
    return largest if largest is None or maximum is None else min(largest, maximum)
