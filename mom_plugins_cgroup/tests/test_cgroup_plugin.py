"""The plugin on a kernel of files: collecting, deciding, reviewing, setting, reclaiming, putting back, and its findings."""

from __future__ import annotations

import errno
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cgroup_fake import MIB, RULES_V2, Bench, FakeKernel
from pydantic import ValidationError

from mom_core import ControlSpec, Decision, Declarations, Entity, LedgerEntry, Outcome, Scope, Severity, Status, Unit
from mom_devkit import apply_decisions
from mom_devkit import put_back as put_entries_back
from mom_plugins_cgroup.settings import CgroupGuestSettings

HIGH, LOW, MIN, SWAP_MAX = "cgroup_memory_high", "cgroup_memory_low", "cgroup_memory_min", "cgroup_swap_max"
WEIGHT, IO_MAX, LATENCY, RECLAIM = "cgroup_cpu_weight", "cgroup_io_max", "cgroup_io_latency", "cgroup_reclaim"
FREE = {"rbps": -1, "wbps": -1, "riops": -1, "wiops": -1}


@pytest.fixture
def v1(tmp_path: Path) -> Bench:
    return Bench(FakeKernel(tmp_path / "v1", unified=False))


def entry(guest: Entity, control: str, before: Any, applied: Any, earlier: Any = None, incarnation: str = "1") -> LedgerEntry:
    return LedgerEntry(guest, control, before, applied, "cgroup", 0.0, incarnation, earlier)


def put_back(bench: Bench, *entries: LedgerEntry) -> list[Outcome]:
    return put_entries_back(bench.plugin, entries, bench.hypervisor)


# --- the kernel of files is as the real one -----------------------------------------------------------------------------------------


def test_the_kernel_of_files_takes_and_refuses_what_the_kernel_does(bench: Bench) -> None:
    bench.add("a", 50 * MIB)
    folder = bench.kernel.folder(bench.path("a"))
    for name, text, error, after in RULES_V2:
        found = ""
        try:
            bench.kernel.write(str(folder / name), text.format(disk="8:0"))
        except OSError as refused:
            found = errno.errorcode[refused.errno or 0]
        assert (found, (folder / name).read_text()) == (error, after.format(disk="8:0")), (name, text)


# --- what is collected --------------------------------------------------------------------------------------------------------------


def test_memory_swap_pressure_and_what_controls_stand_at_are_fields(bench: Bench) -> None:
    bench.add("a", 1000 * MIB)
    path = bench.path("a")
    bench.kernel.stat(path, anon=900 * MIB, file=90 * MIB, shmem=10 * MIB, refaults=100)
    bench.kernel.pressure(path, avg10=0.5, stalled_us=1_000_000)
    first = bench.cycle().fields("a")
    assert "cgroup_refaults" not in first
    assert "cgroup_memory_stall" not in first
    bench.kernel.stat(path, anon=900 * MIB, file=90 * MIB, shmem=10 * MIB, refaults=600)
    bench.kernel.pressure(path, avg10=0.5, stalled_us=1_005_000)
    fields = bench.cycle().fields("a")
    expected = {
        "cgroup_memory_current": 1000 * MIB,
        "cgroup_memory_anon": 900 * MIB,
        "cgroup_memory_file": 90 * MIB,
        "cgroup_memory_shmem": 10 * MIB,
        "cgroup_swap_current": 0,
        "cgroup_refaults": 100,
        "cgroup_memory_stall": 0.1,
        "host_psi_memory_some_avg10": 0.5,
        "host_psi_cpu_full_avg10": 1.5,
        "host_psi_io_some_avg10": 0.0,
        HIGH: -1,
        LOW: 0,
        MIN: 0,
        SWAP_MAX: -1,
        WEIGHT: 100.0,
        IO_MAX: [],
        LATENCY: [],
        RECLAIM: 0,
        "cgroup_reclaimed": 0,
    }
    assert {name: fields.get(name) for name in expected} == expected


