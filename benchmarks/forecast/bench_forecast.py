"""Measure the errors of forecasts on days that were not seen before, and what learning costs in each cycle.

    python benchmarks/forecast/bench_forecast.py [--guests 12] [--weeks 6] [--cost-guests 1000] [--cycles 800]

made_up_days.py makes guests of each kind: desktops, web servers, backups, jobs, and guests without a pattern, with weekends and a holiday.
From the third week on, each slot is forecast an hour before, by mom, "as now", "as yesterday at this time" and "as a week ago". For a guest
without a pattern at that moment, mom makes no forecast, and "as now" counts.

Then a host with many guests learns: CPU time of a cycle of 5 s, memory, and the size of its files, which are written each hour.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
import tracemalloc
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from made_up_days import GIB, KINDS, SLOTS, MadeUpGuest, made_up_guest

from mom_core import Guest, Host, PluginContext, Snapshot, StateFile
from mom_core.columns import Columns
from mom_core.model import GuestTable
from mom_plugins_record.forecast.curve import HOUR_SLOTS, LEAST_WEIGHT, Calendar, GuestDays, SlotSeen
from mom_plugins_record.forecast.files import DaysKeeper, content_of
from mom_plugins_record.forecast.host_days import HostDays, KnownGuest
from mom_plugins_record.forecast.past import LAST_DAY, MOST_DAYS

RATIO_WANTED: Final = 0.8
"""Ratio of mom's error to that of the better of "as yesterday" and "as now"."""

CYCLE_WANTED_MS: Final = 1.0
MIB_WANTED: Final = 10.0
"""For 1,000 guests."""

KIB_WANTED: Final = 4.0 * 8
"""Stored for a guest, of eight weeks."""

LEARNED_WEEKS: Final = 2
SEEDS_FROM: Final = 1000
"""Guests that nobody has seen while the method was chosen."""

MONDAY: Final = 4 * SLOTS
CALENDAR: Final = Calendar(offset=lambda _: 0.0)
INTERVAL: Final = 5.0


@dataclass(slots=True)
class Errors:
    """Sums of errors in KiB over some slots: by mom, as now, as yesterday, as a week ago."""

    sums: list[float] = field(default_factory=lambda: [0.0] * 4)
    slots: int = 0

    def add(self, other: Errors) -> None:
        self.sums = [one + more for one, more in zip(self.sums, other.sums, strict=True)]
        self.slots += other.slots

    @property
    def ratio(self) -> float:
        """Return the ratio to the better of "as now" and "as yesterday"; NaN if these have no error."""
        best = min(self.sums[1], self.sums[2])
        return self.sums[0] / best if best > 0 else math.nan


def errors_of(guest: MadeUpGuest) -> Errors:
    """Return the errors of each forecast of a guest, on all days but those of the first weeks."""
    days, errors = GuestDays(CALENDAR), Errors()
    for slot, (used, most) in enumerate(zip(guest.used, guest.most, strict=True)):
        days.close(MONDAY + slot, None if math.isnan(used) else SlotSeen(used, most))
        then = slot + HOUR_SLOTS
        if slot < LEARNED_WEEKS * 7 * SLOTS or then >= len(guest.used):
            continue
        comes, others = guest.used[then], (used, guest.used[then - SLOTS], guest.used[then - 7 * SLOTS])
        if math.isnan(comes) or any(map(math.isnan, others)):
            continue
        counts = days.has_pattern and days.weight >= LEAST_WEIGHT
        forecast = days.ahead(MONDAY + then, 1)[0].middle if counts else used
        errors.slots += 1
        for place, expected in enumerate((used if math.isnan(forecast) else forecast, *others)):
            errors.sums[place] += abs(comes - expected)
    return errors


def learned(guests: int, weeks: int) -> dict[str, Errors]:
    """Return the errors by kind of guest, and of all."""
    kinds: dict[str, Errors] = {kind: Errors() for kind in (*KINDS, "all")}
    for kind in KINDS:
        for number in range(guests):
            errors = errors_of(made_up_guest(kind, weeks * 7, SEEDS_FROM + number, holidays=(LEARNED_WEEKS * 7 + 9,)))
            kinds[kind].add(errors)
            kinds["all"].add(errors)
    return kinds


