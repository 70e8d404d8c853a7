"""Guest in simulated time, for tests of sweeps."""

import math
from collections.abc import Callable
from typing import Any

from guest_facts import MIB

from mom_core import Entity, Scope
from mom_plugins_balloon.sweep.qemu_process import ProcessReading
from mom_plugins_balloon.sweep.records import SweepPlan
from mom_plugins_balloon.sweep.sweep import Sweep, SweptBalloon

SIZE = 1024 * MIB
BALLOON = 900 * MIB
"""KiB/s, with a whole CPU of the guest."""
DEFLATES = 2000 * MIB
"""KiB/s."""
HELD = 150 * MIB
"""KiB that the idle guest uses."""
BOTTOM = HELD + 100 * MIB
GROWTH = 320 * MIB
"""KiB/s."""
ENTITY = Entity(Scope.GUEST, "a", "name-a")


class SimulatedGuest:
    """Guest whose program grows at `GROWTH` from `grows_at` on, until it uses `most`.

    The guest has used and freed all other memory, or only `idle` of it: then the rest is hollow. The balloon takes hollow memory last, or
    with `hollow_first` at first. `short` counts seconds for which the program gets too little memory.
    """

    def __init__(
        self, grows_at: float = math.inf, idle: float | None = None, balloon: float = BALLOON, *, hollow_first: bool = False
    ) -> None:
        self.now = self.cpu = self.faulted = self.short = 0.0
        self.size = self.target = float(SIZE)
        self.held, self.most = float(HELD), 850.0 * MIB
        self.resident = float(SIZE if idle is None else HELD + idle)
        self.hollow, self.hollow_first = SIZE - self.resident, hollow_first
        self.grows_at, self.balloon = grows_at, balloon
        self.commands: list[int] = []
        self.errors: list[Exception] = []
        self.gone = False

    def read(self) -> ProcessReading | None:
        return None if self.gone else ProcessReading(self.cpu, self.resident, self.faulted)

    def resize(self, kib: int) -> None:
        self.commands.append(kib)
        if self.errors:
            raise self.errors.pop(0)
        self.target = float(kib)

    def clock(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        steps = max(1, round(seconds / 0.001))
        for _ in range(steps):
            self.step(seconds / steps)

    def step(self, dt: float) -> None:
        self.now += dt
        grows = min(GROWTH * dt, self.most - self.held) if self.now >= self.grows_at else 0.0
        share = 0.5 if grows and self.target != self.size else 1.0
        if self.target < self.size:
            self._inflate(min(self.balloon * dt * share, self.size - self.target, max(0.0, self.size - self.held)))
        elif self.target > self.size:
            self.size = min(self.target, self.size + DEFLATES * dt * share)
            self.cpu += dt * share
        if grows:
            got = min(grows, self.size - self.held)
            self.held += got
            self.faulted += max(0.0, self.held - self.resident)
            self.resident = max(self.resident, self.held)
            self.cpu += dt * 0.7
            self.short += dt if got < grows / 2 else 0.0

    def _inflate(self, kib: float) -> None:
        idle = max(0.0, self.resident - self.held)
        hollow = min(self.hollow, kib) if self.hollow_first else 0.0
        self.size -= kib
        self.hollow -= hollow
        self.faulted += hollow
        self.resident -= min(kib - hollow, idle)
        self.cpu += kib / BALLOON

    def statistics(self, period: float = 2.0) -> Callable[[], tuple[float, float] | None]:
        """Return a function that returns the guest's statistics. They are updated every `period` seconds, first after half of that."""
        made: dict[int, tuple[float, float]] = {0: (100.0, SIZE - HELD)}

        def latest() -> tuple[float, float] | None:
            number = int((self.now + period / 2) // period)
            return made.setdefault(number, (100.0 + int(number * period), self.size - self.held))

        return latest


def plan_of(guest: SimulatedGuest, **changes: Any) -> SweepPlan:
    """Return a plan for everything that the guest does not use, with these changes."""
    plan = {"size": SIZE, "bottom": BOTTOM, "gain": SIZE, "hollow": guest.hollow, "usable": SIZE - HELD}
    return SweepPlan(**(plan | changes))


def sweep_of(
    guest: SimulatedGuest,
    plan: SweepPlan | None = None,
    pause: Callable[[float], None] | None = None,
    resize: Callable[[int], None] | None = None,
    statistics: Callable[[], tuple[float, float] | None] | None = None,
    *,
    reports_size: bool = True,
    entity: Entity = ENTITY,
) -> Sweep:
    """Return a sweep of the guest, with functions in place of the guest's own."""
    balloon = SweptBalloon(resize or guest.resize, lambda: guest.size if reports_size else None, statistics or (lambda: None))
    return Sweep(entity, "1", plan or plan_of(guest), balloon, guest.read, clock=guest.clock, pause=pause or guest.pause)
