"""Records that controllers exchange with hypervisors through optional capabilities.

The plugin that uses a capability defines its protocol.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class NodeTune:
    """NUMA nodes on which a guest's memory may be; an empty set stands for all nodes.

    `mode` is libvirt's: `strict`, `preferred`, `interleave` or `restrictive`.
    """

    mode: str
    nodes: AbstractSet[int]


class GuestState(StrEnum):
    """State of a guest."""

    RUNNING = "running"
    PAUSED = "paused"  #: vCPUs stopped, memory still allocated
    SAVED = "saved"  #: not running, memory on disk; `start` continues it
    OFF = "off"  #: not running; `start` boots it


@dataclass(frozen=True, slots=True)
class SwapStore:
    """Swap area of the host. Sizes in KiB; None if unknown.

    `name` is the kernel's, such as `/dev/zram0`. A compressed area holds `held_kib` of swapped memory in `takes_kib` of host memory.
    """

    class Kind(StrEnum):
        """Kind of a swap area."""

        ZRAM = "zram"  #: compressed block device in host memory
        ZSWAP = "zswap"  #: compressed cache in host memory, in front of another swap area
        DISK = "disk"  #: SSD, or a file on an SSD
        ROTATING = "rotating"  #: rotating disk, or a file on it

    @dataclass(frozen=True, slots=True)
    class Offloaded:
        """Result of moving memory to swap: KiB moved, seconds taken, and why less was moved than requested."""

        kib: int
        seconds: float
        why: str = ""

    name: str
    kind: SwapStore.Kind
    size_kib: int
    free_kib: int
    held_kib: int | None = None
    takes_kib: int | None = None
