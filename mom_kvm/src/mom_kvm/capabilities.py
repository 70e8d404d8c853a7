"""What a hypervisor may be able to do for one plugin or another, besides what `mom_core` names: capabilities that are tested for with
`isinstance`.

All calls come from the thread of the plugin that makes them, so an implementation must allow several threads. Every call is bounded
in time by the implementation. Guests are named by their `Entity`; a guest that has vanished raises `GuestGone`.
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
        """Have the hypervisor pass this JSON text to the guest's qemu-guest-agent, and return the answer's JSON text.

        Raises `GuestBusy` when no answer came in time, `NotSupported` when there is no agent, and other kinds of `HypervisorError`.
        """


@runtime_checkable
class CpuPinControl(Protocol):
    """Can tie guests' vCPUs to CPUs of the host."""

    def cpu_pins(self, guests: Sequence[Entity]) -> Mapping[str, Sequence[AbstractSet[int]]]:
        """Return for each vCPU of each guest the host's CPUs on which it may run, by guest id. Unknown guests are absent."""

    def set_cpu_pin(self, guest: Entity, vcpu: int, cpus: AbstractSet[int]) -> None:
        """Let that vCPU (from 0) run on these CPUs only."""


@dataclass(frozen=True, slots=True)
class NodeTune:
    """From which NUMA nodes a guest's memory comes: `mode` is `strict`, `preferred`, `interleave` or `restrictive`; no nodes: from any."""

    mode: str
    nodes: AbstractSet[int]


@runtime_checkable
class NodeTuneControl(Protocol):
    """Can say from which of the host's NUMA nodes guests' memory comes."""

    def node_tunes(self, guests: Sequence[Entity]) -> Mapping[str, NodeTune]:
        """Return the present settings, by guest id. A guest that is gone or unknown is absent."""

    def set_node_tune(self, guest: Entity, nodes: AbstractSet[int]) -> None:
        """Take new memory from these nodes; raises `NotSupported` where the guest's mode cannot be changed while it runs."""


class GuestState(StrEnum):
    """State of a guest: running, paused, saved or off."""

    RUNNING = "running"
    PAUSED = "paused"  #: its CPUs stand still; it keeps its memory
    SAVED = "saved"  #: it does not run, and goes on where it was when it is started
    OFF = "off"  #: it does not run, and boots when it is started


@runtime_checkable
class LifecycleControl(Protocol):
    """Can stop guests, and let them go on. What takes long is bounded by what the caller gives, and blocks for as long."""

    def standings(self, guests: Sequence[Entity]) -> Mapping[str, GuestState]:
        """Return how these guests are, by guest id, also those that do not run. One that the hypervisor does not know is absent."""

    def pause(self, guest: Entity) -> None:
        """Let the guest's CPUs stand still; its memory stays where it is."""

    def resume(self, guest: Entity) -> None:
        """Let the CPUs of a guest that is paused go on."""

    def save(self, guest: Entity, timeout_seconds: float) -> None:
        """Write the guest's memory to disk and end it. Raises `GuestBusy` when that took too long and was given up: then it runs on."""

    def shut_down(self, guest: Entity) -> None:
        """Ask the guest's system to shut down; returns when it was asked. Not every guest follows."""

    def start(self, guest: Entity, timeout_seconds: float) -> None:
        """Start a guest that is off, or let one that is saved go on where it was."""


@runtime_checkable
class MigrationControl(Protocol):
    """Hypervisor that can move running guests to another hypervisor."""

    def migrate(self, guest: Entity, destination: Destination, timeout_seconds: float) -> None:
        """Move the guest to that hypervisor while it runs, and return when it runs there and not here.

        Otherwise it runs here as before: raises `NotSupported` when it cannot be moved there at all, `GuestBusy` when that took longer
        than `timeout_seconds` and was given up, and other kinds of `HypervisorError`. Raises `TimeoutError` when it is not known how it
        ended, though it was given up: the guest may be moving still.
        """


class StoreKind(StrEnum):
    """The kind of a host's swap."""

    ZRAM = "zram"  #: a compressed disk in the host's memory
    ZSWAP = "zswap"  #: a compressed cache, in the host's memory, of the swap behind it
    DISK = "disk"  #: a disk without moving parts, or a file on one
    ROTATING = "rotating"  #: a disk with moving parts, or a file on one


@dataclass(frozen=True, slots=True)
class SwapStore:
    """Where cold memory goes. All amounts in KiB; None: unknown.

    `name` is what the kernel calls it, such as `/dev/zram0`. It can still take `free_kib` of memory. Of what it holds now, `held_kib` were
    compressed, and take `takes_kib` of the host's memory; what it holds elsewhere takes none.
    """

    name: str
    kind: StoreKind
    size_kib: int
    free_kib: int
    held_kib: int | None = None
    takes_kib: int | None = None


@dataclass(frozen=True, slots=True)
class Offloaded:
    """The end of an order: so many KiB went or came back, in so many seconds, and why it ended before all had (empty: all had)."""

    kib: int
    seconds: float
    why: str = ""


@runtime_checkable
class ColdMemoryControl(Protocol):
    """Moves guests' memory to swap and back by itself, such as a simulated host. Guests of others are reached by their properties `cgroups`
    and `pid`."""

    def swap_stores(self) -> Sequence[SwapStore]:
        """Return all swap stores that exist now."""

    def offload_memory(self, guest: Entity, kib: int, seconds: float) -> Offloaded:
        """Move `kib` KiB of the guest's memory to swap, the least recently used memory first, within `seconds`.

        What went counts in KiB of guest memory, not in what it takes when it is compressed. Raises `NotSupported` where nothing of the
        guest can be moved at all, and why.
        """

    def recall_memory(self, guest: Entity, kib: int, seconds: float) -> Offloaded:
        """Bring `kib` KiB of the guest's swapped memory back into the host's memory, within `seconds`."""
