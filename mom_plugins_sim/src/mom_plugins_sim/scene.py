"""The parts of a simulation, decided before it begins: the host, each guest with its programs, and what goes wrong when."""

from __future__ import annotations

import random
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from mom_core import Value
from mom_kvm import SimulationSetup
from mom_plugins_sim.guest import BALLOON_RATE, MIB, SMALL_PIECES, SUPERVISION
from mom_plugins_sim.settings import SimSettings
from mom_plugins_sim.workload import HostLoad, Trace, Workload, draw_workload

FOREVER = float("inf")

GUEST_GRAIN_KIB = 64 * MIB
"""Guests are sold in multiples of this."""

SIZES = (0.5, 0.5, 1.0, 1.0, 1.0, 2.0, 2.0)
"""How large guests are, relative to each other."""


@dataclass(frozen=True, slots=True)
class GuestScene:
    """One guest: who it is, what it has (KiB), what its programs do, and when it is there (seconds since the beginning).

    `cached` is the ratio of its files that it has read before. Statistics come every `statistics_period`, first at `statistics_first`, and
    never from a `silent` one. `size` is what it has when it comes, in KiB; None: all of its memory. A `rigid` guest has no balloon
    device; a `refusing` one gives nothing, whatever it is asked for; others move `balloon_rate` KiB/s. `beside` is what the guest's
    process holds beside its memory. `sold_as` is the service class that its metadata says, `properties` what its platform says of it.
    With `reporting`, its kernel hands free memory back, but for the ratio `small_pieces` of what is freed; with `autodeflate`, its balloon
    gives back before the guest runs out.
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
    size: float | None = None
    balloon_rate: float = BALLOON_RATE
    beside: float = SUPERVISION
    sold_as: str | None = None
    reporting: bool = False
    autodeflate: bool = False
    small_pieces: float = SMALL_PIECES
    properties: Mapping[str, Value] = field(default_factory=dict)


class FaultKind(StrEnum):
    """Faults that can happen."""

    GUEST_HANGS = "guest-hangs"  #: programs, balloon driver and statistics of these guests stand still
    STATISTICS_STOP = "statistics-stop"  #: these guests send no statistics
    BALLOON_STUCK = "balloon-stuck"  #: these guests' balloons do not move
    HYPERVISOR_AWAY = "hypervisor-away"  #: nothing answers
    PLUGIN_RAISES = "plugin-raises"  #: collecting from the simulation fails


@dataclass(frozen=True, slots=True)
class SceneFault:
    """Something that goes wrong from `begins` on, for `lasts` seconds; with the guests of these ids, where it is a matter of guests."""

    kind: FaultKind
    begins: float
    lasts: float
    guests: frozenset[str] = frozenset()

    def is_on(self, time: float) -> bool:
        """True if it is so at that moment."""
        return self.begins <= time < self.begins + self.lasts


@dataclass(frozen=True, slots=True)
class Scene:
    """All of it; the same scene gives the same simulation. `host_memory`, `host_swap` and `host_zram` in KiB: the host's swap is on a disk,
    or compressed in its own memory. `loads` are programs beside the guests, or what was recorded of such over time."""

    host_memory: float
    guests: Sequence[GuestScene]
    seed: int = 1
    host_swap: float = 0.0
    loads: Sequence[HostLoad | Trace] = ()
    faults: Sequence[SceneFault] = ()
    base: float | None = None
    """The memory that the host's own system holds, in KiB; None: as much as is usual for one of this size."""
    host_zram: float = 0.0
    begins: float = SimulationSetup.BEGINS
    """The local time on the host at the beginning, in seconds since 1970: midnight, as workloads by the time of day have it."""


def mixture(settings: SimSettings) -> Scene:
    """The mixture of usual guests that these settings describe, drawn. The same settings give the same scene."""
    seed = 1 if settings.seed is None else settings.seed
    host = settings.host_memory // 1024
    source = random.Random(seed)  # noqa: S311  # a world that repeats itself is the purpose
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
    """A guest's UUID."""
    return str(uuid.UUID(int=source.getrandbits(128), version=4))


def _every(share: float, count: int, offset: int = 0) -> frozenset[int]:
    """The numbers below `count` that make up so large a share of them, evenly spread."""
    chosen = round(share * count)
    return frozenset((round((i + 0.5) * count / chosen) + offset) % count for i in range(chosen))
