"""One sweep: inflates slice by slice, ends when the guest works or grows, and deflates in any case."""

import mmap
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
from swept_guest import BALLOON, BOTTOM, GROWTH, HELD, MIB, SIZE, SimulatedGuest, plan_of, sweep_of

from mom_core import GuestGone, HypervisorError
from mom_plugins_balloon.sweep.constants import FIRST_SLICE_KIB, SLICE_KIB
from mom_plugins_balloon.sweep.qemu_process import ProcessReading, QemuProcess
from mom_plugins_balloon.sweep.records import SweepEnd

Statistics = Callable[[], tuple[float, float] | None]


def test_idle_guest_gives_all_that_it_does_not_use_and_keeps_its_size() -> None:
    guest = SimulatedGuest()
    outcome = sweep_of(guest).perform()
    assert outcome.end is SweepEnd.ARRIVED
    assert outcome.gave == pytest.approx(SIZE - BOTTOM, rel=0.01)
    assert guest.commands[-1] == SIZE
    assert guest.commands[:-1] == sorted(guest.commands[:-1], reverse=True)
    assert outcome.seconds < (SIZE - outcome.lowest) / BALLOON + 0.2


class TestStatistics:
    @pytest.mark.parametrize(("measured", "begins"), [(0.0, 0.2), (-0.9, 0.2), (-1.1, 1.2), (-9.0, 1.2)])
    def test_sweep_waits_for_statistics_that_are_at_most_a_second_old(self, measured: float, begins: float) -> None:
        guest, began = SimulatedGuest(), list[float]()

        def resize(kib: int) -> None:
            began.append(guest.now)
            guest.resize(kib)

        outcome = sweep_of(guest, plan_of(guest, measured=measured), resize=resize, statistics=guest.statistics()).perform()
        assert outcome.end is SweepEnd.ARRIVED
        assert began[0] == pytest.approx(begins, abs=0.15)
        assert outcome.seconds < 2, "the wait does not count: the guest had its headroom"

    def test_guest_that_used_memory_since_its_last_statistics_is_not_swept(self) -> None:
        guest = SimulatedGuest()
        guest.held += 100 * MIB
        outcome = sweep_of(guest, plan_of(guest, measured=-1.5), statistics=guest.statistics()).perform()
        assert (outcome.end, guest.commands) == (SweepEnd.GREW, [])

    @pytest.mark.parametrize("statistics", [None, lambda: None, lambda: (100.0, SIZE - HELD)])
    def test_guest_without_new_statistics_is_not_swept(self, statistics: Statistics | None) -> None:
        guest = SimulatedGuest()
        outcome = sweep_of(guest, plan_of(guest, measured=-1.5), statistics=statistics).perform()
        assert (outcome.end, guest.commands) == (SweepEnd.LATE, [])
        assert guest.now < 3

    @pytest.mark.parametrize("grows", [False, True])
    def test_growth_that_only_statistics_show_ends_the_sweep(self, grows: bool) -> None:
        guest = SimulatedGuest()

        def pause(seconds: float) -> None:
            guest.pause(seconds)
            if grows and guest.commands:
                guest.held += GROWTH * seconds

        outcome = sweep_of(guest, pause=pause, statistics=guest.statistics(0.3)).perform()
        assert outcome.end is (SweepEnd.GREW if grows else SweepEnd.ARRIVED)
        assert guest.target == SIZE
        assert not grows or outcome.seconds < 0.5


class TestGuestAtWork:
    @pytest.mark.parametrize("grows_at", [step / 10 for step in range(20)])
    def test_growing_guest_has_its_headroom_before_it_lacks_memory(self, grows_at: float) -> None:
        cost = sweep_of(SimulatedGuest()).perform().cost
        guest = SimulatedGuest(grows_at)
        outcome = sweep_of(guest, plan_of(guest, cost=cost)).perform()
        guest.pause(4.0)
        assert guest.commands == [] or guest.commands[-1] == SIZE
        assert guest.held == guest.most
        assert guest.short < 0.05, outcome
        if outcome.end is SweepEnd.GREW:
            assert outcome.ended - max(grows_at, 0.2) < 0.5

    @pytest.mark.parametrize(
        ("cpu", "faults", "end"), [(0.14, 0, SweepEnd.AT_WORK), (0, 100 * MIB, SweepEnd.AT_WORK), (0.04, 0, SweepEnd.ARRIVED)]
    )
    def test_only_an_idle_guest_is_swept(self, cpu: float, faults: float, end: SweepEnd) -> None:
        """A program that fills memory in slots needs 0.14 of a CPU. Page faults count where the RSS does not grow."""
        guest = SimulatedGuest()

        def pause(seconds: float) -> None:
            guest.pause(seconds)
            guest.cpu += cpu * seconds
            guest.faulted += faults * seconds

        outcome = sweep_of(guest, pause=pause).perform()
        assert outcome.end is end
        assert bool(guest.commands) is outcome.began is bool(outcome.seconds) is (end is SweepEnd.ARRIVED)