def test_with_cgroups_v1_there_are_the_same_fields_as_far_as_there_are_files(v1: Bench) -> None:
    v1.add("a", 1000 * MIB)
    v1.cycle()
    fields = v1.cycle().fields("a")
    assert fields["cgroup_memory_current"] == fields["cgroup_memory_anon"] == 1000 * MIB
    assert (fields[HIGH], fields[WEIGHT], fields[IO_MAX], fields["cgroup_swap_current"], fields["cgroup_memory_stall"]) == (
        -1,
        100.0,
        [],
        0,
        0.0,
    )
    assert not {LOW, MIN, SWAP_MAX, LATENCY, RECLAIM} & fields.keys()


def test_a_guest_without_a_group_has_no_such_fields_and_one_that_gets_one_later_has(bench: Bench) -> None:
    bench.add("a")
    properties = bench.hypervisor.known["a"].properties
    paths = properties.pop("cgroups")
    assert "cgroup_memory_current" not in bench.cycle().fields("a")
    properties["cgroups"] = paths
    assert "cgroup_memory_current" in bench.cycle().fields("a")
    properties["cgroups"] = {"": "/../elsewhere"}
    assert HIGH not in bench.cycle().fields("a")


def test_a_group_without_the_memory_controller_has_what_its_controllers_give(bench: Bench) -> None:
    guest = bench.add("a", controllers="cpu")
    done = bench.cycle((guest, HIGH, 1800 * MIB), (guest, WEIGHT, 50.0))
    assert done.fields("a")[WEIGHT] == 100.0
    assert "the guest has no control group of its own with the controller memory" in done.reasons
    assert done.outcomes["a", WEIGHT].status is Status.APPLIED


def test_each_of_many_guests_is_looked_at_closely_in_turn(bench: Bench) -> None:
    for number in range(150):
        bench.add(f"g{number}")
    bench.cycle()
    (bench.kernel.folder(bench.path("g120")) / "cpu.weight").write_text("7\n")
    weights = [bench.cycle().fields("g120")[WEIGHT] for _ in range(2)]
    assert weights[-1] == 7.0


# --- what is decided ------------------------------------------------------------------------------------------------------------------


def test_what_the_operator_set_is_decided_set_and_put_back_when_it_is_taken_out_again(bench: Bench) -> None:
    bench.add("a", 1800 * MIB)
    bench.cycle()
    io = {"sda": {"rbps": "50MiB", "wiops": 500}, "8:16": {"wbps": "1MiB"}}
    bench.set(
        "a",
        memory_high="1900MiB",
        memory_low="600MiB",
        memory_min="100MiB",
        swap_max="max",
        cpu_weight=50,
        io_max=io,
        io_latency={"sda": "5ms"},
    )
    done = bench.cycle()
    assert done.problems == []
    assert {key[1]: one.status for key, one in done.outcomes.items()} == {
        HIGH: Status.APPLIED, LOW: Status.APPLIED, MIN: Status.APPLIED, SWAP_MAX: Status.UNCHANGED, WEIGHT: Status.APPLIED,
        IO_MAX: Status.APPLIED, LATENCY: Status.APPLIED,
    }  # fmt: skip
    stands = {
        name: bench.kernel.value(bench.path("a"), name)
        for name in ("memory.high", "memory.low", "memory.min", "cpu.weight", "io.max", "io.latency")
    }
    assert stands == {
        "memory.high": str(1900 << 20),
        "memory.low": str(600 << 20),
        "memory.min": str(100 << 20),
        "cpu.weight": "50",
        "io.max": "8:0 rbps=52428800 wbps=max riops=max wiops=500\n8:16 rbps=max wbps=1048576 riops=max wiops=max",
        "io.latency": "8:0 target=5000",
    }
    assert {one.status for one in bench.cycle().outcomes.values()} == {Status.UNCHANGED}
    bench.set("a")
    assert {one.decision.reason for one in bench.cycle().outcomes.values()} == {"no longer set for this guest in the YAML file"}
    assert {name: bench.kernel.value(bench.path("a"), name) for name in stands} == {
        "memory.high": "max", "memory.low": "0", "memory.min": "0", "cpu.weight": "100", "io.max": "", "io.latency": "",
    }  # fmt: skip
    assert bench.cycle().decided == {}


