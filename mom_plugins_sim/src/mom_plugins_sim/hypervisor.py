"""The simulated world as a hypervisor: lists guests, moves balloons, and has a KSM of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from mom_core import CpuTune, DiskTune, Entity, Guest, GuestGone, NotSupported, Value
from mom_plugins_sim.fields import HostSampler, guest_fields
from mom_plugins_sim.world import DISK_LIMITS, SimulatedGuest, World


class SimHypervisor:
    """A `Hypervisor` with `BalloonControl`, `KsmControl`, `CpuTuneControl` and `IoTuneControl`, for several threads.

    The world catches up with the clock before each call.

    :param clock: seconds that never jump; what it says while this is constructed is the beginning
    """

    def __init__(self, world: World, clock: Callable[[], float]) -> None:
        self.world = world
        self._clock = clock
        self._lock = threading.Lock()
        self._sampler = HostSampler()

    @property
    def uri(self) -> str:
        """`sim:///` with the seed."""
        return f"sim:///{self.world.plan.seed}"

    def guests(self) -> Sequence[Guest]:
        """The guests that are there now."""
        with self._lock:
            self.world.advance_to(self._clock())
            return [guest.listed for guest in self.world.guests.values()]

    def set_balloon(self, guest: Entity, target_kib: int) -> None:
        """Ask for a size. Raises `GuestGone`, and `NotSupported` without a balloon device or above the maximum."""
        with self._lock:
            self.world.advance_to(self._clock())
            there = self._there(guest)
            if there.rigid:
                raise NotSupported("the guest has no balloon device")
            if not 0 < target_kib <= there.memory.maximum:
                raise NotSupported(f"{target_kib} KiB is not between 0 and the guest's maximum")
            self.world.resize(guest.id, target_kib)

    def balloon_sizes(self, guests: Sequence[Entity]) -> Mapping[str, int]:
        """What the guests have now, KiB by guest id."""
        with self._lock:
            self.world.advance_to(self._clock())
            there = self.world.guests
            return {guest.id: int(there[guest.id].memory.size) for guest in guests if guest.id in there}

    def cpu_tunes(self, guests: Sequence[Entity]) -> Mapping[str, CpuTune]:
        """What limits the guests' CPU time, by guest id."""
        with self._lock:
            there = self.world.guests
            return {guest.id: there[guest.id].cpu for guest in guests if guest.id in there}

    def set_cpu_tune(self, guest: Entity, quota_us: int | None = None, period_us: int | None = None, shares: int | None = None) -> None:
        """Keep these limits. Raises `GuestGone`, and `NotSupported` for what a kernel would not take."""
        for what, value, least in (("quota", quota_us, 1000), ("period", period_us, 1000), ("shares", shares, 2)):
            if value is not None and value < least and not (what == "quota" and value < 0):
                raise NotSupported(f"{value} is less than the least {what} of {least}")
        with self._lock:
            there = self._there(guest)
            given = {"quota_us": quota_us, "period_us": period_us, "shares": shares}
            there.cpu = replace(there.cpu, **{name: value for name, value in given.items() if value is not None})

    def io_tunes(self, guests: Sequence[Entity]) -> Mapping[str, Sequence[DiskTune]]:
        """The limits of the guests' disks, by guest id."""
        with self._lock:
            there = self.world.guests
            return {guest.id: there[guest.id].disks for guest in guests if guest.id in there}

    def set_io_tune(self, guest: Entity, disk: str, limits: Mapping[str, int]) -> None:
        """Keep these limits. Raises `GuestGone`, and `NotSupported` for an unknown disk or limit."""
        with self._lock:
            there = self._there(guest)
            if disk not in {tune.name for tune in there.disks} or not limits.keys() <= set(DISK_LIMITS):
                raise NotSupported(f"there is no disk {disk}, or no such limit")
            there.disks = tuple(replace(tune, current={**tune.current, **limits}) if tune.name == disk else tune for tune in there.disks)

    def _there(self, guest: Entity) -> SimulatedGuest:
        there = self.world.guests.get(guest.id)
        if there is None:
            raise GuestGone("the guest is not there any more")
        return there

    def ksm_read(self) -> Mapping[str, Value]:
        """KSM's files and the scanner's CPU time."""
        with self._lock:
            self.world.advance_to(self._clock())
            return self.world.ksm.read()

    def ksm_write(self, knobs: Mapping[str, int]) -> None:
        """Set KSM's knobs. Raises `NotSupported`."""
        with self._lock:
            self.world.advance_to(self._clock())
            self.world.ksm.write(knobs)

    def host_fields(self) -> dict[str, Value]:
        """The host's fields now."""
        with self._lock:
            self.world.advance_to(self._clock())
            return self._sampler.fields(self.world)

    def guest_fields(self, guests: Sequence[Guest]) -> dict[str, dict[str, Value]]:
        """The fields of those of these guests that are there, by guest id."""
        with self._lock:
            world = self.world
            world.advance_to(self._clock())
            host = world.host
            resident = 1.0 - host.swapped / host.guests if host.guests > 0 else 1.0
            there = world.guests
            return {guest.id: guest_fields(there[guest.id], world.time, resident) for guest in guests if guest.id in there}
