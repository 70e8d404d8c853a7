"""Stops and moves guests, lets them go on, and remembers whom. What takes long is done in threads; what may be done was decided before."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final, Protocol

from mom_core import Entity, Hypervisor, HypervisorError, MomError, PluginContext, Scope, StateError, StateFile, format_duration, printable
from mom_plugins_eviction.ladder import Stopped
from mom_plugins_eviction.move_jobs import KeptMove, MoveJobs
from mom_plugins_eviction.remembered import Remembered
from mom_plugins_eviction.steps import Step
from mom_plugins_eviction.under_way import UnderWay
from mom_toolkit import Destination, GuestState, LifecycleControl, Mover

STANDS: Final[Mapping[Step, GuestState]] = {Step.PAUSE: GuestState.PAUSED, Step.SAVE: GuestState.SAVED, Step.SHUT_DOWN: GuestState.OFF}
"""How a guest stands to which that was done."""

_LOOK_SECONDS: Final = 0.5
"""How often it is looked whether a guest that was asked has shut down."""

_LOOKS_UNTIL_GONE: Final = 3
"""A guest that the hypervisor does not know in so many cycles in a row is gone. One that has just started may not know all of them yet."""


LATE_SECONDS: Final = 1800.0
"""A guest that was asked to shut down, and does so only so long after its time was over, has still done it for mom: an update, say, that is
installed at the end. One that ends later does so for a reason of its own."""


class Tell(Protocol):
    """Tells others of an event: its name, the guest's id and name, the step, and what is wrong."""

    def __call__(self, event: str, identity: str, name: str, step: Step, *, error: str = "") -> None:
        """It has happened just now. From any thread."""


