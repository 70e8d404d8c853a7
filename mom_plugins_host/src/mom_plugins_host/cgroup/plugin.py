"""Plugin `cgroup`: limits and protects memory of guests' control groups."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field

import mom_core
from mom_core import (
    Change,
    Decision,
    Declaration,
    Finding,
    Guest,
    GuestGone,
    Hypervisor,
    HypervisorError,
    NotSupported,
    PluginContext,
    PluginSettings,
    Problem,
    Refused,
    Revision,
    Size,
    Snapshot,
    StrictModel,
    Target,
    Value,
    hookimpl,
)
from mom_kvm import GroupLimit, Helper, Hierarchies, Promises, late_hook, read_meminfo, set_each, stale_seconds, write_group_files
from mom_plugins_host.capabilities import GrowthControl
from mom_plugins_host.cgroup import groups as cgroup
from mom_plugins_host.cgroup.groups import KNOBS, MEMORY_HIGH, NO_LIMIT, GuestGroup
from mom_plugins_host.cgroup.review import GroupNeed, HostBounds, need_of, reviewed
from mom_plugins_host.credit import control as growth
from mom_plugins_host.enforcement import Enforcement, SetValue

_Limit = Annotated[Size, Field(ge=0, le=1 << 60)] | Literal["max"]


class GroupLimits(StrictModel):
    """Values of a guest's control group. Unset values stay unchanged."""

    memory_high: _Limit | None = None
    """Above this, the kernel slows the guest down and reclaims its memory. mom sets no less than the guest needs."""
    memory_low: _Limit | None = None
    """Below this, the kernel reclaims memory of the guest only if other groups have no reclaimable memory."""
    memory_min: _Limit | None = None
    """Below this, the kernel never reclaims memory of the guest."""
    swap_max: _Limit | None = None
    """Maximum size of the guest's memory in the host's swap."""


class CgroupSettings(PluginSettings):
    """Settings for all guests. By default, everything is off."""

    protect: bool = False
    """Protect guaranteed memory from reclaim: sets memory.low to the guarantee."""
    credit: bool = False
    """Limit how fast guests grow while they could together exhaust the host's memory."""
    overhead: Size = 64 << 20
    """Memory of QEMU itself, in addition to the guest's need or guarantee."""


class CgroupGuestSettings(mom_core.GuestSettings):
    """Settings of a guest's control group."""

    cgroup: GroupLimits | None = None
    """Values of the guest's control group."""


_AT_ONCE: Final = 8
"""Number of files in one batch of writes. Older kernels reclaim memory for up to 0.1 s in each write."""

_NO_GROUP: Final = "the guest has no control group (v2) of its own with the memory controller"


