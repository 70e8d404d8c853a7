"""One sweep: inflate the balloon slice by slice, watch the guest, and deflate in any case."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from mom_core import Entity, GuestGone
from mom_plugins_balloon.parameters import longest_move_seconds
from mom_plugins_balloon.sweep import constants
from mom_plugins_balloon.sweep.qemu_process import ProcessReading, ProcessWatch
from mom_plugins_balloon.sweep.records import SweepEnd, SweepOutcome, SweepOver, SweepPlan


@dataclass(frozen=True, slots=True)
class SweptBalloon:
    """Commands and queries for one guest's balloon. All raise `HypervisorError`."""

    resize: Callable[[int], None]  #: asks the guest for a size in KiB
    size: Callable[[], float | None] = lambda: None  #: returns the guest's size in KiB while its balloon moves; None if unknown
    #: Returns the time of the last statistics (s since the epoch), and the usable KiB; None if unknown.
    statistics: Callable[[], tuple[float, float] | None] = lambda: None


@dataclass(eq=False)
class Sweep:
    """One sweep in its own thread."""

    guest: Entity
    incarnation: str
    plan: SweepPlan
    balloon: SweptBalloon
    read_process: Callable[[], ProcessReading | None]
    on_end: Callable[[SweepOutcome], object] | None = None  #: called with the outcome in the sweep's thread, after the sweep
    clock: Callable[[], float] = time.monotonic
    pause: Callable[[float], object] | None = None  #: waits this many seconds; None for a wait that `stop` ends
    taken_over: bool = field(default=False, init=False)  #: the guest gets another size
    inflates: bool = field(default=False, init=False)  #: the sweep has its turn: it watches the guest or inflates the balloon

    def __post_init__(self) -> None:
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._pause = self.pause or self._stopped.wait
        self._watch = ProcessWatch(self.read_process, self.clock, self._pause)
        self._cost, self._slice, self._lowest = self.plan.cost, constants.FIRST_SLICE_KIB, self.plan.size
        self._hollow = self._slowest = 0.0
        self._fresh_until = self.plan.measured + constants.FRESH_SECONDS
        self._began = self.clock()
        self._until = self._began + self.plan.within  # earlier once the sweep inflates

    def stop(self) -> None:
        """End the sweep and deflate the balloon."""
        self._stopped.set()

    def take_over(self) -> None:
        """End the sweep without deflating: the guest gets another size. After this method returns, the sweep sends no command."""
        self._stopped.set()
        locked = self._lock.acquire(timeout=constants.TAKEN_OVER_SECONDS)
        self.taken_over = True
        if locked:
            self._lock.release()

    def perform(self, turns: threading.Semaphore | None = None) -> SweepOutcome:
        """Inflate until the host has the planned memory or the guest is busy, then deflate.

        :param turns: semaphore that the sweep holds while the balloon inflates
        """
        end, error = self._inflate_safely(turns or threading.Semaphore())
        deflating, lacks = self.clock(), ""
        inflated = self._lowest < self.plan.size
        if inflated and end is not SweepEnd.GONE:
            try:
                lacks = self._deflate()
            except GuestGone:
                end = SweepEnd.GONE
        now = self.clock()
        end = SweepEnd.TAKEN_OVER if self.taken_over and end is not SweepEnd.GONE else end
        return SweepOutcome(
            guest=self.guest, incarnation=self.incarnation, plan=self.plan, end=end, ended=now, lowest=self._lowest,
            gave=max(0.0, self._watch.gained), seconds=now - self._began if inflated else 0.0,
            reaction=self._slowest + constants.PAUSE_SECONDS + (now - deflating) + constants.RELEASE_SECONDS,
            cost=self._cost, is_back=not lacks and not (self.taken_over and inflated), error=lacks or error,
        )  # fmt: skip

    def _inflate_safely(self, turns: threading.Semaphore) -> tuple[SweepEnd, str]:
        try:
            self._await_statistics()
            self._await_turn(turns)
            try:
                self._await_statistics()
                self._inflate()
            finally:
                turns.release()
        except SweepOver as over:
            return over.end, over.error
        except GuestGone:
            return SweepEnd.GONE, ""
        except Exception as failure:  # noqa: BLE001  # a hypervisor's fault must not cost the guest its headroom: `perform` deflates
            return SweepEnd.FAILED, str(failure) or type(failure).__name__
        return SweepEnd.ARRIVED, ""

    def _await_statistics(self) -> None:
        now = self.clock()
        if now <= self._fresh_until:
            return
        (first, _), until = self._statistics(), now + constants.NEXT_STATISTICS_SECONDS
        while self.clock() < until:
            self._pause(constants.ASK_SECONDS)
            now, latest = self.clock(), self._statistics()
            self._raise_if_stopped()
            made, _ = latest
            if made is not None and first is not None and made != first:
                self._fresh_until = now - constants.ASK_SECONDS + constants.FRESH_SECONDS
                self._raise_if_used(latest)
                return
            first = first or made
        raise SweepOver(SweepEnd.LATE)

    def _statistics(self) -> tuple[float | None, float | None]:
        return self.balloon.statistics() or (None, None)

    def _await_turn(self, turns: threading.Semaphore) -> None:
        while not turns.acquire(timeout=constants.ASK_SECONDS):
            self._raise_if_stopped()

    def _inflate(self) -> None:
        plan = self.plan
        self._until = min(self._until, self.clock() + longest_move_seconds(plan.size - plan.bottom))
        self._watch.read()
        self.inflates = True
        self._raise_if_busy(constants.QUIET_SECONDS, SweepEnd.AT_WORK)
        self._raise_if_used(self._statistics())
        while self._lowest > plan.bottom:
            if self.clock() > self._until:
                raise SweepOver(SweepEnd.LATE)
            self._inflate_to(max(plan.bottom, int(self._lowest - self._slice)))
            if self._watch.gained >= constants.GOT_SHARE * plan.gain:
                return
            if self._hollow >= plan.hollow + constants.HOLLOW_SLICES * constants.SLICE_KIB:
                raise SweepOver(SweepEnd.NOTHING_MORE)

    def _inflate_to(self, size: int) -> None:
        resident, before = self._watch.resident, self._lowest
        kib, cpu_seconds, began = before - size, self._watch.read().cpu_seconds, self.clock()
        if before == self.plan.size:
            self._began = began
        self._resize(size)
        limit = cpu_seconds + self._cost.limit(kib, hollow=self._hollow < self.plan.hollow)
        commanded = self.clock()
        try:
            self._await_arrival(limit)
        finally:
            self._slowest = max(self._slowest, self.clock() - commanded)
            self._slice = _next_slice(self._slice, kib, self.clock() - began)
        gained = resident - self._watch.resident
        spent = self._watch.read().cpu_seconds - cpu_seconds
        if self._cost.is_doubtful(kib, gained, spent):
            self._raise_if_busy(constants.DOUBT_SECONDS, SweepEnd.GREW)
        self._raise_if_used(self._statistics())
        self._cost = self._cost.learn(kib, gained, spent)
        self._hollow += kib - max(0.0, gained)

    def _resize(self, size: int) -> None:
        with self._lock:
            if self.taken_over:
                raise SweepOver(SweepEnd.TAKEN_OVER)
            self._raise_if_stopped()
            self._lowest = size  # noted before the command: a failed command may have taken effect, and must be undone
            self.balloon.resize(size)

    def _await_arrival(self, cpu_limit: float) -> None:
        # A balloon that waits for CPU looks idle, so the hypervisor's size counts. Without that size, watch an idle guest twice.
        began = self.clock()
        while True:
            activity = self._watch.watch(constants.POLL_SECONDS)
            idle = activity.busy < constants.STILL_MOVES
            if idle:
                size = self.balloon.size()
                idle = size is None or size - self._lowest <= constants.ARRIVED_KIB
            if idle:
                activity = self._watch.watch(constants.PAUSE_SECONDS)
            cpu_seconds, passed = self._watch.read().cpu_seconds, self.clock() - began
            self._raise_if_stopped()
            own = constants.STILL_MOVES * max(0.0, passed - constants.SLICE_SECONDS)
            if (idle and activity.grown > constants.GROWN_KIB) or cpu_seconds > cpu_limit + own:
                raise SweepOver(SweepEnd.GREW)
            if idle and activity.busy < constants.STILL_MOVES:
                return
            if passed > constants.SLICE_WAIT_SECONDS:
                raise SweepOver(SweepEnd.LATE)

    def _raise_if_stopped(self) -> None:
        if self._stopped.is_set():
            raise SweepOver(SweepEnd.TAKEN_OVER)

    def _raise_if_busy(self, seconds: float, end: SweepEnd) -> None:
        resident = self._watch.resident
        activity = self._watch.watch(seconds)
        self._raise_if_stopped()
        if max(self._watch.resident - resident, activity.faulted) > constants.GROWN_KIB or activity.busy >= constants.AT_WORK:
            raise SweepOver(end)

    def _raise_if_used(self, statistics: tuple[float | None, float | None]) -> None:
        _, usable = statistics
        if usable is not None and usable + self.plan.size - self._lowest < self.plan.usable - constants.GROWN_KIB:
            raise SweepOver(SweepEnd.GREW)

    def _deflate(self) -> str:
        # Returns the error, if any. Raises `GuestGone` for an ended guest.
        error = ""
        for seconds in (0.0, *constants.BACK_AGAIN_SECONDS):
            if seconds:
                time.sleep(seconds)
            with self._lock:
                if self.taken_over:
                    return ""
                try:
                    self.balloon.resize(self.plan.size)
                except GuestGone:
                    raise
                except Exception as failure:  # noqa: BLE001  # a hypervisor may raise anything: the next attempt may succeed
                    error = f"cannot return its headroom: {failure or type(failure).__name__}"
                else:
                    return ""
        return error


def _next_slice(slice_kib: float, kib: float, seconds: float) -> float:
    if kib < 0.5 * slice_kib or seconds <= 0:
        return slice_kib
    return min(constants.SLICE_KIB, max(constants.LEAST_SLICE_KIB, kib * constants.SLICE_SECONDS / seconds))
