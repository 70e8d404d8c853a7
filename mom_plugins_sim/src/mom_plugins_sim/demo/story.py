"""Story of the demonstration."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mom_core import Report, Value
from mom_kvm import SimulationSetup, run_simulation
from mom_plugins_sim.settings import SimSettings
from mom_plugins_sim.simulate.run import OFFLOADER
from mom_plugins_sim.workload import HostLoad

INTERVAL = 5.0
"""Simulated seconds per cycle: mom's default."""

CYCLES = 110
"""Nine simulated minutes: pressure begins, mom relieves it, and it ends."""

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
    """Reports after a cycle: of a mom that acts, and of a mom that only observes the same host."""

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
        run_simulation(sim, SimulationSetup("demo", acts=acts, plugins=PLUGINS), INTERVAL, CYCLES * INTERVAL, record if acts else None)
        for acts in (True, False)
    ]
    in_turn = ((report for report in run if not report.woken_by) for run in runs)
    for number, (report, alone) in enumerate(zip(*in_turn, strict=True), 1):
        yield Moment(number, report, alone)
