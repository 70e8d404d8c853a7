"""Two cycles: whether a policy takes back what it has just done, where nothing else has changed."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from policy_declared import DECLARED

from mom_core import Scope, Value
from mom_core.testing import snapshot
from mom_plugins_policy import Policy
from mom_plugins_policy.prove import proof
from mom_plugins_policy.prove.proof import ProofAnswer, ProofResult, prove, return_bound
from mom_plugins_policy.prove.steps import next_cycle


@pytest.fixture(autouse=True)
def in_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What needs an operator's patience in earnest has to be found sooner here."""
    for name, seconds in (("_FIRST", 2.0), ("_SEARCH", 1.0)):
        monkeypatch.setattr(proof, name, seconds)


def verdict(text: str, step: str = "1000", assume: Sequence[str] = ()) -> ProofResult:
    policy = Policy.compile({"50_test": text}, DECLARED)
    (found,) = prove(policy, "balloon_target", [return_bound(step)], scope=Scope.GUEST, assume=assume)
    return found


BACK_AND_FORTH = """
(defvar step_least 4096)
(with Guests guest
    (if (valid guest.balloon_cur guest.mem_unused)
        (if (< guest.mem_unused 100000)
            (guest.Control "balloon_target" (+ guest.balloon_cur 200000))
            (guest.Control "balloon_target" (- guest.balloon_cur 150000)))
        0))
"""
HYSTERESIS = BACK_AND_FORTH.replace("(- guest.balloon_cur 150000)", "(if (> guest.mem_unused 500000) (- guest.balloon_cur 150000) nil)")


def test_what_goes_and_returns_is_told_with_both_cycles() -> None:
    found = verdict(BACK_AND_FORTH, "step_least")
    assert found.answer is ProofAnswer.VIOLATED
    assert found.violation is not None
    assert found.counterexample is not None
    assert found.later is not None
    before, between, after = found.violation.before, found.violation.between, found.violation.value
    assert before is not None
    assert between is not None
    assert (between - before) * (after - between) < 0
    assert min(abs(between - before), abs(after - between)) > 4096
    policy = Policy.compile({"50_test": BACK_AND_FORTH}, DECLARED)
    guest = found.violation.decision.entity.id
    for taken, value in ((found.counterexample, between), (found.later, after)):
        assert value in [decision.value for decision in policy.evaluate(taken).decisions if decision.entity.id == guest]


@pytest.mark.long
def test_of_a_gap_between_giving_and_taking_it_cannot_be_told_that_it_is_wide_enough() -> None:
    found = verdict(HYSTERESIS, "step_least")
    assert found.answer is ProofAnswer.UNKNOWN
    assert "one to three guests" in found.why


@pytest.mark.parametrize("value", ["(- guest.balloon_cur 50000)", "(max guest.balloon_cur guest.balloon_max)"])
def test_what_only_ever_goes_one_way_does_not_return(value: str) -> None:
    assert verdict(f'(with Guests guest (guest.Control "balloon_target" {value}))').answer is ProofAnswer.HOLDS


def test_assumptions_are_made_of_both_cycles() -> None:
    found = verdict(BACK_AND_FORTH, "step_least", ["(< guest.mem_unused 100000)"])
    assert found.answer is ProofAnswer.HOLDS
    assert list(found.assumptions) == ["(< guest.mem_unused 100000) is true"]


def test_in_the_next_cycle_a_guest_has_what_it_was_given_and_uses_as_much_as_before() -> None:
    guest: dict[str, Value] = {"balloon_cur": 1000, "mem_usable": 300, "mem_unused": 50, "swap_in": 7, "balloon_target_age": 60.0}
    taken = snapshot(
        host={"mem_really_available": 500, "mem_free": None},
        guests={"a": guest, "b": {"balloon_cur": 10}},
        properties={"host": {"interval": 5.0}},
    )
    later = next_cycle(taken, {"a": 900}, "balloon_target", "balloon_cur")
    expected = {"balloon_cur": 900, "balloon_target": 900, "mem_usable": 200, "mem_unused": 0, "swap_in": 7, "balloon_target_age": 5.0}
    assert dict(later.guests["a"].fields) == expected
    assert later.guests["b"] == taken.guests["b"]
    assert later.host.number("mem_really_available") == 600
    assert later.host.number("mem_free") is None
