"""How wrong forecasts of guests' use are on days that were not seen before, and what learning costs a cycle.

    python benchmarks/forecast/bench_forecast.py [--guests 12] [--weeks 6] [--cost-guests 1000] [--cycles 800]

Guests of each kind are made up (`made_up_days.py`): desktops, web servers, backups, jobs, some without a pattern; with weekends, a holiday
and noise. Each slot of the third week and after is forecast an hour before by what was learned until then, and beside it by "as it is now",
"as yesterday at this time" and "as a week ago". A guest that has no pattern at that moment is forecast as it is now, as mom says nothing
of it. With --trace, guests are those of a folder of the Bitbrains trace (GWA-T-12: a file for each, with the columns `Timestamp [ms]` and
`Memory usage [KB]`), which is no part of this.

Then a host's days are learned with many guests, cycle by cycle, 5 s each, and written each hour: the CPU time of a cycle, what is kept of
a guest, and memory.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
import tracemalloc
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from made_up_days import GIB, KINDS, SLOTS, WITH_PATTERN, MadeUpGuest, made_up_guest

from mom_core import Guest, Host, PluginContext, Snapshot, StateFile
from mom_plugins_record.forecast.curve import LEAST_WEIGHT, GuestDays, SlotSeen
from mom_plugins_record.forecast.files import DaysKeeper
from mom_plugins_record.forecast.host_days import HostDays, KnownGuest
from mom_plugins_record.forecast.past import LAST_DAY, MOST_DAYS
from mom_plugins_record.forecast.slots import HOUR_SLOTS, Calendar
from mom_plugins_record.forecast.state import content_of, days_from

WANTED: Final = 0.8
"""Ratio of the error of the next hour to that of the better of "as yesterday" and "as it is now"."""

CYCLE_WANTED_MS: Final = 1.0
MIB_WANTED: Final = 12.0
"""Of 1,000 guests."""

KIB_WANTED: Final = 4.0 * 8
"""Of what is kept of a guest: of eight weeks."""

LEARNED_WEEKS: Final = 2
SEEDS_FROM: Final = 1000
"""Made-up guests that nobody has looked at while the method was chosen."""

MONDAY: Final = 4 * SLOTS
CALENDAR: Final = Calendar(offset=lambda _: 0.0)
INTERVAL: Final = 5.0


@dataclass(slots=True)
class Errors:
    """Sums of errors, in KiB, and of how many slots: of the forecast, as now, as yesterday, as a week ago."""

    sums: list[float] = field(default_factory=lambda: [0.0] * 4)
    told: int = 0
    over: int = 0
    slots: int = 0

    def add(self, other: Errors) -> None:
        """Of more guests."""
        self.sums = [one + more for one, more in zip(self.sums, other.sums, strict=True)]
        self.told, self.over, self.slots = self.told + other.told, self.over + other.over, self.slots + other.slots

    @property
    def ratio(self) -> float:
        """To the better of "as now" and "as yesterday"; NaN: these are not wrong at all."""
        best = min(self.sums[1], self.sums[2])
        return self.sums[0] / best if best > 0 else math.nan


def errors_of(guest: MadeUpGuest, learned_days: int = LEARNED_WEEKS * 7) -> Errors:
    """How wrong each forecast is of a guest, on all days but so many first ones."""
    days, found = GuestDays(CALENDAR), Errors()
    for slot, (used, most) in enumerate(zip(guest.used, guest.most, strict=True)):
        days.close(MONDAY + slot, None if math.isnan(used) else SlotSeen(used, most))
        then = slot + HOUR_SLOTS
        if slot < learned_days * SLOTS or then >= len(guest.used):
            continue
        comes, others = guest.used[then], (used, guest.used[then - SLOTS], guest.used[then - 7 * SLOTS])
        if math.isnan(comes) or any(map(math.isnan, others)):
            continue
        counts = days.has_pattern and days.weight >= LEAST_WEIGHT
        forecast = days.ahead(MONDAY + then, 1)[0].middle if counts else used
        found.slots += 1
        for place, expected in enumerate((used if math.isnan(forecast) else forecast, *others)):
            found.sums[place] += abs(comes - expected)
        if counts:
            found.told += 1
            soon = days.ahead(MONDAY + slot + 1, 1)[0]
            found.over += guest.most[slot + 1] > soon.most + soon.margin
    return found


def learned(guests: int, weeks: int) -> tuple[dict[str, Errors], list[float]]:
    """The errors by kind, and of single guests with a pattern the ratio."""
    kinds, ratios = dict[str, Errors](), []
    for kind in KINDS:
        kinds[kind] = Errors()
        for number in range(guests):
            one = errors_of(made_up_guest(kind, weeks * 7, SEEDS_FROM + number, holidays=(LEARNED_WEEKS * 7 + 9,)))
            kinds[kind].add(one)
            if kind in WITH_PATTERN:
                ratios.append(one.ratio)
    return kinds, ratios


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU time of a cycle in ms: the mean, the highest of a hundred, the most; the most that one took by the clock, in ms; what is kept of
    a guest in KiB; memory in MiB, and while all is written at once, as at the end; in ms of CPU time, what it takes to make all of that,
    and to read it.
    """

    mean: float
    of_hundred: float
    most: float
    wall: float
    kept_kib: float
    mib: float
    writing_mib: float
    kept_ms: float
    read_ms: float


