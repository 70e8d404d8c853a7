"""Capabilities of hypervisors for single plugins, besides those of `mom_core`; tested with `isinstance`.

Calls come from several threads, and are bounded in time by the implementation. A guest that has ended raises `GuestGone`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

from mom_core import Entity
from mom_kvm.destination import Destination


@runtime_checkable
class AgentAccess(Protocol):
    """Can reach agents that run inside guests."""

    def agent_channels(self, guests: Sequence[Entity]) -> Mapping[str, Mapping[str, str]]:
        """Return the guests' agent channels, by guest id: the channel's name (`org.qemu.guest_agent.0`) to the path of its unix socket.

        The path is empty where only the hypervisor can use the channel. A guest without channels is absent.
        """

    def agent_command(self, guest: Entity, command: str, timeout_seconds: float) -> str:
        """Have the hypervisor pass this JSON text to the guest's qemu-guest-agent, and return the JSON text of the answer.

        Raises `GuestBusy` without an answer in time, `NotSupported` without an agent, or another `HypervisorError`.
        """


@runtime_checkable
class CpuPinControl(Protocol):
    """Can pin guests' vCPUs to CPUs of the host."""

    def cpu_pins(self, guests: Sequence[Entity]) -> Mapping[str, Sequence[AbstractSet[int]]]:
        """Return the host CPUs that each vCPU may run on, by guest id, without unknown guests."""

    def set_cpu_pin(self, guest: Entity, vcpu: int, cpus: AbstractSet[int]) -> None:
        """Let this vCPU (from 0) run on these CPUs only."""


@dataclass(frozen=True, slots=True)
class NodeTune:
    """NUMA nodes of a guest's memory; no nodes: any. `mode` is `strict`, `preferred`, `interleave` or `restrictive`."""

    mode: str
    nodes: AbstractSet[int]


@runtime_checkable
class NodeTuneControl(Protocol):
    """Can choose the NUMA nodes of guests' memory."""

    def node_tunes(self, guests: Sequence[Entity]) -> Mapping[str, NodeTune]:
        """Return the present nodes, by guest id, without unknown guests."""

    def set_node_tune(self, guest: Entity, nodes: AbstractSet[int]) -> None:
        """Allocate new memory on these nodes. Raises `NotSupported` in a mode that cannot be changed while the guest runs."""


class GuestState(StrEnum):
    """State of a guest: running, paused, saved or off."""

    RUNNING = "running"
    PAUSED = "paused"  #: its CPUs stand still; it keeps its memory
    SAVED = "saved"  #: it does not run, and goes on where it was when it is started
    OFF = "off"  #: it does not run, and boots when it is started


@runtime_checkable
class LifecycleControl(Protocol):
    """Can stop and continue guests. Calls that take long block for at most the given time."""

    def standings(self, guests: Sequence[Entity]) -> Mapping[str, GuestState]:
        """Return the states of these guests, by id, including guests that do not run, without unknown guests."""

    def pause(self, guest: Entity) -> None:
        """Stop the guest's CPUs; its memory stays."""

    def resume(self, guest: Entity) -> None:
        """Continue the CPUs of a paused guest."""

    def save(self, guest: Entity, timeout_seconds: float) -> None:
        """Write the guest's memory to disk, and end the guest. Raises `GuestBusy` after the timeout; the guest then runs on."""

    def shut_down(self, guest: Entity) -> None:
        """Ask the guest's system to shut down, and return at once. Some guests do not follow."""

    def start(self, guest: Entity, timeout_seconds: float) -> None:
        """Start a guest that is off, or continue a saved one."""


@runtime_checkable
class MigrationControl(Protocol):
    """Hypervisor that can move running guests to another hypervisor."""

    def migrate(self, guest: Entity, destination: Destination, timeout_seconds: float) -> None:
        """Move the running guest to that hypervisor, and return when it runs there.

        On errors it runs here as before: `NotSupported` if it can never be moved there, `GuestBusy` after the timeout, or another
        `HypervisorError`. `TimeoutError`: the outcome is unknown, and the guest may still be moving.
        """


class StoreKind(StrEnum):
    """Kind of the host's swap."""

    ZRAM = "zram"  #: a compressed disk in the host's memory
    ZSWAP = "zswap"  #: a compressed cache, in the host's memory, of the swap behind it
    DISK = "disk"  #: a disk without moving parts, or a file on one
    ROTATING = "rotating"  #: a disk with moving parts, or a file on one


@dataclass(frozen=True, slots=True)
class SwapStore:
    """Swap of the host. Amounts in KiB; None: unknown.

    `name` is the kernel's, such as `/dev/zram0`. `held_kib` of its content is compressed in `takes_kib` of the host's memory; content
    elsewhere takes none. `free_kib` is what it can still take.
    """

    name: str
    kind: StoreKind
    size_kib: int
    free_kib: int
    held_kib: int | None = None
    takes_kib: int | None = None


@dataclass(frozen=True, slots=True)
class Offloaded:
    """Outcome of an order: KiB moved, in so many seconds, and why not all was moved (empty: all was)."""

    kib: int
    seconds: float
    why: str = ""


@runtime_checkable
class ColdMemoryControl(Protocol):
    """Moves guests' memory to swap by itself, as a simulated host does. On other hosts, plugins use the guests' properties `cgroups` and
    `pid`."""

    def swap_stores(self) -> Sequence[SwapStore]:
        """Return all present swap stores."""

    def offload_memory(self, guest: Entity, kib: int, seconds: float) -> Offloaded:
        """Move `kib` KiB of the guest's memory to swap, least recently used first, within `seconds`.

        Counts KiB before compression. Raises `NotSupported`, with the reason, where no memory of the guest can be moved.
        """

    def recall_memory(self, guest: Entity, kib: int, seconds: float) -> Offloaded:
        """Bring `kib` KiB of the guest's swapped memory back into the host's memory, within `seconds`."""
