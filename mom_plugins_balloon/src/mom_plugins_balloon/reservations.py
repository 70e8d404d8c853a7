"""Memory reserved for launches. Policies that read the host field `mem_reserved` shrink guests for it."""

from __future__ import annotations

import contextlib
import glob
import math
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from mom_core import Guest, MomError, PluginContext, Snapshot, UnitError, format_duration, format_kib, printable
from mom_kvm import Admissions, LaunchedGuest, Reservation, boot_id, pid_of, seen_lately
from mom_plugins_balloon.balloon_state import LEAST_KIB, MOST_KIB, MOST_RESERVATIONS, BalloonFile, KeptReservation, KeptReservations
from mom_plugins_balloon.ballooned_guests import BalloonedGuests
from mom_plugins_balloon.gate import ShrinkLimits
from mom_plugins_balloon.names import AHEAD, RESERVED, SUGGESTED
from mom_plugins_balloon.parameters import LawParameters, ReservationSettings
from mom_plugins_balloon.room import Spare, room_of, seconds_to_free, spare_of, too_large, too_late
from mom_plugins_balloon.sweep.qemu_process import QemuProcess

LEAST_SECONDS: Final = 1.0
LONGEST_SECONDS: Final = 86400.0
"""Longest duration of a reservation. To keep memory for longer, set `host_free`."""

_LONGEST_NAME: Final = 200

_ENDED: Final = 100
"""Number of ended reservations to keep."""

TOUCHED_KIB: Final = 16384
"""A guest that has touched all but this much has used its reservation."""

SHORT_SECONDS: Final = 30.0
"""Missing memory is reported after this time, because spare memory is not exact while guests shrink."""

LISTED_BEFORE_SECONDS: Final = 10.0
"""libvirt may list a guest this long before the guest's hook asks mom."""

AWAY_SECONDS: Final = 600.0
"""Time without listed guests after which mom assumes that there are none. Earlier, the hypervisor might not answer."""


