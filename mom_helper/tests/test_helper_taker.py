"""The process that reclaims guests' memory, as a mom with root rights starts it."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mom_helper
from mom_helper.orders import ORDER, Answer, Order, OrderNumber
from mom_helper.taker import OOM_SCORE

pytestmark = pytest.mark.processes

PROGRAM = Path(mom_helper.__file__).parent

ESRCH, EINVAL, EFAULT, ENOMEM = 3, 22, 14, 12
WAYS = (OrderNumber.TAKE_V2, OrderNumber.TAKE_V1, OrderNumber.TAKE_PROCESS)


class Taker:
    """Reclaim worker, and mom's socket to it."""

    def __init__(self) -> None:
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(20)
        with theirs:
            command = [sys.executable, "-I", "-S", str(PROGRAM), "taker"]
            self.process = subprocess.Popen(command, stdin=theirs.fileno(), stderr=subprocess.PIPE)

    def order(self, number: int, *words: int) -> Answer:
        """Send an order, and return the answer."""
        self.socket.send(ORDER.pack(*Order(number, 7, *words)))
        answer = Answer(*ORDER.unpack(self.socket.recv(ORDER.size)))
        assert answer.id == 7
        return answer

    def ended(self) -> bytes:
        """Wait for its end, and return its output."""
        self.socket.close()
        _, said = self.process.communicate(timeout=20)
        return said


@pytest.fixture
def taker() -> Iterator[Taker]:
    one = Taker()
    yield one
    one.socket.close()
    one.process.kill()
    one.process.wait(20)
    assert one.process.stderr is not None
    one.process.stderr.close()


HOLDS = """
import mmap
held = mmap.mmap(-1, 8 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
held.write(b"x" * (8 << 20))
print("holds", flush=True)
input()
"""


@pytest.fixture
def holder() -> Iterator[subprocess.Popen[bytes]]:
    """Start a process with 8 MiB of memory."""
    with subprocess.Popen([sys.executable, "-I", "-c", HOLDS], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as one:
        assert one.stdout is not None
        assert one.stdout.readline() == b"holds\n"
        yield one
        one.kill()


def started_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def area_of(pid: int) -> int:
    """Return the address of its 8 MiB."""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        first, last = (int(word, 16) for word in line.split()[0].split("-"))
        if last - first >= 8 << 20 and " rw-p " in line:
            return first
    raise AssertionError("it has none")


def test_a_taker_whose_mom_ends_while_it_is_at_work_ends_without_a_word(taker: Taker, holder: subprocess.Popen[bytes]) -> None:
    for _ in range(5):
        taker.socket.send(ORDER.pack(*Order(OrderNumber.TAKE_PROCESS, 0, 4 << 10, area_of(holder.pid), holder.pid, started_of(holder.pid))))
    assert taker.ended() == b""


def test_the_kernel_ends_it_before_guests_and_not_as_late_as_mom(taker: Taker) -> None:
    taker.order(OrderNumber.TAKE_PROCESS)
    assert Path(f"/proc/{taker.process.pid}/oom_score_adj").read_text() == f"{OOM_SCORE}\n"
    assert (
        os.getpriority(os.PRIO_PROCESS, taker.process.pid) >= os.getpriority(os.PRIO_PROCESS, 0) + 10
        or os.getpriority(os.PRIO_PROCESS, 0) > 9
    )


@pytest.mark.parametrize("way", WAYS)
def test_a_process_that_began_at_another_moment_is_another_one(taker: Taker, holder: subprocess.Popen[bytes], way: OrderNumber) -> None:
    assert taker.order(way, 4 << 10, area_of(holder.pid), holder.pid, started_of(holder.pid) + 1) == Answer(7, ESRCH)
    taker.ended()


def test_an_order_that_is_none_of_the_takers_is_refused_and_what_is_no_order_ends_it(taker: Taker, holder: subprocess.Popen[bytes]) -> None:
    for number in (0, OrderNumber.SET, OrderNumber.PUT_BACK, 77, (1 << 32) - 1):
        assert taker.order(number, 100, 0, holder.pid, started_of(holder.pid)) == Answer(7, EINVAL)
    taker.socket.send(b"x" * 13)
    assert taker.socket.recv(ORDER.size) == b""
    assert taker.ended() == b""


def test_what_an_area_has_in_swap_then_is_told_and_what_it_cost(taker: Taker, holder: subprocess.Popen[bytes]) -> None:
    guest = (holder.pid, started_of(holder.pid))
    answer = taker.order(OrderNumber.TAKE_PROCESS, 4 << 10, area_of(holder.pid), *guest)
    status = Path(f"/proc/{holder.pid}/status").read_text().splitlines()
    in_swap = int(next(line.split()[1] for line in status if line.startswith("VmSwap")))
    assert (answer.error, answer.b) == (0, 1)
    assert answer.a == in_swap, "without swap, that is nothing"
    assert answer.c > 0


@pytest.mark.parametrize(
    ("kib", "address"), [(4, 1), (4, -1), (4, 1 << 62), (4, (1 << 63) - 1), (4, -(1 << 63)), (-(1 << 63), 0), ((1 << 63) - 1, 0)]
)
def test_areas_that_there_are_not_are_refused_and_end_nothing(
    taker: Taker, holder: subprocess.Popen[bytes], kib: int, address: int
) -> None:
    for way in WAYS[2:]:
        assert taker.order(way, kib, address, holder.pid, started_of(holder.pid)).error in {
            0 if kib < 0 else EINVAL,
            EINVAL,
            EFAULT,
            ENOMEM,
        }
    assert taker.order(OrderNumber.TAKE_PROCESS, 4, area_of(holder.pid), holder.pid, started_of(holder.pid)).error == 0


@pytest.mark.parametrize("way", WAYS[2:])
def test_a_process_that_ends_meanwhile_ends_nothing_else(taker: Taker, holder: subprocess.Popen[bytes], way: OrderNumber) -> None:
    guest, area = (holder.pid, started_of(holder.pid)), area_of(holder.pid)
    for _ in range(50):
        taker.socket.send(ORDER.pack(*Order(way, 7, 4 << 10, area, *guest)))
    holder.kill()
    told = {Answer(*ORDER.unpack(taker.socket.recv(ORDER.size))).error for _ in range(50)}
    assert told <= {0, ESRCH}
    holder.wait(20)
    assert taker.order(way, 4 << 10, area, *guest).error == ESRCH
