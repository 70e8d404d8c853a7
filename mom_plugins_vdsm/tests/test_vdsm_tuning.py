"""Limits of disks: pairing and merging."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mom_core import DiskTune
from mom_plugins_vdsm.statistics import disk_tunes, tunable

NOTHING = dict.fromkeys(DiskTune.LIMITS, 0)


def current(name: str, path: str, **limits: object) -> dict[str, object]:
    return {"name": name, "path": path, "ioTune": {**NOTHING, **limits}}


def test_what_was_agreed_is_found_by_path_and_by_name_where_a_path_is_missing() -> None:
    policy = [
        {"path": "/b", "name": "vda", "maximum": {"total_bytes_sec": 5_000_000_000}},
        {"name": "vdc", "maximum": {"total_bytes_sec": 3}, "guaranteed": {"total_iops_sec": 1}},
        {"maximum": {"total_bytes_sec": 9}},
        {"name": "vdd", "path": "/d", "maximum": {"total_bytes_sec": 4}},
    ]
    disks = [current("vda", "/a"), current("vdb", "/b"), current("vdc", ""), current("vdd", "")]
    first, second, third, fourth = disk_tunes({"policy": policy, "current_values": disks})
    assert first.maximum is None
    assert second.maximum == {"total_bytes_sec": 5_000_000_000}
    assert third.maximum == {"total_bytes_sec": 3}
    assert third.guaranteed == {"total_iops_sec": 1}
    assert fourth.maximum == {"total_bytes_sec": 4}


@pytest.mark.long
@given(st.recursive(st.none() | st.integers() | st.text(max_size=3), lambda inner: st.lists(inner) | st.dictionaries(
    st.sampled_from(["policy", "current_values", "name", "path", "ioTune", "maximum", "total_bytes_sec"]), inner)))  # fmt: skip
def test_no_answer_makes_it_fail(entry: object) -> None:
    for tune in disk_tunes(entry):
        assert tune.name


@pytest.mark.parametrize(("name", "path", "called"), [("", "/p", "/p"), ("vda", "", "vda"), ("vda", "/p", "vda")])
def test_a_disk_of_which_not_all_is_told_is_known_by_what_is(name: str, path: str, called: str) -> None:
    assert disk_tunes({"current_values": [{"name": name, "path": path}, {}]}) == (DiskTune(called, path, {}),)


def test_a_disk_without_a_path_is_named_and_one_without_a_name_has_its_path() -> None:
    assert "path" not in tunable(DiskTune("vda", "", NOTHING), {})
    assert "name" not in tunable(DiskTune("/p", "/p", NOTHING), {})
