"""A host with its guests, moved on together in steps of one second: the same from the same scene, however often it is looked at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from mom_core import Guest
from mom_kvm import PROMISED_NOTHING, GuestState
from mom_plugins_sim.guest import MIB, SimulatedGuestMemory, new_guest
from mom_plugins_sim.guest import step as step_guest
from mom_plugins_sim.host import SimulatedHostMemory, SwapStep
from mom_plugins_sim.host_swap import Held, SwappedGuest, compressed, disk, held_by, take
from mom_plugins_sim.ksm import Ksm
from mom_plugins_sim.scene import FOREVER, FaultKind, GuestScene, Scene, SceneFault
from mom_plugins_sim.statistics import SentFigures, SentStatistics

TICK = 1.0
"""Seconds of a step. A balloon moves 0.86 GiB in it, and a program fills 320 MiB: both less than what matters to a cycle."""

LONGEST_JUMP = 600.0
"""Seconds that are caught up at most when the world was not looked at for long: ten minutes, after which a constant load has settled."""

WAITING_SHARE = 0.5
"""Of the time in which tasks that want memory wait for pages to go out, what each guest waits: on a host that swaps, Linux' "full"
pressure, in which all tasks wait, is about half of "some"."""

SWAPS_BELOW_SHARE = 0.0025
"""Of the host's memory, what is available when its kernel begins to swap: 60 MiB of 24 GiB. MemAvailable leaves out what the kernel keeps,
so that little is left of it when free memory falls below the mark at which it begins: with 100 MiB available, 46 to 190 MiB were in
compressed swap of 6 GiB (benchmarks/squeeze, mix `cold`, with no manager). Some runs have kept more. Of swap on a disk that was not
measured: there it begins when nothing is available."""

CLASS = "sla_class"
"""The property of a guest with the service class that its metadata says, as of real ones."""

VCPUS = 2
"""Of every guest."""

CPUS = 32
"""Of the host."""


Seen: TypeAlias = tuple[float, float, float, SentFigures]
"""A guest as a cycle saw it, and makes of it: its size and what is usable in KiB, by statistics of that time (seconds), and what those
told. A plain tuple, which takes a tenth of the time of a named one: there is one for each guest and cycle."""


@dataclass(slots=True)
class SimulatedGuest:
    """A guest as the hypervisor knows it, with its memory and what it tells.

    What is wrong with it now: it `hangs`, or it is `mute` and sends no statistics.
    """

    listed: Guest
    scene: GuestScene
    memory: SimulatedGuestMemory
    statistics: SentStatistics
    seen_faults: tuple[float, float] = (0.0, 0.0)
    seen: Seen | None = None
    """It as the last cycle saw it, with what was asked of it since; None where that was nothing."""
    hangs: bool = False
    mute: bool = False
    paused: bool = False
    """Its CPUs stand still, because they were paused."""
    swapped: SwappedGuest = field(default_factory=SwappedGuest)
    """The part of it in the host's swap."""
    swept: float = 0.0
    """KiB that a sweep has taken in this moment. The guest holds them until time moves on: what else is done to it in the same cycle, by
    another plugin's thread, comes to the same before the sweep and after it."""


