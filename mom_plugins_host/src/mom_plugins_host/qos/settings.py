"""The limits that libvirt and QEMU accept, why a value is none of them, and which CPU quota is a part of the host's CPU time. Pure.

The settings of limits in YAML, for all guests and for single ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema, model_validator

import mom_core
from mom_core import PluginSettings, Refused, Size, StrictModel, Value, as_whole

# libvirt's VIR_CGROUP_CPU_QUOTA_MIN/MAX and VIR_CGROUP_CPU_PERIOD_MIN/MAX, QEMU's THROTTLE_VALUE_MAX, and an unsigned int of libvirt's
# interface parameters. For shares the bounds of cgroups v1 and v2 together: the hypervisor knows which of them the host has.
QUOTA_US = (1000, (1 << 44) - 1)
PERIOD_US = (1000, 1_000_000)
SHARES = (1, 262_144)
MOST_DISK_LIMIT = 10**15
MOST_BANDWIDTH_KIB = (1 << 32) - 1

NO_QUOTA = -1

USUAL_PERIOD_US = 100_000
"""The kernel's own, and that of oVirt: short enough that a guest that has used up its quota waits no more than a blink."""

DIRECTIONS = ("inbound", "outbound")
BANDWIDTH = ("average", "peak", "burst", "floor")

QUOTA, PERIOD, CPU_SHARES = "vcpu_quota", "vcpu_period", "cpu_shares"

_CPU = {QUOTA: (*QUOTA_US, " µs, or -1 for no limit"), PERIOD: (*PERIOD_US, " µs"), CPU_SHARES: (*SHARES, "")}


def cpu_complaint(control: str, value: Value) -> str:
    """Why a value cannot be set on one of the CPU controls, with the bounds; empty when it can."""
    number = as_whole(value)
    least, most, more = _CPU[control]
    if number is not None and (least <= number <= most or (control == QUOTA and number < 0)):
        return ""
    return f"{control} cannot be {value!r:.40}: the hypervisor takes {least} to {most}{more}"


def check_disk(disk: str, limits: dict[str, int]) -> None:
    """Raises `Refused` where these six limits cannot stand together on a disk."""
    for key, limit in limits.items():
        if not 0 <= limit <= MOST_DISK_LIMIT:
            raise Refused(f"{key} of {disk} cannot be {limit}: the hypervisor takes 0 to {MOST_DISK_LIMIT}, 0 for no limit")
    if why := contradiction(limits):
        raise Refused(f"{disk}: {why}")


def contradiction(limits: Mapping[str, int | None]) -> str:
    """Why a total and its parts cannot be limited together; empty when that is not asked for."""
    for kind in ("bytes", "iops"):
        if limits.get(f"total_{kind}_sec") and (limits.get(f"read_{kind}_sec") or limits.get(f"write_{kind}_sec")):
            return f"total_{kind}_sec cannot be limited together with read_{kind}_sec or write_{kind}_sec"
    return ""


def check_bandwidth(interface: str, direction: str, limits: dict[str, int]) -> None:
    """Raises `Refused` where these limits cannot be set on one direction of a network interface."""
    for key, limit in limits.items():
        if not 1 <= limit <= MOST_BANDWIDTH_KIB:
            bounds = f"the hypervisor takes 1 to {MOST_BANDWIDTH_KIB} KiB/s (burst: KiB)"
            raise Refused(f"{direction} {key} of {interface} cannot be {limit}: {bounds}")
    if limits and not {"average", "floor"} & limits.keys():
        raise Refused(f"{interface}: {direction} peak and burst need an average")


def quota_and_period(percent: float, host_cpus: float, vcpus: float) -> tuple[int, int]:
    """The quota and period, in µs, that hold each vCPU of a guest to its part of `percent` of all the host's CPUs.

    The period becomes longer where the quota would be less than the hypervisor takes, as far as it may; after that, the quota is the
    least that is possible. A guest that cannot reach its limit gets no quota.
    """
    share = percent / 100 * host_cpus / vcpus  # of one host CPU, for each vCPU
    if percent >= 100 or share >= 1:
        return NO_QUOTA, USUAL_PERIOD_US
    period = min(PERIOD_US[1], max(USUAL_PERIOD_US, int(QUOTA_US[0] / share)))
    return max(QUOTA_US[0], int(share * period)), period


def parse_percent(text: object) -> float:
    """The number in a text like `50%`."""
    if not isinstance(text, str) or not text.strip().endswith("%"):
        raise ValueError("must be a percentage, such as 50%")
    try:
        return float(text.strip().removesuffix("%"))
    except ValueError:
        raise ValueError(f"{text!r:.20} is no percentage; write it like 50%") from None


