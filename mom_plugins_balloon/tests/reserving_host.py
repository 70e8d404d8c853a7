"""Host for tests of reservations, with its clock and snapshots."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from guest_facts import GIB, MIB

from mom_core import Guest, Host, PluginContext, Snapshot, Value
from mom_devkit import HandClock
from mom_kvm import Reservation
from mom_plugins_balloon.balloon_state import BalloonFile
from mom_plugins_balloon.ballooned_guests import BalloonedGuests
from mom_plugins_balloon.gate import ShrinkLimits
from mom_plugins_balloon.parameters import LawParameters, ReservationSettings
from mom_plugins_balloon.reservations import HostReservations

LIMITS = ShrinkLimits(64 * MIB, 0.05, 15.0)
TOTAL = 32 * GIB
KEEPS = int(TOTAL * 0.05)


def a_guest(identity: str, size: int = 4 * GIB, need: int = GIB, incarnation: str = "", **more: Value) -> Guest:
    fields: dict[str, Value] = {
        "balloon_cur": size, "balloon_max": size, "mem_usable": size - need, "stats_age": 1.0, "swap_in": 0, "swap_out": 0, "rss": size,
    }  # fmt: skip
    return Guest(identity, identity, {**fields, **more}, incarnation=incarnation)


def seen(now: float, available: float, *guests: Guest) -> Snapshot:
    host = Host(fields={"mem_available": TOTAL, "mem_really_available": int(available)})
    return Snapshot(host, {guest.id: guest for guest in guests}, monotonic=now)


class KeptReservation:
    """Reservations of a host. The test sets the clock and the snapshots."""

    def __init__(self, folder: Path, **more: object) -> None:
        self.clock = HandClock(1000.0)
        self.why = ""
        self.woken: list[str] = []
        self.context = PluginContext("balloon", folder, folder / "state", folder / "run", monotonic=self.clock, wake=self.woken.append)
        (folder / "proc/sys/kernel/random").mkdir(parents=True, exist_ok=True)
        (folder / "proc/sys/kernel/random/boot_id").write_text("boot-1\n")
        self.settings = ReservationSettings(**{"host_keeps": f"{KEEPS}KiB", **more})  # type: ignore[arg-type]  # from tests
        self.kept = self.begin()

    def begin(self, age_of: Callable[[Guest], float | None] = lambda guest: None) -> HostReservations:
        """Start mom again."""
        self.guests = BalloonedGuests(age_of=age_of)
        self.state = BalloonFile(self.context)
        self.kept = HostReservations(
            self.settings, LawParameters(), self.context, self.guests, self.state, lambda: LIMITS, lambda: self.why
        )
        self.kept.load()
        return self.kept

    def see(self, available: float, *guests: Guest, after: float = 5.0) -> None:
        self.clock.now += after
        self.follow(seen(self.clock.now, available, *guests))

    def follow(self, snapshot: Snapshot) -> None:
        self.guests.see(snapshot)
        self.kept.follow()

    def reserved(self, kib: int, *guests: Guest, available: int = 8 * GIB, seconds: float = 600, name: str = "") -> Reservation:
        """Reserve memory on a host with this available memory."""
        self.see(available, *guests)
        return self.kept.reserve(kib, seconds, name=name)

    def booting(self, identity: str, holds_kib: int, size: int = 4 * GIB) -> Guest:
        """Return a guest with RSS 0 in the snapshot, whose process holds this much now."""
        process = self.context.root / "proc/77"
        process.mkdir()
        (process / "stat").write_text(f"77 (qemu) S {'0 ' * 20}{holds_kib // 4} {'0 ' * 20}\n")
        return replace(a_guest(identity, size, rss=0), properties={"pid": 77})

    @property
    def file(self) -> Path:
        return self.context.state_directory / "balloon/balloon.json"

    def one(self, identity: str = "") -> Reservation:
        return next(kept for kept in self.kept.reservations() if kept.id == identity or not identity)

    def taker(self, made: Reservation) -> str:
        """Return the ID of the guest that uses a reservation; empty without one."""
        return guest.id if (guest := self.one(made.id).guest) is not None else ""