@dataclass(eq=False)
class HostReservations:
    """Reservations of this host. Implements `Reservations`."""

    settings: ReservationSettings
    law: LawParameters
    context: PluginContext
    guests: BalloonedGuests
    file: BalloonFile
    limits: Callable[[], ShrinkLimits]
    why_none_gives: Callable[[], str]
    """Returns why no guest gives memory; empty if guests give memory."""
    loaded: bool = False
    """Whether `load` has read the previous run's reservations."""
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _kept: dict[str, KeptReservation] = field(default_factory=dict)
    _ended: deque[Reservation] = field(default_factory=lambda: deque(maxlen=_ENDED))
    _short_since: dict[str, float] = field(default_factory=dict)
    _takers: Mapping[str, Guest] = field(default_factory=dict)
    """Guests that use reservations, keyed by ID."""
    _snapshot: Snapshot | None = None
    _with_guests: Snapshot | None = None

    def room(self) -> Reservation.Room:
        """Return the present room for reservations."""
        with self._up_to_date():
            return self._room(self._current())[0]

    def reserve(self, memory_kib: int, seconds: float, *, name: str = "", who: str = "") -> Reservation:
        """Reserve memory for some time, or raise `Reservation.Refused`."""
        _check_request(memory_kib, seconds, name)
        with self._up_to_date(changes=True):
            room = self._room_for(memory_kib, seconds)
            if len(self._kept) >= MOST_RESERVATIONS:
                raise MomError(f"there are {MOST_RESERVATIONS} reservations already, which is the limit", hint="release some of them")
            now = self.context.monotonic()
            kept = KeptReservation(secrets.token_hex(4), memory_kib, name, printable(who, 200), time.time(), now, now + seconds)
            self._kept[kept.id] = kept
            made = self._described()[kept.id]
        size, free, lasts = format_kib(memory_kib), format_kib(made.there_kib), format_duration(seconds)
        whom, rise = f" (guest {printable(name)})" if name else "", f"; {room.rise}" if room.rise else ""
        text = "reservation %s of %s for %s by %s%s: %s of it are available%s"
        self.context.log.info(text, kept.id, size, lasts, kept.who, whom, free, rise)
        self.context.wake(f"{size} were reserved")
        return made

    def keep_for(self, guest: LaunchedGuest, seconds: float, *, memory_kib: int, who: str = "") -> Reservation:
        """Use a matching reservation for a guest that is about to start. Without one, `reserve` this much memory."""
        with self._up_to_date(changes=True):
            now = self.context.monotonic()
            fitting = [kept for kept in self._kept.values() if kept.taken_at is None and kept.fits(guest, guest.memory_kib, now)]
            # A reservation of an earlier attempt to start this guest takes precedence over the operator's.
            kept = min(fitting, key=lambda kept: (not kept.is_of_launch, *kept.specificity), default=None)
            if kept is None:
                made = self.reserve(memory_kib, seconds, name=_pattern_of(guest), who=who)
                kept = replace(self._kept[made.id], is_of_launch=True)
            until, launch = now + seconds, guest.id or guest.name
            self._kept[kept.id] = replace(kept, launch=launch, launch_until=until, deadline=max(kept.deadline, until))
            return self._described()[kept.id]

    def _room_for(self, memory_kib: int, seconds: float) -> Reservation.Room:
        room, spare = self._room(self._current())
        if memory_kib > room.most_kib:
            raise too_large(memory_kib, room)
        admissions, answer = self.context.service(Admissions), None
        with contextlib.suppress(MomError):  # without an answer, do not refuse
            answer = None if admissions is None else admissions.admission(memory_kib)
        if answer is not None and not answer.admitted:
            message = f"cannot reserve {format_kib(memory_kib)}: a guest of that size would break promises to other guests"
            raise Reservation.Refused(message, room=room, hint=answer.reasons[0] if answer.reasons else "see `mom admit`")
        expected = seconds_to_free(max(0, memory_kib - room.unreserved_kib), spare, self.context.interval)
        if expected is None or expected > seconds:
            raise too_late(memory_kib, seconds, expected, room)
        return room

    def reservations(self) -> Sequence[Reservation]:
        """Return active reservations and the last ended ones."""
        with self._up_to_date():
            return [*self._described().values(), *self._ended]

    def release(self, identity: str, *, who: str = "") -> Reservation:
        """End a reservation."""
        with self._up_to_date(changes=True):
            if identity not in self._kept:
                ended = next((reservation for reservation in self._ended if reservation.id == identity), None)
                state = f"has ended already: it is {ended.state}" if ended else "does not exist"
                hint = f"reservations in force: {', '.join(self._kept) or 'none'}"
                raise MomError(f"reservation {printable(identity)} {state}", hint=hint)
            released = self._end(identity, Reservation.State.RELEASED, f"released by {printable(who, 200)}")
        self.context.wake("memory was released")
        return released

    def give_up(self, identity: str, *, who: str) -> None:
        """End the reservation that a refused launch made. An earlier reservation for the guest remains."""
        with self._up_to_date(), contextlib.suppress(MomError):  # a reload may have replaced the plugin
            kept = self._kept.get(identity)
            if kept is not None and kept.is_of_launch:
                self.release(identity, who=who)

    def reserved_kib(self) -> int:
        """Return reserved memory that no guest has touched."""
        with self._up_to_date():
            return sum(self._kept_kib(kept, now=True) for kept in self._kept.values())

    def follow(self) -> Sequence[Reservation]:
        """Evaluate the last snapshot. Return reservations that lack memory, with the reason."""
        with self._lock:
            snapshot = self._snapshot = self.guests.snapshot
            self._with_guests = snapshot if snapshot.guests else self._with_guests
            with self._up_to_date(snapshot):
                return [reservation for reservation in self._described().values() if reservation.note]

    def _see_takers(self, snapshot: Snapshot) -> None:
        now, takers = self.context.monotonic(), self._takers
        for identity, kept in list(self._kept.items()):
            guest, before, record = snapshot.guests.get(kept.guest), takers.get(kept.guest), self.guests.of(kept.guest)
            if kept.taken_at is None:
                continue
            if guest is not None and before is not None and guest.incarnation == kept.incarnation and _is_arriving(guest, before):
                self._kept[identity] = replace(kept, taken_at=now)
            elif snapshot.guests and (record is None or record.incarnation != kept.incarnation):
                name = printable(kept.guest_name)
                if kept.is_of_launch:
                    self._end(identity, Reservation.State.USED, f"guest {name} used it, and no longer exists")
                    continue
                self._kept[identity] = replace(kept, guest="", guest_name="", incarnation="", taken_at=None)
                self.context.log.warning("guest %s no longer exists: its reservation %s is kept for another guest", name, identity)
        for kept, guest in self._matched(snapshot, now):
            self._kept[kept.id] = replace(kept, guest=guest.id, guest_name=guest.name, incarnation=guest.incarnation, taken_at=now)
            self.context.log.info("guest %s uses reservation %s", printable(guest.name), kept.id)
        seen = {kept.guest: snapshot.guests.get(kept.guest) or takers.get(kept.guest) for kept in self._kept.values()}
        self._takers = {identity: guest for identity, guest in seen.items() if guest is not None}

    def _matched(self, snapshot: Snapshot, now: float) -> Iterator[tuple[KeptReservation, Guest]]:
        vacant = sorted((kept for kept in self._kept.values() if kept.taken_at is None), key=lambda kept: kept.specificity)
        if not vacant:
            return
        oldest = min(kept.made for kept in vacant) - LISTED_BEFORE_SECONDS
        pasts = zip(snapshot.listed, self.guests.of_all(snapshot.listed), strict=True)
        arrived = {guest.id: past for guest, past in pasts if past.started_after(oldest)}
        for kept in vacant:
            for identity, past in arrived.items():
                guest = snapshot.guests[identity]
                early = LISTED_BEFORE_SECONDS if kept.launch in {guest.id, guest.name} else 0.0
                if past.started_after(kept.made - early) and kept.fits(guest, guest.number("balloon_max"), now):
                    self.guests.put(identity, arrived.pop(identity).without_start())
                    yield kept, guest
                    break

    def load(self) -> None:
        """Load the previous run's reservations, once, unless the host has rebooted."""
        with self._lock:
            if self.loaded or not self.context.serves:
                return
            self.loaded = True
            self.file.read_again()
            content = self.file.state.reservations
            if content is None:
                return
            if content.boot != boot_id(self.context.root / "proc") or content.monotonic > self.context.monotonic():
                self.context.log.warning("%d reservations have ended, because the host was rebooted", len(content.reservations))
                return
            self._kept = {kept.id: kept for kept in content.reservations}
            self.guests.earlier = content.guests
            for kept in content.reservations:
                if kept.taken_at is not None:
                    self.guests.expect(kept.guest, kept.incarnation)
            with self._up_to_date():
                if self._kept:
                    self.context.log.info("took over %d reservations of an earlier run", len(self._kept))

    @contextlib.contextmanager
    def _up_to_date(self, snapshot: Snapshot | None = None, *, changes: bool = False) -> Iterator[None]:
        # Holds the lock, ends finished reservations, and writes all changes at the end. With `changes`, this raises `MomError` after a
        # reload has replaced this plugin.
        with self._lock:
            if changes and self.file.left:
                raise MomError("mom is stopping or reloading its configuration: nothing was changed", hint="ask again in a moment")
            before = dict(self._kept)
            if snapshot is not None:
                self._see_takers(snapshot)
            self._end_finished()
            try:
                yield
            finally:
                if self._kept != before:
                    kept, boot = tuple(self._kept.values()), boot_id(self.context.root / "proc")
                    content = KeptReservations(boot, self.context.monotonic(), self.guests.incarnations(), kept) if kept else None
                    self.file.change(reservations=content)
                    self.file.save()

    # --- inside: the lock is held -------------------------------------------------------------------------------------------------------

    def _current(self) -> Snapshot:
        snapshot = seen_lately(self._snapshot, self.context, "mom cannot reserve memory")
        if None in {snapshot.host.number("mem_really_available"), snapshot.host.number("mem_available")}:
            raise MomError("the host's total or available memory is unknown", hint="enable a plugin that collects it, such as `host`")
        return snapshot

    def _room(self, snapshot: Snapshot) -> tuple[Reservation.Room, Spare]:
        why = self.why_none_gives()
        spare = Spare(0.0, 0.0) if why else spare_of(self.guests, self.law, self.limits(), self.context.interval)
        last = self._with_guests
        last = snapshot if last is None or snapshot.monotonic - last.monotonic > AWAY_SECONDS else last
        host_keeps = None if self.settings.host_keeps is None else self.settings.host_keeps / 1024
        reserved = sum(map(self._kept_kib, self._kept.values()))
        rising = math.ceil(last.host.number(AHEAD) or 0.0)
        return room_of(snapshot, last, spare, host_keeps, reserved_kib=reserved, why=why, rising_kib=rising), spare

    def _kept_kib(self, kept: KeptReservation, *, now: bool = False) -> int:
        # Returns the part that the guest has not touched. With `now`, reads the RSS: a booting guest touches gigabytes between cycles.
        guest = None if kept.taken_at is None else self._takers.get(kept.guest)
        if guest is None:
            return kept.memory_kib
        size, rss, pid = min(kept.memory_kib, guest.whole("balloon_max") or kept.memory_kib), guest.number("rss"), pid_of(guest)
        process = QemuProcess(pid, self.context.root / "proc").read() if now and pid is not None else None
        return max(0, size - int((rss or 0.0) if process is None else process.resident))

    def _end_finished(self) -> None:
        now = self.context.monotonic()
        for identity, kept in list(self._kept.items()):
            name, left = printable(kept.guest_name), self._kept_kib(kept)
            if kept.taken_at is None:
                if now >= kept.deadline:
                    self._end(identity, Reservation.State.EXPIRED, "no guest started for it in time")
            elif left < TOUCHED_KIB:
                self._end(identity, Reservation.State.USED, f"guest {name} has it")
            elif now - kept.taken_at >= self.settings.settle:
                self._end(identity, Reservation.State.USED, f"guest {name} has not touched {format_kib(left)} of it in time")

    def _end(self, identity: str, state: Reservation.State, note: str) -> Reservation:
        ended = replace(self._describe(self._kept.pop(identity), note), state=state, expires_in_seconds=0.0)
        self._short_since.pop(identity, None)
        self._ended.append(ended)
        self.context.log.info("reservation %s of %s is %s: %s", identity, format_kib(ended.memory_kib), state, note)
        return ended

    def _described(self) -> dict[str, Reservation]:
        # The oldest reservation gets available memory first.
        if not self._kept:
            return {}
        try:
            room, spare = self._room(self._current())
        except MomError as error:
            return {identity: self._describe(kept, error.message, self._kept_kib(kept)) for identity, kept in self._kept.items()}
        now, left = self.context.monotonic(), room.unreserved_kib + room.reserved_kib + room.rising_kib
        described: dict[str, Reservation] = {}
        for identity, kept in self._kept.items():
            size = self._kept_kib(kept)
            free = max(0, min(left, size))
            left -= size
            missing = -left if free < size else 0
            expected, note = seconds_to_free(missing, spare, self.context.interval), ""
            if expected is not None:
                self._short_since.pop(identity, None)
            elif now - self._short_since.setdefault(identity, now) >= SHORT_SECONDS:
                why = room.why or "guests need memory that they could spare before"
                note = f"{format_kib(missing - spare.total - spare.cold)} of it cannot be freed any more: {why}"
            described[identity] = self._describe(kept, note, size, free, expected)
        return described

    def _describe(self, kept: KeptReservation, note: str, size: int = 0, there: int = 0, expected: float | None = None) -> Reservation:
        state = Reservation.State.READY if there >= size else Reservation.State.MAKING
        until, guest = kept.deadline, None
        if kept.taken_at is not None:
            state, until = Reservation.State.TAKEN, kept.taken_at + self.settings.settle
            guest = Guest(kept.guest, kept.guest_name).entity
        left, missing = max(0.0, until - self.context.monotonic()), max(0, size - there)
        return Reservation(
            kept.id, kept.memory_kib, state, kept.name, kept.who, kept.created, left, size, there, missing, expected, guest, note
        )


