"""What mom asks of a hypervisor, and what it may be able to do besides: capabilities that a controller tests for with `isinstance`. Those
that one plugin uses are of `mom_kvm`.

All calls come from the thread of the plugin that makes them, so an implementation must allow several threads. Every call is bounded
in time by the implementation. Guests are named by their `Entity`; a guest that has vanished raises `GuestGone`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from mom_core.model import Entity, Guest
from mom_core.values import Value


@runtime_checkable
class Hypervisor(Protocol):
    """Who runs the guests."""

    @property
    def uri(self) -> str:
        """How people name this hypervisor, such as `qemu:///system`."""

    def guests(self) -> Sequence[Guest]:
        """The guests that are active now, without fields, read with a number of calls that does not grow with them.

        Raises `HypervisorError` when the hypervisor cannot be reached: mom then knows of no guest, and touches none.
        """


class NoHypervisor:
    """Stands in when no enabled plugin provides a hypervisor: a host without guests, whose own memory can still be managed."""

    uri = "none"

    def guests(self) -> list[Guest]:
        """No guests."""
        return []


@runtime_checkable
class BalloonControl(Protocol):
    """Can resize guests with a memory balloon. All sizes in KiB of guest memory."""

    def set_balloon(self, guest: Entity, target_kib: int) -> None:
        """Ask the guest to go to that size; returns when the request is made, not when the guest has followed."""

    def balloon_sizes(self, guests: Sequence[Entity]) -> Mapping[str, int]:
        """The sizes that the guests really have now, by guest id, in one bulk call. A guest that is gone or unknown is absent."""


@dataclass(frozen=True, slots=True)
class CpuTune:
    """The limits of a guest's CPU time. None: unknown.

    `quota_us` of CPU time in every `period_us` for each vCPU, in microseconds, a quota of -1 meaning no limit; `shares` is the weight
    against other guests (1024 is usual); `user_limit_percent` is what was agreed for the guest, as percent of all the host's CPUs.
    """

    quota_us: int | None = None
    period_us: int | None = None
    shares: int | None = None
    user_limit_percent: float | None = None


@runtime_checkable
class CpuTuneControl(Protocol):
    """Can limit the CPU time of guests' vCPUs."""

    def cpu_tunes(self, guests: Sequence[Entity]) -> Mapping[str, CpuTune]:
        """The present limits, by guest id, without a call for each guest in each cycle. A guest that is gone or unknown is absent."""

    def set_cpu_tune(self, guest: Entity, quota_us: int | None = None, period_us: int | None = None, shares: int | None = None) -> None:
        """Set what is given, all at once. Raises `NotSupported` for values that the hypervisor cannot take, with its bounds."""


@dataclass(frozen=True, slots=True)
class DiskTune:
    """The I/O limits of one disk of a guest: `current`, and what was agreed for it (`maximum`, `guaranteed`; None: nothing).

    Each maps those of `LIMITS` that are known to bytes or operations per second; 0 means no limit. `path` is empty where the disk
    has none.
    """

    LIMITS: ClassVar = ("total_bytes_sec", "read_bytes_sec", "write_bytes_sec", "total_iops_sec", "read_iops_sec", "write_iops_sec")

    name: str
    path: str
    current: Mapping[str, int]
    maximum: Mapping[str, int] | None = None
    guaranteed: Mapping[str, int] | None = None


@runtime_checkable
class IoTuneControl(Protocol):
    """Can limit the I/O of guests' disks."""

    def io_tunes(self, guests: Sequence[Entity]) -> Mapping[str, Sequence[DiskTune]]:
        """The present limits, by guest id, without a call for each guest in each cycle. A guest that is gone or unknown is absent."""

    def set_io_tune(self, guest: Entity, disk: str, limits: Mapping[str, int]) -> None:
        """Set the limits that are given on the disk with that name; the others stay. Raises `NotSupported` for impossible ones."""


@dataclass(frozen=True, slots=True)
class NetTune:
    """The bandwidth limits of one network interface of a guest, seen from the guest: `inbound` and `outbound`.

    Each maps `average` and `peak` to KiB per second and `burst` to KiB; empty: no limit. `name` is the host's name of the interface.
    """

    name: str
    inbound: Mapping[str, int]
    outbound: Mapping[str, int]


@runtime_checkable
class NetTuneControl(Protocol):
    """Can limit the bandwidth of guests' network interfaces."""

    def net_tunes(self, guests: Sequence[Entity]) -> Mapping[str, Sequence[NetTune]]:
        """The present limits, by guest id, without a call for each guest in each cycle. A guest that is gone or unknown is absent."""

    def set_net_tune(self, guest: Entity, interface: str, inbound: Mapping[str, int], outbound: Mapping[str, int]) -> None:
        """Set both directions of the interface with that name; an empty mapping takes the limit away."""


@runtime_checkable
class KsmControl(Protocol):
    """Has a kernel samepage merging of its own: a simulated host, or a management system that owns the knobs."""

    def ksm_read(self) -> Mapping[str, Value]:
        """The knobs and counters by the names of their files in /sys/kernel/mm/ksm (`run`, `pages_to_scan`, `pages_sharing` …).

        What does not exist is absent. `ksmd_cpu_seconds` is the CPU time that the scanner has used, `shareable_kib` the memory in KiB
        that guests' processes may offer for merging, if known.
        """

    def ksm_write(self, knobs: Mapping[str, int]) -> None:
        """Set these knobs."""


@runtime_checkable
class KsmWriter(Protocol):
    """Writes the knobs of this host's own KSM for a mom that may only read them: a management system with a privileged helper."""

    def ksm_write(self, knobs: Mapping[str, int]) -> None:
        """Set these knobs, by the names of their files in /sys/kernel/mm/ksm."""
