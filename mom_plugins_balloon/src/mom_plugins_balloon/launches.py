"""Launches: a hypervisor's hook asks mom for memory before a guest starts.

The caller polls until mom decides. If mom lacks information, the guest starts.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, field, replace
from typing import Final

from mom_core import MomError, PluginContext, format_kib, printable
from mom_kvm import LaunchedGuest, Reservation
from mom_plugins_balloon.parameters import LaunchSettings, WhenShort
from mom_plugins_balloon.reservations import HostReservations

COME_SECONDS: Final = 60.0
"""Seconds for which mom keeps the memory after a launch's wait, because guests may start slowly."""

MOST_WAITING: Final = 8
"""Maximum number of waiting launches. Each occupies one of libvirtd's 20 threads."""

_LOOK_SECONDS: Final = 0.5
"""If a caller stops asking, its launch counts as waiting until this many seconds after its time limit."""

_ENDED: Final = {Reservation.State.RELEASED, Reservation.State.EXPIRED}


@dataclass(eq=False)
class HostLaunches:
    """Launches on this host. Implements `Launches`."""

    settings: LaunchSettings
    reservations: HostReservations
    context: PluginContext
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _waiting: dict[str, float] = field(default_factory=dict)
    """Time limits of waiting launches, keyed by reservation ID."""

    def begin(self, guest: LaunchedGuest, *, patience: float, who: str = "") -> LaunchedGuest.Launch:
        """Reserve memory for a guest, and return its launch."""
        if guest.why_none:
            self.context.log.debug("guest %s needs no reservation: %s", printable(guest.name), guest.why_none)
            return LaunchedGuest.Launch(guest, LaunchedGuest.Launch.State.STARTS)
        if self.context.observes:
            note = "mom only observes: no memory was reserved for this guest"
            self.context.log.info("guest %s: %s", printable(guest.name), note)
            return LaunchedGuest.Launch(guest, LaunchedGuest.Launch.State.STARTS, note=note)
        wait = min(self.settings.wait, patience)
        launch = LaunchedGuest.Launch(guest, LaunchedGuest.Launch.State.WAITING, until=self.context.monotonic() + wait)
        try:
            kept = self.reservations.keep_for(guest, wait + COME_SECONDS, memory_kib=guest.memory_kib, who=who)
        except Reservation.Refused as error:
            return self._short(replace(launch, note=error.message, hint=error.hint), error.room, who)
        except MomError as error:
            return self._start(replace(launch, note=f"cannot reserve memory for it: {error.message}", hint=error.hint))
        return self._judged(replace(launch, reservation=kept.id), kept)

    def look(self, launch: LaunchedGuest.Launch) -> LaunchedGuest.Launch:
        """Return the launch's present state."""
        if launch.state is not LaunchedGuest.Launch.State.WAITING:
            return launch
        kept = next((kept for kept in self.reservations.reservations() if kept.id == launch.reservation), None)
        if kept is None and not self.reservations.loaded and self.context.monotonic() < launch.until:
            return launch  # after a reload, mom has not read the reservations yet
        return self._judged(launch, kept)

    def _short(self, launch: LaunchedGuest.Launch, room: Reservation.Room, who: str) -> LaunchedGuest.Launch:
        # A guest that starts anyway gets the largest possible part.
        if self.settings.when_short is WhenShort.REFUSE:
            return self._refuse(launch)
        left = max(0.0, launch.until - self.context.monotonic())
        for part in (room.most_kib, room.free_kib + room.can_free_kib // 2, room.free_kib):
            with contextlib.suppress(MomError):
                kept = self.reservations.keep_for(launch.guest, left + COME_SECONDS, memory_kib=min(part, launch.guest.memory_kib), who=who)
                return self._judged(replace(launch, reservation=kept.id), kept)
        return self._start(launch)

    def _judged(self, launch: LaunchedGuest.Launch, kept: Reservation | None) -> LaunchedGuest.Launch:
        now = self.context.monotonic()
        if kept is None or kept.state in _ENDED:
            return self._start(replace(launch, note="its reservation has ended"))
        if kept.state is not Reservation.State.MAKING:
            return self._start(launch)
        crowded = not self._may_wait(launch, now)
        if now < launch.until and not crowded:
            self.context.wake(f"guest {printable(launch.guest.name)} waits for memory")  # a cycle sees memory that has become available
            return launch
        try:
            self.reservations.room()
        except MomError as error:
            return self._start(replace(launch, note=f"the memory available for it is unknown: {error.message}", hint=error.hint))
        expected = kept.expected_in_seconds
        when = "it is unknown when the rest becomes free" if expected is None else f"the rest is expected in about {max(expected, 1):.0f} s"
        note = f"{format_kib(kept.there_kib)} of its {format_kib(launch.guest.memory_kib)} are available; {when}"
        if crowded:
            note += f"; {MOST_WAITING} other launches are waiting already"
        launch = replace(launch, note=launch.note or note, hint=launch.hint or "start it again later")
        return self._refuse(launch) if self.settings.when_short is WhenShort.REFUSE else self._start(launch)

    def _may_wait(self, launch: LaunchedGuest.Launch, now: float) -> bool:
        with self._lock:
            self._waiting = {kept: until for kept, until in self._waiting.items() if now < until + _LOOK_SECONDS}
            if launch.reservation not in self._waiting and len(self._waiting) >= MOST_WAITING:
                return False
            self._waiting[launch.reservation] = launch.until
            return True

    def _refuse(self, launch: LaunchedGuest.Launch) -> LaunchedGuest.Launch:
        self._wait_no_more(launch)
        self.reservations.give_up(launch.reservation, who="the launch that was refused")
        self.context.log.warning("guest %s is not started: %s", printable(launch.guest.name), launch.note)
        return replace(launch, state=LaunchedGuest.Launch.State.REFUSED)

    def _start(self, launch: LaunchedGuest.Launch) -> LaunchedGuest.Launch:
        self._wait_no_more(launch)
        if launch.note:
            self.context.log.warning("guest %s is started anyway: %s", printable(launch.guest.name), launch.note)
        return replace(launch, state=LaunchedGuest.Launch.State.STARTS)

    def _wait_no_more(self, launch: LaunchedGuest.Launch) -> None:
        with self._lock:
            self._waiting.pop(launch.reservation, None)
