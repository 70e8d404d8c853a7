"""What the default policies can and cannot ask for, proved; and that the checks find nothing in any policy of the repository."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

from mom_cli import declarations_of
from mom_core import Declarations, Scope
from mom_plugins_policy import Policy
from mom_plugins_policy.checks import check
from mom_plugins_policy.prove import proof
from mom_plugins_policy.prove.proof import (
    ProofAnswer,
    ProofResult,
    bound_of,
    default_bounds,
    growth_bound,
    prove,
    return_bound,
    scope_of_control,
)
from mom_plugins_policy.tools.snapshots import as_json, made_snapshot

ROOT = Path(__file__).parents[2]
POLICIES = sorted([*ROOT.glob("mom_plugins_*/src/*/*.policy"), *ROOT.glob("examples/policies/*.policy")])


@cache
def installed() -> Declarations:
    return declarations_of()


def verdicts(control: str, lows: Sequence[str] = (), highs: Sequence[str] = (), assume: Sequence[str] = ()) -> list[ProofResult]:
    declared = installed()
    policy = Policy.compile(declared.policies, declared)
    scope = scope_of_control(control, policy)
    bounds = [bound_of(low, at_least=True, scope=scope, declarations=declared) for low in lows]
    bounds += [bound_of(high, at_least=False, scope=scope, declarations=declared) for high in highs]
    return prove(policy, control, bounds or default_bounds(control, scope, declared), scope=scope, assume=assume)


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.name)
def test_the_checks_find_nothing_in_a_policy_of_the_repository(path: Path) -> None:
    assert [str(remark) for remark in check({path.name.partition(".policy")[0]: path.read_text()}, installed())] == []


def test_the_checks_find_nothing_in_all_default_policies_together() -> None:
    assert [str(remark) for remark in check(installed().policies, installed())] == []


@pytest.mark.parametrize("control", ["ksm_run", "ksm_pages_to_scan", "ksm_sleep_millisecs"])
def test_ksm_is_never_set_to_what_it_does_not_take(control: str) -> None:
    assert [verdict.answer for verdict in verdicts(control)] == [ProofAnswer.HOLDS, ProofAnswer.HOLDS]


def test_ksm_scans_between_64_and_30000_pages() -> None:
    answers = [(verdict.bound.text, verdict.answer) for verdict in verdicts("ksm_pages_to_scan", ["64", "65"], ["30000", "29999"])]
    assert answers[:3] == [("64", ProofAnswer.HOLDS), ("65", ProofAnswer.VIOLATED), ("30000", ProofAnswer.HOLDS)]
    assert answers[3][1] is not ProofAnswer.HOLDS


def test_no_guest_gets_more_than_its_maximum() -> None:
    (verdict,) = verdicts("balloon_target", highs=["balloon_max"])
    assert verdict.answer is ProofAnswer.HOLDS
    assert list(verdict.assumptions) == []


@pytest.mark.long
def test_no_guest_that_has_its_guarantee_loses_it() -> None:
    (verdict,) = verdicts("balloon_target", lows=["balloon_min"], assume=["(<= guest.balloon_min guest.balloon_cur)"])
    assert verdict.answer is ProofAnswer.HOLDS


@pytest.mark.long
def test_a_guest_is_never_taken_below_its_guarantee_nor_further_below_it() -> None:
    (verdict,) = verdicts("balloon_target", lows=["(min guest.balloon_min guest.balloon_cur)"])
    assert verdict.answer is ProofAnswer.HOLDS
    assert set(verdict.assumptions) <= {"balloon_min <= balloon_max", "balloon_cur <= balloon_max"}


@pytest.mark.long
@pytest.mark.parametrize(
    "least",
    ["(min guest.guest_guarantee guest.balloon_cur)", "(- guest.balloon_cur guest.mem_usable)"],
    ids=["what all promises come to", "what it uses"],
)
def test_no_guest_is_taken_below(least: str) -> None:
    (verdict,) = verdicts("balloon_target", lows=[least])
    assert verdict.answer is ProofAnswer.HOLDS
    assert list(verdict.assumptions) == ["balloon_cur <= balloon_max"]


def test_a_guest_below_its_guarantee_may_get_there_in_several_steps() -> None:
    (verdict,) = verdicts("balloon_target", lows=["balloon_min"])
    assert verdict.answer is ProofAnswer.VIOLATED
    assert verdict.counterexample is not None
    assert verdict.violation is not None
    guest = verdict.violation.decision.entity.id
    read_back = made_snapshot(json.loads(json.dumps(as_json(verdict.counterexample))), "test")
    declared = installed()
    decided = Policy.compile(declared.policies, declared).evaluate(read_back).decisions
    (target,) = (one.value for one in decided if (one.entity.id, one.control) == (guest, "balloon_target"))
    assert target < read_back.guests[guest].fields["balloon_min"]  # type: ignore[operator]  # numbers


def together(*assume: str) -> ProofResult:
    declared = installed()
    policy = Policy.compile(declared.policies, declared)
    bound = growth_bound("mem_really_available", declarations=declared)
    (found,) = prove(policy, "balloon_target", [bound], scope=Scope.GUEST, assume=assume)
    return found


@pytest.mark.long
@pytest.mark.parametrize("assume", ['(== Host.balloon_goal "safe")', "(> guest.mem_cache_share 0.25)"], ids=["safe", "page cache"])
def test_all_guests_together_get_no_more_than_the_host_has(assume: str) -> None:
    """Of as many guests as there are: what is given back or grows is there, where room for bursts is not free."""
    found = together(assume)
    assert found.answer is ProofAnswer.HOLDS
    assert list(found.assumptions) == [f"{assume} is true"]


@pytest.mark.long
def test_room_for_bursts_is_given_beyond_what_the_host_has() -> None:
    """It costs the host nothing before it is used; who does not want that has the goal `safe`."""
    found = together()
    assert found.answer is ProofAnswer.VIOLATED
    assert found.form is not None
    assert found.form.items[2].items[1].name == "room"


@pytest.mark.long
def test_a_guest_that_runs_out_gives_back_what_it_was_given_and_has_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """How much it will want is unknown when it grows; on an unchanged host that is more than it needs."""
    monkeypatch.setattr(proof, "_SEARCH", 60.0)  # what is found does not depend on how busy the machine is
    declared = installed()
    policy = Policy.compile(declared.policies, declared)
    (found,) = prove(policy, "balloon_target", [return_bound("step_least_kib")], scope=Scope.GUEST)
    assert found.answer is ProofAnswer.VIOLATED
    assert found.counterexample is not None
    assert found.later is not None
    (guest,) = found.counterexample.guests
    sizes = [taken.guests[guest].fields["balloon_cur"] for taken in (found.counterexample, found.later)]
    assert found.violation is not None
    assert sizes == [found.violation.before, found.violation.between]
