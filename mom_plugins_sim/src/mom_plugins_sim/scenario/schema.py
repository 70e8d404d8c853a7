"""Parts of a scenario, and scenarios in files. mom checks the whole scenario before it simulates."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from random import Random
from typing import Annotated

from pydantic import BeforeValidator, Field, JsonValue, model_validator

from mom_core import Duration, MomError, Portion, Size, StrictModel, printable, read_settings
from mom_plugins_sim.guest import BALLOON_RATE, QEMU_OVERHEAD, SMALL_PIECES
from mom_plugins_sim.scene import FaultKind
from mom_plugins_sim.workload import TOUCH_RATE, Demand, Trace, batch, bursty, constant, diurnal, leak

BALLOON_RATE_BYTES, PROCESS_BYTES, TOUCH_BYTES = round(BALLOON_RATE * 1024), QEMU_OVERHEAD * 1024, round(TOUCH_RATE * 1024)


def _share(value: object) -> object:
    return Portion.parse(value).share if isinstance(value, str) and value.endswith("%") else value


Share = Annotated[float, BeforeValidator(_share), Field(ge=0, le=1)]
"""Share, for example of the guest's memory: `35%`, or 0.35."""


class ConstantDemand(StrictModel):
    """Programs with constant memory."""

    use: Share
    """Share of the guest's memory that is in use."""

    def draw(self, memory: float, source: Random, lasts: float) -> Demand:
        """Draw the demand of a guest with this memory in KiB, for a simulation of `lasts` seconds."""
        return constant(self.use * memory)


class BurstyDemand(StrictModel):
    """Programs whose demand rises in bursts, at different times in each guest."""

    base: Share
    """Share in use between bursts."""
    burst: Share
    """Additional share in use during bursts."""
    period: Annotated[Duration, Field(gt=0)]
    """Time from one burst to the next."""
    duty: Share
    """Length of a burst, as a share of the period."""
    phase: Annotated[Duration, Field(ge=0)] | None = None
    """Position within the period at the beginning; unset: random for each guest."""

    def draw(self, memory: float, source: Random, lasts: float) -> Demand:
        """Draw the demand of a guest."""
        phase = source.uniform(0.0, self.period) if self.phase is None else self.phase
        return bursty(self.base * memory, self.burst * memory, self.period, self.duty, phase)


class DiurnalDemand(StrictModel):
    """Programs whose demand depends on the time of day."""

    low: Share
    """Share in use at night."""
    high: Share
    """Share in use at the busiest time."""
    peak: Annotated[Duration, Field(ge=0, lt=86_400)] = 14 * 3600.0
    """Busiest time, as the time since midnight. The simulation begins at midnight."""
    spread: Annotated[Duration, Field(ge=0, le=43_200)] = 3600.0
    """Largest deviation of a guest's busiest time from `peak`, in both directions."""

    def draw(self, memory: float, source: Random, lasts: float) -> Demand:
        """Draw the demand of a guest."""
        return diurnal(self.low * memory, self.high * memory, self.peak + source.uniform(-self.spread, self.spread))


class LeakDemand(StrictModel):
    """Programs that free nothing until they restart."""

    base: Share
    """Share in use after a start."""
    hourly: Share
    """Growth per hour, as a share of the guest's memory."""
    limit: Share = 0.9
    """Share at which the programs restart."""

    @model_validator(mode="after")
    def _grows(self) -> LeakDemand:
        if self.hourly <= 0 or self.limit <= self.base:
            raise ValueError("hourly must be more than 0, and limit more than base")
        return self

    def draw(self, memory: float, source: Random, lasts: float) -> Demand:
        """Draw the demand of a guest."""
        rate = self.hourly * memory / 3600
        tooth = (self.limit - self.base) * memory / rate
        return leak(self.base * memory, rate, self.limit * memory, source.uniform(0.0, tooth))


class BatchDemand(StrictModel):
    """Jobs at random times."""

    base: Share
    """Share in use between jobs."""
    job: Share
    """Additional share in use during a job."""
    every: Annotated[Duration, Field(gt=0)]
    """Average time from a job's end to the next job's start, exponentially distributed."""
    lasts: Annotated[Duration, Field(gt=0)]
    """Run time of a job."""

    def draw(self, memory: float, source: Random, lasts: float) -> Demand:
        """Draw the demand of a guest."""
        starts, time = [], source.expovariate(1 / self.every)
        while time < lasts:
            starts.append(time)
            time += self.lasts + source.expovariate(1 / self.every)
        return batch(self.base * memory, self.job * memory, starts, self.lasts, lasts)


