"""Room for every launch: what happens between the moment in which a guest is to be started and that in which it is.

What is here decides, and never waits: who asks comes back until it is decided. Whatever keeps mom from knowing starts the guest.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, field, replace
from typing import Final

from mom_core import MomError, PluginContext, format_kib, printable
from mom_kvm import Launch, LaunchedGuest, LaunchState, Reservation, ReservationRefused, ReservationState, Room
from mom_plugins_balloon.parameters import LaunchSettings, WhenShort
from mom_plugins_balloon.reservations import HostReservations

COME_SECONDS: Final = 60.0
"""For so long after the wait memory is kept for a guest that does not come: its disk may be missing, or its process slow to begin."""

MOST_WAITING: Final = 8
"""Launches at once. Each start that waits holds one of libvirtd's threads, of which it has 20 by default, and mom needs some itself."""

_LOOK_SECONDS: Final = 0.5
"""How often a launch that waits has the host looked at; the engine does so no more often."""


@dataclass(eq=False)
class HostLaunches:
    """The balloon plugin's `Launches`."""

    settings: LaunchSettings
    reservations: HostReservations
    context: PluginContext
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _waiting: dict[str, float] = field(default_factory=dict)
    """Reservations that launches wait for, and until when."""
    _woken_at: float = 0.0

    def begin(self, guest: LaunchedGuest, *, patience: float, who: str = "") -> Launch:
        """Have memory kept for the guest, and say whether it may start."""
        if guest.why_none:
            self.context.log.debug("guest %s is started: %s", printable(guest.name), guest.why_none)
            return Launch(guest, LaunchState.STARTS)
        if self.context.observes:
            return self._observed(guest)
        wait = min(self.settings.wait, patience)
        launch = Launch(guest, LaunchState.WAITING, until=self.context.monotonic() + wait)
        try:
            kept = self.reservations.keep_for(guest, wait + COME_SECONDS, part_kib=guest.memory_kib, who=who)
        except ReservationRefused as error:
            return self._short(replace(launch, note=error.message, hint=error.hint), error.room, who)
        except MomError as error:
            return self._decided(replace(launch, note=f"nothing could be kept for it: {error.message}", hint=error.hint), may_refuse=False)
        return self._judged(replace(launch, reservation=kept.id), kept)

    def look(self, launch: Launch) -> Launch:
        """The launch as it is by now."""
        if launch.state is not LaunchState.WAITING:
            return launch
        kept = next((one for one in self.reservations.reservations() if one.id == launch.reservation), None)
        if kept is None and not self.reservations.loaded and self.context.monotonic() < launch.until:
            return launch  # a reload has just made this plugin, and it has yet to read what is kept
        return self._judged(launch, kept)

    def _observed(self, guest: LaunchedGuest) -> Launch:
        """A mom that only observes says what it would have made, and starts the guest."""
        with contextlib.suppress(MomError):
            there = self.reservations.room().free_kib
            if there < guest.memory_kib:
                sizes = format_kib(there), format_kib(guest.memory_kib)
                self.context.log.info("guest %s is started with %s of its %s there: mom only observes", printable(guest.name), *sizes)
        return Launch(guest, LaunchState.STARTS, note="mom only observes: nothing was made for it")

    def _short(self, launch: Launch, room: Room, who: str) -> Launch:
        """All of it cannot be had. A guest that is started all the same gets what can."""
        if self.settings.when_short is WhenShort.REFUSE:
            return self._decided(launch)
        left, there, gives = max(0.0, launch.until - self.context.monotonic()), room.unreserved_kib, room.can_free_kib
        # What is too much, or comes too late, is tried in parts: all that can be had; without what goes to swap; what guests give at first;
        # what is there. With 0, the guest has what is kept for it already, if anything is.
        parts = [min(part, launch.guest.memory_kib) for part in (room.most_kib, there + gives, there + gives // 2, there, 0)]
        for part in dict.fromkeys(parts):
            with contextlib.suppress(MomError):
                kept = self.reservations.keep_for(launch.guest, left + COME_SECONDS, part_kib=part, who=who)
                return self._judged(replace(launch, reservation=kept.id), kept)
        return self._decided(launch)

    def _judged(self, launch: Launch, kept: Reservation | None) -> Launch:
        """The launch, by what is there of what is kept for it."""
        now = self.context.monotonic()
        if kept is None or kept.state in {ReservationState.RELEASED, ReservationState.EXPIRED}:
            return self._decided(replace(launch, note="what was kept for it was given up"), may_refuse=False)
        if kept.state is not ReservationState.MAKING:
            return self._decided(launch, may_refuse=False)
        crowded = not self._may_wait(launch, now)
        if now < launch.until and not crowded:
            self._wake(launch.guest, now)
            return launch
        try:
            self.reservations.room()
        except MomError as error:
            note = f"what is there for it is not known: {error.message}"
            return self._decided(replace(launch, note=note, hint=error.hint), may_refuse=False)
        when = kept.expected_in_seconds
        rest = "when the rest will be is unknown" if when is None else f"the rest is expected in some {max(when, 1):.0f} s"
        note = f"{format_kib(kept.there_kib)} of its {format_kib(launch.guest.memory_kib)} are there, {rest}"
        if crowded:
            note += f"; {MOST_WAITING} others wait for memory already"
        return self._decided(replace(launch, note=launch.note or note, hint=launch.hint or "start it again later"))

    def _may_wait(self, launch: Launch, now: float) -> bool:
        with self._lock:
            self._waiting = {one: until for one, until in self._waiting.items() if now < until + _LOOK_SECONDS}
            if launch.reservation not in self._waiting and len(self._waiting) >= MOST_WAITING:
                return False
            self._waiting[launch.reservation] = launch.until
            return True

    def _wake(self, guest: LaunchedGuest, now: float) -> None:
        """Have the host looked at: between two cycles, nobody sees that memory has come."""
        with self._lock:
            if now - self._woken_at < _LOOK_SECONDS:
                return
            self._woken_at = now
        self.context.wake(f"guest {printable(guest.name)} waits for memory")

    def _decided(self, launch: Launch, *, may_refuse: bool = True) -> Launch:
        """The launch at its end: it starts, or is refused where there is something against it."""
        with self._lock:
            self._waiting.pop(launch.reservation, None)
        name = printable(launch.guest.name)
        if launch.note and may_refuse and self.settings.when_short is WhenShort.REFUSE:
            self.reservations.give_up(launch.reservation, who="the launch that was refused")
            self.context.log.warning("guest %s is not started: %s", name, launch.note)
            return replace(launch, state=LaunchState.REFUSED)
        if launch.note:
            self.context.log.warning("guest %s is started all the same: %s", name, launch.note)
        return replace(launch, state=LaunchState.STARTS)
