"""Jobs: steps on guests, recorded on disk before they begin and followed across restarts.

Not thread-safe. Other threads make slow calls, and a later cycle records their results.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated, Any, Final, Protocol, runtime_checkable

from pydantic import FailFast, Field, TypeAdapter

from mom_core import Entity, GuestBusy, Hypervisor, HypervisorError, MomError, PluginContext, Scope, StateError, format_duration, printable
from mom_kvm import Callers, Destination, GuestState
from mom_plugins_sla.eviction.movers.mover import UNKNOWN, LifecycleControl, MoveJob, Mover, MoveReport, MoveStanding, why_failed
from mom_plugins_sla.eviction.recent_steps import COUNTS_SECONDS, RecentSteps
from mom_plugins_sla.eviction.steps import TERMS, Step

AT_ONCE: Final = 4
"""Maximum number of steps in progress."""

SIMULATED_SECONDS: Final = 30.0
"""Time limit for steps on simulated guests."""

GIVE_UP_SECONDS: Final = 60.0
"""mom waits this long for a mover to cancel a late move, or for a moved guest to disappear."""

LATE_SECONDS: Final = 1800.0
"""If a guest stops up to this long after a step's time limit, the step counts as the cause."""

GONE_CYCLES: Final = 3
"""Cycles after which a missing guest counts as gone; a hypervisor that just started may list guests late."""

FILE: Final = "jobs.json"
TITLE: Final = "the file of guests that mom has stopped or is moving"
LOSS: Final = "guests that mom saved or shut down stay stopped: start them by hand; mom may move a guest twice"

MOVED: Final = "being moved to"

_Number = Annotated[float, Field(ge=0, lt=1 << 36)]


@runtime_checkable
class StopsAtOnce(Protocol):
    """Hypervisor that stops and starts guests immediately, such as a simulated one."""

    stops_at_once: bool


class JobState(StrEnum):
    """State of a job."""

    BEGUN = "begun"  #: in progress, also across a restart of mom
    DONE = "done"  #: the guest has stopped and can come back
    LOST = "lost"  #: a move past its time limit, with an unknown result


@dataclass(frozen=True, slots=True)
class Job:
    """Step on one guest.

    :param time: start, in seconds since the epoch
    :param needs: KiB that the guest needs after its return
    :param lost: why the result of a move is unknown
    """

    guest: str
    name: str
    step: Step
    state: JobState = JobState.BEGUN
    time: _Number = 0.0
    needs: _Number = 0.0
    promised: _Number = 0.0
    comes_back: bool = True
    destination: Destination | None = None
    mover: str = ""
    move: str = ""
    seconds: _Number = 0.0
    drained: bool = False
    reference: str = ""
    lost: str = ""

    @property
    def entity(self) -> Entity:
        """Guest of the job."""
        return Entity(Scope.GUEST, self.guest, self.name)

    @property
    def is_move(self) -> bool:
        """Whether the guest leaves the host for good."""
        return self.step is Step.MIGRATE

    @property
    def activity(self) -> str:
        """Description of the step in progress."""
        if not self.is_move:
            return f"being {TERMS[self.step].participle}"
        return f"{'perhaps ' if self.lost else ''}{MOVED} {printable('' if self.destination is None else self.destination.uri, 100)}"

    def for_mover(self) -> MoveJob:
        """Return the move as its mover sees it."""
        if self.destination is None:
            raise HypervisorError("the move has no destination")
        return MoveJob(self.entity, self.destination, self.move, self.seconds, self.time, self.reference)


FORM: Final = TypeAdapter(Annotated[tuple[Job, ...], FailFast()])


@dataclass(frozen=True, slots=True)
class _Call:
    # `kind`: save, ask, resume, begin, look or cancel

    kind: str
    future: Future[Any]


@dataclass(slots=True)
class _Progress:
    """Progress of a job in this run of mom. Times are monotonic."""

    since: float
    absent: int = 0
    cancelled: bool = False
    done_since: float | None = None
    returns_failed: int = 0


