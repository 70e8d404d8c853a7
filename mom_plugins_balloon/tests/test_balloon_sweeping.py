"""The plugin's sweeps: which decision is a sweep, what follows from its outcome, and what a crash leaves."""

import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from guest_facts import MIB

from mom_core import (
    Change,
    ControlSpec,
    Decision,
    EngineState,
    HypervisorError,
    LedgerEntry,
    NoChangeNeeded,
    PluginContext,
    Snapshot,
    Source,
    Target,
    as_number,
)
from mom_devkit import wait_until
from mom_plugins_balloon import BalloonPlugin
from mom_plugins_balloon.sweep.constants import FIRST_SLICE_KIB, SLICE_KIB

SIZE = 2 * 1024 * MIB
BOTTOM = 1200 * MIB
STAT = "4711 (qemu) S 1 1 1 0 -1 0 50 0 0 0 20 10 0 0 20 0 4 0 1000 0 400000 18446744073709551615 " + "0 " * 13 + "3 0 0 0 0 0"


class Bench:
    """The plugin on a hypervisor whose guest a is suggested to be swept, with a clock that can be advanced."""

    def __init__(self, folder: Path, hypervisor, seen_by, state: str = "state", changed: Sequence[LedgerEntry] = ()) -> None:
        self.folder, self.hypervisor, self.seen_by = folder, hypervisor, seen_by
        self.later = 0.0
        self.context = PluginContext(
            name="balloon", root=folder / "root", state_directory=folder / state, interval=5.0,
            monotonic=lambda: time.monotonic() + self.later, engine_state=lambda: EngineState(changes=changed),
        )  # fmt: skip
        self.plugin = BalloonPlugin(BalloonPlugin.Settings(), self.context)
        self.plugin.mom_setup()
        self.target = Target(self.snapshot().guests["a"].entity, "balloon_target")

    def snapshot(self, pid: int | None = 4711, **fields) -> Snapshot:
        law = {"balloon_suggested": BOTTOM, "balloon_reason": "sweep", "stats_age": 0.3, "mem_usable": SIZE - 600 * MIB}
        snapshot = self.seen_by(self.hypervisor, self.context.monotonic(), a=law | fields)
        properties = {} if pid is None else {"pid": pid}
        return replace(snapshot, guests={name: replace(guest, properties=properties) for name, guest in snapshot.guests.items()})

    def write(self, value: int = BOTTOM, pid: int | None = 4711, **fields):
        """Review and write a decision about guest a, as the engine does. Return the plugin's answer."""
        snapshot = self.snapshot(pid, **fields)
        decision = Decision(self.target.entity, "balloon_target", value, "", Source("policy"))
        assert not [*self.plugin.mom_review(snapshot, [decision])]
        return self.plugin.mom_write(self.hypervisor, [Change(self.target, value, SIZE)]).get(self.target)

    def columns(self):
        return self.plugin.mom_collect_guests([*self.snapshot().guests.values()])

    def sweep(self, **fields):
        """Sweep guest a. Return the fields of all guests after the sweep."""
        self.write(**fields)
        self.join()
        return self.columns()

    def join(self) -> None:
        for thread in threading.enumerate():
            if thread.name == "mom-sweep":
                thread.join(10)

    def returned(self, **fields) -> list[Decision]:
        """Return the decisions of the next cycle."""
        return list(self.plugin.mom_act(self.snapshot(**fields)))

    def crash(self, size: int) -> "Bench":
        """Return the next mom after a crash during a sweep, with guest a at that size."""
        set_balloon = self.hypervisor.set_balloon

        def set_first(guest, kib):
            if not (self.folder / "crashed").exists():
                shutil.copytree(self.context.state_directory, self.folder / "crashed")
            set_balloon(guest, kib)

        self.hypervisor.set_balloon = set_first
        self.sweep()
        self.hypervisor.set_balloon, self.hypervisor.targets, self.hypervisor.sizes["a"] = set_balloon, {}, size
        self.hypervisor.commands.clear()
        entry = LedgerEntry(self.target.entity, "balloon_target", SIZE, BOTTOM, "balloon", 0.0)
        return Bench(self.folder, self.hypervisor, self.seen_by, "crashed", [entry])


@pytest.fixture
def bench(tmp_path: Path, hypervisor, seen_by) -> Bench:
    process = tmp_path / "root/proc/4711"
    process.mkdir(parents=True)
    (process / "stat").write_text(STAT)
    return Bench(tmp_path, hypervisor, seen_by)


def test_suggested_sweep_inflates_and_deflates_in_a_single_operation(bench: Bench) -> None:
    assert bench.write() is None
    assert isinstance(bench.plugin.mom_read(bench.hypervisor, [bench.target])[bench.target], int | ControlSpec.InTransition)
    bench.join()
    columns, slices = bench.columns(), [int(SIZE - FIRST_SLICE_KIB - number * SLICE_KIB) for number in range(3)]
    assert bench.hypervisor.commands == [*(("a", size) for size in slices), ("a", SIZE)], "its process holds what it did"
    assert (columns["sweep_end"][0], columns["sweep_gave"][0]) == ("nothing-more", 0)
    assert columns["sweep_rest"][0] > 5
    assert columns["balloon_target"][0] == SIZE
    assert 0 < (as_number(bench.plugin.mom_collect_host()["balloon_reaction"]) or 0) < 1


@pytest.mark.parametrize(("target", "ends_at"), [(BOTTOM + 100 * MIB, SIZE), (BOTTOM - MIB, BOTTOM - MIB)])
def test_policy_may_end_a_sweep_earlier_but_a_smaller_size_lasts(bench: Bench, target: int, ends_at: int) -> None:
    bench.write(target)
    bench.join()
    assert bench.hypervisor.commands[-1] == ("a", ends_at)
    assert min(size for _, size in bench.hypervisor.commands) >= target