@dataclass
class _Host:
    """Host with many guests, each of which has been learned for eight weeks."""

    count: int
    folder: Path
    began: float = (MONDAY + 9 * SLOTS) * CALENDAR.slot_seconds + 100.0

    def __post_init__(self) -> None:
        kinds = [GuestDays(CALENDAR) for _ in KINDS]
        self.made = [made_up_guest(kind, 10, SEEDS_FROM) for kind in KINDS]
        for days, guest in zip(kinds, self.made, strict=True):
            for slot in range(9 * SLOTS):
                days.close(MONDAY + slot, SlotSeen(guest.used[slot], guest.most[slot]))
        self.listed = [Guest(f"{number:032x}", f"guest-{number}", incarnation="1") for number in range(self.count)]
        tracemalloc.start()
        self.days = HostDays(CALENDAR)
        for number, one in enumerate(self.listed):
            known = self.days.known[one.id] = KnownGuest(one.id, one.name, deepcopy(kinds[number % len(kinds)]))
            for slot in range(0, MOST_DAYS * SLOTS, SLOTS // 8):
                known.past.take_in(LAST_DAY // 4 * SLOTS + slot, (1 + slot * number % 7) * GIB, 8 * GIB)
        self.keeper = DaysKeeper(PluginContext("forecast", state_directory=self.folder), self.days)
        self.hour = 0

    def snapshot(self, cycle: int) -> Snapshot:
        now = self.began + cycle * INTERVAL
        slot = CALENDAR.index(now) - MONDAY
        used = [self.made[number % len(self.made)].used[slot] for number in range(self.count)]
        sizes = [8 * GIB] * self.count
        columns = Columns({"mem_available": sizes, "mem_usable": [8 * GIB - use for use in used], "balloon_cur": sizes})
        return Snapshot(Host(), GuestTable(self.listed, columns), now, now)

    def cycle(self, snapshot: Snapshot) -> None:
        """Do what the plugin does in a cycle."""
        self.days.columns(snapshot.listed)
        self.days.host_fields()
        hour = CALENDAR.index(snapshot.time) // HOUR_SLOTS
        due, self.hour = hour != self.hour, hour
        self.keeper.see(snapshot, due=due)


def cost(count: int, cycles: int) -> tuple[float, float, float]:
    """Return the mean CPU time of a cycle (ms), memory (MiB), and what is stored for a guest (KiB)."""
    with TemporaryDirectory() as folder:
        host = _Host(count, Path(folder))
        host.days.see(host.snapshot(0))
        host.days.see(host.snapshot(1))
        memory, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        spent = []
        for number in range(2, cycles + 2):
            snapshot = host.snapshot(number)
            before = time.thread_time()
            host.cycle(snapshot)
            spent.append((time.thread_time() - before) * 1e3)
        stored = len(StateFile.as_json(content_of(host.days)))
        host.keeper.close(keep=False)
    return statistics.mean(spent), memory / 2**20, stored / count / 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--guests", type=int, default=12, help="of each kind")
    parser.add_argument("--weeks", type=int, default=6)
    parser.add_argument("--cost-guests", type=int, default=1000)
    parser.add_argument("--cycles", type=int, default=800)
    chosen = parser.parse_args()
    kinds = learned(chosen.guests, max(LEARNED_WEEKS + 1, chosen.weeks))
    print("mean error of the next hour in MiB, on days not seen before")
    print(f"{'kind':9}{'forecast':>10}{'as now':>10}{'yesterday':>11}{'week ago':>10}{'ratio':>8}")
    for kind, errors in kinds.items():
        mean = [value / max(1, errors.slots) / 1024 for value in errors.sums]
        print(f"{kind:9}{mean[0]:10.1f}{mean[1]:10.1f}{mean[2]:11.1f}{mean[3]:10.1f}{errors.ratio:8.2f}")
    cycle_ms, mib, kib = cost(chosen.cost_guests, chosen.cycles)
    print(f"{chosen.cost_guests} guests: {cycle_ms:.2f} ms of CPU time a cycle, {mib:.1f} MiB, {kib:.2f} KiB stored for a guest")
    scale = max(1.0, chosen.cost_guests / 1000)
    figures = (
        ("ratio of errors", kinds["all"].ratio, RATIO_WANTED),
        ("ms a cycle", cycle_ms, CYCLE_WANTED_MS * scale),
        ("MiB", mib, MIB_WANTED * scale),
        ("KiB stored for a guest", kib, KIB_WANTED),
    )
    missed = [f"missed: {value:.2f} {name}, wanted {wanted}" for name, value, wanted in figures if not value <= wanted]
    print("\n".join(missed))
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
