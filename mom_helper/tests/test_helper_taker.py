"""The process that takes memory of guests, as a mom that is root starts it."""

import os
import select
import socket
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

import mom_helper
from mom_helper.orders import ORDER, Order
from mom_helper.taker import AT_ONCE, OOM_SCORE, STEP_KIB, Reason, Way, messages, records_in, steps_of

PROGRAM = Path(mom_helper.__file__).parent


class Taker:
    """A taker, and the socket by which mom orders."""

    def __init__(self) -> None:
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(20)
        with theirs:
            command = [sys.executable, "-I", "-S", str(PROGRAM), "taker"]
            self.process = subprocess.Popen(command, stdin=theirs.fileno(), stderr=subprocess.PIPE)

    def order(self, *requests: Order, seconds: float = 5.0) -> list[Order]:
        """What comes of these, without the end of the batch."""
        for message in messages([*requests, Order(Way.GO, 7, int(seconds * 1e6), int(seconds * 1e6))]):
            self.socket.send(message)
        found: list[Order] = []
        while not found or found[-1].number != Way.GO:
            found += records_in(self.socket.recv(ORDER.size * AT_ONCE))
        assert found[-1] == Order(Way.GO, 7)
        return found[:-1]

    def ended(self) -> bytes:
        """What it has said, when it has ended."""
        self.socket.close()
        _, said = self.process.communicate(timeout=20)
        return said


@pytest.fixture
def taker() -> Iterator[Taker]:
    one = Taker()
    yield one
    one.socket.close()
    if one.process.poll() is None:
        one.process.kill()
        one.process.communicate(timeout=20)


def started_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


@pytest.mark.processes
def test_a_taker_whose_mom_ends_while_it_is_at_work_ends_without_a_word(taker: Taker) -> None:
    other = Order(Way.PROCESS, 0, 1 << 20, 0, os.getpid(), started_of(os.getpid()) + 1)
    for message in messages([*[other] * 5, Order(Way.GO, 0, 10**6, 10**6)]):
        taker.socket.send(message)
    assert taker.ended() == b""


@pytest.mark.processes
def test_the_kernel_ends_it_before_guests_and_not_as_late_as_mom(taker: Taker) -> None:
    assert taker.order() == []
    assert Path(f"/proc/{taker.process.pid}/oom_score_adj").read_text() == f"{OOM_SCORE}\n"


@pytest.mark.processes
def test_more_requests_than_fit_into_a_message_are_answered_each(taker: Taker) -> None:
    gone = [Order(Way.PROCESS, number, 100, number, os.getpid(), 1) for number in range(3 * AT_ONCE)]
    assert taker.order(*gone) == [Order(Way.PROCESS, number, 0, number, Reason.HAS_ENDED) for number in range(3 * AT_ONCE)]


@pytest.mark.processes
def test_a_way_that_there_is_not_is_refused_and_what_is_no_request_ends_it(taker: Taker) -> None:
    for way in (5, 77, (1 << 32) - 1):
        assert taker.order(Order(way, 1, 100, 0, os.getpid(), started_of(os.getpid()))) == [Order(way, 1, 0, 0, -22)]
    taker.socket.send(b"x" * 13)
    assert taker.ended() == b""


@pytest.mark.processes
def test_the_time_that_a_batch_may_take_is_kept(taker: Taker) -> None:
    holder = subprocess.Popen([sys.executable, "-c", "x = bytearray(64 << 20); input()"], stdin=subprocess.PIPE)
    try:
        (result,) = taker.order(Order(Way.RECALL, 3, 1 << 40, 0, holder.pid, started_of(holder.pid)), seconds=0.2)
        assert result.c in {Reason.NO_MORE_IN_SWAP, Reason.TIME_IS_OVER, Reason.NO_LARGE_MEMORY}
    finally:
        holder.communicate(b"\n", timeout=20)


def test_terabytes_of_addresses_are_gone_through_step_by_step() -> None:
    small, huge = (1 << 30, (1 << 30) + (5 << 20)), (1 << 40, 9 << 40)
    step = STEP_KIB << 10
    count = 3 + (8 << 40) // step
    tracemalloc.start()
    found = list(islice(steps_of([small, huge], count - 1), 5))
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    begin = small[0]
    assert found == [
        (huge[1] - step, step), (begin, step), (begin + step, step), (begin + 2 * step, 1 << 20), (huge[0], step),
    ]  # fmt: skip
    assert len(list(steps_of([small], count - 1))) == 3


@pytest.mark.parametrize("size", [1, ORDER.size - 1, ORDER.size + 1])
def test_no_other_size_holds_requests(size: int) -> None:
    with pytest.raises(struct.error):
        list(records_in(bytes(size)))


RESERVES = """
import mmap
reserved = mmap.mmap(-1, 64 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)  # MAP_NORESERVE
print("reserved", flush=True)
input()
"""


@pytest.mark.processes
@pytest.mark.parametrize("way", [Way.PROCESS, Way.RECALL])
def test_a_process_that_ends_while_it_is_walked_through_ends_nothing_else(taker: Taker, way: Way) -> None:
    with subprocess.Popen([sys.executable, "-I", "-c", RESERVES], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"reserved\n"
        for message in messages([Order(way, 3, 1 << 40, 0, holder.pid, started_of(holder.pid)), Order(Way.GO, 7, 10**7, 10**7)]):
            taker.socket.send(message)
        select.select([taker.socket], [], [], 0.05)
        holder.kill()
        results = [*records_in(taker.socket.recv(ORDER.size * AT_ONCE))]
    assert results[0].c in {Reason.HAS_ENDED, Reason.NO_MORE, Reason.NO_MORE_IN_SWAP}
    assert taker.order() == []