class Jobs:
    """Jobs, at most one per guest.

    :param seconds: time limit for saving, moving, starting or shutting down a guest
    """

    def __init__(self, context: PluginContext, seconds: float, recent: RecentSteps) -> None:
        self._context, self.seconds, self._recent = context, seconds, recent
        self._file = context.state_file(FILE, TITLE, FORM, loss=LOSS)
        self._callers = Callers("mom eviction")
        self._jobs: dict[str, Job] = {}
        self._progress: dict[str, _Progress] = {}
        self._calls: dict[str, _Call] = {}
        self._errors: dict[str, str] = {}

    def load(self) -> None:
        """Read an earlier run's jobs. Without their file, create jobs for the ledger's paused guests."""
        jobs = self._file.read()
        if jobs is None:
            paused = [
                change for change in self._context.engine_state().changes if change.control == Step.PAUSE.control and change.applied == 1
            ]
            jobs = tuple(Job(item.entity.id, item.entity.name, Step.PAUSE, JobState.DONE, item.time) for item in paused)
        self._jobs = {item.guest: item for item in jobs}
        self._progress = {guest: _Progress(self._context.monotonic()) for guest in self._jobs}

    def close(self) -> None:
        """Start no more calls."""
        self._callers.close(0)

    # --- state --------------------------------------------------------------------------------------------------------------

    def get(self, guest: str) -> Job | None:
        """Return the guest's job."""
        return self._jobs.get(guest)

    @property
    def stopped(self) -> Sequence[Job]:
        """Stopped guests' jobs: most failed resumes first, then oldest first."""
        jobs = [job for job in self._jobs.values() if not job.is_move]
        return sorted(jobs, key=lambda job: -self._progress[job.guest].returns_failed)

    @property
    def promised_kib(self) -> float:
        """Memory promised to saved or shut down guests."""
        away = (item for item in self.stopped if item.step is not Step.PAUSE and item.state is JobState.DONE and item.comes_back)
        return sum(item.promised for item in away)

    @property
    def calls(self) -> Sequence[Future[Any]]:
        """Running calls of hypervisors and movers."""
        return [call.future for call in self._calls.values()]

    @property
    def under_way(self) -> int:
        """Number of steps in progress."""
        return sum(bool(self.activity(guest)) for guest in self._jobs)

    @property
    def leaving(self) -> int:
        """Number of moves in progress, except those of drained guests. Moves with unknown results count for an hour."""
        moves = [job for job in self._jobs.values() if job.is_move and not job.drained]
        return sum(not move.lost or self._age(move) < COUNTS_SECONDS for move in moves)

    @property
    def are_moving(self) -> bool:
        """Whether the result of any move is still unknown."""
        return any(job.is_move for job in self._jobs.values())

    def activity(self, guest: str) -> str:
        """Return the guest's current step; empty without one."""
        job, call = self._jobs.get(guest), self._calls.get(guest)
        if job is None:
            return ""
        if call is not None and call.kind == "resume":
            return "being resumed"
        return job.activity if job.state is JobState.BEGUN and not self.is_late(job) else ""

    def error(self, guest: str) -> str:
        """Return the error of the last step; empty if none."""
        return self._errors.get(guest, "")

    def is_late(self, job: Job) -> bool:
        """Return whether a step other than a move has exceeded its time limit."""
        return not job.is_move and job.state is JobState.BEGUN and self._age(job) >= self.seconds

    def may_pause(self, guest: str) -> bool:
        """Return whether an unanswered pause may still take effect."""
        job = self._jobs.get(guest)
        if job is None or job.step is not Step.PAUSE or job.state is not JobState.BEGUN:
            return False
        return 0 <= time.time() - job.time < self.seconds

    def _age(self, job: Job) -> float:
        return self._context.monotonic() - self._progress[job.guest].since

    # --- beginning -------------------------------------------------------------------------------------------------------------

    def stop(self, hypervisor: Hypervisor, job: Job) -> None:
        """Stop a guest; only a pause is complete on return. Raise `MomError` if the step cannot begin."""
        if not isinstance(hypervisor, LifecycleControl):
            raise MomError(f"{hypervisor.uri} cannot stop guests")
        control, guest = hypervisor, job.entity
        with self._recorded(job):
            if job.step is Step.PAUSE:
                control.pause(guest)  # synchronous: when mom exits, it must not resume the guest before the pause
                self._done(job)
            elif job.step is Step.SAVE:
                self._call(job, "save", lambda: control.save(guest, self.seconds))
            else:
                self._call(job, "ask", lambda: control.shut_down(guest))
            self._wait_for_simulated(hypervisor, job)

    def move(self, mover: Mover, job: Job, preparation: Callable[[], str]) -> None:
        """Start a move. Raise `MomError` if it cannot begin.

        :param preparation: prepares the guest, and returns why it must not move, or an empty string
        """

        def begin() -> str:
            if why := preparation():
                raise HypervisorError(why)
            return mover.begin(job.for_mover())

        with self._recorded(job):
            self._call(job, "begin", begin)

    def resume(self, hypervisor: Hypervisor | None, job: Job, why: str) -> None:
        """Begin to resume, restore or start a guest."""
        if hypervisor is None or not isinstance(hypervisor, LifecycleControl) or job.guest in self._calls:
            return
        control, guest = hypervisor, job.entity
        self._context.log.warning("guest %s will resume: %s", guest, why)
        with suppress(MomError):  # the ladder retries
            is_paused = job.step is Step.PAUSE
            self._call(job, "resume", lambda: control.resume(guest) if is_paused else control.start(guest, self.seconds))
            self._wait_for_simulated(hypervisor, job)

    @contextmanager
    def _recorded(self, job: Job) -> Iterator[None]:
        # Record the job before the step. Forget the job if the step cannot begin.
        if job.guest in self._jobs:
            raise MomError(f"the guest is already {self.activity(job.guest) or 'stopped or moved'}")
        if self.under_way >= AT_ONCE:
            raise MomError(f"{AT_ONCE} steps, the maximum, are already in progress")
        self._write({**self._jobs, job.guest: job})
        self._errors.pop(job.guest, None)
        self._progress[job.guest] = _Progress(self._context.monotonic())
        try:
            yield
        except GuestBusy as error:  # the step may still take effect
            self._fail(job, error.message)
            raise
        except MomError:
            self.forget(job.guest)
            raise

    def _call(self, job: Job, kind: str, function: Callable[[], Any]) -> None:
        future = self._callers.start(function)
        self._calls[job.guest] = _Call(kind, future)
        if kind != "look":
            future.add_done_callback(lambda _: self._context.wake(f"guest {job.entity}: {kind}"))

    def _wait_for_simulated(self, hypervisor: Hypervisor, job: Job) -> None:
        if isinstance(hypervisor, StopsAtOnce) and job.guest in self._calls:
            Callers.came_back(self._calls[job.guest].future, SIMULATED_SECONDS)

    # --- each cycle ----------------------------------------------------------------------------------------------------------------

    def check_stopped(self, hypervisor: Hypervisor) -> None:
        """Record steps' results, and guests that somebody else has resumed or stopped."""
        if self._file.write_error:
            self._store(self._jobs)
        for guest, call in list(self._calls.items()):
            job = self._jobs.get(guest)
            if job is None:
                del self._calls[guest]
            elif call.future.done():
                del self._calls[guest]
                self._record_result(job, call)
        stopped = [item for item in self.stopped if item.guest not in self._calls]
        if stopped and isinstance(hypervisor, LifecycleControl):
            with suppress(HypervisorError):  # the next cycle retries
                states = states_of(hypervisor, [job.entity for job in stopped])
                for job in stopped:
                    state = states.get(job.guest)
                    if not isinstance(state, GuestBusy):
                        self._check_state(job, state)

    def check_moves(self, present: Collection[str], movers: Sequence[Mover]) -> None:
        """Update all moves. `present` contains the ids of the listed guests."""
        by_name = {mover.name: mover for mover in reversed(movers)}
        for job in list(self._jobs.values()):
            if job.is_move:
                self._check_move(job, job.guest in present, by_name.get(job.mover))

    def _record_result(self, job: Job, call: _Call) -> None:
        error = call.future.exception()
        message = "" if error is None else why_failed(error)
        if call.kind == "resume":
            self._resumed(job, message)
        elif call.kind == "look":
            self._take_report(job, UNKNOWN if error else call.future.result())
        elif call.kind == "begin" and not isinstance(error, HypervisorError):
            if error:  # the mover may have begun the move
                self._context.log.error("the mover %s: %s", job.mover, message)
            elif call.future.result():
                self._store({**self._jobs, job.guest: replace(job, reference=printable(str(call.future.result()), 400))})
        elif call.kind in {"ask", "save"} and isinstance(error, GuestBusy):  # the step may still take effect
            self._fail(job, message)
        elif call.kind == "save" and error:  # the save may continue; the next state shows its result
            self._fail(job, message)
            self._progress[job.guest].since = float("-inf")
        elif call.kind != "cancel" and error:
            self._failed(job, message)
        elif call.kind == "save":
            self._done(job)

    def _take_report(self, job: Job, report: MoveReport) -> None:
        progress = self._progress[job.guest]
        if report.standing is MoveStanding.DONE and progress.done_since is None:  # only a claim: the guest has moved once it is gone
            progress.done_since = self._context.monotonic()
        elif report.standing is MoveStanding.FAILED:
            self._failed(job, report.error or f"the mover {job.mover} reports a failure")

    def _check_move(self, job: Job, is_present: bool, mover: Mover | None) -> None:
        progress, now, age = self._progress[job.guest], self._context.monotonic(), self._age(job)
        progress.absent = 0 if is_present else progress.absent + 1
        if progress.absent >= GONE_CYCLES:
            self._moved(job)
        elif not job.lost and progress.done_since is not None:
            if is_present and now - progress.done_since >= GIVE_UP_SECONDS:
                self._lose(job, f"the mover {job.mover} reports success, but the guest is still here")
        elif not job.lost and mover is None:
            self._lose(job, f"the mover {printable(job.mover)} no longer exists")
        elif not job.lost and age >= job.seconds + GIVE_UP_SECONDS:
            limit = format_duration(round(job.seconds))
            self._lose(
                job, f"the mover {job.mover} has reported no result within {limit}: mom leaves the guest alone until the mover reports one"
            )
        elif mover is None or job.guest in self._calls:
            pass
        elif not job.lost and age >= job.seconds and not progress.cancelled:
            progress.cancelled = True
            self._call(job, "cancel", lambda: mover.cancel(job.for_mover()))
        else:
            self._call(job, "look", lambda: mover.look(job.for_mover()))

    def _check_state(self, job: Job, state: GuestState | None) -> None:
        if state is TERMS[job.step].end:
            self._progress[job.guest].absent = 0
            if job.state is not JobState.DONE:
                self._done(job)
            return
        if state is None:
            self._progress[job.guest].absent += 1
            if self._progress[job.guest].absent < GONE_CYCLES:
                return
        elif job.state is JobState.BEGUN and (self._age(job) < self.seconds or (job.step is Step.SAVE and state is GuestState.PAUSED)):
            return  # hypervisors pause a guest while saving it
        elif self.is_late(job) and state is GuestState.RUNNING:
            if not self.error(job.guest):
                self._fail(job, f"the guest was not {TERMS[job.step].participle} within {format_duration(self.seconds)}")
            if self._age(job) >= self.seconds + LATE_SECONDS:
                self.forget(job.guest)
            return
        actual = "gone" if state is None else state
        self._context.log.warning("guest %s, which mom stopped (%s), is now %s: mom leaves it alone", printable(job.name), job.step, actual)
        self.forget(job.guest)
        self._recent.spare(job.guest, Step)

    # --- results --------------------------------------------------------------------------------------------------------------

    def _done(self, job: Job) -> None:
        self._context.log.warning("guest %s, %s: done", job.entity, job.step)
        self._store({**self._jobs, job.guest: replace(job, state=JobState.DONE)})

    def _moved(self, job: Job) -> None:
        self._context.log.warning("guest %s, %s: done", job.entity, job.step)
        if not job.drained:
            self._recent.note_move(job.move)
        self.forget(job.guest)

    def _failed(self, job: Job, error: str) -> None:
        self._fail(job, error)
        self.forget(job.guest)

    def _fail(self, job: Job, error: str) -> None:
        self._errors[job.guest] = error
        self._context.log.error("guest %s, %s: %s", job.entity, job.step, printable(error, 300))
        self._recent.spare(job.guest, [job.step])

    def _lose(self, job: Job, why: str) -> None:
        lost = replace(job, state=JobState.LOST, lost=printable(why, 400))
        self._store({**self._jobs, job.guest: lost})
        self._fail(lost, why)

    def _resumed(self, job: Job, error: str) -> None:
        if error:
            self._progress[job.guest].returns_failed += 1
            self._context.log.error("guest %s cannot resume: %s", job.entity, error)
        else:
            self._context.log.warning("guest %s has resumed", job.entity)
            self.forget(job.guest)

    def forget(self, guest: str) -> None:
        """Remove the guest's job."""
        if guest in self._jobs:
            self._store({key: job for key, job in self._jobs.items() if key != guest})
            del self._progress[guest]

    def _store(self, jobs: Mapping[str, Job]) -> None:
        try:
            self._write(jobs)
        except StateError:
            self._jobs = dict(jobs)

    def _write(self, jobs: Mapping[str, Job]) -> None:
        # A `StateError` changes nothing.
        self._file.write(FORM.dump_python(tuple(jobs.values()), mode="json"))
        self._jobs = dict(jobs)


def states_of(control: LifecycleControl, guests: Sequence[Entity]) -> Mapping[str, GuestState | GuestBusy]:
    """Return states keyed by guest id; `GuestBusy` for a guest that did not answer. Raise other errors."""
    result: dict[str, GuestState | GuestBusy] = {}
    for guest in guests:
        try:
            result.update(control.standings([guest]))
        except GuestBusy as error:
            result[guest.id] = error
    return result
