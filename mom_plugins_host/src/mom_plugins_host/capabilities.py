"""Optional capabilities of hypervisors. These plugins test for them with `isinstance`.

Several threads call the methods. A method takes limited time, and raises `GuestGone` for a guest that has ended. Returned mappings omit
unknown and vanished guests.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Protocol, runtime_checkable

from mom_core import CpuTune, DiskTune, Entity, HypervisorError, NetTune, Target, Value
from mom_kvm import NodeTune, SwapStore


@runtime_checkable
class CpuTuneControl(Protocol):
    """Limits of vCPUs' CPU time."""

    def cpu_tunes(self, guests: Sequence[Entity]) -> Mapping[str, CpuTune]:
        """Return the guests' limits in bulk, keyed by guest id."""

    def set_cpu_tune(self, guest: Entity, quota_us: int | None = None, period_us: int | None = None, shares: int | None = None) -> None:
        """Set the limits that are not None, in one call. If one is out of range, raise `NotSupported` with the bounds."""


@runtime_checkable
class IoTuneControl(Protocol):
    """Limits of guests' disk I/O."""

    def io_tunes(self, guests: Sequence[Entity]) -> Mapping[str, Sequence[DiskTune]]:
        """Return the guests' limits in bulk, keyed by guest id."""

    def set_io_tune(self, guest: Entity, disk: str, limits: Mapping[str, int]) -> None:
        """Set these limits and keep the disk's other limits, or raise `NotSupported`."""


@runtime_checkable
class NetTuneControl(Protocol):
    """Limits of guests' network bandwidth."""

    def net_tunes(self, guests: Sequence[Entity]) -> Mapping[str, Sequence[NetTune]]:
        """Return the guests' limits in bulk, keyed by guest id."""

    def set_net_tune(self, guest: Entity, interface: str, inbound: Mapping[str, int], outbound: Mapping[str, int]) -> None:
        """Set the limits of both directions. An empty mapping removes a direction's limits."""


@runtime_checkable
class CpuPinControl(Protocol):
    """Pinning of vCPUs to host CPUs."""

    def cpu_pins(self, guests: Sequence[Entity]) -> Mapping[str, Sequence[AbstractSet[int]]]:
        """Return the host CPUs that each vCPU may use, keyed by guest id."""

    def set_cpu_pin(self, guest: Entity, vcpu: int, cpus: AbstractSet[int]) -> None:
        """Pin a vCPU (counted from 0) to these host CPUs."""


@runtime_checkable
class NodeTuneControl(Protocol):
    """NUMA nodes of guests' memory."""

    def node_tunes(self, guests: Sequence[Entity]) -> Mapping[str, NodeTune]:
        """Return the present NUMA nodes of each guest's memory, keyed by guest id."""

    def set_node_tune(self, guest: Entity, nodes: AbstractSet[int]) -> None:
        """Let the guest's memory come only from these nodes. Raises `NotSupported` if the guest's NUMA mode forbids changes at run time."""


@runtime_checkable
class ColdMemoryControl(Protocol):
    """Hypervisor that itself moves guests' memory to swap."""

    def swap_stores(self) -> Sequence[SwapStore]:
        """Return all active swap areas."""

    def offload_memory(self, guest: Entity, kib: int, seconds: float) -> SwapStore.Offloaded:
        """Move `kib` KiB of the guest's coldest memory to swap, within `seconds`.

        The result counts KiB before compression. Raises `NotSupported` with the reason.
        """


@runtime_checkable
class GrowthControl(Protocol):
    """Limits of guests' growth. A guest at its limit slows down; no program is killed."""

    def available_kib(self) -> float | None:
        """Return the host's available memory in KiB; None if unknown."""

    def slips(self) -> bool:
        """Return whether guests can slowly grow beyond their limits."""

    def held_kib(self, guests: Collection[str]) -> Mapping[str, int]:
        """Return the KiB that guests hold, keyed by guest id."""

    def slowed(self, guests: Collection[str]) -> Mapping[str, int]:
        """Return how often a limit has slowed each guest down so far."""

    def limit_growth(self, limits: Mapping[str, int | None]) -> Mapping[str, HypervisorError]:
        """Set the limits (KiB, keyed by guest id) in the given order. None lifts a limit. Return the failures."""

    def watch_growth(self, look: Callable[[], float] | None) -> None:
        """Call `look` when a guest reaches its limit, and after the seconds that `look` returns. None ends these calls."""


def read_together(
    targets: Sequence[Target], readers: Iterable[tuple[Collection[str], Callable[[Sequence[Entity]], Mapping[str, Mapping[str, Value]]]]]
) -> dict[Target, Value | HypervisorError]:
    """Read several controls for `mom_read`.

    :param readers: names of controls, each with a function that returns their values, keyed by entity id and control
    """
    results: dict[Target, Value | HypervisorError] = {}
    for controls, read in readers:
        due = [target for target in targets if target.control in controls]
        try:
            values = read(list({target.entity.id: target.entity for target in due}.values())) if due else {}
            results |= {target: values.get(target.entity.id, {}).get(target.control) for target in due}
        except HypervisorError as error:
            results |= dict.fromkeys(due, error)
    return results