class Evictions:
    """What is done to guests, and what was.

    :param timeout: seconds that saving, moving, starting or shutting down one guest may take
    """

    def __init__(
        self, context: PluginContext, remembered: Remembered, moves: StateFile[tuple[KeptMove, ...]], timeout: float, tell: Tell
    ) -> None:
        self._context, self._timeout, self._tell = context, timeout, tell
        self.remembered = remembered
        self.under_way = UnderWay()
        self.moves = MoveJobs(context, moves, self.under_way, self._moved)
        self._missing: dict[str, int] = {}
        self._returns_failed: dict[str, int] = {}
        self._began = context.monotonic()
        self._asked: dict[str, float] = {}
        """When guests were asked to shut down, for as long as they have not, and may. What an earlier run has asked for counts from the
        begin of this one on."""

    # --- stopping and moving -----------------------------------------------------------------------------------------------------

    def move(self, mover: Mover, guest: Entity, destination: Destination) -> None:
        """Begin to move a guest away. Raises `MomError`: `StateError` when it cannot be noted."""
        self.moves.begin(mover, guest, destination, self._timeout)

    def _moved(self, one: KeptMove, error: str, lost: bool) -> None:
        """A move is over, or it is not known how it is."""
        guest = Entity(Scope.GUEST, one.identity, one.name)
        if lost:
            self._context.log.error("guest %s, which was %s: %s", guest, one.what, error)
            self._tell("lost", guest.id, guest.name, Step.MIGRATE, error=error)
            return
        self._ended(guest, Step.MIGRATE, error)

    def is_busy_with(self, identity: str) -> bool:
        """Whether something is being done to that guest, or may be."""
        return self.under_way.is_busy_with(identity) or self.moves.get(identity) is not None

    def stop(self, hypervisor: Hypervisor, one: Stopped) -> None:
        """Begin to stop a guest; a pause is done when this returns. Raises `MomError`: `StateError` when it cannot be noted."""
        if not isinstance(hypervisor, LifecycleControl):
            raise MomError(f"{hypervisor.uri} cannot stop guests")
        if self.is_busy_with(one.identity):
            raise MomError("something is being done to the guest already")
        control, guest = hypervisor, _entity(one)
        # Noted before it is done: what is not remembered would never come back.
        self.remembered.add(one)
        try:
            if one.step is Step.PAUSE:
                # At once: what puts it back at mom's end must not come before it.
                control.pause(guest)
                self._ended(guest, one.step, "")
            elif one.step is Step.SAVE:
                self.under_way.begin(
                    guest.id, "being saved", one.step, lambda: control.save(guest, self._timeout), self._after(guest, one.step)
                )
            else:
                self.under_way.begin(
                    guest.id, "being shut down", one.step, lambda: self._shut_down(control, guest), self._after(guest, one.step)
                )
        except MomError:
            self.forget(guest.id)
            raise

    def _after(self, guest: Entity, step: Step) -> Callable[[str], None]:
        return lambda error: self._ended(guest, step, error)

    def _shut_down(self, hypervisor: LifecycleControl, guest: Entity) -> None:
        """Ask, and see whether the guest follows. Whatever goes wrong once it was asked, it may follow later."""
        hypervisor.shut_down(guest)
        self._asked[guest.id] = self._context.monotonic()
        ends = time.monotonic() + self._timeout
        while time.monotonic() < ends:
            if hypervisor.standings([guest]).get(guest.id) in (GuestState.OFF, None):
                return
            time.sleep(_LOOK_SECONDS)
        raise HypervisorError(f"it was asked, and did not shut down within {format_duration(self._timeout)}")

    def _ended(self, guest: Entity, step: Step, error: str) -> None:
        """In the thread that did it."""
        if error:
            self._context.log.error("guest %s, %s: %s", guest, step, printable(error, 300))
            if guest.id not in self._asked:
                self.forget(guest.id)
        else:
            self._context.log.warning("guest %s, %s: done", guest, step)
            if step is Step.MIGRATE:
                self.forget(guest.id)  # one that was asked to shut down, and was moved before it did
            else:
                self._is_done(guest.id)
        self._tell("failed" if error else "done", guest.id, guest.name, step, error=error)
        self._context.wake(f"guest {guest}: {step}")

    def _is_done(self, identity: str) -> None:
        self._asked.pop(identity, None)
        self._noting(lambda: self.remembered.done(identity))

    def is_late(self, one: Stopped) -> bool:
        """Whether that guest was asked to shut down, has not within its time, and runs on: it may still follow."""
        return not one.done and one.step is Step.SHUT_DOWN and not self.under_way.is_busy_with(one.identity)

    def _may_still(self, one: Stopped) -> bool:
        """Whether what was begun with that guest may yet end as it was meant to."""
        late = LATE_SECONDS if one.step is Step.SHUT_DOWN else 0.0
        return not one.done and self._context.monotonic() < self._asked.get(one.identity, self._began) + self._timeout + late

    # --- going on ------------------------------------------------------------------------------------------------------------------

    def can_return(self) -> Sequence[Stopped]:
        """Those that were stopped, first to last, but what has failed to go on comes first, to be tried last."""
        return sorted(
            (one for one in self.remembered.stopped if not self.under_way.is_busy_with(one.identity)),
            key=lambda one: -self._returns_failed.get(one.identity, 0),
        )

    def let_go_on(self, hypervisor: Hypervisor | None, one: Stopped, why: str, answer: Callable[[str], None] = lambda error: None) -> None:
        """Begin to let a guest go on.

        :param answer: called with the error, or with nothing, when it is over
        """
        guest = _entity(one)
        if hypervisor is None or not isinstance(hypervisor, LifecycleControl):
            answer("there is no hypervisor that can do that")
            return
        control = hypervisor

        def work() -> None:
            if one.step is Step.PAUSE:
                control.resume(guest)
            else:
                control.start(guest, self._timeout)

        def ended(error: str) -> None:
            if error:
                self._returns_failed[guest.id] = self._returns_failed.get(guest.id, 0) + 1
                self._context.log.error("guest %s cannot go on: %s", guest, printable(error, 300))
            else:
                self.forget(guest.id)
                self._context.log.warning("guest %s goes on: %s", guest, why)
            self._tell("undo failed" if error else "undone", guest.id, guest.name, one.step, error=error)
            self._context.wake(f"guest {guest} goes on")
            answer(error)

        try:
            self.under_way.begin(guest.id, "going on", None, work, ended)
        except MomError as error:
            answer(str(error))

    # --- what the operator has done ---------------------------------------------------------------------------------------------------

    def reconcile(self, hypervisor: Hypervisor) -> None:
        """The operator may have let a guest go on, or stopped it otherwise: then it is not mom's any more."""
        if self.remembered.unwritten:
            self._noting(self.remembered.write_again)
        stopped = self.can_return()
        if not stopped or not isinstance(hypervisor, LifecycleControl):
            return
        try:
            standings = hypervisor.standings([_entity(one) for one in stopped])
        except HypervisorError:
            return  # another cycle will know
        for one in stopped:
            self._look_at(one, standings.get(one.identity))

    def _look_at(self, one: Stopped, found: GuestState | None) -> None:
        if found is STANDS[one.step]:
            self._missing.pop(one.identity, None)
            asked = one.identity in self._asked
            self._is_done(one.identity)
            if asked:
                self._context.log.warning("guest %s has shut down after all", printable(one.name))
                self._tell("done", one.identity, one.name, one.step)
            return
        if found is None:
            self._missing[one.identity] = self._missing.get(one.identity, 0) + 1
            if self._missing[one.identity] < _LOOKS_UNTIL_GONE:
                return
        if self._may_still(one) and not (found is None and one.identity in self._asked):
            return
        how = "gone" if found is None else found
        if one.identity in self._asked and found is GuestState.RUNNING:  # that it has failed was told when its time was over
            self._context.log.info("guest %s has not shut down: it is not waited for any longer", printable(one.name))
            self.forget(one.identity)
            return
        self._context.log.warning("guest %s, which mom had stopped (%s), is %s now: it is left alone", printable(one.name), one.step, how)
        self.forget(one.identity)
        self._tell("left alone", one.identity, one.name, one.step, error=f"the guest is {how}")

    def forget(self, identity: str) -> None:
        """It is not mom's any more."""
        self._missing.pop(identity, None)
        self._asked.pop(identity, None)
        self._returns_failed.pop(identity, None)
        self._noting(lambda: self.remembered.remove(identity))

    def _noting(self, note: Callable[[], None]) -> None:
        with suppress(StateError):  # it is known all the same until mom ends, and mom says what is wrong with the file
            note()


def _entity(one: Stopped) -> Entity:
    return Entity(Scope.GUEST, one.identity, one.name)
