"""The plugin with limits in memory: collect, decide, review, set, restore, and findings."""

from dataclasses import replace
from typing import Any

import pytest
from qos_fake import FREE, NONE, NotingHypervisor

from mom_core import (
    CpuTune,
    Decision,
    DiskTune,
    EngineState,
    Entity,
    Guest,
    Host,
    HypervisorError,
    LedgerEntry,
    NetTune,
    Outcome,
    PluginContext,
    Scope,
    Severity,
    Snapshot,
    Status,
)
from mom_devkit import apply_decisions, put_back
from mom_plugins_host.qos import QosPlugin
from mom_plugins_host.qos.settings import QosGuestSettings, QosSettings

QUOTA, PERIOD, SHARES, DISKS, NETS = "vcpu_quota", "vcpu_period", "cpu_shares", "io_tune", "net_tune"


def seen(plugin: QosPlugin, hypervisor: NotingHypervisor, *, cpus: int | None = 8, vcpus: int = 4) -> Snapshot:
    listed = hypervisor.guests()
    fields = plugin.mom_collect_guests(hypervisor, listed)
    guests = {guest.id: replace(guest, fields={**fields[guest.id], "vcpu_count": vcpus}) for guest in listed}
    return Snapshot(Host(fields={} if cpus is None else {"cpu_count": cpus}), guests)


def want(guest: Entity, **values: Any) -> list[Decision]:
    return [Decision(guest, control, value) for control, value in values.items()]


def by_control(outcomes: Any) -> dict[str, Outcome]:
    return {outcome.decision.control: outcome for outcome in outcomes}


def entry(guest: Entity, control: str, before: Any, applied: Any, earlier: Any = None, incarnation: str = "1") -> LedgerEntry:
    return LedgerEntry(guest, control, before, applied, "qos", 0.0, incarnation, earlier)


def settings(context: PluginContext, **values: Any) -> None:
    own = QosGuestSettings.model_validate(values)
    context.guest_settings = lambda guest: own


def carry_out(plugin: QosPlugin, hypervisor: NotingHypervisor, context: PluginContext) -> dict[str, Outcome]:
    """Apply a cycle's decisions, with the ledger. Return the outcomes."""
    outcomes = apply_decisions(plugin, list(plugin.mom_act(seen(plugin, hypervisor))), hypervisor)
    changed = [one for one in outcomes if one.status is Status.APPLIED]
    noted = [entry(one.decision.entity, one.decision.control, one.before, one.after) for one in changed]
    context.engine_state = lambda: EngineState(changes=noted)
    return by_control(outcomes)


# --- collect -----------------------------------------------------------------------------------------------------------


def test_limits_are_fields_and_what_was_agreed_stands_beside_what_is(plugin, hypervisor):
    hypervisor.add("a")
    hypervisor.known["a"].cpu = CpuTune(50_000, 100_000, 512, 30.0)
    hypervisor.known["a"].disks = (DiskTune("vda", "/a", {**NONE, "read_bytes_sec": 5}, {"total_bytes_sec": 9}, None),)
    hypervisor.known["a"].interfaces = (NetTune("vnet0", {"average": 7}, {}),)
    fields = seen(plugin, hypervisor).guests["a"].fields
    assert {key: fields[key] for key in (QUOTA, PERIOD, SHARES, "vcpu_user_limit")} == {
        QUOTA: 50_000, PERIOD: 100_000, SHARES: 512, "vcpu_user_limit": 30.0,
    }  # fmt: skip
    unknown = dict.fromkeys(NONE)
    assert fields[DISKS] == [
        {
            "name": "vda",
            "path": "/a",
            "guaranteed": unknown,
            "maximum": {**unknown, "total_bytes_sec": 9},
            "current": {**NONE, "read_bytes_sec": 5},
        }
    ]
    assert fields["io_tune_current"] == [{"name": "vda", "path": "/a", **NONE, "read_bytes_sec": 5}]
    assert fields[NETS] == [{"name": "vnet0", "inbound": {"average": 7}, "outbound": {}}]


def test_the_operators_limits_stand_before_those_of_the_metadata(plugin, hypervisor, context):
    hypervisor.add("a")
    hypervisor.known["a"].cpu = CpuTune(-1, 100_000, 1024, 30.0)
    settings(context, cpu_limit="20%", disk_limits={"vdb": {"total_iops_sec": 4}})
    fields: Any = seen(plugin, hypervisor).guests["a"].fields
    assert fields["vcpu_user_limit"] == 20.0
    assert [disk["maximum"]["total_iops_sec"] for disk in fields[DISKS]] == [None, 4]


