"""Plugin that stops or moves guests of a full host, and brings stopped guests back."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from mom_core import (
    Change,
    Decision,
    Declaration,
    Entity,
    Finding,
    Guest,
    GuestBusy,
    Hypervisor,
    HypervisorError,
    MomError,
    NoChangeNeeded,
    PluginContext,
    Problem,
    Refused,
    Report,
    Revision,
    Scope,
    Severity,
    Snapshot,
    Source,
    StateError,
    Status,
    Target,
    Value,
    format_duration,
    hookimpl,
    printable,
)
from mom_kvm import Destination, GuestMoves, GuestState, HostDrain, MovePreparation, Promises, late_hook
from mom_plugins_sla.eviction.jobs import AT_ONCE, Job, Jobs, JobState, states_of
from mom_plugins_sla.eviction.ladder import Announced, Ladder, climb
from mom_plugins_sla.eviction.movers.mover import LifecycleControl, why_failed
from mom_plugins_sla.eviction.permissions import Permissions
from mom_plugins_sla.eviction.recent_steps import RecentSteps
from mom_plugins_sla.eviction.requests import take_requests
from mom_plugins_sla.eviction.settings import CONTROLS, EVICTED, EVICTION_ERROR, FIELDS, EvictionSettings
from mom_plugins_sla.eviction.steps import (
    STEP_OF,
    EvictionCandidate,
    EvictionField,
    HostPressure,
    Quota,
    Step,
    candidate_of,
    needs_of,
    warning_of,
)

REQUESTS: Final = "undo"

NEED_UNKNOWN: Final = "the memory that the guest needs when it comes back is unknown"


class EvictionPlugin:
    """Plugin `eviction`."""

    Settings = EvictionSettings

    def __init__(self, settings: EvictionSettings, context: PluginContext) -> None:
        self._settings = settings
        self._context = context
        self._source = Source(context.name)
        self._ladder = Ladder(settings)
        self._announced: dict[tuple[str, Step], Announced] = {}
        self._recent = RecentSteps(context)
        self.jobs = Jobs(context, settings.timeout, self._recent)
        self._requests = context.state_directory / context.name / REQUESTS
        self._permissions = Permissions(settings, context)
        self._snapshot = Snapshot()
        self._enforces = False

    # --- life ------------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_declare(self) -> Iterable[Declaration]:
        return (*FIELDS, *CONTROLS)

    @hookimpl
    def mom_services(self) -> Mapping[type, Any]:
        return {GuestMoves: self._permissions}

    @hookimpl
    def mom_setup(self) -> None:
        self._recent.load()
        self.jobs.load()

    @hookimpl
    def mom_teardown(self) -> None:
        self.jobs.close()
        self._permissions.close()

    # --- collect ---------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_collect_host(self, hypervisor: Hypervisor) -> Mapping[str, Value]:
        self._permissions.hypervisor = hypervisor
        self._follow_mode(self._context.configuration().get("mode") == "enforce")
        if self._context.serves:
            self._recent.write_again()
            self.jobs.check_stopped(hypervisor)
            if self.jobs.are_moving:
                with suppress(HypervisorError):  # the next cycle retries
                    self.jobs.check_moves({guest.id for guest in hypervisor.guests()}, self._permissions.movers())
            self._take_requests(hypervisor)
        stopped = sum(not self.jobs.is_late(item) for item in self.jobs.stopped)
        return {"guests_stopped": stopped, "mem_promised_stopped": math.ceil(self.jobs.promised_kib)}

    @hookimpl
    def mom_collect_guests(self, hypervisor: Hypervisor, guests: Sequence[Guest]) -> Mapping[str, Mapping[str, Value]]:
        jobs = self.jobs
        announced = {guest: f"announced: {step}" for guest, step in self._announced}
        result: dict[str, Mapping[str, Value]] = {}
        for guest in guests:
            job, activity = jobs.get(guest.id), jobs.activity(guest.id)
            is_paused: bool | None = guest.properties.get("state") == "paused"
            if not is_paused and job is not None and job.step is Step.PAUSE:
                is_paused = True if job.state is JobState.DONE else None  # unknown without an answer
            result[guest.id] = {
                EVICTED: activity or (job.activity if job is not None and job.lost else announced.get(guest.id, "")),
                EVICTION_ERROR: "" if activity else printable(jobs.error(guest.id), 300),
                "guest_runs_at": hypervisor.uri,
                "guest_paused": None if is_paused is None else int(is_paused),
                "guest_saved": 0,
                "guest_off": 0,
            }
        return result

    def _follow_mode(self, enforces: bool) -> None:
        if enforces != self._enforces:
            self._keep_announced((), "mom only observes now")
            self._ladder.chosen, self._enforces = None, enforces

    def _take_requests(self, hypervisor: Hypervisor) -> None:
        for guest in take_requests(self._requests):
            job = self.jobs.get(guest)
            if job is not None and job.lost:
                self._context.log.warning("guest %s: the operator says that its move is over", printable(job.name))
                self.jobs.forget(guest)
            elif job is not None and job.state is JobState.DONE and self._enforces:
                self._recent.spare(guest, Step)
                self.jobs.resume(hypervisor, job, "the operator requests it")
            else:
                self._context.log.warning(
                    "mom ignores the request to resume the guest %s: mom did not stop this guest, or mom only observes", guest
                )

    # --- evaluate and review -----------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_problems(self, snapshot: Snapshot) -> Iterable[Problem]:
        for announcement in self._announced.values():
            if (guest := snapshot.guests.get(announcement.identity)) is not None:
                yield self._warning(announcement, guest)

    @hookimpl
    def mom_act(self, snapshot: Snapshot) -> Iterable[Decision]:
        """Decide at most one step, or resume one guest."""
        now, guests = snapshot.monotonic, snapshot.guests
        undo = climb(
            self._ladder,
            now,
            HostPressure.of(snapshot),
            self._candidates(snapshot),
            [item for item in self.jobs.stopped if not self.jobs.activity(item.guest) or item.state is JobState.BEGUN],
            busy=self.jobs.under_way > 0,
            held={guest: rss for guest in self._ladder.returned if guest in guests and (rss := guests[guest].number("rss")) is not None},
        )
        if self._ladder.chosen is not None:
            guest, step = snapshot.guests[self._ladder.chosen[0]], self._ladder.chosen[1]
            value: Value = str(self._settings.destination) if step is Step.MIGRATE else 1
            yield Decision(guest.entity, step.control, value, "the host stays full", self._source)
        if undo is not None:
            if self._enforces:
                self.jobs.resume(self._permissions.hypervisor, undo, "there is room again")
            else:
                self._context.log.info("guest %s would resume: there is room again", printable(undo.name))

    def _candidates(self, snapshot: Snapshot) -> list[EvictionCandidate]:
        if not self._settings.enabled:
            return []
        quota, destination = self._quota(snapshot), self._settings.destination
        candidates = []
        for guest in snapshot.guests.values():
            permitted = [step for step in Step if not self._why_not(step, guest, destination, quota)]
            candidates.append(candidate_of(guest, permitted))
        return list(filter(None, candidates))

    def _quota(self, snapshot: Snapshot) -> Quota:
        stopped, present = self.jobs.stopped, snapshot.guests
        guests, moved = len(present) + sum(item.guest not in present for item in stopped), self._recent.moved + self.jobs.leaving
        return Quota(self._settings.share, guests, guests + moved, len(stopped), moved)

    def _warning(self, announcement: Announced, guest: Guest) -> Problem:
        clock = time.strftime("%H:%M:%S", time.localtime(announcement.at))  # a constant text counts as one problem
        verb = "announced" if self._enforces else "mom only observes, but would announce"
        text = f"{verb}: {announcement.step} at {clock}, if it is still necessary then"
        return Problem(self._source, text, guest.entity, Severity.WARNING, "make room on the host, or move the guest away")

    @hookimpl
    def mom_review(self, snapshot: Snapshot, decisions: Sequence[Decision]) -> Iterable[Revision]:
        self._snapshot = snapshot
        quota, begun = self._quota(snapshot), self.jobs.under_way
        valid: list[tuple[str, Step]] = []
        revisions = []
        for decision in decisions:
            step, guest = STEP_OF.get(decision.control), snapshot.guests.get(decision.entity.id)
            if step is None or guest is None or decision.value == 0:
                continue
            drains = step is Step.MIGRATE and self._is_drained(decision)
            why = self._why_not(step, guest, decision.value, None if drains else quota)
            if not why and not drains:  # announced steps count too, so that mom announces no step that the limit forbids
                quota = quota.with_one(step)
                valid.append((guest.id, step))
                why = self._not_yet(guest, step, decision, snapshot.monotonic, begun)
                begun += not why and step is not Step.PAUSE
            if why:
                revisions.append(Revision(decision, None, why))
        self._keep_announced(valid, "it is no longer requested, or no longer permitted")
        return revisions

    def _not_yet(self, guest: Guest, step: Step, decision: Decision, now: float, begun: int) -> str:
        warning = warning_of(guest)
        announced = self._announced.setdefault(
            (guest.id, step), Announced(guest.id, guest.name, step, now + warning, self._snapshot.time + warning)
        )
        if now < announced.due:
            return f"announced; it begins in {format_duration(round(announced.due - now))} if it is still necessary then"
        if begun >= AT_ONCE:
            return f"announced; it waits for {AT_ONCE} other steps in progress"
        if decision.source == self._source:
            if self._ladder.waits(now):
                return "announced; it waits for the effect of the last step"
            self._ladder.begin(now)
        del self._announced[guest.id, step]
        return ""

    def _is_drained(self, decision: Decision) -> bool:
        return any(service.is_ordered(decision) for service in self._context.services(HostDrain))

    def _why_not(self, step: Step, guest: Guest, value: Value | Destination, quota: Quota | None) -> str:
        # Without a quota, the operator drains the host.
        if why := self._permissions.why_forbidden(step, guest, quota is None):
            return why
        job = self.jobs.get(guest.id)
        if job is not None and self.jobs.is_late(job):
            return f"an earlier step ({job.step}) has not ended in time, and may still take effect"
        if job is not None:
            activity = self.jobs.activity(guest.id) or (job.lost and f"{job.activity}: {job.lost}")
            return f"the guest is {activity}" if activity else f"mom has already taken a step: {job.step}"
        if step is Step.MIGRATE and (why := self._permissions.why_not_there(guest, value, quota is None)):
            return why
        if step is not Step.MIGRATE and needs_of(guest, step) is None:
            return NEED_UNKNOWN
        if quota is not None and self._recent.is_spared(guest.id, step):
            return "the step failed recently, or an operator resumed the guest: mom does not take this step for half an hour"
        return "" if quota is None else quota.why_reached(step)

    def _prepared(self, entity: Entity, seconds: float) -> str:
        # Runs in the thread that then calls the mover. If the preparation fails, the guest moves anyway.
        if not seconds:
            return ""
        for preparation in self._context.services(MovePreparation):
            try:
                result = preparation.prepare(entity, seconds)
            except Exception as error:  # noqa: BLE001  # containment: another plugin's error must not keep the guest here
                result = why_failed(error)
            self._context.log.info("guest %s, preparation of its move: %s", entity, printable(result, 300))
        guest = self._snapshot.guests.get(entity.id)
        if not self._enforces:
            return "mom only observes now"
        return "the guest was gone before its move" if guest is None else self._permissions.why_must_stay(guest)

    # --- control ---------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_read(self, hypervisor: Hypervisor, targets: Sequence[Target]) -> Mapping[Target, Value | HypervisorError]:
        paused = [target.entity for target in targets if target.control == Step.PAUSE.control]
        states = states_of(hypervisor, paused) if isinstance(hypervisor, LifecycleControl) else {}
        return {target: self._value(target, hypervisor.uri, states.get(target.entity.id)) for target in targets}

    def _value(self, target: Target, uri: str, state: GuestState | GuestBusy | None) -> Value | HypervisorError:
        if target.control == Step.MIGRATE.control:
            return uri
        if target.control == Step.PAUSE.control and isinstance(state, GuestBusy):
            return state
        if target.control != Step.PAUSE.control or state is not GuestState.PAUSED:
            return 0
        job = self.jobs.get(target.entity.id)
        if job is not None and job.step is Step.PAUSE:
            return 1
        return Refused("an operator paused the guest after mom's own pause had ended, so mom does not resume it")

    @hookimpl
    def mom_write(self, hypervisor: Hypervisor, changes: Sequence[Change]) -> Mapping[Target, HypervisorError]:
        """Start steps; the field guest_eviction shows their progress.

        When mom exits, it resumes only paused guests, because the host may be full.
        """
        errors: dict[Target, HypervisorError] = {}
        for change in changes:
            try:
                if change.back:
                    self._undo(hypervisor, change)
                elif change.value == 0:
                    errors[change.target] = NoChangeNeeded("")
                else:
                    self._begin(hypervisor, change)
            except HypervisorError as error:
                errors[change.target] = error
            except StateError as error:
                errors[change.target] = HypervisorError(f"mom takes no step that it cannot record: {error.message}")
            except MomError as error:
                errors[change.target] = HypervisorError(error.message, hint=error.hint)
        return errors

    def _undo(self, hypervisor: Hypervisor, change: Change) -> None:
        if change.control != Step.PAUSE.control or not isinstance(hypervisor, LifecycleControl):
            raise NoChangeNeeded("mom does not undo this step when mom stops")
        if hypervisor.standings([change.entity]).get(change.entity.id) is GuestState.PAUSED:
            hypervisor.resume(change.entity)
            self.jobs.forget(change.entity.id)
        elif self.jobs.may_pause(change.entity.id):
            raise GuestBusy("the hypervisor has not confirmed mom's pause, which may still take effect: check the guest in some minutes")

    def _begin(self, hypervisor: Hypervisor, change: Change) -> None:
        entity, step = change.entity, STEP_OF[change.control]
        guest = self._snapshot.guests.get(entity.id)
        if guest is None:
            raise MomError("this cycle's snapshot does not contain the guest")
        job = Job(entity.id, entity.name, step, time=self._snapshot.time)
        if step is Step.MIGRATE:
            destination = Destination.parse(change.value)
            mover = self._permissions.mover_to(destination)
            if isinstance(mover, str):
                raise MomError(mover)
            drained = self._is_drained(Decision(entity, change.control, change.value, source=change.source))
            job = replace(job, destination=destination, mover=mover.name, move=secrets.token_hex(16), drained=drained)
            seconds = self._settings.sweep if HostPressure.of(self._snapshot).has_time() else 0.0
            self.jobs.move(mover, replace(job, seconds=self._settings.timeout), lambda: self._prepared(entity, seconds))
            return
        needs = needs_of(guest, step, self._snapshot.host.number("swap_usage"))
        comes_back = guest.fields.get(EvictionField.COMES_BACK) != 0
        if needs is None:
            raise MomError(NEED_UNKNOWN)
        promised = (self._context.service(Promises) or Promises()).promised_kib(guest) or 0.0
        self.jobs.stop(hypervisor, replace(job, needs=needs, promised=promised, comes_back=comes_back))

    @hookimpl
    def mom_report(self, report: Report) -> None:
        for outcome in report.outcomes:
            step = STEP_OF.get(outcome.decision.control)
            if step is not None and outcome.status in (Status.FAILED, Status.REFUSED):
                self._recent.spare(outcome.decision.entity.id, [step])
        for revision in report.revisions:
            entity, step = revision.before.entity, STEP_OF.get(revision.before.control)
            is_refused = revision.after is None and revision.before.source == self._source
            if step is not None and is_refused and (entity.id, step) not in self._announced:
                self._recent.spare(entity.id, [step])

    def _keep_announced(self, kept: Collection[tuple[str, Step]], why: str) -> None:
        for key in [key for key in self._announced if key not in kept]:
            cancelled = self._announced.pop(key)
            self._context.log.warning("guest %s: step cancelled: %s: %s", printable(cancelled.name), cancelled.step, why)

    # --- for people ----------------------------------------------------------------------------------------------------------------

    mom_explainer = late_hook("mom_plugins_sla.presentation:EvictionExplainer")

    @hookimpl
    def mom_doctor(self, hypervisor: Hypervisor | None) -> Iterable[Finding]:
        subject, settings = "guests that leave", self._settings
        if not settings.enabled:
            yield Finding(Severity.OK, subject, "mom itself neither stops nor moves guests (enabled: false)")
        elif hypervisor is not None and not isinstance(hypervisor, LifecycleControl):
            yield Finding(Severity.WARNING, subject, f"{hypervisor.uri} cannot stop guests", "remove `enabled`, or use libvirt")
        elif (Scope.GUEST, EvictionField.MAY_SAVE) not in self._context.declarations.fields:
            text = "no plugin gives guests a class that permits steps, so no guest will leave"
            yield Finding(Severity.WARNING, subject, text, "enable a plugin with classes, such as sla")
        else:
            steps = "stops" if settings.destination is None else "stops or moves"
            yield Finding(Severity.OK, subject, f"when the host stays full, mom {steps} guests whose class allows it")
        if settings.destination is not None and hypervisor is not None:
            self._permissions.hypervisor = hypervisor
            mover = self._permissions.mover_to(settings.destination)
            if isinstance(mover, str):
                yield Finding(Severity.WARNING, subject, mover, "remove `destination`, or enable a mover that moves guests there")
