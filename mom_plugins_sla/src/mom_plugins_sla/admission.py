"""Admission: whether new guests fit without breaking a guarantee."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from mom_core import Entity, Guest, MomError, Snapshot, UnitError, count_of, format_kib, printable
from mom_kvm import Admission, GuestDescription, Promises, Reservation, Reservations
from mom_plugins_sla.classes import ServiceClass

START_SHARE: Final = 0.25
"""Fraction of its memory that a guest uses soon after its start. Idle guests use 13 to 25 % in the simulator."""

MOST_COUNTED: Final = 10_000
"""Maximum number of new guests."""

LEAST_KIB: Final = 1024
MOST_KIB: Final = 1 << 40
"""Sizes of guests: 1 MiB to 1 PiB. Other values are mistakes in the unit."""

DONORS_SHOWN: Final = 20

HEADROOM_SHARE: Final = 0.25
HEADROOM_KIB: Final = 80 << 10


class NoSuchClass(MomError, ValueError):
    """Unknown service class."""


@dataclass(frozen=True, slots=True)
class NewGuests:
    """Guests to start, with their class."""

    count: int
    memory_kib: int
    class_name: str
    terms: ServiceClass

    @classmethod
    def of(cls, count: int, memory_kib: int, class_name: str, classes: Mapping[str, ServiceClass]) -> NewGuests:
        """Return guests of a class (an empty string for none). Raise `MomError` for invalid values."""
        if not LEAST_KIB <= memory_kib <= MOST_KIB:
            raise UnitError(f"memory of {memory_kib} KiB is out of range (1 MiB to 1 PiB)", hint="write it like 8GiB")
        if not 1 <= count <= MOST_COUNTED:
            raise UnitError(f"the number of guests, {count}, is out of range (1 to {MOST_COUNTED})")
        if class_name and class_name not in classes:
            raise NoSuchClass(f"there is no class {printable(class_name, 40)}", hint=f"known classes: {', '.join(classes)}")
        return cls(count, memory_kib, class_name, classes.get(class_name) or ServiceClass())

    @property
    def guarantee_kib(self) -> float:
        """Guarantee of each guest."""
        return min(self.memory_kib, self.terms.guarantee.kib_of(self.memory_kib) or 0.0)

    @property
    def start_kib(self) -> float:
        """Memory that each guest needs right after its start."""
        return max(self.guarantee_kib, START_SHARE * self.memory_kib)

    def __str__(self) -> str:
        return f"{count_of(self.count, 'guest')} of class {self.class_name or 'none'} with {format_kib(self.memory_kib)}"


@dataclass(frozen=True, slots=True)
class Figures:
    """Memory of the host, in KiB.

    :param reserved: memory promised to guests about to start
    :param returning: memory promised to stopped guests
    :param room: memory that the balloon plugin can free at once; None to use `available`
    :param undescribed: number of guests with unknown guarantees, which count with all of their memory
    """

    promisable: float
    promised: float
    reserved: float
    available: float
    room: Reservation.Room | None
    promises: Promises
    undescribed: int = 0
    returning: float = 0.0


def figures_of(snapshot: Snapshot, service: Reservations | None, promises: Promises) -> Figures:
    """Return the host's figures. Raise `MomError` if the memory that the host can promise is unknown."""
    room = None if service is None else service.room()
    reservations = () if service is None else service.reservations()
    host = snapshot.host
    promisable, available = host.number("mem_promisable"), host.number("mem_really_available")
    if promisable is None or available is None:
        hint = "wait for the second cycle; enable the balloon plugin and a plugin that reads the host's memory, such as `host`"
        raise MomError("the memory that the host can promise is unknown", hint=hint)
    promised = sum([_promised_kib(guest, promises) for guest in snapshot.guests.values()])  # other listed guests have no fields
    undescribed = sum([guest.blocked.get("*") == GuestDescription.UNREAD for guest in snapshot.listed])
    # A guest that has claimed its reservation counts with its own promise.
    reserved = sum(reservation.kept_kib for reservation in reservations if reservation.state.lasts and reservation.guest is None)
    returning = host.number("mem_promised_stopped") or 0.0  # unknown without the eviction plugin, which stops guests
    return Figures(promisable, promised, float(reserved), available, room, promises, undescribed, returning)


def _promised_kib(guest: Guest, promises: Promises) -> float:
    promised = promises.promised_kib(guest) or 0.0
    if guest.blocked.get("*") != GuestDescription.UNREAD:
        return promised
    return max(promised, guest.number("balloon_max") or guest.number("balloon_cur") or 0.0)


