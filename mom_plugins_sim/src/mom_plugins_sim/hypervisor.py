"""The simulated world as a hypervisor: lists guests, moves balloons, and has a KSM of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from mom_core import Columns, Entity, Guest, GuestGone, HypervisorError, NotSupported, Value, printable
from mom_kvm import TAKEN_KIB, AvailableGauge, Destination, GuestField, GuestState, Offloaded, StoreKind, SwapStore, WatchedMemory, why_wake
from mom_plugins_sim.fields import HostSampler, guest_columns
from mom_plugins_sim.shelf import Shelf
from mom_plugins_sim.statistics import SentFigures
from mom_plugins_sim.world import SimulatedGuest, World

_STOPPED = frozenset({GuestState.SAVED, GuestState.OFF})


class SimHypervisor:
    """A `Hypervisor` with `BalloonControl`, `KsmControl`, `LifecycleControl`, `MigrationControl` and `ColdMemoryControl`, for several
    threads.

    The world catches up with the clock before each call.

    :param clock: seconds that never jump; what it says while this is constructed is the beginning
    :param shelf: where other hosts are that guests can move to
    """

    stops_at_once: Final = True
    """Saving, shutting down and starting take no time: who calls for them in a thread may wait for it."""

    def __init__(self, world: World, clock: Callable[[], float], shelf: Shelf | None = None) -> None:
        self._shelf = shelf
        self.world = world
        self._clock = clock
        self._lock = threading.Lock()
        self._sampler = HostSampler()
        self._asked: set[str] = set()
        """Guests for which a cycle was asked for since the last one."""
        self._gauge = AvailableGauge()
        self._owing: dict[str, float] = {}
        """The sizes that guests were asked to shrink to in KiB, until they get there."""

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """With the world at this moment, which no other thread moves on. Raises `HypervisorError` while nothing answers."""
        with self._lock:
            self._catch_up()
            yield

    @contextmanager
    def _of(self, guest: Entity) -> Iterator[SimulatedGuest]:
        """The same, for what is done to this guest. Raises `GuestGone`, too."""
        with self._answering():
            yield self._there(guest)

    def _catch_up(self) -> None:
        """Move the world on to this moment, with the lock held. Raises as `_answering`."""
        self.world.advance_to(self._clock())
        if self.world.away:
            raise HypervisorError("the simulated hypervisor does not answer")
        if self._shelf is not None and (here := self._shelf.news()) is not None:
            for guest in self._shelf.guests(sorted(here - self.world.guests.keys())):  # those that have come from other hosts
                self.world.join(guest)

    def standings(self, guests: Sequence[Entity]) -> Mapping[str, GuestState]:
        """How these guests are, or are about to be, by guest id."""
        with self._answering():
            return {guest.id: standing for guest in guests if (standing := self.world.standing(guest.id)) is not None}

    def pause(self, guest: Entity) -> None:
        """Its programs stand still. Raises `GuestGone`."""
        self._let_be(guest, GuestState.PAUSED)

    def resume(self, guest: Entity) -> None:
        """Its programs go on. Raises `GuestGone`."""
        self._let_be(guest, GuestState.RUNNING)

    def save(self, guest: Entity, timeout_seconds: float) -> None:
        """It is not there any more, and goes on where it was, at once. Raises `GuestGone`."""
        self._let_be(guest, GuestState.SAVED)

    def shut_down(self, guest: Entity) -> None:
        """It is not there any more, at once. Raises `GuestGone`."""
        self._let_be(guest, GuestState.OFF)

    def start(self, guest: Entity, timeout_seconds: float) -> None:
        """It is there again. Raises `GuestGone` when it was not stopped."""
        with self._answering():
            if self.world.standing(guest.id) not in _STOPPED:
                raise GuestGone("there is no such guest that is stopped")
            self.world.let_be(guest.id, GuestState.RUNNING)

    def _let_be(self, guest: Entity, standing: GuestState) -> None:
        """Raises `GuestGone` for a guest that does not run, and is not paused."""
        with self._answering():
            if self.world.standing(guest.id) in {None, *_STOPPED}:
                raise GuestGone("the guest is not there any more")
            self.world.let_be(guest.id, standing)

    def migrate(self, guest: Entity, destination: Destination, timeout_seconds: float) -> None:
        """Move a guest to another host on the shelf, at once. Raises `GuestGone`, and `NotSupported` without one."""
        with self._of(guest):
            if self._shelf is None:
                raise NotSupported("this simulated host is alone: its plugin has no shelf")
            self._shelf.move(guest.id, destination)
            self.world.leave(guest.id)

    def news(self) -> str:
        """Why a cycle is needed before the next one is due: the host, or a guest, runs low on memory. Empty when none is.

        As the watches on a real host see it: guests in what they have sent, and only those from which memory was taken.
        """
        with self._lock:
            self.world.advance_to(self._clock())
            if self.world.away:
                return ""
            host = self.world.host
            why = self._gauge.why(host.available, AvailableGauge.usual_low(host.total))
            if why:
                return f"host: {why}"
            for identity, guest in self.world.guests.items():
                memory, statistics = guest.memory, guest.statistics
                if identity in self._owing and memory.size <= self._owing[identity] + TAKEN_KIB:
                    del self._owing[identity]
                    return f"guest {printable(guest.listed.name)} has given what it was asked for"
                told = statistics.told
                before = guest.seen
                usable = told.mem_usable
                if before is None or usable is None or identity in self._asked:
                    continue
                size_then, usable_then, at_then, told_then = before
                if memory.maximum - size_then < TAKEN_KIB:
                    continue
                if statistics.at <= at_then:  # the very statistics that the cycle went by
                    continue
                why = why_wake(_memory(size_then, usable_then, told_then), _memory(memory.size, usable, told))
                if why:
                    self._asked.add(identity)
                    return f"guest {printable(guest.listed.name)} is short of memory: {why}"
        return ""

    @property
    def uri(self) -> str:
        """`sim:///` with the host's name on the shelf, or the seed."""
        return f"sim:///{self.world.scene.seed if self._shelf is None else self._shelf.host}"

    def guests(self) -> Sequence[Guest]:
        """The guests that are there now."""
        with self._answering():
            self.world.settle()
            return [_listed(guest, self.world.time) for guest in self.world.guests.values()]

    def set_balloon(self, guest: Entity, target_kib: int) -> None:
        """Ask for a size. Raises `GuestGone`, and `NotSupported` without a balloon device or above the maximum."""
        with self._lock:  # not by `_answering`, which takes longer than all the rest: this is called for each guest that is resized
            self._catch_up()
            there = self._there(guest)
            if there.scene.rigid:
                raise NotSupported("the guest has no balloon device")
            if not 0 < target_kib <= there.memory.maximum:
                raise NotSupported(f"{target_kib} KiB is not between 0 and the guest's maximum")
            self._owing.pop(guest.id, None)
            if target_kib < there.memory.size - TAKEN_KIB:
                self._owing[guest.id] = target_kib
            self.world.resize(guest.id, target_kib)
            if there.seen is not None:  # what it has when it has followed: then it is not short any more, and may be so again
                size, usable, at, told = there.seen
                there.seen = (target_kib, max(0.0, usable + target_kib - size), at, told)

    def sweep_balloon(self, guest: Entity, bottom_kib: int) -> int:
        """Take what the guest has used and freed, down to that size, and leave it the size that it has; KiB that the host got. Raises
        `GuestGone`."""
        with self._of(guest):
            return int(self.world.sweep(guest.id, bottom_kib))

    def balloon_sizes(self, guests: Sequence[Entity]) -> Mapping[str, int]:
        """The sizes of the guests now, KiB by guest id."""
        with self._answering():
            there = self.world.guests
            return {guest.id: int(there[guest.id].memory.size) for guest in guests if guest.id in there}

    def swap_stores(self) -> Sequence[SwapStore]:
        """The host's swap, if it has some."""
        with self._answering():
            host, swap = self.world.host, self.world.host.swap
            if not swap.size:
                return []
            held, free = int(host.swapped), int(swap.size - host.swapped)
            if not swap.ratio:
                return [SwapStore("/dev/sim1", StoreKind.DISK, int(swap.size), free)]
            return [SwapStore("/dev/zram0", StoreKind.ZRAM, int(swap.size), free, held, int(host.swapped * swap.ratio))]

    def offload_memory(self, guest: Entity, kib: int, seconds: float) -> Offloaded:
        """Move what the guest uses least to the host's swap. Raises `GuestGone`, and `NotSupported` without swap."""
        with self._of(guest):
            if not self.world.host.swap.size:
                raise NotSupported("the simulated host has no swap")
            return self._moved(kib, seconds, self.world.offload(guest.id, kib, seconds), self.world.host.swap.out_rate)

    def recall_memory(self, guest: Entity, kib: int, seconds: float) -> Offloaded:
        """Bring what is in the host's swap of the guest back, as far as there is room. Raises `GuestGone`."""
        with self._of(guest):
            return self._moved(kib, seconds, self.world.recall(guest.id, kib, seconds), self.world.host.swap.in_rate)

    @staticmethod
    def _moved(kib: int, seconds: float, moved: float, rate: float) -> Offloaded:
        lasted = min(seconds, moved / rate)
        why = "" if moved >= kib else "the time was over" if lasted >= seconds else "there was no more, or no room for it"
        return Offloaded(int(moved), lasted, why)

    def _there(self, guest: Entity) -> SimulatedGuest:
        there = self.world.guests.get(guest.id)
        if there is None:
            raise GuestGone("the guest is not there any more")
        return there

    def ksm_read(self) -> Mapping[str, Value]:
        """KSM's files, the scanner's CPU time, and the memory of all guests with empty balloons: what QEMU's address space is for."""
        with self._answering():
            shareable = int(sum(guest.memory.maximum for guest in self.world.guests.values()))
            return {**self.world.ksm.read(), "shareable_kib": shareable}

    def ksm_write(self, knobs: Mapping[str, int]) -> None:
        """Set KSM's knobs. Raises `NotSupported`."""
        with self._answering():
            self.world.ksm.write(knobs)

    def host_fields(self) -> dict[str, Value]:
        """The host's fields now."""
        with self._answering():
            self._gauge.saw(self.world.host.available, AvailableGauge.usual_low(self.world.host.total))
            return self._sampler.fields(self.world)

    def guest_columns(self, guests: Sequence[Guest]) -> Columns:
        """The fields of these guests; of those that are not there any more, nothing is known."""
        with self._answering():
            world = self.world
            if world.broken:
                raise RuntimeError("the simulated collector is broken")
            self._asked.clear()
            return guest_columns([world.guests.get(guest.id) for guest in guests], world.time)


def _memory(size: float, usable: float, told: SentFigures) -> WatchedMemory:
    return WatchedMemory(size, usable, told.swap_in, told.major_fault)


def _listed(guest: SimulatedGuest, time: float) -> Guest:
    listed = guest.listed
    if guest.paused:
        return replace(listed, blocked={**listed.blocked, "*": "the guest is paused"})
    why = "" if guest.scene.rigid else guest.statistics.silence(time)
    return replace(listed, blocked={GuestField.BALLOON: why}) if why else listed
