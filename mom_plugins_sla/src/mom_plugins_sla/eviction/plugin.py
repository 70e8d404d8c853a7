"""The plugin: owns the controls by which guests stop and leave, says who may, climbs the ladder, and lets guests come back."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from mom_core import (
    Change,
    Decision,
    Declaration,
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
from mom_kvm import (
    NO_PROMISES,
    Destination,
    EvictionField,
    GuestMoves,
    GuestState,
    HostDrain,
    LifecycleControl,
    MigrationControl,
    MovePreparation,
    MoveProgress,
    Mover,
    Promises,
    late_hook,
)
from mom_plugins_sla.eviction.fields import CONTROLS, EVICTED, EVICTION_ERROR, FIELDS
from mom_plugins_sla.eviction.jobs import AT_ONCE, MOVED, Job, Jobs, JobState, standings_of
from mom_plugins_sla.eviction.ladder import Announced, Announcements, Ladder, climb
from mom_plugins_sla.eviction.movers.hypervisor import HypervisorMover
from mom_plugins_sla.eviction.recent_steps import RecentSteps
from mom_plugins_sla.eviction.requests import take_requests
from mom_plugins_sla.eviction.settings import EvictionSettings
from mom_plugins_sla.eviction.steps import STEP_OF, EvictionCandidate, HostPressure, Step, candidate_of, most_stopped, needs_of, warning_of

REQUESTS: Final = "undo"


class EvictionPlugin:
    """Stops guests, or moves them away, when the host stays full."""

    Settings = EvictionSettings

    def __init__(self, settings: EvictionSettings, context: PluginContext) -> None:
        self._settings = settings
        self._context = context
        self._source = Source(context.name)
        self._ladder = Ladder(settings)
        self._announcements = Announcements()
        self._recent = RecentSteps(context)
        self.jobs = Jobs(context, settings.timeout, self._recent)
        self._requests = context.state_directory / context.name / REQUESTS
        self._hypervisor: Hypervisor | None = None
        self._own: HypervisorMover | None = None
        self._snapshot = Snapshot()
        self._enforces = False

    # --- life ------------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_declare(self) -> Iterable[Declaration]:
        """Return the rungs of the ladder: undone when there is room again, pauses also when mom ends."""
        return (*FIELDS, *CONTROLS)

    @hookimpl
    def mom_services(self) -> Mapping[type, Any]:
        """Return how guests are moved, for a plugin that empties the host."""
        return {GuestMoves: self}

    @hookimpl
    def mom_setup(self) -> None:
        """Find out whom an earlier run has stopped, and what it has done lately."""
        self._recent.load()
        self.jobs.load()

    @hookimpl
    def mom_teardown(self) -> None:
        """Begin nothing any more."""
        self.jobs.close()
        if self._own is not None:
            self._own.close()

    # --- collect ---------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_collect_host(self, hypervisor: Hypervisor) -> Mapping[str, Value]:
        """Return how many guests mom has stopped; and a look at what others did to them, or ask for."""
        self._hypervisor = hypervisor
        self._see_mode(self._context.configuration().get("mode") == "enforce")
        if self._context.serves:
            self._recent.write_again()
            self.jobs.see_stopped(hypervisor)
            self._take_requests(hypervisor)
        stopped = sum(not self.jobs.is_late(item) for item in self.jobs.stopped)
        return {"guests_stopped": stopped, "mem_promised_stopped": math.ceil(self.jobs.promised_kib)}

    @hookimpl
    def mom_collect_guests(self, hypervisor: Hypervisor, guests: Sequence[Guest]) -> Mapping[str, Mapping[str, Value]]:
        """Return how each guest is."""
        jobs = self.jobs
        if self._context.serves:
            jobs.see_moves({guest.id for guest in guests}, self._movers(), self._why_not_any_more)
        announced = {item.identity: f"announced: {item.step}" for item in self._announcements.waiting}
        result: dict[str, Mapping[str, Value]] = {}
        for guest in guests:
            job, doing = jobs.get(guest.id), jobs.doing(guest.id)
            is_paused: bool | None = guest.properties.get("state") == "paused"
            if not is_paused and job is not None and job.step is Step.PAUSE:
                is_paused = True if job.state is JobState.DONE else None  # it was not answered, and is unknown
            result[guest.id] = {
                EVICTED: doing or (job.what if job is not None and job.lost else announced.get(guest.id, "")),
                EVICTION_ERROR: "" if doing else printable(jobs.error(guest.id), 300),
                "guest_runs_at": hypervisor.uri,
                "guest_paused": None if is_paused is None else int(is_paused),
                "guest_saved": 0,
                "guest_off": 0,
            }
        return result

    def _see_mode(self, enforces: bool) -> None:
        """Begin anew under another mode: its steps were not announced to the same people."""
        if enforces != self._enforces:
            for item in self._announcements.keep(()):
                self._cancelled(item, "mom only observes now")
            self._ladder.chosen, self._enforces = None, enforces

    def _take_requests(self, hypervisor: Hypervisor) -> None:
        """`mom eviction undo` has looked whether they can be done."""
        for guest in take_requests(self._requests):
            job = self.jobs.get(guest)
            if job is not None and job.lost:
                self._context.log.warning("guest %s: the operator says that it is not being moved any more", printable(job.name))
                self.jobs.forget(guest)
            elif job is not None and job.state is JobState.DONE and self._enforces:
                self._recent.spare(guest, Step)
                self.jobs.resume(hypervisor, job, "the operator says so")
            else:
                self._context.log.warning("the request for the guest %s is not followed: mom has not stopped it, or only observes", guest)

    # --- evaluate and review -----------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_problems(self, snapshot: Snapshot) -> Iterable[Problem]:
        """Report guests that are announced to leave."""
        for announcement in self._announcements.waiting:
            if (guest := snapshot.guests.get(announcement.identity)) is not None:
                yield self._warning(announcement, guest)

    @hookimpl
    def mom_act(self, snapshot: Snapshot) -> Iterable[Decision]:
        """Climb, or go down, one step at most."""
        now, guests = snapshot.monotonic, snapshot.guests
        if not guests:
            self._see_last_moves()
        candidates = self._candidates(snapshot)
        undo = climb(
            self._ladder,
            now,
            HostPressure.of(snapshot),
            candidates,
            [item for item in self.jobs.stopped if not self.jobs.doing(item.guest) or item.state is JobState.BEGUN],
            self._guests(snapshot),
            gone=len(self._gone(snapshot)),
            moved=self._moved,
            busy=self.jobs.under_way > 0,
            held={item: rss for item in self._ladder.returned if item in guests and (rss := guests[item].number("rss")) is not None},
        )
        if self._ladder.chosen is not None:
            guest, step = snapshot.guests[self._ladder.chosen[0]], self._ladder.chosen[1]
            value: Value = str(self._settings.destination) if step is Step.MIGRATE else 1
            yield Decision(guest.entity, step.control, value, "the host stays full", self._source)
        if undo is not None:
            if self._enforces:
                self.jobs.resume(self._hypervisor, undo, "there is room again")
            else:
                self._context.log.info("guest %s would go on: there is room again", printable(undo.name))

    def _see_last_moves(self) -> None:
        """Ask for the moves of the host's last guests: where none is listed, no hook is asked about guests. A snapshot without guests may
        also be one whose guests are unknown, so the hypervisor is asked itself."""
        if self._context.serves and self._hypervisor is not None and self.jobs.are_moving:
            with suppress(HypervisorError):  # else another cycle will know
                here = {guest.id for guest in self._hypervisor.guests()}
                self.jobs.see_moves(here, self._movers(), self._why_not_any_more)

    def _candidates(self, snapshot: Snapshot) -> list[EvictionCandidate]:
        """Return which guests may be evicted: none to which something is being done, or was, and not by what has just failed."""
        if not self._settings.enabled:
            return []
        destination = self._settings.destination
        result = []
        for guest in snapshot.guests.values():
            one = candidate_of(guest, destination is not None and not self._why_not_there(guest, destination, drains=False))
            if one is not None and self.jobs.get(guest.id) is None:
                allowed = frozenset(step for step in one.allowed if not self._recent.is_spared(guest.id, step))
                result.append(replace(one, allowed=allowed))
        return result

    def _guests(self, snapshot: Snapshot) -> int:
        """Return how many there are, those that are stopped included."""
        return len(snapshot.guests) + sum(item.guest not in snapshot.guests for item in self.jobs.stopped) + len(self._gone(snapshot))

    @property
    def _moved(self) -> int:
        """How many guests were moved away within the last hour, or are about to be. A move that has failed has moved nobody."""
        return self._recent.moved + self.jobs.leaving

    def _gone(self, snapshot: Snapshot) -> Sequence[str]:
        """Return those that mom has stopped lately and that nothing lets go on, unless they run again all the same."""
        return [item for item in self._recent.gone if item not in snapshot.guests and self.jobs.get(item) is None]

    def _warning(self, one: Announced, guest: Guest) -> Problem:
        at = time.strftime("%H:%M:%S", time.localtime(one.at))  # the same text in all cycles: it is logged and counted as one problem then
        what = "announced" if self._enforces else "would be announced, did mom not only observe"
        return Problem(
            self._source,
            f"{what} for {at}, unless it is called off before: {one.step}",
            guest.entity,
            Severity.WARNING,
            "make room on the host, or move the guest away",
        )

    @hookimpl
    def mom_review(self, snapshot: Snapshot, decisions: Sequence[Decision]) -> Iterable[Revision]:
        """For all evaluators: only what a guest's class allows, after the warning that it promises, and never too many."""
        self._snapshot = snapshot
        now, guests = snapshot.monotonic, self._guests(snapshot)
        stopped, moved, begun = len(self.jobs.stopped) + len(self._gone(snapshot)), self._moved, self.jobs.under_way
        most, most_moved = most_stopped(guests, self._settings.share), most_stopped(guests + moved, self._settings.share)
        wanted: list[tuple[str, Step]] = []
        revisions = []
        for decision in decisions:
            step, guest = STEP_OF.get(decision.control), snapshot.guests.get(decision.entity.id)
            if step is None or guest is None or decision.value == 0:
                continue
            drains = step is Step.MIGRATE and self._is_drained(decision)
            why = self._why_not(step, guest, decision, drains)
            if not why and not drains:
                if self._recent.is_spared(guest.id, step):
                    why = "that did not work lately, or a person has let the guest go on: it is left alone for half an hour"
                elif step is Step.MIGRATE and moved >= most_moved:
                    why = f"{moved} guests were moved away within the last hour, and more than {most_moved} of {guests + moved} must not be"
                elif step is not Step.MIGRATE and stopped >= most:
                    why = f"{stopped} guests are stopped, or about to be, and more than {most} of {guests} must not be"
                else:  # what is only announced counts, too: no guest is to be announced that then must not go
                    stopped, moved = stopped + (step is not Step.MIGRATE), moved + (step is Step.MIGRATE)
                    wanted.append((guest.id, step))
                    why = self._not_yet(guest, step, decision, now, begun)
                    begun += not why and step is not Step.PAUSE
            if why:
                revisions.append(Revision(decision, None, why))
        for item in self._announcements.keep(wanted):
            self._cancelled(item, "it is not wanted any more, or must not be")
        return revisions

    def _not_yet(self, guest: Guest, step: Step, decision: Decision, now: float, begun: int) -> str:
        """Return why what is wanted must wait; empty when its warning is over, and not too much is being done already."""
        announced = self._announcements.ask(guest.id, guest.name, step, now, warning_of(guest), self._snapshot.time)
        if now < announced.due:
            return f"announced; it is done in {format_duration(round(announced.due - now))} if it is still wanted then"
        if begun >= AT_ONCE:
            return f"announced; {AT_ONCE} guests are being stopped or moved at this moment, it is next"
        if decision.source == self._source:
            if self._ladder.waits(now):
                return "announced; the effect of the last step is waited for"
            self._ladder.takes(now)
        self._announcements.taken(guest.id, step)
        return ""

    def _is_drained(self, decision: Decision) -> bool:
        """True for a move by which the operator empties the host."""
        return any(service.is_ordered(decision) for service in self._context.services(HostDrain))

    def _why_not(self, step: Step, guest: Guest, decision: Decision, drains: bool) -> str:
        if why := self._why_forbidden(step, guest, drains):
            return why
        job = self.jobs.get(guest.id)
        if job is not None and self.jobs.is_late(job):
            asked = "was asked to shut down" if job.step is Step.SHUT_DOWN else f"was to {job.step}, which was not answered in time"
            return f"the guest {asked}, and may do so at any moment"
        if job is not None:
            doing = self.jobs.doing(guest.id) or (job.lost and f"{job.what}: {job.lost}")
            return f"the guest is {doing}" if doing else f"mom has done that to the guest already: {job.step}"
        if step is Step.MIGRATE:
            return self._why_not_there(guest, decision.value, drains)
        return "" if needs_of(guest, step) is not None else "how much memory it needs when it comes back is unknown"

    def _why_not_any_more(self, identity: str) -> str:
        """Return why a guest that was to be moved, and was prepared for some seconds, must not be now, by what was seen last; empty: it
        may.
        """
        guest = self._snapshot.guests.get(identity)
        if not self._enforces:
            return "mom only observes now"
        if guest is None:
            return ""
        return guest.why_blocked(Step.MIGRATE.control) or self._why_forbidden(Step.MIGRATE, guest, drains=True)

    def _why_forbidden(self, step: Step, guest: Guest, drains: bool) -> str:
        """Return why the guest's class forbids a step; empty if it allows it."""
        field = step.allowed_by
        allowed = guest.fields.get(field)
        if allowed is None and not (drains and self._settings.move_unclassed):
            return f"the guest has no class that allows it ({field})"
        if allowed is None:
            answers = EvictionField.ANSWERS
            silent = (Scope.GUEST, answers) in self._context.declarations.fields and answers not in guest.fields
            return "the guest's class is not known now: the plugin of classes has not answered" if silent else ""
        name = printable(str(guest.fields.get(EvictionField.CLASS)), 40)
        return "" if allowed == 1 else f"the guest's class {name} does not allow it ({field})"

    def _why_not_there(self, guest: Guest, value: Value | Destination, drains: bool) -> str:
        try:
            destination = Destination.parse(value)
        except MomError as error:
            return error.message
        if not drains and destination != self._settings.destination:
            return "guests are moved to the `destination` of the settings only, or as the operator of a fleet says"
        mover = self._mover_to(destination)
        return mover if isinstance(mover, str) else _why_not_by(mover, guest)

    # --- movers ----------------------------------------------------------------------------------------------------------------

    def _movers(self) -> Sequence[Mover]:
        """Return those of other plugins, in the YAML order, and mom's own after them."""
        hypervisor = self._hypervisor
        if hypervisor is not None and isinstance(hypervisor, MigrationControl):
            self._own = self._own or HypervisorMover(hypervisor, self._context.monotonic)
            self._own.hypervisor = hypervisor
        return [*self._context.services(Mover), *([] if self._own is None else [self._own])]

    def _mover_to(self, destination: Destination) -> Mover | str:
        """Return the first that moves guests there, or why none does."""
        movers, why = self._movers(), []
        for mover in movers:
            why.append(mover.why_not(destination))
            if not why[-1]:
                return mover
        if movers:
            return "; ".join(why)
        return "nothing moves guests here" if self._hypervisor is None else f"{self._hypervisor.uri} cannot move guests"

    # --- GuestMoves --------------------------------------------------------------------------------------------------------------

    control = Step.MIGRATE.control
    """The control that moves a guest."""

    def mover(self) -> Mover | None:
        """Return the mover of guests here: the first of several."""
        return next(iter(self._movers()), None)

    def why_stays(self, guest: Guest) -> str:
        """Return why the operator's drain would not move that guest, whatever the destination."""
        if why := guest.why_blocked(self.control) or self._why_forbidden(Step.MIGRATE, guest, drains=True):
            return why
        mover = self.mover()
        return "nothing on the host moves guests" if mover is None else _why_not_by(mover, guest)

    def progress(self, guest: Guest) -> MoveProgress | None:
        """By the guest's fields; None where they are not known."""
        doing = guest.text(EVICTED)
        return None if doing is None else MoveProgress(MOVED in doing, guest.text(EVICTION_ERROR) or "")

    # --- control ---------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_read(self, hypervisor: Hypervisor, targets: Sequence[Target]) -> Mapping[Target, Value | HypervisorError]:
        """Return where guests run, and which of them mom has paused. That one is saved or shut down is told by the field guest_eviction."""
        paused = [target.entity for target in targets if target.control == Step.PAUSE.control]
        states = standings_of(hypervisor, paused) if isinstance(hypervisor, LifecycleControl) else {}
        return {target: self._at(target, hypervisor.uri, states.get(target.entity.id)) for target in targets}

    def _at(self, target: Target, uri: str, state: GuestState | GuestBusy | None) -> Value | HypervisorError:
        if target.control == Step.MIGRATE.control:
            return uri
        if target.control == Step.PAUSE.control and isinstance(state, GuestBusy):
            return state
        if target.control != Step.PAUSE.control or state is not GuestState.PAUSED:
            return 0
        job = self.jobs.get(target.entity.id)
        if job is not None and job.step is Step.PAUSE:
            return 1
        return Refused("mom's own pause is over, and the operator has paused it since")

    @hookimpl
    def mom_write(self, hypervisor: Hypervisor, changes: Sequence[Change]) -> Mapping[Target, HypervisorError]:
        """Begin; how it goes is told by the field guest_eviction. At its end, mom lets guests that it has paused go on. Those that it saved
        or shut down stay, as the host may be full: the next run lets them."""
        said: dict[Target, HypervisorError] = {}
        for change in changes:
            try:
                if change.back:
                    self._undo(hypervisor, change)
                elif change.value == 0:
                    said[change.target] = NoChangeNeeded("")
                else:
                    self._begin(hypervisor, change)
            except HypervisorError as error:
                said[change.target] = error
            except StateError as error:
                said[change.target] = HypervisorError(f"it could not be noted, so it is not done: {error.message}")
            except MomError as error:
                said[change.target] = HypervisorError(error.message, hint=error.hint)
        return said

    def _undo(self, hypervisor: Hypervisor, change: Change) -> None:
        if change.control != Step.PAUSE.control or not isinstance(hypervisor, LifecycleControl):
            raise NoChangeNeeded("it is not undone at mom's end")
        if hypervisor.standings([change.entity]).get(change.entity.id) is GuestState.PAUSED:
            hypervisor.resume(change.entity)
            self.jobs.forget(change.entity.id)
        elif self.jobs.may_pause(change.entity.id):
            raise GuestBusy("it was to be paused, which was not answered, and may still take effect: look again in some minutes")

    def _begin(self, hypervisor: Hypervisor, change: Change) -> None:
        entity, step = change.entity, STEP_OF[change.control]
        guest = self._snapshot.guests.get(entity.id)
        if guest is None:
            raise MomError("the guest was not seen in this cycle")
        job = Job(entity.id, entity.name[:256], step, time=self._snapshot.time)
        if step is Step.MIGRATE:
            destination = Destination.parse(change.value)
            mover = self._mover_to(destination)
            if isinstance(mover, str):
                raise MomError(mover)
            drained = self._is_drained(Decision(entity, change.control, change.value, source=change.source))
            move, seconds = secrets.token_hex(16), self._settings.timeout
            moved = replace(job, destination=destination, mover=mover.name, move=move, seconds=seconds, drained=drained)
            waits = self._settings.sweep if HostPressure.of(self._snapshot).has_time(self._settings) else 0.0
            self.jobs.move(mover, moved, self._context.services(MovePreparation), waits)
            return
        needs = needs_of(guest, step, self._snapshot.host.number("swap_usage"))
        comes_back = guest.fields.get(EvictionField.COMES_BACK) != 0
        if needs is None:
            raise MomError("how much memory it needs when it comes back is unknown")
        promised = (self._context.service(Promises) or NO_PROMISES).promised_kib(guest) or 0.0
        self.jobs.stop(hypervisor, replace(job, needs=needs, promised=promised, comes_back=comes_back))

    @hookimpl
    def mom_report(self, report: Report) -> None:
        """Spare guests for some time from steps that have not worked, or must not be."""
        for outcome in report.outcomes:
            step = STEP_OF.get(outcome.decision.control)
            if step is not None and outcome.status in (Status.FAILED, Status.REFUSED):
                self._recent.spare(outcome.decision.entity.id, [step])
        for revision in report.revisions:
            entity, step = revision.before.entity, STEP_OF.get(revision.before.control)
            is_own = step is not None and revision.after is None and revision.before.source == self._source
            if step is not None and is_own and not self._announcements.waits(entity.id, step):
                self._recent.spare(entity.id, [step])

    def _cancelled(self, one: Announced, why: str) -> None:
        self._context.log.warning("guest %s: not done: %s: %s", printable(one.name), one.step, why)

    # --- for people ----------------------------------------------------------------------------------------------------------------

    mom_explainer = late_hook("mom_plugins_sla.eviction.explanation:EvictionExplainer")

    @hookimpl
    def mom_doctor(self, hypervisor: Hypervisor | None) -> Iterable[Finding]:
        """Say if guests can be stopped and moved here."""
        subject, settings = "guests that leave", self._settings
        if not settings.enabled:
            yield Finding(Severity.OK, subject, "mom stops and moves no guest by itself (enabled: false)")
        elif hypervisor is not None and not isinstance(hypervisor, LifecycleControl):
            yield Finding(Severity.WARNING, subject, f"{hypervisor.uri} cannot stop guests", "leave enabled out, or use libvirt")
        elif (Scope.GUEST, EvictionField.MAY_SAVE) not in self._context.declarations.fields:
            yield Finding(
                Severity.WARNING, subject, "nothing says which guests may leave, so none will", "enable a plugin with classes, as sla"
            )
        elif settings.destination is None:
            text = "guests whose class allows it are stopped when the host stays full; none is moved"
            yield Finding(Severity.OK, subject, text, "to have them moved where their class allows it, set `destination`")
        else:
            yield Finding(Severity.OK, subject, "guests whose class allows it are stopped or moved when the host stays full")
        if settings.destination is not None and hypervisor is not None:
            self._hypervisor = hypervisor
            mover = self._mover_to(settings.destination)
            if isinstance(mover, str):
                yield Finding(Severity.WARNING, subject, mover, "leave destination out, or enable what moves guests there")


def _why_not_by(mover: Mover, guest: Guest) -> str:
    """Return why a mover must not move that guest: one that lets guests stand still meanwhile, or may, does what saving them does."""
    if mover.abilities.live is True or guest.fields.get(EvictionField.MAY_SAVE) == 1:
        return ""
    return f"the mover {mover.name} may let it stand still meanwhile, which its class does not allow ({EvictionField.MAY_SAVE})"
