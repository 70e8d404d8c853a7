"""Hypervisors, and the records that they exchange with controllers. Controllers test for optional capabilities with `isinstance`.

Implementations must be thread-safe and limit each call's time. A call for a vanished guest raises `GuestGone`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from mom_core.model import Guest


@runtime_checkable
class Hypervisor(Protocol):
    """Manager of guests."""

    @property
    def uri(self) -> str:
        """Address for people, for example `qemu:///system`."""

    def guests(self) -> Sequence[Guest]:
        """Return the active guests, without fields, in a constant number of calls.

        Raise `HypervisorError` if unreachable: then mom changes no guest.
        """


class NoHypervisor:
    """Placeholder for a hypervisor; has no guests."""

    uri = "none"

    def guests(self) -> list[Guest]:
        """Return no guests."""
        return []


@dataclass(frozen=True, slots=True)
class CpuTune:
    """Limits of a guest's CPU time; None if unknown.

    :param quota_us: µs of CPU time per `period_us` for each vCPU; -1 if unlimited
    :param shares: weight against other guests, usually 1024
    :param user_limit_percent: agreed limit, in percent of all host CPUs
    """

    quota_us: int | None = None
    period_us: int | None = None
    shares: int | None = None
    user_limit_percent: float | None = None


@dataclass(frozen=True, slots=True)
class DiskTune:
    """I/O limits of a guest's disk: `current`, and the agreed `maximum` and `guaranteed` limits (None if there are none).

    Each maps names in `LIMITS`, where known, to bytes or operations per second; 0 means unlimited. `path` may be empty.
    """

    LIMITS: ClassVar = ("total_bytes_sec", "read_bytes_sec", "write_bytes_sec", "total_iops_sec", "read_iops_sec", "write_iops_sec")

    name: str
    path: str
    current: Mapping[str, int]
    maximum: Mapping[str, int] | None = None
    guaranteed: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class NetTune:
    """Bandwidth limits of a guest's interface, seen from the guest. `name` is the interface's name on the host.

    `inbound` and `outbound` map `average` and `peak` to KiB/s and `burst` to KiB; an empty mapping means unlimited.
    """

    name: str
    inbound: Mapping[str, int]
    outbound: Mapping[str, int]