@dataclass
class _Host:
    """A host with many guests, each of which has been learned for eight weeks: nine days of them, and days as they were."""

    count: int
    folder: Path
    began: float = (MONDAY + 9 * SLOTS) * CALENDAR.slot_seconds + 100.0

    def __post_init__(self) -> None:
        """Learn."""
        kinds = [GuestDays(CALENDAR) for _ in KINDS]
        self.made = [made_up_guest(kind, 10, SEEDS_FROM) for kind in KINDS]
        for days, guest in zip(kinds, self.made, strict=True):
            for slot in range(9 * SLOTS):
                days.close(MONDAY + slot, SlotSeen(guest.used[slot], guest.most[slot]))
        self.listed = [Guest(f"{number:032x}", f"guest-{number}", incarnation="1") for number in range(self.count)]
        tracemalloc.start()
        self.days = HostDays(CALENDAR, CALENDAR.slot_seconds)
        for number, one in enumerate(self.listed):
            known = self.days.known[one.id] = KnownGuest(one.id, one.name, deepcopy(kinds[number % len(kinds)]))
            for slot in range(0, MOST_DAYS * SLOTS, SLOTS // 8):
                known.past.take_in(LAST_DAY // 4 * SLOTS + slot, (1 + slot * number % 7) * GIB, 8 * GIB)
        self.keeper = DaysKeeper(PluginContext("forecast", state_directory=self.folder), self.days)
        self.hour = 0

    def snapshot(self, cycle: int) -> Snapshot:
        """What a cycle says."""
        now = self.began + cycle * INTERVAL
        slot = CALENDAR.index(now) - MONDAY
        used = [self.made[number % len(self.made)].used[slot] for number in range(self.count)]
        guests = {
            one.id: Guest(
                one.id, one.name, {"mem_available": 8 * GIB, "mem_usable": 8 * GIB - use, "balloon_cur": 8 * GIB}, incarnation="1"
            )
            for one, use in zip(self.listed, used, strict=True)
        }
        return _with_columns(Snapshot(Host(), guests, now, now))

    def cycle(self, snapshot: Snapshot) -> None:
        """What the plugin does in a cycle."""
        self.days.columns(snapshot.listed)
        self.days.host_fields()
        self.days.see(snapshot)
        hour = CALENDAR.index(snapshot.time) // HOUR_SLOTS
        due, self.hour = hour != self.hour, hour
        self.keeper.go_on(self.days, snapshot.time, due=due)


def cost(count: int, cycles: int) -> Cost:
    """Of a host with so many guests. All is written once at the start, and then each hour."""
    with TemporaryDirectory() as folder:
        host = _Host(count, Path(folder))
        host.days.see(host.snapshot(0))
        host.days.see(host.snapshot(1))
        memory, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        host.keeper.close(host.days)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        host.keeper = DaysKeeper(PluginContext("forecast", state_directory=host.folder), HostDays(CALENDAR, CALENDAR.slot_seconds))
        took, wall = [], []
        for number in range(2, cycles + 2):
            snapshot = host.snapshot(number)
            before, began = time.thread_time(), time.monotonic()
            host.cycle(snapshot)
            took.append((time.thread_time() - before) * 1e3)
            wall.append((time.monotonic() - began) * 1e3)
        before = time.process_time()
        text = StateFile.as_json(content_of(host.days))
        kept_ms = (time.process_time() - before) * 1e3
        host.keeper.close(None)
    before = time.process_time()
    days_from(json.loads(text))
    read_ms = (time.process_time() - before) * 1e3
    took.sort()
    kept = len(text) / count / 1024
    highest, mib = took[int(len(took) * 0.99)], 2**20
    return Cost(sum(took) / len(took), highest, took[-1], max(wall), kept, memory / mib, peak / mib, kept_ms, read_ms)


def _with_columns(snapshot: Snapshot) -> Snapshot:
    """As the engine makes it: what a field is of all guests is at hand."""
    from mom_core.model import GuestTable

    columns = snapshot.columns
    for name in columns:
        columns.types(name)
    listed = [Guest(one.id, one.name, incarnation="1") for one in snapshot.guests.values()]
    places = {guest.id: place for place, guest in enumerate(listed)}
    return Snapshot(snapshot.host, GuestTable(listed, places, columns), snapshot.time, snapshot.monotonic)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print all of it; 1: something that is wanted was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--guests", type=int, default=12, help="of each kind")
    parser.add_argument("--weeks", type=int, default=6)
    parser.add_argument("--cost-guests", type=int, default=1000)
    parser.add_argument("--cycles", type=int, default=800)
    chosen = parser.parse_args(arguments)
    kinds, ratios = learned(chosen.guests, max(LEARNED_WEEKS + 1, chosen.weeks))
    whole = Errors()
    for one in kinds.values():
        whole.add(one)
    spent = cost(chosen.cost_guests, chosen.cycles)
    better = sorted(ratio for ratio in ratios if not math.isnan(ratio))
    missed = [
        text
        for text, wrong in (
            (f"error of the next hour: {whole.ratio:.2f} of the better of others, wanted {WANTED}", not whole.ratio <= WANTED),
            (f"a cycle: {spent.mean:.2f} ms, wanted {CYCLE_WANTED_MS}", spent.mean > CYCLE_WANTED_MS * max(1.0, chosen.cost_guests / 1000)),
            (f"memory: {spent.mib:.1f} MiB, wanted {MIB_WANTED}", spent.mib > MIB_WANTED * max(1.0, chosen.cost_guests / 1000)),
            (f"kept of a guest: {spent.kept_kib:.1f} KiB, wanted {KIB_WANTED}", spent.kept_kib > KIB_WANTED),
        )
        if wrong
    ]
    print("error of the next hour, in MiB on average, on days not seen before")
    print(f"{'kind':9}{'forecast':>10}{'as now':>10}{'yesterday':>11}{'week ago':>10}{'ratio':>8}{'has pattern':>13}{'above most':>12}")
    for kind, one in (*kinds.items(), ("all", whole)):
        mean = [value / max(1, one.slots) / 1024 for value in one.sums]
        told, over = one.told / max(1, one.slots), one.over / max(1, one.told)
        print(f"{kind:9}{mean[0]:10.1f}{mean[1]:10.1f}{mean[2]:11.1f}{mean[3]:10.1f}{one.ratio:8.2f}{told:13.0%}{over:12.1%}")
    if better:
        print(
            f"of {len(better)} guests with a pattern, the ratio is {better[len(better) // 2]:.2f} in the middle, {better[-1]:.2f} at most"
        )
    print(
        f"a cycle with {chosen.cost_guests} guests: {spent.mean:.2f} ms of CPU time, {spent.of_hundred:.2f} ms of 99 in 100, "
        f"{spent.most:.2f} ms at most ({spent.wall:.1f} ms by the clock); {spent.mib:.1f} MiB, {spent.writing_mib:.1f} MiB while all is "
        "written at the end"
    )
    print(
        f"{spent.kept_kib:.2f} KiB kept of a guest: to make all of that takes {spent.kept_ms:.0f} ms, in parts each hour; "
        f"to read it, {spent.read_ms:.0f} ms"
    )
    for text in missed:
        print(f"missed: {text}")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
