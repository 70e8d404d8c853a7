"""A host with its guests, moved on together in steps of one second: the same from the same seed, however often it is looked at."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field

from mom_core import CpuTune, DiskTune, Entity, Guest, Scope
from mom_plugins_sim import guest as guest_model
from mom_plugins_sim.guest import MIB, SUPERVISION, GuestMemory, new_guest
from mom_plugins_sim.host import HostMemory
from mom_plugins_sim.ksm import Ksm
from mom_plugins_sim.statistics import Statistics
from mom_plugins_sim.workload import HostLoad, draw_workload

TICK = 1.0
"""Seconds of a step. A balloon moves 0.86 GiB in it, and a program fills 320 MiB: both less than what matters to a cycle."""

LONGEST_JUMP = 600.0
"""Seconds that are caught up at most when nobody has looked for long: ten minutes, after which a constant load has settled."""

GUEST_GRAIN_KIB = 64 * MIB
"""Guests are sold in multiples of this."""

DISK_LIMITS = ("total_bytes_sec", "read_bytes_sec", "write_bytes_sec", "total_iops_sec", "read_iops_sec", "write_iops_sec")

UNLIMITED_CPU = CpuTune(quota_us=-1, period_us=100_000, shares=1024, user_limit_percent=100.0)
UNLIMITED_DISKS = (DiskTune("vda", "", dict.fromkeys(DISK_LIMITS, 0)),)

VCPUS = 2
"""What every guest has."""

SIZES = (0.5, 0.5, 1.0, 1.0, 1.0, 2.0, 2.0)
"""How large guests are, relative to each other."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What world to make: sizes in KiB, shares as ratios, times in seconds. The same plan gives the same world.

    `sold` is the guests' memory together, as a multiple of the host's. `silent` and `rigid` are the shares of guests that send no
    statistics, and that have no balloon device.
    """

    guests: int
    host_memory: int
    seed: int = 1
    sold: float = 1.5
    host_swap: int = 0
    statistics_period: float = 5.0
    silent: float = 0.0
    rigid: float = 0.0
    load: HostLoad = field(default_factory=HostLoad)


@dataclass(slots=True)
class SimulatedGuest:
    """A guest as the hypervisor knows it, with its memory and what it tells."""

    listed: Guest
    kind: str
    memory: GuestMemory
    statistics: Statistics
    rigid: bool = False
    seen_faults: tuple[float, float] = (0.0, 0.0)
    cpu: CpuTune = UNLIMITED_CPU
    disks: tuple[DiskTune, ...] = UNLIMITED_DISKS
    """These limits are kept, and limit nothing: nobody simulates CPU time or I/O."""

    @property
    def entity(self) -> Entity:
        """Who it is."""
        return self.listed.entity


class World:
    """The host, its guests and its KSM. `advance_to` moves all of it on; nothing moves otherwise.

    :param now: the reading of the clock at which the simulation begins
    """

    def __init__(self, plan: Plan, now: float = 0.0) -> None:
        self.plan = plan
        self.time = 0.0
        """Seconds since the beginning."""
        self.guests: dict[str, SimulatedGuest] = {}
        self.ksm = Ksm()
        self._began = now
        self._populate()
        total = float(plan.host_memory)
        self.host = HostMemory(
            total=total,
            swap_total=float(plan.host_swap),
            base=min(1024 * MIB + 0.01 * total, 0.2 * total),
            reserve=min(0.01 * total, 256.0 * MIB),
            cache=0.05 * total,
            load=plan.load,
        )
        self.host.guests = self._touched() - self.ksm.saved_kib

    def _populate(self) -> None:
        plan = self.plan
        source = random.Random(plan.seed)  # noqa: S311  # a world that repeats itself is the purpose
        shares = [source.choice(SIZES) for _ in range(plan.guests)]
        unit = plan.host_memory * plan.sold / sum(shares) if shares else 0.0
        numbers: dict[str, int] = {}
        silent = _every(plan.silent, plan.guests)
        rigid = _every(plan.rigid, plan.guests, offset=1)
        for index, share in enumerate(shares):
            maximum = max(1, round(share * unit / GUEST_GRAIN_KIB)) * GUEST_GRAIN_KIB
            kind, workload = draw_workload(source, maximum)
            numbers[kind] = numbers.get(kind, 0) + 1
            name = f"{kind}-{numbers[kind]:02d}"
            swap = maximum / 4 if source.random() < 0.5 else 0.0  # half of all guests have a swap partition
            memory = new_guest(workload, maximum, swap, cached=source.uniform(0.6, 1.0))
            first = source.uniform(0.0, plan.statistics_period)
            self._add(name, kind, memory, Statistics(plan.statistics_period, first, silent=index in silent), index in rigid, source)

    def _add(self, name: str, kind: str, memory: GuestMemory, statistics: Statistics, rigid: bool, source: random.Random) -> None:
        identity = str(uuid.UUID(int=source.getrandbits(128), version=4))
        blocked = {"balloon_target": "the guest has no balloon device"} if rigid else {}
        if rigid:
            statistics.silent = True  # it is the balloon's driver that sends them
        listed = Guest(identity, name, properties={"name": name, "uuid": identity}, blocked=blocked, incarnation="1")
        self.guests[identity] = SimulatedGuest(listed, kind, memory, statistics, rigid)

    # --- time ------------------------------------------------------------------------------------------------------------------

    def advance_to(self, now: float) -> None:
        """Move on to what the clock says, in whole steps. Nothing happens when it says the same as before."""
        behind = now - self._began - self.time
        if behind > LONGEST_JUMP:
            self._began += behind - LONGEST_JUMP
        while self.time + TICK <= now - self._began + 1e-9:
            self.step(TICK)

    def step(self, dt: float) -> None:
        """Move everything on by `dt` seconds."""
        time = self.time
        step_guest = guest_model.step
        after = time + dt
        touched = mergeable = 0.0
        for guest in self.guests.values():
            memory = guest.memory
            step_guest(memory, time, dt)
            statistics = guest.statistics
            if after >= statistics.due:
                statistics.take(memory, after)
            touched += memory.touched
            mergeable += memory.touched * memory.workload.duplicate
        self.time = after
        self.ksm.step(mergeable, touched, dt)
        self.host.step(touched + SUPERVISION * len(self.guests) - self.ksm.saved_kib, time, dt)

    # --- what can be done to it ----------------------------------------------------------------------------------------------------

    def resize(self, identity: str, target_kib: int) -> None:
        """Ask a guest for a size; KeyError when there is no such guest."""
        memory = self.guests[identity].memory
        memory.target = min(float(target_kib), memory.maximum)

    def entities(self) -> Iterable[Entity]:
        """All guests."""
        return [Entity(Scope.GUEST, guest.listed.id, guest.listed.name) for guest in self.guests.values()]

    def _touched(self) -> float:
        return sum(guest.memory.touched + SUPERVISION for guest in self.guests.values())


def _every(share: float, count: int, offset: int = 0) -> frozenset[int]:
    """The numbers below `count` that make up so large a share of them, evenly spread."""
    chosen = round(share * count)
    return frozenset((round((i + 0.5) * count / chosen) + offset) % count for i in range(chosen))
