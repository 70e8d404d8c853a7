"""An entry of vdsm's statistics: numbers in text, unknown values, and every status."""

from collections.abc import Mapping

import pytest

from mom_plugins_vdsm.statistics import Vm, number, read_vm

FULL: dict[str, object] = {
    "vmId": "a", "vmName": "full", "status": "Up", "memUsage": "42", "elapsedTime": "100",
    "memoryStats": {"mem_total": "4039384", "mem_unused": "1900000", "mem_free": "2400000", "swap_in": 2, "swap_out": 4, "majflt": 2,
                    "minflt": 200, "pageflt": 202},
    "balloonInfo": {"balloon_max": "4194304", "balloon_min": "1048576", "balloon_cur": "4194304", "balloon_target": "4194304",
                    "ballooning_enabled": True},
    "vcpuCount": "2", "vcpuUserLimit": 50, "vcpuQuota": "50000", "vcpuPeriod": 100000,
}  # fmt: skip


def vm(previous: Vm | None = None, now: float = 1000.0, *, cache: bool = False, without: tuple[str, ...] = (), **changed: object) -> Vm:
    entry = {key: value for key, value in {**FULL, **changed}.items() if key not in without}
    read = read_vm(entry, previous, now, 15.0, count_page_cache=cache)
    assert read is not None
    return read


def stats(**changed: object) -> Mapping[str, object]:
    memory = FULL["memoryStats"]
    assert isinstance(memory, dict)
    return {**memory, **changed}


def test_all_fields_of_a_guest_that_reports_everything() -> None:
    assert vm().fields == {
        "balloon_cur": 4194304, "balloon_max": 4194304, "balloon_min": 1048576, "mem_available": 4039384, "mem_unused": 1900000,
        "mem_free": 2400000, "mem_usable": 1900000, "mem_disk_caches": 500000, "swap_in": 2, "swap_out": 4, "major_fault": 2,
        "minor_fault": 200, "vcpu_count": 2,
    }  # fmt: skip


def test_page_cache_counts_as_usable_only_if_the_operator_says_so() -> None:
    assert vm(cache=True).fields["mem_usable"] == 2400000


@pytest.mark.parametrize("usage", ["0", 0])
def test_a_memory_usage_of_0_means_that_nothing_is_known(usage: object) -> None:
    found = vm(memUsage=usage)
    assert not found.reports
    assert "mem_unused" not in found.fields
    assert found.fields["balloon_cur"] == 4194304


@pytest.mark.parametrize("response", ["-1", -1])
def test_statistics_that_vdsm_only_repeats_as_libvirt_does_not_answer_say_nothing_of_memory(response: object) -> None:
    found = vm(monitorResponse=response)
    assert not found.reports
    assert not {"mem_available", "mem_unused", "mem_free", "mem_usable", "swap_in"} & found.fields.keys()
    assert found.fields["balloon_cur"] == 4194304
    assert vm(monitorResponse="0").reports


@pytest.mark.parametrize(
    ("missing", "gone"),
    [
        ("mem_total", {"mem_available"}),
        ("mem_unused", {"mem_unused", "mem_usable", "mem_disk_caches"}),
        ("mem_free", {"mem_free", "mem_disk_caches"}),
        ("swap_in", {"swap_in"}),
        ("minflt", {"minor_fault"}),
    ],
)
def test_what_an_old_agent_leaves_out_is_unknown_and_the_rest_is_told(missing: str, gone: set[str]) -> None:
    partly = {name: value for name, value in stats().items() if name != missing}
    assert vm().fields.keys() - vm(memoryStats=partly).fields.keys() == gone
    with_cache = vm(cache=True, memoryStats=partly).fields
    assert with_cache.get("mem_usable") == (1900000 if missing == "mem_free" else 2400000)


def test_a_guest_that_says_it_has_no_memory_at_all_is_believed_the_rest() -> None:
    fields = vm(memoryStats=stats(mem_total="0")).fields
    assert "mem_available" not in fields
    assert fields["mem_unused"] == 1900000


