"""Limits of disks: pairing and merging."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mom_core import DiskTune
from mom_plugins_vdsm.tunables import disk_tunes, tunable

NOTHING = dict.fromkeys(DiskTune.LIMITS, 0)


def current(name: str, path: str, **limits: object) -> dict[str, object]:
    return {"name": name, "path": path, "ioTune": {**NOTHING, **limits}}


def test_what_was_agreed_is_found_by_path_and_by_name_where_a_path_is_missing() -> None:
    policy = [
        {"path": "/b", "name": "vda", "maximum": {"total_bytes_sec": 5_000_000_000}},
        {"name": "vdc", "maximum": {"total_bytes_sec": 3}, "guaranteed": {"total_iops_sec": 1}},
        {"maximum": {"total_bytes_sec": 9}},
    ]
    first, second, third = disk_tunes(
        {"policy": policy, "current_values": [current("vda", "/a"), current("vdb", "/b"), current("vdc", "")]}
    )
    assert first.maximum is None
    assert second.maximum == {"total_bytes_sec": 5_000_000_000}
    assert third.maximum == {"total_bytes_sec": 3}
    assert third.guaranteed == {"total_iops_sec": 1}


@pytest.mark.long
@given(st.recursive(st.none() | st.integers() | st.text(max_size=3), lambda inner: st.lists(inner) | st.dictionaries(
    st.sampled_from(["policy", "current_values", "name", "path", "ioTune", "maximum", "total_bytes_sec"]), inner)))  # fmt: skip
def test_no_answer_makes_it_fail(entry: object) -> None:
    for tune in disk_tunes(entry):
        assert tune.name


def test_limits_may_come_as_text() -> None:
    (tune,) = disk_tunes({"current_values": [current("vda", "/a", total_bytes_sec="7", read_bytes_sec="x")]})
    assert tune.current["total_bytes_sec"] == 7
    assert "read_bytes_sec" not in tune.current


def test_all_six_limits_are_told_and_the_others_stay() -> None:
    disk = DiskTune("vda", "/path/vda", {**NOTHING, "total_iops_sec": 9})
    assert tunable(disk, {"total_bytes_sec": 5}) == {
        "name": "vda",
        "path": "/path/vda",
        "ioTune": {**NOTHING, "total_iops_sec": 9, "total_bytes_sec": 5},
    }


def test_a_disk_without_a_path_is_named_and_one_without_a_name_has_its_path() -> None:
    assert "path" not in tunable(DiskTune("vda", "", NOTHING), {})
    assert "name" not in tunable(DiskTune("/p", "/p", NOTHING), {})


def test_lists_of_disks_as_long_as_another_program_wants_are_read_at_once() -> None:
    disks = [{"name": f"vd{number}", "path": f"/{number}", "ioTune": {}} for number in range(20_000)]
    began = time.process_time()
    tunes = disk_tunes({"policy": [{**disk, "maximum": {"total_iops_sec": 5}} for disk in disks], "current_values": disks})
    assert time.process_time() - began < 10, "it took hours, pair by pair"
    assert tunes[-1].maximum == {"total_iops_sec": 5}
