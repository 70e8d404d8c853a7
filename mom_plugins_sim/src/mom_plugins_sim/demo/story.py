"""Plays the story of the demonstration: one simulated host managed by a real engine, and beside it the same host that nobody manages."""

from __future__ import annotations

import tempfile
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from mom_core import Clock, Config, Engine, Report, load_config
from mom_plugins_sim.hypervisor import SimHypervisor
from mom_plugins_sim.plugin import SimPlugin, scene_of_settings
from mom_plugins_sim.recording.writer import must_be_new
from mom_plugins_sim.scenario.library import find_scenario, read_scenario
from mom_plugins_sim.simulate.run import LOOK_SECONDS, MIDNIGHT
from mom_plugins_sim.world import World

INTERVAL = 5.0
"""Simulated seconds from one cycle to the next: mom's default."""

CYCLES = 110
"""Nine simulated minutes: long enough for pressure to come, to be relieved, and to go."""

SETTINGS = SimPlugin.Settings.model_validate(
    {
        "guests": 24,
        "host_memory": "32GiB",
        "host_swap": "8GiB",
        "sold": 1.25,
        "silent": 0.04,
        "rigid": 0.04,
        "statistics_period": "2s",
        "load": "8704MiB",
        "load_after": "60s",
        "load_for": "270s",
    }
)
"""A host with a quarter more memory sold than it has; one guest without statistics, one without a balloon; a program that takes 9 GiB."""


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


class SimulatedClock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """The reading."""
        return self.now

    def wall(self) -> float:
        """The reading as seconds since the epoch."""
        return MIDNIGHT + self.now


@dataclass(frozen=True, slots=True)
class Moment:
    """What there is to see after one cycle: mom's report, and the host that nobody manages at the same time."""

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
    """The host that nobody manages. KiB; pressure in percent; seconds that somebody waited for memory since the start."""

    available: float
    guests: float
    program: float
    swapped: float
    pressure: float
    waited: float


def play(plot: Plot, record: Path | None = None) -> Generator[Moment, None, None]:
    """The moments of the story, as fast as they are asked for; the same for the same plot. Raises `MomError` when plugins are missing.

    :param record: a folder for a recording
    """
    clock = SimulatedClock()
    with (
        tempfile.TemporaryDirectory(prefix="mom-demo-") as folder,
        Engine(_configuration(plot, Path(folder), record), Clock(clock, clock.wall)) as engine,
    ):
        alone = World(scene_of_settings(plot.settings), clock())
        hypervisor = engine.hypervisor
        assert isinstance(hypervisor, SimHypervisor)  # noqa: S101  # the configuration below says so
        for number in range(1, plot.cycles + 1):
            due = number * plot.interval
            while clock.now + LOOK_SECONDS < due:
                clock.now += LOOK_SECONDS
                if reason := hypervisor.news():
                    engine.cycle(reason)
            clock.now = due
            report = engine.cycle()
            alone.advance_to(clock.now)
            yield Moment(number, clock.now, plot, report, _seen(alone))


def _configuration(plot: Plot, folder: Path, record: Path | None) -> Config:
    plugins: dict[str, object] = {
        "sim": plot.settings.model_dump(mode="json", exclude_unset=True),
        "balloon": {},
        "ksm": {},
        "policy": {},
    }
    if record is not None:
        plugins["record"] = {"path": str(must_be_new(record))}
    return load_config(
        {
            "interval": f"{plot.interval:g}s",
            "state_directory": str(folder / "state"),
            "run_directory": str(folder / "run"),
            "plugins": plugins,
        }
    )


def _seen(world: World) -> Alone:
    host = world.host
    return Alone(host.available, host.guests, host.other, host.swapped, host.some[10], host.some_total_us / 1e6)