def test_what_somebody_resets_is_set_again(bench: Bench) -> None:
    bench.add("a", 1000 * MIB)
    bench.set("a", memory_low="600MiB")
    bench.cycle()
    (bench.kernel.folder(bench.path("a")) / "memory.low").write_text("0\n")
    bench.cycle()
    assert bench.cycle().fields("a")[LOW] == 600 * MIB


def test_guarantees_are_protected_when_that_is_switched_on(bench: Bench) -> None:
    bench.add("a", guest_guarantee=500 * MIB)
    bench.add("b", guest_guarantee=700 * MIB)
    bench.add("c")
    assert bench.cycle().decided == {}
    bench.fresh(protect=True)
    assert {key: one.value for key, one in bench.cycle().decided.items()} == {("a", LOW): 564 * MIB, ("b", LOW): 764 * MIB}


def test_a_disk_that_is_not_there_is_a_problem_and_the_others_are_limited(bench: Bench) -> None:
    bench.add("a")
    bench.set("a", io_max={name: {"rbps": "1MiB"} for name in ("sda", "sda1", "/dev/sdx", "../sda")})
    done = bench.cycle()
    assert [problem.message.split("'")[1] for problem in done.problems] == ["sda1", "/dev/sdx", "../sda"]
    assert done.decided["a", IO_MAX].value == [{"device": "8:0", **FREE, "rbps": 1 << 20}]


def test_what_cannot_be_set_is_one_problem_for_all_guests(v1: Bench) -> None:
    for name in ("a", "b", "c"):
        v1.add(name)
        v1.set(name, memory_low="1GiB", cpu_weight=50, io_max={"sda": {"rbps": "1MiB", "wiops": 9}})
    done = v1.cycle()
    (problem,) = done.problems
    assert (
        problem.message
        == f"{LOW} is set in the YAML file, and cannot be applied to a and 2 more: cgroups v1 cannot protect memory from reclaim"
    )
    assert v1.kernel.value(v1.path("a"), "cpu.shares", "cpu") == "512"
    assert v1.kernel.value(v1.path("a"), "blkio.throttle.read_bps_device", "blkio") == "8:0 1048576"
    v1.set("a")
    v1.cycle()
    assert v1.kernel.value(v1.path("a"), "cpu.shares", "cpu") == "1024"
    assert v1.kernel.value(v1.path("a"), "blkio.throttle.write_iops_device", "blkio") == ""


# --- no guest is pushed below what it needs --------------------------------------------------------------------------------------------


def test_a_limit_below_what_the_guest_uses_is_dropped_with_the_amount(bench: Bench) -> None:
    guest = bench.add("a", used_kib=1500 * MIB)
    bench.cycle()
    done = bench.cycle((guest, HIGH, 1000 * MIB))
    assert done.decided == {}
    assert done.reasons == ["the guest needs 1.53 GiB: what it uses or was promised, and QEMU's own"]


def test_a_limit_below_what_the_guest_was_promised_is_dropped_even_without_statistics(bench: Bench) -> None:
    guest = bench.add("a", guest_guarantee=1000 * MIB, mem_usable=None)
    bench.cycle()
    done = bench.cycle((guest, HIGH, 1000 * MIB))
    assert done.reasons == ["the guest needs 1.04 GiB: what it uses or was promised, and QEMU's own"]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"mem_usable": None}, "it is not limited further: its statistics are missing"),
        ({"stats_age": 99.0}, "it is not limited further: its statistics are 99 s old"),
        ({"stats_age": None}, "it is not limited further: its statistics have no age"),
    ],
)
def test_without_statistics_a_limit_may_go_up_and_not_down(bench: Bench, fields: Any, reason: str) -> None:
    guest = bench.add("a")
    bench.cycle()
    (bench.kernel.folder(bench.path("a")) / "memory.high").write_text(f"{1800 << 20}\n")
    bench.hypervisor.known["a"].fields |= fields
    bench.cycle()
    assert bench.cycle((guest, HIGH, 1700 * MIB)).reasons == [reason]
    assert bench.cycle((guest, HIGH, 1900 * MIB)).outcomes["a", HIGH].status is Status.APPLIED
    assert bench.cycle((guest, HIGH, -1)).outcomes["a", HIGH].status is Status.APPLIED


