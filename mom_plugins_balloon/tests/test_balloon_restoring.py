"""Balloons are put back, unless somebody else has changed them."""

import time

import pytest

from mom_core import Entity, HypervisorError, LedgerEntry, NotSupported, Scope, Status
from mom_devkit import put_back

MIB = 1024
GIB = 1024 * MIB


def entry(identity, before=2 * GIB, applied=GIB, incarnation="", attempted=(), **more):
    guest = Entity(Scope.GUEST, identity, f"name-{identity}")
    return LedgerEntry(guest, "balloon_target", before, applied, "balloon", 0.0, incarnation, None, attempted)._replace(**more)


def restored(plugin, hypervisor, *entries):
    outcomes = put_back(plugin, entries, hypervisor)
    assert [outcome.decision.entity for outcome in outcomes] == [item.entity for item in entries]
    return {outcome.decision.entity.id: outcome for outcome in outcomes}


def test_guest_gets_its_size_back(plugin, hypervisor):
    hypervisor.sizes["a"] = GIB
    outcome = restored(plugin, hypervisor, entry("a"))["a"]
    assert (outcome.status, outcome.before, outcome.after) == (Status.APPLIED, GIB, 2 * GIB)
    assert outcome.decision.value == 2 * GIB


@pytest.mark.parametrize(
    ("size", "going", "known", "status"),
    [
        (2 * GIB, None, {}, Status.APPLIED),  # it has never moved: the request may be under way
        (2 * GIB, None, {"applied": 2 * GIB}, Status.UNCHANGED),  # it stands as before, and was last asked to
        (1600 * MIB, 1200 * MIB, {"applied": 1700 * MIB, "attempted": (1200 * MIB,)}, Status.APPLIED),  # it is on its way to that
        (1536 * MIB, None, {"earlier": 1536 * MIB}, Status.APPLIED),  # the last request was cut off: it has what was asked before
    ],
)
def test_guest_at_its_old_size_is_not_asked(plugin, hypervisor, size, going, known, status):
    hypervisor.sizes["a"] = size
    if going is not None:
        hypervisor.targets["a"], hypervisor.speed = going, 2 * MIB
    assert restored(plugin, hypervisor, entry("a", **known))["a"].status is status
    assert hypervisor.commands == ([] if status is Status.UNCHANGED else [("a", 2 * GIB)])


def test_guest_resized_by_another_process_is_left(plugin, hypervisor):
    hypervisor.sizes["a"] = 1536 * MIB
    outcome = restored(plugin, hypervisor, entry("a"))["a"]
    assert (outcome.status, outcome.after) == (Status.LEFT_ALONE, 1536 * MIB)
    assert outcome.error == "another process has set it to 1.50 GiB, not to the 1.00 GiB that mom had asked for"
    assert hypervisor.commands == []


def test_failing_guest_stops_no_other(plugin, hypervisor):
    hypervisor.sizes |= {"a": GIB, "b": None, "c": GIB}
    hypervisor.errors["c"] = NotSupported("the balloon device was unplugged")
    hypervisor.sizes["d"] = GIB
    hypervisor.incarnations["d"] = "second"
    outcomes = restored(plugin, hypervisor, entry("a"), entry("b"), entry("c"), entry("d", incarnation="first"), entry("gone"))
    assert [outcomes[name].status for name in ("a", "b", "c")] == [Status.APPLIED, Status.FAILED, Status.FAILED]
    assert outcomes["d"].status is outcomes["gone"].status is Status.GONE
    assert outcomes["d"].error == "the guest was restarted meanwhile"


def test_no_more_than_the_present_maximum_is_asked(plugin, hypervisor, seen_by):
    hypervisor.sizes["a"] = GIB
    plugin.mom_review(seen_by(hypervisor, a={"balloon_max": 1536 * MIB}), [])
    restored(plugin, hypervisor, entry("a"))
    assert hypervisor.commands == [("a", 1536 * MIB)]


def test_unusable_hypervisor_fails_all_entries(plugin, hypervisor, no_balloons):
    assert restored(plugin, no_balloons, entry("a"))["a"].status is Status.FAILED
    hypervisor.unreachable = HypervisorError("no socket")
    outcome = restored(plugin, hypervisor, entry("a"))["a"]
    assert (outcome.status, outcome.error) == (Status.FAILED, "no socket")


def test_invalid_ledger_entries_fail_alone(plugin, hypervisor):
    outcomes = restored(plugin, hypervisor, entry("a")._replace(before="x"), entry("b")._replace(before=None), entry("c"))
    assert [o.status for o in outcomes.values()] == [Status.FAILED, Status.FAILED, Status.APPLIED]


def test_restore_does_not_shrink_below_the_use(plugin, hypervisor, seen_by):
    hypervisor.sizes.update({"a": 2 * GIB, "b": 2 * GIB})
    used = {"a": {"mem_usable": 900 * MIB}, "b": {"mem_usable": 50 * MIB}}  # needs 1.1 GiB and 1.95 GiB
    plugin.mom_review(seen_by(hypervisor, time.monotonic(), **used), [])
    given = [entry("a", before=GIB, applied=2 * GIB), entry("b", before=GIB, applied=2 * GIB)]
    outcomes = restored(plugin, hypervisor, *given)
    assert outcomes["a"].status is Status.APPLIED
    assert 1148 * MIB <= outcomes["a"].after < 1300 * MIB
    assert "now uses more than its original size of 1.00 GiB" in outcomes["a"].error
    assert (outcomes["b"].status, outcomes["b"].after) == (Status.LEFT_ALONE, 2 * GIB)
    assert [identity for identity, _ in hypervisor.commands] == ["a"]
