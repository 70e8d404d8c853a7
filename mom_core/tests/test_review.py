"""How the core handles values of evaluators and reviewers, and equal decisions."""

import math
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest

from mom_core import ControlSpec, Decision, Declarations, Guest, Revision, Scope, Snapshot, Source, Unit, Value
from mom_core.engine.review import Proposal, apply_revisions, review

GUEST = Guest("a", "a")
SNAPSHOT = Snapshot(guests={"a": GUEST})
SIZE = ControlSpec("odd", Unit.KIB, Scope.GUEST, "", "odd", minimum=10, maximum=1000)
LIST, TEXT, FLAG = (ControlSpec("odd", unit, Scope.GUEST, "", "odd") for unit in (Unit.LIST, Unit.TEXT, Unit.FLAG))
CHOICES = ControlSpec("odd", Unit.COUNT, Scope.GUEST, "0: stop, 1: run, 2: unmerge", "odd", choices=(0, 1, 2))


@pytest.mark.parametrize(
    ("spec", "value", "kept_as"),
    [
        *((SIZE, one, kept) for one, kept in ((50, 50), (50.9, 50), (5, 10), (-5, 10), (10**9, 1000), (True, 10))),
        *((SIZE, one, None) for one in (math.nan, math.inf, "50", None, [5], 10**309)),
        *((CHOICES, one, kept) for one, kept in ((2, 2), (0, 0), (1.0, 1), (True, 1))),
        *((CHOICES, one, None) for one in (7, -1, 1.5, math.nan, "1")),
        *((FLAG, one, kept) for one, kept in ((1, 1), (False, 0), (7, None), (-1, None))),
        *((LIST, one, one) for one in ([{"name": "vda", "limit": 5}], ())),
        *((LIST, one, None) for one in ("vda", "", b"", None, 5, [5], {"name": "vda"})),
        *((TEXT, one, kept) for one, kept in (("0-3", "0-3"), (3, "3"), (-1, "-1"), (True, None), (1.5, None), (None, None))),
    ],
)
def test_a_value_is_kept_bounded_or_dropped(spec: ControlSpec, value: Value, kept_as: Value) -> None:
    declared, decision = Declarations(controls={"odd": spec}), Decision(GUEST.entity, "odd", value, source=Source("x"))
    kept, revisions, _ = review(SNAPSHOT, [Proposal("x", [decision])], declared)
    before = replace(decision, value="before")
    revised, _ = apply_revisions([before], [Revision(before, decision, "why")], "reviewer", SNAPSHOT, declared)
    for left in (kept, revised):
        assert [(one.value, type(one.value)) for one in left] == ([] if kept_as is None else [(kept_as, type(kept_as))])
    is_taken = kept_as is not None and type(kept_as) is type(value) and kept_as == value
    assert [bool(one.reason) for one in revisions] == [True] * (not is_taken)


@pytest.mark.parametrize(
    ("revisions", "left"),
    [
        pytest.param([(70, "floor")], [70], id="a value"),
        pytest.param([(70, "floor"), (None, "never")], [], id="a drop wins over a value before it"),
        pytest.param([(None, "never"), (None, "no")], [], id="two drops"),
        pytest.param([(None, "")], None, id="a drop without a reason"),
        pytest.param([(None, "never"), (70, "floor")], None, id="a value after a drop"),
        pytest.param([(70, "floor"), (60, "lower")], None, id="two values"),
    ],
)
def test_revisions_change_or_drop_decisions_or_are_refused(revisions: list[tuple[Any, str]], left: list[int] | None) -> None:
    decision = Decision(GUEST.entity, "odd", 50, source=Source("x"))
    declared = Declarations(controls={"odd": SIZE})
    given = [Revision(decision, value and replace(decision, value=value), why) for value, why in revisions]
    with nullcontext() if left is not None else pytest.raises(ValueError, match=r"revis|reason"):
        decisions, _ = apply_revisions([decision], given, "reviewer", SNAPSHOT, declared)
        assert [one.value for one in decisions] == left


@pytest.mark.parametrize(("before", "after"), [({"value": 40}, None), ({}, {"entity": Guest("b", "b").entity}), ({}, {"control": "even"})])
def test_a_revision_changes_only_the_value_of_a_decision(before: dict[str, Any], after: dict[str, Any] | None) -> None:
    decision = Decision(GUEST.entity, "odd", 50, source=Source("x"))
    revision = Revision(replace(decision, **before), None if after is None else replace(decision, **after), "why")
    with pytest.raises(ValueError, match="revis"):
        apply_revisions([decision], [revision], "reviewer", SNAPSHOT, Declarations(controls={"odd": SIZE}))


def test_of_two_plugins_decisions_the_first_counts() -> None:
    first, second = (Decision(GUEST.entity, "odd", value) for value in (50, 60))
    for acts in (False, True):
        given = [Proposal("x", [first], acts), Proposal("y", [second])]
        kept, revisions, problems = review(SNAPSHOT, given, Declarations(controls={"odd": SIZE}))
        assert [one.value for one in kept] == [50]
        assert [revision.reason for revision in revisions] == ["the x plugin is listed before y and decided this control as well"]
        assert [problem.message.partition(":")[0] for problem in problems] == ([] if acts else ["x and y both decide odd"])
    assert review(SNAPSHOT, [Proposal("x", [first]), Proposal("y", [first])], Declarations(controls={"odd": SIZE}))[1:] == ([], [])


def test_of_two_decisions_of_one_plugin_the_last_counts() -> None:
    decisions = [Decision(GUEST.entity, "odd", value, source=Source("x", value, 1)) for value in (50, 60)]
    kept, revisions, _ = review(SNAPSHOT, [Proposal("x", decisions)], Declarations(controls={"odd": SIZE}))
    assert [decision.value for decision in kept] == [60]
    assert [revision.reason for revision in revisions] == ["x decided again, at x:60:1"]