def test_a_limit_that_has_become_too_low_is_raised_instead_of_left(bench: Bench) -> None:
    guest = bench.add("a", 1200 * MIB)
    bench.cycle()
    assert bench.cycle((guest, HIGH, 1300 * MIB)).outcomes["a", HIGH].status is Status.APPLIED
    bench.hypervisor.known["a"].fields["mem_usable"] = 548 * MIB  # it uses 1500 MiB now
    done = bench.cycle((guest, HIGH, 1300 * MIB))
    assert done.decided["a", HIGH].value == 1564 * MIB
    assert bench.kernel.value(bench.path("a"), "memory.high") == str(1564 << 20)


def test_a_limit_comes_down_on_what_a_guest_holds_in_steps_and_stops_when_the_guest_waits(bench: Bench) -> None:
    guest = bench.add("a", 2000 * MIB)
    bench.cycle()
    values = []
    for _ in range(4):
        done = bench.cycle((guest, HIGH, 1700 * MIB))
        values.append(done.decided["a", HIGH].value)
    assert values == [1900 * MIB, 1805 * MIB, pytest.approx(1714.75 * MIB, abs=4), 1700 * MIB]
    bench.kernel.pressure(bench.path("a"), stalled_us=50_000)
    done = bench.cycle((guest, HIGH, 1500 * MIB))
    assert done.reasons == ["it is not limited further: the time that it waits for memory is 1 %"]


