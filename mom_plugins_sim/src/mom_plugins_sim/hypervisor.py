"""The simulated world as a hypervisor: lists guests, moves balloons, and has a KSM of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

from mom_core import Entity, Guest, GuestGone, NotSupported, Value
from mom_plugins_sim.fields import HostSampler, guest_fields
from mom_plugins_sim.world import World


class SimHypervisor:
    """A `Hypervisor` with `BalloonControl` and `KsmControl`, for several threads. The world catches up with the clock before each call.

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
            there = self.world.guests.get(guest.id)
            if there is None:
                raise GuestGone("the guest is not there any more")
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
