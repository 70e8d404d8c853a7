"""Calls that may hang."""

from __future__ import annotations

import threading
import time

import pytest
from fake_libvirt import LONG_SECONDS, until

from mom_plugins_libvirt.calls import Callers


def test_a_call_gives_what_it_returns_and_raises_what_it_raises() -> None:
    callers = Callers("test")
    call = callers.start(lambda: 7)
    assert call.wait(LONG_SECONDS)
    assert call.result() == 7
    failing = callers.start(lambda: 1 // 0)
    assert failing.wait(LONG_SECONDS)
    with pytest.raises(ZeroDivisionError):
        failing.result()
    callers.close(1)


def test_a_call_that_hangs_holds_up_no_other() -> None:
    callers = Callers("test")
    hang = threading.Event()
    stuck = [callers.start(hang.wait) for _ in range(3)]
    assert callers.start(lambda: None).wait(LONG_SECONDS)
    assert not any(call.done for call in stuck)
    hang.set()
    assert all(call.wait(LONG_SECONDS) for call in stuck)
    callers.close(1)


def test_threads_are_reused_and_end() -> None:
    def threads() -> int:
        return sum(thread.name == "reusing-call" for thread in threading.enumerate())

    callers = Callers("reusing")
    for _ in range(50):
        assert callers.start(lambda: None).wait(LONG_SECONDS)
    assert 0 < threads() < 10, "one or two, but one that has answered may not be idle again yet"
    callers.close(2)
    until(lambda: threads() == 0)


def test_closing_waits_for_no_hung_call_and_no_further_call_is_made() -> None:
    callers = Callers("test")
    hang = threading.Event()
    callers.start(hang.wait)
    began = time.monotonic()
    callers.close(0.1)
    assert time.monotonic() - began < LONG_SECONDS
    assert not callers.start(lambda: None).wait(0.05)
    hang.set()
