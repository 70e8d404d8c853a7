"""Limits of disks: pairing and merging."""

from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mom_core import DiskTune, PluginContext, StateFile
from mom_devkit import HandClock
from mom_kvm import Address
from mom_plugins_vdsm.connection import VdsmConnection, VdsmConnectionSettings
from mom_plugins_vdsm.hypervisor import HypervisorSettings, VdsmHypervisor
from mom_plugins_vdsm.incarnations import FORM, Incarnations
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


class Vdsm:
    """Stands in for the connection to one with a guest that has one disk."""

    settings = VdsmConnectionSettings(Address(host="127.0.0.1", port=1), None)
    on_event: object = None

    def __init__(self) -> None:
        self.limit = 5
        self.asked = 0

    def call(self, method: str, params: object, timeout: float, doing: str, late: object = None) -> object:
        if method == "Host.getAllVmStats":
            self.asked += 1
            return [{"vmId": "a", "vmName": "a", "status": "Up", "vcpuCount": "1", "vcpuQuota": str(1000 * self.limit)}]
        return {"a": {"current_values": [current("vda", "/a", total_bytes_sec=self.limit)]}}


def hypervisor_on(vdsm: Vdsm, clock: HandClock, folder: Path) -> VdsmHypervisor:
    marks = Incarnations(StateFile(folder / "guests.json", "guests' starts", FORM), "boot", clock)
    settings = HypervisorSettings(statistics_kept=5.0)
    return VdsmHypervisor(cast(VdsmConnection, vdsm), settings, marks, PluginContext("vdsm", monotonic=clock))


def test_statistics_are_the_same_for_a_while_and_then_read_anew_and_at_once_of_a_guest_that_was_changed(tmp_path: Path) -> None:
    clock, vdsm = HandClock(100.0), Vdsm()
    hypervisor = hypervisor_on(vdsm, clock, tmp_path)
    entities = [guest.entity for guest in hypervisor.guests()]

    def quota() -> int | None:
        return hypervisor.cpu_tunes(entities)["a"].quota_us

    vdsm.limit = 7
    clock.now += 4.9
    assert (quota(), vdsm.asked) == (5000, 1)
    clock.now += 0.1
    assert [quota(), quota(), vdsm.asked] == [7000, 7000, 2]
    vdsm.limit = 9
    hypervisor.set_cpu_tune(entities[0], quota_us=9000)
    assert [quota(), quota(), vdsm.asked] == [9000, 9000, 3]


def test_limits_that_the_engine_has_changed_are_read_as_soon_as_statistics_are(tmp_path: Path) -> None:
    clock, vdsm = HandClock(100.0), Vdsm()
    hypervisor = hypervisor_on(vdsm, clock, tmp_path)
    entities = [guest.entity for guest in hypervisor.guests()]

    def limit() -> int:
        ((disk,),) = hypervisor.io_tunes(entities).values()
        return disk.current["total_bytes_sec"]

    assert limit() == 5
    vdsm.limit = 7
    clock.now += 4
    assert limit() == 5, "all calls of a cycle have the same"
    clock.now += 1
    assert limit() == 7


def test_a_disk_without_a_path_is_named_and_one_without_a_name_has_its_path() -> None:
    assert "path" not in tunable(DiskTune("vda", "", NOTHING), {})
    assert "name" not in tunable(DiskTune("/p", "/p", NOTHING), {})
