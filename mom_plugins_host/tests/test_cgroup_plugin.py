"""The plugin on a kernel of files: collect, decide, review, set, restore, and findings."""

import errno
import shutil
from types import SimpleNamespace
from typing import Any

import pytest
from cgroup_fake import MIB, SLICE, Bench

from mom_core import Decision, LedgerEntry, Outcome, Severity, Status
from mom_devkit import apply_decisions
from mom_devkit import put_back as put_entries_back

HIGH, LOW, MIN, SWAP_MAX = "cgroup_memory_high", "cgroup_memory_low", "cgroup_memory_min", "cgroup_swap_max"


def put_back(bench: Bench, *entries: LedgerEntry) -> list[Outcome]:
    return put_entries_back(bench.plugin, entries, bench.hypervisor)


# --- the kernel of files equals the real one -----------------------------------------------------------------------------------------


# --- collect --------------------------------------------------------------------------------------------------------------


def test_memory_swap_and_what_controls_stand_at_are_fields(bench: Bench) -> None:
    bench.add("a", 1000 * MIB)
    path = bench.path("a")
    bench.kernel.stat(path, anon=900 * MIB, file=90 * MIB, shmem=10 * MIB)
    fields = bench.cycle().fields("a")
    expected = {
        "cgroup_memory_current": 1000 * MIB, "cgroup_memory_anon": 900 * MIB, "cgroup_memory_file": 90 * MIB,
        "cgroup_memory_shmem": 10 * MIB, "cgroup_swap_current": 0, HIGH: -1, LOW: 0, MIN: 0, SWAP_MAX: -1,
    }  # fmt: skip
    assert {name: fields.get(name) for name in expected} == expected


def test_a_guest_without_a_group_has_no_such_fields_and_one_that_gets_one_later_has(bench: Bench) -> None:
    bench.add("a")
    properties = bench.hypervisor.known["a"].properties
    paths = properties.pop("cgroups")
    assert "cgroup_memory_current" not in bench.cycle().fields("a")
    properties["cgroups"] = paths
    assert "cgroup_memory_current" in bench.cycle().fields("a")
    properties["cgroups"] = {"": "/../elsewhere"}
    assert HIGH not in bench.cycle().fields("a")


def test_a_limit_of_a_guest_without_a_group_with_memory_is_one_problem_for_all_of_them(bench: Bench) -> None:
    for name in ("a", "b", "c"):
        bench.add(name, controllers="cpu")
        bench.set(name, memory_low="1GiB")
    done = bench.cycle()
    assert HIGH not in done.fields("a")
    (problem,) = done.problems
    assert "applied to a, b, c: its present value is unknown" in problem.message
    assert done.decided == {}


# --- decide ------------------------------------------------------------------------------------------------------------------


def test_what_the_operator_set_is_decided_set_and_put_back_when_it_is_taken_out_again(bench: Bench) -> None:
    bench.add("a", 1800 * MIB)
    bench.cycle()
    bench.set("a", memory_high="1900MiB", memory_low="600MiB", memory_min="100MiB", swap_max="max")
    done = bench.cycle()
    assert done.problems == []
    assert {key[1]: one.status for key, one in done.outcomes.items()} == {
        HIGH: Status.APPLIED, LOW: Status.APPLIED, MIN: Status.APPLIED, SWAP_MAX: Status.UNCHANGED,
    }  # fmt: skip
    stands = {name: bench.kernel.value(bench.path("a"), name) for name in ("memory.high", "memory.low", "memory.min")}
    assert stands == {"memory.high": str(1900 << 20), "memory.low": str(600 << 20), "memory.min": str(100 << 20)}
    assert {one.status for one in bench.cycle().outcomes.values()} == {Status.UNCHANGED}
    bench.set("a")
    assert {one.decision.reason for one in bench.cycle().outcomes.values()} == {"no longer set for this guest in the YAML file"}
    assert {name: bench.kernel.value(bench.path("a"), name) for name in stands} == {
        "memory.high": "max", "memory.low": "0", "memory.min": "0",
    }  # fmt: skip
    assert bench.cycle().decided == {}


def test_guarantees_are_protected_when_that_is_switched_on(bench: Bench) -> None:
    bench.add("a", guest_guarantee=500 * MIB)
    bench.add("b", guest_guarantee=700 * MIB)
    bench.add("c")
    assert bench.cycle().decided == {}
    bench.fresh(protect=True)
    assert {key: one.value for key, one in bench.cycle().decided.items()} == {("a", LOW): 564 * MIB, ("b", LOW): 764 * MIB}


