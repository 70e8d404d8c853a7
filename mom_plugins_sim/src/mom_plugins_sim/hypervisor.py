"""Hypervisor interface to the simulated world, including KSM."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from mom_core import Columns, Entity, Guest, GuestGone, HypervisorError, NotSupported, Value, printable
from mom_kvm import AvailableGauge, Destination, GuestField, GuestState, HealthLimits, SwapStore, WatchedMemory
from mom_plugins_sim.fields import HostSampler, guest_columns
from mom_plugins_sim.guest import SentFigures
from mom_plugins_sim.shelf import Shelf
from mom_plugins_sim.world import SimulatedGuest, World

_STOPPED = frozenset({GuestState.SAVED, GuestState.OFF})


class SimHypervisor:
    """Simulated hypervisor with balloons, KSM, life cycle, migration and cold memory. Thread-safe.

    Methods for one guest raise `GuestGone` if the guest is gone.

    :param clock: returns monotonic seconds; the simulation begins at the first call
    :param shelf: other hosts that guests can migrate to
    """

    stops_at_once: Final = True
    """Saving, shutdown and start take no time."""

    def __init__(self, world: World, clock: Callable[[], float], shelf: Shelf | None = None) -> None:
        self._shelf = shelf
        self.world = world
        self._clock = clock
        self._lock = threading.Lock()
        self._sampler = HostSampler()
        self._woken: set[str] = set()
        """Guests that have requested a cycle since the last cycle."""
        self._gauge = AvailableGauge()
        self._shrinking: dict[str, float] = {}
        """Balloon targets of shrinking guests in KiB, keyed by guest id."""

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._lock:
            self._catch_up()
            yield

    @contextmanager
    def _locked_guest(self, guest: Entity) -> Iterator[SimulatedGuest]:
        with self._locked():
            match = self.world.guests.get(guest.id)
            if match is None:
                raise GuestGone("the guest no longer exists")
            yield match

    def _catch_up(self) -> None:
        self.world.advance_to(self._clock())
        if self.world.away:
            raise HypervisorError("the simulated hypervisor does not answer")
        if self._shelf is not None and (identities := self._shelf.changed_guests()) is not None:
            for guest in self._shelf.guests(sorted(identities - self.world.guests.keys())):  # migrated from other hosts
                self.world.join(guest)

    def standings(self, guests: Sequence[Entity]) -> Mapping[str, GuestState]:
        """Return each guest's requested state, or else its present state."""
        with self._locked():
            return {guest.id: state for guest in guests if (state := self.world.state_of(guest.id)) is not None}

    def pause(self, guest: Entity) -> None:
        """Pause a guest."""
        self._request_state(guest, GuestState.PAUSED)

    def resume(self, guest: Entity) -> None:
        """Resume a guest."""
        self._request_state(guest, GuestState.RUNNING)

    def save(self, guest: Entity, timeout_seconds: float) -> None:
        """Save a guest without delay."""
        self._request_state(guest, GuestState.SAVED)

    def shut_down(self, guest: Entity) -> None:
        """Shut a guest down without delay."""
        self._request_state(guest, GuestState.OFF)

    def start(self, guest: Entity, timeout_seconds: float) -> None:
        """Start a stopped guest. Raise `GuestGone` if it was not stopped."""
        with self._locked():
            if self.world.state_of(guest.id) not in _STOPPED:
                raise GuestGone("no stopped guest has this id")
            self.world.request_state(guest.id, GuestState.RUNNING)

    def _request_state(self, guest: Entity, state: GuestState) -> None:
        with self._locked():
            if self.world.state_of(guest.id) in {None, *_STOPPED}:
                raise GuestGone("the guest no longer exists")
            self.world.request_state(guest.id, state)

    def migrate(self, guest: Entity, destination: Destination, timeout_seconds: float) -> None:
        """Migrate a guest to another host on the shelf. Raise `NotSupported` if that host does not exist."""
        with self._locked_guest(guest):
            if self._shelf is None:
                raise NotSupported("there are no other simulated hosts: set `shelf` of the sim plugin")
            self._shelf.move(guest.id, destination)
            self.world.leave(guest.id)

    def news(self) -> str:
        """Return why mom should begin a cycle early, or an empty string. A guest's shortage counts only when its statistics show it."""
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
                if identity in self._shrinking and memory.size <= self._shrinking[identity] + HealthLimits.TAKEN_KIB:
                    del self._shrinking[identity]
                    return f"guest {printable(guest.listed.name)} has reached its smaller size"
                latest = statistics.latest
                usable = latest.mem_usable
                if guest.view is None or usable is None or identity in self._woken:
                    continue
                old_size, old_usable, old_time, old_figures = guest.view
                inflated = memory.maximum - old_size >= HealthLimits.TAKEN_KIB
                if not inflated or statistics.at <= old_time:  # the last cycle has used these statistics
                    continue
                why = _memory(memory.size, usable, latest).why_wake(_memory(old_size, old_usable, old_figures))
                if why:
                    self._woken.add(identity)
                    return f"guest {printable(guest.listed.name)} is short of memory: {why}"
        return ""

    @property
    def uri(self) -> str:
        """`sim:///`, followed by the host's name on the shelf; without a shelf, by the seed."""
        return f"sim:///{self.world.scene.seed if self._shelf is None else self._shelf.host}"

    def guests(self) -> Sequence[Guest]:
        """Return the present guests."""
        with self._locked():
            self.world.apply_requests()
            return [_listed(guest, self.world.time) for guest in self.world.guests.values()]

    def set_balloon(self, guest: Entity, target_kib: int) -> None:
        """Set a balloon target. Raise `NotSupported` if the guest has no balloon device, or the target exceeds the guest's maximum."""
        with self._locked_guest(guest) as resized:
            if resized.scene.rigid:
                raise NotSupported("the guest has no balloon device")
            if not 0 < target_kib <= resized.memory.maximum:
                raise NotSupported(f"{target_kib} KiB is not between 0 and the guest's maximum")
            self._shrinking.pop(guest.id, None)
            if target_kib < resized.memory.size - HealthLimits.TAKEN_KIB:
                self._shrinking[guest.id] = target_kib
            self.world.resize(guest.id, target_kib)
            if resized.view is not None:  # the usable memory expected at the target: only a later shortage is news
                size, usable, at, figures = resized.view
                resized.view = (target_kib, max(0.0, usable + target_kib - size), at, figures)

    def sweep_balloon(self, guest: Entity, bottom_kib: int) -> int:
        """Reclaim a guest's freed memory, down to a size of `bottom_kib`. Return the KiB that the host gains."""
        with self._locked_guest(guest):
            return int(self.world.sweep(guest.id, bottom_kib))

    def balloon_sizes(self, guests: Sequence[Entity]) -> Mapping[str, int]:
        """Return the guests' sizes in KiB."""
        with self._locked():
            present = self.world.guests
            return {guest.id: int(present[guest.id].memory.size) for guest in guests if guest.id in present}

    def swap_stores(self) -> Sequence[SwapStore]:
        """Return the host's swap, if it has any."""
        with self._locked():
            host, swap = self.world.host, self.world.host.swap
            if not swap.size:
                return []
            held, free = int(host.swapped), int(swap.size - host.swapped)
            if not swap.ratio:
                return [SwapStore("/dev/sim1", SwapStore.Kind.DISK, int(swap.size), free)]
            return [SwapStore("/dev/zram0", SwapStore.Kind.ZRAM, int(swap.size), free, held, int(host.swapped * swap.ratio))]

    def offload_memory(self, guest: Entity, kib: int, seconds: float) -> SwapStore.Offloaded:
        """Move the guest's coldest memory to the host's swap. Raise `NotSupported` if the host has no swap."""
        with self._locked_guest(guest):
            swap = self.world.host.swap
            if not swap.size:
                raise NotSupported("the simulated host has no swap")
            moved = self.world.offload(guest.id, kib, seconds)
        duration = min(seconds, moved / swap.out_rate)
        why = "" if moved >= kib else "the time limit was reached" if duration >= seconds else "no more memory to move, or no space for it"
        return SwapStore.Offloaded(int(moved), duration, why)

    def ksm_read(self) -> Mapping[str, Value]:
        """Return KSM's files, its CPU time, and the memory that KSM may scan (`shareable_kib`)."""
        with self._locked():
            shareable = int(sum(guest.memory.maximum for guest in self.world.guests.values()))
            return {**self.world.ksm.read(), "shareable_kib": shareable}

    def ksm_write(self, knobs: Mapping[str, int]) -> None:
        """Set KSM's knobs. Raise `NotSupported` for an unknown knob or an invalid value."""
        with self._locked():
            self.world.ksm.write(knobs)

    # `GrowthControl`. These methods take no lock, because `look` calls them with the lock held.

    def available_kib(self) -> float:
        """Return the host's available memory in KiB."""
        return self.world.host.available

    def slips(self) -> bool:
        """Return False: simulated guests stop at their limits."""
        return False

    def held_kib(self, guests: Collection[str]) -> dict[str, int]:
        """Return the KiB that each present guest holds."""
        return {identity: int(guest.held) for identity in guests if (guest := self.world.guests.get(identity)) is not None}

    def slowed(self, guests: Collection[str]) -> dict[str, int]:
        """Return the number of steps in which each present guest was at its limit."""
        return {identity: guest.slowed for identity in guests if (guest := self.world.guests.get(identity)) is not None}

    def limit_growth(self, limits: Mapping[str, int | None]) -> dict[str, HypervisorError]:
        """Set limits in KiB. Return an error for each guest that is gone."""
        guests = self.world.guests
        for identity in limits.keys() & guests.keys():
            guests[identity].limit = limits[identity]
        return {identity: GuestGone("the guest no longer exists") for identity in limits.keys() - guests.keys()}

    def watch_growth(self, look: Callable[[], float] | None) -> None:
        """Call `look` every 0.1 simulated seconds; None ends the calls."""
        self.world.look = look

    def host_fields(self) -> dict[str, Value]:
        """Return the host's fields."""
        with self._locked():
            self._gauge.saw(self.world.host.available, AvailableGauge.usual_low(self.world.host.total))
            return self._sampler.fields(self.world)

    def guest_columns(self, guests: Sequence[Guest]) -> Columns:
        """Return these guests' fields; guests that are gone have none."""
        with self._locked():
            world = self.world
            if world.broken:
                raise RuntimeError("the simulated collector is broken")
            self._woken.clear()
            return guest_columns([world.guests.get(guest.id) for guest in guests], world.time)


def _memory(size: float, usable: float, figures: SentFigures) -> WatchedMemory:
    return WatchedMemory(size, usable, figures.swap_in, figures.major_fault)


def _listed(guest: SimulatedGuest, time: float) -> Guest:
    listed = guest.listed
    if guest.paused:
        return replace(listed, blocked={**listed.blocked, "*": "the guest is paused"})
    why = "" if guest.scene.rigid else guest.statistics.silence(time)
    return replace(listed, blocked={GuestField.BALLOON: why}) if why else listed