def _is_arriving(guest: Guest, before: Guest) -> bool:
    # A guest that cannot be controlled yet, and whose process grows, is being migrated to this host.
    rss, rss_before = guest.number("rss"), before.number("rss")
    return bool(guest.blocked.get("*")) and rss is not None and rss_before is not None and rss > rss_before


def policies_reserve(texts: Iterable[str]) -> bool:
    """Return whether a policy reads `mem_reserved` or the law's suggestions."""
    return any(RESERVED in text or SUGGESTED in text for text in texts)


def _check_request(memory_kib: int, seconds: float, name: str) -> None:
    if not LEAST_KIB <= memory_kib <= MOST_KIB:
        hint = f"from {format_kib(LEAST_KIB)} to {format_kib(MOST_KIB)}"
        raise UnitError(f"reservation of {format_kib(memory_kib)} is out of range", hint=hint)
    if not LEAST_SECONDS <= seconds <= LONGEST_SECONDS:
        hint = f"from {format_duration(LEAST_SECONDS)} to {format_duration(LONGEST_SECONDS)}; for longer, set host_free"
        raise UnitError(f"reservation for {seconds:g} s is out of range", hint=hint)
    if len(name) > _LONGEST_NAME or not name.isprintable():
        hint = f"use at most {_LONGEST_NAME} printable characters"
        raise UnitError(f"invalid pattern {printable(name)!r} for a guest's name or id", hint=hint)


def _pattern_of(guest: LaunchedGuest) -> str:
    # This pattern matches only this guest.
    patterns = (glob.escape(name) for name in (guest.name, guest.id, printable(guest.name, _LONGEST_NAME // 4)) if name)
    return next(pattern for pattern in patterns if pattern.isprintable() and len(pattern) <= _LONGEST_NAME)