def test_a_hypervisor_that_limits_nothing_has_no_such_fields(plugin):
    class Bare:
        uri = "bare:///"

        def guests(self) -> list[Guest]:
            return []

    fields = plugin.mom_collect_guests(Bare(), [Guest("a", "a")])
    assert {key: value for key, value in fields["a"].items() if value is not None} == {}
    decisions = want(Entity(Scope.GUEST, "a", "a"), vcpu_quota=5000, io_tune=[], net_tune=[])
    assert {outcome.error for outcome in apply_decisions(plugin, decisions, Bare())} == {
        "bare:/// cannot limit CPU time", "bare:/// cannot limit disks", "bare:/// cannot limit network interfaces",
    }  # fmt: skip


# --- decide -------------------------------------------------------------------------------------------------------------


def test_what_the_operator_set_is_decided_and_put_back_when_it_is_taken_out_again(plugin, hypervisor, context):
    hypervisor.add("a")
    hypervisor.known["a"].interfaces = (NetTune("vnet0", {"average": 7, "floor": 3}, {"average": 8}),)
    settings(context, cpu_limit="25%", cpu_shares=512, io_limit={"total_iops_sec": 9}, net_limit={"inbound": {"average": "1MiB"}})
    decided = {one.control: one.value for one in plugin.mom_act(seen(plugin, hypervisor))}
    limited = {**NONE, "total_iops_sec": 9}
    assert decided == {
        QUOTA: 50_000,
        PERIOD: 100_000,
        SHARES: 512,
        DISKS: [{"name": "vda", "path": "/a", **limited}, {"name": "vdb", "path": "/b", **limited}],
        NETS: [{"name": "vnet0", "inbound": {"floor": 3, "average": 1024}, "outbound": {}}],
    }
    outcomes = carry_out(plugin, hypervisor, context)
    assert {control for control, outcome in outcomes.items() if outcome.status is Status.APPLIED} == decided.keys() - {PERIOD}
    assert outcomes[PERIOD].status is Status.UNCHANGED, "it is the usual one"
    again = {one.control: one.value for one in plugin.mom_act(seen(plugin, hypervisor))}
    assert again == decided
    settings(context)
    lifted = list(plugin.mom_act(seen(plugin, hypervisor)))
    apply_decisions(plugin, lifted, hypervisor)
    assert hypervisor.known["a"].cpu == FREE
    assert {disk.current["total_iops_sec"] for disk in hypervisor.known["a"].disks} == {0}
    assert hypervisor.known["a"].interfaces == (NetTune("vnet0", {"average": 7, "floor": 3}, {"average": 8}),)
    assert list(plugin.mom_act(seen(plugin, hypervisor))) == []


def test_what_is_taken_out_is_done_with_also_where_disks_came_went_and_have_another_path(plugin, hypervisor, context):
    hypervisor.add("a")
    settings(context, io_limit={"total_iops_sec": 9})
    assert carry_out(plugin, hypervisor, context)[DISKS].status is Status.APPLIED
    vda, _ = hypervisor.known["a"].disks
    hypervisor.known["a"].disks = (replace(vda, path="/snapshot"), DiskTune("vdc", "/c", NONE))
    settings(context)
    (lifted,) = list(plugin.mom_act(seen(plugin, hypervisor)))
    (completed,) = plugin.mom_review(seen(plugin, hypervisor), [lifted])
    assert completed.after is not None, "it names no disk that is gone"
    apply_decisions(plugin, [lifted], hypervisor)
    assert {disk.current["total_iops_sec"] for disk in hypervisor.known["a"].disks} == {0}
    hypervisor.known["a"].disks = tuple(replace(disk, path="/another") for disk in hypervisor.known["a"].disks)
    assert list(plugin.mom_act(seen(plugin, hypervisor))) == []


