"""What the core makes of decisions that are lists, and of decisions that agree."""

from __future__ import annotations

import pytest

from mom_core import ControlSpec, Decision, Declarations, Entity, Guest, Scope, Snapshot, Source, Unit, Value
from mom_core.engine.review import Proposal, review
from mom_daemon import amount


@pytest.mark.parametrize(
    ("value", "passes"),
    [([{"name": "vda", "limit": 5}], True), ((), True), ("vda", False), (None, False), (5, False), ([5], False), ({"name": "vda"}, False)],
)
def test_a_control_that_is_a_list_takes_sequences_of_mappings_only(value: Value, passes: bool) -> None:
    spec = ControlSpec("disks", Unit.LIST, Scope.GUEST, "", "disks")
    snap = Snapshot(guests={"a": Guest("a", "a")})
    decision = Decision(Entity(Scope.GUEST, "a", "a"), "disks", value, source=Source("x"))
    kept, revisions, _ = review(snap, [Proposal("x", [decision])], Declarations(controls={"disks": spec}))
    assert [one.value for one in kept] == ([value] if passes else [])
    assert [revision.reason for revision in revisions] == ([] if passes else [f"{value!r} is no list of mappings"])


@pytest.mark.parametrize(
    ("value", "kept_as", "told"), [("0-3", "0-3", 0), (3, "3", 1), (-1, "-1", 1), (True, None, 1), (1.5, None, 1), (None, None, 1)]
)
def test_a_control_that_is_text_takes_a_whole_number_as_its_text(value: Value, kept_as: str | None, told: int) -> None:
    spec = ControlSpec("pins", Unit.TEXT, Scope.GUEST, "", "pins")
    decision = Decision(Entity(Scope.GUEST, "a", "a"), "pins", value, source=Source("x"))
    snap = Snapshot(guests={"a": Guest("a", "a")})
    kept, revisions, _ = review(snap, [Proposal("x", [decision])], Declarations(controls={"pins": spec}))
    assert [one.value for one in kept] == ([] if kept_as is None else [kept_as])
    assert len(revisions) == told


@pytest.mark.parametrize(("second", "told"), [(5, 0), (6, 1)])
def test_a_plugin_that_decides_the_same_as_one_before_it_has_not_lost(second: int, told: int) -> None:
    spec = ControlSpec("knob", Unit.COUNT, Scope.GUEST, "", "knob")
    entity = Entity(Scope.GUEST, "a", "a")
    proposals = [Proposal(name, [Decision(entity, "knob", value)]) for name, value in (("one", 5), ("two", second))]
    kept, revisions, _ = review(Snapshot(guests={"a": Guest("a", "a")}), proposals, Declarations(controls={"knob": spec}))
    assert [(one.value, one.source.name) for one in kept] == [(5, "one")]
    assert len(revisions) == told


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (
            [{"name": "vda", "path": "/a", "total_bytes_sec": 5, "read_bytes_sec": 0, "total_iops_sec": 7}],
            "vda: total_bytes_sec 5, total_iops_sec 7",
        ),
        ([{"name": "vnet0", "inbound": {"average": 5}, "outbound": {}}, {"name": "vnet1"}], "vnet0: inbound average 5; vnet1: none"),
        ([], "nothing"),
        (None, "unknown"),
    ],
)
def test_lists_are_shown_as_people_would_say_them(value: Value, shown: str) -> None:
    assert amount(value, "list") == shown
