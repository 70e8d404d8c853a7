"""Calls that may hang."""

import threading
import time
from functools import partial

import pytest

from mom_kvm import Callers, CallPatience

LONG_SECONDS = 60.0


def test_no_more_threads_are_started_than_may_be_and_what_waits_can_be_cancelled() -> None:
    callers, hang, made = Callers("one", 1), threading.Event(), list[int]()
    first = callers.start(hang.wait)
    waiting = [callers.start(lambda number=number: made.append(number)) for number in range(3)]  # type: ignore[misc]  # a default of a lambda
    assert sum(thread.name == "one" for thread in threading.enumerate()) == 1
    assert waiting[1].cancel()
    hang.set()
    assert Callers.came_back(first, LONG_SECONDS)
    assert Callers.came_back(waiting[2], LONG_SECONDS)
    assert made == [0, 2]
    callers.close(1)


def test_closing_waits_for_no_hung_call_and_no_further_call_is_made() -> None:
    callers = Callers("test")
    hang = threading.Event()
    callers.start(hang.wait)
    began = time.monotonic()
    callers.close(0.1)
    assert time.monotonic() - began < LONG_SECONDS
    assert not Callers.came_back(callers.start(lambda: None), 0.05)
    hang.set()


def refuse(thread: threading.Thread) -> None:
    """Raise Python's error for a thread that cannot be started."""
    raise RuntimeError("can't start new thread")


def test_a_thread_that_cannot_be_started_counts_as_none_and_its_call_is_not_made_later(monkeypatch: pytest.MonkeyPatch) -> None:
    callers, made = Callers("test", 2), list[str]()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        for _ in range(2):
            with pytest.raises(RuntimeError):
                callers.start(lambda: made.append("what failed"))
    both = threading.Barrier(2)
    calls = [callers.start(partial(both.wait, LONG_SECONDS)) for _ in range(2)]
    assert all(Callers.came_back(call, LONG_SECONDS) for call in calls), "two at once, still"
    assert made == []
    callers.close(1)


def test_a_thread_that_is_there_makes_the_call_for_which_none_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    callers, hang = Callers("test"), threading.Event()
    callers.start(hang.wait)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    waiting = callers.start(lambda: 7)
    hang.set()
    assert Callers.came_back(waiting, LONG_SECONDS)
    assert waiting.result() == 7
    callers.close(1)


def test_calls_that_were_given_up_cost_patience_until_they_return_or_for_a_while() -> None:
    now, returned = [100.0], threading.Event()
    patience = CallPatience(lambda: now[0])
    assert patience.seconds(2.0) == 2.0
    patience.given_up(returned.is_set)
    patience.given_up()
    assert patience.seconds(2.0) == 0.5
    returned.set()
    assert patience.seconds(2.0) == 1.0
    for _ in range(2000):
        patience.given_up()
    assert patience.seconds(2.0) == 0.1
    now[0] += 6
    assert patience.seconds(2.0) == 2.0
