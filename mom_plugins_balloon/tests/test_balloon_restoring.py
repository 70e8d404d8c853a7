"""mom restores balloons, unless another process has changed them."""

import time

from guest_facts import GIB, MIB

from mom_core import Entity, LedgerEntry, Scope, Status
from mom_devkit import put_back


def entry(identity, before=2 * GIB, applied=GIB):
    return LedgerEntry(Entity(Scope.GUEST, identity, f"name-{identity}"), "balloon_target", before, applied, "balloon", 0.0)


def restored(plugin, hypervisor, *entries):
    outcomes = put_back(plugin, entries, hypervisor)
    assert [outcome.decision.entity for outcome in outcomes] == [item.entity for item in entries]
    return {outcome.decision.entity.id: outcome for outcome in outcomes}


def test_no_more_than_the_present_maximum_is_asked(plugin, hypervisor, seen_by):
    hypervisor.sizes["a"] = GIB
    plugin.mom_review(seen_by(hypervisor, a={"balloon_max": 1536 * MIB}), [])
    restored(plugin, hypervisor, entry("a"))
    assert hypervisor.commands == [("a", 1536 * MIB)]


def test_invalid_ledger_entries_fail_alone(plugin, hypervisor):
    outcomes = restored(plugin, hypervisor, entry("a", before="x"), entry("b", before=None), entry("c"))
    assert [o.status for o in outcomes.values()] == [Status.FAILED, Status.FAILED, Status.APPLIED]


def test_restore_does_not_shrink_below_the_use(plugin, hypervisor, seen_by):
    hypervisor.sizes.update({"a": 2 * GIB, "b": 2 * GIB})
    used = {"a": {"mem_usable": 900 * MIB}, "b": {"mem_usable": 50 * MIB}}  # needs 1.1 GiB and 1.95 GiB
    plugin.mom_review(seen_by(hypervisor, time.monotonic(), **used), [])
    given = [entry("a", before=GIB, applied=2 * GIB), entry("b", before=GIB, applied=2 * GIB)]
    outcomes = restored(plugin, hypervisor, *given)
    assert outcomes["a"].status is Status.APPLIED
    assert 1148 * MIB <= outcomes["a"].after < 1300 * MIB
    assert "not the original 1.00 GiB: the guest needs" in outcomes["a"].error
    assert (outcomes["b"].status, outcomes["b"].after) == (Status.LEFT_ALONE, 2 * GIB)
    assert [identity for identity, _ in hypervisor.commands] == ["a"]
