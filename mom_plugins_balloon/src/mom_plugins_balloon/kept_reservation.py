"""Record of a reservation, its file, and the guests that arrive for it."""

from __future__ import annotations

import fnmatch
import glob
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Final

from pydantic import Field, TypeAdapter

from mom_core import Guest, PluginContext, Snapshot, StateError, UnitError, format_duration, format_kib, printable
from mom_kvm import LaunchedGuest, boot_id, pid_of
from mom_plugins_balloon.ballooned_guests import BalloonedGuests
from mom_plugins_balloon.names import EXPECTED
from mom_plugins_balloon.remembered import Remembered
from mom_plugins_balloon.seen import used_kib
from mom_plugins_balloon.sweep.qemu_process import QemuProcess

LEAST_KIB: Final = 1024
MOST_KIB: Final = 1 << 40
"""KiB. 1 MiB to 1 PiB: a size outside is a mistake in the unit."""

LEAST_SECONDS: Final = 1.0
LONGEST_SECONDS: Final = 86400.0
"""s. A reservation is for a launch. Memory that the host needs for longer belongs in `host_free` of the plugin balloon."""

MOST_RESERVATIONS: Final = 256
"""Reservations at once. A management system that asks for more has lost count."""

_LONGEST_NAME: Final = 200

_Moment = Annotated[float, Field(ge=0, lt=1 << 36)]
"""Seconds since the epoch, or since the host was started."""


@dataclass(frozen=True, slots=True)
class KeptReservation:
    """One reservation as mom keeps it, also on disk. All moments but `created` are of the monotonic clock."""

    id: str
    memory_kib: Annotated[int, Field(ge=LEAST_KIB, le=MOST_KIB)]
    name: str
    """Pattern for a guest's name or id; empty: any guest that fits."""
    who: str
    created: _Moment
    made: _Moment
    deadline: _Moment
    guest: str = ""
    """Id of the guest that has arrived for it."""
    guest_name: str = ""
    incarnation: str = ""
    taken_at: _Moment | None = None
    launch: str = ""
    """Id or name of the only guest that may take it until `launch_until`."""
    launch_until: _Moment = 0.0
    before: KeptReservation | None = None
    """Reservation that the launch has taken over, as it was before; None: there was none."""

    @property
    def is_of_launch(self) -> bool:
        """Whether it was made for a launch. It ends with that guest."""
        return bool(self.launch) and self.before is None

    @property
    def specificity(self) -> tuple[bool, int]:
        """Sort key for matching: named reservations first, then the smallest, which leaves large ones to large guests."""
        return not self.name, self.memory_kib

    def fits(self, guest: Guest | LaunchedGuest, size: float | None, now: float) -> bool:
        """Return whether a guest of this size may take it."""
        if self.launch and now < self.launch_until:
            return self.launch in {guest.id, guest.name}
        if self.name:
            return any(_matches(name, self.name) for name in (guest.name, guest.id) if name)
        return size is not None and size <= self.memory_kib


@dataclass(frozen=True, slots=True)
class ReservationsFile:
    """Content of the file of reservations."""

    boot: str
    """Id of the host's boot."""
    monotonic: _Moment
    guests: dict[str, str]
    """Incarnations of guests by id."""
    reservations: Annotated[tuple[KeptReservation, ...], Field(max_length=MOST_RESERVATIONS)]


