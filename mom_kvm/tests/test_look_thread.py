"""Threads that look again and again: how often, at whose cost, and what is left of them."""

import logging
import threading
import time
from collections.abc import Callable

import pytest

from mom_devkit import wait_until
from mom_kvm import LookThread

LOG = logging.getLogger("mom.test")


def looking(look: Callable[[], float], share: float = 1.0) -> LookThread:
    return LookThread("test-look", "looking", look, LOG, share)


def test_looks_take_no_more_than_their_share_of_a_cpu() -> None:
    spent: list[float] = []

    def look() -> float:
        began = time.thread_time()
        while time.thread_time() - began < 0.01:
            pass
        spent.append(time.thread_time() - began)
        return 0.0

    began, thread = time.monotonic(), looking(look, 0.1)
    thread.start()
    wait_until(lambda: len(spent) > 4)
    thread.stop(60)
    assert sum(spent[:-1]) <= 0.1 * (time.monotonic() - began)


def test_a_look_that_fails_is_logged_and_repeated(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mom_kvm.look_thread._FAILED_SECONDS", 0.0)
    thread = looking(lambda: 1 / 0)
    thread.start()
    wait_until(lambda: caplog.text.count("looking failed: ZeroDivisionError") > 1)
    thread.stop(60)


def test_the_end_does_not_wait_for_the_next_look_and_leaves_no_thread() -> None:
    looks: list[int] = []

    def look() -> float:
        looks.append(1)
        return 3600.0

    thread = looking(look)
    thread.start()
    wait_until(lambda: looks == [1])
    thread.stop(60)
    thread.start()
    assert looks == [1]
    assert not any(other.name == "test-look" for other in threading.enumerate())