class TestHollowMemory:
    def test_sweep_ends_when_the_host_gets_nothing_more(self) -> None:
        guest = SimulatedGuest(idle=200 * MIB)
        outcome = sweep_of(guest, plan_of(guest, hollow=0.0)).perform()
        assert outcome.end is SweepEnd.NOTHING_MORE
        assert outcome.gave == pytest.approx(200 * MIB)
        assert outcome.lowest >= SIZE - 200 * MIB - 3 * SLICE_KIB
        assert guest.target == SIZE

    @pytest.mark.parametrize("hollow_first", [False, True])
    def test_sweep_goes_through_hollow_memory_until_the_host_has_the_planned_gain(self, hollow_first: bool) -> None:
        guest = SimulatedGuest(idle=300 * MIB, hollow_first=hollow_first)
        hollow = guest.hollow if hollow_first else 0
        outcome = sweep_of(guest, plan_of(guest, bottom=HELD, gain=300 * MIB)).perform()
        assert outcome.end is SweepEnd.ARRIVED
        assert outcome.gave >= 0.9 * 300 * MIB
        assert SIZE - outcome.lowest <= hollow + 300 * MIB + SLICE_KIB
        assert guest.target == SIZE


class TestSlowBalloons:
    @pytest.mark.parametrize(
        ("works", "stolen", "reports"), [(0.04, 0.015, False), (0.04, 0.015, True), (0.05, 0.15, True), (0.04, 0.1, True)]
    )
    def test_balloon_that_waits_for_cpu_has_not_arrived(self, works: float, stolen: float, reports: bool) -> None:
        guest = SimulatedGuest()
        step = guest.step

        def shared(dt: float) -> None:
            if guest.now % (works + stolen) > works:
                guest.now += dt
            else:
                step(dt)

        guest.step = shared  # type: ignore[method-assign]  # the host's doing, not the guest's
        outcome = sweep_of(guest, reports_size=reports).perform()
        assert outcome.end is SweepEnd.ARRIVED
        assert outcome.gave == pytest.approx(SIZE - BOTTOM, rel=0.01)

    def test_slices_of_a_slow_balloon_are_smaller_so_that_growth_is_noticed_in_time(self) -> None:
        guest = SimulatedGuest(balloon=BALLOON / 5)
        assert sweep_of(guest).perform().end is SweepEnd.ARRIVED
        slices = [before - after for before, after in pairwise([SIZE, *guest.commands[:-1]])]
        assert slices[0] == FIRST_SLICE_KIB
        assert max(slices) < 0.6 * SLICE_KIB
        guest = SimulatedGuest(balloon=BALLOON / 5, grows_at=2.0)
        assert sweep_of(guest).perform().end is SweepEnd.GREW
        assert guest.short == 0

    @pytest.mark.parametrize(
        ("balloon", "reports", "end"),
        [(0.0, True, SweepEnd.LATE), (10 * MIB, True, SweepEnd.LATE), (10 * MIB, False, SweepEnd.NOTHING_MORE)],
        ids=["stuck", "slow", "slow without reports"],
    )
    def test_guest_whose_balloon_hardly_moves_is_left_alone_soon(self, balloon: float, reports: bool, end: SweepEnd) -> None:
        guest = SimulatedGuest(balloon=balloon)
        outcome = sweep_of(guest, reports_size=reports).perform()
        assert outcome.end is end
        assert guest.target == SIZE
        assert outcome.seconds < 1.5

    @pytest.mark.parametrize(("within", "inflates"), [(0.6, True), (0.1, False)])
    def test_sweep_with_a_time_limit_takes_no_more_after_it(self, within: float, inflates: bool) -> None:
        guest = SimulatedGuest()
        outcome = sweep_of(guest, plan_of(guest, within=within)).perform()
        assert outcome.end is SweepEnd.LATE
        assert outcome.ended < within + 0.5
        assert (outcome.gave > 0) is inflates
        assert guest.commands[-1:] == ([SIZE] if inflates else [])