class ReservationStore:
    """File of reservations."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context
        form, loss = TypeAdapter(ReservationsFile), "the reservations of the last run have ended"
        self._file = context.state_file("reservations.json", "the file of reservations", form, loss=loss)

    @property
    def closed(self) -> bool:
        """True if the file belongs to another plugin or mom by now."""
        return self._file.left

    @closed.setter
    def closed(self, closed: bool) -> None:
        self._file.left = closed

    def read(self) -> ReservationsFile | None:
        """Return the content; None if there is none, or the host was rebooted since."""
        content = self._file.read()
        if content is None or self._is_of_this_boot(content):
            return content
        self._context.log.warning("%d reservations have ended, as the host was rebooted", len(content.reservations))
        return None

    def newest(self, kept: dict[str, KeptReservation]) -> dict[str, KeptReservation]:
        """Return the reservations on disk by now, or `kept` where these cannot be read or are of another boot."""
        with suppress(StateError):
            content = self._file.look()
            if content is None or self._is_of_this_boot(content):
                return {} if content is None else {reservation.id: reservation for reservation in content.reservations}
        return kept

    def write(self, kept: Sequence[KeptReservation], guests: dict[str, str]) -> None:
        """Write these reservations and the incarnations of guests. mom reports a file that cannot be written."""
        content = ReservationsFile(boot_id(self._context.root / "proc"), self._context.monotonic(), guests, tuple(kept))
        with suppress(StateError):
            if kept:
                self._file.write(asdict(content))
            else:
                self._file.remove()

    def _is_of_this_boot(self, content: ReservationsFile) -> bool:
        return content.boot == boot_id(self._context.root / "proc") and content.monotonic <= self._context.monotonic()


def check_request(memory_kib: int, seconds: float, name: str) -> None:
    """Raise `UnitError` if a reservation like this makes no sense."""
    if not LEAST_KIB <= memory_kib <= MOST_KIB:
        hint = f"from {format_kib(LEAST_KIB)} to {format_kib(MOST_KIB)}"
        raise UnitError(f"reservation of {format_kib(memory_kib)} is out of range", hint=hint)
    if not LEAST_SECONDS <= seconds <= LONGEST_SECONDS:
        hint = f"from {format_duration(LEAST_SECONDS)} to {format_duration(LONGEST_SECONDS)}; for longer, set host_free"
        raise UnitError(f"reservation for {seconds:g} s is out of range", hint=hint)
    if len(name) > _LONGEST_NAME or not name.isprintable():
        hint = f"use at most {_LONGEST_NAME} printable characters"
        raise UnitError(f"invalid pattern {printable(name)!r} for a guest's name or id", hint=hint)


def pattern_of(guest: LaunchedGuest) -> str:
    """Return a pattern that matches only this guest, by its name or id. A guest without a usable name gets a printable label."""
    patterns = (glob.escape(name) for name in (guest.name, guest.id, printable(guest.name, _LONGEST_NAME // 4)) if name)
    return next(pattern for pattern in patterns if pattern.isprintable() and len(pattern) <= _LONGEST_NAME)


def _matches(name: str, pattern: str) -> bool:
    """Return whether a name or id matches. A plain name spares the cache of `fnmatch`, which keeps 32,768 patterns in some 40 MiB."""
    return fnmatch.fnmatchcase(name, pattern) if glob.has_magic(pattern) else name == pattern


LISTED_BEFORE_SECONDS: Final = 10.0
"""s. libvirt lists a guest before it runs the hook that asks mom, so mom may have met the guest already. Mostly that is within a second."""


class Arrivals:
    """Guests that have arrived for reservations, as they were listed last."""

    def __init__(self, guests: BalloonedGuests, context: PluginContext) -> None:
        self._guests, self._context = guests, context
        self._takers: Mapping[str, Guest] = {}

    def see(
        self, kept: Mapping[str, KeptReservation], snapshot: Snapshot, now: float
    ) -> tuple[Mapping[str, KeptReservation], Sequence[KeptReservation]]:
        """Return the reservations that change with this snapshot by id, and those that end because their guest is gone."""
        changed: dict[str, KeptReservation] = {}
        ended: list[KeptReservation] = []
        for identity, reservation in kept.items():
            if self._still_arrives(reservation, snapshot):
                changed[identity] = replace(reservation, taken_at=now)
            elif self._is_left(reservation, snapshot) and reservation.is_of_launch:
                ended.append(reservation)
            elif self._is_left(reservation, snapshot):
                vacant = replace(reservation, guest="", guest_name="", incarnation="", taken_at=None)
                changed[identity] = reservation.before or vacant
                name = printable(reservation.guest_name)
                self._context.log.warning("guest %s is gone: its reservation %s waits for another guest", name, identity)
        lasting = {identity: changed.get(identity, reservation) for identity, reservation in kept.items() if reservation not in ended}
        for reservation, guest in self._matched([*lasting.values()], snapshot, now):
            matched = replace(reservation, guest=guest.id, guest_name=guest.name, incarnation=guest.incarnation, taken_at=now)
            changed[reservation.id] = lasting[reservation.id] = matched
            self._context.log.info("guest %s takes reservation %s", printable(guest.name), reservation.id)
        takers = [(entry.guest, snapshot.guests.get(entry.guest) or self._takers.get(entry.guest)) for entry in lasting.values()]
        self._takers = {identity: guest for identity, guest in takers if guest is not None}
        return changed, ended

    def kept_kib(self, reservation: KeptReservation, *, now: bool = False) -> int:
        """Return the memory that is still kept: the part that its guest has not touched by the last snapshot.

        :param now: ask the kernel, as a guest that boots touches gigabytes between two cycles
        """
        guest = self._taker(reservation)
        if guest is None:
            return reservation.memory_kib
        size = min(reservation.memory_kib, guest.whole("balloon_max") or reservation.memory_kib)
        return max(0, size - int(self._held_kib(guest) if now else guest.number("rss") or 0.0))

    def expected_kib(self, kept: Mapping[str, KeptReservation]) -> float:
        """Return the memory that is kept for arrived guests and also expected of them by their usual use."""
        takers = [(reservation, self._taker(reservation)) for reservation in kept.values()]
        return sum(min(self.kept_kib(reservation), _usual_rise_kib(guest)) for reservation, guest in takers if guest is not None)

    def _taker(self, reservation: KeptReservation) -> Guest | None:
        return None if reservation.taken_at is None else self._takers.get(reservation.guest)

    def _held_kib(self, guest: Guest) -> float:
        """Return the memory that a guest's process holds now."""
        pid = pid_of(guest)
        process = None if pid is None else QemuProcess(pid, self._context.root / "proc").read()
        return guest.number("rss") or 0.0 if process is None else process.resident

    def _is_left(self, reservation: KeptReservation, snapshot: Snapshot) -> bool:
        """Return whether the guest of a reservation is gone. Its record outlasts a list or two without it."""
        if reservation.taken_at is None or not snapshot.guests:
            return False
        record = self._guests.of(reservation.guest)
        return record is None or record.incarnation != reservation.incarnation

    def _still_arrives(self, reservation: KeptReservation, snapshot: Snapshot) -> bool:
        """Return whether the guest of a reservation is migrated to this host and its memory still arrives, which may take minutes."""
        guest, before = snapshot.guests.get(reservation.guest), self._taker(reservation)
        if guest is None or before is None or not guest.blocked.get("*") or guest.incarnation != reservation.incarnation:
            return False
        rss, rss_before = guest.number("rss"), before.number("rss")
        return rss is not None and rss_before is not None and rss > rss_before

    def _matched(self, reservations: Sequence[KeptReservation], snapshot: Snapshot, now: float) -> Iterator[tuple[KeptReservation, Guest]]:
        """Yield reservations that wait, each with the guest that has arrived for it. A guest takes one reservation only."""
        vacant = sorted((entry for entry in reservations if entry.taken_at is None), key=lambda entry: entry.specificity)
        oldest = min((reservation.made for reservation in vacant), default=math.inf) - LISTED_BEFORE_SECONDS
        if not vacant:
            return
        pasts = zip(snapshot.listed, self._guests.of_all(snapshot.listed), strict=True)
        arrived = {guest.id: past for guest, past in pasts if past.started_after(oldest)}
        for reservation in vacant:
            for identity, past in arrived.items():
                guest = snapshot.guests[identity]
                if self._is_for(reservation, guest, past, now):
                    self._guests.put(identity, arrived.pop(identity).without_start())
                    yield reservation, guest
                    break

    def _is_for(self, reservation: KeptReservation, guest: Guest, past: Remembered, now: float) -> bool:
        early = LISTED_BEFORE_SECONDS if reservation.launch in {guest.id, guest.name} else 0.0
        return past.started_after(reservation.made - early) and reservation.fits(guest, guest.number("balloon_max"), now)


def _usual_rise_kib(guest: Guest) -> float:
    """Return the difference between a guest's usual use at this time and its present use; 0 where it is unknown."""
    expected, used = guest.number(EXPECTED), used_kib(*map(guest.number, ("mem_available", "balloon_cur", "mem_usable")))
    return 0.0 if expected is None or used is None else max(0.0, expected - used)
