"""The page about checks has every rule, with an example that triggers it and one that triggers nothing."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from mom_cli import declarations_of
from mom_core import Declarations
from mom_plugins_policy.checks import RULES, check

PAGE = Path(__file__).parents[2] / "docs/policy-checks.md"
SECTIONS = dict(re.findall(r"^### ([a-z-]+)\n(.*?)(?=^##|\Z)", PAGE.read_text(), re.M | re.S))
WITHOUT_EXAMPLE = {"limit", "recursion"}


@cache
def installed() -> Declarations:
    return declarations_of()


def test_every_rule_is_on_the_page_and_nothing_else() -> None:
    assert sorted(SECTIONS) == sorted(RULES)


@pytest.mark.parametrize("rule", sorted(RULES.keys() - WITHOUT_EXAMPLE))
def test_the_first_example_triggers_the_rule_and_the_second_triggers_nothing(rule: str) -> None:
    wrong, right = re.findall(r"```lisp\n(.*?)```", SECTIONS[rule], re.S)
    assert rule in {remark.rule for remark in check({"50_example": wrong}, installed())}
    assert [str(remark) for remark in check({"50_example": right}, installed())] == []


def test_the_rules_are_in_the_order_of_the_table() -> None:
    errors = [rule for rule in RULES if RULES[rule].severity == "error"]
    assert [rule for rule in SECTIONS if rule in errors][:2] == errors[:2]
    assert all(rule in errors for rule in list(SECTIONS)[: len(errors)])
