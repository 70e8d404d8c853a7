"""Statistics of a guest, which arrive when its balloon driver sends them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from mom_plugins_sim.guest import SimulatedGuestMemory


class SentFigures(NamedTuple):
    """Statistics that a guest sends. None if unknown, like the first rates."""

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
"""Statistics are stale once a guest has missed two periods."""

GRACE_SECONDS: Final = 60.0
SILENT_SECONDS: Final = 30.0
SILENT_STALE: Final = 3
"""When mom stops using a balloon, as in mom_kvm/seen_guests.py.

A new driver has `GRACE_SECONDS` for its first answer. Later, silence may last `SILENT_SECONDS`, or `SILENT_STALE` times the age of stale
statistics.
"""


@dataclass(slots=True)
class SentStatistics:
    """Statistics of one guest: sent every `period` seconds, next at `due`, last at `at`. A `silent` driver sends none."""

    period: float
    due: float
    silent: bool = False
    at: float = 0.0
    latest: SentFigures = NOTHING
    since: float = 0.0
    _counters: tuple[float, float, float, float] | None = None

    def send(self, guest: SimulatedGuestMemory, time: float) -> None:
        """Send statistics if they are due, even if the guest lacks memory, as real guests do (docs/simulator.md)."""
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
        """Return the statistics (`NOTHING` if stale), and their age in seconds (None if not sent yet)."""
        if self.latest is NOTHING:
            return NOTHING, None
        age = time - self.at
        figures = self.latest if age <= STALE_PERIODS * self.period else NOTHING
        return figures, round(age * 1000) / 1000  # a third of the time of round(…, 3)

    def silence(self, time: float) -> str:
        """Describe a long silence of the driver; return an empty string if there is none."""
        uptime = time - self.since
        if self.latest is NOTHING:
            return "the guest's balloon driver has never answered" if uptime > GRACE_SECONDS else ""
        patience = max(SILENT_SECONDS, SILENT_STALE * STALE_PERIODS * self.period)
        return "the guest's balloon driver no longer answers" if min(time - self.at, uptime) > patience else ""
