"""Statistics that a guest's balloon driver sends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from mom_plugins_sim.guest import SimulatedGuestMemory


class SentFigures(NamedTuple):
    """One set of statistics from a guest. None if unknown: the first set has no rates."""

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
"""Statistics older than this many periods are stale."""

GRACE_SECONDS: Final = 60.0
SILENT_SECONDS: Final = 30.0
SILENT_STALE: Final = 3
"""mom stops using a balloon whose driver is silent for too long, as in mom_kvm/seen_guests.py.

A new driver has `GRACE_SECONDS` for its first answer. Later, silence may last `SILENT_SECONDS`, or `SILENT_STALE` times the age at which
statistics become stale, whichever is longer.
"""


@dataclass(slots=True)
class SentStatistics:
    """Statistics of one guest: sent every `period` seconds, last at the time `at`, next at `due`. A `silent` driver sends none."""

    period: float
    due: float
    silent: bool = False
    at: float = 0.0
    latest: SentFigures = NOTHING
    since: float = 0.0
    _counters: tuple[float, float, float, float] | None = None

    def send(self, guest: SimulatedGuestMemory, time: float) -> None:
        """Send statistics if they are due. Like a real guest, send them even if short of memory (docs/simulator.md)."""
        if time < self.due or self.silent:
            return
        counters = (guest.swap_in, guest.swap_out, guest.major_faults, guest.minor_faults)
        before = self._counters
        rates: tuple[int | None, ...] = (None,) * len(counters)
        elapsed = time - self.at
        if before is not None and elapsed > 0:
            rates = tuple([round((now - then) / elapsed) for now, then in zip(counters, before, strict=True)])
        self.latest = SentFigures(int(guest.managed), int(guest.free), int(guest.usable), int(guest.cache), *rates)
        self._counters, self.at = counters, time
        self.due = max(self.due + self.period, time)

    def at_time(self, time: float) -> tuple[SentFigures, float | None]:
        """Return the latest statistics (`NOTHING` if stale) and their age in seconds (None if none were sent yet)."""
        if self.latest is NOTHING:
            return NOTHING, None
        age = time - self.at
        figures = self.latest if age <= STALE_PERIODS * self.period else NOTHING
        return figures, round(age * 1000) / 1000  # a third of the time of round(…, 3)

    def silence(self, time: float) -> str:
        """Return why a silent driver counts as failed; an empty string if it does not."""
        uptime = time - self.since
        if self.latest is NOTHING:
            return "the guest's balloon driver has never answered" if uptime > GRACE_SECONDS else ""
        patience = max(SILENT_SECONDS, SILENT_STALE * STALE_PERIODS * self.period)
        return "the guest's balloon driver no longer answers" if min(time - self.at, uptime) > patience else ""
