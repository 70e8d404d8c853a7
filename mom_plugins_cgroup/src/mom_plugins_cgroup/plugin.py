"""The plugin: reads the control groups of guests, decides what the settings ask for, reviews all plugins' decisions, sets and puts back."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path

from mom_core import (
    Change,
    ControlSpec,
    Decision,
    FieldSpec,
    Finding,
    Guest,
    Hypervisor,
    HypervisorError,
    NotSupported,
    PermissionDenied,
    PluginContext,
    Problem,
    Refused,
    Revision,
    Severity,
    Snapshot,
    Source,
    Target,
    Value,
    hookimpl,
)
from mom_plugins_cgroup import control
from mom_plugins_cgroup.fields import CONTROLS, FIELDS
from mom_plugins_cgroup.files import Files, KernelFiles
from mom_plugins_cgroup.findings import findings
from mom_plugins_cgroup.groups import NOTHING_KNOWN, GuestGroups, all_present, groups_of, hindrance
from mom_plugins_cgroup.host import disk_number, memory_of
from mom_plugins_cgroup.knobs import FILES_V2
from mom_plugins_cgroup.limits import wishes_of
from mom_plugins_cgroup.names import CURRENT, MEMORY_HIGH, RECLAIM, RECLAIM_STATE, RECLAIMED, REFAULTS, STALL
from mom_plugins_cgroup.need import Need, need_of
from mom_plugins_cgroup.proactive import Reclaimer
from mom_plugins_cgroup.reclaim import Observed
from mom_plugins_cgroup.review import HostBounds, Judge, reviewed, room_for
from mom_plugins_cgroup.settings import CgroupGuestSettings, CgroupSettings, GroupLimits
from mom_plugins_cgroup.statistics import Counters, other_pressure, sample
from mom_toolkit import NO_PROMISES, Enforcement, Explainer, Hierarchies, Promises, SetValue, stale_seconds

_IN_TURN = 100
"""How many guests are looked at closely in one cycle: ten more files for each, which for a thousand would be a tenth of a second."""

_AGAIN_SECONDS = 600.0
"""How long it is believed that a control may not be written."""


@dataclass(slots=True)
class _FollowedGuest:
    """What is kept of a guest from cycle to cycle.

    `standing` is what its controls were last seen at, `denied` maps those that could not be written to the reason, and until when it is
    believed; `looked` is False when it has to be looked at again in any case.
    """

    incarnation: str
    property_: Value
    groups: GuestGroups = NOTHING_KNOWN
    counters: Counters | None = None
    standing: dict[str, Value] = field(default_factory=dict)
    closely: dict[str, Value] = field(default_factory=dict)
    denied: dict[str, tuple[str, float]] = field(default_factory=dict)
    reclaims: bool = False
    looked: bool = False


class CgroupPlugin:
    """Control groups of guests: fields, limits, protection, proactive reclaim."""

    Settings = CgroupSettings
    GuestSettings = CgroupGuestSettings

    def __init__(self, settings: CgroupSettings, context: PluginContext) -> None:
        self._settings = settings
        self._context = context
        self._source = Source(context.name)
        self._files: Files = KernelFiles()
        self._hierarchies = Hierarchies(context.root)
        self._enforcement = Enforcement(context.name, CONTROLS, lambda guest, control: self._hindrance(guest.id, control))
        self._reclaimer = Reclaimer(self._files, context.monotonic)
        self._seen: dict[str, _FollowedGuest] = {}
        self._turn = 0
        self._host = HostBounds(None, None, 4)

    # --- declare -----------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_fields(self) -> Iterable[FieldSpec]:
        """Memory, swap, refaults and pressure of guests' groups, and what their controls stand at."""
        return FIELDS

    @hookimpl
    def mom_controls(self) -> Iterable[ControlSpec]:
        """Limits, protection, weights, and reclaim."""
        return CONTROLS

    # --- collect -----------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_collect_guests(self, guests: Sequence[Guest]) -> Mapping[str, Mapping[str, Value]]:
        """The groups of all guests."""
        self._hierarchies.keep_fresh()
        self._host = memory_of(self._context.root, self._files)
        self._follow(guests)
        self._reclaimer.begin_cycle(self._seen)
        now = self._context.monotonic()
        close = self._whose_turn()
        return {guest.id: fields for guest in guests if (fields := self._fields_of(guest.id, guest.id in close, now))}

    def _follow(self, guests: Sequence[Guest]) -> None:
        before, self._seen = self._seen, {}
        for guest in guests:
            paths = guest.properties.get("cgroups")
            seen = before.get(guest.id)
            if seen is None or seen.incarnation != guest.incarnation:
                self._reclaimer.forget(guest.id)
                seen = _FollowedGuest(guest.incarnation, paths)
            elif seen.property_ != paths:  # the operator has moved it, or its groups are known only now
                seen = _FollowedGuest(guest.incarnation, paths)
            self._seen[guest.id] = seen

    def _whose_turn(self) -> set[str]:
        first = self._turn % max(1, len(self._seen))
        self._turn = first + _IN_TURN
        return set(islice(chain(islice(self._seen, first, None), self._seen), _IN_TURN))

    def _fields_of(self, identity: str, close: bool, now: float) -> dict[str, Value]:
        seen = self._seen[identity]
        if close or not seen.looked:
            seen.looked = True
            self._look_closely(seen)
        found = sample(seen.groups, self._files, now, seen.counters)
        seen.counters = found.counters
        fields = {**found.fields, **seen.closely, **seen.standing}
        if seen.reclaims:
            fields |= {RECLAIM: self._reclaimer.pace(identity), RECLAIMED: self._reclaimer.taken(identity)}
            fields[RECLAIM_STATE] = self._reclaimer.reason(identity)
        return fields

    def _look_closely(self, seen: _FollowedGuest) -> None:
        """Where its groups are, what its controls stand at, and what changes slowly."""
        seen.groups = groups_of(seen.property_, self._hierarchies, self._files)
        seen.standing = all_present(seen.groups, self._files)
        seen.closely = other_pressure(seen.groups, self._files)
        memory = seen.groups.group_of(RECLAIM)
        seen.reclaims = memory is not None and memory.unified and Path(memory.folder, FILES_V2[RECLAIM]).exists()

    # --- evaluate ----------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_act(self, snapshot: Snapshot) -> Iterable[Decision | Problem]:
        """What the YAML file asks for."""
        numbers: dict[str, str | None] = {}

        def number_of(name: str) -> str | None:
            if name not in numbers:
                numbers[name] = disk_number(self._context.root, self._files, name)
            return numbers[name]

        wishes: dict[str, Mapping[str, SetValue]] = {}
        for guest in snapshot.guests.values():
            wishes[guest.id] = wishes_of(guest, self._limits_of(guest), self._settings, self._need_of(guest), number_of)
        found = list(self._enforcement.decide(snapshot, wishes))
        for name in [name for name, number in numbers.items() if number is None]:
            message = f"limits of the disk {name!r:.60} are set in the YAML file, and the host has no such whole disk"
            found.append(Problem(self._source, message, severity=Severity.WARNING, hint="see lsblk"))
        return found

    def _limits_of(self, guest: Guest) -> GroupLimits | None:
        found = self._context.guest_settings(guest)
        return found.cgroup if isinstance(found, CgroupGuestSettings) else None

    def _need_of(self, guest: Guest) -> Need:
        promises = self._context.service(Promises) or NO_PROMISES
        return need_of(
            guest,
            promises.guaranteed_kib(guest),
            self._settings.overhead >> 10,
            stale_seconds(self._context.interval, self._settings.stale_after),
        )

    def _hindrance(self, identity: str, name: str) -> str:
        seen = self._seen.get(identity)
        if seen is None:
            return "the guest is not known yet"
        denied = seen.denied.get(name)
        if denied is not None and time.monotonic() < denied[1]:
            return denied[0]
        there = seen.reclaims if name == RECLAIM else name in seen.standing
        missing = f"its control group has no file for {name}"
        return hindrance(name, seen.groups) or ("" if there or not seen.looked else missing)

    # --- review ------------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_review(self, snapshot: Snapshot, decisions: Sequence[Decision]) -> Iterable[Revision]:
        """Refuse what makes no sense, push no guest below its need, and decide how much each may lose to reclaim in this cycle."""
        judge = Judge(self._host, self._need_of, self._is_unified, self._hindrance, self._settings.reclaim_stall)
        revisions = list(reviewed(snapshot, decisions, judge))
        dropped = {(one.before.entity.id, one.before.control) for one in revisions if one.after is None}
        for decision in decisions:
            guest = snapshot.guests.get(decision.entity.id)
            if guest is None or decision.control != RECLAIM or (guest.id, RECLAIM) in dropped:
                continue
            pace = decision.value
            if not isinstance(pace, int) or pace < 0:
                revisions.append(Revision(decision, None, "a pace is 0 or more KiB per second"))
            elif pace:
                observed = self._observed(guest)
                self._reclaimer.allow(guest.id, observed, pace, self._settings.reclaim_stall, self._context.interval)
        return revisions

    def _is_unified(self, identity: str, name: str) -> bool:
        seen = self._seen.get(identity)
        group = None if seen is None else seen.groups.group_of(name)
        return group is not None and group.unified

    def _observed(self, guest: Guest) -> Observed:
        need = self._need_of(guest)
        current, stall, refaults = guest.number(CURRENT), guest.number(STALL), guest.number(REFAULTS)
        return Observed(
            None if current is None else int(current),
            need.kib,
            None if stall is None else stall / 100,
            None if refaults is None else refaults * self._host.page_kib,
            room_for(guest.fields, self._host.swap_free_kib),
            need.why_not,
        )

    # --- control -----------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_read(self, hypervisor: Hypervisor, targets: Sequence[Target]) -> Mapping[Target, Value | HypervisorError]:
        """What the controls stand at, and how fast memory is being taken."""
        groups = self._groups_of(hypervisor, {target.entity.id for target in targets})
        found: dict[Target, Value | HypervisorError] = {}
        for target in targets:
            identity, name = target.entity.id, target.control
            if name == RECLAIM:  # nothing is left of it but the order
                found[target] = self._reclaimer.pace(identity)
            elif identity in groups:
                found[target] = value = control.read(name, groups[identity], self._files)
                self._note(identity, name, value)
        return found

    @hookimpl
    def mom_write(self, hypervisor: Hypervisor, changes: Sequence[Change]) -> Mapping[Target, HypervisorError]:
        """Set what was decided, and take what may be taken."""
        until = time.monotonic() + self._settings.deadline / 2
        groups = self._groups_of(hypervisor, {change.entity.id for change in changes})
        errors: dict[Target, HypervisorError] = {}
        for change in changes:
            identity, name = change.entity.id, change.control
            try:
                if name == RECLAIM:
                    self._order(change)
                elif name == MEMORY_HIGH and not change.back and time.monotonic() > until:
                    raise Refused("there was no time left for it in this cycle")  # older kernels reclaim before such a write returns
                else:
                    control.write(name, change.value, groups.get(identity, NOTHING_KNOWN), self._files)
            except (NotSupported, PermissionDenied) as error:
                self._deny(identity, name, error)
                errors[change.target] = Refused(error.message, hint=error.hint)
            except HypervisorError as error:
                errors[change.target] = error
        folders = {
            change.entity.id: group.folder
            for change in changes
            if change.control == RECLAIM and (group := groups.get(change.entity.id, NOTHING_KNOWN).group_of(RECLAIM)) is not None
        }
        for identity, failure in self._reclaimer.take(folders).items():
            self._deny(identity, RECLAIM, failure)
        return errors

    def _groups_of(self, hypervisor: Hypervisor, identities: AbstractSet[str]) -> dict[str, GuestGroups]:
        """The groups of these guests, also of those that were not collected yet: what is put back after a crash is. Raises
        `HypervisorError`."""
        known = {identity: seen.groups for identity in identities if (seen := self._seen.get(identity)) is not None and seen.looked}
        if identities - known.keys():
            self._hierarchies.refresh()
            known |= {
                guest.id: groups_of(guest.properties.get("cgroups"), self._hierarchies, self._files)
                for guest in hypervisor.guests()
                if guest.id in identities - known.keys()
            }
        return known

    def _note(self, identity: str, name: str, value: Value | HypervisorError) -> None:
        """What a control of a guest was seen at; where that is not known, the guest is looked at again."""
        seen = self._seen.get(identity)
        if seen is None:
            return
        if isinstance(value, HypervisorError):
            seen.looked = False
        else:
            seen.standing[name] = value

    def _deny(self, identity: str, name: str, error: HypervisorError) -> None:
        """Do not try that in each cycle; say it once in the log, and in the status for as long as it lasts."""
        if str(error) not in {reason for one in self._seen.values() for reason, _ in one.denied.values()}:
            self._context.log.warning("%s cannot be set: %s", name, error)
        seen = self._seen.get(identity)
        if seen is not None:
            seen.denied[name] = str(error), time.monotonic() + _AGAIN_SECONDS

    def _order(self, change: Change) -> None:
        """Put a pace in force, or end it; what may be taken by it was decided in the review."""
        pace, reason = change.value, "" if change.back else self._hindrance(change.entity.id, RECLAIM)
        if reason or not isinstance(pace, int):
            raise Refused(reason or "a pace is a number")
        self._reclaimer.order(change.entity.id, pace)

    # --- surface -----------------------------------------------------------------------------------------------------------------

    @staticmethod
    @hookimpl
    def mom_explainer() -> Explainer:
        """The guest's control group."""
        from mom_plugins_cgroup.explanation import GroupExplainer

        return GroupExplainer()

    @hookimpl
    def mom_doctor(self, hypervisor: Hypervisor | None) -> Iterable[Finding]:
        """Which control groups there are, whether they can be set, and who else sets them."""
        return findings(self._context, self._hierarchies, self._files, hypervisor, self._settings)
