"""What the core makes of decisions that are lists, and of decisions that agree."""

from __future__ import annotations

import pytest

from mom_core import ControlSpec, Decision, Declarations, Entity, Guest, Scope, Snapshot, Source, Unit, Value
from mom_core.engine.review import Proposal, review


@pytest.mark.parametrize(
    ("unit", "value", "kept_as"),
    [
        *((Unit.LIST, one, one) for one in ([{"name": "vda", "limit": 5}], ())),
        *((Unit.LIST, one, None) for one in ("vda", None, 5, [5], {"name": "vda"})),
        *((Unit.TEXT, one, kept) for one, kept in (("0-3", "0-3"), (3, "3"), (-1, "-1"), (True, None), (1.5, None), (None, None))),
    ],
)
def test_a_list_takes_sequences_of_mappings_only_and_a_text_a_whole_number_too(unit: Unit, value: Value, kept_as: Value) -> None:
    spec = ControlSpec("odd", unit, Scope.GUEST, "", "odd")
    decision = Decision(Entity(Scope.GUEST, "a", "a"), "odd", value, source=Source("x"))
    snap = Snapshot(guests={"a": Guest("a", "a")})
    kept, revisions, _ = review(snap, [Proposal("x", [decision])], Declarations(controls={"odd": spec}))
    assert [one.value for one in kept] == ([] if kept_as is None else [kept_as])
    assert len(revisions) == (kept_as != value or value is None)


@pytest.mark.parametrize(("second", "told"), [(5, 0), (6, 1)])
def test_a_plugin_that_decides_the_same_as_one_before_it_has_not_lost(second: int, told: int) -> None:
    spec = ControlSpec("knob", Unit.COUNT, Scope.GUEST, "", "knob")
    entity = Entity(Scope.GUEST, "a", "a")
    proposals = [Proposal(name, [Decision(entity, "knob", value)]) for name, value in (("one", 5), ("two", second))]
    kept, revisions, _ = review(Snapshot(guests={"a": Guest("a", "a")}), proposals, Declarations(controls={"knob": spec}))
    assert [(one.value, one.source.name) for one in kept] == [(5, "one")]
    assert len(revisions) == told