def test_limits_for_which_a_cycle_has_no_time_are_left_to_the_next_one(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    guests = [bench.add(name, 1000 * MIB) for name in ("a", "b", "c")]
    bench.cycle()
    ticks = iter(range(10_000))
    monkeypatch.setattr("mom_plugins_cgroup.plugin.time", SimpleNamespace(monotonic=lambda: float(next(ticks))))
    first = {name: one.status for (name, _), one in bench.cycle(*[(guest, HIGH, 1900 * MIB) for guest in guests]).outcomes.items()}
    assert first == {"a": Status.APPLIED, "b": Status.APPLIED, "c": Status.REFUSED}
    monkeypatch.undo()
    second = {name: one.status for (name, _), one in bench.cycle(*[(guest, HIGH, 1900 * MIB) for guest in guests]).outcomes.items()}
    assert second == {"a": Status.UNCHANGED, "b": Status.UNCHANGED, "c": Status.APPLIED}


def test_a_limit_for_which_there_is_no_swap_is_dropped(bench: Bench) -> None:
    guest = bench.add("a", 2000 * MIB)
    bench.cycle()
    bench.kernel.host("proc/meminfo", f"MemTotal: {64 << 20} kB\nSwapFree: {50 << 10} kB\n")
    assert bench.cycle((guest, HIGH, 1700 * MIB)).reasons == ["300 MiB would have to go, and there is swap or cache for 50 MiB only"]
    bench.kernel.host("proc/meminfo", f"MemTotal: {64 << 20} kB\nSwapFree: {9 << 20} kB\n")
    bench.kernel.stat(bench.path("a"), anon=2000 * MIB, locked=1900 * MIB)
    assert bench.cycle((guest, HIGH, 1700 * MIB)).reasons == ["300 MiB would have to go, and there is swap or cache for 100 MiB only"]
    bench.kernel.stat(bench.path("a"), anon=1600 * MIB, file=400 * MIB)
    assert bench.cycle((guest, HIGH, 1950 * MIB)).outcomes["a", HIGH].status is Status.APPLIED


def test_all_guests_together_cannot_lock_up_the_host(bench: Bench) -> None:
    first, second = bench.add("a", 40 << 20), bench.add("b", 40 << 20)
    bench.cycle()
    done = bench.cycle((first, MIN, 30 << 20), (second, MIN, 30 << 20))
    assert done.outcomes["a", MIN].status is Status.APPLIED
    assert done.reasons == ["all guests together may protect 80 % of the host's memory, of which 21.20 GiB are left; use cgroup_memory_low"]
    assert bench.cycle((second, MIN, 20 << 20)).outcomes["b", MIN].status is Status.APPLIED


@pytest.mark.parametrize(
    ("control", "value", "reason"),
    [
        (HIGH, -5, "a limit is a number of KiB, or -1 for no limit"),
        (HIGH, "max", "a limit is a number of KiB, or -1 for no limit"),
        (WEIGHT, 0, "a weight is 1 to 10000 % of the usual one here, not 0"),
        (IO_MAX, [{"device": "sda", "rbps": 5}], "each disk needs its `device`, as MAJOR:MINOR"),
        (RECLAIM, -5, "a pace is 0 or more KiB per second"),
    ],
)
def test_nonsense_is_dropped_with_the_reason(bench: Bench, control: str, value: Any, reason: str) -> None:
    guest = bench.add("a")
    bench.cycle()
    done = bench.cycle((guest, control, value))
    assert (done.decided, done.reasons) == ({}, [reason])


def test_values_are_made_such_as_the_kernel_takes_them(bench: Bench) -> None:
    guest = bench.add("a", 1000 * MIB)
    bench.cycle()
    done = bench.cycle((guest, LOW, 4097), (guest, WEIGHT, 49.6), (guest, IO_MAX, [{"device": "8:0", "rbps": 9}]))
    assert {key[1]: one.value for key, one in done.decided.items()} == {
        LOW: 4096,
        WEIGHT: 50.0,
        IO_MAX: [{"device": "8:0", **FREE, "rbps": 9}],
    }
    assert {one.status for one in done.outcomes.values()} == {Status.APPLIED}


def test_where_libvirts_weight_is_decided_too_ours_is_not(bench: Bench) -> None:
    guest = bench.add("a")
    bench.cycle()
    done = bench.cycle((guest, WEIGHT, 50.0), (guest, "cpu_shares", 512))
    assert ("a", WEIGHT) not in done.decided
    assert done.reasons == ["cpu_shares is decided for this guest too: libvirt and mom would set the same weight"]


# --- setting ---------------------------------------------------------------------------------------------------------------------------


def test_what_may_not_be_written_is_refused_said_once_and_not_tried_in_each_cycle(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a", "b"):
        bench.add(name)
        bench.set(name, memory_low="600MiB", cpu_weight=50)
    bench.kernel.denied["memory.low"] = errno.EROFS
    bench.cycle()
    with caplog.at_level(logging.WARNING):
        done = bench.cycle()
    caplog.clear()
    reason = "memory.low is mounted read-only (mount the cgroup file system read-write)"
    bench.kernel.written.clear()
    done = bench.cycle()
    assert [problem.message for problem in done.problems] == [
        f"{LOW} is set in the YAML file, and cannot be applied to a and 1 more: {reason}"
    ]
    assert bench.kernel.written == []
    assert caplog.text == ""
    assert done.outcomes["a", WEIGHT].status is Status.UNCHANGED


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.EACCES, "may not be written"),
        (errno.EPERM, "may not be written"),
        (errno.EROFS, "read-only"),
        (errno.EINVAL, "does not take"),
    ],
)
def test_what_the_kernel_refuses_is_an_outcome_with_its_reason(bench: Bench, code: int, words: str) -> None:
    guest = bench.add("a")
    bench.cycle()
    bench.kernel.denied["memory.low"] = code
    outcome = bench.cycle((guest, LOW, 4 * MIB)).outcomes["a", LOW]
    assert outcome.status is Status.REFUSED
    assert words in outcome.error
    assert outcome.after == 0


def test_a_group_that_goes_away_within_a_cycle_is_no_error(bench: Bench) -> None:
    guest = bench.add("a")
    bench.cycle()
    shutil.rmtree(bench.kernel.folder(bench.path("a")))
    (outcome,) = apply_decisions(bench.plugin, [Decision(guest, LOW, 4 * MIB)], bench.hypervisor)
    assert (outcome.status, outcome.error) == (Status.GONE, "its control group is gone")
    assert "cgroup_memory_current" not in bench.cycle().fields("a")


def test_a_value_that_another_process_has_just_set_is_what_will_be_put_back(bench: Bench) -> None:
    guest = bench.add("a")
    bench.cycle()
    bench.see()
    (bench.kernel.folder(bench.path("a")) / "memory.low").write_text("8192\n")
    (outcome,) = apply_decisions(bench.plugin, [Decision(guest, LOW, 4 * MIB)], bench.hypervisor)
    assert (outcome.status, outcome.before, outcome.after) == (Status.APPLIED, 8, 4 * MIB)


