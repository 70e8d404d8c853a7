"""The limits that stand, as fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mom_core import CpuTune, DiskTune, FieldSpec, Scope, Unit, Value
from mom_plugins_host.qos.bounds import CPU_SHARES, PERIOD, QUOTA
from mom_plugins_host.qos.lists import present_disks
from mom_plugins_host.qos.settings import QosGuestSettings

USER_LIMIT, DISKS, DISKS_NOW, INTERFACES = "vcpu_user_limit", "io_tune", "io_tune_current", "net_tune"
HOST_CPUS, VCPUS = "cpu_count", "vcpu_count"


_CPU_SOURCE, _DISK_SOURCE = "the hypervisor's CPU limits", "the hypervisor's I/O limits"
_USER_SOURCE = "guests: cpu_limit in the YAML file; else the guest's metadata, vcpuLimit of oVirt"
_AGREED_SOURCE = f"{_DISK_SOURCE}; io_limit and disk_limits in the YAML file; the guest's metadata, ioTune of oVirt"
_DISKS_ABOUT = "for each disk `name`, `path`, and its limits: `current`, and what was agreed, `maximum` and `guaranteed`"
_NET_ABOUT = "for each network interface `name`, `inbound` and `outbound`: `average` and `peak` in KiB/s, `burst` in KiB; empty: no limit"

_FIELDS = (
    (QUOTA, Unit.MICROSECONDS, "CPU time that each vCPU may use in every period; -1: no limit", _CPU_SOURCE),
    (PERIOD, Unit.MICROSECONDS, "the period that vcpu_quota is for", _CPU_SOURCE),
    (CPU_SHARES, Unit.COUNT, "the guest's weight when CPUs are short", _CPU_SOURCE),
    (USER_LIMIT, Unit.PERCENT, "CPU time that was agreed for the guest, of all the host's CPUs; 100: nothing was agreed", _USER_SOURCE),
    (DISKS, Unit.LIST, _DISKS_ABOUT, _AGREED_SOURCE),
    (DISKS_NOW, Unit.LIST, "for each disk `name`, `path` and the limits that stand now; 0: none", _DISK_SOURCE),
    (INTERFACES, Unit.LIST, _NET_ABOUT, "the hypervisor's bandwidth limits"),
)

FIELDS = (
    *(FieldSpec(name, unit, Scope.GUEST, about, source) for name, unit, about, source in _FIELDS),
    FieldSpec.reads(VCPUS, Unit.COUNT, Scope.GUEST),
    FieldSpec.reads(HOST_CPUS, Unit.COUNT, Scope.HOST),
)


def cpu_fields(tune: CpuTune, settings: QosGuestSettings) -> dict[str, Value]:
    """The limits of a guest's CPU time."""
    limit = tune.user_limit_percent if settings.cpu_limit is None else settings.cpu_limit
    return {QUOTA: tune.quota_us, PERIOD: tune.period_us, CPU_SHARES: tune.shares, USER_LIMIT: limit}


def disk_fields(tunes: Sequence[DiskTune], settings: QosGuestSettings) -> dict[str, Value]:
    """The limits of a guest's disks, in both forms, of the same order."""
    return {DISKS: [_disk(tune, settings.disk(tune.name)) for tune in tunes], DISKS_NOW: present_disks(tunes)}


def _disk(tune: DiskTune, set_here: Mapping[str, int]) -> dict[str, Value]:
    maximum = {**(tune.maximum or {}), **set_here}
    return {
        "name": tune.name,
        "path": tune.path,
        "guaranteed": _all_six(tune.guaranteed or {}),
        "maximum": _all_six(maximum),
        "current": _all_six(tune.current),
    }


def _all_six(limits: Mapping[str, int]) -> dict[str, Value]:
    """Policies name all six: what is unknown is nil, and no error."""
    return {key: limits.get(key) for key in DiskTune.LIMITS}
