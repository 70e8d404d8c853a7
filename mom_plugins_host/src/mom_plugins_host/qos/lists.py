"""Limits as lists, one mapping for each disk or network interface: how a field shows them, and what a decision makes of them. Pure.

A disk or interface that is named is so with all of its limits, so that what stands, what is decided and what the ledger keeps can be
compared, and put back. A decision names those only that it is about: what it named besides would count as set by mom, also where another
process has set it, and would be undone with the rest.

The limits that stand, as fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mom_core import CpuTune, DiskTune, FieldSpec, NetTune, Refused, Scope, Unit, Value, as_items, as_whole, printable
from mom_plugins_host.qos.settings import BANDWIDTH, CPU_SHARES, DIRECTIONS, PERIOD, QUOTA, QosGuestSettings, check_bandwidth, check_disk

Item = dict[str, Value]


def present_disks(tunes: Sequence[DiskTune]) -> list[Item]:
    """The limits that stand, as `io_tune_current` and `io_tune` decisions hold it."""
    return [{"name": tune.name, "path": tune.path, **{key: tune.current.get(key) for key in DiskTune.LIMITS}} for tune in tunes]


def present_interfaces(tunes: Sequence[NetTune]) -> list[Item]:
    """The limits that stand, as `net_tune` holds it."""
    return [{"name": tune.name, "inbound": dict(tune.inbound), "outbound": dict(tune.outbound)} for tune in tunes]


def completed_disks(value: Value, present: Sequence[Item]) -> list[Item]:
    """The list that a decision comes to: the disks that it names, with what it does not mention, or says nil for, as it stands.

    :param value: a list of `{name, path, limits…}`; a disk is found by its name, or by its path where it has no name
    :raises Refused: for what no disk has, and for limits that the hypervisor would not take
    """
    wanted, meant = [dict(item) for item in present], set()
    for given in as_items(value) or ():
        disk = _found(given, wanted, ("name", "path"), "disk")
        meant.add(disk["name"])
        for key, limit in given.items():
            if key in {"name", "path"} or limit is None:
                continue
            if key not in DiskTune.LIMITS:
                raise Refused(f"{printable(str(key))} is no limit of a disk; there are {', '.join(DiskTune.LIMITS)}")
            disk[key] = _number(limit, key)
        check_disk(printable(str(disk["name"])), {key: as_whole(disk[key]) or 0 for key in DiskTune.LIMITS})
    return [item for item in wanted if item["name"] in meant]


def completed_interfaces(value: Value, present: Sequence[Item]) -> list[Item]:
    """As `completed_disks`, for `{name, inbound, outbound}`: a direction that is given stands for itself, an empty one for no limit."""
    wanted, meant = [dict(item) for item in present], set()
    for given in as_items(value) or ():
        interface = _found(given, wanted, ("name",), "network interface")
        meant.add(interface["name"])
        for key, limits in given.items():
            if key == "name" or limits is None:
                continue
            if key not in DIRECTIONS or not isinstance(limits, Mapping):
                raise Refused(f"{printable(str(key))} is no direction of a network interface with its limits")
            unknown = [name for name in limits if name not in BANDWIDTH or (name == "floor" and key == "outbound")]
            if unknown:
                raise Refused(f"{printable(str(unknown[0]))} is no limit of a network interface's {key} side")
            numbers = {name: _number(limit, f"{key} {name}") for name, limit in limits.items() if limit is not None}
            check_bandwidth(printable(str(interface["name"])), key, numbers)
            interface[key] = dict(numbers)
    return [item for item in wanted if item["name"] in meant]


def _found(given: Mapping[str, Value], wanted: Sequence[Item], keys: Sequence[str], what: str) -> Item:
    for key in keys:
        if given.get(key):
            there = [item for item in wanted if item.get(key) == given[key]]
            if there:
                return there[0]
            break
    shown = printable(str(given.get("name") or given.get("path") or "without a name"))
    has = ", ".join(printable(str(item["name"])) for item in wanted)
    raise Refused(f"there is no {what} {shown}" + (f"; there are {has}" if has else ""))


def _number(value: Value, what: str) -> int:
    number = int(value) if isinstance(value, float) and abs(value) < 1 << 62 else as_whole(value)
    if number is None:
        raise Refused(f"{printable(repr(value), 40)} is no number for {what}")
    return number


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
