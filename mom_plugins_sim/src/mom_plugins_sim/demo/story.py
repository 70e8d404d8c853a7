"""Plays the story of the demonstration: one simulated host managed by a real engine, and beside it the same host that nobody manages."""

from __future__ import annotations

import tempfile
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from mom_core import Clock, Config, Engine, Report, load_config
from mom_plugins_sim.hypervisor import SimHypervisor
from mom_plugins_sim.plugin import SimPlugin, plan_of
from mom_plugins_sim.simulate.run import LOOK_SECONDS
from mom_plugins_sim.world import World

INTERVAL = 5.0
"""Simulated seconds from one cycle to the next: mom's default."""

CYCLES = 110
"""Nine simulated minutes: long enough for pressure to come, to be relieved, and to go."""

MIDNIGHT = 1_767_225_600.0
"""Seconds since the epoch. The simulated day is always the same one."""

SETTINGS = SimPlugin.Settings.model_validate(
    {
        "guests": 24,
        "host_memory": "32GiB",
        "host_swap": "8GiB",
        "sold": 1.25,
        "silent": 0.04,
        "rigid": 0.04,
        "statistics_period": "2s",
        "load": "9GiB",
        "load_after": "60s",
        "load_for": "270s",
    }
)
"""A host with a quarter more memory sold than it has; one guest without statistics, one without a balloon; a program that takes 9 GiB."""


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
    settings: SimPlugin.Settings
    report: Report
    alone: Alone

    @property
    def loading(self) -> bool:
        """Whether the program beside the guests is running."""
        return 0 < self.time - self.settings.load_after < self.settings.load_for


@dataclass(frozen=True, slots=True)
class Alone:
    """The host that nobody manages. KiB; pressure in percent; seconds that somebody waited for memory since the start."""

    available: float
    guests: float
    program: float
    swapped: float
    pressure: float
    waited: float


def play(seed: int) -> Generator[Moment, None, None]:
    """The moments of the story, as fast as they are asked for; the same for the same seed. Raises `MomError` when plugins are missing."""
    settings = SETTINGS.model_copy(update={"seed": seed})
    clock = SimulatedClock()
    with (
        tempfile.TemporaryDirectory(prefix="mom-demo-") as folder,
        Engine(_configuration(settings, Path(folder)), Clock(clock, clock.wall)) as engine,
    ):
        alone = World(plan_of(settings).scene(), clock())
        hypervisor = engine.hypervisor
        assert isinstance(hypervisor, SimHypervisor)  # noqa: S101  # the configuration below says so
        for number in range(1, CYCLES + 1):
            for _ in range(int(INTERVAL / LOOK_SECONDS) - 1):
                clock.now += LOOK_SECONDS
                if reason := hypervisor.news():
                    engine.cycle(reason)
            clock.now = number * INTERVAL
            report = engine.cycle()
            alone.advance_to(clock.now)
            yield Moment(number, clock.now, settings, report, _seen(alone))


def _configuration(settings: SimPlugin.Settings, folder: Path) -> Config:
    sim = settings.model_dump(mode="json", exclude_unset=True)
    return load_config(
        {
            "interval": f"{INTERVAL:g}s",
            "state_directory": str(folder / "state"),
            "run_directory": str(folder / "run"),
            "plugins": {"sim": sim, "balloon": {}, "ksm": {}, "policy": {}},
        }
    )


def _seen(world: World) -> Alone:
    host = world.host
    return Alone(host.available, host.guests, host.other, host.swapped, host.some[10], host.some_total_us / 1e6)
