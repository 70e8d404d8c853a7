"""Limits of disks in the YAML file beside those that were agreed: each disk is a matter of its own, whichever comes first."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from qos_fake import NONE, NotingHypervisor

from mom_core import Decision, DiskTune, Entity, Guest, Hypervisor, PluginContext, PluginSettings, Scope, Snapshot, Value, hookimpl
from mom_devkit import run_plugins
from mom_plugins_qos import QosPlugin
from mom_plugins_qos.review import reviewed

VM = Entity(Scope.GUEST, "vm", "vm")


def disk(name: str, iops: int) -> dict[str, Value]:
    return {"name": name, **NONE, "total_iops_sec": iops}


@pytest.mark.parametrize("order", [("policy", "qos"), ("qos", "policy")])
def test_a_disk_that_the_file_limits_leaves_others_what_was_agreed_for_them(tmp_path: Path, order: Sequence[str]) -> None:
    world = NotingHypervisor()
    world.add("vm")
    one = world.known["vm"]
    one.disks = (DiskTune("vda", "/a", NONE, {"total_iops_sec": 100}), DiskTune("vdb", "/b", NONE))
    seen: list[list[int | None]] = []

    class Plugin:
        def __init__(self, settings: PluginSettings, context: PluginContext) -> None:
            pass

        @hookimpl
        def mom_hypervisor(self) -> Hypervisor:
            return world

    def between(number: int) -> None:
        seen.append([disk.current.get("total_iops_sec") for disk in one.disks])

    named: dict[str, Mapping[str, object]] = {"qos": {"io_limits": True}, "policy": {}}
    plugins: dict[str, type | Mapping[str, object]] = {"world": Plugin, **{name: named[name] for name in order}}
    run = run_plugins(tmp_path, plugins, cycles=4, between=between, guests={"vm": {"disk_limits": {"vdb": {"total_iops_sec": 7}}}})
    assert seen[1:] == [[100, 7]] * 3
    assert run.problems == []


def test_what_the_file_has_let_go_of_goes_back_beside_what_a_policy_that_comes_first_wants_of_other_disks() -> None:
    now = [disk("vda", 100), disk("vdb", 7), disk("vdc", 5)]
    snapshot = Snapshot(guests={"vm": Guest("vm", "vm", {"io_tune_current": now})})
    wanted = Decision(VM, "io_tune", [disk("vda", 100)])
    (revision,) = reviewed(snapshot, [wanted], {("vm", "io_tune"): [disk("vda", 0), disk("vdb", 0)]})
    assert revision.after is not None
    assert revision.after.value == [disk("vda", 100), disk("vdb", 0)]
    gone = {("vm", "io_tune"): [disk("vdz", 0)]}
    assert list(reviewed(snapshot, [wanted], gone)) == [], "what is wrong with ours is no matter of the policy's"


def test_what_the_file_wanted_in_an_earlier_cycle_counts_no_more(plugin: QosPlugin, hypervisor: NotingHypervisor) -> None:
    snapshot = Snapshot(guests={"vm": Guest("vm", "vm", {"io_tune_current": [disk("vda", 100), disk("vdb", 7)]})})
    plugin._lists = Snapshot(), {("vm", "io_tune"): [disk("vdb", 0)]}
    assert list(plugin.mom_review(snapshot, [Decision(VM, "io_tune", [disk("vda", 100)])])) == []
