"""The limits that libvirt and QEMU accept, why a value is none of them, and which CPU quota is a part of the host's CPU time. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from mom_core import Refused, Value, as_whole

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
