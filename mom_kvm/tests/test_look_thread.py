"""Threads that sample repeatedly: intervals, costs and ends."""

import logging
import os
import select
import threading
import time
from collections.abc import Callable
from pathlib import Path

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
    monkeypatch.setattr("mom_kvm.threads._FAILED_SECONDS", 0.0)
    thread = looking(lambda: 1 / 0)
    thread.start()
    wait_until(lambda: caplog.text.count("looking failed: ZeroDivisionError") > 1)
    thread.stop(60)


def test_an_event_of_a_file_causes_a_look_and_the_end_leaves_no_thread_and_no_file() -> None:
    before, looks, heard = set(Path("/proc/self/fd").iterdir()), list[int](), list[int]()
    reading, writing = os.pipe()

    def look() -> float:
        looks.append(len(heard))
        return 3600.0

    thread = looking(look)
    thread.start()
    wait_until(lambda: looks == [0])
    thread.listen(reading, select.EPOLLIN, lambda events: heard.append(len(os.read(reading, 9))))
    os.write(writing, b"xy")
    wait_until(lambda: looks == [0, 1])
    assert heard == [2]
    thread.ignore(reading)
    os.write(writing, b"x")
    thread.stop(60)
    thread.start()
    assert looks == [0, 1]
    assert not any(other.name == "test-look" for other in threading.enumerate())
    os.close(reading)
    os.close(writing)
    assert set(Path("/proc/self/fd").iterdir()) <= before