def test_missed_memory_adds_up_for_ten_minutes(bench: Bench) -> None:
    for missed in (100, 200):
        assert bench.sweep(sweep_gain=100 * MIB)["sweep_missed"][0] == missed * MIB
    bench.later = 610.0
    assert "sweep_missed" not in bench.columns()
    assert bench.sweep(sweep_gain=100 * MIB)["sweep_missed"][0] == 100 * MIB


def test_guest_without_a_known_process_is_not_swept_and_rests(bench: Bench) -> None:
    bench.write(pid=None)
    bench.join()
    assert bench.hypervisor.commands == []
    assert bench.columns()["sweep_rest"][0] > 50


def test_guest_with_old_statistics_is_not_swept(bench: Bench) -> None:
    assert isinstance(bench.write(stats_age=1.1), NoChangeNeeded)
    assert bench.hypervisor.commands == []


def test_guest_whose_sweeps_are_in_vain_for_two_minutes_rests_for_as_long(bench: Bench) -> None:
    gives: list[int] = [0, 0, 0, 0, 0, 300 * MIB, 0]
    rests: list[int] = []
    bench.hypervisor.sweep_balloon = lambda guest, bottom: gives[len(rests)]
    for _ in gives:
        bench.write()
        rest = bench.columns().get("sweep_rest", [0])[0]
        rests.append(round(rest))
        bench.later += 50.0 if rests[-1] != 120 else 200.0
    assert rests == [2, 2, 2, 120, 120, 0, 2]


def test_sweep_under_way_is_a_field_of_the_guest(bench: Bench) -> None:
    bench.write()
    assert [*wait_until(lambda: bench.columns().get("sweep_under_way"))] == [1, None, None]
    assert bench.returned() == []
    bench.join()
    assert "sweep_under_way" not in bench.columns()


def test_larger_guarantee_ends_the_sweep(bench: Bench) -> None:
    bench.write()
    assert bench.returned(balloon_target=BOTTOM, balloon_min=BOTTOM + MIB) == []
    bench.join()
    assert bench.columns()["sweep_end"][0] == "taken-over"
    assert bench.hypervisor.commands[-1:] in ([], [("a", SIZE)])


def test_sweep_that_cannot_be_recorded_for_a_crash_is_not_begun(bench: Bench) -> None:
    (bench.folder / "state").write_text("")
    assert "cannot record the sweep" in str(bench.write())
    assert bench.hypervisor.commands == []
    assert "balloon_target" not in bench.columns()


def test_another_size_ends_the_sweep(bench: Bench) -> None:
    bench.write()
    bench.write(SIZE, balloon_reason="headroom-back", balloon_suggested=SIZE, balloon_cur=1800 * MIB)
    count = len(bench.hypervisor.commands)
    bench.join()
    assert bench.hypervisor.commands[count - 1 :] == [("a", SIZE)], "no command follows"
    assert bench.columns()["balloon_target"][0] == SIZE


@pytest.mark.parametrize("size", [SIZE - int(SLICE_KIB), SIZE - 3 * int(SLICE_KIB)])
def test_guest_whose_sweep_a_crash_cut_off_gets_its_headroom_back(bench: Bench, size: int) -> None:
    after = bench.crash(size)
    assert after.plugin.mom_read(after.hypervisor, [after.target]) == {after.target: ControlSpec.InTransition(size)}, (
        "restored, as mom changed it"
    )
    [back] = after.returned()
    assert (back.entity.id, back.value) == ("a", SIZE)
    assert after.returned(balloon_cur=None) == []
    after.later += 5.0
    assert after.returned() == [back], "until the guest is asked"
    after.plugin.mom_write(after.hypervisor, [Change(after.target, SIZE, size)])
    assert after.hypervisor.commands == [("a", SIZE)]
    assert after.returned() == []
    third = Bench(after.folder, after.hypervisor, after.seen_by, "crashed")
    after.hypervisor.targets, after.hypervisor.sizes["a"] = {}, (BOTTOM + SIZE) // 2
    assert third.plugin.mom_read(third.hypervisor, [third.target]) == {third.target: (BOTTOM + SIZE) // 2}, "set by another process"
    assert third.returned() == []


def test_guest_that_did_not_get_its_headroom_back_is_asked_to_take_it_in_the_next_cycle(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mom_plugins_balloon.sweep.constants.BACK_AGAIN_SECONDS", ())
    set_balloon, small = bench.hypervisor.set_balloon, SIZE - int(SLICE_KIB)

    def only_shrink(guest, kib):
        if kib == SIZE:
            raise HypervisorError("libvirtd is away")
        set_balloon(guest, kib)

    bench.hypervisor.set_balloon = only_shrink
    bench.sweep()
    bench.hypervisor.set_balloon, bench.hypervisor.sizes["a"] = set_balloon, small
    assert [back.value for back in bench.returned()] == [SIZE]
    bench.plugin.mom_write(bench.hypervisor, [Change(bench.target, SIZE, small)])
    assert bench.hypervisor.commands[-1] == ("a", SIZE)
    assert bench.returned() == []


def test_size_without_a_sweep_is_another_processs(bench: Bench) -> None:
    after = bench.crash(BOTTOM - 100 * MIB)
    assert after.plugin.mom_read(after.hypervisor, [after.target]) == {after.target: BOTTOM - 100 * MIB}
    assert after.returned() == []
