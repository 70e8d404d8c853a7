"""Moving memory: in steps, at a rate, one guest at a time, never into the reserve; and looking at guests in a bounded thread."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from numa_trees import PAGE, PaperPages, process_tree, tree

from mom_plugins_numa.lookout import Lookout
from mom_plugins_numa.moves import STEP_KIB, PacedMover, Stage
from mom_plugins_numa.pages import KernelPages

FAST = 1e9
"""KiB/s: as fast as the steps go."""

SLOW = 1.0
"""KiB/s: an hour from one step to the next."""


def wait_for(what: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.002)


@pytest.fixture
def pages() -> PaperPages:
    made = PaperPages()
    made.give(1000, {0: 3000, 1: 2000})
    made.give(2000, {0: 100, 1: 100})
    return made


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tree(tmp_path, process_tree(1000, {0: 3000, 1: 2000}), process_tree(2000, {0: 100, 1: 100}))


@pytest.fixture
def make(root: Path, pages: PaperPages) -> Iterator[Callable[..., PacedMover]]:
    made: list[PacedMover] = []

    def mover(rate: float = FAST, room: Callable[[int], int | None] = lambda node: 1 << 30) -> PacedMover:
        made.append(PacedMover(root, pages, rate, room))
        return made[-1]

    yield mover
    for one in made:
        one.end()


def is_over(mover: PacedMover, guest: str) -> Callable[[], bool]:
    return lambda: mover.moves()[guest].stage in {Stage.DONE, Stage.STOPPED}


def test_what_is_elsewhere_is_moved_in_small_steps_and_the_rest_is_left_alone(make: Callable[..., PacedMover], pages: PaperPages) -> None:
    mover = make()
    assert mover.begin("a", 1000, 1) == ""
    wait_for(is_over(mover, "a"))
    move = mover.moves()["a"]
    assert (move.stage, move.moved_kib, move.left_kib, move.kept_pages) == (Stage.DONE, 12_000, 0, 0)
    assert set(pages.pages[1000].values()) == {1}
    assert sum(count for _, count, _ in pages.steps) == 3000
    assert max(count for _, count, _ in pages.steps) <= STEP_KIB * 1024 // PAGE


def test_pages_that_are_held_in_place_are_counted_and_do_not_stop_the_rest(make: Callable[..., PacedMover], pages: PaperPages) -> None:
    pages.held = {0x7F0000000000 + index * PAGE for index in range(7)}
    mover = make()
    mover.begin("a", 1000, 1)
    wait_for(is_over(mover, "a"))
    assert (mover.moves()["a"].stage, mover.moves()["a"].kept_pages) == (Stage.DONE, 7)


def test_the_rate_is_kept(make: Callable[..., PacedMover]) -> None:
    mover = make(rate=40_000.0)
    began = time.monotonic()
    mover.begin("a", 1000, 1)  # 12,000 KiB
    wait_for(is_over(mover, "a"))
    assert time.monotonic() - began > 0.25


def test_memory_never_goes_into_what_the_host_keeps_back(make: Callable[..., PacedMover], pages: PaperPages) -> None:
    left = [6000]

    def room(node: int) -> int:
        return left[0] - sum(count * 4 for _, count, _ in pages.steps)

    mover = make(room=room)
    mover.begin("a", 1000, 1)
    wait_for(is_over(mover, "a"))
    move = mover.moves()["a"]
    assert move.stage is Stage.STOPPED
    assert "keeps back" in move.reason
    assert 0 < move.moved_kib <= 6000
    mover = make(room=lambda node: None)
    mover.begin("a", 1000, 0)
    wait_for(is_over(mover, "a"))
    assert "unknown" in mover.moves()["a"].reason


def test_one_guest_is_moved_at_a_time(make: Callable[..., PacedMover], pages: PaperPages) -> None:
    goes_on = threading.Event()

    def room(node: int) -> int:
        goes_on.wait(60)
        return 1 << 30

    mover = make(room=room)
    mover.begin("a", 1000, 1)
    mover.begin("b", 2000, 1)
    wait_for(lambda: mover.moves()["a"].stage is Stage.MOVING)
    assert mover.moves()["b"].stage is Stage.WAITING
    goes_on.set()
    wait_for(is_over(mover, "b"))
    order = [pid for pid, _, _ in pages.steps]
    assert order == sorted(order)


def test_a_move_that_is_taken_back_ends_at_once_and_what_was_moved_stays(make: Callable[..., PacedMover], pages: PaperPages) -> None:
    mover = make(rate=SLOW)
    mover.begin("a", 1000, 1)
    wait_for(lambda: pages.steps)
    mover.cancel("a")
    assert mover.moves() == {}
    mover._rate = FAST
    mover.begin("b", 2000, 1)
    wait_for(is_over(mover, "b"))
    assert len([step for step in pages.steps if step[0] == 1000]) == 1


def test_a_guest_that_ends_or_is_another_one_is_moved_no_further(make: Callable[..., PacedMover], root: Path, pages: PaperPages) -> None:
    mover = make()
    assert mover.begin("gone", 3000, 1) == "its process is not there"
    del pages.pages[2000]
    mover.begin("b", 2000, 1)
    wait_for(is_over(mover, "b"))
    assert mover.moves()["b"].reason == "the guest has ended"
    mover = make(rate=SLOW)
    mover.begin("a", 1000, 1)
    wait_for(lambda: pages.steps)
    mover.keep({"a": 1001})
    assert mover.moves() == {}


def test_the_end_comes_soon_in_the_midst_of_a_move(make: Callable[..., PacedMover], pages: PaperPages) -> None:
    mover = make(rate=SLOW)
    mover.begin("a", 1000, 1)
    wait_for(lambda: pages.steps)
    mover.end()
    thread = mover._thread
    assert thread is not None
    wait_for(lambda: not thread.is_alive())


def test_the_kernel_tells_where_pages_are_and_refuses_what_makes_no_sense() -> None:
    kernel = KernelPages()
    if kernel.missing():
        pytest.skip(kernel.missing())
    import ctypes

    size = 8 * PAGE
    memory = ctypes.create_string_buffer(size + PAGE)
    first = (ctypes.addressof(memory) + PAGE - 1) // PAGE * PAGE
    ctypes.memset(first, 1, size)
    addresses = [first + index * PAGE for index in range(8)]
    where = kernel.where(os.getpid(), [*addresses, 0])
    assert all(node >= 0 for node in where[:8])
    assert where[8] in {-errno.EFAULT, -errno.ENOENT}
    assert list(kernel.move(os.getpid(), addresses, where[0])) == [where[0]] * 8
    with pytest.raises(OSError, match=r"No such device|Invalid|denied"):
        kernel.move(os.getpid(), addresses, 900)
    with pytest.raises(ProcessLookupError):
        kernel.where(1 << 22, addresses)


# --- looking ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def lookout(root: Path) -> Iterator[Lookout]:
    made = Lookout(root, 1.0, 1.0, lambda: {0: 0})
    yield made
    made.end()


def seen(lookout: Lookout, pids: dict[str, int]) -> Sequence[str]:
    return sorted(lookout.follow(pids))


def test_guests_are_looked_at_in_turn_and_forgotten_when_they_are_gone(lookout: Lookout) -> None:
    both = {"a": 1000, "b": 2000}
    assert lookout.follow(both) == {}, "what is not known yet is unknown"
    wait_for(lambda: seen(lookout, both) == ["a", "b"])
    assert lookout.follow(both)["a"].memory == {0: 12_000, 1: 8004}
    assert seen(lookout, {"a": 1000}) == ["a"]
    assert seen(lookout, {"a": 2000}) == [], "another process"
    wait_for(lambda: seen(lookout, {"a": 2000}) == ["a"])


def test_nothing_runs_while_there_are_no_guests(lookout: Lookout) -> None:
    lookout.follow({})
    assert lookout._thread is None


def test_looking_takes_no_more_than_its_share_of_a_cpu(root: Path) -> None:
    lookout = Lookout(root, 0.0, 0.05, lambda: {0: 0})
    began = time.monotonic()
    try:
        lookout.follow({"a": 1000, "b": 2000})
        looks: list[float] = []

        def looked() -> bool:
            looks.append(lookout.spent)
            return len(set(looks)) > 5

        wait_for(looked)
        # What the newest look took is still to be rested for.
        assert looks[-2] <= 0.05 * (time.monotonic() - began)
    finally:
        lookout.end()


def test_a_guest_without_a_process_keeps_nobody_from_being_looked_at(lookout: Lookout) -> None:
    pids = {"a": 4999, "b": 2000}
    wait_for(lambda: seen(lookout, pids) == ["b"])
