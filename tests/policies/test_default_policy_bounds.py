"""What the default policies can and cannot ask for, proved; and that the checks find nothing in any policy of the repository."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

from mom_cli import declarations_of
from mom_core import Declarations
from mom_plugins_policy import Policy
from mom_plugins_policy.checks import check
from mom_plugins_policy.prove.proof import (
    ProofAnswer,
    ProofResult,
    bound_of,
    default_bounds,
    prove,
    scope_of_control,
)

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
