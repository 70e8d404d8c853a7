"""Settings of limits, and the bounds that libvirt and QEMU accept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema, model_validator

import mom_core
from mom_core import PluginSettings, Portion, Refused, Size, StrictModel, Value, as_whole

# libvirt's VIR_CGROUP_CPU_QUOTA_MIN/MAX and VIR_CGROUP_CPU_PERIOD_MIN/MAX, QEMU's THROTTLE_VALUE_MAX, and an unsigned int of libvirt's
# interface parameters. The bounds of shares cover cgroups v1 and v2; the hypervisor knows the host's version.
QUOTA_US = (1000, (1 << 44) - 1)
PERIOD_US = (1000, 1_000_000)
SHARES = (1, 262_144)
MOST_DISK_LIMIT = 10**15
MOST_BANDWIDTH_KIB = (1 << 32) - 1

NO_QUOTA = -1

USUAL_PERIOD_US = 100_000
"""Default `vcpu_period` of the kernel and of oVirt."""

DIRECTIONS = ("inbound", "outbound")
BANDWIDTH = ("average", "peak", "burst", "floor")

QUOTA, PERIOD, CPU_SHARES = "vcpu_quota", "vcpu_period", "cpu_shares"

_CPU = {QUOTA: (*QUOTA_US, " µs, or -1 for no limit"), PERIOD: (*PERIOD_US, " µs"), CPU_SHARES: (*SHARES, "")}


def cpu_complaint(control: str, value: Value) -> str:
    """Return why a CPU control's value is refused, and the allowed range; an empty string if the value is valid."""
    number = as_whole(value)
    least, most, more = _CPU[control]
    if number is not None and (least <= number <= most or (control == QUOTA and number < 0)):
        return ""
    return f"{control} cannot be {value!r:.40}: the allowed range is {least} to {most}{more}"


def check_disk(disk: str, limits: dict[str, int]) -> None:
    """Raise `Refused` if a disk cannot have these six limits together."""
    for key, limit in limits.items():
        if not 0 <= limit <= MOST_DISK_LIMIT:
            raise Refused(f"{key} of {disk} cannot be {limit}: the allowed range is 0 to {MOST_DISK_LIMIT}, 0 for no limit")
    if why := contradiction(limits):
        raise Refused(f"{disk}: {why}")


def contradiction(limits: Mapping[str, int | None]) -> str:
    """Return an error text if a total and one of its parts are limited; otherwise an empty string."""
    for kind in ("bytes", "iops"):
        if limits.get(f"total_{kind}_sec") and (limits.get(f"read_{kind}_sec") or limits.get(f"write_{kind}_sec")):
            return f"total_{kind}_sec cannot be limited together with read_{kind}_sec or write_{kind}_sec"
    return ""


def check_bandwidth(interface: str, direction: str, limits: dict[str, int]) -> None:
    """Raise `Refused` if one direction of a network interface cannot have these limits."""
    for key, limit in limits.items():
        if not 1 <= limit <= MOST_BANDWIDTH_KIB:
            bounds = f"the allowed range is 1 to {MOST_BANDWIDTH_KIB} KiB/s (burst: KiB)"
            raise Refused(f"{direction} {key} of {interface} cannot be {limit}: {bounds}")
    if limits and not {"average", "floor"} & limits.keys():
        raise Refused(f"{interface}: {direction} peak and burst need an average")


def quota_and_period(percent: float, host_cpus: float, vcpus: float) -> tuple[int, int]:
    """Return quota and period, in µs, that limit all vCPUs together to `percent` of the host's CPUs.

    A guest with too few vCPUs to reach its limit gets no quota.
    """
    # A small share needs a longer period, so that the quota is valid.
    share = percent / 100 * host_cpus / vcpus  # of one host CPU, for each vCPU
    if percent >= 100 or share >= 1:
        return NO_QUOTA, USUAL_PERIOD_US
    period = min(PERIOD_US[1], max(USUAL_PERIOD_US, int(QUOTA_US[0] / share)))
    return max(QUOTA_US[0], int(share * period)), period


def _parse_percent(text: object) -> float:
    if not isinstance(text, str) or not text.strip().endswith("%"):
        raise ValueError("must be a percentage, such as 50%")
    return round(100 * (Portion.parse(text).share or 0.0), 6)