def admission_of(new: NewGuests, figures: Figures, snapshot: Snapshot) -> Admission:
    """Return whether the new guests fit, with reasons."""
    left = figures.promisable - figures.promised - figures.reserved - figures.returning
    at_once = figures.available if figures.room is None else float(figures.room.most_kib)
    by_promises = _fits(left, new.guarantee_kib)
    by_memory = _fits(at_once, new.start_kib)
    fits = min(by_promises, by_memory)
    against: list[str] = []
    in_favour: list[str] = []
    (in_favour if by_promises >= new.count else against).append(_about_promises(new, figures, left))
    (in_favour if by_memory >= new.count else against).append(_about_memory(new, figures, at_once))
    if figures.room is not None and figures.room.why:
        against.append(figures.room.why)
    admitted = fits >= new.count
    donors: Sequence[Admission.Donor] = ()
    if by_promises < new.count:
        donors = _donors(_lesser_promises(snapshot, figures.promises, new), new.count * new.guarantee_kib - left, promise=True)
    elif admitted:
        free = figures.available if figures.room is None else float(figures.room.free_kib)
        donors = _donors(_spare(snapshot, figures.promises), new.count * new.start_kib - free, promise=False)
    guarantee = math.ceil(new.guarantee_kib)
    reasons = (*against, *in_favour)
    return Admission(admitted, new.count, fits, new.memory_kib, new.class_name, guarantee, reasons, tuple(donors))


def _fits(kib: float, each: float) -> int:
    if each <= 0:
        return MOST_COUNTED
    return max(0, min(MOST_COUNTED, math.floor(kib / each)))


def _about_promises(new: NewGuests, figures: Figures, left: float) -> str:
    total = new.count * new.guarantee_kib
    also = f" (guests with unknown guarantees: {figures.undescribed}; they count with all their memory)" if figures.undescribed else ""
    if figures.returning:
        also += f", {format_kib(figures.returning)} to guests that mom has stopped and that come back"
    if figures.reserved:
        also += f" and {format_kib(figures.reserved)} are reserved for guests about to start"
    balance = f"{format_kib(left)} are left" if left > 0 else f"that is {format_kib(-left)} too much" if left < 0 else "nothing is left"
    return (
        f"promises: the host can promise {format_kib(figures.promisable)}, {format_kib(figures.promised)} are promised to guests{also},"
        f" {balance}; {new} would be promised {format_kib(total) if total else 'nothing'}"
    )


def _about_memory(new: NewGuests, figures: Figures, at_once: float) -> str:
    room = figures.room
    if room is None:
        sources = f"{format_kib(figures.available)} are available"
    else:
        sources = f"{format_kib(room.free_kib)} are free and guests can release {format_kib(room.can_free_kib)}"
        if room.can_offload_kib:
            sources += f", {format_kib(room.can_offload_kib)} of cold memory can go to swap"
        if room.returning_kib:
            sources += f", {format_kib(room.returning_kib)} are kept free to read swapped memory back"
        if room.rise:
            sources += f", {room.rise}"
    return (
        f"memory now: {sources}, so {format_kib(max(0.0, at_once))} are available; {new} would need"
        f" {format_kib(new.count * new.start_kib)} immediately"
    )


def _used_kib(guest: Guest, size: float) -> float:
    # Used memory plus headroom, as in the default balloon policy. Without statistics, it is the guest's size.
    usable = guest.number("mem_usable")
    return size if usable is None else max(0.0, size - usable) * (1 + HEADROOM_SHARE) + HEADROOM_KIB


def _spare(snapshot: Snapshot, promises: Promises) -> Iterator[tuple[float, float, Entity]]:
    # Yield each guest's cost, and its memory (KiB) that is neither used nor guaranteed.
    for guest in snapshot.guests.values():
        size = guest.number("balloon_cur")
        if size is not None and "balloon_target" not in guest.blocked and "*" not in guest.blocked:
            spare = size - max(promises.guaranteed_kib(guest) or 0.0, _used_kib(guest, size))
            yield guest.number("reclaim_cost") or 1.0, spare, guest.entity


def _lesser_promises(snapshot: Snapshot, promises: Promises, new: NewGuests) -> Iterator[tuple[float, float, Entity]]:
    # Yield each guest's priority and promise (KiB).
    for guest in snapshot.guests.values():
        priority = guest.number("priority")
        priority = 50.0 if priority is None else priority
        if priority < new.terms.priority:
            yield priority, promises.promised_kib(guest) or 0.0, guest.entity


def _donors(offers: Iterable[tuple[float, float, Entity]], missing: float, *, promise: bool) -> list[Admission.Donor]:
    # The lowest cost or priority comes first, then the largest amount.
    donors: list[Admission.Donor] = []
    for _, kib, entity in sorted((offer for offer in offers if offer[1] > 0), key=lambda offer: (offer[0], -offer[1]))[:DONORS_SHOWN]:
        if missing >= 1:
            donors.append(Admission.Donor(entity, math.ceil(min(kib, missing)), promise))
            missing -= kib
    return donors
