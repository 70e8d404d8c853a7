"""Plays the story of the demonstration: one simulated host managed by a real engine, and beside it the same host without mom."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mom_core import Report, Value
from mom_plugins_sim.plugin import SimPlugin, scene_of_settings
from mom_plugins_sim.scenario.library import find_scenario, read_scenario
from mom_plugins_sim.simulate.run import OFFLOADER
from mom_plugins_sim.world import World
from mom_toolkit import SimulationSetup, run_simulation

INTERVAL = 5.0
"""Simulated seconds from one cycle to the next: mom's default."""

CYCLES = 110
"""Nine simulated minutes: long enough for pressure to come, to be relieved, and to go."""

SETTINGS = SimPlugin.Settings.model_validate(
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
"""A host with a quarter more memory sold than it has, and compressed swap; guests that hardly touch 30 % of what they hold always, one
without statistics, one without a balloon; a program that takes 8.5 GiB."""

PLUGINS: Final[Mapping[str, Mapping[str, Value]]] = {name: {} for name in (*SimulationSetup.CONTROLLERS, OFFLOADER)}
"""What acts in the story."""


MOST_CYCLES = 360
"""Of a scenario, no more is shown: half an hour at five seconds."""


@dataclass(frozen=True, slots=True)
class Plot:
    """What is played: settings of the simulation, seconds between two cycles, how many cycles, and the scenario's title, if it is one."""

    settings: SimPlugin.Settings
    interval: float = INTERVAL
    cycles: int = CYCLES
    title: str = ""


def plot_of(seed: int, scenario: str | None = None) -> Plot:
    """The usual story, or a scenario. Raises `MomError` for one that cannot be read."""
    if scenario is None:
        return Plot(SETTINGS.model_copy(update={"seed": seed}))
    found = read_scenario(find_scenario(scenario))
    settings = SimPlugin.Settings(scenario=scenario, seed=seed)
    return Plot(settings, found.interval, min(MOST_CYCLES, int(found.lasts / found.interval)), found.title)


@dataclass(frozen=True, slots=True)
class Moment:
    """What there is to see after one cycle: mom's report, and the host without mom at the same time."""

    number: int
    time: float
    plot: Plot
    report: Report
    alone: Alone

    @property
    def loading(self) -> bool:
        """Whether the program beside the guests is running."""
        return 0 < self.time - self.plot.settings.load_after < self.plot.settings.load_for


@dataclass(frozen=True, slots=True)
class Alone:
    """The host without mom. KiB, also what is in swap, and what that takes of the host; pressure in percent; seconds that any task waited
    for memory since the start."""

    available: float
    guests: float
    program: float
    swapped: float
    takes: float
    pressure: float
    waited: float


def play(plot: Plot, record: Path | None = None) -> Generator[Moment, None, None]:
    """The moments of the story, as fast as they are asked for; the same for the same plot. Raises `MomError` when plugins are missing.

    :param record: a folder for a recording
    """
    sim = plot.settings.model_dump(mode="json", exclude_unset=True)
    alone = World(scene_of_settings(plot.settings))
    number = 0
    for report in run_simulation(sim, SimulationSetup("demo", plugins=PLUGINS), plot.interval, plot.cycles * plot.interval, record):
        if report.woken_by:
            continue
        number += 1
        now = number * plot.interval
        alone.advance_to(now)
        yield Moment(number, now, plot, report, _seen(alone))


def _seen(world: World) -> Alone:
    host = world.host
    return Alone(
        host.available, host.guests, host.other, host.swapped, host.swapped * host.swap.ratio, host.some[10], host.some_total_us / 1e6
    )
