"""Statistics of a guest: as late as its balloon driver sends it; nothing before the first time, and no rates at the first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from mom_plugins_sim.guest import GuestMemory


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


@dataclass(slots=True)
class SentStatistics:
    """The statistics of one guest: sent every `period` seconds, next at `due`. `silent`: its driver sends none.

    `told` is what was sent last, at `at`; nothing before the first time.
    """

    period: float
    due: float
    silent: bool = False
    at: float = 0.0
    told: SentFigures = NOTHING
    _counters: tuple[float, float, float, float] | None = None

    def take(self, guest: GuestMemory, time: float) -> None:
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
