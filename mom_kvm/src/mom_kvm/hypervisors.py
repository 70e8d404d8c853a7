"""Helpers for plugins of all hypervisors, and records that controllers exchange with them through optional capabilities.

The plugin that uses a capability defines its protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar, cast

from mom_core import Change, Finding, Guest, Hypervisor, HypervisorError, NotSupported, Severity, Target


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


Capability = TypeVar("Capability")


def capable(hypervisor: Hypervisor, capability: Callable[..., Capability], what: str) -> Capability:
    """Return the hypervisor. Raise `NotSupported` if it lacks the capability.

    :param what: for the message, such as `resize guests`
    """
    if not isinstance(hypervisor, cast("type", capability)):
        raise NotSupported(f"{hypervisor.uri} cannot {what}")
    return cast("Capability", hypervisor)


def set_each(changes: Iterable[Change], set_one: Callable[[Change], object]) -> dict[Target, HypervisorError]:
    """Make changes in order. Return the errors of failed changes, keyed by target, like `mom_write`.

    :param set_one: makes a change, or raises `HypervisorError`
    """
    errors: dict[Target, HypervisorError] = {}
    for change in changes:
        try:
            set_one(change)
        except HypervisorError as error:
            errors[change.target] = error
    return errors


def listed_guests(hypervisor: Hypervisor | None, subject: str) -> Generator[Finding, None, Sequence[Guest] | None]:
    """Return the hypervisor's guests. If they cannot be listed, yield a finding and return None."""
    if hypervisor is None:
        yield Finding(Severity.WARNING, subject, "guests were not checked: no hypervisor is reachable")
        return None
    try:
        return hypervisor.guests()
    except HypervisorError as error:
        yield Finding(Severity.ERROR, subject, f"the guests cannot be checked: {error}", "see the hypervisor plugin's finding above")
        return None
