"""Statistics of a guest: as late as its balloon driver sends it; nothing before the first time, and no rates at the first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from mom_plugins_sim.guest import SimulatedGuestMemory


class SentFigures(NamedTuple):
    """The figures that a guest sends, by the names of the fields. None: unknown, as rates are the first time."""

    mem_available: int | None = None
    mem_unused: int | None = None
    mem_usable: int | None = None
    mem_disk_caches: int | None = None
    swap_in: int | None = None
    swap_out: int | None = None
    major_fault: int | None = None
    minor_fault: int | None = None


NOTHING: Final = SentFigures()

STALE_PERIODS = 3
"""Statistics that were missed twice are stale."""

GRACE_SECONDS: Final = 60.0
SILENT_SECONDS: Final = 30.0
SILENT_STALE: Final = 3
"""For how long a balloon's driver need not have answered for the first time; and for how long, or for how many times the age from which on
they are stale, statistics may not come, before nothing is asked of the balloon: as of real guests (mom_kvm/seen_guests.py)."""


@dataclass(slots=True)
class SentStatistics:
    """The statistics of one guest: sent every `period` seconds, next at `due`. `silent`: its driver sends none.

    `told` is what was sent last, at `at`; nothing before the first time. The guest is there `since` then.
    """

    period: float
    due: float
    silent: bool = False
    at: float = 0.0
    told: SentFigures = NOTHING
    since: float = 0.0
    _counters: tuple[float, float, float, float] | None = None

    def take(self, guest: SimulatedGuestMemory, time: float) -> None:
        """Send statistics now if they are due. Lack of memory delays none: from a real guest that waited for 700 pages of its swap a second
        they came each second (docs/simulator.md)."""
        if time < self.due or self.silent:
            return
        counters = (guest.swap_in, guest.swap_out, guest.major_faults, guest.minor_faults)
        before = self._counters
        rates: tuple[int | None, ...] = (None,) * len(counters)
        if before is not None and time > self.at:
            rates = tuple(round((now - then) / (time - self.at)) for now, then in zip(counters, before, strict=True))
        self.told = SentFigures(int(guest.managed), int(guest.free), int(guest.usable), int(guest.cache), *rates)
        self._counters, self.at = counters, time
        self.due = max(self.due + self.period, time)

    def by(self, time: float) -> tuple[SentFigures, float | None]:
        """The figures at that moment, none when they are too old, and their age in seconds; None before the first time."""
        if self.told is NOTHING:
            return NOTHING, None
        age = time - self.at
        return self.told if age <= STALE_PERIODS * self.period else NOTHING, round(age * 1000) / 1000  # a third of the time of round(…, 3)

    def silence(self, time: float) -> str:
        """In what way its driver has not answered for long; empty where it does."""
        there = time - self.since
        if self.told is NOTHING:
            return "the guest's balloon driver has never answered" if there > GRACE_SECONDS else ""
        patience = max(SILENT_SECONDS, SILENT_STALE * STALE_PERIODS * self.period)
        return "the guest's balloon driver does not answer any more" if min(time - self.at, there) > patience else ""
