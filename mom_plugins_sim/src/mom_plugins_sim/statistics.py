"""What a guest tells about itself: as late as its balloon driver sends it; nothing before the first time, and no rates at the first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mom_core import Value
from mom_plugins_sim.guest import GuestMemory

TOLD = ("mem_available", "mem_unused", "mem_usable", "mem_disk_caches", "swap_in", "swap_out", "major_fault", "minor_fault")
"""What a guest tells from the second time on."""

STALE_PERIODS = 3
"""Statistics that were missed twice are stale."""

LOOKED_AT = ("stats_age", "balloon_cur", "balloon_max", "vcpu_count", "rss", "host_swap", "sim_need", "sim_squeezed", "sim_lost",
             "sim_killed", "host_minor_faults", "host_major_faults", "balloon_stats_period")  # fmt: skip
"""What the host sees of it besides."""

_PLACES: Mapping[str, Value] = dict.fromkeys((*TOLD, *LOOKED_AT))
"""The fields of nearly all guests, of whom there are thousands: a copy with places for all is filled in half the time in which a mapping
grows."""


@dataclass(slots=True)
class SentStatistics:
    """The statistics of one guest: sent every `period` seconds, next at `due`. `silent`: its driver sends none.

    `told` are the memory fields as they were sent last, at `at`, with places for what the host sees besides; None before the first time.
    """

    period: float
    due: float
    silent: bool = False
    at: float = 0.0
    told: dict[str, Value] | None = None
    _counters: tuple[float, float, float, float] | None = None

    def take(self, guest: GuestMemory, time: float) -> None:
        """Send statistics now if they are due. Lack of memory delays none: from a real guest that waited for 700 pages of its swap a second
        they came each second (docs/simulator.md)."""
        if time < self.due or self.silent:
            return
        counters = (guest.swap_in, guest.swap_out, guest.major_faults, guest.minor_faults)
        told: dict[str, Value] = {}
        before = self._counters
        if before is not None and time > self.at:
            told = dict(_PLACES)
            seconds = time - self.at
            told["swap_in"] = round((counters[0] - before[0]) / seconds)
            told["swap_out"] = round((counters[1] - before[1]) / seconds)
            told["major_fault"] = round((counters[2] - before[2]) / seconds)
            told["minor_fault"] = round((counters[3] - before[3]) / seconds)
        told["mem_available"] = int(guest.managed)
        told["mem_unused"] = int(guest.free)
        told["mem_usable"] = int(guest.usable)
        told["mem_disk_caches"] = int(guest.cache)
        self.told, self._counters, self.at = told, counters, time
        self.due = max(self.due + self.period, time)

    def fields(self, time: float) -> dict[str, Value]:
        """A new mapping with the fields as they are known at that moment, and places for others: with their age, and with nothing else when
        that is too much."""
        told = self.told
        if told is None:
            return {}
        age = time - self.at
        fields = told.copy() if age <= STALE_PERIODS * self.period else {}
        fields["stats_age"] = round(age * 1000) / 1000  # a third of the time of round(…, 3)
        return fields
