"""Admission: whether more guests fit without breaking a promise. Figures in, an answer with its reasons out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from mom_core import Entity, Guest, MomError, Snapshot, UnitError, format_kib, printable
from mom_kvm import UNDESCRIBED, Admission, Donor, GuestMoves, Promises, Reservations, Room
from mom_plugins_sla.classes import ServiceClass
from mom_plugins_sla.fairness import used_kib

START_SHARE: Final = 0.25
"""A guest holds this soon after its start, as a part of its memory, unless more is guaranteed to it: its kernel, its programs, some cache.
Of the simulator's usual mixture, which follows what clouds report, an idle guest holds 13 to 25 %."""

MOST_COUNTED: Final = 10_000
"""Guests; no host has more, and one that is promised nothing would fit for ever."""

LEAST_KIB: Final = 1024
MOST_KIB: Final = 1 << 40
"""KiB of a guest's memory: 1 MiB and 1 PiB. What is less or more is a mistake in a unit."""

GIVERS_SHOWN: Final = 20


class NoSuchClass(MomError, ValueError):
    """Service class that there is not."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Guests that are to be started: how many, of how much memory (KiB), of which class."""

    count: int
    memory_kib: int
    name: str
    one: ServiceClass

    @classmethod
    def of(cls, count: int, memory_kib: int, name: str, classes: Mapping[str, ServiceClass]) -> Wanted:
        """Guests of the class of that name, or of none where it is empty. Raises `MomError` for what makes no sense."""
        if not LEAST_KIB <= memory_kib <= MOST_KIB:
            raise UnitError(f"{memory_kib} KiB is no memory of a guest", hint="write it like 8GiB")
        if not 1 <= count <= MOST_COUNTED:
            raise UnitError(f"{count} is no number of guests", hint=f"1 to {MOST_COUNTED}")
        if name and name not in classes:
            raise NoSuchClass(f"there is no class {printable(name, 40)}", hint=f"there are: {', '.join(classes)}")
        return cls(count, memory_kib, name, classes.get(name) or ServiceClass())

    @property
    def guarantee_kib(self) -> float:
        """Memory promised to each."""
        return min(self.memory_kib, self.one.guarantee.kib_of(self.memory_kib) or 0.0)

    @property
    def start_kib(self) -> float:
        """Memory that each must be able to have at once."""
        return max(self.guarantee_kib, START_SHARE * self.memory_kib)

    def __str__(self) -> str:
        guests = "one guest" if self.count == 1 else f"{self.count} guests"
        return f"{guests} of class {self.name or 'none'} with {format_kib(self.memory_kib)}"


@dataclass(frozen=True, slots=True)
class Figures:
    """Host's figures, in KiB: what it can promise, what is promised to guests, and what is kept for launches that have not come.

    Guests that mom has stopped are promised `returning`, for when they come back. `room` is what the host can have at once, by the plugin
    that makes room; None: there is none, and what is available counts. What `undescribed` guests are promised is not known yet, so that
    they count with all of their memory.
    """

    promisable: float
    promised: float
    reserved: float
    available: float
    room: Room | None
    promises: Promises
    undescribed: int = 0
    returning: float = 0.0


def figures_of(snapshot: Snapshot, kept: Reservations | None, promises: Promises) -> Figures:
    """Return the figures of the last cycle. Raises `MomError` while it is not known what the host can promise."""
    room = None if kept is None else kept.room()
    reservations = () if kept is None else kept.reservations()
    host = snapshot.host
    promisable, available = host.number("mem_promisable"), host.number("mem_really_available")
    if promisable is None or available is None:
        hint = "it is from the second cycle on, with the plugin balloon, which holds promises, and one that knows the host's memory"
        raise MomError("what the host can promise is not known", hint=hint)
    promised = sum([_promised_kib(guest, promises) for guest in snapshot.guests.values()])  # those that are only listed have no fields
    undescribed = sum([guest.blocked.get("*") == UNDESCRIBED for guest in snapshot.listed])
    # A guest that has come for a reservation counts by its own promise.
    reserved = sum(reservation.kept_kib for reservation in reservations if reservation.state.lasts and reservation.guest is None)
    returning = host.number("mem_promised_stopped") or 0.0  # unknown without the plugin eviction, which alone stops guests
    return Figures(promisable, promised, float(reserved), available, room, promises, undescribed, returning)


def _promised_kib(guest: Guest, promises: Promises) -> float:
    promised = promises.promised_kib(guest) or 0.0
    if guest.blocked.get("*") != UNDESCRIBED:
        return promised
    return max(promised, guest.number("balloon_max") or guest.number("balloon_cur") or 0.0)


