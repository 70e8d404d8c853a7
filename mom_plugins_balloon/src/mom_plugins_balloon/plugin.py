"""Hooks of the `balloon` plugin: suggest, review, set and restore guests' sizes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from mom_core import (
    Change,
    Columns,
    Condition,
    ControlSpec,
    Decision,
    Declaration,
    DefaultPolicy,
    Finding,
    Guest,
    Hypervisor,
    HypervisorError,
    PluginContext,
    Problem,
    Revision,
    Scope,
    Severity,
    Snapshot,
    Source,
    Suggestion,
    Target,
    Value,
    hookimpl,
)
from mom_kvm import (
    HealthLimits,
    Launches,
    MovePreparation,
    PolicyTexts,
    ProcessStat,
    Promises,
    Reservations,
    late_hook,
    pid_of,
    stale_seconds,
)
from mom_plugins_balloon import cloudstack, harm
from mom_plugins_balloon.balloon_state import BalloonFile
from mom_plugins_balloon.ballooned_guests import BalloonedGuests, CycleFacts
from mom_plugins_balloon.fields import COLUMNS, FIELDS, TARGET
from mom_plugins_balloon.gate import ShrinkLimits, permitted
from mom_plugins_balloon.launches import HostLaunches
from mom_plugins_balloon.learning import Learning
from mom_plugins_balloon.moves import LeavingGuests
from mom_plugins_balloon.names import AHEAD, CONTROL, GAIN, REASON, RESERVED, SUGGESTED
from mom_plugins_balloon.parameters import BalloonGuestSettings, BalloonSettings
from mom_plugins_balloon.problems import conditions, findings, promise_problems
from mom_plugins_balloon.promises import Guaranteed, Guarantees
from mom_plugins_balloon.reservations import HostReservations, policies_reserve
from mom_plugins_balloon.resizer import Resizer
from mom_plugins_balloon.seen import suggestions
from mom_plugins_balloon.started_sizes import StartedSizes
from mom_plugins_balloon.states import HostWanted, HostWatermarks
from mom_plugins_balloon.sweep.sweeper import REACTION, SweptGuests

NEEDED = (
    (Scope.HOST, "mem_really_available"),
    *((Scope.GUEST, name) for name in ("balloon_cur", "balloon_max", "mem_usable", "stats_age")),
)

_DECLARE = "enable the plugin host, and a hypervisor plugin for the guests' fields"

_UNCOOPERATIVE = "its memory is in use, or its balloon driver does not work"

SOCKETS = ("run/libvirt/libvirt-sock", "run/libvirt/virtqemud-sock", "var/run/libvirt/libvirt-sock")


class BalloonPlugin:
    """Controller of guests' balloons. It never shrinks a guest below its need."""

    Settings = BalloonSettings
    GuestSettings = BalloonGuestSettings

    def __init__(self, settings: BalloonSettings, context: PluginContext) -> None:
        self._settings = settings
        self._context = context
        self._looked: Snapshot | None = None
        self._runs = False  # False for a sample of `mom policy eval`
        self._guests = BalloonedGuests(settings.law.start_rest, self._age_of)
        self._file = BalloonFile(context)
        self._sweeps = SweptGuests(context, self._guests)
        self._learning = Learning(settings.remember_bursts, settings.law.growth_rate / 1024)
        self._killed = harm.RecentKills()
        self._host = HostWatermarks(HostWanted(settings.goal, _kib(settings.host_free), _kib(settings.host_hard)))
        self._started = StartedSizes(context, self._file)
        self._guarantees = Guarantees(context, self._guarantee_of, settings.host_reserve, self._started.kib_of)
        self._reservations = HostReservations(
            settings.reservations, settings.law, context, self._guests, self._file, self._limits, self._why_none_gives
        )
        self._launches = HostLaunches(settings.reservations.launches, self._reservations, context)
        self._leaving = LeavingGuests(context, settings.law, self._host.wanted, self._guests, self._limits, self._started)
        self._resizer = Resizer(
            context, self._guests, self._file, self._sweeps, self._leaving, self._started, limits=self._limits, see=self._see
        )

    @staticmethod
    @hookimpl
    def mom_suggest(root: Path) -> Suggestion | None:
        if (root / "dev/kvm").exists():
            reason = "this host runs KVM guests (/dev/kvm)"
        elif any((root / socket).exists() for socket in SOCKETS):
            reason = "libvirt runs on this host"
        else:
            return None
        if cloudstack.is_here(root):
            return Suggestion(f"{reason}, for Apache CloudStack", {}, 40, cloudstack.FOR_GUESTS, cloudstack.WHY)
        return Suggestion(reason, order=40)

    @hookimpl
    def mom_declare(self) -> Iterable[Declaration]:
        policy = files("mom_plugins_balloon").joinpath("balloon.policy").read_text(encoding="utf-8")
        return (*FIELDS, TARGET, DefaultPolicy("50_balloon", policy), *COLUMNS, *harm.COLUMNS)

    @hookimpl
    def mom_services(self) -> Mapping[type, Any]:
        return {Reservations: self._reservations, Launches: self._launches, Promises: self._guarantees, MovePreparation: self._leaving}

    @hookimpl
    def mom_setup(self) -> None:
        self._runs = True
        changed = self._guests.changed_before = self._started.before_mom().keys()
        requests = self._file.state.requests.items()
        self._guests.asked_before = {key: note for key, note in requests if (key, note.incarnation) in changed}

    @hookimpl
    def mom_teardown(self) -> None:
        """End all sweeps."""
        self._sweeps.stop_all()
        self._sweeps.follow()
        self._resizer.note_requests()
        self._file.leave()

    def _why_none_gives(self) -> str:
        if self._context.observes:
            return "mom only observes"
        policies = self._context.service(PolicyTexts)
        return "no enabled plugin has policies" if policies is None else _why_policies_take_none(policies)

    @hookimpl
    def mom_check(self) -> Iterable[Finding]:
        lacks = self._lacks()
        return [Finding(Severity.WARNING, "balloon law", lacks, _DECLARE)] if lacks else []

    def _lacks(self) -> str:
        missing = [f"{scope}.{name}" for scope, name in NEEDED if (scope, name) not in self._context.declarations.fields]
        return f"the balloon law suggests no sizes: no plugin declares {', '.join(missing)}" if missing else ""

    @hookimpl
    def mom_derive(self, snapshot: Snapshot) -> Snapshot.Derived:
        guests = None
        if self._runs:
            self._see(snapshot)
            self._killed.see(self._guests, self._host.state)
            guests = [*self._guests.described.memories.values()]
        law, interval = self._settings.law, self._context.interval
        suggested, ahead = suggestions(snapshot, law, self._host.wanted, self._limits(), interval=interval, guests=guests)
        columns: dict[str, Sequence[Value]] = {
            SUGGESTED: [None if size.target is None else int(size.target) for size in suggested],
            REASON: [str(size.code) for size in suggested],
            **harm.guest_columns(snapshot, HealthLimits.reasons(snapshot), self._killed),
        }
        if any(size.gain for size in suggested):
            columns[GAIN] = [None if size.gain is None else int(size.gain) for size in suggested]
        return Snapshot.Derived({**harm.host_fields(snapshot, self._killed), **({AHEAD: int(ahead)} if ahead else {})}, Columns(columns))

    @hookimpl
    def mom_collect_host(self) -> Mapping[str, Value]:
        self._reservations.load()
        return {
            **self._guarantees.standing.fields(),
            **self._host.fields(self._learning.growth_kib),
            RESERVED: self._reservations.reserved_kib(),
            REACTION: round(self._sweeps.reaction, 2),
            "guests_set_aside": self._guests.set_aside,
        }

    @hookimpl
    def mom_collect_guests(self, guests: Sequence[Guest]) -> Columns:
        self._reservations.load()
        self._sweeps.follow()
        records, now = self._guests.of_all(guests), self._context.monotonic()
        columns = {
            **self._learning.columns(records),
            **self._sweeps.columns(guests, records, now),
            **self._guests.columns(guests, now),
            **self._started.columns(guests),
            **self._guarantees.columns(guests),
        }
        return Columns({name: column for name, column in columns.items() if column.count(None) < len(column)})

    def _age_of(self, guest: Guest) -> float | None:
        pid, proc = pid_of(guest), self._context.root / "proc"
        process = ProcessStat.of(proc / str(pid)) if pid else None
        return None if process is None else process.age(proc)

    def _guarantee_of(self, guest: Guest) -> Guaranteed | None:
        settings = self._context.guest_settings(guest)
        return settings.guarantee if isinstance(settings, BalloonGuestSettings) else None

    def _see(self, snapshot: Snapshot) -> None:
        looked = self._looked
        if looked is not None and snapshot.listed is looked.listed and snapshot.monotonic == looked.monotonic:
            self._guests.snapshot = snapshot  # only derived fields have changed
        else:
            self._guests.see(snapshot)
            self._started.see(self._guests)
            promises, moving = self._guarantees.look(snapshot), self._leaving.moving(snapshot)
            self._guests.describe(CycleFacts(promises, moving, restores=not self._context.observes))
        self._looked = snapshot  # not after an error: then the review must fail too, and drop all decisions

    @hookimpl
    def mom_act(self, snapshot: Snapshot) -> Iterable[Decision]:
        """Stop unsafe shrinks, undo useless ones, and serve guests that will be moved."""
        self._see(snapshot)
        source, standing = Source(self._context.name), self._guarantees.standing
        self._resizer.note_requests()
        self._file.save()
        self._learning.see(self._guests)
        self._host.see(snapshot.host, self._learning.growth_kib, self._learning.room_kib)
        yield from self._leaving.decisions(snapshot, source)
        yield from self._resizer.stopped_shrinks(standing.holds, source)

    @hookimpl
    def mom_problems(self, snapshot: Snapshot) -> Iterable[Problem | Condition]:
        source, standing = Source(self._context.name), self._guarantees.standing
        if self._context.declarations.fields and (lacks := self._lacks()):
            yield Problem(source, lacks, severity=Severity.WARNING, hint=_DECLARE)
        for reservation in self._reservations.follow():
            message = f"reservation {reservation.id}: {reservation.note}"
            yield Problem(source, message, severity=Severity.WARNING, hint="see `mom reserve list`")
        yield from promise_problems(standing, source)
        policies = self._context.service(PolicyTexts)
        yield from conditions(snapshot, self._host.state, standing, lambda: _why_policies_take_none(policies))
        yield from harm.conditions(snapshot, self._killed)
        for guest, memory in zip(snapshot.listed, self._guests.of_all(snapshot.listed), strict=True):
            if why := memory.cooperation.why_aside:
                message = f"the guest does not give memory: {why}"
                yield Problem(source, message, guest.entity, Severity.WARNING, _UNCOOPERATIVE)

    @hookimpl
    def mom_review(self, snapshot: Snapshot, decisions: Sequence[Decision]) -> Iterable[Revision]:
        self._see(snapshot)
        limits = self._limits()
        sizes = [decision for decision in decisions if decision.control == CONTROL and decision.entity.id in snapshot.guests]
        revisions = [self._reviewed(decision, limits) for decision in sizes]
        return [revision for revision in revisions if revision is not None]

    def _reviewed(self, decision: Decision, limits: ShrinkLimits) -> Revision | None:
        memory = self._resizer.permitting(decision.entity.id, decision.value)
        if memory is None:
            return Revision(decision, None, "the guest's present size is unknown")
        passed = permitted(decision.value, memory, limits)
        target = passed.size
        return Revision(decision, None if target is None else replace(decision, value=target), passed.reason) if passed.reason else None

    def _limits(self) -> ShrinkLimits:
        # A reload may change the interval, and with it the age limit of statistics.
        settings = self._settings
        return ShrinkLimits(settings.reserve / 1024, settings.reserve_percent / 100, stale_seconds(self._context.interval))

    @hookimpl
    def mom_read(
        self, hypervisor: Hypervisor, targets: Sequence[Target]
    ) -> Mapping[Target, Value | ControlSpec.InTransition | HypervisorError]:
        return self._resizer.read(hypervisor, targets)

    @hookimpl
    def mom_write(self, hypervisor: Hypervisor, changes: Sequence[Change]) -> Mapping[Target, HypervisorError | str]:
        return self._resizer.write(hypervisor, changes)

    mom_status = late_hook("mom_plugins_balloon.explanation:host_parts", "report")

    mom_explainer = late_hook("mom_plugins_balloon.explanation:BalloonExplainer")

    @hookimpl
    def mom_doctor(self, hypervisor: Hypervisor | None) -> Iterable[Finding]:
        yield from findings(hypervisor, self._guarantees)
        yield from cloudstack.findings(self._context.root, hypervisor, self._guarantees, self._started)


def _why_policies_take_none(policies: PolicyTexts | None) -> str:
    if policies is None or policies_reserve(policy.text for policy in policies.state().texts.values()):
        return ""
    return f"no policy in force reads {SUGGESTED} (the balloon law's suggestions) or Host.{RESERVED}"


def _kib(size: int | None) -> float | None:
    return None if size is None else size / 1024
