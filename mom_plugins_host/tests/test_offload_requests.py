"""Requests to the process that moves memory, while that takes its time."""

import os
import signal
from functools import partial

import pytest

from mom_devkit import wait_until
from mom_plugins_host.offload.requests import ReclaimRequest, ReclaimWorker

pytestmark = pytest.mark.processes


def has_answered(taker: ReclaimWorker) -> bool:
    taker.answers()
    return not taker.busy


@pytest.mark.skipif(os.geteuid() != 0, reason="only a mom that is root starts it itself")
def test_one_that_takes_longer_than_a_cycle_is_waited_for_and_its_answers_count() -> None:
    taker = ReclaimWorker()
    try:
        taker.send([], 1.0, 1.0)
        assert taker._process is not None
        wait_until(partial(has_answered, taker), "it has started", 60)
        os.kill(taker._process.pid, signal.SIGSTOP)
        gone = ReclaimRequest("gone", "v2", 1 << 10, pid=(1 << 22) + 1)
        taker.send([gone], 1.0, 1.0)
        for _ in range(3):  # collecting the host and the guests, and again in the next cycle
            assert taker.answers() == ()
            assert taker.busy
        os.kill(taker._process.pid, signal.SIGCONT)
        wait_until(partial(has_answered, taker), "it has answered", 60)
        assert gone.why == "its process has ended"
    finally:
        taker.close()
