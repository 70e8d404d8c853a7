"""Limits on any hypervisor: fields, controls, review, reading and writing.

Limits of disks and network interfaces are lists with one item per device. An item contains all limits of its device, so that mom can
restore them. A decision contains only the items that change. Otherwise, mom would also own, and later undo, the limits of other devices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from mom_core import (
    Change,
    ControlSpec,
    CpuTune,
    Decision,
    DiskTune,
    Entity,
    FieldSpec,
    GuestGone,
    Hypervisor,
    HypervisorError,
    NetTune,
    NotSupported,
    Refused,
    Revision,
    Scope,
    Snapshot,
    Target,
    Unit,
    Value,
    as_items,
    as_whole,
    printable,
)
from mom_kvm import capable, set_each
from mom_plugins_host.capabilities import CpuTuneControl, IoTuneControl, NetTuneControl, read_together
from mom_plugins_host.qos.settings import (
    BANDWIDTH,
    CPU_SHARES,
    DIRECTIONS,
    NO_QUOTA,
    PERIOD,
    PERIOD_US,
    QUOTA,
    QUOTA_US,
    QosGuestSettings,
    check_bandwidth,
    check_disk,
    cpu_complaint,
)

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
    return _completed(value, present, ("name", "path"), "disk", _change_disk)


def completed_interfaces(value: Value, present: Sequence[Item]) -> list[Item]:
    """Return a decision's interfaces with all limits, like `completed_disks`. An empty direction has no limit."""
    return _completed(value, present, ("name",), "network interface", _change_interface)


def _completed(value: Value, present: Sequence[Item], keys: Sequence[str], kind: str, change: Callable[[Item, Item], None]) -> list[Item]:
    devices, named = [dict(item) for item in present], set()
    for item in as_items(value) or ():
        device = _match(item, devices, keys, kind)
        named.add(device["name"])
        change(device, {key: limit for key, limit in item.items() if key not in keys and limit is not None})
    return [device for device in devices if device["name"] in named]


def _change_disk(disk: Item, limits: Item) -> None:
    for key, limit in limits.items():
        if key not in DiskTune.LIMITS:
            raise Refused(f"{printable(str(key))} is not a limit of a disk; the limits are {', '.join(DiskTune.LIMITS)}")
        disk[key] = _number(limit, key)
    check_disk(printable(str(disk["name"])), {key: as_whole(disk[key]) or 0 for key in DiskTune.LIMITS})


def _change_interface(interface: Item, directions: Item) -> None:
    for key, limits in directions.items():
        if key not in DIRECTIONS or not isinstance(limits, Mapping):
            raise Refused(f"{printable(str(key))} is not a direction (inbound, outbound) with limits")
        unknown = [name for name in limits if name not in BANDWIDTH or (name == "floor" and key == "outbound")]
        if unknown:
            raise Refused(f"{printable(str(unknown[0]))} is not an {key} limit of a network interface")
        numbers = {name: _number(limit, f"{key} {name}") for name, limit in limits.items() if limit is not None}
        check_bandwidth(printable(str(interface["name"])), key, numbers)
        interface[key] = dict(numbers)


def _match(item: Mapping[str, Value], present: Sequence[Item], keys: Sequence[str], kind: str) -> Item:
    key = next((key for key in keys if item.get(key)), None)
    match = next((device for device in present if device.get(key) == item[key]), None) if key is not None else None
    if match is not None:
        return match
    shown = printable(str(item.get("name") or item.get("path") or "without a name"))
    names = ", ".join(printable(str(device["name"])) for device in present)
    raise Refused(f"there is no {kind} {shown}" + (f"; the guest has {names}" if names else ""))


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
_DISKS_ABOUT = "one entry for each disk: `name`, `path`, the limits in force (`current`), and the agreed limits `maximum` and `guaranteed`"
_NET_ABOUT = "one entry for each network interface: `name`, and limits `inbound` and `outbound`: `average`, `peak` (KiB/s), `burst` (KiB)"

