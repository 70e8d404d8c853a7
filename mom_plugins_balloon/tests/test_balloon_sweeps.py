"""Sweeps: a balloon takes slice by slice what a guest has used and freed, watched by its process, and gives the headroom back at once."""

import logging
import math
import mmap
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import pytest

from mom_core import Entity, GuestGone, HypervisorError, NoChangeNeeded, Scope, StateError
from mom_devkit import wait_until
from mom_plugins_balloon.sweep.sweep import (
    FIRST_SLICE_KIB,
    LEAST_SLICE_KIB,
    PAUSE_SECONDS,
    SLICE_KIB,
    ProcessMemory,
    QemuProcess,
    Sweep,
    SweepCost,
    SweepEnd,
    Sweeper,
    SweepOutcome,
    SweepPlan,
    described,
)

MIB = 1024
SIZE = 1024 * MIB
BALLOON = 900 * MIB
"""KiB/s, with a whole CPU of the guest."""
BACK = 2000 * MIB
HELD = 150 * MIB
"""What the guest uses when it is idle."""
GUEST = Entity(Scope.GUEST, "a", "one")
T = TypeVar("T")


class Guest:
    """A guest in simulated time, whose process is looked at.

    It has used and freed all that it does not hold. From `grows_at` on, its program takes 320 MiB/s until it holds `most`, and is short
    while it gets nothing. Memory that it has and has not used is taken last, or with `hollow_first` before the rest.
    """

    def __init__(
        self,
        grows_at: float = math.inf,
        most: float = 850 * MIB,
        idle: float = math.inf,
        balloon: float = BALLOON,
        *,
        hollow_first: bool = False,
    ) -> None:
        self.now = 0.0
        self.size = self.target = float(SIZE)
        self.held = float(HELD)
        self.resident = SIZE if idle == math.inf else HELD + idle
        self.hollow = float(SIZE - self.resident)
        self.hollow_first = hollow_first
        self.cpu = self.faulted = 0.0
        self.grows_at, self.most, self.balloon = grows_at, most, balloon
        self.short = 0.0
        self.commands: list[int] = []
        self.errors: list[Exception] = []
        self.gone = False

    def cpu_seconds(self) -> float | None:
        return None if self.gone else self.cpu

    def memory(self) -> ProcessMemory | None:
        return None if self.gone else ProcessMemory(self.resident, self.faulted)

    def size_now(self) -> float | None:
        return self.size

    def command(self, kib: int) -> None:
        self.commands.append(kib)
        if self.errors:
            raise self.errors.pop(0)
        self.target = float(kib)

    def monotonic(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        steps = max(1, round(seconds / 0.001))
        for _ in range(steps):
            self._step(seconds / steps)

    def _step(self, dt: float) -> None:
        self.now += dt
        wants = min(320 * MIB * dt, self.most - self.held) if self.now >= self.grows_at else 0.0
        share = 0.5 if wants and self.target != self.size else 1.0
        if self.target < self.size:
            taken = min(self.balloon * dt * share, self.size - self.target, max(0.0, self.size - self.held))
            idle = max(0.0, self.resident - self.held)
            self.size -= taken
            empty = min(self.hollow, taken) if self.hollow_first else 0.0
            self.hollow -= empty
            self.faulted += empty
            self.resident -= min(taken - empty, idle)
            self.cpu += taken / BALLOON
        elif self.target > self.size:
            self.size = min(self.target, self.size + BACK * dt * share)
            self.cpu += dt * share
        if wants:
            got = min(wants, self.size - self.held)
            self.held += got
            self.faulted += max(0.0, self.held - self.resident)
            self.resident = max(self.resident, self.held)
            self.cpu += dt * 0.7
            self.short += dt if got < wants / 2 else 0.0


def sweep_of(
    guest: Guest,
    bottom: int = HELD + 100 * MIB,
    gain: float = SIZE,
    cost: SweepCost | None = None,
    pause: Callable[[float], None] | None = None,
    said: float = math.inf,
    statistics: Callable[[], tuple[float, float] | None] | None = None,
    within: float = math.inf,
    *,
    tells: bool = True,
) -> Sweep:
    plan = SweepPlan(SIZE, bottom, gain, guest.hollow, 3.0, SIZE - HELD, said, within)
    size_now = guest.size_now if tells else None
    return Sweep(GUEST, "1", plan, guest.command, guest, cost, statistics, size_now, monotonic=guest.monotonic, pause=pause or guest.pause)


def test_an_idle_guest_gives_all_that_it_had_freed_and_has_its_room_again() -> None:
    guest = Guest()
    outcome = sweep_of(guest).perform()
    assert outcome.end is SweepEnd.ARRIVED
    assert outcome.gave == pytest.approx(SIZE - HELD - 100 * MIB, rel=0.01)
    assert guest.commands[-1] == SIZE
    assert guest.commands[:-1] == sorted(guest.commands[:-1], reverse=True)
    assert outcome.seconds < (SIZE - outcome.lowest) / BALLOON + 0.2, "what the balloon needs, and 0.2 s"


def statistics_of(guest: Guest, period: float = 2.0) -> Callable[[], tuple[float, float] | None]:
    """What a guest says every so many seconds, at half of the period for the first time: of that moment, in whole seconds."""
    told: dict[int, tuple[float, float]] = {0: (100.0, SIZE - HELD)}

    def statistics() -> tuple[float, float] | None:
        number = int((guest.now + period / 2) // period)
        return told.setdefault(number, (100.0 + int(number * period), guest.size - guest.held))

    return statistics


def commands_of(sweep: Sweep, noted: Callable[[], T], commands: list[T] | None = None) -> list[T]:
    """What is noted at each command of a sweep from now on."""
    commands, command = [] if commands is None else commands, sweep.command

    def note(kib: int) -> None:
        commands.append(noted())
        command(kib)

    sweep.command = note
    return commands


@pytest.mark.parametrize(("said", "begins"), [(0.0, 0.2), (-0.9, 0.2), (-1.1, 1.2), (-9.0, 1.2)])
def test_a_guest_is_swept_by_statistics_of_a_second_at_most(said: float, begins: float) -> None:
    guest = Guest()
    sweep = sweep_of(guest, said=said, statistics=statistics_of(guest))
    began = commands_of(sweep, lambda: guest.now)
    outcome = sweep.perform()
    assert outcome.end is SweepEnd.ARRIVED
    assert began[0] == pytest.approx(begins, abs=0.15)
    assert outcome.seconds < 2, "waiting does not count: it had its headroom"


def test_a_guest_that_has_used_memory_since_its_last_statistics_is_not_swept() -> None:
    """Its program took, within the second that they are old, what they call unused, and is idle by now."""
    guest = Guest()
    guest.held += 100 * MIB
    outcome = sweep_of(guest, said=-1.5, statistics=statistics_of(guest)).perform()
    assert (outcome.end, guest.commands) == (SweepEnd.GREW, [])


@pytest.mark.parametrize(("within", "took"), [(0.6, True), (0.1, False)])
def test_a_sweep_of_a_guest_that_cannot_wait_takes_no_more_when_its_time_is_over(within: float, took: bool) -> None:
    guest = Guest()
    outcome = sweep_of(guest, within=within).perform()
    assert outcome.end is SweepEnd.LATE
    assert outcome.ended < within + 0.5
    assert (outcome.gave > 0) is took
    assert guest.commands[-1:] == ([SIZE] if took else [])


@pytest.mark.parametrize("statistics", [None, lambda: None, lambda: (100.0, SIZE - HELD)])
def test_without_new_statistics_a_guest_is_not_swept_by_old_ones(statistics: Callable[[], tuple[float, float] | None] | None) -> None:
    guest = Guest()
    outcome = sweep_of(guest, said=-1.5, statistics=statistics).perform()
    assert (outcome.end, guest.commands) == (SweepEnd.LATE, [])
    assert guest.now < 3


def test_a_timer_between_two_slices_is_not_taken_for_work() -> None:
    """7 ms of CPU time, as soon as the balloon stands still: a third of the 20 ms in which it is looked at."""
    guest, woken = Guest(), list[float]()

    def with_a_timer(seconds: float) -> None:
        if seconds == PAUSE_SECONDS and not woken:
            woken.append(guest.now)
            guest.cpu += 0.007
        guest.pause(seconds)

    assert sweep_of(guest, pause=with_a_timer).perform().end is SweepEnd.ARRIVED
    assert woken


def test_a_guest_that_faults_memory_in_is_not_swept_though_it_holds_no_more_than_before() -> None:
    """The host takes as much from it meanwhile, or its kernel hands back as much."""
    guest = Guest()

    def with_faults(seconds: float) -> None:
        guest.faulted += 100 * MIB * seconds
        guest.pause(seconds)

    assert sweep_of(guest, pause=with_faults).perform().end is SweepEnd.AT_WORK
    assert guest.commands == []


@pytest.mark.parametrize("grows_at", [step / 20 for step in range(40)])
def test_a_guest_that_begins_to_use_memory_has_its_room_back_before_it_lacks_any(grows_at: float) -> None:
    """At 320 MiB/s, from before the first command until after the last."""
    usual = sweep_of(Guest()).perform()
    guest = Guest(grows_at)
    outcome = sweep_of(guest, cost=usual.cost).perform()
    guest.pause(4.0)
    assert guest.commands == [] or guest.commands[-1] == SIZE
    assert guest.held == guest.most, "the burst has come"
    assert guest.short < 0.05, described(outcome)
    if outcome.end is SweepEnd.GREW:
        assert outcome.ended - max(grows_at, 0.2) < 0.5


def test_a_guest_at_work_is_not_swept() -> None:
    guest = Guest(grows_at=0.0)
    outcome = sweep_of(guest).perform()
    assert (outcome.end, guest.commands, outcome.seconds) == (SweepEnd.AT_WORK, [], 0.0)


@pytest.mark.parametrize(("share", "begun"), [(0.14, False), (0.04, True)])
def test_a_guest_that_needs_little_cpu_for_its_work_is_not_swept_either(share: float, begun: bool) -> None:
    """As one that fills memory which it has had before: 0.14 of a fast CPU, in slots of 100 ms."""
    guest = Guest()

    def with_work(seconds: float) -> None:
        guest.pause(seconds)
        guest.cpu += share * seconds

    outcome = sweep_of(guest, pause=with_work).perform()
    assert outcome.end is (SweepEnd.ARRIVED if begun else SweepEnd.AT_WORK)
    assert bool(guest.commands) is begun


@pytest.mark.parametrize("grows", [False, True])
def test_statistics_that_arrive_while_it_is_swept_end_it_where_they_tell_of_growth(grows: bool) -> None:
    """A program that needs next to no CPU time, and takes memory that the guest has: its process shows nothing of it."""
    guest = Guest()

    def with_growth(seconds: float) -> None:
        guest.pause(seconds)
        if grows and guest.commands:
            guest.held += 320 * MIB * seconds

    outcome = sweep_of(guest, pause=with_growth, statistics=statistics_of(guest, 0.3)).perform()
    assert outcome.end is (SweepEnd.GREW if grows else SweepEnd.ARRIVED)
    assert guest.target == SIZE
    assert not grows or outcome.seconds < 0.3 + 0.2


def test_it_ends_when_the_host_gets_nothing_more() -> None:
    """As where QEMU holds more beside the guest than was thought."""
    guest = Guest(idle=200 * MIB)
    guest.hollow = 0.0
    outcome = sweep_of(guest).perform()
    assert outcome.end is SweepEnd.NOTHING_MORE
    assert outcome.gave == pytest.approx(200 * MIB)
    assert outcome.lowest >= SIZE - 200 * MIB - 3 * SLICE_KIB
    assert guest.target == SIZE


@pytest.mark.parametrize("hollow_first", [False, True])
def test_it_goes_through_hollow_memory_until_the_host_has_what_it_was_to_get(hollow_first: bool) -> None:
    guest = Guest(idle=300 * MIB, hollow_first=hollow_first)
    hollow = guest.hollow
    outcome = sweep_of(guest, HELD, gain=300 * MIB).perform()
    assert outcome.end is SweepEnd.ARRIVED
    assert outcome.gave >= 0.9 * 300 * MIB
    assert SIZE - outcome.lowest <= (hollow if hollow_first else 0) + 300 * MIB + SLICE_KIB
    assert guest.target == SIZE


@pytest.mark.parametrize(("works", "stolen", "tells"), [(0.04, 0.015, False), (0.04, 0.015, True), (0.05, 0.15, True), (0.04, 0.1, True)])
def test_a_balloon_that_is_kept_from_its_cpu_for_a_moment_has_not_arrived(works: float, stolen: float, tells: bool) -> None:
    """As on a host with more work than CPUs: for so many seconds each, it works and cannot."""
    guest = Guest()
    step = guest._step

    def shared(dt: float) -> None:
        if guest.now % (works + stolen) > works:
            guest.now += dt
        else:
            step(dt)

    guest._step = shared  # type: ignore[method-assign]  # the host's doing, which the guest knows nothing of
    outcome = sweep_of(guest, tells=tells).perform()
    assert outcome.end is SweepEnd.ARRIVED
    assert outcome.gave == pytest.approx(SIZE - HELD - 100 * MIB, rel=0.01)


def test_slices_are_smaller_where_the_balloon_is_slow_so_that_growth_is_noticed_in_time() -> None:
    guest = Guest(balloon=BALLOON / 5)
    assert sweep_of(guest).perform().end is SweepEnd.ARRIVED
    slices = [before - after for before, after in pairwise([SIZE, *guest.commands[:-1]])]
    assert slices[0] == FIRST_SLICE_KIB
    assert all(one < 0.6 * SLICE_KIB for one in slices)
    guest = Guest(balloon=BALLOON / 5, grows_at=2.0)
    outcome = sweep_of(guest).perform()
    assert outcome.end is SweepEnd.GREW
    assert guest.short == 0


def test_a_sweep_begins_with_what_the_balloon_of_the_last_one_took_in_time() -> None:
    slow = sweep_of(Guest(balloon=BALLOON / 8)).perform()
    assert LEAST_SLICE_KIB <= slow.slice < FIRST_SLICE_KIB
    guest = Guest()
    sweep = sweep_of(guest)
    sweep = replace(sweep, first_slice=slow.slice)
    assert sweep.perform().slice == SLICE_KIB, "this one's is not slow"
    assert guest.commands[0] == int(SIZE - slow.slice)


@pytest.mark.parametrize(("balloon", "end"), [(0.0, SweepEnd.LATE), (10 * MIB, SweepEnd.SLOW)])
def test_a_guest_whose_balloon_is_stuck_or_slow_is_let_alone_soon(balloon: float, end: SweepEnd) -> None:
    guest = Guest(balloon=balloon)
    outcome = sweep_of(guest).perform()
    assert outcome.end is end
    assert guest.target == SIZE
    assert outcome.seconds < 1.5


def test_where_the_hypervisor_does_not_say_how_far_the_balloon_is_a_stuck_one_is_let_alone_soon() -> None:
    guest = Guest(balloon=10 * MIB)
    outcome = sweep_of(guest, tells=False).perform()
    assert outcome.end is SweepEnd.NOTHING_MORE
    assert guest.target == SIZE
    assert outcome.seconds < 1


def test_a_host_without_cpu_for_the_guest_ends_it_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    guest = Guest()
    cpu_seconds = guest.cpu_seconds
    guest.balloon = 60 * MIB
    monkeypatch.setattr(guest, "cpu_seconds", lambda: 0.3 * guest.now if guest.commands else cpu_seconds())
    outcome = sweep_of(guest).perform()
    assert outcome.end in {SweepEnd.LATE, SweepEnd.GREW}
    assert guest.target == SIZE
    assert outcome.seconds < 2


def test_the_room_is_given_back_again_and_again_where_the_hypervisor_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    guest = Guest()
    guest.errors = [ValueError("what nobody expects")]
    assert sweep_of(guest).perform().end is SweepEnd.FAILED
    assert guest.commands[-1] == SIZE - FIRST_SLICE_KIB, "nothing was taken, as far as is known"

    failing, failures = Guest(), [HypervisorError("it does not answer")] * 3
    monkeypatch.setattr("mom_plugins_balloon.sweep.sweep.time.sleep", failing.pause)
    sweep = sweep_of(failing)

    def fails(kib: int) -> None:
        failing.errors = [failures.pop()] if kib == SIZE and failures else []
        failing.command(kib)

    sweep.command = fails
    assert sweep.perform().error == ""
    assert (failing.target, failing.commands.count(SIZE)) == (SIZE, 4)


def test_a_guest_that_goes_is_let_go() -> None:
    guest = Guest()
    guest.errors = [GuestGone("it is gone")]
    assert sweep_of(guest).perform().end is SweepEnd.GONE
    guest = Guest()
    guest.gone = True
    assert sweep_of(guest).perform().end is SweepEnd.UNSEEN


def test_nothing_is_commanded_after_another_change_has_taken_over() -> None:
    guest = Guest()

    def taken_over(seconds: float) -> None:
        if len(guest.commands) == 2:
            sweep.take_over()
        guest.pause(seconds)

    sweep = sweep_of(guest, pause=taken_over)
    assert sweep.perform().end is SweepEnd.TAKEN_OVER
    assert len(guest.commands) == 2
    assert SIZE not in guest.commands


def test_another_change_does_not_wait_for_ever_for_a_command_of_a_sweep_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mom_plugins_balloon.sweep.sweep.TAKEN_OVER_SECONDS", 0.05)
    guest, hangs, goes_on = Guest(), threading.Event(), threading.Event()
    sweep = sweep_of(guest)
    command = sweep.command

    def hung(size: int) -> None:
        hangs.set()
        assert goes_on.wait(20)
        command(size)

    sweep.command = hung
    with ThreadPoolExecutor(1) as thread:
        performed = thread.submit(sweep.perform)
        assert hangs.wait(20)
        sweep.take_over()
        goes_on.set()
        outcome = performed.result(20)
    assert (outcome.end, outcome.is_back, len(guest.commands)) == (SweepEnd.TAKEN_OVER, False, 1)


class Noted:
    """A sweeper in real time, and what it notes."""

    def __init__(self) -> None:
        self.notes: list[dict[str, tuple[str, int, int]]] = []
        self.woken: list[str] = []
        self.error: StateError | None = None
        self.ended = threading.Event()
        self.sweeper = Sweeper(logging.getLogger("test"), self.note, self.wake)

    def note(self, under_way: dict[str, tuple[str, int, int]]) -> None:
        if self.error is not None:
            raise self.error
        self.notes.append(dict(under_way))
        if not under_way:
            self.ended.set()

    def wake(self, reason: str) -> None:
        self.woken.append(reason)


def test_who_waits_for_a_sweep_is_told_when_it_is_not_under_way_any_more() -> None:
    noted, guest, told = Noted(), Guest(), list[tuple[SweepEnd, bool]]()
    heard = threading.Event()

    def hear(outcome: SweepOutcome) -> None:
        told.append((outcome.end, "a" in noted.sweeper._under_way))
        heard.set()

    sweep = sweep_of(guest)
    sweep.told = hear
    noted.sweeper.begin(sweep)
    assert heard.wait(10)
    assert told == [(SweepEnd.ARRIVED, False)]


def test_what_is_under_way_is_noted_before_the_first_command_and_until_the_last() -> None:
    noted, guest = Noted(), Guest()
    sweep = sweep_of(guest)
    seen = commands_of(sweep, lambda: len(noted.notes))
    noted.sweeper.begin(sweep)
    assert noted.ended.wait(10)
    assert noted.notes == [{"a": ("1", HELD + 100 * MIB, SIZE)}, {}]
    assert set(seen) == {1}
    outcomes = noted.sweeper.outcomes()
    assert [one.end for one in outcomes] == [SweepEnd.ARRIVED]
    assert noted.sweeper.outcomes() == []


def test_a_guest_whose_sweep_ended_in_a_way_that_nobody_thought_of_stays_noted_for_the_next_mom() -> None:
    noted, sweep = Noted(), sweep_of(Guest())

    def perform(turns: threading.Semaphore | None = None) -> SweepOutcome:
        raise RuntimeError("a mistake in mom")

    sweep.perform = perform  # type: ignore[method-assign]  # as nothing there is known to raise
    noted.sweeper.begin(sweep)
    wait_until(lambda: "a" not in noted.sweeper._under_way)
    assert noted.notes[-1] == {"a": sweep.noted}
    noted.sweeper.asked("a")
    assert noted.notes[-1] == {}


def test_what_cannot_be_noted_is_not_begun() -> None:
    noted, guest = Noted(), Guest()
    noted.error = StateError("the disk is full")
    with pytest.raises(HypervisorError, match="the disk is full"):
        noted.sweeper.begin(sweep_of(guest))
    assert guest.commands == []
    assert "a" not in noted.sweeper._under_way


@pytest.mark.parametrize("of_all", [True, False], ids=["an ending mom", "a stopped shrink"])
def test_a_sweep_that_is_to_end_has_the_guest_have_its_headroom_before_it_has_ended(of_all: bool) -> None:
    noted, guest, begun, told_to_end = Noted(), Guest(), threading.Event(), threading.Event()

    def pause(seconds: float) -> None:
        if guest.commands:
            begun.set()
            told_to_end.wait(10)
        guest.pause(seconds)

    sweep = sweep_of(guest, pause=pause)
    end = sweep.end

    def ends() -> None:
        end()
        told_to_end.set()

    sweep.end = ends  # type: ignore[method-assign]  # to go on when it was called
    noted.sweeper.begin(sweep)
    assert begun.wait(10)
    if of_all:
        noted.sweeper.end(10)
    else:
        noted.sweeper.end_of("another")
        assert not told_to_end.is_set()
        noted.sweeper.end_of("a")
        assert noted.ended.wait(10)
    assert guest.commands[1:] == [SIZE]
    assert noted.notes[-1] == {}
    assert [one.end for one in noted.sweeper.outcomes()] == [SweepEnd.TAKEN_OVER]


def test_a_guest_is_swept_once_at_a_time() -> None:
    noted, guest, go = Noted(), Guest(), threading.Event()

    def pause(seconds: float) -> None:
        go.wait(10)
        guest.pause(seconds)

    noted.sweeper.begin(sweep_of(guest, pause=pause))
    with pytest.raises(NoChangeNeeded, match="is swept now"):
        noted.sweeper.begin(sweep_of(guest))
    go.set()
    assert noted.ended.wait(10)


def test_guests_wait_for_statistics_beside_a_sweep_and_are_swept_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mom_plugins_balloon.sweep.sweep.os.cpu_count", lambda: 2)
    noted, go = Noted(), threading.Event()
    guests, order = [Guest(), Guest()], list[str]()
    watched, asked = threading.Event(), threading.Event()

    def held_up(seconds: float) -> None:
        watched.set()
        go.wait(10)
        guests[0].pause(seconds)

    def statistics() -> tuple[float, float]:
        asked.set()
        return statistics_of(guests[1])() or (0.0, 0.0)

    sweeps = [sweep_of(guests[0], pause=held_up), sweep_of(guests[1], said=-2.0, statistics=statistics)]
    for sweep, name in zip(sweeps, "ab", strict=True):
        sweep.guest = Entity(Scope.GUEST, name, name)
        commands_of(sweep, partial(str, name), order)
        noted.sweeper.begin(sweep)
        assert watched.wait(10), "the first one has its turn before the second one begins"
    third = sweep_of(Guest())
    third.guest = Entity(Scope.GUEST, "c", "c")
    with pytest.raises(NoChangeNeeded, match="as many guests"):
        noted.sweeper.begin(third)
    assert asked.wait(10)
    assert not order
    assert noted.sweeper.taking() == {"a"}, "the other one takes nothing yet"
    go.set()
    assert noted.ended.wait(10)
    assert not noted.sweeper.taking()
    assert order == sorted(order)
    assert {one.end for one in noted.sweeper.outcomes()} == {SweepEnd.ARRIVED}


@pytest.mark.processes
def test_a_process_is_looked_at_to_the_nanosecond_and_not_after_it_has_ended() -> None:
    program = "import time\nprint(flush=True)\nwhile True: time.sleep(0.001)"
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        with child.stdout:
            child.stdout.readline()
        process = QemuProcess(child.pid, Path("/proc"))
        first = process.cpu_seconds()
        assert first is not None
        assert first >= 0
        assert (memory := process.memory()) is not None
        assert memory.resident > 1000
        assert memory.faulted > 1000
    finally:
        child.kill()
        child.wait()
    assert process.cpu_seconds() is None
    assert process.memory() is None


def test_a_process_with_the_number_of_one_that_has_ended_is_not_looked_at(tmp_path: Path) -> None:
    stat, line = tmp_path / "7/stat", "7 (qemu) S 1 1 1 0 -1 0 5 0 3 0 20 10 0 0 20 0 4 0 {started} 0 {pages} 1 " + "0 " * 26
    stat.parent.mkdir()
    stat.write_text(line.format(started=1000, pages=100))
    process, kib = QemuProcess(7, tmp_path), mmap.PAGESIZE // 1024
    assert process.memory() == ProcessMemory(100 * kib, 8 * kib)
    assert process.cpu_seconds() == 30 / os.sysconf("SC_CLK_TCK")
    stat.write_text(line.format(started=1001, pages=100))
    assert (process.memory(), process.cpu_seconds()) == (None, None)
    stat.unlink()
    assert (process.memory(), process.cpu_seconds()) == (None, None)


@pytest.mark.parametrize(
    ("end", "lowest", "gave", "missed"),
    [
        (SweepEnd.ARRIVED, 500, 60, 40),
        (SweepEnd.NOTHING_MORE, 500, 0, 100),
        (SweepEnd.ARRIVED, 500, 98, 0),
        (SweepEnd.GREW, 500, 60, 0),
        (SweepEnd.NOTHING_MORE, SIZE // MIB, 0, 0),
    ],
    ids=["less than all", "nothing", "nearly all", "the guest ended it", "it took nothing"],
)
def test_what_the_host_missed_is_told_of_sweeps_that_went_as_far_as_they_could(end: SweepEnd, lowest: int, gave: int, missed: int) -> None:
    plan = SweepPlan(SIZE, 500 * MIB, 100 * MIB, 0.0, 3.0)
    assert SweepOutcome(GUEST, "1", plan, lowest * MIB, gave * MIB, 1.0, 0.1, 5.0, end).missed == missed * MIB
