"""The default policies for limits that were agreed, over hand-made guests, beside what oVirt's policies ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mom_core import DefaultPolicy, PluginContext, Snapshot
from mom_core.testing import snapshot
from mom_devkit import declared
from mom_plugins_policy import Policy
from mom_plugins_policy.notes import PolicyNotes
from mom_plugins_qos import QosPlugin
from mom_plugins_qos.cpu import quota_and_period
from mom_plugins_qos.settings import QosSettings

FREE = {"vcpu_quota": -1, "vcpu_period": 100_000, "vcpu_user_limit": 100.0, "vcpu_count": 1, "io_tune": None}
SIX = ("total_bytes_sec", "read_bytes_sec", "write_bytes_sec", "total_iops_sec", "read_iops_sec", "write_iops_sec")


def compiled(**switches: bool) -> Policy:
    plugin = QosPlugin(QosSettings(**switches), PluginContext(name="qos"))
    return Policy.compile({one.name: one.text for one in declared(plugin, DefaultPolicy)})


ON, OFF = compiled(cpu_limits=True, io_limits=True), compiled()


def seen(cpus: int = 1, **fields: Any) -> Snapshot:
    return snapshot(host={"cpu_count": cpus}, guests={"vm": {**FREE, **fields}})


def cpu(policy: Policy, snap: Snapshot, notes: PolicyNotes | None = None) -> dict[str, int]:
    result = policy.evaluate(snap) if notes is None else notes.evaluate(policy, snap, ())
    assert list(result.errors) == []
    decided: dict[str, int] = {}
    for one in result.decisions:
        assert isinstance(one.value, int | float)
        decided[one.control] = int(one.value)
    return decided


@pytest.mark.parametrize(
    ("cpus", "vcpus", "limit", "expected"),
    [
        (1, 1, 50, (50_000, 100_000)),
        (120, 100, 50, (60_000, 100_000)),
        (1, 100, 10, (1000, 1_000_000)),  # where oVirt's asks for a period that the hypervisor refuses
        (1, 100, 0.01, (1000, 1_000_000)),
    ],
)
def test_guests_are_held_to_what_was_agreed(cpus: int, vcpus: int, limit: float, expected: tuple[int, int]) -> None:
    snap = seen(cpus, vcpu_count=vcpus, vcpu_user_limit=limit)
    assert cpu(ON, snap) == {"vcpu_quota": expected[0], "vcpu_period": expected[1]}
    assert cpu(OFF, snap) == {}
    assert cpu(ON, seen(cpus, vcpu_count=vcpus, vcpu_user_limit=limit, vcpu_quota=expected[0], vcpu_period=expected[1])) == {}


@given(st.floats(0.001, 99.9), st.integers(1, 512), st.integers(1, 512))
def test_the_policy_asks_for_what_the_setting_of_a_guest_would(limit: float, cpus: int, vcpus: int) -> None:
    wanted = cpu(ON, seen(cpus, vcpu_count=vcpus, vcpu_user_limit=limit))
    quota, period = quota_and_period(limit, cpus, vcpus)
    if quota == -1:
        assert wanted == {}
    else:
        assert wanted["vcpu_quota"] == pytest.approx(quota, abs=1)
        assert wanted["vcpu_period"] == pytest.approx(period, abs=1)
        assert wanted["vcpu_quota"] >= 1000
        assert wanted["vcpu_period"] <= 1_000_000


@pytest.mark.parametrize("unknown", ["vcpu_quota", "vcpu_period", "vcpu_user_limit", "vcpu_count"])
def test_what_is_unknown_decides_nothing(unknown: str) -> None:
    assert cpu(ON, seen(8, **{"vcpu_user_limit": 1.0, unknown: None})) == {}
    assert cpu(ON, seen(8, vcpu_user_limit=1.0, vcpu_count=0)) == {}


def test_a_guest_for_which_nothing_was_agreed_keeps_what_it_was_given_by_others() -> None:
    assert cpu(ON, seen(8, vcpu_quota=30_000, vcpu_period=70_000)) == {}


def test_a_limit_that_is_lifted_leaves_what_stood_before(tmp_path: Path) -> None:
    notes = PolicyNotes()
    before = {"vcpu_quota": 90_000, "vcpu_period": 80_000}
    held = {"vcpu_quota": 50_000, "vcpu_period": 100_000}
    assert cpu(ON, seen(vcpu_user_limit=50.0, **before), notes) == held
    assert cpu(ON, seen(vcpu_user_limit=25.0, **held), notes) == {"vcpu_quota": 25_000, "vcpu_period": 100_000}
    held["vcpu_quota"] = 25_000
    for policy, limit in ((ON, 100.0), (OFF, 25.0)):  # nothing is agreed any more, or the policy is switched off
        assert cpu(policy, seen(vcpu_user_limit=limit, **held), notes) == before
    assert cpu(ON, seen(**before), notes) == {}
    assert cpu(ON, seen(vcpu_quota=10_000), notes) == {}, "it has forgotten what it put back"


def disk(**maximum: int) -> dict[str, Any]:
    nothing = dict.fromkeys(SIX)
    return {"name": "vda", "path": "/a", "guaranteed": nothing, "maximum": {**nothing, **maximum}, "current": dict.fromkeys(SIX, 7)}


def test_disks_are_held_to_what_was_agreed_and_the_rest_stays() -> None:
    snap = seen(io_tune=[disk(total_bytes_sec=50, read_bytes_sec=0, write_bytes_sec=0)])
    (decision,) = ON.evaluate(snap).decisions
    assert decision.value == [
        {"name": "vda", "path": "/a", **dict.fromkeys(SIX, 7), "total_bytes_sec": 50, "read_bytes_sec": 0, "write_bytes_sec": 0}
    ]
    assert list(OFF.evaluate(snap).decisions) == []
    assert list(ON.evaluate(seen(io_tune=[disk()])).decisions) == []
