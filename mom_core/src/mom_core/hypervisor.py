"""What mom asks of a hypervisor: one small protocol, and optional capabilities that a controller tests for with `isinstance`.

All calls come from the thread of the plugin that makes them, so an implementation must allow several threads. Every call is bounded
in time by the implementation. Guests are named by their `Entity`; a guest that has vanished raises `GuestGone`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from mom_core.model import Entity, Guest, Value


@runtime_checkable
class Hypervisor(Protocol):
    """Who runs the guests."""

    @property
    def uri(self) -> str:
        """How people name this hypervisor, such as `qemu:///system`."""
        ...

    def guests(self) -> Sequence[Guest]:
        """The guests that are active now, without fields, read with a number of calls that does not grow with them.

        Raises `HypervisorError` when the hypervisor cannot be reached: mom then knows of no guest, and touches none.
        """
        ...


@runtime_checkable
class BalloonControl(Protocol):
    """Can resize guests with a memory balloon. All sizes in KiB of guest memory."""

    def set_balloon(self, guest: Entity, target_kib: int) -> None:
        """Ask the guest to go to that size; returns when the request is made, not when the guest has followed."""
        ...

    def balloon_sizes(self, guests: Sequence[Entity]) -> Mapping[str, int]:
        """What the guests really have now, by guest id, in one bulk call. A guest that is gone or unknown is absent."""
        ...


@runtime_checkable
class CpuTuneControl(Protocol):
    """Can limit the CPU time of guests' vCPUs. Microseconds per vCPU; a quota of -1 means no limit."""

    def set_cpu_tune(self, guest: Entity, quota_us: int, period_us: int) -> None:
        """Let each vCPU run at most `quota_us` in every `period_us`."""
        ...


@runtime_checkable
class IoTuneControl(Protocol):
    """Can limit the I/O of guests' disks: bytes and operations per second, 0 means no limit."""

    def set_io_tune(self, guest: Entity, device: str, limits: Mapping[str, int]) -> None:
        """Set the limits that are given (`total_bytes_sec`, `read_iops_sec`, …) on the disk with that name."""
        ...


@runtime_checkable
class KsmControl(Protocol):
    """Has a kernel samepage merging of its own: a simulated host, or a management system that owns the knobs."""

    def ksm_read(self) -> Mapping[str, Value]:
        """The knobs and counters by the names of their files in /sys/kernel/mm/ksm (`run`, `pages_to_scan`, `pages_sharing` …).

        What does not exist is absent. `ksmd_cpu_seconds` is the CPU time that the scanner has used, if known.
        """
        ...

    def ksm_write(self, knobs: Mapping[str, int]) -> None:
        """Set these knobs."""
        ...


@runtime_checkable
class GuestEvents(Protocol):
    """Tells at once when guests come, go or change, so that mom need not wait for its next cycle."""

    def subscribe(self, callback: Callable[[str], None]) -> Callable[[], None]:
        """Call `callback(what happened)` from any thread on each event; the returned function ends that."""
        ...