@pytest.mark.parametrize(
    ("value", "known"), [(2.5, 2.5), (0.0, 0.0), ("3", 3), (float("nan"), None), (float("inf"), None), (-0.5, None), (1e300, None)]
)
def test_a_rate_may_be_a_fraction_and_is_unknown_where_it_makes_no_sense(value: object, known: float | None) -> None:
    assert vm(memoryStats=stats(swap_in=value)).fields.get("swap_in") == known


def test_more_than_the_guest_has_is_not_believed() -> None:
    assert "mem_disk_caches" not in vm(memoryStats=stats(mem_free="1899999")).fields, "less with its page cache than without"
    fields = vm(memoryStats=stats(mem_unused="9999999")).fields
    assert not {"mem_unused", "mem_usable", "mem_disk_caches"} & fields.keys()


def test_a_guest_that_says_it_has_more_memory_than_it_can_have_is_not_believed_at_all() -> None:
    fields = vm(memoryStats=stats(mem_total="4194305")).fields
    assert not {"mem_available", "mem_unused", "mem_free", "mem_usable", "mem_disk_caches", "swap_in", "major_fault"} & fields.keys()
    assert vm(memoryStats=stats(mem_total="4194304")).fields["mem_unused"] == 1900000
    unknown = vm(memoryStats=stats(mem_total="9999999"), without=("balloonInfo",)).fields
    assert unknown["mem_available"] == 9999999, "how much it can have is not known"


def test_a_guest_has_a_balloon_device_none_once_it_was_sampled_or_one_that_is_switched_off() -> None:
    assert vm(without=("balloonInfo",)).balloon is False
    assert vm(without=("balloonInfo", "vcpuCount")).balloon is None
    assert (vm().balloon, vm().ballooning) == (True, True)
    assert not vm(balloonInfo={"balloon_cur": "5", "ballooning_enabled": False}).ballooning
    assert vm(balloonInfo={"balloon_cur": "5"}).ballooning


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("Up", ""),
        ("Paused", "the guest is 'Paused' according to vdsm (EIO)"),
        ("Migration Source", "the guest is 'Migration Source' according to vdsm"),
    ],
)
def test_a_guest_in_another_status_than_up_is_left_alone(status: str, reason: str) -> None:
    found = vm(status=status, pauseCode="EIO")
    assert found.here
    assert found.blocked == reason


def test_the_last_phase_of_a_migration_looks_like_a_pause() -> None:
    assert vm(status="Paused", migrationProgress=99).blocked == "the guest is being migrated"


# --- age -------------------------------------------------------------------------------------------------------------------------


def test_at_first_sight_statistics_are_as_old_as_vdsms_interval() -> None:
    assert vm(now=1000.0).age(1001.0, 15.0) == 16.0


def test_statistics_that_have_changed_are_no_older_than_the_last_look() -> None:
    later = vm(vm(now=1000.0), 1004.0, memoryStats=stats(mem_unused="5"))
    assert later.age(1004.5, 15.0) == 4.5


def test_statistics_that_stay_the_same_grow_old_up_to_vdsms_interval() -> None:
    changed = vm(vm(now=1000.0), 1004.0, memoryStats=stats(mem_unused="5"))
    same = vm(changed, 1008.0, memoryStats=stats(mem_unused="5"))
    assert same.age(1008.0, 15.0) == 8.0
    much_later = vm(same, 1100.0, memoryStats=stats(mem_unused="5"))
    assert much_later.age(1100.0, 15.0) == 18.0


def test_a_target_that_mom_itself_has_set_is_no_new_sample() -> None:
    balloon = {**FULL["balloonInfo"], "balloon_target": "77"}  # type: ignore[dict-item]  # it is a mapping
    later = vm(vm(now=1000.0), 1004.0, balloonInfo=balloon)
    assert later.changed == 1000.0


@pytest.mark.parametrize(
    ("value", "expected"), [("12", 12), (12, 12), (12.0, 12), ("x", None), ("", None), (True, None), (None, None), ("²", None), (-1, None),
                            ("-1", None), ("9" * 5000, None), (1 << 63, None), (float("nan"), None), ([], None)]
)  # fmt: skip
def test_a_number_is_what_is_one(value: object, expected: int | None) -> None:
    assert number(value) == expected