class World:
    """The host, its guests and its KSM. `advance_to` moves all of it on; nothing moves otherwise.

    :param now: the reading of the clock at which the simulation begins
    """

    def __init__(self, scene: Scene, now: float = 0.0) -> None:
        self.scene = scene
        self.time = 0.0
        """Seconds since the beginning."""
        self.guests: dict[str, SimulatedGuest] = {}
        """Those that are there now."""
        self.away = False
        """True while the hypervisor does not answer."""
        self.broken = False
        """True while collecting fails."""
        self.killed = 0
        """Workloads that guests' own kernels have killed, in guests that have left."""
        self.lost_seconds = 0.0
        """Seconds of work lost by guests that have left."""
        self.stopped: dict[str, SimulatedGuest | GuestScene] = {}
        """Guests that were saved and go on, or were shut down and boot, when they are started, by id."""
        self._to_be: dict[str, GuestState] = {}
        """How guests are to be when time moves on, by id."""
        self.ksm = Ksm()
        self._began = now
        self._starts = 1
        # By name, as snapshots have them: of thousands, those that lie in memory in the order in which they are looked at are read faster.
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
        self.host.guests = sum(guest.memory.touched + guest.memory.beside for guest in self.guests.values())

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
        self.settle()
        if time >= self._next_change:
            self._change(time)
        after = time + dt
        swapping = self.host.swapped > 0
        due = touched = mergeable = beside = 0.0
        for guest in self.guests.values():
            memory = guest.memory
            if guest.swept:
                self._end_sweep(guest)
            if guest.paused:
                memory.lost_seconds += dt
            elif not guest.hangs:
                if swapping:
                    before = held_by(memory, time)
                    step_guest(memory, time, dt)
                    guest.swapped.follow(before, held_by(memory, after), memory, dt)
                    due += guest.swapped.due
                else:
                    step_guest(memory, time, dt)
                statistics = guest.statistics
                if after >= statistics.due and not guest.mute:
                    statistics.take(memory, after)
            touched += memory.touched
            beside += memory.beside
            mergeable += memory.touched * memory.workload.duplicate
        self.time = after
        self.lost_seconds += dt * len(self.stopped)
        self.ksm.step(mergeable, touched, dt)
        swapped = self.host.step(touched + beside - self.ksm.saved_kib, time, dt, due)
        if swapping or swapped.blocked:
            self._swap(swapped, due, dt)

    def _end_sweep(self, guest: SimulatedGuest) -> None:
        """The host has what a sweep took, wherever it was."""
        memory, swept = guest.memory, guest.swept
        free = held_by(memory, self.time).free
        guest.swapped.free *= 1 - min(1.0, swept / free) if free > 0 else 0.0
        memory.touched -= swept
        guest.swept = 0.0

    def _swap(self, done: SwapStep, due: float, dt: float) -> None:
        """Whose pages came back, who waits for them, and whose went out. What guests do not have is of programs beside them."""
        host = self.host
        waiting = dt * done.blocked * WAITING_SHARE
        for guest in self.guests.values():
            swapped = guest.swapped
            if guest.hangs or guest.paused:
                continue
            if due and swapped.due:
                share = swapped.due / due
                guest.memory.lost_seconds += swapped.wait(done.back * share, done.thrashed * share, host.swap, done.queue, dt)
                swapped.bring((done.back + done.thrashed) * share)
            guest.memory.lost_seconds += waiting
        out = done.out + done.thrashed  # where there is no room, as much as comes in goes out
        short = out - take(self._held(), out) if out else 0.0
        back = min(host.others_swapped, max(0.0, host.swap.in_rate * dt - done.back - done.thrashed), max(0.0, -host.short))
        host.others_swapped += short - back
        host.swap_in += back
        host.swapped = sum(guest.swapped.total for guest in self.guests.values()) + host.others_swapped

    def _held(self, *identities: str) -> list[tuple[Held, SwappedGuest]]:
        """The memory of these guests, or of all, and the part of it that is swapped."""
        guests = [self.guests[identity] for identity in identities] if identities else self.guests.values()
        return [(held_by(guest.memory, self.time), guest.swapped) for guest in guests]

    def _change(self, time: float) -> None:
        """Guests come and go, faults begin and end; nothing of this happens again before `_next_change`."""
        while self._coming and self._coming[-1].arrives <= time:
            self.join(self._coming.pop())
        for identity in [identity for identity, guest in self.guests.items() if guest.scene.departs <= time]:
            self.leave(identity)
        on = [fault for fault in self.scene.faults if fault.is_on(time)]
        kinds = {fault.kind for fault in on}
        self.away, self.broken = FaultKind.HYPERVISOR_AWAY in kinds, FaultKind.PLUGIN_RAISES in kinds
        for identity, guest in self.guests.items():
            guest.hangs = _struck(on, FaultKind.GUEST_HANGS, identity)
            guest.mute = _struck(on, FaultKind.STATISTICS_STOP, identity)
            guest.memory.stuck = _struck(on, FaultKind.BALLOON_STUCK, identity) or guest.scene.refusing
        edges = [edge for fault in self.scene.faults for edge in (fault.begins, fault.begins + fault.lasts)]
        edges.extend(guest.scene.departs for guest in self.guests.values())
        if self._coming:
            edges.append(self._coming[-1].arrives)
        self._next_change = min((edge for edge in edges if edge > time), default=FOREVER)

    def leave(self, identity: str) -> SimulatedGuest:
        """A guest is not here any more; KeyError when there is no such guest."""
        left = self.guests.pop(identity)
        self.killed += left.memory.killed
        self.lost_seconds += left.memory.lost_seconds
        return left

    def standing(self, identity: str) -> GuestState | None:
        """How a guest is, or is about to be; None when there is no such guest."""
        there, stopped = self.guests.get(identity), self.stopped.get(identity)
        if there is None and stopped is None:
            return None
        if identity in self._to_be:
            return self._to_be[identity]
        if there is not None:
            return GuestState.PAUSED if there.paused else GuestState.RUNNING
        return GuestState.OFF if isinstance(stopped, GuestScene) else GuestState.SAVED

    def let_be(self, identity: str, standing: GuestState) -> None:
        """Pause, stop or start a guest that is there, or is stopped. It takes effect when time moves on, or the guests are listed: what
        else is done in the same cycle, by other plugins' threads, comes to the same before this and after it."""
        self._to_be[identity] = standing

    def settle(self) -> None:
        """Have all guests be as they are to be."""
        if not self._to_be:
            return
        wanted, self._to_be = self._to_be, {}
        for identity, standing in wanted.items():
            stops = standing in {GuestState.SAVED, GuestState.OFF}
            if identity in self.stopped and not stops:
                self.start(identity)
            elif identity in self.guests and stops:
                self.stop(identity, keep=standing is GuestState.SAVED)
            if identity in self.guests:
                self.guests[identity].paused = standing is GuestState.PAUSED

    def stop(self, identity: str, *, keep: bool) -> None:
        """End a guest; KeyError when there is no such guest.

        :param keep: it goes on where it was when it is started; otherwise it boots
        """
        guest = self.guests.pop(identity) if keep else self.leave(identity)
        guest.swapped, guest.seen = SwappedGuest(), None
        self.stopped[identity] = guest if keep else guest.scene

    def start(self, identity: str) -> None:
        """Let a guest run again that was stopped; KeyError when there is none."""
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
        """A guest is here from now on."""
        memory = new_guest(scene.workload, scene.memory, scene.swap, cached=scene.cached, size=scene.size)
        memory.balloon_rate, memory.beside = scene.balloon_rate, scene.beside
        memory.reporting, memory.autodeflate, memory.small_share = scene.reporting, scene.autodeflate, scene.small_pieces
        # It is the balloon's driver that sends statistics.
        silent, first = scene.silent or scene.rigid, self.time + scene.statistics_first
        statistics = SentStatistics(scene.statistics_period, first, silent=silent, since=self.time)
        blocked = {"balloon_target": "the guest has no balloon device"} if scene.rigid else {}
        properties = {**PROMISED_NOTHING, **scene.properties, "name": scene.name, "uuid": scene.identity}
        if scene.sold_as is not None:
            properties[CLASS] = scene.sold_as
        listed = Guest(scene.identity, scene.name, properties=properties, blocked=blocked, incarnation="1")
        self.guests[scene.identity] = SimulatedGuest(listed, scene, memory, statistics)

    def memories(self) -> Iterator[SimulatedGuestMemory]:
        """The memory of all guests that are there, or were saved and go on where they were."""
        saved = (guest for guest in self.stopped.values() if isinstance(guest, SimulatedGuest))
        return (guest.memory for guest in (*self.guests.values(), *saved))

    # --- what can be done to it ----------------------------------------------------------------------------------------------------

    def resize(self, identity: str, target_kib: int) -> None:
        """Ask a guest for a size; KeyError when there is no such guest."""
        memory = self.guests[identity].memory
        memory.target = min(float(target_kib), memory.maximum)

    def sweep(self, identity: str, bottom_kib: float) -> float:
        """Take what a guest has used and freed, and give its room back; KiB that the host got. KeyError when there is no such guest.

        On real hosts, a sweep takes slices of 128 MiB, and ends at once when the guest begins to grow: one that is about to gives nothing.
        """
        guest = self.guests[identity]
        memory = guest.memory
        grows = memory.workload.demand.wanted(self.time + TICK) - memory.anon - memory.swapped
        if guest.hangs or guest.paused or memory.stuck or grows > MIB:
            return 0.0
        used = memory.size - memory.free
        gave = max(0.0, min(memory.touched - used, memory.size - bottom_kib, memory.balloon_rate * TICK) - guest.swept)
        guest.swept += gave
        return gave

    def offload(self, identity: str, kib: float, seconds: float) -> float:
        """Move so much of a guest to the host's swap, the coldest first; KiB that went. KeyError when there is no such guest."""
        swap = self.host.swap
        room = swap.size - self.host.swapped
        went = take(self._held(identity), max(0.0, min(kib, swap.out_rate * seconds, room)))
        self.host.swapped += went
        self.host.swap_out += went
        return went

    def recall(self, identity: str, kib: float, seconds: float) -> float:
        """Bring so much of a guest back from the host's swap, as far as there is room; KiB that came. KeyError as above."""
        host = self.host
        room = max(0.0, -host.short) / (1 - host.swap.ratio)
        came = self.guests[identity].swapped.bring(max(0.0, min(kib, host.swap.in_rate * seconds, room)))
        host.swapped -= came
        host.swap_in += came
        return came


def _struck(faults: list[SceneFault], kind: FaultKind, identity: str) -> bool:
    return any(fault.kind is kind and identity in fault.guests for fault in faults)
