"""The tests that are shipped with the example policies, of the default policies and of the examples themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from mom_cli import declarations_of
from mom_plugins_policy.tools.cases import PolicyTest, read_cases, run_case

FOLDER = Path(__file__).parents[2] / "examples/policies"
INSTALLED = declarations_of()
CASES = [case for path in sorted(FOLDER.glob("tests/*.yaml")) for case in read_cases(path, INSTALLED)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_it_is_as_expected(case: PolicyTest) -> None:
    assert run_case(case) == ()


def test_every_example_and_every_default_policy_has_tests() -> None:
    tested = {name for case in CASES for text in case.policy.program.texts for name in [text.name]}
    examples = {path.name.removesuffix(".policy") for path in FOLDER.glob("*.policy")}
    assert examples | set(INSTALLED.policies) <= tested