class TraceDemand(StrictModel):
    """Measured demand."""

    file: str
    """CSV file with the columns `seconds` and `kib`. A relative path starts at the scenario's folder."""
    shift: Annotated[Duration, Field(ge=0)] = 0.0
    """Largest time by which a guest's trace is shifted, at random, so that guests do not act in step."""

    def draw(self, trace: Trace, memory: float, source: Random) -> Trace:
        """Draw the demand of a guest with this memory in KiB."""
        shift = source.uniform(0.0, self.shift)
        return Trace([time - shift for time in trace.times], [min(value, memory) for value in trace.values])


class RecordedDemand(StrictModel):
    """Virtual machines of GWA-T-12, each with its own memory."""

    folder: str
    """Folder of a month, one CSV file per virtual machine. A relative path starts at the scenario's folder."""
    day: Annotated[date, Field(strict=False)]
    """Date (UTC) at whose midnight the simulation begins."""
    factor: Annotated[float, Field(gt=0, le=100)] = 2.0
    """Used memory, as a multiple of the recorded active memory."""


class Demands(StrictModel):
    """Memory demand. Exactly one of the kinds must be set."""

    constant: ConstantDemand | None = None
    """Constant demand."""
    bursty: BurstyDemand | None = None
    """Bursts at regular times."""
    diurnal: DiurnalDemand | None = None
    """Wave that follows the day."""
    leak: LeakDemand | None = None
    """Steady growth."""
    batch: BatchDemand | None = None
    """Jobs at random times."""
    trace: TraceDemand | None = None
    """Measured demand."""
    recorded: RecordedDemand | None = None
    """Recorded virtual machines."""

    @model_validator(mode="after")
    def _one(self) -> Demands:
        kinds = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(kinds) != 1:
            raise ValueError(f"set one kind of workload, not {len(kinds)}: constant, bursty, diurnal, leak, batch, trace or recorded")
        return self

    def draw(self, memory: float, source: Random, lasts: float) -> Demand:
        """Draw the demand of a guest whose kind of workload is neither a trace nor recorded."""
        return next(kind.draw(memory, source, lasts) for kind in (self.constant, self.bursty, self.diurnal, self.leak, self.batch) if kind)


class StatisticsPart(StrictModel):
    """Statistics that guests send."""

    period: Annotated[Duration, Field(gt=0)] = 2.0
    """Time from one set of statistics to the next."""
    silent: Share = 0.0
    """Share of guests that send no statistics."""


class BalloonPart(StrictModel):
    """Balloons of the guests."""

    none: Share = 0.0
    """Share of guests without a balloon device."""
    refuses: Share = 0.0
    """Share of guests whose balloon never moves."""
    rate: Annotated[Size, Field(gt=0)] = BALLOON_RATE_BYTES
    """Memory by which a balloon inflates or deflates per second."""
    reporting: bool = False
    """Free page reporting: guests return freed memory by themselves."""
    autodeflate: bool = False
    """The balloon deflates when the guest runs out of memory, before an OOM kill."""


class GroupPart(StrictModel):
    """Group of guests."""

    count: Annotated[int, Field(ge=1, le=100_000)] = 1
    """Number of guests."""
    memory: Size | tuple[Size, Size] | None = None
    """Memory of each guest, or the bounds of a random size; unset for recorded virtual machines."""
    process: Size = PROCESS_BYTES
    """QEMU's own memory on the host, for each guest."""
    swap: Share = 0.0
    """Swap of the guest, as a share of its memory."""
    workload: Demands
    """Memory demand of the guest's programs."""
    files: Share = 0.2
    """Size of the files that the programs read, as a share of the guest's memory."""
    hot: Share = 0.05
    """Size of the files that the programs read again and again, as a share of the guest's memory."""
    reads: Size = 4 << 20
    """Amount of file data that the programs read per second."""
    cached: Share | None = None
    """Share of the files in the page cache at the start; unset: random, 60 to 100 %."""
    duplicate: Share = 0.15
    """Share of the guest's memory whose content other guests also have."""
    cold: Share = 0.0
    """Cold memory of the programs, as a share of the guest's memory; capped at the programs' smallest demand."""
    warms: Annotated[Duration, Field(ge=0)] | None = None
    """Time at which cold memory becomes ordinary memory; unset: never."""
    touches: Annotated[Size, Field(gt=0)] = TOUCH_BYTES
    """Ordinary memory that the programs touch per second, page by page."""
    small_pieces: Share = SMALL_PIECES
    """Share of freed memory in blocks too small for free page reporting."""
    statistics: StatisticsPart = StatisticsPart()
    """Statistics of the guests."""
    balloon: BalloonPart = BalloonPart()
    """Balloons of the guests."""
    sold_as: Annotated[str | None, Field(alias="class")] = None
    """Service class of the `sla` plugin; unset: none."""
    properties: dict[str, str] = Field(default_factory=dict)
    """Properties from the platform, such as `{flavor: m1.small}`."""
    arrives: Duration | tuple[Duration, Duration] = 0.0
    """Start time, or the earliest and the latest time of a random start."""
    stays: Annotated[Duration, Field(gt=0)] | None = None
    """Lifetime; unset: to the end."""

    @model_validator(mode="after")
    def _ranges(self) -> GroupPart:
        if (self.memory is None) != (self.workload.recorded is not None):
            raise ValueError("set memory, except with the workload `recorded`, whose files contain the sizes")
        for name, value in (("memory", self.memory), ("arrives", self.arrives)):
            if isinstance(value, tuple) and value[0] > value[1]:
                raise ValueError(f"{name}: the first value must not be larger than the second")
        return self


