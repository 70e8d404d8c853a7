"""Moves that are under way, on disk: begun by a mover, and asked for until they are over, also after a crash; none is begun twice."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Final, TypeVar

from pydantic import FailFast, Field, StringConstraints, TypeAdapter

from mom_core import Entity, HypervisorError, MomError, PluginContext, Scope, StateError, StateFile, format_duration, printable
from mom_plugins_eviction.steps import Step
from mom_plugins_eviction.under_way import AT_ONCE, UnderWay
from mom_toolkit import Callers, Destination, MoveJob, Mover, MoveReport, MoveStanding, came_back

Answer = TypeVar("Answer")

CALL_SECONDS: Final = 30.0
"""How long one call of a mover may take. It is abandoned then, and counts as one that has told nothing."""

GIVE_UP_SECONDS: Final = 60.0
"""How long a mover may take to give up a move whose time is over."""

LOOK_SECONDS: Final = 2.0
"""How often it is asked how a move is; at the begin more often."""

LOST_LOOK_SECONDS: Final = 30.0
"""The same, of one whose time was over long ago."""

GONE_LOOKS: Final = 3
"""A guest that is not listed in so many cycles in a row has left. A hypervisor that was just restarted may not know all of them yet."""

FILE: Final = "moves.json"
WHAT: Final = "the file of guests that are being moved"
LOSS: Final = "a guest whose move is still under way may be moved once more: look at what moves guests here"

MOVED: Final = "being moved to"
"""What is being done to such a guest, in words, before the destination."""

_Text = Annotated[str, StringConstraints(max_length=400)]


@dataclass(frozen=True, slots=True)
class KeptMove:
    """A move that is under way, as far as is known: see `MoveJob`.

    :param lost: why it is not known how it is, though its time is over; empty: it is known, or its time is not over
    :param time: when it was begun, in seconds since the epoch, for people
    """

    identity: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    name: Annotated[str, StringConstraints(max_length=256)]
    mover: Annotated[str, StringConstraints(max_length=128)]
    destination: Destination
    id: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    seconds: Annotated[float, Field(gt=0, lt=1e6)]
    reference: _Text = ""
    lost: _Text = ""
    time: Annotated[float, Field(ge=0, lt=1 << 36)] = 0.0

    @property
    def job(self) -> MoveJob:
        """As its mover knows it."""
        guest = Entity(Scope.GUEST, self.identity, self.name)
        return MoveJob(guest, self.destination, self.id, self.seconds, self.time, self.reference)

    @property
    def what(self) -> str:
        """What is being done to the guest, for people."""
        return f"{MOVED} {printable(self.destination.uri, 100)}"


FORM: Final = TypeAdapter(Annotated[tuple[KeptMove, ...], FailFast()])


class _MoveLost(MomError):
    """It is not known how the move is, and its time is over."""


class MoveJobs:
    """The moves of this host's guests, by guest. For several threads.

    :param file: where they are kept
    :param ended: called when one is over, with what was wrong (empty: nothing) and whether it is not known how it ended
    """

    def __init__(
        self,
        context: PluginContext,
        file: StateFile[tuple[KeptMove, ...]],
        under_way: UnderWay,
        ended: Callable[[KeptMove, str, bool], None],
    ) -> None:
        self._context, self._file, self._under_way, self._tell = context, file, under_way, ended
        self._callers = Callers("mom eviction movers")
        self._lock = threading.Lock()
        self._kept: Mapping[str, KeptMove] = {}
        self._taken_up = False
        self._absent: dict[str, int] = {}
        self._calls: dict[str, list[Future[Any]]] = {}
        """Calls of each mover that were abandoned."""
        self._looks: dict[str, Future[MoveReport]] = {}
        """Looks at moves that are lost."""
        self._looked: dict[str, float] = {}
        self._closed = threading.Event()

    def load(self) -> None:
        """Read what an earlier run has left."""
        with self._lock:
            self._kept = {one.identity: one for one in self._file.read() or ()}

    def close(self) -> None:
        """Ask for none any more. What is under way is found again by the next mom."""
        self._closed.set()
        self._callers.close(0)

    @property
    def kept(self) -> Sequence[KeptMove]:
        """All that are not known to be over."""
        return tuple(self._kept.values())

    def get(self, identity: str) -> KeptMove | None:
        """The move of that guest."""
        return self._kept.get(identity)

    # --- from the cycle ----------------------------------------------------------------------------------------------------------

    def begin(self, mover: Mover, guest: Entity, destination: Destination, seconds: float) -> None:
        """Begin to move a guest. Raises `MomError`: `StateError` when it cannot be noted, and so is not done."""
        if self.get(guest.id) is not None:
            raise MomError("the guest is being moved already, or may be")
        if self._hung(mover) >= AT_ONCE:
            raise MomError(f"the mover {mover.name} has not come back from {AT_ONCE} calls", hint="see to it, and reload mom")
        kept = KeptMove(guest.id, guest.name[:256], mover.name, destination, secrets.token_hex(16), seconds, time=time.time())
        self._put(kept)
        try:
            self._carry_on(mover, kept, begun=False)
        except MomError:
            self.forget(guest.id)
            raise

    def see(self, here: Collection[str], movers: Sequence[Mover]) -> None:
        """In each cycle: the ids of guests that are here, and all movers. Goes on with the moves of an earlier run, and with lost ones."""
        kept = self.kept
        self._absent = {one.identity: self._absent.get(one.identity, 0) + 1 for one in kept if one.identity not in here}
        by_name = {mover.name: mover for mover in reversed(movers)}
        if not self._taken_up:
            self._taken_up = True
            for one in kept:
                self._take_up(one, by_name.get(one.mover))
        for one in self.kept:
            if one.lost:
                self._see_lost(one, by_name.get(one.mover))

    def _take_up(self, one: KeptMove, mover: Mover | None) -> None:
        if one.lost:
            return
        self._context.log.warning("guest %s was %s when mom ended: mom asks on how that goes", printable(one.name), one.what)
        try:
            if mover is None:
                raise MomError(f"there is no mover {printable(one.mover)} any more")
            self._carry_on(mover, one, begun=True)
        except MomError as error:
            self._over(one, error.message, lost=True)

    def _see_lost(self, one: KeptMove, mover: Mover | None) -> None:
        """Without waiting: what a look finds out is taken in the next cycle."""
        if self._is_gone(one.identity):
            self._over(one, "")
            return
        look, now = self._looks.get(one.identity), self._context.monotonic()
        if look is not None:
            if look.done():
                del self._looks[one.identity]
                self._take_report(one, look)
        elif mover is not None and now - self._looked.get(one.identity, float("-inf")) >= LOST_LOOK_SECONDS:
            self._looked[one.identity] = now
            self._looks[one.identity] = self._callers.start(lambda: mover.look(one.job))

    def _take_report(self, one: KeptMove, look: Future[MoveReport]) -> None:
        report = MoveReport(MoveStanding.UNKNOWN) if look.cancelled() or look.exception() else look.result()
        if report.standing is MoveStanding.DONE:
            self._over(one, "")
        elif report.standing is MoveStanding.FAILED:
            self._over(one, report.error or f"the mover {one.mover} says that it has failed")

    # --- in a thread of its own ----------------------------------------------------------------------------------------------------

    def _carry_on(self, mover: Mover, one: KeptMove, *, begun: bool) -> None:
        lost: list[bool] = []

        def work() -> None:
            try:
                self._carry(mover, one, begun=begun)
            except _MoveLost as error:
                lost.append(True)
                raise HypervisorError(error.message) from None

        def ended(error: str) -> None:
            if not self._closed.is_set():
                self._over(self.get(one.identity) or one, error, lost=bool(lost))

        self._under_way.begin(one.identity, one.what, Step.MIGRATE, work, ended)

    def _carry(self, mover: Mover, one: KeptMove, *, begun: bool) -> None:
        """Until it is over. Raises `HypervisorError` when the guest stays here."""
        job = one.job
        if not begun:
            reference = self._call(mover, lambda: mover.begin(job)) or ""
            job = replace(job, reference=printable(reference, 400))
            if self._closed.is_set():
                return  # the next mom has the file now
            with suppress(StateError):  # it is known until mom ends; the next one asks without it
                self._put(replace(one, reference=job.reference))
        ends, pause, given_up = time.monotonic() + one.seconds, 0.01, False
        while not self._closed.is_set():
            report = self._report(mover, job)
            if report.standing is MoveStanding.DONE or self._is_gone(one.identity):
                return
            if report.standing is MoveStanding.FAILED:
                raise HypervisorError(report.error or f"the mover {mover.name} says that it has failed")
            if time.monotonic() >= ends:
                if given_up or not mover.abilities.cancels:
                    within = format_duration(round(one.seconds))
                    raise _MoveLost(
                        f"the mover {mover.name} has not said within {within} how it ended: the guest is left alone until it does"
                    )
                given_up, ends = True, time.monotonic() + GIVE_UP_SECONDS
                with suppress(HypervisorError):  # it is asked on how it is
                    self._call(mover, lambda: mover.cancel(job))
            self._closed.wait(pause)
            pause = min(LOOK_SECONDS, 2 * pause)

    def _report(self, mover: Mover, job: MoveJob) -> MoveReport:
        try:
            return self._call(mover, lambda: mover.look(job)) or MoveReport(MoveStanding.UNKNOWN)
        except HypervisorError as error:
            self._context.log.debug("guest %s: the mover %s: %s", job.guest, mover.name, error)
            return MoveReport(MoveStanding.UNKNOWN)

    def _call(self, mover: Mover, call: Callable[[], Answer]) -> Answer | None:
        """What a mover answers; None when it does not within its time, or makes a mistake. Raises `HypervisorError`."""
        if self._hung(mover) >= AT_ONCE:
            self._closed.wait(LOOK_SECONDS)
            return None
        future = self._callers.start(call)
        if not came_back(future, CALL_SECONDS):
            with self._lock:
                self._calls.setdefault(mover.name, []).append(future)
            return None
        error = future.exception()
        if error is None:
            return future.result()
        if isinstance(error, HypervisorError):
            raise error
        # A mistake of the mover's: it may have begun, or not.
        self._context.log.error("the mover %s: %s: %s", mover.name, type(error).__name__, printable(str(error), 200))
        return None

    def _hung(self, mover: Mover) -> int:
        with self._lock:
            calls = [one for one in self._calls.get(mover.name, ()) if not one.done()]
            self._calls[mover.name] = calls
            return len(calls)

    def _is_gone(self, identity: str) -> bool:
        return self._absent.get(identity, 0) >= GONE_LOOKS

    # --- what is kept ---------------------------------------------------------------------------------------------------------------

    def _over(self, one: KeptMove, error: str, *, lost: bool = False) -> None:
        if lost:
            with self._lock:
                self._kept = {**self._kept, one.identity: replace(one, lost=printable(error, 400))}
                self._write_or_say()
        else:
            self.forget(one.identity)
        self._tell(one, error, lost)

    def forget(self, identity: str) -> None:
        """It is over, or the operator says so."""
        with self._lock:
            self._looks.pop(identity, None)
            self._looked.pop(identity, None)
            self._kept = {key: one for key, one in self._kept.items() if key != identity}
            self._write_or_say()

    def _write_or_say(self) -> None:
        with suppress(StateError):  # mom says what is wrong with the file; the next one asks the mover again, which knows that it is over
            self._write(self._kept)

    def _put(self, one: KeptMove) -> None:
        """Raises `StateError`: then it is not kept."""
        with self._lock:
            kept = {**self._kept, one.identity: one}
            self._write(kept)
            self._kept = kept

    def _write(self, kept: Mapping[str, KeptMove]) -> None:
        self._file.write([{**asdict(one), "destination": str(one.destination)} for one in kept.values()])