def admission_of(wanted: Wanted, figures: Figures, snapshot: Snapshot) -> Admission:
    """Say whether these guests fit, and why."""
    left = figures.promisable - figures.promised - figures.reserved - figures.returning
    at_once = figures.available if figures.room is None else float(figures.room.most_kib)
    by_promises = _fits(left, wanted.guarantee_kib)
    by_memory = _fits(at_once, wanted.start_kib)
    fits = min(by_promises, by_memory)
    against: list[str] = []
    in_favour: list[str] = []
    (in_favour if by_promises >= wanted.count else against).append(_about_promises(wanted, figures, left))
    (in_favour if by_memory >= wanted.count else against).append(_about_memory(wanted, figures, at_once))
    if figures.room is not None and figures.room.why:
        against.append(figures.room.why)
    admitted = fits >= wanted.count
    donors: Sequence[Donor] = ()
    if by_promises < wanted.count:
        donors = _donors(_lesser_promises(snapshot, figures.promises, wanted), wanted.count * wanted.guarantee_kib - left, promise=True)
    elif admitted:
        free = figures.available if figures.room is None else float(figures.room.free_kib)
        donors = _donors(_spare(snapshot, figures.promises), wanted.count * wanted.start_kib - free, promise=False)
    asked = wanted.memory_kib, wanted.name, math.ceil(wanted.guarantee_kib)
    return Admission(admitted, wanted.count, fits, *asked, (*against, *in_favour), tuple(donors))


def _fits(kib: float, each: float) -> int:
    if each <= 0:
        return MOST_COUNTED
    return max(0, min(MOST_COUNTED, math.floor(kib / each)))


def _about_promises(wanted: Wanted, figures: Figures, left: float) -> str:
    together = wanted.count * wanted.guarantee_kib
    also = f" (of {figures.undescribed} it is not known yet: they count with all their memory)" if figures.undescribed else ""
    if figures.returning:
        also += f", {format_kib(figures.returning)} to guests that mom has stopped and that come back"
    if figures.reserved:
        also += f" and {format_kib(figures.reserved)} are reserved for launches"
    rest = f"{format_kib(left)} are left" if left > 0 else f"{format_kib(-left)} too much" if left < 0 else "nothing is left"
    return (
        f"promises: the host can promise {format_kib(figures.promisable)}, {format_kib(figures.promised)} are promised to guests{also},"
        f" {rest}; {wanted} would be promised {format_kib(together) if together else 'nothing'}"
    )


def _about_memory(wanted: Wanted, figures: Figures, at_once: float) -> str:
    room = figures.room
    if room is None:
        made_of = f"{format_kib(figures.available)} are available"
    else:
        made_of = f"{format_kib(room.free_kib)} are free and guests can give {format_kib(room.can_free_kib)}"
        if room.can_offload_kib:
            made_of += f", {format_kib(room.can_offload_kib)} that they hardly touch can go to swap"
        if room.returning_kib:
            made_of += f", {format_kib(room.returning_kib)} are kept for what guests may want back from swap"
        if room.rise:
            made_of += f", {room.rise}"
    return (
        f"memory now: {made_of}, so {format_kib(max(0.0, at_once))} can be had; {wanted} would take"
        f" {format_kib(wanted.count * wanted.start_kib)} at once"
    )


def about_moving(snapshot: Snapshot, moves: GuestMoves) -> str:
    """Memory that could be had by moving guests away, by what their mover can do: for the operator, as admission moves none."""
    mover = moves.mover()
    if mover is None:
        return "moving guests away: nothing on this host can"
    can = [guest for guest in snapshot.guests.values() if not moves.why_stays(guest)]
    held = [rss for guest in can if (rss := guest.number("rss")) is not None]
    how = "while they run" if mover.abilities.live is True else "letting them stand still meanwhile, perhaps"
    least = "" if len(held) == len(can) else "at least "
    chooses = "; it chooses the host itself" if mover.abilities.chooses else ""
    return (
        f"moving guests away: {mover.name} can move {len(can)} of {len(snapshot.guests)}, {how}, which hold {least}{format_kib(sum(held))}"
        f"{chooses}; in a fleet, `mom fleet plan --drain` shows where they would go"
    )


def _spare(snapshot: Snapshot, promises: Promises) -> Iterator[tuple[float, float, Entity]]:
    """Memory that guests neither use nor are promised, each with what it costs and its size in KiB."""
    for guest in snapshot.guests.values():
        size = guest.number("balloon_cur")
        if size is not None and "balloon_target" not in guest.blocked and "*" not in guest.blocked:
            spare = size - max(promises.guaranteed_kib(guest) or 0.0, used_kib(guest, size))
            yield guest.number("reclaim_cost") or 1.0, spare, guest.entity


def _lesser_promises(snapshot: Snapshot, promises: Promises, wanted: Wanted) -> Iterator[tuple[float, float, Entity]]:
    """Promises of guests that are less important, each with its priority and its size in KiB."""
    for guest in snapshot.guests.values():
        said = guest.number("priority")
        priority = 50.0 if said is None else said
        if priority < wanted.one.priority:
            yield priority, promises.promised_kib(guest) or 0.0, guest.entity


def _donors(found: Iterable[tuple[float, float, Entity]], missing: float, *, promise: bool) -> list[Donor]:
    """Return those that would give what is missing: the cheapest or least important first, and of these the largest."""
    donors: list[Donor] = []
    for _, kib, entity in sorted((item for item in found if item[1] > 0), key=lambda one: (one[0], -one[1]))[:GIVERS_SHOWN]:
        if missing >= 1:
            donors.append(Donor(entity, math.ceil(min(kib, missing)), promise))
            missing -= kib
    return donors
