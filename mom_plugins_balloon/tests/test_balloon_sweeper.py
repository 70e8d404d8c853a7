"""Sweeps in threads: how many at a time, and their end."""

import threading
from collections.abc import Callable

import pytest
from swept_guest import SIZE, SimulatedGuest, plan_of, sweep_of

from mom_core import Entity, HypervisorError, NoChangeNeeded, PluginContext, Scope
from mom_plugins_balloon.ballooned_guests import BalloonedGuests
from mom_plugins_balloon.sweep.records import SweepEnd, SweepOutcome
from mom_plugins_balloon.sweep.sweeper import SweptGuests


class Bench:
    """A sweeper in real time."""

    def __init__(self) -> None:
        self.sweeper = SweptGuests(PluginContext("balloon"), BalloonedGuests())
        self.begin = self.sweeper.start


def join() -> None:
    """Wait for the ends of all sweeps."""
    for thread in threading.enumerate():
        if thread.name == "mom-sweep":
            thread.join(10)
            assert not thread.is_alive()


def held_up(guest: SimulatedGuest, go: threading.Event, reached: threading.Event | None = None) -> Callable[[float], None]:
    """Return a pause that waits for `go` at first."""

    def pause(seconds: float) -> None:
        if reached is not None:
            reached.set()
        go.wait(10)
        guest.pause(seconds)

    return pause


def test_outcome_is_reported_once_the_sweep_is_no_longer_under_way() -> None:
    bench, reported = Bench(), threading.Event()
    outcomes: list[tuple[SweepEnd, bool]] = []

    def report(outcome: SweepOutcome) -> None:
        outcomes.append((outcome.end, bench.sweeper.take_over("a")))
        reported.set()

    sweep = sweep_of(SimulatedGuest())
    sweep.on_end = report
    bench.begin(sweep)
    assert reported.wait(10)
    assert outcomes == [(SweepEnd.ARRIVED, False)]
    assert [outcome.end for outcome in bench.sweeper.outcomes()] == [SweepEnd.ARRIVED]
    assert bench.sweeper.outcomes() == []


def test_outcome_says_that_a_guest_did_not_get_its_headroom_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mom_plugins_balloon.sweep.constants.BACK_AGAIN_SECONDS", (0.0,))
    bench, guest, reported = Bench(), SimulatedGuest(), threading.Event()

    def resize(kib: int) -> None:
        guest.resize(kib)
        if kib == SIZE:
            raise HypervisorError("libvirtd is away")

    sweep = sweep_of(guest, resize=resize)
    sweep.on_end = lambda outcome: reported.set()
    bench.begin(sweep)
    assert reported.wait(10)
    (outcome,) = bench.sweeper.outcomes()
    assert (outcome.is_back, outcome.error) == (False, "cannot return its headroom: libvirtd is away")
    assert not bench.sweeper.take_over("a")


@pytest.mark.parametrize("whole", [True, False], ids=["all sweeps", "the sweep of this guest"])
def test_stopped_sweep_gives_headroom_back_at_once(whole: bool) -> None:
    bench, guest, inflates, stopped = Bench(), SimulatedGuest(), threading.Event(), threading.Event()

    def pause(seconds: float) -> None:
        if guest.commands:
            inflates.set()
            stopped.wait(10)
        guest.pause(seconds)

    def stop() -> None:
        stop_sweep()
        stopped.set()

    sweep = sweep_of(guest, pause=pause)
    stop_sweep = sweep.stop
    sweep.stop = stop  # type: ignore[method-assign]  # the guest's time goes on once it was called
    bench.begin(sweep)
    assert inflates.wait(10)
    bench.sweeper.stop("b")
    assert not stopped.is_set()
    if whole:
        bench.sweeper.stop_all(10)
    else:
        bench.sweeper.stop("a")
    join()
    assert guest.commands[1:] == [SIZE]
    assert [outcome.end for outcome in bench.sweeper.outcomes()] == [SweepEnd.TAKEN_OVER]


def test_sweep_waits_for_statistics_beside_another_and_for_its_turn_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mom_plugins_balloon.sweep.sweeper.os.cpu_count", lambda: 2)
    bench, go, watched, asked = Bench(), threading.Event(), threading.Event(), threading.Event()
    first, second, order = SimulatedGuest(), SimulatedGuest(), list[str]()

    def resize(name: str, guest: SimulatedGuest) -> Callable[[int], None]:
        def ask(kib: int) -> None:
            order.append(name)
            guest.resize(kib)

        return ask

    def statistics() -> tuple[float, float] | None:
        asked.set()
        return second.statistics()()

    bench.begin(sweep_of(first, pause=held_up(first, go, watched), resize=resize("a", first)))
    assert watched.wait(10)
    later = Entity(Scope.GUEST, "b", "name-b")
    bench.begin(sweep_of(second, plan_of(second, measured=-2.0), resize=resize("b", second), statistics=statistics, entity=later))
    with pytest.raises(NoChangeNeeded, match="too many sweeps"):
        bench.begin(sweep_of(SimulatedGuest(), entity=Entity(Scope.GUEST, "c", "name-c")))
    assert asked.wait(10)
    assert not order
    assert bench.sweeper.inflating() == {"a"}
    go.set()
    join()
    assert not bench.sweeper.inflating()
    assert order == sorted(order)
    assert {outcome.end for outcome in bench.sweeper.outcomes()} == {SweepEnd.ARRIVED}


def test_guest_has_no_two_sweeps_at_a_time() -> None:
    bench, guest, go = Bench(), SimulatedGuest(), threading.Event()
    bench.begin(sweep_of(guest, pause=held_up(guest, go)))
    with pytest.raises(NoChangeNeeded, match="sweep is still running"):
        bench.begin(sweep_of(guest))
    go.set()
    join()
