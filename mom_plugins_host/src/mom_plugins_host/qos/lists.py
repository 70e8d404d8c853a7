"""Limits as lists with one item per disk or network interface. Pure.

An item has all limits of its disk or interface, so mom can restore it. A decision names only changed items. Otherwise mom would own and
undo the others too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mom_core import CpuTune, DiskTune, FieldSpec, NetTune, Refused, Scope, Unit, Value, as_items, as_whole, printable
from mom_plugins_host.qos.settings import BANDWIDTH, CPU_SHARES, DIRECTIONS, PERIOD, QUOTA, QosGuestSettings, check_bandwidth, check_disk

Item = dict[str, Value]


def present_disks(tunes: Sequence[DiskTune]) -> list[Item]:
    """Return disks' current limits, in the form of `io_tune_current` and of `io_tune` decisions."""
    return [{"name": tune.name, "path": tune.path, **{key: tune.current.get(key) for key in DiskTune.LIMITS}} for tune in tunes]


def present_interfaces(tunes: Sequence[NetTune]) -> list[Item]:
    """Return interfaces' current limits, in the form of `net_tune`."""
    return [{"name": tune.name, "inbound": dict(tune.inbound), "outbound": dict(tune.outbound)} for tune in tunes]


def completed_disks(value: Value, present: Sequence[Item]) -> list[Item]:
    """Return a decision's disks with all limits. Absent limits keep their current value.

    :param value: a list of `{name, path, limits…}`; the path identifies a disk without a name
    :raises Refused: for unknown disks and invalid limits
    """
    disks, named = [dict(item) for item in present], set()
    for item in as_items(value) or ():
        disk = _match(item, disks, ("name", "path"), "disk")
        named.add(disk["name"])
        for key, limit in item.items():
            if key in {"name", "path"} or limit is None:
                continue
            if key not in DiskTune.LIMITS:
                raise Refused(f"{printable(str(key))} is not a limit of a disk; the limits are {', '.join(DiskTune.LIMITS)}")
            disk[key] = _number(limit, key)
        check_disk(printable(str(disk["name"])), {key: as_whole(disk[key]) or 0 for key in DiskTune.LIMITS})
    return [disk for disk in disks if disk["name"] in named]


def completed_interfaces(value: Value, present: Sequence[Item]) -> list[Item]:
    """Return interfaces, as `completed_disks` does. An empty direction has no limit."""
    interfaces, named = [dict(item) for item in present], set()
    for item in as_items(value) or ():
        interface = _match(item, interfaces, ("name",), "network interface")
        named.add(interface["name"])
        for key, limits in item.items():
            if key == "name" or limits is None:
                continue
            if key not in DIRECTIONS or not isinstance(limits, Mapping):
                raise Refused(f"{printable(str(key))} is not a direction (inbound, outbound) with limits")
            unknown = [name for name in limits if name not in BANDWIDTH or (name == "floor" and key == "outbound")]
            if unknown:
                raise Refused(f"{printable(str(unknown[0]))} is not an {key} limit of a network interface")
            numbers = {name: _number(limit, f"{key} {name}") for name, limit in limits.items() if limit is not None}
            check_bandwidth(printable(str(interface["name"])), key, numbers)
            interface[key] = dict(numbers)
    return [interface for interface in interfaces if interface["name"] in named]


def _match(item: Mapping[str, Value], present: Sequence[Item], keys: Sequence[str], kind: str) -> Item:
    key = next((key for key in keys if item.get(key)), None)
    match = next((device for device in present if device.get(key) == item[key]), None) if key is not None else None
    if match is not None:
        return match
    shown = printable(str(item.get("name") or item.get("path") or "without a name"))
    names = ", ".join(printable(str(device["name"])) for device in present)
    raise Refused(f"there is no {kind} {shown}" + (f"; there are {names}" if names else ""))


def _number(value: Value, name: str) -> int:
    number = int(value) if isinstance(value, float) and abs(value) < 1 << 62 else as_whole(value)
    if number is None:
        raise Refused(f"{printable(repr(value), 40)} is not a number for {name}")
    return number


USER_LIMIT, DISKS, DISKS_NOW, INTERFACES = "vcpu_user_limit", "io_tune", "io_tune_current", "net_tune"
HOST_CPUS, VCPUS = "cpu_count", "vcpu_count"


_CPU_SOURCE, _DISK_SOURCE = "the hypervisor's CPU limits", "the hypervisor's I/O limits"
_USER_SOURCE = "guests: cpu_limit in the YAML file; else the guest's metadata, vcpuLimit of oVirt"
_AGREED_SOURCE = f"{_DISK_SOURCE}; io_limit and disk_limits in the YAML file; the guest's metadata, ioTune of oVirt"
_DISKS_ABOUT = "for each disk `name`, `path`, and its limits: `current`, and the agreed `maximum` and `guaranteed`"
_NET_ABOUT = "for each network interface `name`, `inbound` and `outbound`: `average` and `peak` in KiB/s, `burst` in KiB; empty: no limit"

_FIELDS = (
    (QUOTA, Unit.MICROSECONDS, "CPU time that each vCPU may use in every period; -1: no limit", _CPU_SOURCE),
    (PERIOD, Unit.MICROSECONDS, "period of vcpu_quota", _CPU_SOURCE),
    (CPU_SHARES, Unit.COUNT, "the guest's weight when CPUs are short", _CPU_SOURCE),
    (USER_LIMIT, Unit.PERCENT, "CPU time agreed for the guest, as a share of all the host's CPUs; 100: no limit was agreed", _USER_SOURCE),
    (DISKS, Unit.LIST, _DISKS_ABOUT, _AGREED_SOURCE),
    (DISKS_NOW, Unit.LIST, "for each disk `name`, `path` and its current limits; 0: no limit", _DISK_SOURCE),
    (INTERFACES, Unit.LIST, _NET_ABOUT, "the hypervisor's bandwidth limits"),
)

FIELDS = (
    *(FieldSpec(name, unit, Scope.GUEST, about, source) for name, unit, about, source in _FIELDS),
    FieldSpec.reads(VCPUS, Unit.COUNT, Scope.GUEST),
    FieldSpec.reads(HOST_CPUS, Unit.COUNT, Scope.HOST),
)


def cpu_fields(tune: CpuTune, settings: QosGuestSettings) -> dict[str, Value]:
    """Return fields of CPU limits."""
    limit = tune.user_limit_percent if settings.cpu_limit is None else settings.cpu_limit
    return {QUOTA: tune.quota_us, PERIOD: tune.period_us, CPU_SHARES: tune.shares, USER_LIMIT: limit}


def disk_fields(tunes: Sequence[DiskTune], settings: QosGuestSettings) -> dict[str, Value]:
    """Return agreed and current disk limits, in the same order."""
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
    return {key: limits.get(key) for key in DiskTune.LIMITS}