class CgroupPlugin:
    """Memory, limits and protection of guests' control groups."""

    Settings = CgroupSettings
    GuestSettings = CgroupGuestSettings
    write: Callable[[Sequence[Helper.GroupWrite]], Sequence[HypervisorError | None]] = staticmethod(write_group_files)

    def __init__(self, settings: CgroupSettings, context: PluginContext) -> None:
        self._settings = settings
        self._context = context
        self._hierarchies = Hierarchies(context.root)
        self._enforcement = Enforcement(context, cgroup.CONTROLS)
        self._groups: dict[str, GuestGroup] = {}
        self._growth = growth.KernelGroups(context.root, self.write, context.log)
        self._credit = growth.GrowthCredit(context, self._growth, is_wanted=settings.credit)

    # --- declare and collect -----------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_declare(self) -> Iterable[Declaration]:
        return (*cgroup.FIELDS, *cgroup.CONTROLS, *growth.DECLARED)

    @hookimpl
    def mom_teardown(self) -> None:
        self._credit.stop()

    @hookimpl
    def mom_collect_guests(self, hypervisor: Hypervisor, guests: Sequence[Guest]) -> Mapping[str, Mapping[str, Value]]:
        self._hierarchies.keep_fresh()
        own_groups = {guest.id: cgroup.group_of(guest, self._hierarchies) for guest in guests}
        self._groups = {identity: group for identity, group in own_groups.items() if group is not None}
        if isinstance(hypervisor, GrowthControl):  # the simulator
            fields: dict[str, dict[str, Value]] = {}
            limits = self._credit.limiter.limits()
            for identity, kib in hypervisor.held_kib([guest.id for guest in guests]).items():
                fields[identity] = {cgroup.CURRENT: kib, MEMORY_HIGH: limits.get(identity, NO_LIMIT)}
        else:
            fields = {identity: cgroup.group_fields(group.folder) for identity, group in self._groups.items()}
        limitable = {name: own for name, own in fields.items() if growth.can_limit(self._groups.get(name), own)}
        self._growth.groups = {name: group for name, group in self._groups.items() if name in limitable}
        self._credit.add_fields(hypervisor, guests, limitable)
        return fields

    # --- decide and review -------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_problems(self, snapshot: Snapshot) -> Iterable[Problem]:
        # This also renews the limits of growth.
        self._credit.update(snapshot, lambda guest: self._need_of(guest).promised, self._settings.overhead >> 10)
        yield from self._enforcement.problems
        yield from self._credit.problems(snapshot)

    @hookimpl
    def mom_act(self, snapshot: Snapshot) -> Iterable[Decision]:
        # Decide in every cycle, because systemd resets the values when it reloads units.
        values = {guest.id: self._values_for(guest) for guest in snapshot.guests.values()}
        yield from self._enforcement.decide(snapshot, values)
        yield from self._credit.decisions(snapshot, {name for name, own in values.items() if MEMORY_HIGH in own})

    def _values_for(self, guest: Guest) -> dict[str, SetValue]:
        settings = self._context.guest_settings(guest)
        limits = settings.cgroup if isinstance(settings, CgroupGuestSettings) else None
        sizes = {control: getattr(limits, control.removeprefix("cgroup_")) for control in KNOBS if limits is not None}
        values = {control: SetValue(NO_LIMIT if size == "max" else size >> 10) for control, size in sizes.items() if size is not None}
        promised = self._need_of(guest).promised if self._settings.protect else 0
        if promised and cgroup.MEMORY_LOW not in values:
            values[cgroup.MEMORY_LOW] = SetValue(promised, "the guest's guarantee, and QEMU's own memory")
        return values

    def _need_of(self, guest: Guest) -> GroupNeed:
        promises = self._context.service(Promises) or Promises()
        return need_of(guest, promises.guaranteed_kib(guest), self._settings.overhead >> 10, stale_seconds(self._context.interval))

    @hookimpl
    def mom_review(self, snapshot: Snapshot, decisions: Sequence[Decision]) -> Iterable[Revision]:
        self._enforcement.hear(decisions)
        memory = read_meminfo(self._context.root)
        host = HostBounds(memory.get("MemTotal"), memory.get("SwapFree"), self._need_of, self._swap_limit_of)
        refused = list(self._credit.refused(decisions))
        yield from refused
        yield from reviewed(snapshot, [decision for decision in decisions if all(decision is not item.before for item in refused)], host)

    def _swap_limit_of(self, guest: Guest) -> GroupLimit | None:
        group, top = self._groups.get(guest.id), self._hierarchies.top(Hierarchies.UNIFIED)
        return None if group is None or top is None else GroupLimit.of_swap(group.folder, top)

    # --- control -----------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_read(self, hypervisor: Hypervisor, targets: Sequence[Target]) -> Mapping[Target, Value | HypervisorError]:
        groups = self._groups_of(hypervisor, {target.entity.id for target in targets})
        return {target: self._value_in(target, groups[target.entity.id]) for target in targets if target.entity.id in groups}

    def _value_in(self, target: Target, group: GuestGroup | None) -> Value | HypervisorError:
        control = target.control
        if control == growth.CREDIT:
            return self._credit.read(target.entity.id, None if group is None else cgroup.limit_of(MEMORY_HIGH, group.folder))
        if group is None:
            return NotSupported(_NO_GROUP)
        value = cgroup.limit_of(control, group.folder)
        if value is None and not Path(group.folder).is_dir():
            return GuestGone("its control group is gone")
        return NotSupported(f"its control group has no {KNOBS[control][0]}") if value is None else value

    @hookimpl
    def mom_write(self, hypervisor: Hypervisor, changes: Sequence[Change]) -> Mapping[Target, HypervisorError]:
        """Write the changes. After half of the deadline, refuse new values of `memory.high`."""
        until = time.monotonic() + self._settings.deadline / 2
        groups = self._groups_of(hypervisor, {change.entity.id for change in changes})
        failures = self._write_credit([change for change in changes if change.control == growth.CREDIT], groups)
        changes = [change for change in changes if change.control != growth.CREDIT]
        writes: dict[Target, Helper.GroupWrite] = {}

        def prepare(change: Change) -> None:
            group = groups.get(change.entity.id)
            if group is None or not isinstance(change.value, int):
                raise NotSupported(_NO_GROUP if group is None else "the limit is not a number")
            writes[change.target] = cgroup.limit_write(change.control, change.value, group)

        errors = {**failures, **set_each(changes, prepare)}
        pending = [change for change in changes if change.target in writes]
        while pending:
            batch, pending = pending[:_AT_ONCE], pending[_AT_ONCE:]
            if time.monotonic() > until:
                late = {change.target for change in batch if change.control == MEMORY_HIGH and not change.back}
                errors |= {target: Refused("no time was left in this cycle to write this value") for target in late}
                batch = [change for change in batch if change.target not in late]
            targets = [change.target for change in batch]
            for target, error in zip(targets, self.write([writes[target] for target in targets]), strict=True):
                if error is not None:
                    errors[target] = cgroup.explained(error, writes[target])
        return errors

    def _write_credit(self, changes: Sequence[Change], groups: Mapping[str, GuestGroup | None]) -> Mapping[Target, HypervisorError]:
        if not changes:
            return {}
        named = {change.entity.id: groups.get(change.entity.id) for change in changes}
        self._growth.groups = {**self._growth.groups, **{name: group for name, group in named.items() if group is not None}}
        return self._credit.write(changes)

    def _groups_of(self, hypervisor: Hypervisor, identities: AbstractSet[str]) -> Mapping[str, GuestGroup | None]:
        # After a crash, mom restores guests before it has collected them.
        if identities <= self._groups.keys():
            return self._groups
        self._hierarchies.refresh()
        return {guest.id: cgroup.group_of(guest, self._hierarchies) for guest in hypervisor.guests()}

    # --- surface -----------------------------------------------------------------------------------------------------------------

    mom_explainer = late_hook("mom_plugins_host.explanations:GroupExplainer")

    @hookimpl
    def mom_doctor(self, hypervisor: Hypervisor | None) -> Iterable[Finding]:
        return cgroup.findings(self._hierarchies, hypervisor, observes=self._context.observes)