_FIELDS = (
    (QUOTA, Unit.MICROSECONDS, "CPU time that each vCPU may use in every period; -1: no limit", _CPU_SOURCE),
    (PERIOD, Unit.MICROSECONDS, "period of vcpu_quota", _CPU_SOURCE),
    (CPU_SHARES, Unit.COUNT, "the guest's weight when CPUs are short", _CPU_SOURCE),
    (USER_LIMIT, Unit.PERCENT, "CPU time agreed for the guest, as a share of all the host's CPUs; 100: no limit was agreed", _USER_SOURCE),
    (DISKS, Unit.LIST, _DISKS_ABOUT, _AGREED_SOURCE),
    (DISKS_NOW, Unit.LIST, "one entry for each disk: `name`, `path` and its current limits; 0: no limit", _DISK_SOURCE),
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


_LISTS = {DISKS: (DISKS_NOW, completed_disks), INTERFACES: (INTERFACES, completed_interfaces)}


def reviewed(snapshot: Snapshot, decisions: Sequence[Decision]) -> Iterable[Revision]:
    """Yield revisions: refused values, and lists to which missing limits were added."""
    pairs: dict[str, list[Decision]] = {}
    for decision in decisions:
        if decision.control in {QUOTA, PERIOD}:
            pairs.setdefault(decision.entity.id, []).append(decision)
        elif decision.control == CPU_SHARES:
            complaint = cpu_complaint(CPU_SHARES, decision.value)
            if complaint:
                yield Revision(decision, None, complaint)
        elif decision.control in _LISTS:
            revision = _reviewed_list(snapshot, decision)
            if revision is not None:
                yield revision
    for pair in pairs.values():
        yield from _reviewed_pair(pair)


def _reviewed_pair(pair: Sequence[Decision]) -> Iterable[Revision]:
    complaint = next((text for decision in pair if (text := cpu_complaint(decision.control, decision.value))), "")
    for decision in pair:
        if complaint:
            yield Revision(decision, None, complaint)
        elif decision.control == QUOTA and (as_whole(decision.value) or 0) < NO_QUOTA:
            yield Revision(decision, replace(decision, value=NO_QUOTA), "a negative quota means no limit")


def _reviewed_list(snapshot: Snapshot, decision: Decision) -> Revision | None:
    field, complete = _LISTS[decision.control]
    guest = snapshot.guests.get(decision.entity.id)
    present = None if guest is None else guest.fields.get(field)
    if not isinstance(present, list):
        return None  # the core refuses changes that mom cannot undo
    if decision.value == present:  # as in most cycles
        return None
    items: list[Item] = [dict(item) for item in present if isinstance(item, dict)]
    try:
        completed = complete(decision.value, items)
    except Refused as error:
        return Revision(decision, None, str(error))
    if completed == decision.value:
        return None
    return Revision(decision, replace(decision, value=completed), "completed with the device's present limits")


CPU_CONTROLS = (QUOTA, PERIOD, CPU_SHARES)

_DIRECTIONS = "`inbound` and `outbound` with `average`, `peak` (KiB/s) and `burst` (KiB)"

# The controls have no bounds: mom refuses an impossible quota or period, rather than set a bound that nobody intended.
_CONTROLS = (
    (QUOTA, Unit.MICROSECONDS, f"CPU time that each vCPU may use in every period: {QUOTA_US[0]} to {QUOTA_US[1]}, or -1 for no limit"),
    (PERIOD, Unit.MICROSECONDS, f"period of vcpu_quota: {PERIOD_US[0]} to {PERIOD_US[1]}"),
    (CPU_SHARES, Unit.COUNT, "the guest's weight when CPUs are short: 2 to 262144 with cgroups v1, 1 to 10000 with v2"),
    (DISKS, Unit.LIST, f"limits of disks: for each its `name`, and any of {', '.join(f'`{key}`' for key in DiskTune.LIMITS)}; 0: no limit"),
    (INTERFACES, Unit.LIST, f"limits of network interfaces: for each its `name`, and {_DIRECTIONS}"),
)
CONTROLS = tuple(
    ControlSpec(name, unit, Scope.GUEST, about, DISKS_NOW if name == DISKS else name, key="name" if unit is Unit.LIST else "")
    for name, unit, about in _CONTROLS
)


def read(hypervisor: Hypervisor, targets: Sequence[Target]) -> Mapping[Target, Value | HypervisorError]:
    """Return current limits, with one call per kind for all guests."""
    return read_together(targets, [(controls, partial(read_all, hypervisor)) for controls, read_all in _READ_TOGETHER])


def write(hypervisor: Hypervisor, changes: Sequence[Change]) -> Mapping[Target, HypervisorError]:
    """Set limits; one call sets all CPU limits of a guest."""
    errors = set_each((change for change in changes if change.control not in CPU_CONTROLS), partial(_set_list, hypervisor))
    cpu: dict[Entity, dict[str, Change]] = {}
    for change in changes:
        if change.control in CPU_CONTROLS:
            cpu.setdefault(change.entity, {})[change.control] = change
    # Quota and period are one limit: if only one changes, mom also sends the current value of the other.
    halves = [guest for guest, controls in cpu.items() if len(controls.keys() & {QUOTA, PERIOD}) == 1]
    current = _cpu(hypervisor, halves) if halves else {}
    for guest, controls in cpu.items():
        try:
            _set_cpu(hypervisor, guest, controls, current.get(guest.id, {}))
        except HypervisorError as error:
            errors |= {change.target: error for change in controls.values()}
    return errors


def _cpu(hypervisor: Hypervisor, guests: Sequence[Entity]) -> Mapping[str, Mapping[str, Value]]:
    tunes = capable(hypervisor, CpuTuneControl, "limit CPU time").cpu_tunes(guests)
    return {identity: {QUOTA: tune.quota_us, PERIOD: tune.period_us, CPU_SHARES: tune.shares} for identity, tune in tunes.items()}


def _disks(hypervisor: Hypervisor, guests: Sequence[Entity]) -> Mapping[str, Mapping[str, Value]]:
    io_tunes = capable(hypervisor, IoTuneControl, "limit disks").io_tunes(guests)
    return {identity: {DISKS: _without_paths(present_disks(tunes))} for identity, tunes in io_tunes.items()}


def _interfaces(hypervisor: Hypervisor, guests: Sequence[Entity]) -> Mapping[str, Mapping[str, Value]]:
    net_tunes = capable(hypervisor, NetTuneControl, "limit network interfaces").net_tunes(guests)
    return {identity: {INTERFACES: present_interfaces(tunes)} for identity, tunes in net_tunes.items()}


_READ_TOGETHER = ((CPU_CONTROLS, _cpu), ((DISKS,), _disks), ((INTERFACES,), _interfaces))


def _without_paths(disks: Sequence[Item]) -> list[Item]:
    # A new disc in a drive changes no limit.
    return [{key: value for key, value in disk.items() if key != "path"} for disk in disks]


def _set_cpu(hypervisor: Hypervisor, guest: Entity, changes: Mapping[str, Change], current: Mapping[str, Value]) -> None:
    values = {control: as_whole(change.value) for control, change in changes.items()}
    if (values.get(QUOTA) or 0) < 0:
        values[QUOTA] = NO_QUOTA
    pair = {QUOTA, PERIOD} & values.keys()
    quota, period = (values.get(control, as_whole(current.get(control))) if pair else None for control in (QUOTA, PERIOD))
    capable(hypervisor, CpuTuneControl, "limit CPU time").set_cpu_tune(guest, quota, period, values.get(CPU_SHARES))


def _set_list(hypervisor: Hypervisor, change: Change) -> None:
    present = [dict(item) for item in as_items(change.found) or ()]
    complete, set_one = (completed_disks, _set_disk) if change.control == DISKS else (completed_interfaces, _set_interface)
    errors: list[HypervisorError] = []
    for item in complete(change.value, present):
        if item in present:
            continue
        try:
            set_one(hypervisor, change.entity, str(item["name"]), item)
        except GuestGone:
            raise
        except HypervisorError as error:
            errors.append(error)
    if errors:
        kind = NotSupported if all(isinstance(error, NotSupported) for error in errors) else HypervisorError
        raise kind("; ".join(map(str, errors)))


def _set_disk(hypervisor: Hypervisor, guest: Entity, name: str, item: Mapping[str, Value]) -> None:
    limits = {key: number for key in DiskTune.LIMITS if (number := as_whole(item.get(key))) is not None}
    capable(hypervisor, IoTuneControl, "limit disks").set_io_tune(guest, name, limits)


def _set_interface(hypervisor: Hypervisor, guest: Entity, name: str, item: Mapping[str, Value]) -> None:
    inbound, outbound = (_numbers(item.get(direction)) for direction in DIRECTIONS)
    capable(hypervisor, NetTuneControl, "limit network interfaces").set_net_tune(guest, name, inbound, outbound)


def _numbers(limits: Value) -> dict[str, int]:
    if not isinstance(limits, Mapping):
        return {}
    return {key: number for key, value in limits.items() if (number := as_whole(value)) is not None}
