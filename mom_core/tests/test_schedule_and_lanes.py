"""Time: cycles on a grid that neither drifts nor piles up, and plugins that are called in their own threads, in time or not at all."""

from __future__ import annotations

import threading
import time

import pytest

from mom_core import DeadlineExceeded, PluginState
from mom_core.engine.schedule import Schedule, Tick
from mom_core.plugins import invoker
from mom_core.plugins.invoker import Lane, call_together


def test_cycles_stay_on_the_grid_whatever_they_take() -> None:
    began = time.monotonic()
    schedule = Schedule(0.05)
    late, point = [], -1
    for _ in range(8):
        tick = schedule.wait()
        assert tick is not None
        point += 1 + tick.skipped  # a slow machine leaves some out; those that come are on the grid all the same
        late.append(time.monotonic() - began - 0.05 * point)
        time.sleep(0.02)
    assert min(late) >= 0
    assert min(late[-4:]) < 0.04  # each of them by 0.08 and more, if a cycle's time were added to the interval


def test_an_overlong_cycle_leaves_cycles_out_instead_of_piling_them_up() -> None:
    schedule = Schedule(0.05)
    assert schedule.wait() is not None
    time.sleep(0.18)
    late = schedule.wait()
    assert late is not None
    assert late.skipped == 2
    assert 0 < late.lag < 0.05
    began = time.monotonic()
    assert schedule.wait() is not None
    assert time.monotonic() - began < 0.05


def test_a_flood_of_wake_ups_is_one_cycle_and_the_next_comes_after_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mom_core.engine.schedule.SHORTEST_GAP_SECONDS", 0.1)
    schedule = Schedule(60)
    assert schedule.wait() == Tick(pytest.approx(0, abs=0.05), 0, "")  # type: ignore[arg-type]  # compared, not used
    for number in range(1000):
        schedule.wake(f"event {number}")
    began = time.monotonic()
    assert schedule.wait() == Tick(0.0, 0, "event 0")
    assert time.monotonic() - began < 0.05, "a scheduled cycle does not hold up the first woken one"
    schedule.wake("more")
    assert schedule.wait() == Tick(0.0, 0, "more")
    assert 0.09 < time.monotonic() - began < 0.5
    threading.Timer(0.05, schedule.stop).start()
    assert schedule.wait() is None


def test_woken_cycles_leave_the_grid_as_it_is() -> None:
    schedule = Schedule(0.2)
    assert schedule.wait() is not None
    began = time.monotonic()
    schedule.wake("pressure")
    assert schedule.wait() == Tick(0.0, 0, "pressure")
    tick = schedule.wait()
    assert tick is not None
    assert (tick.skipped, tick.woken_by) == (0, "")
    assert 0.15 < time.monotonic() - began < 0.3


def test_a_wake_up_that_comes_with_the_clock_costs_no_cycle_of_its_own() -> None:
    schedule = Schedule(0.1)
    assert schedule.wait() is not None
    time.sleep(0.1)
    schedule.wake("pressure")
    tick = schedule.wait()
    assert tick is not None
    assert tick.woken_by == "", "the clock had made it due already"
    threading.Timer(0.03, schedule.stop).start()
    assert schedule.wait() is None


def test_a_lane_makes_one_call_at_a_time_in_one_thread() -> None:
    lane = Lane("p", 5)
    threads = {lane.call("h", threading.get_ident) for _ in range(3)}
    assert len(threads) == 1
    assert threading.get_ident() not in threads
    assert lane.close(time.monotonic() + 1)


def test_a_call_that_is_late_is_left_behind_and_nothing_else_is_called_until_it_is_back() -> None:
    lane, release, calls = Lane("p", 0.05), threading.Event(), []
    with pytest.raises(DeadlineExceeded, match=r"h did not answer within 0.05 s"):
        lane.call("h", lambda: release.wait(10))
    assert lane.hung
    assert lane.report().state is PluginState.HUNG
    with pytest.raises(DeadlineExceeded, match="its call of h has not come back"):
        lane.call("other", lambda: calls.append(1))
    assert not lane.wait_until_free(time.monotonic() + 0.05)
    assert calls == []
    release.set()
    assert lane.wait_until_free(time.monotonic() + 5)
    assert lane.call("other", lambda: "fine") == "fine"
    lane.close(time.monotonic() + 1)


def test_lanes_run_together_and_each_has_its_own_deadline() -> None:
    fast, slow, stuck = Lane("fast", 5), Lane("slow", 5), Lane("stuck", 0.1)
    release = threading.Event()
    began = time.monotonic()
    answers = call_together(
        [(fast, lambda: 1), (slow, lambda: time.sleep(0.1) or 2), (stuck, lambda: release.wait(10)), (Lane("raises", 5), lambda: 1 / 0)],  # type: ignore[func-returns-value]  # None, so that 2 is returned
        "h",
    )
    assert time.monotonic() - began < 1
    assert [answer.value for _, answer in answers] == [1, 2, None, None]
    assert [type(answer.error).__name__ for _, answer in answers] == ["NoneType", "NoneType", "DeadlineExceeded", "ZeroDivisionError"]
    release.set()


def test_back_off_grows_and_a_success_forgives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invoker, "FIRST_RETRY_SECONDS", 0.05)
    lane = Lane("p", 5)

    def fail() -> None:
        raise KeyboardInterrupt

    for _ in range(invoker.FAILURES_BEFORE_SET_ASIDE):
        with pytest.raises(KeyboardInterrupt):
            lane.call("h", fail)
    assert lane.report().state is PluginState.SET_ASIDE
    assert lane.begin("h", fail) is None
    assert lane.call("another hook", lambda: 1) == 1
    time.sleep(0.06)
    with pytest.raises(KeyboardInterrupt):
        lane.call("h", fail)
    assert 0.06 < lane.report().retry_in <= 0.1
    time.sleep(0.11)
    assert lane.call("h", lambda: 1) == 1
    report = lane.report()
    assert (report.state, report.failures, report.last_error) == (PluginState.OK, 4, "KeyboardInterrupt")
    lane.close(time.monotonic() + 1)


def test_back_off_goes_by_the_clock_that_cycles_go_by() -> None:
    now = 0.0
    lane = Lane("p", 5, monotonic=lambda: now)
    for _ in range(invoker.FAILURES_BEFORE_SET_ASIDE):
        with pytest.raises(ZeroDivisionError):
            lane.call("h", lambda: 1 / 0)
    now = invoker.FIRST_RETRY_SECONDS - 0.1
    assert lane.begin("h", lambda: 1) is None
    assert lane.report().retry_in == pytest.approx(0.1)
    now = invoker.FIRST_RETRY_SECONDS
    assert lane.call("h", lambda: 1) == 1, "simulated time has passed, though no real time has"
    lane.close(time.monotonic() + 1)


def test_a_stop_ends_the_waiting_for_slow_plugins() -> None:
    stopping, release = threading.Event(), threading.Event()
    lane = Lane("p", 30, stopping)
    threading.Timer(0.1, stopping.set).start()
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="mom stops"):
        lane.call("h", lambda: release.wait(30))
    assert time.monotonic() - began < 1
    release.set()
