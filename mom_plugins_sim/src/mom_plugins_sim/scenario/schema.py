"""The parts of a scenario. Everything in it is checked before anything is simulated."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, JsonValue, model_validator

from mom_core import Duration, Size, StrictModel
from mom_plugins_sim.guest import BALLOON_RATE, SMALL_PIECES, SUPERVISION
from mom_plugins_sim.scene import FaultKind
from mom_plugins_sim.workload import TOUCH_RATE

BALLOON_RATE_BYTES, PROCESS_BYTES, TOUCH_BYTES = round(BALLOON_RATE * 1024), SUPERVISION * 1024, round(TOUCH_RATE * 1024)


def _share(value: object) -> object:
    """`35%`, or a number from 0 to 1."""
    if isinstance(value, str) and value.endswith("%"):
        try:
            return float(value[:-1]) / 100
        except ValueError:
            raise ValueError("must be a percentage, such as 35%") from None
    return value


Share = Annotated[float, BeforeValidator(_share), Field(ge=0, le=1)]
"""A part of the guest's memory: `35%`, or 0.35."""


class ConstantDemand(StrictModel):
    """Programs that always hold the same."""

    use: Share
    """The share that they hold."""


class BurstyDemand(StrictModel):
    """Programs that want more now and then, each guest at its own time."""

    base: Share
    """The share that they hold always."""
    burst: Share
    """The share that they want besides, in bursts."""
    period: Annotated[Duration, Field(gt=0)]
    """From one burst to the next."""
    duty: Share
    """The part of the period that a burst lasts."""
    phase: Annotated[Duration, Field(ge=0)] | None = None
    """How far into a period they are at the beginning; unset: each guest somewhere else."""


class DiurnalDemand(StrictModel):
    """Programs that follow the day."""

    low: Share
    """The share that they hold at night."""
    high: Share
    """The share that they hold at the busiest time."""
    peak: Annotated[Duration, Field(ge=0, lt=86_400)] = 14 * 3600.0
    """When the busiest time is, since midnight; the simulation begins at midnight."""
    spread: Annotated[Duration, Field(ge=0, le=43_200)] = 3600.0
    """By how much guests' busiest times differ at most, before and after."""


class LeakDemand(StrictModel):
    """Programs that never give back, until they are started anew."""

    base: Share
    """The share that they hold when they have just started."""
    hourly: Share
    """How much more it is each hour."""
    limit: Share = 0.9
    """With how much they are started anew."""

    @model_validator(mode="after")
    def _grows(self) -> LeakDemand:
        if self.hourly <= 0 or self.limit <= self.base:
            raise ValueError("hourly must be more than 0, and limit more than base")
        return self


class BatchDemand(StrictModel):
    """Jobs that come at random."""

    base: Share
    """The share that is held between jobs."""
    job: Share
    """The share that a job wants besides."""
    every: Annotated[Duration, Field(gt=0)]
    """From one job to the next, on average (times are drawn from an exponential distribution)."""
    lasts: Annotated[Duration, Field(gt=0)]
    """How long a job runs."""


class TraceDemand(StrictModel):
    """A demand that was measured somewhere."""

    file: str
    """A CSV file with the columns `seconds` and `kib`; beside the scenario, if it is no absolute path."""
    shift: Annotated[Duration, Field(ge=0)] = 0.0
    """By how much guests are apart at most, so that they do not all do the same at once."""


class Demands(StrictModel):
    """One of these."""

    constant: ConstantDemand | None = None
    """Always the same."""
    bursty: BurstyDemand | None = None
    """Bursts at regular times."""
    diurnal: DiurnalDemand | None = None
    """A wave that follows the day."""
    leak: LeakDemand | None = None
    """Growth without end."""
    batch: BatchDemand | None = None
    """Jobs at random times."""
    trace: TraceDemand | None = None
    """A demand that was measured."""

    @model_validator(mode="after")
    def _one(self) -> Demands:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"name one kind of workload, not {len(given)}: constant, bursty, diurnal, leak, batch or trace")
        return self


class StatisticsPart(StrictModel):
    """The statistics that guests send."""

    period: Annotated[Duration, Field(gt=0)] = 2.0
    """How often they send statistics."""
    silent: Share = 0.0
    """The part of the guests that send none."""


class BalloonPart(StrictModel):
    """The behaviour of guests when memory is asked of them."""

    none: Share = 0.0
    """The part of the guests that have no balloon device."""
    refuses: Share = 0.0
    """The part of the guests that give nothing, whatever is asked."""
    rate: Annotated[Size, Field(gt=0)] = BALLOON_RATE_BYTES
    """How much a balloon moves in a second."""
    reporting: bool = False
    """Free page reporting: guests hand back by themselves what they free."""
    autodeflate: bool = False
    """The balloon gives memory back when the guest runs out, before a program is killed."""


