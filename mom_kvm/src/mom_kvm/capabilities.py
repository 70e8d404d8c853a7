"""Optional capabilities of hypervisors, tested with `isinstance`.

Calls come from several threads, take limited time, and raise `GuestGone` for a guest that has ended. Unknown guests are absent from
mappings.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

from mom_core import Entity, HypervisorError
from mom_kvm.destination import Destination


@runtime_checkable
class AgentAccess(Protocol):
    """Access to agents inside guests."""

    def agent_channels(self, guests: Sequence[Entity]) -> Mapping[str, Mapping[str, str]]:
        """Return paths of unix sockets, keyed by guest id and channel name (`org.qemu.guest_agent.0`).

        A path is empty if only the hypervisor can connect.
        """

    def agent_command(self, guest: Entity, command: str, timeout_seconds: float) -> str:
        """Send JSON text to the guest's qemu-guest-agent, and return its JSON answer.

        Raises `GuestBusy` after the timeout, `NotSupported` without an agent, or another `HypervisorError`.
        """


@runtime_checkable
class CpuPinControl(Protocol):
    """Pinning of vCPUs to host CPUs."""

    def cpu_pins(self, guests: Sequence[Entity]) -> Mapping[str, Sequence[AbstractSet[int]]]:
        """Return each vCPU's host CPUs, keyed by guest id."""

    def set_cpu_pin(self, guest: Entity, vcpu: int, cpus: AbstractSet[int]) -> None:
        """Restrict a vCPU (counted from 0)."""


@dataclass(frozen=True, slots=True)
class NodeTune:
    """NUMA nodes of a guest's memory; no nodes means any node. `mode` is libvirt's `strict`, `preferred`, `interleave` or `restrictive`."""

    mode: str
    nodes: AbstractSet[int]


@runtime_checkable
class NodeTuneControl(Protocol):
    """NUMA nodes of guests' memory."""

    def node_tunes(self, guests: Sequence[Entity]) -> Mapping[str, NodeTune]:
        """Return the present NUMA nodes of each guest's memory, keyed by guest id."""

    def set_node_tune(self, guest: Entity, nodes: AbstractSet[int]) -> None:
        """Allocate new memory on these nodes. Raises `NotSupported` if the mode cannot be changed at run time."""


class GuestState(StrEnum):
    """State of a guest."""

    RUNNING = "running"
    PAUSED = "paused"  #: vCPUs stopped, memory still allocated
    SAVED = "saved"  #: not running, memory on disk; `start` continues it
    OFF = "off"  #: not running; `start` boots it


@runtime_checkable
class LifecycleControl(Protocol):
    """Control of guests' states. Long calls block for `timeout_seconds` at most."""

    def standings(self, guests: Sequence[Entity]) -> Mapping[str, GuestState]:
        """Return states, keyed by guest id, also of stopped guests."""

    def pause(self, guest: Entity) -> None:
        """Stop the guest's vCPUs. Its memory stays allocated."""

    def resume(self, guest: Entity) -> None:
        """Continue a paused guest."""

    def save(self, guest: Entity, timeout_seconds: float) -> None:
        """Save the guest to disk. After the timeout (`GuestBusy`), it continues to run."""

    def shut_down(self, guest: Entity) -> None:
        """Request a shutdown. Some guests ignore it."""

    def start(self, guest: Entity, timeout_seconds: float) -> None:
        """Boot a guest, or continue a saved one."""


@runtime_checkable
class MigrationControl(Protocol):
    """Live migration of guests."""

    def migrate(self, guest: Entity, destination: Destination, timeout_seconds: float) -> None:
        """Migrate the running guest, and return once it runs on the destination.

        After an error, the guest still runs here: `NotSupported` if the migration is impossible, `GuestBusy` after the timeout, or another
        `HypervisorError`. After `TimeoutError` the outcome is unknown.
        """


class StoreKind(StrEnum):
    """Kind of a swap area."""

    ZRAM = "zram"  #: compressed block device in host memory
    ZSWAP = "zswap"  #: compressed cache in host memory, in front of another swap area
    DISK = "disk"  #: SSD, or a file on an SSD
    ROTATING = "rotating"  #: rotating disk, or a file on it


@dataclass(frozen=True, slots=True)
class SwapStore:
    """Swap area of the host. Sizes in KiB; None if unknown.

    `name` is the kernel's, such as `/dev/zram0`. `held_kib` of swapped memory is compressed into `takes_kib` of host memory.
    """

    name: str
    kind: StoreKind
    size_kib: int
    free_kib: int
    held_kib: int | None = None
    takes_kib: int | None = None


@dataclass(frozen=True, slots=True)
class Offloaded:
    """KiB moved, seconds, and why less was moved than requested."""

    kib: int
    seconds: float
    why: str = ""


@runtime_checkable
class ColdMemoryControl(Protocol):
    """Hypervisor with its own offload to swap."""

    def swap_stores(self) -> Sequence[SwapStore]:
        """Return all active swap areas."""

    def offload_memory(self, guest: Entity, kib: int, seconds: float) -> Offloaded:
        """Move `kib` KiB of the guest's coldest memory to swap, within `seconds`.

        The result counts KiB before compression. Raises `NotSupported` with the reason.
        """

    def recall_memory(self, guest: Entity, kib: int, seconds: float) -> Offloaded:
        """Read `kib` KiB back from swap, within `seconds`."""


@runtime_checkable
class GrowthControl(Protocol):
    """Limits of guests' growth: a guest at its limit is slowed down, and no program is killed."""

    def available_kib(self) -> float | None:
        """Return the host's available memory in KiB; None if unknown."""

    def slips(self) -> bool:
        """Return whether guests slowly grow beyond their limits."""

    def held_kib(self, guests: Collection[str]) -> Mapping[str, int]:
        """Return the KiB that guests hold, keyed by id. Omit vanished guests."""

    def slowed(self, guests: Collection[str]) -> Mapping[str, int]:
        """Return how often a limit has slowed each guest down so far."""

    def limit_growth(self, limits: Mapping[str, int | None]) -> Mapping[str, HypervisorError]:
        """Set limits in KiB, keyed by guest id, in this order; None lifts a limit. Return the failures."""

    def watch_growth(self, look: Callable[[], float] | None) -> None:
        """Call `look` when a guest reaches its limit, and after the seconds that it returns. None ends these calls."""
