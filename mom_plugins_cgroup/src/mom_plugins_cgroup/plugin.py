"""The plugin: reads the control groups of guests, decides what the settings ask for, reviews everybody's decisions, sets and puts back."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path

from mom_core import (
    ControlSpec,
    Decision,
    FieldSpec,
    Finding,
    Guest,
    Hypervisor,
    HypervisorError,
    LedgerEntry,
    Outcome,
    PluginContext,
    Problem,
    Revision,
    Severity,
    Snapshot,
    Source,
    Status,
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
from mom_plugins_cgroup.limits import Enforcement, Wish, wishes_of
from mom_plugins_cgroup.mounts import Hierarchies
from mom_plugins_cgroup.names import CURRENT, MEMORY_HIGH, RECLAIM, RECLAIM_STATE, RECLAIMED, REFAULTS, STALL
from mom_plugins_cgroup.need import Need, need_of, number_in
from mom_plugins_cgroup.proactive import Reclaimer
from mom_plugins_cgroup.reclaim import Observed
from mom_plugins_cgroup.reviewing import Host, Judge, reviewed, room_for
from mom_plugins_cgroup.settings import CgroupGuestSettings, CgroupSettings, GroupLimits
from mom_plugins_cgroup.statistics import Counters, other_pressure, sample

_IN_TURN = 100
"""How many guests are looked at closely in one cycle: ten more files for each, which for a thousand would be a tenth of a second."""

_MOUNTS_SECONDS = 60.0
"""How long the list of mounts is believed. On a host with containers it is long, and what guests use is mounted at its start."""

_AGAIN_SECONDS = 600.0
"""How long it is believed that a control may not be written."""

STALE_CYCLES = 3
LEAST_STALE_SECONDS = 10.0
"""Statistics of guests come every few seconds; three missed ones are no accident."""


@dataclass(slots=True)
class _Seen:
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
    set_by_mom: dict[str, Value] = field(default_factory=dict)
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
        self._mounts_until = 0.0
        self._enforcement = Enforcement(context.name)
        self._reclaimer = Reclaimer(self._files, context.monotonic)
        self._seen: dict[str, _Seen] = {}
        self._turn = 0
        self._host = Host(None, None, 4)

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
        self._refresh_mounts()
        self._host = memory_of(self._context.root, self._files)
        self._follow(guests)
        self._reclaimer.begin_cycle(self._seen)
        now = self._context.monotonic()
        close = self._whose_turn()
        return {guest.id: fields for guest in guests if (fields := self._fields_of(guest.id, guest.id in close, now))}

    def _refresh_mounts(self) -> None:
        if time.monotonic() >= self._mounts_until:
            self._hierarchies.refresh()
            self._mounts_until = time.monotonic() + _MOUNTS_SECONDS

    def _follow(self, guests: Sequence[Guest]) -> None:
        before, self._seen = self._seen, {}
        for guest in guests:
            paths = guest.properties.get("cgroups")
            seen = before.get(guest.id)
            if seen is None or seen.incarnation != guest.incarnation:
                self._reclaimer.forget(guest.id)
                seen = _Seen(guest.incarnation, paths)
            elif seen.property_ != paths:  # somebody has moved it, or its groups are known only now
                seen = _Seen(guest.incarnation, paths, set_by_mom=seen.set_by_mom)
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

    def _look_closely(self, seen: _Seen) -> None:
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

        wishes: dict[str, Mapping[str, Wish]] = {}
        for guest in snapshot.guests.values():
            wishes[guest.id] = wishes_of(guest, self._limits_of(guest), self._settings, self._need_of(guest), number_of)
        found = list(self._enforcement.decide(snapshot, wishes, self._hindrance))
        for name in [name for name, number in numbers.items() if number is None]:
            message = f"limits of the disk {name!r:.60} are set in the YAML file, and the host has no such whole disk"
            found.append(Problem(self._source, message, severity=Severity.WARNING, hint="see lsblk"))
        return found

    def _limits_of(self, guest: Guest) -> GroupLimits | None:
        found = self._context.guest_settings(guest)
        return found.cgroup if isinstance(found, CgroupGuestSettings) else None

    def _need_of(self, guest: Guest) -> Need:
        stale_after = self._settings.stale_after
        if stale_after is None:
            stale_after = max(LEAST_STALE_SECONDS, STALE_CYCLES * self._context.interval)
        return need_of(guest.fields, self._settings.overhead >> 10, stale_after)

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
        fields = guest.fields
        need = self._need_of(guest)
        current, stall, refaults = number_in(fields, CURRENT), number_in(fields, STALL), number_in(fields, REFAULTS)
        return Observed(
            None if current is None else int(current),
            need.kib,
            None if stall is None else stall / 100,
            None if refaults is None else refaults * self._host.page_kib,
            room_for(fields, self._host.swap_free_kib),
            need.why_not,
        )

    # --- control -----------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_control(self, decisions: Sequence[Decision]) -> Iterable[Outcome]:
        """Set what was decided, each value read back, and take what may be taken."""
        until = time.monotonic() + self._settings.deadline / 2
        outcomes = []
        for decision in decisions:
            if decision.control == RECLAIM:
                outcomes.append(self._reclaim(decision))
            elif decision.control == MEMORY_HIGH and time.monotonic() > until:  # older kernels reclaim before such a write returns
                outcomes.append(Outcome(decision, None, None, Status.REFUSED, "there was no time left for it in this cycle"))
            else:
                outcomes.append(self._set(decision))
        folders = {
            one.entity.id: group.folder
            for one in decisions
            if one.control == RECLAIM and (seen := self._seen.get(one.entity.id)) is not None
            if (group := seen.groups.group_of(RECLAIM)) is not None
        }
        for identity, error in self._reclaimer.take(folders).items():
            self._deny(self._seen[identity], RECLAIM, error)
        return outcomes

    def _set(self, decision: Decision) -> Outcome:
        seen = self._seen.get(decision.entity.id)
        if seen is None:
            return Outcome(decision, None, None, Status.GONE, control.GONE)
        name = decision.control
        outcome, error = control.set_one(decision, seen.groups, self._files, (seen.standing.get(name), seen.set_by_mom.get(name)))
        if error is not None:
            self._deny(seen, name, error)
        if outcome.after is not None:
            seen.standing[name] = outcome.after
        elif outcome.before is not None:  # it is not known what stands now
            seen.looked = False
        if outcome.status is Status.APPLIED:
            seen.set_by_mom[name] = outcome.after
        return outcome

    def _deny(self, seen: _Seen, name: str, error: HypervisorError) -> None:
        """Do not try that in each cycle; say it once in the log, and in the status for as long as it lasts."""
        if str(error) not in {reason for one in self._seen.values() for reason, _ in one.denied.values()}:
            self._context.log.warning("%s cannot be set: %s", name, error)
        seen.denied[name] = str(error), time.monotonic() + _AGAIN_SECONDS

    def _reclaim(self, decision: Decision) -> Outcome:
        identity = decision.entity.id
        seen, pace = self._seen.get(identity), decision.value
        if seen is None:
            return Outcome(decision, None, None, Status.GONE, control.GONE)
        reason = self._hindrance(identity, RECLAIM)
        if reason or not isinstance(pace, int):
            return Outcome(decision, None, None, Status.REFUSED, reason or "a pace is a number")
        before = self._reclaimer.pace(identity)
        self._reclaimer.order(identity, pace)
        return Outcome(decision, before, pace, Status.UNCHANGED if before == pace else Status.APPLIED)

    @hookimpl
    def mom_restore(self, hypervisor: Hypervisor, entries: Sequence[LedgerEntry]) -> Iterable[Outcome]:
        """Put back what stood there before mom, where it is still what mom made it."""
        try:
            guests = {guest.id: guest for guest in hypervisor.guests()}
        except HypervisorError as error:
            return [Outcome(control.decision_of(entry, self._source), None, None, Status.FAILED, str(error)) for entry in entries]
        self._hierarchies.refresh()
        return [self._put_back(entry, guests.get(entry.entity.id)) for entry in entries]

    def _put_back(self, entry: LedgerEntry, guest: Guest | None) -> Outcome:
        decision = control.decision_of(entry, self._source)
        if guest is None or guest.incarnation != entry.incarnation:
            return Outcome(decision, None, None, Status.GONE, control.GONE if guest is None else control.STARTED_ANEW)
        if entry.control == RECLAIM:  # nothing is left of it but the order
            before = self._reclaimer.pace(guest.id)
            self._reclaimer.order(guest.id, 0)
            return Outcome(decision, before, 0, Status.APPLIED if before else Status.UNCHANGED)
        groups = groups_of(guest.properties.get("cgroups"), self._hierarchies, self._files)
        outcome = control.put_back(entry, groups, self._files, self._source)
        seen = self._seen.get(guest.id)
        if seen is not None:
            seen.looked = False
            seen.set_by_mom.pop(entry.control, None)
        return outcome

    # --- surface -----------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_doctor(self, hypervisor: Hypervisor | None) -> Iterable[Finding]:
        """Which control groups there are, whether they can be set, and who else sets them."""
        return findings(self._context, self._hierarchies, self._files, hypervisor, self._settings)