class GroupPart(StrictModel):
    """Guests of a kind."""

    count: Annotated[int, Field(ge=1, le=100_000)] = 1
    """How many."""
    memory: Size | tuple[Size, Size]
    """The memory that each is sold, or the least and the most of it, from which each draws."""
    process: Size = PROCESS_BYTES
    """Memory that its process on the host holds beside its own."""
    swap: Share = 0.0
    """Its own swap, as a part of its memory."""
    workload: Demands
    """The demand of its programs."""
    files: Share = 0.2
    """The files that they read, as a part of its memory."""
    hot: Share = 0.05
    """The part of them that they read again and again."""
    reads: Size = 4 << 20
    """How much they read in a second."""
    cached: Share | None = None
    """How much of their files they have read already when they come; unset: 60 to 100 %, each guest something else."""
    duplicate: Share = 0.15
    """How much of its memory has content that other guests have, too."""
    cold: Share = 0.0
    """Of what its programs hold always, what they have written once and hardly touch, as a part of its memory."""
    warms: Annotated[Duration, Field(ge=0)] | None = None
    """When they begin to use that like all the rest; unset: never."""
    touches: Annotated[Size, Field(gt=0)] = TOUCH_BYTES
    """How much of the rest they look at in a second, page by page."""
    small_pieces: Share = SMALL_PIECES
    """Of what its programs free, what lies in pieces too small to be reported to the host."""
    statistics: StatisticsPart = StatisticsPart()
    """Its statistics."""
    balloon: BalloonPart = BalloonPart()
    """Its balloon."""
    sold_as: Annotated[str | None, Field(alias="class")] = None
    """The service class that they are sold as, of the plugin sla; unset: none."""
    properties: dict[str, str] = Field(default_factory=dict)
    """What their platform says of them, such as `{flavor: m1.small}`."""
    arrives: Duration | tuple[Duration, Duration] = 0.0
    """When it is started, or the first and the last time, from which each draws."""
    stays: Annotated[Duration, Field(gt=0)] | None = None
    """How long it is there; unset: to the end."""

    @model_validator(mode="after")
    def _ranges(self) -> GroupPart:
        for name, value in (("memory", self.memory), ("arrives", self.arrives)):
            if isinstance(value, tuple) and value[0] > value[1]:
                raise ValueError(f"{name}: the first of the two must not be more than the second")
        return self


class LoadPart(StrictModel):
    """A program beside the guests."""

    at: Annotated[Duration, Field(ge=0)]
    """When it begins."""
    lasts: Annotated[Duration, Field(gt=0)]
    """How long it runs."""
    memory: Size
    """The memory that it takes."""
    growth: Annotated[Size, Field(gt=0)] = 150 << 20
    """How much more in each second."""


class HostPart(StrictModel):
    """The host."""

    memory: Annotated[Size, Field(ge=1 << 30)]
    """Its memory."""
    swap: Size = 0
    """Its swap on a disk."""
    zram: Size = 0
    """Its swap that is compressed in its own memory, instead of one on a disk."""
    load: tuple[LoadPart, ...] = ()
    """Programs beside the guests."""

    @model_validator(mode="after")
    def _one_swap(self) -> HostPart:
        if self.swap and self.zram:
            raise ValueError("name swap or zram: a simulated host has one of them")
        return self


class FaultPart(StrictModel):
    """Something that goes wrong."""

    at: Annotated[Duration, Field(ge=0)]
    """When it begins."""
    lasts: Annotated[Duration, Field(gt=0)]
    """How long it is so."""
    what: Annotated[FaultKind, Field(strict=False)]
    """The kind."""
    guests: str = "*"
    """The guests that it concerns, by a pattern of their names, where it concerns guests."""


class Scenario(StrictModel):
    """A whole scenario."""

    title: str
    """Its title."""
    about: str = ""
    """Its purpose: a few sentences about what it shows."""
    lasts: Annotated[Duration, Field(ge=10, le=365 * 86_400)]
    """How long it is simulated."""
    interval: Annotated[Duration, Field(ge=0.5, le=3600)] = 5.0
    """mom's interval."""
    seed: int = 1
    """The same seed gives the same simulation."""
    host: HostPart
    """The host."""
    guests: dict[str, GroupPart]
    """Groups of guests, by name: guests are called web-001, web-002 and so on."""
    classes: dict[str, dict[str, JsonValue]] = Field(default_factory=dict)
    """Service classes besides those that are ready, as in the settings of the plugin sla."""
    faults: tuple[FaultPart, ...] = ()
    """Faults that happen."""

    @model_validator(mode="after")
    def _guests_are_named(self) -> Scenario:
        for name in self.guests:
            if not name.replace("-", "").replace("_", "").isalnum() or len(name) > 40:
                raise ValueError(f"guests: {name!r:.50} is no name for a group: letters, digits, - and _, at most 40")
        if sum(group.count for group in self.guests.values()) > 100_000:
            raise ValueError("guests: more than 100,000 guests are no scenario")
        return self
