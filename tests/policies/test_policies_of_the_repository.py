"""The checks find nothing in any policy of the repository."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from mom_cli import declarations_of
from mom_core import Declarations
from mom_plugins_policy.checks import check

ROOT = Path(__file__).parents[2]
POLICIES = sorted([*ROOT.glob("mom_plugins_*/src/*/*.policy"), *ROOT.glob("examples/policies/*.policy")])


@cache
def installed() -> Declarations:
    return declarations_of()


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.name)
def test_the_checks_find_nothing_in_a_policy_of_the_repository(path: Path) -> None:
    assert [str(remark) for remark in check({path.name.partition(".policy")[0]: path.read_text()}, installed())] == []


def test_the_checks_find_nothing_in_all_default_policies_together() -> None:
    assert [str(remark) for remark in check(installed().policies, installed())] == []
