"""Guests are prepared for some seconds before a move, and move with any result."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from test_eviction_movers import MovingBench
from test_eviction_plugin import FULL, ROOM

from mom_core import Entity, MomError, Status, Value
from mom_kvm import MovePreparation


class Sweeping:
    """Service that prepares guests, and records them with the time and the number of begun moves."""

    def __init__(self, bench: "PreparedBench") -> None:
        self.bench = bench
        self.asked: list[tuple[str, float, int]] = []
        self.says: Callable[[], str] = lambda: "swept"

    def prepare(self, guest: Entity, seconds: float) -> str:
        self.asked.append((guest.name, seconds, len(self.bench.mover.jobs)))
        return self.says()


class PreparedBench(MovingBench):
    """Bench with a plugin that prepares guests."""

    def __init__(self, folder: Path) -> None:
        self.sweeping = Sweeping(self)
        super().__init__(folder)

    def services(self) -> dict[type, Sequence[object]]:
        return {**super().services(), MovePreparation: (self.sweeping,)}

    def told(self, name: str) -> bool:
        """Return whether a mover got the order to move the guest."""
        return any(job.guest.name == name for job in self.mover.jobs)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[PreparedBench]:
    bench = PreparedBench(tmp_path)
    yield bench
    bench.plugin.mom_teardown()


def test_a_guest_is_prepared_before_its_mover_is_told(bench: PreparedBench) -> None:
    assert bench.drain("vm1") == [Status.APPLIED]
    assert bench.moving("vm1") == "being moved to host://spare", "so nothing else is done to it"
    bench.until(lambda: bench.told("vm1"))
    assert bench.sweeping.asked == [("vm1", 10.0, 0)]


def _refuses() -> str:
    raise MomError("its statistics are too old")


def _breaks() -> str:
    raise KeyError("data")


@pytest.mark.parametrize("says", [_refuses, _breaks])
def test_what_keeps_it_from_being_prepared_does_not_keep_it_from_being_moved(bench: PreparedBench, says: Callable[[], str]) -> None:
    bench.sweeping.says = says
    bench.drain("vm1")
    bench.until(lambda: bench.told("vm1"))


@pytest.mark.parametrize(("host", "waits"), [(FULL, False), ({**ROOM, "host_memory_state": "low"}, False), ({}, True)])
def test_a_host_that_is_known_to_have_next_to_nothing_left_waits_for_nothing(
    bench: PreparedBench, host: Mapping[str, Value], waits: bool
) -> None:
    bench.host = host
    bench.drain("vm1")
    bench.until(lambda: bench.told("vm1"))
    assert bool(bench.sweeping.asked) is waits


def test_the_operator_may_have_guests_moved_at_once(bench: PreparedBench) -> None:
    bench.plugin.mom_teardown()
    bench.start(destination="host://spare", sweep="0s")
    bench.drain("vm1")
    bench.until(lambda: bench.told("vm1"))
    assert bench.sweeping.asked == []


def _observes(bench: PreparedBench) -> None:
    bench.mode = "observe"


def _is_platinum(bench: PreparedBench) -> None:
    bench.fields = {"vm1": {"may_migrate": 0, "sla_class": "platinum"}}


@pytest.mark.parametrize(
    ("happens", "error"),
    [(_observes, "mom only observes now"), (_is_platinum, "the guest's class platinum does not allow this step (may_migrate)")],
)
def test_a_guest_that_must_not_be_moved_by_the_time_it_is_prepared_stays(
    bench: PreparedBench, happens: Callable[[PreparedBench], None], error: str
) -> None:
    hang = threading.Event()
    bench.sweeping.says = lambda: str(hang.wait(30))
    bench.drain("vm1")
    happens(bench)
    bench.cycle()
    hang.set()
    bench.until(lambda: bench.kept == [])
    assert bench.cycle().snapshot.guests[bench.identity("vm1")].fields["guest_eviction_error"] == error
    assert bench.mover.jobs == []
