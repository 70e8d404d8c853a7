"""Jobs on guests: one record for each, on disk before it is begun, seen to until it is over, also after a restart.

All is called from the plugin's thread. What takes long (saving, moving) is called in threads, and noted in a later cycle.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated, Any, Final, Protocol, runtime_checkable

from pydantic import FailFast, Field, StringConstraints, TypeAdapter, ValidationError

from mom_core import Entity, GuestBusy, Hypervisor, HypervisorError, MomError, PluginContext, Scope, StateError, format_duration, printable
from mom_kvm import Callers, Destination, GuestState, LifecycleControl, MoveJob, MovePreparation, Mover, MoveReport, MoveStanding
from mom_plugins_sla.eviction.movers.reports import UNKNOWN, why_failed
from mom_plugins_sla.eviction.recent_steps import COUNTS_SECONDS, RecentSteps
from mom_plugins_sla.eviction.steps import Step

AT_ONCE: Final = 4
"""To so many guests something is done at once, and so many calls of one mover may not have come back: more would make each slower."""

CALL_SECONDS: Final = 30.0
"""How long one call of a mover may take. It is abandoned then, and counts as one that has told nothing."""

GIVE_UP_SECONDS: Final = 60.0
"""How long a mover may take to give up a move whose time is over, and a guest to go of which the mover says that it has."""

LOST_LOOK_SECONDS: Final = 30.0
"""How often it is asked for a move that is lost."""

LATE_SECONDS: Final = 1800.0
"""A guest that was to be saved or to shut down, and does so only so long after its time was over, has still done it for mom: an update,
say, that is installed at the end. One that ends later does so for a reason of its own."""

GONE_CYCLES: Final = 3
"""A guest that the hypervisor does not know in so many cycles in a row is gone. One that has just started may not know all of them yet."""

FILE: Final = "jobs.json"
WHAT: Final = "the file of guests that mom has stopped, or moves"
LOSS: Final = "those that are saved or shut down stay so: start them by hand; and a guest whose move is under way may be moved once more"

MOVED: Final = "being moved to"
"""The words for a guest that is moved, before the destination."""

_STANDS: Final[Mapping[Step, GuestState]] = {Step.PAUSE: GuestState.PAUSED, Step.SAVE: GuestState.SAVED, Step.SHUT_DOWN: GuestState.OFF}
_WORDS: Final = {Step.PAUSE: "being paused", Step.SAVE: "being saved", Step.SHUT_DOWN: "being shut down"}

_Text = Annotated[str, StringConstraints(max_length=400)]


@runtime_checkable
class StopsAtOnce(Protocol):
    """Hypervisor that saves, shuts down and starts guests in no time, as a simulated one, whose time threads know nothing of."""

    stops_at_once: bool


class JobState(StrEnum):
    """How far a job is."""

    PREPARING = "preparing"  #: a move: the guest is swept before, and its mover was not told yet
    BEGUN = "begun"  #: it is under way, or was when mom ended
    DONE = "done"  #: the guest has stopped, and can come back
    LOST = "lost"  #: a move: its time is over, and its mover has not said how it ended


@dataclass(frozen=True, slots=True)
class Job:
    """Step that is done to one guest. `time` is when that was begun, in seconds since the epoch.

    :param needs: what the guest needs when it comes back, in KiB
    :param promised: what it was promised, in KiB
    :param mover: the name of what moves it
    :param move: the id of the move, never used again
    :param seconds: how long it may take
    :param drained: it is a move by which the operator empties the host
    :param reference: what the mover's `begin` returned
    :param lost: why it is not known how a move ended
    """

    guest: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    name: Annotated[str, StringConstraints(max_length=256)]
    step: Step
    state: JobState = JobState.BEGUN
    time: Annotated[float, Field(ge=0, lt=1 << 36)] = 0.0
    needs: Annotated[float, Field(ge=0, lt=1 << 50)] = 0.0
    promised: Annotated[float, Field(ge=0, lt=1 << 50)] = 0.0
    comes_back: bool = True
    destination: Destination | None = None
    mover: Annotated[str, StringConstraints(max_length=128)] = ""
    move: Annotated[str, StringConstraints(max_length=64)] = ""
    seconds: Annotated[float, Field(ge=0, lt=1e6)] = 0.0
    drained: bool = False
    reference: _Text = ""
    lost: _Text = ""

    @property
    def entity(self) -> Entity:
        """The guest."""
        return Entity(Scope.GUEST, self.guest, self.name)

    @property
    def is_move(self) -> bool:
        """True when the guest is to leave the host, and does not come back."""
        return self.step is Step.MIGRATE

    @property
    def what(self) -> str:
        """The step that is being done to the guest, for people."""
        if not self.is_move:
            return _WORDS[self.step]
        return f"{'perhaps ' if self.lost else ''}{MOVED} {printable('' if self.destination is None else self.destination.uri, 100)}"

    def for_mover(self) -> MoveJob:
        """Return a move as its mover knows it."""
        if self.destination is None:
            raise HypervisorError("the move has no destination")
        return MoveJob(self.entity, self.destination, self.move, self.seconds, self.time, self.reference)


FORM: Final = TypeAdapter(Annotated[tuple[Job, ...], FailFast()])
_JOB: Final = TypeAdapter(Job)

UNDER_WAY: Final = frozenset({JobState.PREPARING, JobState.BEGUN})
"""Something is being done to the guest."""


@dataclass(frozen=True, slots=True)
class _Call:
    """Call that is under way: its kind (save, ask, resume, prepare, begin, look, cancel), when it was made, and how many seconds it may
    take if it is for a move.
    """

    kind: str
    future: Future[Any]
    at: float
    seconds: float


@dataclass(slots=True)
class _Seen:
    """Job as this run has seen it: since when (monotonic seconds), for how many looks the guest was absent, when its mover was looked at
    last, and told to give up, since when it says that the guest has moved, whether the hypervisor has left a call unanswered, and how often
    letting the guest go on has failed.
    """

    since: float
    absent: int = 0
    looked: float = float("-inf")
    given_up: bool = False
    done_since: float | None = None
    unanswered: bool = False
    returns_failed: int = 0


class Jobs:
    """Jobs of this host's guests, one for each guest at the most.

    :param seconds: how long saving, moving, starting or shutting down one guest may take
    :param recent: told of guests that were moved away, or are gone, and of what is not to be done to a guest for some time
    """

    def __init__(self, context: PluginContext, seconds: float, recent: RecentSteps) -> None:
        self._context, self.seconds, self._recent = context, seconds, recent
        self._file = context.state_file(FILE, WHAT, FORM, loss=LOSS)
        self._callers = Callers("mom eviction")
        self._jobs: dict[str, Job] = {}
        self._seen: dict[str, _Seen] = {}
        self._calls: dict[str, _Call] = {}
        self._hung: dict[str, list[Future[Any]]] = {}
        """Calls of each mover that were abandoned."""
        self._errors: dict[str, str] = {}
        self._unwritten = False

    def load(self) -> None:
        """Read what an earlier run has left. Without a file that can be used, the ledger still knows whom mom has paused."""
        found = self._file.read()
        if found is None:
            paused = [
                change for change in self._context.engine_state().changes if change.control == Step.PAUSE.control and change.applied == 1
            ]
            found = tuple(Job(item.entity.id, item.entity.name[:256], Step.PAUSE, JobState.DONE, item.time) for item in paused)
        self._jobs = {item.guest: item for item in found if item.state is not JobState.PREPARING}
        self._seen = {guest: _Seen(self._context.monotonic()) for guest in self._jobs}
        self._unwritten = len(self._jobs) < len(found)
        for entry in found:
            if entry.state is JobState.PREPARING:
                self._context.log.warning("guest %s was about to be moved when mom ended: it was not", printable(entry.name))
            elif entry.is_move and not entry.lost:
                self._context.log.warning("guest %s was %s when mom ended: mom asks on how that goes", printable(entry.name), entry.what)

    def close(self) -> None:
        """Begin nothing any more. What is under way ends as the hypervisor ends it, or is found again by the next mom."""
        self._callers.close(0)

    # --- how they are --------------------------------------------------------------------------------------------------------------

    def get(self, guest: str) -> Job | None:
        """Return the job of that guest."""
        return self._jobs.get(guest)

    @property
    def stopped(self) -> Sequence[Job]:
        """Guests that were stopped, or are about to be, first to last; what has failed to go on comes first, to be tried last."""
        jobs = [job for job in self._jobs.values() if not job.is_move]
        return sorted(jobs, key=lambda one: -self._seen[one.guest].returns_failed)

    @property
    def promised_kib(self) -> float:
        """What guests were promised that were saved or shut down, so that they are not listed, and are to come back."""
        away = (item for item in self.stopped if item.step is not Step.PAUSE and item.state is JobState.DONE and item.comes_back)
        return sum(item.promised for item in away)

    @property
    def calls(self) -> Sequence[Future[Any]]:
        """Calls that have not been taken note of."""
        return [call.future for call in self._calls.values()]

    @property
    def under_way(self) -> int:
        """To how many guests something is being done."""
        return sum(bool(self.doing(job)) for job in self._jobs)

    @property
    def leaving(self) -> int:
        """How many guests are being moved, or perhaps are, other than by the operator who empties the host. A move that is lost counts for
        as long as one that is over: it must not keep all others from being moved until the operator has looked."""
        moves = [job for job in self._jobs.values() if job.is_move and not job.drained]
        return sum(not move.lost or self._age(move) < COUNTS_SECONDS for move in moves)

    @property
    def are_moving(self) -> bool:
        """True while the end of a move is not known."""
        return any(job.is_move for job in self._jobs.values())

    def doing(self, guest: str) -> str:
        """Return the step that is being done to that guest; empty: none, as far as is known."""
        job, call = self._jobs.get(guest), self._calls.get(guest)
        if job is None:
            return ""
        if call is not None and call.kind == "resume":
            return "going on"
        return job.what if job.state in UNDER_WAY and not self.is_late(job) else ""

    def error(self, guest: str) -> str:
        """Return why what was tried last did not work."""
        return self._errors.get(guest, "")

    def is_late(self, job: Job) -> bool:
        """True for a guest that was to stop, and has not within its time, or whose hypervisor has not answered: it may still do so."""
        if job.is_move or job.state is not JobState.BEGUN:
            return False
        return self._seen[job.guest].unanswered or self._age(job) >= self.seconds

    def may_pause(self, guest: str) -> bool:
        """True for a guest that was to be paused, and may still be, as its hypervisor has not answered and the time for it is not over: by
        the wall clock, as another process that puts back has not seen it begin."""
        job = self._jobs.get(guest)
        if job is None or job.step is not Step.PAUSE or job.state is not JobState.BEGUN:
            return False
        return 0 <= time.time() - job.time < self.seconds

    def _age(self, job: Job) -> float:
        return self._context.monotonic() - self._seen[job.guest].since

    # --- what is begun -------------------------------------------------------------------------------------------------------------

    def stop(self, hypervisor: Hypervisor, job: Job) -> None:
        """Begin to stop a guest; a pause is done when this returns. Raises `MomError`: `StateError` when it cannot be noted."""
        if not isinstance(hypervisor, LifecycleControl):
            raise MomError(f"{hypervisor.uri} cannot stop guests")
        control, guest = hypervisor, job.entity
        with self._noted(job):
            if job.step is Step.PAUSE:
                control.pause(guest)  # at once: what puts it back at mom's end must not come before it
                self._done(job)
            elif job.step is Step.SAVE:
                self._call(job, "save", lambda: control.save(guest, self.seconds))
            else:
                self._call(job, "ask", lambda: control.shut_down(guest))
            self._wait_for_simulated(hypervisor, job)

    def move(self, mover: Mover, job: Job, preparations: Sequence[MovePreparation] = (), seconds: float = 0.0) -> None:
        """Begin to move a guest. Raises as `stop` does.

        :param preparations: what is done to it before, within so many seconds
        """
        if why := self._why_not_by(mover):
            raise MomError(why, hint="see to it, and reload mom")
        if not preparations or seconds <= 0:
            with self._noted(job):
                self._call(job, "begin", lambda: mover.begin(job.for_mover()))
            return
        before = replace(job, state=JobState.PREPARING)
        with self._noted(before):
            self._call(before, "prepare", lambda: _prepared(preparations, before.entity, seconds), seconds + CALL_SECONDS)

    def _hand_over(self, job: Job, mover: Mover | None, why_not: str) -> None:
        """Have the mover begin, once what was to be done before is over, whatever came of that.

        :param why_not: why the guest must not be moved by now, though it was to be
        """
        why = why_not or (f"there is no mover {printable(job.mover)} any more" if mover is None else self._why_not_by(mover))
        if mover is None or why:
            self._failed(job, why)
            return
        begun = replace(job, state=JobState.BEGUN)
        try:
            self._write({**self._jobs, job.guest: begun})
            self._seen[job.guest] = _Seen(self._context.monotonic())
            self._call(begun, "begin", lambda: mover.begin(begun.for_mover()))
        except MomError as error:
            self._failed(job, f"it could not be begun: {error.message}")

    def _why_not_by(self, mover: Mover) -> str:
        hangs = len(self._abandoned(mover.name)) >= AT_ONCE
        return f"the mover {mover.name} has not come back from {AT_ONCE} calls" if hangs else ""

    def resume(self, hypervisor: Hypervisor | None, job: Job, why: str) -> None:
        """Begin to let a guest go on."""
        if hypervisor is None or not isinstance(hypervisor, LifecycleControl) or job.guest in self._calls:
            return
        control, guest = hypervisor, job.entity
        self._context.log.warning("guest %s is to go on: %s", guest, why)
        with suppress(MomError):  # it is tried again
            is_paused = job.step is Step.PAUSE
            self._call(job, "resume", lambda: control.resume(guest) if is_paused else control.start(guest, self.seconds))
            self._wait_for_simulated(hypervisor, job)

    @contextmanager
    def _noted(self, job: Job) -> Iterator[None]:
        """Note it before it is done, as what is not remembered would never come back; forget it where it could not be begun. A call
        that the hypervisor has not answered may still take effect: its job stays."""
        doing = self.doing(job.guest) or ("" if job.guest not in self._jobs else "stopped or moved")
        if doing:
            raise MomError(f"the guest is {doing} already")
        if self.under_way >= AT_ONCE:
            raise MomError(f"{AT_ONCE} guests are being stopped or moved already")
        _check(job)
        self._write({**self._jobs, job.guest: job})
        self._seen[job.guest] = _Seen(self._context.monotonic())
        try:
            yield
        except GuestBusy as error:
            self._unanswered(job, error.message)
            raise
        except MomError:
            self.forget(job.guest)
            raise

    def _call(self, job: Job, kind: str, function: Callable[[], Any], seconds: float = CALL_SECONDS) -> None:
        try:
            future = self._callers.start(function)
        except RuntimeError as error:  # the system lets mom have no more threads
            raise MomError(f"it cannot be begun: {error}") from None
        self._calls[job.guest] = _Call(kind, future, self._context.monotonic(), seconds)
        if kind != "look":
            future.add_done_callback(lambda _: self._context.wake(f"guest {job.entity}: {kind}"))

    def _wait_for_simulated(self, hypervisor: Hypervisor, job: Job) -> None:
        """The same simulation must come to the same, however long a thread took to begin."""
        if isinstance(hypervisor, StopsAtOnce) and job.guest in self._calls:
            Callers.came_back(self._calls[job.guest].future, CALL_SECONDS)

    # --- each cycle ----------------------------------------------------------------------------------------------------------------

    def see_stopped(self, hypervisor: Hypervisor) -> None:
        """Take note of what has ended, and of what others did: the operator may have let a guest go on, or stopped it otherwise."""
        if self._unwritten:
            self._note(self._jobs)
        for guest, call in list(self._calls.items()):
            job = self._jobs.get(guest)
            if job is None:
                del self._calls[guest]
            elif call.future.done():
                del self._calls[guest]
                self._take(job, call)
            elif job.is_move and self._context.monotonic() - call.at >= call.seconds:
                del self._calls[guest]
                if call.kind != "prepare":
                    self._hung.setdefault(job.mover, []).append(call.future)
        stopped = [item for item in self.stopped if item.guest not in self._calls]
        if stopped and isinstance(hypervisor, LifecycleControl):
            with suppress(HypervisorError):  # else another cycle will know
                standings = standings_of(hypervisor, [item.entity for item in stopped])
                for entry in stopped:
                    standing = standings.get(entry.guest)
                    if not isinstance(standing, GuestBusy):
                        self._see_standing(entry, standing)

    def see_moves(self, here: Collection[str], movers: Sequence[Mover], why_not: Callable[[str], str]) -> None:
        """Ask for moves that are under way.

        :param here: the ids of the guests that are listed
        :param why_not: says of a guest that was prepared why it must not be moved by now; empty: it may
        """
        self._errors = {guest: error for guest, error in self._errors.items() if guest in here}
        by_name = {mover.name: mover for mover in reversed(movers)}
        for job in list(self._jobs.values()):
            if job.is_move:
                with suppress(MomError):  # there is no thread for it now
                    self._see_move(job, job.guest in here, by_name.get(job.mover), why_not)

    def _take(self, job: Job, call: _Call) -> None:
        """Note what a call came to."""
        error = call.future.exception()
        said = "" if error is None else why_failed(error)
        if call.kind == "resume":
            self._resumed(job, said)
        elif call.kind == "prepare":  # its move follows, whatever was said
            came_of_it = said if error else call.future.result()
            self._context.log.info("guest %s, before it is moved: %s", job.entity, printable(str(came_of_it), 300))
        elif call.kind == "look":
            self._take_report(job, UNKNOWN if error else call.future.result())
        elif call.kind == "begin" and not isinstance(error, HypervisorError):
            if error:  # a mistake of the mover's: it may have begun, or not
                self._context.log.error("the mover %s: %s", job.mover, said)
            elif call.future.result():
                self._note({**self._jobs, job.guest: replace(job, reference=printable(str(call.future.result()), 400))})
        elif call.kind in {"ask", "save"} and isinstance(error, GuestBusy):
            self._unanswered(job, said)
        elif call.kind == "save" and error:  # if it stands still it is being saved all the same, which the next look shows; else it is over
            self._fail(job, said)
            self._seen[job.guest].since = float("-inf")
        elif call.kind != "cancel" and error:
            self._failed(job, said)
        elif call.kind == "save":
            self._done(job)

    def _take_report(self, job: Job, report: MoveReport) -> None:
        seen = self._seen[job.guest]
        if report.standing is MoveStanding.DONE and seen.done_since is None:  # no more than a claim: it has moved when it is gone
            seen.done_since = self._context.monotonic()
        elif report.standing is MoveStanding.FAILED:
            self._failed(job, report.error or f"the mover {job.mover} says that it has failed")

    def _see_move(self, job: Job, is_here: bool, mover: Mover | None, why_not: Callable[[str], str]) -> None:
        seen, now, age = self._seen[job.guest], self._context.monotonic(), self._age(job)
        seen.absent = 0 if is_here else seen.absent + 1
        if seen.absent >= GONE_CYCLES and job.state is JobState.PREPARING:
            self._failed(job, "the guest has gone before it was moved")
        elif seen.absent >= GONE_CYCLES:
            self._moved(job)
        elif job.guest in self._calls:
            pass
        elif job.state is JobState.PREPARING:
            self._hand_over(job, mover, why_not(job.guest))
        elif not job.lost and seen.done_since is not None:
            if is_here and now - seen.done_since >= GIVE_UP_SECONDS:
                self._lose(job, f"the mover {job.mover} says that it has moved, and it is still here")
        elif not job.lost and mover is None:
            self._lose(job, f"there is no mover {printable(job.mover)} any more")
        elif not job.lost and age >= job.seconds + GIVE_UP_SECONDS:
            within = format_duration(round(job.seconds))
            self._lose(job, f"the mover {job.mover} has not said within {within} how it ended: the guest is left alone until it does")
        elif mover is None or len(self._abandoned(mover.name)) >= AT_ONCE:
            pass
        elif not job.lost and age >= job.seconds and not seen.given_up:
            seen.given_up = True
            self._call(job, "cancel", lambda: mover.cancel(job.for_mover()))
        elif not job.lost or now - seen.looked >= LOST_LOOK_SECONDS:
            seen.looked = now
            self._call(job, "look", lambda: mover.look(job.for_mover()))

    def _abandoned(self, mover: str) -> Sequence[Future[Any]]:
        self._hung[mover] = [item for item in self._hung.get(mover, ()) if not item.done()]
        return self._hung[mover]

    def _see_standing(self, job: Job, found: GuestState | None) -> None:
        if found is _STANDS[job.step]:
            self._seen[job.guest].absent = 0
            if job.state is not JobState.DONE:
                self._done(job)
            return
        if found is None:
            self._seen[job.guest].absent += 1
            if self._seen[job.guest].absent < GONE_CYCLES:
                return
        elif job.state is JobState.BEGUN and (self._age(job) < self.seconds or (job.step is Step.SAVE and found is GuestState.PAUSED)):
            return  # a guest that is being saved stands still
        elif self.is_late(job) and job.step is not Step.PAUSE and found is GuestState.RUNNING:
            if not self.error(job.guest):
                what = "was not saved" if job.step is Step.SAVE else "was asked, and did not shut down"
                self._fail(job, f"it {what} within {format_duration(self.seconds)}")
            if self._age(job) >= self.seconds + LATE_SECONDS:
                self.forget(job.guest)
            return
        how = "gone" if found is None else found
        self._context.log.warning("guest %s, which mom had stopped (%s), is %s now: it is left alone", printable(job.name), job.step, how)
        if found is None and job.step is not Step.PAUSE:
            self._recent.note_gone(job.guest)
        self.forget(job.guest)
        self._recent.spare(job.guest, Step)

    # --- how they end --------------------------------------------------------------------------------------------------------------

    def _done(self, job: Job) -> None:
        self._errors.pop(job.guest, None)
        self._context.log.warning("guest %s, %s: done", job.entity, job.step)
        self._note({**self._jobs, job.guest: replace(job, state=JobState.DONE)})

    def _moved(self, job: Job) -> None:
        self._context.log.warning("guest %s, %s: done", job.entity, job.step)
        if not job.drained:
            self._recent.note_move()
        self.forget(job.guest)

    def _failed(self, job: Job, error: str) -> None:
        self._fail(job, error)
        self.forget(job.guest)

    def _fail(self, job: Job, error: str) -> None:
        self._errors[job.guest] = error
        self._context.log.error("guest %s, %s: %s", job.entity, job.step, printable(error, 300))
        self._recent.spare(job.guest, [job.step])

    def _unanswered(self, job: Job, error: str) -> None:
        """It may still take effect: nothing else is done to the guest, and looks show what came of it."""
        self._seen[job.guest].unanswered = True
        self._fail(job, error)

    def _lose(self, job: Job, why: str) -> None:
        lost = replace(job, state=JobState.LOST, lost=printable(why, 400))
        self._note({**self._jobs, job.guest: lost})
        self._fail(lost, why)

    def _resumed(self, job: Job, error: str) -> None:
        if error:
            self._seen[job.guest].returns_failed += 1
            self._context.log.error("guest %s cannot go on: %s", job.entity, error)
        else:
            self._context.log.warning("guest %s goes on", job.entity)
            self.forget(job.guest)

    def forget(self, guest: str) -> None:
        """It is not mom's any more."""
        if guest in self._jobs:
            self._note({key: one for key, one in self._jobs.items() if key != guest})
            del self._seen[guest]

    def _note(self, jobs: Mapping[str, Job]) -> None:
        """Note what has happened: known, also where the disk does not take it, until mom ends; mom says what is wrong with the file."""
        try:
            self._write(jobs)
        except StateError:
            self._jobs, self._unwritten = dict(jobs), True

    def _write(self, jobs: Mapping[str, Job]) -> None:
        """Raises `StateError`: then nothing is changed."""
        self._file.write(FORM.dump_python(tuple(jobs.values()), mode="json"))
        self._jobs, self._unwritten = dict(jobs), False


def standings_of(control: LifecycleControl, guests: Sequence[Entity]) -> Mapping[str, GuestState | GuestBusy]:
    """Return the states of guests by id. `GuestBusy` stands for a guest that does not answer; other errors are raised."""
    result: dict[str, GuestState | GuestBusy] = {}
    for guest in guests:
        try:
            result.update(control.standings([guest]))
        except GuestBusy as error:
            result[guest.id] = error
    return result


def _check(job: Job) -> None:
    """Raise `MomError` for a job that could not be read again, such as one of a guest with an endless id: the whole file would be lost."""
    try:
        _JOB.validate_python(_JOB.dump_python(job, mode="json"))
    except ValidationError as error:
        first = error.errors()[0]
        raise MomError(f"it cannot be noted: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def _prepared(preparations: Sequence[MovePreparation], guest: Entity, seconds: float) -> str:
    """Have all of them done, one after the other; what came of each."""
    said = []
    for preparation in preparations:
        try:
            said.append(preparation.prepare(guest, seconds))
        except MomError as error:
            said.append(error.message)
    return "; ".join(filter(None, said))
