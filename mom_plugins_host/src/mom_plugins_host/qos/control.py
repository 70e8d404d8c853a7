"""Limits on any hypervisor: controls, review, reading and writing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from mom_core import (
    Change,
    ControlSpec,
    CpuTuneControl,
    Decision,
    DiskTune,
    Entity,
    GuestGone,
    Hypervisor,
    HypervisorError,
    IoTuneControl,
    NetTuneControl,
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
)
from mom_kvm import capable, read_together, set_each
from mom_plugins_host.qos.lists import (
    DISKS,
    DISKS_NOW,
    INTERFACES,
    Item,
    completed_disks,
    completed_interfaces,
    present_disks,
    present_interfaces,
)
from mom_plugins_host.qos.settings import CPU_SHARES, DIRECTIONS, NO_QUOTA, PERIOD, PERIOD_US, QUOTA, QUOTA_US, cpu_complaint

_LISTS = {DISKS: (DISKS_NOW, completed_disks), INTERFACES: (INTERFACES, completed_interfaces)}


def reviewed(snapshot: Snapshot, decisions: Sequence[Decision]) -> Iterable[Revision]:
    """Yield revisions: refusals, and completed lists."""
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
    possible: list[Mapping[str, Value]] = []
    complaints: list[str] = []
    for item in as_items(decision.value) or ():
        try:
            complete([*possible, item], items)
        except Refused as error:
            complaints.append(str(error))
        else:
            possible.append(item)
    completed = complete(possible, items)
    if complaints:
        return Revision(decision, replace(decision, value=completed) if completed else None, "; ".join(complaints))
    if completed == decision.value:
        return None
    return Revision(decision, replace(decision, value=completed), "completed with the present values")


CPU_CONTROLS = (QUOTA, PERIOD, CPU_SHARES)

_DIRECTIONS = "`inbound` and `outbound` with `average`, `peak` (KiB/s) and `burst` (KiB)"

# No bounds: mom refuses an impossible quota or period, because a bound would be another limit.
_CONTROLS = (
    (QUOTA, Unit.MICROSECONDS, f"CPU time that each vCPU may use in every period: {QUOTA_US[0]} to {QUOTA_US[1]}, or -1 for no limit"),
    (PERIOD, Unit.MICROSECONDS, f"period of vcpu_quota: {PERIOD_US[0]} to {PERIOD_US[1]}"),
    (CPU_SHARES, Unit.COUNT, "the guest's weight when CPUs are short: 2 to 262144 with cgroups v1, 1 to 10000 with v2"),
    (DISKS, Unit.LIST, f"limits of disks: for each `name`, and any of {', '.join(f'`{key}`' for key in DiskTune.LIMITS)}; 0: no limit"),
    (INTERFACES, Unit.LIST, f"limits of network interfaces: for each `name`, and {_DIRECTIONS}"),
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
