"""Guests that arrive for reservations."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from mom_core import Guest, PluginContext, Snapshot, printable
from mom_kvm import pid_of
from mom_plugins_balloon.balloon_state import KeptReservation
from mom_plugins_balloon.ballooned_guests import BalloonedGuests
from mom_plugins_balloon.names import EXPECTED
from mom_plugins_balloon.remembered import Remembered
from mom_plugins_balloon.seen import used_kib
from mom_plugins_balloon.sweep.qemu_process import QemuProcess

LISTED_BEFORE_SECONDS: Final = 10.0
"""Seconds. libvirt may list a guest this long before the guest's hook asks mom."""


class Arrivals:
    """Listed guests that have arrived for reservations."""

    def __init__(self, guests: BalloonedGuests, context: PluginContext) -> None:
        self._guests, self._context = guests, context
        self._takers: Mapping[str, Guest] = {}

    def see(
        self, kept: Mapping[str, KeptReservation], snapshot: Snapshot, now: float
    ) -> tuple[Mapping[str, KeptReservation], Sequence[KeptReservation]]:
        """Return changed reservations keyed by ID, and reservations whose guest is gone."""
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
                self._context.log.warning("guest %s no longer exists: its reservation %s is kept for another guest", name, identity)
        lasting = {identity: changed.get(identity, reservation) for identity, reservation in kept.items() if reservation not in ended}
        for reservation, guest in self._matched([*lasting.values()], snapshot, now):
            matched = replace(reservation, guest=guest.id, guest_name=guest.name, incarnation=guest.incarnation, taken_at=now)
            changed[reservation.id] = lasting[reservation.id] = matched
            self._context.log.info("guest %s uses reservation %s", printable(guest.name), reservation.id)
        takers = [(entry.guest, snapshot.guests.get(entry.guest) or self._takers.get(entry.guest)) for entry in lasting.values()]
        self._takers = {identity: guest for identity, guest in takers if guest is not None}
        return changed, ended

    def kept_kib(self, reservation: KeptReservation, *, now: bool = False) -> int:
        """Return the KiB of a reservation that its guest has not touched.

        :param now: read the RSS now; a booting guest touches gigabytes between two cycles
        """
        guest = self._taker(reservation)
        if guest is None:
            return reservation.memory_kib
        size = min(reservation.memory_kib, guest.whole("balloon_max") or reservation.memory_kib)
        return max(0, size - int(self._held_kib(guest) if now else guest.number("rss") or 0.0))

    def expected_kib(self, kept: Mapping[str, KeptReservation]) -> float:
        """Return how many KiB of the guests' expected growth their reservations cover."""
        takers = [(reservation, self._taker(reservation)) for reservation in kept.values()]
        return sum(min(self.kept_kib(reservation), _usual_rise_kib(guest)) for reservation, guest in takers if guest is not None)

    def _taker(self, reservation: KeptReservation) -> Guest | None:
        return None if reservation.taken_at is None else self._takers.get(reservation.guest)

    def _held_kib(self, guest: Guest) -> float:
        pid = pid_of(guest)
        process = None if pid is None else QemuProcess(pid, self._context.root / "proc").read()
        return guest.number("rss") or 0.0 if process is None else process.resident

    def _is_left(self, reservation: KeptReservation, snapshot: Snapshot) -> bool:
        if reservation.taken_at is None or not snapshot.guests:
            return False
        record = self._guests.of(reservation.guest)
        return record is None or record.incarnation != reservation.incarnation

    def _still_arrives(self, reservation: KeptReservation, snapshot: Snapshot) -> bool:
        guest, before = snapshot.guests.get(reservation.guest), self._taker(reservation)
        if guest is None or before is None or not guest.blocked.get("*") or guest.incarnation != reservation.incarnation:
            return False
        rss, rss_before = guest.number("rss"), before.number("rss")
        return rss is not None and rss_before is not None and rss > rss_before

    def _matched(self, reservations: Sequence[KeptReservation], snapshot: Snapshot, now: float) -> Iterator[tuple[KeptReservation, Guest]]:
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
    expected, used = guest.number(EXPECTED), used_kib(*map(guest.number, ("mem_available", "balloon_cur", "mem_usable")))
    return 0.0 if expected is None or used is None else max(0.0, expected - used)
