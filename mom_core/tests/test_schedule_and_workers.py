"""Time: cycles on a grid that neither drifts nor piles up, and plugins that are called in their own threads, in time or not at all."""

from __future__ import annotations

import threading
import time

import pytest

from mom_core import PluginState
from mom_core.engine import schedule as schedule_module
from mom_core.engine.schedule import SHORTEST_GAP_SECONDS, Schedule, Tick
from mom_core.errors import DeadlineExceeded
from mom_core.plugins import invoker
from mom_core.plugins.invoker import PluginWorker


class FakeTime:
    """The module `time` as far as a schedule uses it, and a clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    made = FakeTime()
    monkeypatch.setattr(schedule_module, "time", made)
    return made


def schedule_of(clock: FakeTime, interval: float) -> Schedule:
    """Who waits for this one makes time pass."""

    def wait(seconds: float) -> None:
        clock.now += seconds

    made = Schedule(interval)
    made._condition.wait = wait  # type: ignore[method-assign,assignment]  # instead of the real time
    return made


def test_cycles_stay_on_the_grid_whatever_they_take(clock: FakeTime) -> None:
    schedule = schedule_of(clock, 0.5)
    for point in range(8):
        assert schedule.wait() == Tick(0.0, 0, "")
        assert clock.now == 1000 + 0.5 * point
        clock.now += 0.25


def test_a_late_cycle_is_late_and_the_next_one_is_not(clock: FakeTime) -> None:
    schedule = schedule_of(clock, 0.5)
    assert schedule.wait() == Tick(0.0, 0, "")
    clock.now += 0.75
    assert schedule.wait() == Tick(0.25, 0, "")
    assert schedule.wait() == Tick(0.0, 0, "")
    assert clock.now == 1001


def test_an_overlong_cycle_leaves_cycles_out_instead_of_piling_them_up(clock: FakeTime) -> None:
    schedule = schedule_of(clock, 0.5)
    assert schedule.wait() == Tick(0.0, 0, "")
    clock.now += 1.75
    assert schedule.wait() == Tick(0.25, 2, "")
    assert schedule.wait() == Tick(0.0, 0, "")
    assert clock.now == 1002


def test_a_flood_of_wake_ups_is_one_cycle_and_the_next_comes_after_a_gap(clock: FakeTime) -> None:
    schedule = schedule_of(clock, 60)
    assert schedule.wait() == Tick(0.0, 0, "")
    for number in range(1000):
        schedule.wake(f"event {number}")
    assert schedule.wait() == Tick(0.0, 0, "event 0")
    assert clock.now == 1000, "a scheduled cycle does not hold up the first woken one"
    schedule.wake("more")
    assert schedule.wait() == Tick(0.0, 0, "more")
    assert clock.now == 1000 + SHORTEST_GAP_SECONDS


def test_woken_cycles_leave_the_grid_as_it_is(clock: FakeTime) -> None:
    schedule = schedule_of(clock, 2)
    assert schedule.wait() == Tick(0.0, 0, "")
    clock.now += 0.5
    schedule.wake("pressure")
    assert schedule.wait() == Tick(0.0, 0, "pressure")
    assert schedule.wait() == Tick(0.0, 0, "")
    assert clock.now == 1002


def test_a_wake_up_that_comes_with_the_clock_costs_no_cycle_of_its_own(clock: FakeTime) -> None:
    schedule = schedule_of(clock, 2)
    assert schedule.wait() == Tick(0.0, 0, "")
    clock.now += 2
    schedule.wake("pressure")
    assert schedule.wait() == Tick(0.0, 0, ""), "the clock had made it due already"
    assert schedule.wait() == Tick(0.0, 0, "")
    assert clock.now == 1004


def test_who_waits_is_woken_and_stopped_from_another_thread() -> None:
    schedule = Schedule(600)
    assert schedule.wait() is not None
    threading.Timer(0.05, schedule.wake, ["pressure"]).start()
    assert schedule.wait() == Tick(0.0, 0, "pressure")
    threading.Timer(0.05, schedule.stop).start()
    assert schedule.wait() is None


def test_a_worker_makes_one_call_at_a_time_in_one_thread() -> None:
    worker = PluginWorker("p", 60)
    threads = {worker.call("h", threading.get_ident) for _ in range(3)}
    assert len(threads) == 1
    assert threading.get_ident() not in threads
    assert worker.close(time.monotonic() + 60)


def test_a_call_that_is_late_is_left_behind_and_nothing_else_is_called_until_it_is_back() -> None:
    worker, release, calls = PluginWorker("p", 0.05), threading.Event(), []
    with pytest.raises(DeadlineExceeded, match=r"h did not answer within 0.05 s"):
        worker.call("h", lambda: release.wait(600))
    assert worker.hung
    assert worker.report().state is PluginState.HUNG
    with pytest.raises(DeadlineExceeded, match="its call of h has not come back"):
        worker.call("other", lambda: calls.append(1))
    assert not worker.wait_until_free(time.monotonic() + 0.05)
    assert calls == []
    release.set()
    assert worker.wait_until_free(time.monotonic() + 60)
    assert worker.call("other", lambda: "fine", 60) == "fine"
    worker.close(time.monotonic() + 1)


def test_workers_run_together_and_each_has_its_own_deadline() -> None:
    release, together = threading.Event(), threading.Barrier(2)
    works = (
        (60, lambda: together.wait(60) >= 0),
        (60, lambda: together.wait(60) >= 0),
        (0.1, lambda: release.wait(600)),
        (60, lambda: 1 / 0),
    )
    began = time.monotonic()
    workers = [PluginWorker("p", deadline) for deadline, _ in works]
    calls = [worker.begin("h", work) for worker, (_, work) in zip(workers, works, strict=True)]
    answers = [worker.finish(call) for worker, call in zip(workers, calls, strict=True) if call is not None]
    assert time.monotonic() - began < 30
    assert [answer.value for answer in answers] == [True, True, None, None]
    assert [type(answer.error).__name__ for answer in answers] == ["NoneType", "NoneType", "DeadlineExceeded", "ZeroDivisionError"]
    release.set()


def test_back_off_grows_and_a_success_forgives() -> None:
    now = 0.0
    worker = PluginWorker("p", 60, monotonic=lambda: now)

    def fail() -> None:
        raise KeyboardInterrupt

    for _ in range(invoker.FAILURES_BEFORE_SET_ASIDE):
        with pytest.raises(KeyboardInterrupt):
            worker.call("h", fail)
    assert worker.report().state is PluginState.SET_ASIDE
    assert worker.begin("h", fail) is None
    assert worker.call("another hook", lambda: 1) == 1
    now += invoker.FIRST_RETRY_SECONDS
    with pytest.raises(KeyboardInterrupt):
        worker.call("h", fail)
    assert worker.report().retry_in == 2 * invoker.FIRST_RETRY_SECONDS
    now += 2 * invoker.FIRST_RETRY_SECONDS
    assert worker.call("h", lambda: 1) == 1
    report = worker.report()
    assert (report.state, report.failures) == (PluginState.OK, 4)
    assert report.last_error == f"KeyboardInterrupt (at {__file__}:{fail.__code__.co_firstlineno + 1})"
    worker.close(time.monotonic() + 1)


def test_a_stop_ends_the_waiting_for_slow_plugins() -> None:
    stopping, release = threading.Event(), threading.Event()
    worker = PluginWorker("p", 600, stopping)
    threading.Timer(0.1, stopping.set).start()
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="mom stops"):
        worker.call("h", lambda: release.wait(600))
    assert time.monotonic() - began < 30
    release.set()
