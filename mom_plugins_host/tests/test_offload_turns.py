"""Serving requests piece by piece, with any mover."""

import mmap
import os

import pytest

from mom_helper.orders import MOST_PIECE_KIB, Answer, Order, OrderNumber
from mom_plugins_host.offload.requests import ReclaimRequest, areas_of, follow, steps_of

PIECE = MOST_PIECE_KIB


class Kernel:
    """Mover for processes with this memory (KiB). It records all orders.

    :param cost_us: CPU time of each piece
    """

    def __init__(self, cost_us: int = 0, **held: int) -> None:
        self.held, self.cost_us = {int(pid.removeprefix("pid")): kib for pid, kib in held.items()}, cost_us
        self.orders: list[Order] = []

    def __call__(self, order: Order) -> Answer:
        self.orders.append(order)
        went = min(order.a, PIECE, self.held[order.c])
        self.held[order.c] -= went
        return Answer(order.id, 0, went, int(self.held[order.c] > 0), self.cost_us)


def request(pid: int, kib: int, way: str = "v2", at: int = 0) -> ReclaimRequest:
    return ReclaimRequest(f"guest{pid}", way, kib, pid, 5, at)


def test_guests_take_turns_by_pieces() -> None:
    kernel = Kernel(pid1=1 << 30, pid2=1 << 30, pid3=1 << 30)
    requests = [request(1, 3 * PIECE), request(2, PIECE + 1), request(3, 0)]
    follow(requests, kernel, 60, 60)
    assert [order.c for order in kernel.orders] == [1, 2, 1, 2, 1]
    assert [(one.went, one.left, one.why) for one in requests] == [(3 * PIECE, 0, ""), (PIECE + 1, 0, ""), (0, 0, "")]
    assert {order.number for order in kernel.orders} == {OrderNumber.TAKE_V2}
    assert {order.d for order in kernel.orders} == {5}


def test_what_a_guest_has_no_more_of_is_said_and_others_go_on() -> None:
    requests = [request(1, 3 * PIECE), request(2, 2 * PIECE)]
    follow(requests, Kernel(pid1=PIECE // 2, pid2=1 << 30), 60, 60)
    assert [(one.went, one.why) for one in requests] == [(PIECE // 2, "the kernel found no more memory to reclaim"), (2 * PIECE, "")]


def test_no_more_cpu_time_is_used_than_was_given() -> None:
    kernel = Kernel(10_000, pid1=1 << 30, pid2=1 << 30)
    requests = [request(1, 1 << 20), request(2, 1 << 20)]
    follow(requests, kernel, 60, 0.1)
    assert len(kernel.orders) == 10
    assert {one.why for one in requests} == {"the time for the request ran out"}


def test_a_taker_that_has_ended_ends_it_and_what_went_counts() -> None:
    kernel = Kernel(pid1=1 << 30)

    def ask(order: Order) -> Answer:
        if kernel.orders:
            raise ConnectionResetError
        return kernel(order)

    one = request(1, 3 * PIECE)
    with pytest.raises(ConnectionResetError):
        follow([one], ask, 60, 60)
    assert one.went == PIECE


@pytest.fixture
def memory() -> bytearray:
    """Give this process a large area of memory."""
    return bytearray(64 << 20)


def test_a_walk_goes_through_all_large_areas_once_from_where_the_last_one_ended(memory: bytearray) -> None:
    areas = areas_of("/proc/self")
    assert sum(last - first for first, last in areas) >= len(memory)
    whole = [(address, length >> 10) for address, length in steps_of(areas, 0)]
    asked: list[tuple[int, int]] = []

    def ask(order: Order) -> Answer:
        asked.append((order.b, order.a))
        return Answer(0, 0, 0, 1)

    one = ReclaimRequest("guest", "process", 1 << 40, os.getpid(), 5, at=len(whole) - 2)
    follow([one], ask, 60, 60)
    assert sorted(asked) == sorted(whole)
    assert asked[:3] == [*whole[-2:], whole[0]]
    assert (one.at, one.why) == (2 * len(whole) - 2, "the kernel found no more memory to reclaim")


def test_translated_code_of_an_emulator_is_not_walked_through(memory: bytearray) -> None:
    before = areas_of("/proc/self")
    with mmap.mmap(-1, 64 << 20, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC):
        assert areas_of("/proc/self") == before


def test_a_process_that_is_not_there_is_not_walked_through() -> None:
    one = ReclaimRequest("guest", "process", PIECE, 1 << 22, 5)
    follow([one], Kernel(), 60, 60)
    assert one.why == "its process has ended"
