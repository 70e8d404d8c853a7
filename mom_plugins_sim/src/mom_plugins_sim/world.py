"""Simulated host with its guests, advanced in steps of one second. The same scene gives the same world, however often mom reads it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from mom_core import Guest
from mom_kvm import GuestState, Promises
from mom_plugins_sim.guest import MIB, SentFigures, SentStatistics, SimulatedGuestMemory, new_guest
from mom_plugins_sim.guest import step as step_guest
from mom_plugins_sim.host import Held, SimulatedHostMemory, SwappedGuest, SwapStep, compressed, disk, held_by, swap_out
from mom_plugins_sim.ksm import Ksm
from mom_plugins_sim.scene import FOREVER, FaultKind, GuestScene, Scene, SceneFault

TICK = 1.0
"""Seconds per step."""

LOOKS = 10
"""Calls of `World.look` per step. A real mom looks every 0.1 s while it limits growth, and sooner when a guest reaches its limit."""

LONGEST_JUMP = 600.0
"""Of a longer pause, the world simulates only this many seconds, because a constant load settles in this time."""

WAITING_SHARE = 0.5
"""Each guest waits during this fraction of the host's swap-out stalls: "full" pressure is about half of "some"."""

SWAPS_BELOW_SHARE = 0.0025
"""Fraction of the host's memory that is still available when its kernel begins to swap: 60 MiB of 24 GiB.

Measured with compressed swap (benchmarks/squeeze, mix `cold`). With swap on a disk, which was not measured, the simulated kernel begins to
swap when nothing is available.
"""

CLASS = "sla_class"
"""Name of the guest property that holds the service class, as for real guests with a class in their metadata."""

VCPUS = 2

CPUS = 32


CycleView: TypeAlias = tuple[float, float, float, SentFigures]
"""A guest as of the last cycle: size and usable memory in KiB, time of the statistics in seconds, and the statistics."""


@dataclass(slots=True)
class SimulatedGuest:
    """Guest with its memory and statistics. A fault can make the guest hang, or make it `mute`, so that it sends no statistics."""

    listed: Guest
    scene: GuestScene
    memory: SimulatedGuestMemory
    statistics: SentStatistics
    reported_faults: tuple[float, float] = (0.0, 0.0)
    """Numbers of minor and major faults up to the last cycle."""
    view: CycleView | None = None
    """The guest as of the last cycle, adjusted to targets set since then; None without statistics."""
    hangs: bool = False
    mute: bool = False
    paused: bool = False
    swapped: SwappedGuest = field(default_factory=SwappedGuest)
    swept: float = 0.0
    """KiB that a sweep has just reclaimed. The guest holds them until time advances, so that the order of actions does not matter."""
    limit: int | None = None
    """KiB of host memory beyond which the guest does not grow (`memory.high`); None: no limit."""
    slowed: int = 0
    """Steps in which the guest was at its limit."""

    @property
    def held(self) -> float:
        """KiB of the host that the guest and its process hold."""
        return self.memory.touched - self.swapped.total + self.memory.traits.qemu_overhead

    def step(self, time: float, dt: float) -> None:
        """Advance the guest's memory. At the guest's limit, programs wait for memory and lose part of the step."""
        memory, anon, cache = self.memory, self.memory.anon, self.memory.cache
        most = math.inf if self.limit is None else memory.touched + max(0.0, self.limit - self.held)
        step_guest(memory, time, dt)
        missing = memory.touched - most
        if missing > 1:  # less is a rounding error
            self.slowed += 1
            anon, cache = min(anon, memory.anon), min(cache, memory.cache)
            share = missing / (memory.anon - anon + memory.cache - cache)
            memory.anon -= share * (memory.anon - anon)
            memory.cache -= share * (memory.cache - cache)
            memory.touched = most
            memory.lost_seconds += share * dt