class TestFailures:
    @pytest.mark.parametrize("error", [HypervisorError("no answer"), RuntimeError("an error of the binding")])
    def test_headroom_is_given_back_again_and_again_where_that_fails(self, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
        guest, failures = SimulatedGuest(), [error] * 3
        monkeypatch.setattr("mom_plugins_balloon.sweep.sweep.time.sleep", guest.pause)

        def resize(kib: int) -> None:
            guest.errors = [failures.pop()] if kib == SIZE and failures else []
            guest.resize(kib)

        outcome = sweep_of(guest, resize=resize).perform()
        assert (guest.target, guest.commands.count(SIZE)) == (SIZE, 4)
        assert (outcome.is_back, outcome.error) == (True, "")

    def test_first_command_in_doubt_ends_the_sweep_and_is_undone(self) -> None:
        guest = SimulatedGuest()
        guest.errors = [TimeoutError("no answer")]
        outcome = sweep_of(guest).perform()
        assert (outcome.end, outcome.is_back) == (SweepEnd.FAILED, True)
        assert guest.commands[1:] == [SIZE]

    @pytest.mark.parametrize("reads", [0, 1, 12], ids=["never", "once", "after some slices"])
    def test_guest_whose_process_cannot_be_read_is_not_swept_and_has_its_headroom(self, reads: int) -> None:
        guest, count = SimulatedGuest(), 0

        def pause(seconds: float) -> None:
            nonlocal count
            guest.pause(seconds)
            count += 1
            guest.gone = count >= reads

        guest.gone = reads == 0
        outcome = sweep_of(guest, pause=pause).perform()
        assert outcome.end is SweepEnd.FAILED
        assert outcome.began is (reads > 1)
        assert guest.commands[-1:] == ([SIZE] if reads > 1 else [])

    def test_no_command_follows_once_another_change_took_over(self) -> None:
        guest = SimulatedGuest()

        def pause(seconds: float) -> None:
            if len(guest.commands) == 2:
                sweep.take_over()
            guest.pause(seconds)

        sweep = sweep_of(guest, pause=pause)
        assert sweep.perform().end is SweepEnd.TAKEN_OVER
        assert len(guest.commands) == 2
        assert SIZE not in guest.commands

    def test_another_change_does_not_wait_forever_for_a_command_that_hangs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("mom_plugins_balloon.sweep.constants.TAKEN_OVER_SECONDS", 0.05)
        guest, hangs, goes_on = SimulatedGuest(), threading.Event(), threading.Event()

        def resize(kib: int) -> None:
            hangs.set()
            assert goes_on.wait(20)
            guest.resize(kib)

        sweep = sweep_of(guest, resize=resize)
        with ThreadPoolExecutor(1) as thread:
            performed = thread.submit(sweep.perform)
            assert hangs.wait(20)
            sweep.take_over()
            goes_on.set()
            outcome = performed.result(20)
        assert (outcome.end, outcome.is_back, len(guest.commands)) == (SweepEnd.TAKEN_OVER, False, 1)

    def test_guest_that_is_gone_gets_no_further_command(self) -> None:
        guest = SimulatedGuest()
        guest.errors = [GuestGone("gone")]
        assert sweep_of(guest).perform().end is SweepEnd.GONE
        assert len(guest.commands) == 1

    def test_sweep_that_waits_for_its_turn_ends_when_another_change_takes_over(self) -> None:
        sweep = sweep_of(SimulatedGuest())
        sweep.take_over()
        assert sweep.perform(threading.Semaphore(0)).end is SweepEnd.TAKEN_OVER


class TestQemuProcess:
    @pytest.mark.processes
    def test_running_process_is_read_until_it_ends(self) -> None:
        program = "import time\nprint(flush=True)\nwhile True: time.sleep(0.001)"
        child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
        try:
            assert child.stdout is not None
            with child.stdout:
                child.stdout.readline()
            process = QemuProcess(child.pid, Path("/proc"))
            reading = process.read()
            assert reading is not None
            assert reading.cpu_seconds > 0
            assert min(reading.resident, reading.faulted) > 1000
        finally:
            child.kill()
            child.wait()
        assert process.read() is None

    def test_another_process_with_the_same_pid_is_not_read(self, tmp_path: Path) -> None:
        stat, line = tmp_path / "7/stat", "7 (qemu) S 1 1 1 0 -1 0 5 0 3 0 20 10 0 0 20 0 4 0 {started} 0 {pages} 1 " + "0 " * 26
        stat.parent.mkdir()
        stat.write_text(line.format(started=1000, pages=100))
        process, kib = QemuProcess(7, tmp_path), mmap.PAGESIZE // 1024
        assert process.read() == ProcessReading(30 / os.sysconf("SC_CLK_TCK"), 100 * kib, 8 * kib)
        stat.write_text(line.format(started=1001, pages=100))
        assert process.read() is None
        stat.unlink()
        assert process.read() is None