# --- reclaim ---------------------------------------------------------------------------------------------------------------------------


def test_reclaim_takes_a_little_in_each_cycle_for_as_long_as_it_is_decided(bench: Bench) -> None:
    bench.add("a", 2000 * MIB)
    bench.cycle()
    bench.fresh(reclaim=True)
    taken: list[Any] = []
    bench.cycle()
    for _ in range(3):
        fields = bench.cycle().fields("a")
        taken.append(fields["cgroup_reclaimed"])
    pace = round(2048 * MIB * 0.005 / 60)
    assert fields[RECLAIM] == pace
    assert taken[0] == 0, "the first sample has no pressure yet"
    assert taken[2] - taken[1] == pytest.approx(5 * pace, rel=0.01)
    assert int(bench.kernel.value(bench.path("a"), "memory.swap.current")) >> 10 == bench.cycle().fields("a")["cgroup_reclaimed"]


def test_a_kernel_that_takes_more_than_it_was_asked_to_does_not_make_the_pace_faster(bench: Bench) -> None:
    guest = bench.add("a", 2000 * MIB)
    bench.kernel.greed = 3
    for _ in range(2):
        bench.cycle((guest, RECLAIM, 1000))
    first: Any = bench.cycle((guest, RECLAIM, 1000)).fields("a")["cgroup_reclaimed"]
    for _ in range(18):
        bench.cycle((guest, RECLAIM, 1000))
    taken: Any = bench.cycle((guest, RECLAIM, 1000)).fields("a")["cgroup_reclaimed"]
    assert first == 3 * 4096
    assert taken <= 20 * 5000 + 3 * 4096
    assert int(bench.kernel.value(bench.path("a"), "memory.swap.current")) >> 10 >= taken


def test_reclaim_stops_when_the_guest_feels_it_and_says_so(bench: Bench) -> None:
    guest = bench.add("a", 2000 * MIB)
    for _ in range(3):
        bench.cycle((guest, RECLAIM, 1000))
    bench.kernel.pressure(bench.path("a"), stalled_us=100_000)
    bench.cycle((guest, RECLAIM, 1000))
    before = bench.kernel.value(bench.path("a"), "memory.current")
    fields = bench.cycle((guest, RECLAIM, 1000)).fields("a")
    assert fields["cgroup_reclaim_state"] == "it waits for memory 2.00% of the time, and 0.10% is the limit"
    assert bench.kernel.value(bench.path("a"), "memory.current") == before
    bench.cycle((guest, RECLAIM, 1000), seconds=60)
    assert bench.kernel.value(bench.path("a"), "memory.current") < before


def test_an_order_that_is_not_renewed_lapses(bench: Bench) -> None:
    guest = bench.add("a", 2000 * MIB)
    bench.cycle((guest, RECLAIM, 1000))
    bench.cycle((guest, RECLAIM, 1000))
    held = bench.kernel.value(bench.path("a"), "memory.current")
    assert [bench.cycle().fields("a")[RECLAIM] for _ in range(3)] == [1000, 1000, 0]
    assert bench.kernel.value(bench.path("a"), "memory.current") == held, "nothing is taken in a cycle in which nobody decides it"


@pytest.mark.parametrize("fields", [{"mem_usable": None}, {"stats_age": 99.0}, {"mem_usable": 10 * MIB}])
def test_reclaim_takes_nothing_from_a_guest_whose_need_is_unknown_or_all_that_it_holds(bench: Bench, fields: Any) -> None:
    guest = bench.add("a", 2000 * MIB, **fields)
    for _ in range(4):
        done = bench.cycle((guest, RECLAIM, 100_000))
    assert int(bench.kernel.value(bench.path("a"), "memory.current")) >> 10 == 2000 * MIB
    assert done.fields("a")["cgroup_reclaim_state"]


