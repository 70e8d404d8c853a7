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

_NOTHING: Mapping[str, Value] = {}


@dataclass(slots=True)
class Statistics:
    """The statistics of one guest: sent every `period` seconds, next at `due`. `silent`: its driver sends none.

    `told` are the memory fields as they were sent last, at `at`; None before the first time.
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
        told: dict[str, Value] = {
            "mem_available": int(guest.managed),
            "mem_unused": int(guest.free),
            "mem_usable": int(guest.usable),
            "mem_disk_caches": int(guest.cache),
        }
        before = self._counters
        if before is not None and time > self.at:
            seconds = time - self.at
            told["swap_in"] = round((counters[0] - before[0]) / seconds)
            told["swap_out"] = round((counters[1] - before[1]) / seconds)
            told["major_fault"] = round((counters[2] - before[2]) / seconds)
            told["minor_fault"] = round((counters[3] - before[3]) / seconds)
        self.told, self._counters, self.at = told, counters, time
        self.due = max(self.due + self.period, time)

    def fields(self, time: float, places: Mapping[str, Value] = _NOTHING) -> dict[str, Value]:
        """A new mapping with the fields as they are known at that moment: with their age, and with nothing else when that is too much.

        :param places: other fields, which the mapping has too if the guest tells all that it can: one that has them is filled faster than
            one that grows
        """
        told = self.told
        if told is None:
            return {}
        age = time - self.at
        if age > STALE_PERIODS * self.period:
            fields = {}
        elif len(told) == len(TOLD):
            fields = {**places}
            fields.update(told)
        else:
            fields = dict(told)
        fields["stats_age"] = round(age * 1000) / 1000  # a third of the time of round(…, 3)
        return fields
