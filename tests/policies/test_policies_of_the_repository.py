"""Policies of the repository: checks find nothing, and their cases pass. The page about checks lists all rules."""

import re
from pathlib import Path

import pytest
from policy_cases import FOLDER, Case, cases_in

from mom_daemon import declarations_of
from mom_plugins_policy.checks import RULES, check

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples/policies"
POLICIES = sorted([*ROOT.glob("mom_plugins_*/src/*/*.policy"), *EXAMPLES.glob("*.policy")])
INSTALLED = declarations_of()
CASES = [case for path in sorted(FOLDER.glob("*.yaml")) for case in cases_in(path.name)]
SECTIONS = dict(re.findall(r"^### ([a-z-]+)\n(.*?)(?=^##|\Z)", (ROOT / "docs/policy-checks.md").read_text(), re.M | re.S))
WITHOUT_EXAMPLE = {"limit", "recursion"}


def said_of(texts: dict[str, str]) -> list[str]:
    return [str(remark) for remark in check(texts, INSTALLED)]


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.name)
def test_the_checks_find_nothing_in_a_policy(path: Path) -> None:
    assert said_of({path.name.partition(".policy")[0]: path.read_text()}) == []


def test_the_checks_find_nothing_in_all_default_policies_together() -> None:
    assert said_of(dict(INSTALLED.policies)) == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_it_decides_as_expected(case: Case) -> None:
    case.check()


def test_every_example_and_every_default_policy_has_tests() -> None:
    tested = {name for case in CASES for name in case.texts}
    examples = {path.name.removesuffix(".policy") for path in EXAMPLES.glob("*.policy")}
    assert examples | set(INSTALLED.policies) <= tested


def test_every_rule_is_on_the_page_errors_first_and_nothing_else() -> None:
    assert sorted(SECTIONS) == sorted(RULES)
    errors = [rule for rule in RULES if RULES[rule] == "error"]
    assert set(list(SECTIONS)[: len(errors)]) == set(errors)


@pytest.mark.parametrize("rule", sorted(RULES.keys() - WITHOUT_EXAMPLE))
def test_the_first_example_triggers_the_rule_and_the_second_triggers_nothing(rule: str) -> None:
    wrong, right = re.findall(r"```lisp\n(.*?)```", SECTIONS[rule], re.S)
    assert rule in [remark.kind for remark in check({"50_example": wrong}, INSTALLED)]
    assert said_of({"50_example": right}) == []