def test_a_look_at_disks_that_fails_after_a_restart_lifts_no_limit(plugin, hypervisor, context, monkeypatch):
    hypervisor.add("a")
    settings(context, cpu_limit="25%", io_limit={"total_iops_sec": 9})
    assert {one.status for control, one in carry_out(plugin, hypervisor, context).items() if control != PERIOD} == {Status.APPLIED}

    def busy(guests):
        raise HypervisorError("vdsm is busy")

    monkeypatch.setattr(hypervisor, "io_tunes", busy)
    again = QosPlugin(QosSettings(), context)
    with pytest.raises(HypervisorError):
        seen(again, hypervisor)
    nothing_known = Snapshot(Host(fields={"cpu_count": 8}), {guest.id: guest for guest in hypervisor.guests()})
    assert list(again.mom_act(nothing_known)) == []


def problems_of(plugin: QosPlugin, snapshot: Snapshot) -> list[str]:
    """Return the messages of one cycle's problems."""
    list(plugin.mom_act(snapshot))
    return [problem.message for problem in plugin.mom_problems(snapshot)]


def test_a_limit_that_cannot_be_set_is_one_problem_for_all_guests(plugin, hypervisor, context):
    for name in ("a", "b"):
        hypervisor.add(name)
    settings(context, cpu_limit="25%", disk_limits={"vdz": {"total_iops_sec": 9}, "vdb": {"total_iops_sec": 9}})
    assert problems_of(plugin, seen(plugin, hypervisor, cpus=None)) == [
        "cpu_limit needs the number of the host's CPUs (cpu_count), which is unknown"
    ]
    settings(context, cpu_shares=2)
    for guest in hypervisor.known.values():
        guest.cpu = CpuTune()
    assert problems_of(plugin, seen(plugin, hypervisor)) == [
        "cpu_shares is set in the YAML file, but cannot be applied to a, b: its present value is unknown"
    ]
    hypervisor.blocked = {"*": "the guest is paused"}
    assert problems_of(plugin, seen(plugin, hypervisor)) == []


def test_a_figure_that_is_missing_for_a_cycle_lifts_no_limit(plugin, hypervisor, context):
    hypervisor.add("a")
    settings(context, cpu_limit="25%", disk_limits={"vda": {"total_iops_sec": 9}})
    apply_decisions(plugin, list(plugin.mom_act(seen(plugin, hypervisor))), hypervisor)
    held = hypervisor.known["a"].cpu
    assert held != FREE
    missing = list(plugin.mom_act(seen(plugin, hypervisor, cpus=None)))
    assert {one.control for one in missing} == {DISKS}, "the host's CPUs are unknown: what stands stays"
    assert {one.control for one in plugin.mom_act(seen(plugin, hypervisor))} == {QUOTA, PERIOD, DISKS}


# --- review ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ({QUOTA: 999}, "vcpu_quota cannot be 999: the allowed range is 1000 to 17592186044415 µs, or -1 for no limit"),
        ({QUOTA: 5000, PERIOD: 1_000_001}, "vcpu_period cannot be 1000001: the allowed range is 1000 to 1000000 µs"),
        ({SHARES: 0}, "cpu_shares cannot be 0: the allowed range is 1 to 262144"),
        ({DISKS: [{"name": "vdz"}]}, "there is no disk vdz; the guest has vda, vdb"),
        ({NETS: [{"name": "vnet0", "inbound": {"average": 0}}]}, "inbound average of vnet0 cannot be 0"),
    ],
)
def test_impossible_decisions_are_dropped_with_the_bounds(plugin, hypervisor, wanted, reason):
    guest = hypervisor.add("a")
    revisions = list(plugin.mom_review(seen(plugin, hypervisor), want(guest, **wanted)))
    assert [revision.after for revision in revisions] == [None] * len(wanted)
    assert all(revision.reason.startswith(reason) for revision in revisions)


def test_lists_are_completed_so_that_they_can_be_compared_and_put_back(plugin, hypervisor):
    guest = hypervisor.add("a")
    snapshot = seen(plugin, hypervisor)
    (revision,) = plugin.mom_review(snapshot, want(guest, io_tune=[{"name": "vdb", "path": "/b", "read_iops_sec": 3}]))
    assert revision.after is not None
    assert revision.after.value == [{"name": "vdb", "path": "/b", **NONE, "read_iops_sec": 3}]
    assert list(plugin.mom_review(snapshot, [revision.after])) == []
    (revision,) = plugin.mom_review(snapshot, want(guest, vcpu_quota=-500))
    assert revision.after is not None
    assert revision.after.value == -1


# --- set -----------------------------------------------------------------------------------------------------------------


