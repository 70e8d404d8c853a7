"""The process that moves memory, as plugins order it: started by a mom that is root, or by a mom-helper."""

import os
import signal
import time
from collections.abc import Sequence

import pytest

from mom_devkit.without_root import MomPower, StandInGuest, why_not_another_user
from mom_plugins_offload.requests import ReclaimRequest, ReclaimTaker
from mom_toolkit import ProcessStat

pytestmark = [pytest.mark.processes, pytest.mark.skipif(bool(why_not_another_user()), reason=why_not_another_user())]

WAYS = ("v2", "v1", "process", "recall")


@pytest.fixture
def guest(mom_stand_in_guest: StandInGuest) -> StandInGuest:
    return mom_stand_in_guest


def ordered(taker: ReclaimTaker, pid: int, ways: Sequence[str] = WAYS) -> Sequence[str]:
    """Why a process gave no more, by each way."""
    stat = ProcessStat.of(f"/proc/{pid}")
    assert stat is not None
    requests = [ReclaimRequest(way, way, 8 << 10, pid, stat.started) for way in ways]
    taker.send(requests, 5.0, 5.0)
    until = time.monotonic() + 20
    while taker.busy and time.monotonic() < until:
        list(taker.answers())
        time.sleep(0.01)
    return [one.why for one in requests]


def test_a_guest_without_large_memory_is_left_alone(mom_power: MomPower, guest: StandInGuest) -> None:
    with mom_power(StandInGuest.DECLARATION):
        taker = ReclaimTaker()
        assert ordered(taker, guest.pid, WAYS[2:]) == ["its process has no large memory"] * 2
        taker.close()


def test_a_mom_without_root_has_nothing_taken_of_processes_that_are_no_guests(guest: StandInGuest) -> None:
    power, memory = MomPower(by_helper=True), bytearray(64 << 20)  # an area that is large enough to be a guest's
    with power(StandInGuest.DECLARATION):
        taker = ReclaimTaker()
        assert ordered(taker, os.getpid()) == ["Operation not permitted"] * len(WAYS), len(memory)
        assert ordered(taker, guest.pid)[2:] == ["its process has no large memory"] * 2
        taker.close()
    power.close()


def test_one_that_was_ended_is_followed_by_another(mom_power: MomPower, guest: StandInGuest) -> None:
    with mom_power(StandInGuest.DECLARATION):
        taker = ReclaimTaker()
        for _ in range(3):
            assert ordered(taker, guest.pid, WAYS[3:]) == ["its process has no large memory"]
            taker.close()


def test_one_that_was_killed_while_it_waited_is_followed_by_another(guest: StandInGuest) -> None:
    taker = ReclaimTaker()
    assert ordered(taker, guest.pid, WAYS[3:]) == ["its process has no large memory"]
    assert taker.pid is not None
    os.kill(taker.pid, signal.SIGKILL)
    ordered(taker, guest.pid, WAYS[:1])
    assert not taker.busy
    assert ordered(taker, guest.pid, WAYS[3:]) == ["its process has no large memory"]
    taker.close()


def test_one_that_does_not_answer_keeps_nobody_waiting(guest: StandInGuest) -> None:
    taker = ReclaimTaker()
    ordered(taker, guest.pid, WAYS[3:])
    assert taker.pid is not None
    os.kill(taker.pid, signal.SIGSTOP)
    taker.send([ReclaimRequest("guest", "v2", 8 << 10, guest.pid, 1)], 5.0, 5.0)
    assert list(taker.answers()) == []
    assert taker.busy
    taker.close()
    assert not taker.busy
