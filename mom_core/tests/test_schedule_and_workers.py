"""Cycles on a grid without drift or backlog, and plugins called in their own threads with deadlines."""

import threading
import time
from types import SimpleNamespace

import pytest

from mom_core import PluginReport
from mom_core.engine import schedule as schedule_module
from mom_core.engine.schedule import SHORTEST_GAP_SECONDS, Schedule, Tick
from mom_core.errors import DeadlineExceeded
from mom_core.plugins import invoker
from mom_core.plugins.invoker import PluginWorker
from mom_devkit import HandClock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> HandClock:
    """Replace the schedule's clock."""
    made = HandClock(1000.0)
    monkeypatch.setattr(schedule_module, "time", SimpleNamespace(monotonic=made))
    return made


NOW = Tick(0.0, 0, "")
PRESSURE = Tick(0.0, 0, "pressure")


@pytest.mark.parametrize(
    ("interval", "steps"),
    [
        pytest.param(0.5, [(0.25, "", NOW, 0.5 * n) for n in range(1, 8)], id="cycles stay on the grid whatever they take"),
        pytest.param(0.5, [(0.75, "", Tick(0.25, 0, ""), 0.75), (0, "", NOW, 1)], id="a late cycle is late, and the next one is not"),
        pytest.param(0.5, [(1.75, "", Tick(0.25, 2, ""), 1.75), (0, "", NOW, 2)], id="an overlong cycle leaves out others"),
        # A scheduled cycle does not delay the first woken one.
        pytest.param(60, [(0, "pressure", PRESSURE, 0), (0, "pressure", PRESSURE, SHORTEST_GAP_SECONDS)], id="woken cycles keep apart"),
        pytest.param(2, [(0.5, "pressure", PRESSURE, 0.5), (0, "", NOW, 2)], id="a woken cycle leaves the grid as it is"),
        pytest.param(2, [(2, "pressure", NOW, 2), (0, "", NOW, 4)], id="a wake-up that comes with the clock costs no cycle of its own"),
    ],
)
def test_a_schedule_ticks(clock: HandClock, interval: float, steps: list[tuple[float, str, Tick, float]]) -> None:
    """Steps: seconds that pass, reason for a thousand wake-ups (or empty), expected tick, and its time after the first one."""

    def wait(seconds: float) -> None:
        clock.now += seconds

    schedule = Schedule(interval)
    schedule._condition.wait = wait  # type: ignore[method-assign,assignment]  # who waits makes time pass
    assert schedule.wait() == NOW
    for passes, woken_by, tick, at in steps:
        clock.now += passes
        for number in range(1000 * bool(woken_by)):
            schedule.wake(woken_by if number == 0 else "another event")
        assert schedule.wait() == tick
        assert clock.now == 1000 + at


def test_a_stop_during_progress_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule_module, "BEAT_SECONDS", 60.0)
    schedule = Schedule(600)
    schedule.wait()
    began = time.monotonic()
    assert schedule.wait(schedule.stop) is None, "a signal handler runs in the thread that waits"
    assert time.monotonic() - began < 30


def test_a_worker_without_a_thread_recovers(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    worker = PluginWorker("x", 60.0)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none_left)
        with pytest.raises(OSError, match="cannot start another thread"):
            worker.call("mom_setup", lambda: 1)
    assert worker.call("mom_setup", lambda: 1) == 1
    assert worker.close(time.monotonic() + 60)


def test_a_late_call_blocks_further_calls() -> None:
    worker, release, calls = PluginWorker("p", 0.05), threading.Event(), []
    with pytest.raises(DeadlineExceeded, match=r"h did not answer within 0.05 s"):
        worker.call("h", lambda: release.wait(600))
    assert worker.hung_in
    assert worker.report().state is PluginReport.State.HUNG
    with pytest.raises(DeadlineExceeded, match="its call of h has not returned"):
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


def test_a_worker_without_threads_calls_at_once_and_ignores_deadlines() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    worker = PluginWorker("p", 0.0, threaded=False)
    assert worker.call("h", threading.get_ident) == threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        worker.call("h", lambda: 1 / 0)
    assert worker.report().state is PluginReport.State.FAILING
    with pytest.raises(KeyboardInterrupt):  # an operator's Ctrl-C is not a failure of the plugin
        worker.call("h", interrupted)
    assert not worker.hung_in


def test_back_off_grows_and_a_success_forgives() -> None:
    now = 0.0
    worker = PluginWorker("p", 60, monotonic=lambda: now)

    def fail() -> None:
        raise KeyboardInterrupt

    for _ in range(invoker.FAILURES_BEFORE_SET_ASIDE):
        with pytest.raises(KeyboardInterrupt):
            worker.call("h", fail)
    assert worker.report().state is PluginReport.State.SET_ASIDE
    assert worker.begin("h", fail) is None
    assert worker.call("another hook", lambda: 1) == 1
    now += invoker.FIRST_RETRY_SECONDS
    with pytest.raises(KeyboardInterrupt):
        worker.call("h", fail)
    assert worker.report().retry_in == 2 * invoker.FIRST_RETRY_SECONDS
    now += 2 * invoker.FIRST_RETRY_SECONDS
    assert worker.call("h", lambda: 1) == 1
    report = worker.report()
    assert (report.state, report.failures) == (PluginReport.State.OK, 4)
    assert report.last_error == f"KeyboardInterrupt (at {__file__}:{fail.__code__.co_firstlineno + 1})"
    worker.close(time.monotonic() + 1)