Percent = Annotated[
    float,
    BeforeValidator(_parse_percent),
    PlainSerializer("{:g}%".format, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9.]+ *%$", "examples": ["50%"]}),
]

_PerSecond = Annotated[Size, Field(ge=0, le=MOST_DISK_LIMIT)]
_Operations = Annotated[int, Field(ge=0, le=MOST_DISK_LIMIT)]
_Bandwidth = Annotated[Size, Field(ge=1024, le=MOST_BANDWIDTH_KIB << 10)]


class DiskLimits(StrictModel):
    """Limits of a disk; 0 is no limit. Bytes and operations each have either a total, or limits for reads and for writes."""

    total_bytes_sec: _PerSecond | None = None
    """Bytes read and written per second, together."""
    read_bytes_sec: _PerSecond | None = None
    """Bytes read per second."""
    write_bytes_sec: _PerSecond | None = None
    """Bytes written per second."""
    total_iops_sec: _Operations | None = None
    """Reads and writes per second, together."""
    read_iops_sec: _Operations | None = None
    """Reads per second."""
    write_iops_sec: _Operations | None = None
    """Writes per second."""

    @model_validator(mode="after")
    def _either_or(self) -> DiskLimits:
        if why := contradiction(dict(self)):
            raise ValueError(why)
        return self

    def limits(self) -> dict[str, int]:
        """Return the limits by name. If one limit of bytes is set, the others are 0 unless set. The same applies to operations."""
        limits = {key: value for key, value in self if value is not None}
        for kind in ("bytes", "iops"):
            names = [f"{part}_{kind}_sec" for part in ("total", "read", "write")]
            if any(name in limits for name in names):
                limits = {**dict.fromkeys(names, 0), **limits}
        return limits


class Bandwidth(StrictModel):
    """Limits of one direction of a network interface. mom rounds them down to whole KiB."""

    average: _Bandwidth
    """Long-term rate."""
    peak: _Bandwidth | None = None
    """Highest rate during a burst."""
    burst: _Bandwidth | None = None
    """Maximum amount of data at the peak rate."""

    def limits(self) -> dict[str, int]:
        """Return the limits by name, in whole KiB or KiB/s."""
        return {key: size >> 10 for key, size in self if size is not None}


class NetLimits(StrictModel):
    """Limits of a network interface, as the guest sees it. An unset direction has no limit."""

    inbound: Bandwidth | None = None
    """Traffic that the guest receives."""
    outbound: Bandwidth | None = None
    """Traffic that the guest sends."""

    def direction(self, name: str) -> dict[str, int]:
        """Return the limits of `inbound` or `outbound`; empty without limits."""
        bandwidth = self.inbound if name == "inbound" else self.outbound
        return {} if bandwidth is None else bandwidth.limits()


class QosSettings(PluginSettings):
    """Switches of the default policies."""

    cpu_limits: bool = False
    """Enforce the agreed CPU limits of guests (`vcpu_user_limit`), with the policy 60_cpu_limits."""
    io_limits: bool = False
    """Enforce the agreed limits of disks (`maximum` in `io_tune`), with the policy 70_io_limits."""


class QosGuestSettings(mom_core.GuestSettings):
    """Limits of a guest. They override the limits agreed in the guest's metadata. They apply without a policy."""

    cpu_limit: Annotated[Percent, Field(gt=0, le=100)] | None = None
    """CPU time of the guest as a share of all the host's CPUs, such as `25%`; `100%` is no limit."""
    cpu_shares: Annotated[int, Field(ge=SHARES[0], le=SHARES[1])] | None = None
    """Weight of the guest when CPUs are short. The usual value is 1024 with cgroups v1, and 100 with v2, where 10000 is the maximum."""
    io_limit: DiskLimits | None = None
    """Limits of each of the guest's disks."""
    disk_limits: dict[str, DiskLimits] | None = None
    """Limits of single disks, keyed by name, such as `vda`. For these disks, they replace `io_limit`."""
    net_limit: NetLimits | None = None
    """Limits of each of the guest's network interfaces."""

    def disk(self, name: str) -> dict[str, int]:
        """Return a disk's configured limits; empty without any."""
        limits = (self.disk_limits or {}).get(name, self.io_limit)
        return {} if limits is None else limits.limits()