class World:
    """Host, guests and KSM. Only `advance_to` and `step` advance the time. Methods raise KeyError for an unknown guest.

    :param now: the clock at the beginning of the simulation
    """

    def __init__(self, scene: Scene, now: float = 0.0) -> None:
        self.scene = scene
        self.time = 0.0
        """Seconds since the beginning."""
        self.guests: dict[str, SimulatedGuest] = {}
        self.away = False
        self.broken = False
        self.killed = 0
        """OOM kills in guests that have left."""
        self.lost_seconds = 0.0
        """Lost work of guests that have left."""
        self.stopped: dict[str, SimulatedGuest | GuestScene] = {}
        """Saved guests, and the scenes of guests that were shut down, keyed by id."""
        self._requested: dict[str, GuestState] = {}
        """States that guests enter when time advances, keyed by id."""
        self.look: Callable[[], object] | None = None
        """Function that limits guests' growth, called `LOOKS` times per step; None if mom does not limit growth."""
        self.ksm = Ksm()
        self._began = now
        self._starts = 1
        # Sorted by name like snapshots, so that mom reads the guests in the order of their memory addresses. That is faster for thousands.
        self._coming = sorted(scene.guests, key=lambda guest: (guest.arrives, guest.name, guest.identity), reverse=True)
        self._next_change = 0.0
        total = float(scene.host_memory)
        self.host = SimulatedHostMemory(
            total=total,
            swap=compressed(scene.host_zram) if scene.host_zram else disk(scene.host_swap),
            base=min(1024 * MIB + 0.01 * total, 0.2 * total) if scene.base is None else scene.base,
            reserve=min(0.01 * total, 256.0 * MIB),
            swaps_below=SWAPS_BELOW_SHARE * total if scene.host_zram else 0.0,
            cache=0.05 * total,
            loads=scene.loads,
        )
        self._change(0.0)
        self.host.guests = sum(guest.memory.touched + guest.memory.traits.qemu_overhead for guest in self.guests.values())

    # --- time ------------------------------------------------------------------------------------------------------------------

    def advance_to(self, now: float) -> None:
        """Advance in whole steps to the time `now` of the clock."""
        behind = now - self._began - self.time
        if behind > LONGEST_JUMP:
            self._began += behind - LONGEST_JUMP
        while self.time + TICK <= now - self._began + 1e-9:
            if self.look is None:
                self.step(TICK)
                continue
            for _ in range(LOOKS):
                self.look()
                self.step(TICK / LOOKS)

    def step(self, dt: float) -> None:
        """Advance everything by `dt` seconds."""
        time = self.time
        self.apply_requests()
        if time >= self._next_change:
            self._change(time)
        after = time + dt
        swapping = self.host.swapped > 0
        due = touched = mergeable = overhead = 0.0
        for guest in self.guests.values():
            memory = guest.memory
            if guest.swept:
                self._end_sweep(guest)
            if guest.paused:
                memory.lost_seconds += dt
            elif not guest.hangs:
                if swapping:
                    before = held_by(memory, time)
                    guest.step(time, dt)
                    guest.swapped.follow(before, held_by(memory, after), memory, dt)
                    due += guest.swapped.due
                else:
                    guest.step(time, dt)
                statistics = guest.statistics
                if after >= statistics.due and not guest.mute:
                    statistics.send(memory, after)
            touched += memory.touched
            overhead += memory.traits.qemu_overhead
            mergeable += memory.touched * memory.workload.duplicate
        self.time = after
        self.lost_seconds += dt * len(self.stopped)
        self.ksm.step(mergeable, touched, dt)
        traffic = self.host.step(touched + overhead - self.ksm.saved_kib, time, dt, due)
        if swapping or traffic.blocked:
            self._swap(traffic, due, dt)

    def _end_sweep(self, guest: SimulatedGuest) -> None:
        memory, swept = guest.memory, guest.swept
        free = held_by(memory, self.time).free
        guest.swapped.free *= 1 - min(1.0, swept / free) if free > 0 else 0.0
        memory.touched -= swept
        guest.swept = 0.0

    def _swap(self, traffic: SwapStep, due: float, dt: float) -> None:
        host = self.host
        waiting = dt * traffic.blocked * WAITING_SHARE
        for guest in self.guests.values():
            swapped = guest.swapped
            if guest.hangs or guest.paused:
                continue
            if due and swapped.due:
                share = swapped.due / due
                guest.memory.lost_seconds += swapped.wait(traffic.back * share, traffic.thrashed * share, host.swap, traffic.queue, dt)
                swapped.swap_in((traffic.back + traffic.thrashed) * share)
            guest.memory.lost_seconds += waiting
        out = traffic.out + traffic.thrashed  # without room, as much goes out as comes in
        short = out - swap_out(self._held(), out) if out else 0.0
        back = min(host.others_swapped, max(0.0, host.swap.in_rate * dt - traffic.back - traffic.thrashed), max(0.0, -host.short))
        host.others_swapped += short - back
        host.swap_in += back
        host.swapped = sum(guest.swapped.total for guest in self.guests.values()) + host.others_swapped

    def _held(self, *identities: str) -> list[tuple[Held, SwappedGuest]]:
        guests = [self.guests[identity] for identity in identities] if identities else self.guests.values()
        return [(held_by(guest.memory, self.time), guest.swapped) for guest in guests]

    def _change(self, time: float) -> None:
        while self._coming and self._coming[-1].arrives <= time:
            self.join(self._coming.pop())
        for identity in [identity for identity, guest in self.guests.items() if guest.scene.departs <= time]:
            self.leave(identity)
        faults = [fault for fault in self.scene.faults if fault.is_on(time)]
        kinds = {fault.kind for fault in faults}
        self.away, self.broken = FaultKind.HYPERVISOR_AWAY in kinds, FaultKind.PLUGIN_RAISES in kinds
        for identity, guest in self.guests.items():
            guest.hangs = _struck(faults, FaultKind.GUEST_HANGS, identity)
            guest.mute = _struck(faults, FaultKind.STATISTICS_STOP, identity)
            guest.memory.stuck = _struck(faults, FaultKind.BALLOON_STUCK, identity) or guest.scene.refusing
        edges = [edge for fault in self.scene.faults for edge in (fault.begins, fault.begins + fault.lasts)]
        edges.extend(guest.scene.departs for guest in self.guests.values())
        if self._coming:
            edges.append(self._coming[-1].arrives)
        self._next_change = min((edge for edge in edges if edge > time), default=FOREVER)

    def leave(self, identity: str) -> SimulatedGuest:
        """Remove a guest and return it."""
        guest = self.guests.pop(identity)
        self.killed += guest.memory.killed
        self.lost_seconds += guest.memory.lost_seconds
        return guest

    def state_of(self, identity: str) -> GuestState | None:
        """Return a guest's present or requested state; None for an unknown guest."""
        guest, stopped = self.guests.get(identity), self.stopped.get(identity)
        if guest is None and stopped is None:
            return None
        if identity in self._requested:
            return self._requested[identity]
        if guest is not None:
            return GuestState.PAUSED if guest.paused else GuestState.RUNNING
        return GuestState.OFF if isinstance(stopped, GuestScene) else GuestState.SAVED

    def request_state(self, identity: str, state: GuestState) -> None:
        """Request a state. The guest enters it when time advances or mom lists guests, so that the order of actions does not matter."""
        self._requested[identity] = state

    def apply_requests(self) -> None:
        """Pause, stop and start guests as requested."""
        if not self._requested:
            return
        requests, self._requested = self._requested, {}
        for identity, state in requests.items():
            stops = state in {GuestState.SAVED, GuestState.OFF}
            if identity in self.stopped and not stops:
                self.start(identity)
            elif identity in self.guests and stops:
                self.stop(identity, keep=state is GuestState.SAVED)
            if identity in self.guests:
                self.guests[identity].paused = state is GuestState.PAUSED

    def stop(self, identity: str, *, keep: bool) -> None:
        """Stop a guest.

        :param keep: save the guest's memory; otherwise the guest boots at its next start
        """
        guest = self.guests.pop(identity) if keep else self.leave(identity)
        guest.swapped, guest.view, guest.limit = SwappedGuest(), None, None
        self.stopped[identity] = guest if keep else guest.scene

    def start(self, identity: str) -> None:
        """Start a stopped guest. Raise KeyError if no stopped guest has this id."""
        stopped = self.stopped.pop(identity)
        self._starts += 1
        if isinstance(stopped, GuestScene):
            self.join(stopped)
        else:
            self.guests[identity] = stopped
        guest = self.guests[identity]
        guest.listed = replace(guest.listed, incarnation=str(self._starts))
        guest.statistics.since = self.time

    def join(self, scene: GuestScene) -> None:
        """Add a guest that has just booted."""
        memory = new_guest(scene.workload, scene.memory, scene.swap, scene.cached, scene.traits)
        # The balloon driver sends statistics.
        silent, first = scene.silent or scene.rigid, self.time + scene.statistics_first
        statistics = SentStatistics(scene.statistics_period, first, silent=silent, since=self.time)
        blocked = {"balloon_target": "the guest has no balloon device"} if scene.rigid else {}
        properties = {**Promises.NOTHING, **scene.properties, "name": scene.name, "uuid": scene.identity}
        if scene.sold_as is not None:
            properties[CLASS] = scene.sold_as
        listed = Guest(scene.identity, scene.name, properties=properties, blocked=blocked, incarnation="1")
        self.guests[scene.identity] = SimulatedGuest(listed, scene, memory, statistics)

    def memories(self) -> Iterator[SimulatedGuestMemory]:
        """Yield the memory of present and saved guests."""
        saved = (guest for guest in self.stopped.values() if isinstance(guest, SimulatedGuest))
        return (guest.memory for guest in (*self.guests.values(), *saved))

    # --- actions on guests ----------------------------------------------------------------------------------------------------

    def resize(self, identity: str, target_kib: int) -> None:
        """Set a guest's balloon target."""
        memory = self.guests[identity].memory
        memory.target = min(float(target_kib), memory.maximum)

    def sweep(self, identity: str, bottom_kib: float) -> float:
        """Give a guest's freed memory back to the host. Return the KiB that the host gains.

        A guest that is about to grow returns nothing, because growth ends a real sweep.
        """
        guest = self.guests[identity]
        memory = guest.memory
        grows = memory.workload.demand.at(self.time + TICK) - memory.anon - memory.swapped
        if guest.hangs or guest.paused or memory.stuck or grows > MIB:
            return 0.0
        used = memory.size - memory.free
        swept = max(0.0, min(memory.touched - used, memory.size - bottom_kib, memory.traits.balloon_rate * TICK) - guest.swept)
        guest.swept += swept
        return swept

    def offload(self, identity: str, kib: float, seconds: float) -> float:
        """Move up to this many KiB of a guest to the host's swap, the coldest memory first; return the KiB moved."""
        swap = self.host.swap
        room = swap.size - self.host.swapped
        offloaded = swap_out(self._held(identity), max(0.0, min(kib, swap.out_rate * seconds, room)))
        self.host.swapped += offloaded
        self.host.swap_out += offloaded
        return offloaded


def _struck(faults: list[SceneFault], kind: FaultKind, identity: str) -> bool:
    return any(fault.kind is kind and identity in fault.guests for fault in faults)
