"""The reclaim worker, started by a mom with root rights or by mom-helper."""

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from test_offload_swap_limits import CONTAINER, Host

from mom_devkit import wait_until
from mom_devkit.without_root import MomPower, StandInGuest, why_not_another_user
from mom_kvm import ProcessStat
from mom_plugins_host.offload.requests import ReclaimRequest, ReclaimWorker

pytestmark = [pytest.mark.processes, pytest.mark.skipif(bool(why_not_another_user()), reason=why_not_another_user())]

WAYS = ("v2", "v1", "process")


@pytest.fixture
def guest(mom_stand_in_guest: StandInGuest) -> StandInGuest:
    return mom_stand_in_guest


def ordered(taker: ReclaimWorker, pid: int, ways: Sequence[str] = WAYS) -> Sequence[str]:
    """Return why reclaim stopped, for each way."""
    stat = ProcessStat.of(f"/proc/{pid}")
    assert stat is not None
    requests = [ReclaimRequest(way, way, 8 << 10, pid, stat.started) for way in ways]
    taker.send(requests, 5.0, 5.0)
    until = time.monotonic() + 20
    while taker.busy and time.monotonic() < until:
        taker.answers()
        time.sleep(0.01)
    return [one.why for one in requests]


def test_a_mom_without_root_has_nothing_taken_of_processes_that_are_no_guests(guest: StandInGuest) -> None:
    power, memory = MomPower(by_helper=True), bytearray(64 << 20)  # an area as large as a guest's
    with power(StandInGuest.DECLARATION):
        taker = ReclaimWorker()
        assert ordered(taker, os.getpid()) == ["Operation not permitted"] * len(WAYS), len(memory)
        assert ordered(taker, guest.pid)[2:] == ["its process has no large memory area"]
        taker.close()
    power.close()


def test_one_that_was_killed_while_it_waited_is_followed_by_another(guest: StandInGuest) -> None:
    taker = ReclaimWorker()
    assert ordered(taker, guest.pid, WAYS[2:]) == ["its process has no large memory area"]
    assert taker._process is not None
    os.kill(taker._process.pid, signal.SIGKILL)
    ordered(taker, guest.pid, WAYS[:1])
    assert not taker.busy
    assert ordered(taker, guest.pid, WAYS[2:]) == ["its process has no large memory area"]
    taker.close()


def test_one_that_does_not_answer_keeps_nobody_waiting(guest: StandInGuest) -> None:
    taker = ReclaimWorker()
    ordered(taker, guest.pid, WAYS[2:])
    assert taker._process is not None
    os.kill(taker._process.pid, signal.SIGSTOP)
    taker.send([ReclaimRequest("guest", "v2", 8 << 10, guest.pid, 1)], 5.0, 5.0)
    assert taker.answers() == ()
    assert taker.busy
    taker.close()
    assert not taker.busy


def test_one_that_waits_for_the_kernel_without_an_end_is_said_and_no_more_is_decided_until_it_answers(
    guest: StandInGuest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host(tmp_path, {CONTAINER: ("max", 0)})
    taker = host.plugin._worker
    ordered(taker, guest.pid, WAYS[2:])
    assert taker._process is not None
    os.kill(taker._process.pid, signal.SIGSTOP)
    taker.send([ReclaimRequest("guest", "v2", 8 << 10, guest.pid, 1)], 1.0, 5.0)
    assert all(host.paces()), "it may answer yet"
    monkeypatch.setattr("mom_plugins_host.offload.requests._STUCK_SECONDS", -1.0)
    assert not any(host.paces())
    assert host.why == "the worker that reclaims memory hangs in the kernel: a disk with swap may not answer"
    assert [one.message for one in host.problems] == [f"mom cannot move cold memory: {host.why}"]
    os.kill(taker._process.pid, signal.SIGCONT)
    wait_until(lambda: not taker.why_stuck)
    assert all(host.paces())
    assert host.problems == []
    taker.close()
