"""Settings of the simulator, and the scene of a simulation: host, guests with their programs, and faults, all drawn before it begins."""

from __future__ import annotations

import random
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from mom_core import Duration, PluginSettings, Size, Value
from mom_plugins_sim.guest import MIB, USUAL_TRAITS, GuestTraits
from mom_plugins_sim.workload import HostLoad, Trace, Workload, draw_workload


class SimSettings(PluginSettings):
    """World to simulate: a mixture of usual guests, or a complete scenario."""

    scenario: str | None = None
    """Name of a scenario that comes with mom, or path of a YAML file. It replaces all other settings except `seed`."""

    guests: Annotated[int, Field(ge=0, le=100_000)] = 24
    """Number of guests."""

    host_memory: Annotated[Size, Field(ge=1 << 30)] = 32 << 30
    """Memory of the host."""

    host_swap: Size = 8 << 30
    """Swap of the host on a disk."""

    host_zram: Size = 0
    """Compressed swap in the host's memory, instead of swap on a disk."""

    sold: Annotated[float, Field(gt=0, le=10)] = 1.5
    """Memory of all guests together, as a multiple of the host's memory."""

    seed: int | None = None
    """The same seed gives the same host, guests and workloads. Unset: the scenario's seed, or 1."""

    statistics_period: Annotated[Duration, Field(gt=0)] = 5.0
    """Time from one set of a guest's statistics to the next."""

    silent: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of guests that send no statistics."""

    rigid: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of guests without a balloon device."""

    cold: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Cold share of the memory that guests always use: 0.2 to 0.4 in real programs (TMO, ASPLOS 2022)."""

    shelf: Path | None = None
    """Folder that several simulated hosts share, so that guests can migrate between them; unset: guests cannot migrate."""

    host: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,62}$")] = "host"
    """Name of this host in `shelf`. For a migration to this host, the destination is `qemu+tls://NAME/system`. Give each host its own
    `seed`: the same seed draws the same guest ids, and a guest cannot migrate to a host that has a guest with the same id."""

    load: Size = 0
    """Memory of a temporary program on the host."""

    load_after: Annotated[Duration, Field(ge=0)] = 60.0
    """Time from the simulation's beginning to the temporary program's start."""

    load_for: Annotated[Duration, Field(ge=0)] = 240.0
    """Run time of the temporary program."""

    load_growth: Annotated[Size, Field(gt=0)] = 150 << 20
    """Growth of the temporary program per second, up to `load`."""

    @model_validator(mode="after")
    def _guests_can_move(self) -> Self:
        if self.shelf is not None and self.scenario is not None:
            raise ValueError("shelf: guests of a scenario cannot migrate; leave out shelf or scenario")
        return self


FOREVER = float("inf")

GUEST_GRAIN_KIB = 64 * MIB
"""The memory of each guest is a multiple of this size."""

SIZES = (0.5, 0.5, 1.0, 1.0, 1.0, 2.0, 2.0)
"""Relative sizes, of which mom draws one for each guest."""


@dataclass(frozen=True, slots=True)
class GuestScene:
    """Guest with its sizes (KiB), programs and times (seconds since the beginning).

    :param cached: fraction of its files that the guest has read before it arrives
    :param silent: the guest sends no statistics
    :param rigid: the guest has no balloon device
    :param refusing: the guest's balloon does not move
    :param sold_as: service class
    """

    identity: str
    name: str
    memory: float
    workload: Workload
    swap: float = 0.0
    cached: float = 1.0
    statistics_period: float = 5.0
    statistics_first: float = 0.0
    silent: bool = False
    rigid: bool = False
    refusing: bool = False
    arrives: float = 0.0
    departs: float = FOREVER
    traits: GuestTraits = USUAL_TRAITS
    sold_as: str | None = None
    properties: Mapping[str, Value] = field(default_factory=dict)


class FaultKind(StrEnum):
    """Kind of fault."""

    GUEST_HANGS = "guest-hangs"  #: programs, balloon driver and statistics of these guests stop
    STATISTICS_STOP = "statistics-stop"  #: these guests send no statistics
    BALLOON_STUCK = "balloon-stuck"  #: these guests' balloons do not move
    HYPERVISOR_AWAY = "hypervisor-away"  #: the hypervisor does not answer
    PLUGIN_RAISES = "plugin-raises"  #: collecting from the simulation fails


@dataclass(frozen=True, slots=True)
class SceneFault:
    """Fault that begins at `begins` and lasts `lasts` seconds. `guests` are the ids of the affected guests."""

    kind: FaultKind
    begins: float
    lasts: float
    guests: frozenset[str] = frozenset()

    def is_on(self, time: float) -> bool:
        """Return whether the fault is present at that time."""
        return self.begins <= time < self.begins + self.lasts


@dataclass(frozen=True, slots=True)
class Scene:
    """Complete scene. Memory is in KiB; `host_zram` is swap compressed in memory."""

    host_memory: float
    guests: Sequence[GuestScene]
    seed: int = 1
    host_swap: float = 0.0
    loads: Sequence[HostLoad | Trace] = ()
    faults: Sequence[SceneFault] = ()
    base: float | None = None
    """Memory of the host's own system in KiB; None for the usual amount."""
    host_zram: float = 0.0


def mixture(settings: SimSettings) -> Scene:
    """Draw a mixture of usual guests."""
    seed = 1 if settings.seed is None else settings.seed
    host = settings.host_memory // 1024
    source = random.Random(seed)  # noqa: S311  # the simulation must be repeatable
    shares = [source.choice(SIZES) for _ in range(settings.guests)]
    unit = host * settings.sold / sum(shares) if shares else 0.0
    numbers: Counter[str] = Counter()
    silent = _every(settings.silent, settings.guests)
    rigid = _every(settings.rigid, settings.guests, offset=1)
    guests = []
    for index, share in enumerate(shares):
        maximum = max(1, round(share * unit / GUEST_GRAIN_KIB)) * GUEST_GRAIN_KIB
        kind, workload = draw_workload(source, maximum, settings.cold)
        numbers[kind] += 1
        swap = maximum / 4 if source.random() < 0.5 else 0.0  # half of all guests have a swap partition
        cached = source.uniform(0.6, 1.0)
        first = source.uniform(0.0, settings.statistics_period)
        guests.append(
            GuestScene(
                draw_identity(source),
                f"{kind}-{numbers[kind]:02d}",
                maximum,
                workload,
                swap,
                cached,
                settings.statistics_period,
                first,
                silent=index in silent,
                rigid=index in rigid,
            )
        )
    load = HostLoad(settings.load / 1024, settings.load_after, settings.load_for, settings.load_growth / 1024)
    swap, zram = settings.host_swap // 1024, settings.host_zram // 1024
    return Scene(float(host), guests, seed, float(swap), [load], host_zram=float(zram))


def draw_identity(source: random.Random) -> str:
    """Draw a guest's UUID."""
    return str(uuid.UUID(int=source.getrandbits(128), version=4))


def _every(share: float, count: int, offset: int = 0) -> frozenset[int]:
    chosen = round(share * count)
    return frozenset((round((i + 0.5) * count / chosen) + offset) % count for i in range(chosen))