def test_the_kernel_that_finds_less_is_no_error_and_one_that_cannot_is_not_asked_again(bench: Bench) -> None:
    guest = bench.add("a", 2000 * MIB)
    bench.kernel.denied["memory.reclaim"] = errno.EAGAIN
    for _ in range(3):
        done = bench.cycle((guest, RECLAIM, 1000))
    assert done.fields("a")["cgroup_reclaim_state"] == "the kernel found less than that to take"
    bench.kernel.denied["memory.reclaim"] = errno.EACCES
    bench.cycle((guest, RECLAIM, 1000))
    done = bench.cycle((guest, RECLAIM, 1000))
    assert done.reasons == ["memory.reclaim may not be written by this process (run mom as root, outside of containers)"]


def test_a_kernel_without_reclaim_says_so(bench: Bench) -> None:
    guest = bench.add("a")
    (bench.kernel.folder(bench.path("a")) / "memory.reclaim").unlink()
    bench.cycle()
    done = bench.cycle((guest, RECLAIM, 1000))
    assert done.reasons == [f"its control group has no file for {RECLAIM}"]
    assert RECLAIM not in done.fields("a")


def test_many_guests_lose_memory_in_turn_when_time_is_short(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    guests = [bench.add(name, 2000 * MIB) for name in ("a", "b", "c")]
    ticks = iter(range(10_000))
    monkeypatch.setattr("mom_plugins_cgroup.proactive.time", SimpleNamespace(monotonic=lambda: next(ticks) * 0.2))
    taken = {}
    for _ in range(5):
        done = bench.cycle(*[(guest, RECLAIM, 3000) for guest in guests])
        taken = {name: done.fields(name)["cgroup_reclaimed"] for name in ("a", "b", "c")}
    assert all(taken.values()), "two pieces fit into a cycle, and everybody has had one"


# --- back ------------------------------------------------------------------------------------------------------------------------------


def test_everything_is_put_back_by_a_process_that_knows_nothing_but_the_ledger(bench: Bench) -> None:
    guest = bench.add("a", 1000 * MIB)
    folder = bench.kernel.folder(bench.path("a"))
    (folder / "memory.high").write_text(f"{1500 << 20}\n")
    (folder / "cpu.weight").write_text("50\n")
    (folder / "io.max").write_text("8:0 rbps=1 wbps=max riops=max wiops=max\n8:16 rbps=7 wbps=max riops=max wiops=max\n")
    bench.fresh()
    one, other = {"device": "8:0", **FREE, "rbps": 1}, {"device": "8:16", **FREE, "rbps": 7}
    outcomes = put_back(
        bench,
        entry(guest, HIGH, -1, 1500 * MIB),
        entry(guest, WEIGHT, 100.0, 50.0),
        entry(guest, IO_MAX, [], [one, other]),
        entry(guest, RECLAIM, 0, 1000),
    )
    assert [outcome.status for outcome in outcomes] == [Status.APPLIED, Status.APPLIED, Status.APPLIED, Status.UNCHANGED]
    assert [(folder / name).read_text() for name in ("memory.high", "cpu.weight", "io.max")] == ["max\n", "100\n", ""]


def test_what_somebody_else_has_changed_is_left_alone_disk_by_disk(bench: Bench) -> None:
    guest = bench.add("a")
    folder = bench.kernel.folder(bench.path("a"))
    (folder / "memory.low").write_text("8192\n")
    (folder / "io.max").write_text("8:0 rbps=5 wbps=max riops=max wiops=max\n8:16 rbps=7 wbps=max riops=max wiops=max\n")
    ours = [{"device": "8:0", **FREE, "rbps": 1}, {"device": "8:16", **FREE, "rbps": 7}]
    low, limits = put_back(bench, entry(guest, LOW, 0, 4096, 1024), entry(guest, IO_MAX, [], ours))
    assert (low.status, low.error) == (Status.LEFT_ALONE, "another process has set it to 8 KiB")
    assert (limits.status, limits.error) == (Status.LEFT_ALONE, "another process has changed 8:0")
    assert (folder / "io.max").read_text() == "8:0 rbps=5 wbps=max riops=max wiops=max\n"


def test_guests_and_groups_that_are_gone_have_nothing_to_be_put_back(bench: Bench) -> None:
    guest, again, lost = bench.add("a"), bench.add("b"), bench.add("c")
    del bench.hypervisor.known["a"]
    shutil.rmtree(bench.kernel.folder(bench.path("c")))
    outcomes = put_back(bench, entry(guest, LOW, 0, 4), entry(again, LOW, 0, 4, incarnation="0"), entry(lost, LOW, 0, 4))
    assert [outcome.status for outcome in outcomes] == [Status.GONE] * 3
    assert outcomes[1].error == "the guest was started anew since"


def test_what_cannot_be_put_back_now_is_kept_for_the_next_attempt(bench: Bench) -> None:
    guest = bench.add("a")
    (bench.kernel.folder(bench.path("a")) / "memory.low").write_text("8192\n")
    bench.kernel.denied["memory.low"] = errno.EROFS
    (outcome,) = put_back(bench, entry(guest, LOW, 0, 8))
    assert outcome.status is Status.FAILED
    bench.kernel.denied.clear()
    (outcome,) = put_back(bench, entry(guest, LOW, 0, 8))
    assert outcome.status is Status.APPLIED


# --- settings and findings --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"memory_high": 5}, "has no unit"),
        ({"memory_high": "most"}, "number with a unit"),
        ({"cpu_weight": 0}, "greater than or equal to 1"),
        ({"io_max": {"sda": {"rbps": "0B"}}}, "greater than 0"),
        ({"io_max": {"sda": {"speed": "1MiB"}}}, "Extra inputs"),
        ({"io_latency": {"sda": "5"}}, "has no unit"),
        ({"memory_hgih": "1GiB"}, "Extra inputs"),
    ],
)
def test_impossible_settings_are_errors_with_the_reason(settings: Any, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        CgroupGuestSettings.model_validate({"cgroup": settings})


def said(bench: Bench) -> dict[str, Severity]:
    return {finding.message: finding.severity for finding in bench.plugin.mom_doctor(bench.hypervisor)}


def test_the_doctor_tells_what_there_is_and_what_is_missing(bench: Bench) -> None:
    bench.add("a")
    bench.add("b")
    bench.hypervisor.known["b"].properties.clear()
    (bench.kernel.folder(bench.path("a")) / "io.latency").unlink()
    (bench.kernel.root / "sys/fs/cgroup/machine.slice/memory.low").write_text("0\n")
    messages = said(bench)
    assert messages["cgroups v2 are mounted at /sys/fs/cgroup"] is Severity.OK
    assert messages["1 of 2 guests have groups of their own"] is Severity.OK
    assert messages["guests without a group of their own with any controller: b"] is Severity.WARNING
    assert any(message.startswith(f"{LATENCY} cannot be set: there is no") for message in messages)
    assert any("memory.low of /machine.slice is 0" in message for message in messages)


def test_the_doctor_warns_where_libvirt_sets_the_same_weight_and_where_reclaim_has_no_swap(bench: Bench) -> None:
    bench.add("a")
    bench.kernel.host("proc/meminfo", "MemTotal: 5 kB\nSwapFree: 0 kB\n")
    bench.fresh(reclaim=True)
    shares = ControlSpec("cpu_shares", Unit.COUNT, Scope.GUEST, "", "cpu_shares")
    bench.context.in_force = replace(
        bench.context.in_force, declarations=Declarations(controls={"cpu_shares": shares}, control_owners={"cpu_shares": "qos"})
    )
    messages = said(bench)
    assert messages["the plugin qos sets the same CPU weight through libvirt"] is Severity.WARNING
    assert messages["reclaim is on, and the host has no free swap: a guest's memory has nowhere to go"] is Severity.WARNING


def test_the_doctor_of_a_host_with_cgroups_v1_says_what_that_means(v1: Bench) -> None:
    v1.add("a")
    assert "cgroups v1 are mounted at /sys/fs/cgroup/memory: only soft limits of memory, CPU weights and I/O limits can be set" in said(v1)
    bare = Bench(FakeKernel(v1.kernel.root.parent / "bare"))
    bare.kernel.host("proc/self/mountinfo", "")
    assert said(bare) == {"no cgroup file system is mounted": Severity.ERROR}