# --- no guest is pushed below what it needs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("promised", "usable", "need"), [(0, 548 * MIB, "1.53 GiB"), (1000 * MIB, None, "1.04 GiB")])
def test_a_limit_below_use_or_promise_is_dropped_with_the_amount(bench: Bench, promised: int, usable: int | None, need: str) -> None:
    guest = bench.add("a", guest_guarantee=promised, mem_usable=usable)
    bench.cycle()
    done = bench.cycle((guest, HIGH, 1000 * MIB))
    assert (done.decided, done.reasons) == ({}, [f"the guest needs {need}: its use or guarantee, and QEMU's own memory"])


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"mem_usable": None}, "its limit is not lowered: its statistics are missing"),
        ({"stats_age": 99.0}, "its limit is not lowered: its statistics are 99 s old"),
        ({"stats_age": None}, "its limit is not lowered: the age of its statistics is unknown"),
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
    bench.hypervisor.known["a"].fields["host_psi_memory_some_avg10"] = 1.0
    done = bench.cycle((guest, HIGH, 1500 * MIB))
    assert done.reasons == ["its limit is not lowered: the guest waits for memory 1 % of the time"]


def test_limits_for_which_a_cycle_has_no_time_are_left_to_the_next_one(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    guests = [bench.add(name, 1000 * MIB) for name in ("a", "b", "c")]
    bench.cycle()
    ticks = iter(range(10_000))
    monkeypatch.setattr("mom_plugins_host.cgroup.plugin._AT_ONCE", 1)
    monkeypatch.setattr("mom_plugins_host.cgroup.plugin.time", SimpleNamespace(monotonic=lambda: float(next(ticks))))
    first = {name: one.status for (name, _), one in bench.cycle(*[(guest, HIGH, 1900 * MIB) for guest in guests]).outcomes.items()}
    assert first == {"a": Status.APPLIED, "b": Status.APPLIED, "c": Status.REFUSED}
    monkeypatch.undo()
    second = {name: one.status for (name, _), one in bench.cycle(*[(guest, HIGH, 1900 * MIB) for guest in guests]).outcomes.items()}
    assert second == {"a": Status.UNCHANGED, "b": Status.UNCHANGED, "c": Status.APPLIED}


def test_a_limit_for_which_there_is_no_swap_is_dropped(bench: Bench) -> None:
    guest = bench.add("a", 2000 * MIB)
    bench.cycle()
    bench.kernel.host("proc/meminfo", f"MemTotal: {64 << 20} kB\nSwapFree: {50 << 10} kB\n")
    assert bench.cycle((guest, HIGH, 1700 * MIB)).reasons == ["300 MiB must be reclaimed, but swap and page cache allow only 50 MiB"]
    bench.kernel.host("proc/meminfo", f"MemTotal: {64 << 20} kB\nSwapFree: {9 << 20} kB\n")
    bench.kernel.stat(bench.path("a"), anon=2000 * MIB, locked=1900 * MIB)
    assert bench.cycle((guest, HIGH, 1700 * MIB)).reasons == ["300 MiB must be reclaimed, but swap and page cache allow only 100 MiB"]
    bench.kernel.stat(bench.path("a"), anon=1600 * MIB, file=400 * MIB)
    assert bench.cycle((guest, HIGH, 1950 * MIB)).outcomes["a", HIGH].status is Status.APPLIED


def test_nothing_is_limited_while_it_is_unknown_what_stands(bench: Bench) -> None:
    """The plugin may fail to read groups, and later write to them."""
    guest = bench.add("a", 2000 * MIB)
    bench.hypervisor.known["a"].properties.pop("cgroups")
    done = bench.cycle((guest, HIGH, 1900 * MIB))
    assert (done.decided, done.reasons) == ({}, ["its present limit is unknown"])


@pytest.mark.parametrize("above", [True, False], ids=["above", "its own"])
def test_a_limit_for_which_its_group_or_one_above_it_may_not_swap_is_dropped(bench: Bench, above: bool) -> None:
    guest = bench.add("a", 2000 * MIB)
    bench.cycle()
    folder = bench.kernel.folder(SLICE if above else bench.path("a"))
    for most, room in ((0, "0 KiB"), (500 << 20, "100 MiB")):
        (folder / "memory.swap.max").write_text(f"{most}\n")
        (folder / "memory.swap.current").write_text(f"{400 << 20 if most else 0}\n")
        reason = f"300 MiB must be reclaimed, but swap and page cache allow only {room}"
        assert bench.cycle((guest, HIGH, 1700 * MIB)).reasons == [reason]
    (folder / "memory.swap.max").write_text("max\n")
    assert bench.cycle((guest, HIGH, 1700 * MIB)).outcomes["a", HIGH].status is Status.APPLIED


def test_a_limit_does_not_come_down_in_the_cycle_that_takes_its_swap_away(bench: Bench) -> None:
    bench.add("a", 2000 * MIB)
    bench.cycle()
    bench.set("a", memory_high="1700MiB", swap_max="0MiB")
    for _ in range(2):
        assert bench.cycle().reasons == ["300 MiB must be reclaimed, but swap and page cache allow only 0 KiB"]
        assert bench.kernel.value(bench.path("a"), "memory.high") == "max"
    assert bench.kernel.value(bench.path("a"), "memory.swap.max") == "0"


@pytest.mark.parametrize("wanted", [1700 * MIB, 1900 * MIB], ids=["on its way down", "where it was to be"])
def test_a_limit_that_cannot_be_reached_any_more_is_raised_instead_of_left(bench: Bench, wanted: int) -> None:
    guest = bench.add("a", 2000 * MIB)
    folder = bench.kernel.folder(bench.path("a"))
    (folder / "memory.high").write_text(f"{1900 << 20}\n")
    (folder / "memory.swap.max").write_text("0\n")
    bench.cycle()
    done = bench.cycle((guest, HIGH, wanted))
    assert done.reasons == ["raised above the guest's memory: too little swap and page cache to reclaim memory above the limit"]
    assert bench.kernel.value(bench.path("a"), "memory.high") == str(2100 << 20)


def test_swap_in_which_a_limited_guest_has_to_be_is_not_taken_away(bench: Bench) -> None:
    guest = bench.add("a", 1800 * MIB)
    bench.cycle()
    folder = bench.kernel.folder(bench.path("a"))
    (folder / "memory.high").write_text(f"{1900 << 20}\n")
    (folder / "memory.swap.current").write_text(f"{500 << 20}\n")
    reason = "400 MiB of the guest's memory must fit into swap, because memory.high limits the guest to 1.86 GiB"
    assert bench.cycle((guest, SWAP_MAX, 300 * MIB)).reasons == [reason]
    assert bench.cycle((guest, SWAP_MAX, 400 * MIB)).outcomes["a", SWAP_MAX].status is Status.APPLIED
    both = bench.cycle((guest, SWAP_MAX, 0), (guest, HIGH, -1))
    assert both.reasons == []
    assert bench.kernel.value(bench.path("a"), "memory.swap.max") == "0", "it may hold all of it now"


def test_all_guests_together_cannot_lock_up_the_host(bench: Bench) -> None:
    first, second = bench.add("a", 40 << 20), bench.add("b", 40 << 20)
    bench.cycle()
    done = bench.cycle((first, MIN, 30 << 20), (second, MIN, 30 << 20))
    assert done.outcomes["a", MIN].status is Status.APPLIED
    assert done.reasons == ["the sum of all memory.min is limited to 80 % of the host's memory: 21.20 GiB are left; use cgroup_memory_low"]
    assert bench.cycle((second, MIN, 20 << 20)).outcomes["b", MIN].status is Status.APPLIED


def test_a_guest_that_is_protected_whatever_it_holds_counts_with_all_that_it_can_hold(bench: Bench) -> None:
    guests = [bench.add(name, 1 << 20) for name in ("a", "b")]
    for name in ("a", "b"):
        bench.hypervisor.known[name].maximum_kib = 40 << 20
    bench.cycle()
    done = bench.cycle(*[(guest, MIN, -1) for guest in guests])
    assert set(done.decided) == {("a", MIN)}
    assert done.reasons == ["the sum of all memory.min is limited to 80 % of the host's memory: 11.20 GiB are left; use cgroup_memory_low"]


# --- setting ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "words"),
    [(errno.EACCES, "memory.low: Permission denied"), (errno.EROFS, "memory.low: Read-only file system"), (errno.EINVAL, "rejects")],
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


# --- restore ------------------------------------------------------------------------------------------------------------------------------


# --- settings and findings --------------------------------------------------------------------------------------------------------------


def said(bench: Bench) -> dict[str, Severity]:
    return {finding.message: finding.severity for finding in bench.plugin.mom_doctor(bench.hypervisor)}


def test_the_doctor_tells_what_there_is_and_what_is_missing(bench: Bench) -> None:
    bench.add("a")
    bench.add("b")
    bench.hypervisor.known["b"].properties.clear()
    (bench.kernel.folder(bench.path("a")) / "memory.swap.max").unlink()
    (bench.kernel.root / "sys/fs/cgroup/machine.slice/memory.low").write_text("0\n")
    messages = said(bench)
    assert messages["cgroups v2 are mounted at /sys/fs/cgroup"] is Severity.OK
    assert messages["1 of 2 guests have control groups of their own"] is Severity.OK
    assert messages["guests that have no control group of their own with the memory controller: b"] is Severity.WARNING
    assert any(message.startswith(f"{SWAP_MAX} cannot be set: there is no") for message in messages)
    assert any("memory.low of /machine.slice is 0" in message for message in messages)


def test_the_doctor_of_a_host_without_cgroups_v2_says_what_that_means(bench: Bench) -> None:
    bench.add("a")
    bench.kernel.host("proc/self/mountinfo", "31 24 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n")
    assert said(bench)["the memory controller uses cgroups v1 (/sys/fs/cgroup/memory), but limits need cgroups v2"] is Severity.ERROR
    bench.kernel.host("proc/self/mountinfo", "")
    assert said(bench)["no cgroup file system is mounted"] is Severity.ERROR
