"""Story of the demonstration, and its summary."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mom_core import Report, Value, printable
from mom_kvm import RunSummary, SimulationSetup, field_number
from mom_plugins_sim.settings import SimSettings
from mom_plugins_sim.simulate.run import OFFLOADER
from mom_plugins_sim.workload import HostLoad

INTERVAL = 5.0
"""Simulated seconds per cycle: mom's default."""

CYCLES = 110
"""Nine simulated minutes: memory pressure begins, mom relieves it, and the pressure ends."""

SETTINGS = SimSettings.model_validate(
    {
        "guests": 24,
        "host_memory": "32GiB",
        "host_zram": "8GiB",
        "sold": 1.25,
        "silent": 0.04,
        "rigid": 0.04,
        "cold": 0.3,
        "statistics_period": "2s",
        "load": "8704MiB",
        "load_after": "60s",
        "load_for": "270s",
    }
)
"""Host overcommitted by a quarter, with compressed swap and a program that takes 8.5 GiB. 30 % of the guests' base memory is cold."""

PLUGINS: Final[Mapping[str, Mapping[str, Value]]] = {name: {} for name in (*SimulationSetup.CONTROLLERS, OFFLOADER)}

LOAD: Final = HostLoad(SETTINGS.load / 1024, SETTINGS.load_after, SETTINGS.load_for, SETTINGS.load_growth / 1024)


@dataclass(frozen=True, slots=True)
class Moment:
    """Reports of one cycle: `report` of a mom that acts, `alone` of a mom that only observes an identical host."""

    number: int
    report: Report
    alone: Report

    @property
    def time(self) -> float:
        """Simulated seconds since the beginning."""
        return self.number * INTERVAL


def play(seed: int, record: Path | None = None) -> Generator[Moment, None, None]:
    """Yield the moments of the story."""
    sim = SETTINGS.model_copy(update={"seed": seed}).model_dump(mode="json", exclude_unset=True)
    runs = [
        SimulationSetup("demo", acts=acts, plugins=PLUGINS).run(sim, INTERVAL, CYCLES * INTERVAL, record if acts else None)
        for acts in (True, False)
    ]
    in_turn = ((report for report in run if not report.woken_by) for run in runs)
    for number, (report, alone) in enumerate(zip(*in_turn, strict=True), 1):
        yield Moment(number, report, alone)


def size(kib: float) -> str:
    """Format KiB in GiB, or in MiB below one GiB."""
    if kib < 0.995 * (1 << 20):
        return f"{kib / 1024:.0f} MiB"
    return f"{kib / (1 << 20):.1f} GiB".replace(".0 GiB", " GiB")


@dataclass(slots=True)
class Summary:
    """Figures of the whole demonstration. Sizes in KiB."""

    managed: RunSummary = field(default_factory=lambda: RunSummary("with mom"))
    alone: RunSummary = field(default_factory=lambda: RunSummary("without"))
    host: float = 0.0
    sold: float = 0.0
    guests: int = 0
    inflated: float = 0.0
    left_alone: dict[str, str] = field(default_factory=dict)

    def add(self, moment: Moment) -> None:
        """Add a moment."""
        self.managed.add(moment.report)
        self.alone.add(moment.alone)
        guests = moment.report.snapshot.guests.values()
        self.host = field_number(moment.report.snapshot.host.fields, "mem_available")
        self.guests = len(guests)
        self.sold = sum(field_number(guest.fields, "balloon_max") for guest in guests)
        self.inflated = sum(map(RunSummary.taken_from, guests))
        for guest in guests:
            if guest.blocked:
                self.left_alone[guest.name] = next(iter(guest.blocked.values()))
            elif moment.time > 4 * INTERVAL and "mem_usable" not in guest.fields and "stats_age" not in guest.fields:
                self.left_alone[guest.name] = "the guest sends no statistics"

    @property
    def returned(self) -> float:
        """Fraction of the reclaimed memory that guests got back."""
        return 1.0 - self.inflated / most if (most := self.managed.reclaimed.most) else 1.0

    def lines(self) -> list[str]:
        """Return lines of at most 80 columns."""
        return [
            f"{self.guests} guests with {size(self.sold)} on a host of {size(self.host)}; a program took {size(LOAD.peak)} of it.",
            "",
            *RunSummary.side_by_side((self.managed, self.alone)),
            "",
            f"  reclaimed memory returned to the guests afterwards: {self.returned:.0%}",
            *(f"  left alone: {printable(name, 20)}, {reason}" for name, reason in sorted(self.left_alone.items())),
        ]


NEXT = (
    ("demo --seed 2", "show another random host"),
    ("simulate --list", "list scenarios for trying policies"),
    ("replay --help", "try policies on the recording"),
    ("doctor", "examine this host"),
)