def format_percent(percent: float) -> str:
    """The text for a number: `50%`."""
    return f"{percent:g}%"


Percent = Annotated[
    float,
    BeforeValidator(parse_percent),
    PlainSerializer(format_percent, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9.]+ *%$", "examples": ["50%"]}),
]

_PerSecond = Annotated[Size, Field(ge=0, le=MOST_DISK_LIMIT)]
_Operations = Annotated[int, Field(ge=0, le=MOST_DISK_LIMIT)]
_Bandwidth = Annotated[Size, Field(ge=1024, le=MOST_BANDWIDTH_KIB << 10)]


class DiskLimits(StrictModel):
    """Limits of a disk; 0 is no limit. For bytes, and for operations, either a total or reads and writes apart."""

    total_bytes_sec: _PerSecond | None = None
    """What is read and written in a second, together."""
    read_bytes_sec: _PerSecond | None = None
    """What is read in a second."""
    write_bytes_sec: _PerSecond | None = None
    """What is written in a second."""
    total_iops_sec: _Operations | None = None
    """Reads and writes in a second, together."""
    read_iops_sec: _Operations | None = None
    """Reads in a second."""
    write_iops_sec: _Operations | None = None
    """Writes in a second."""

    @model_validator(mode="after")
    def _either_or(self) -> DiskLimits:
        if why := contradiction(dict(self)):
            raise ValueError(why)
        return self

    def limits(self) -> dict[str, int]:
        """The limits by their names. Of a kind of which one is given, the others are 0."""
        given = {key: value for key, value in self if value is not None}
        for kind in ("bytes", "iops"):
            names = [f"{which}_{kind}_sec" for which in ("total", "read", "write")]
            if any(name in given for name in names):
                given = {**dict.fromkeys(names, 0), **given}
        return given


class Bandwidth(StrictModel):
    """Limits of one direction of a network interface."""

    average: _Bandwidth
    """What may pass in a second, in the long run."""
    peak: _Bandwidth | None = None
    """What may pass in a second while a burst lasts."""
    burst: _Bandwidth | None = None
    """What may pass at the peak's speed."""

    @model_validator(mode="after")
    def _in_kib(self) -> Bandwidth:
        for key, size in self:
            if size is not None and size % 1024:
                raise ValueError(f"{key} is {size} B, and must be a multiple of 1KiB")
        return self

    def limits(self) -> dict[str, int]:
        """The limits by their names, in KiB (a second)."""
        return {key: size >> 10 for key, size in self if size is not None}


class NetLimits(StrictModel):
    """Limits of a network interface, as the guest sees it. A direction that is left out is not limited."""

    inbound: Bandwidth | None = None
    """What the guest receives."""
    outbound: Bandwidth | None = None
    """What the guest sends."""

    def direction(self, name: str) -> dict[str, int]:
        """The limits of `inbound` or `outbound`; empty: none."""
        found = self.inbound if name == "inbound" else self.outbound
        return {} if found is None else found.limits()


class QosSettings(PluginSettings):
    """Which of the default policies are on."""

    cpu_limits: bool = False
    """Hold guests to the CPU limits that were agreed for them (`vcpu_user_limit`), by the policy 60_cpu_limits."""
    io_limits: bool = False
    """Hold disks to the limits that were agreed for them (`maximum` in `io_tune`), by the policy 70_io_limits."""


class QosGuestSettings(mom_core.GuestSettings):
    """Limits of a guest. They come before what was agreed in the guest's metadata, and are applied without any policy."""

    cpu_limit: Annotated[Percent, Field(gt=0, le=100)] | None = None
    """CPU time that the guest may use of all the host's CPUs together, written like `25%`; `100%` is no limit."""
    cpu_shares: Annotated[int, Field(ge=SHARES[0], le=SHARES[1])] | None = None
    """The guest's weight when CPUs are short. 1024 is usual with cgroups v1, 100 with v2; there 10000 is the most."""
    io_limit: DiskLimits | None = None
    """Limits of each of the guest's disks."""
    disk_limits: dict[str, DiskLimits] | None = None
    """Limits of single disks by name, such as `vda`: instead of those in `io_limit`."""
    net_limit: NetLimits | None = None
    """Limits of each of the guest's network interfaces."""

    def disk(self, name: str) -> dict[str, int]:
        """The limits of one disk; empty: none are set here."""
        found = (self.disk_limits or {}).get(name, self.io_limit)
        return {} if found is None else found.limits()