class LoadPart(StrictModel):
    """Program that runs on the host, outside the guests."""

    at: Annotated[Duration, Field(ge=0)]
    """Start time."""
    lasts: Annotated[Duration, Field(gt=0)]
    """Run time."""
    memory: Size
    """Memory of the program."""
    growth: Annotated[Size, Field(gt=0)] = 150 << 20
    """Growth per second, up to `memory`."""


class HostPart(StrictModel):
    """Simulated host."""

    memory: Annotated[Size, Field(ge=1 << 30)]
    """Memory of the host."""
    swap: Size = 0
    """Swap on a disk."""
    zram: Size = 0
    """Compressed swap in the host's memory, instead of swap on a disk."""
    load: tuple[LoadPart, ...] = ()
    """Programs on the host."""

    @model_validator(mode="after")
    def _one_swap(self) -> HostPart:
        if self.swap and self.zram:
            raise ValueError("set swap or zram, not both")
        return self


class FaultPart(StrictModel):
    """Fault of guests, of the hypervisor or of a plugin."""

    at: Annotated[Duration, Field(ge=0)]
    """Start time."""
    lasts: Annotated[Duration, Field(gt=0)]
    """Duration."""
    what: Annotated[FaultKind, Field(strict=False)]
    """Kind of fault."""
    guests: str = "*"
    """Pattern of the affected guests' names, for a fault of guests."""


class Scenario(StrictModel):
    """Complete scenario."""

    title: str
    """Title."""
    about: str = ""
    """Purpose, in a few sentences."""
    lasts: Annotated[Duration, Field(ge=10, le=365 * 86_400)]
    """Simulated time."""
    interval: Annotated[Duration, Field(ge=0.5, le=3600)] = 5.0
    """Time between two cycles of mom."""
    seed: int = 1
    """The same seed gives the same simulation."""
    host: HostPart
    """The host."""
    guests: dict[str, GroupPart]
    """Groups of guests keyed by name. The guests of `web` are called web-001, web-002 and so on."""
    classes: dict[str, dict[str, JsonValue]] = Field(default_factory=dict)
    """Additional service classes, as in the settings of the `sla` plugin."""
    faults: tuple[FaultPart, ...] = ()
    """Faults during the simulation."""

    @model_validator(mode="after")
    def _guests_are_named(self) -> Scenario:
        for name in self.guests:
            if not name.replace("-", "").replace("_", "").isalnum() or len(name) > 40:
                raise ValueError(f"guests: {name!r:.50} is not a group name: use up to 40 letters, digits, - and _")
        if sum(group.count for group in self.guests.values()) > 100_000:
            raise ValueError("guests: a scenario has at most 100,000 guests")
        return self


FOLDER = Path(__file__).parent / "scenarios"

SUFFIX = ".yaml"

YAML = frozenset({SUFFIX, ".yml"})


class NoScenario(MomError, ValueError):
    """Unknown scenario or missing file."""


def built_in() -> Mapping[str, Path]:
    """Return the scenarios' files keyed by name."""
    return {path.stem: path for path in sorted(FOLDER.glob(f"*{SUFFIX}"))}


def find_scenario(name: str) -> Path:
    """Return the file of the scenario with this path or name. Raise `NoScenario` for an unknown name."""
    path = Path(name)
    if path.suffix in YAML or "/" in name:
        return path
    scenarios = built_in()
    if name not in scenarios:
        raise NoScenario(
            f"there is no scenario {printable(name)}",
            hint=f"existing scenarios: {', '.join(scenarios)}; or give the path of a file *{SUFFIX}",
        )
    return scenarios[name]


def read_scenario(path: Path) -> Scenario:
    """Read a scenario. Raise `NoScenario` for a missing file, or `ConfigError` that lists all errors with their places."""
    if not path.exists():
        raise NoScenario(f"there is no file {path}", hint="`mom simulate --list` shows the scenarios that come with mom")
    return read_settings(path, Scenario)
