"""What the core's own review lets through to a control that is a list."""

from __future__ import annotations

import pytest

from mom_core import ControlSpec, Decision, Declarations, Entity, Guest, Scope, Snapshot, Source, Unit, Value
from mom_core.engine.review import review


@pytest.mark.parametrize(
    ("value", "passes"),
    [([{"name": "vda", "limit": 5}], True), ((), True), ("vda", False), (None, False), (5, False), ([5], False), ({"name": "vda"}, False)],
)
def test_a_control_that_is_a_list_takes_sequences_of_mappings_only(value: Value, passes: bool) -> None:
    spec = ControlSpec("disks", Unit.LIST, Scope.GUEST, "", "disks")
    snap = Snapshot(guests={"a": Guest("a", "a")})
    decision = Decision(Entity(Scope.GUEST, "a", "a"), "disks", value, source=Source("x"))
    kept, revisions, _ = review(snap, [("x", [decision])], Declarations(controls={"disks": spec}))
    assert [one.value for one in kept] == ([value] if passes else [])
    assert [revision.reason for revision in revisions] == ([] if passes else [f"{value!r} is no list of mappings"])