def test_quota_and_period_go_together_and_only_when_one_differs(plugin, hypervisor):
    guest = hypervisor.add("a")
    outcomes = by_control(apply_decisions(plugin, want(guest, vcpu_quota=50_000), hypervisor))
    assert hypervisor.commands == [("cpu", "a", 50_000, 100_000, None)]
    assert (outcomes[QUOTA].status, outcomes[QUOTA].before, outcomes[QUOTA].after) == (Status.APPLIED, -1, 50_000)
    outcomes = by_control(apply_decisions(plugin, want(guest, vcpu_quota=50_000, vcpu_period=100_000, cpu_shares=1024), hypervisor))
    assert {outcome.status for outcome in outcomes.values()} == {Status.UNCHANGED}
    assert len(hypervisor.commands) == 1
    apply_decisions(plugin, want(guest, cpu_shares=2), hypervisor)
    assert hypervisor.commands[-1] == ("cpu", "a", None, None, 2)


def test_only_disks_that_differ_are_set_and_one_that_fails_does_not_keep_the_others(plugin, hypervisor):
    guest = hypervisor.add("a")
    hypervisor.errors["vda"] = HypervisorError("vda is on fire")
    wanted = [{"name": "vda", "read_iops_sec": 3}, {"name": "vdb", "read_iops_sec": 4}]
    (outcome,) = apply_decisions(plugin, want(guest, io_tune=wanted), hypervisor)
    assert outcome.status is Status.FAILED
    assert outcome.error == "vda is on fire"
    assert [disk.current["read_iops_sec"] for disk in hypervisor.known["a"].disks] == [0, 4]
    hypervisor.commands.clear()
    hypervisor.errors.clear()
    (outcome,) = apply_decisions(plugin, want(guest, io_tune=wanted), hypervisor)
    assert outcome.status is Status.APPLIED
    assert [command[0] for command in hypervisor.commands] == ["vda"]
    (outcome,) = apply_decisions(plugin, want(guest, io_tune=wanted), hypervisor)
    assert outcome.status is Status.UNCHANGED


# --- restore ------------------------------------------------------------------------------------------------------------


def test_each_disk_is_put_back_for_itself(plugin, hypervisor):
    guest = hypervisor.add("a")
    before = [{"name": name, "path": path, **NONE} for name, path in (("vda", "/a"), ("vdb", "/b"), ("vdd", "/gone"))]
    applied = [{**item, "read_iops_sec": 3} for item in before]
    changed = {**NONE, "read_iops_sec": 3}
    hypervisor.known["a"].disks = (DiskTune("vda", "/other.iso", changed), DiskTune("vdb", "/b", changed), DiskTune("vdc", "/new", changed))
    (outcome,) = put_back(plugin, [entry(guest, DISKS, before, applied)], hypervisor)
    assert outcome.status is Status.APPLIED
    assert [disk.current["read_iops_sec"] for disk in hypervisor.known["a"].disks] == [0, 0, 3], "one plugged in since is not mom's"
    (outcome,) = put_back(plugin, [entry(guest, DISKS, before, applied)], hypervisor)
    assert outcome.status is Status.UNCHANGED
    hypervisor.known["a"].disks = (DiskTune("vda", "/a", {**NONE, "read_iops_sec": 8}), DiskTune("vdb", "/b", changed))
    (outcome,) = put_back(plugin, [entry(guest, DISKS, before, applied)], hypervisor)
    assert (outcome.status, outcome.error) == (Status.LEFT_ALONE, "another process has changed vda")
    assert [disk.current["read_iops_sec"] for disk in hypervisor.known["a"].disks] == [8, 0]


# --- findings --------------------------------------------------------------------------------------------------------------------


def test_the_doctor_says_what_can_be_limited_and_why_not(plugin, hypervisor):
    hypervisor.add("a")
    assert {finding.severity for finding in plugin.mom_doctor(hypervisor)} == {Severity.OK}
    hypervisor.known["a"].cpu = CpuTune(user_limit_percent=100.0)
    finding = next(one for one in plugin.mom_doctor(hypervisor) if one.severity is Severity.WARNING)
    assert finding.message == "the CPU limits of guests a cannot be read"
    assert "cgroup_controllers" in finding.cure
    assert [one.severity for one in plugin.mom_doctor(None)] == [Severity.WARNING]
