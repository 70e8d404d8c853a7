"""Every row of the tables of the language reference: a policy, evaluated on the fixture, and its result.

A line of `reference/*.txt` is `expression  =>  result`. ⏎ stands for a line break in an expression. If mom differs from MOM, as the
reference recommends, a third part has the row of section 14 and mom's result. `found.txt` has programs that once failed, and programs with
functions or variables named like words of the language.
"""

from pathlib import Path

import pytest
from policy_fixture import all_shown, fixture

from mom_plugins_policy import Policy, PolicyError

TABLES = sorted((Path(__file__).parent / "reference").glob("*.txt"))


def rows() -> list[tuple[str, str, str]]:
    found = []
    for table in TABLES:
        for number, line in enumerate(table.read_text(encoding="utf-8").splitlines(), 1):
            expression, *results = line.split("  =>  ")
            found.append((f"{table.stem}:{number}", expression.replace("⏎", "\n"), results[-1].replace("⏎", "\n")))
    return found


def outcome(text: str) -> tuple[str, list[str]]:
    """Return the values, and the kinds of errors."""
    try:
        policy = Policy.compile({"50_main_": text})
    except PolicyError as error:
        return "", [error.kind] if (error.name, error.line > 0, error.column > 0) == ("50_main_", True, True) else []
    result = policy.evaluate(fixture())
    for fault in result.errors:
        assert (fault.source.name, fault.source.line > 0, fault.source.column > 0) == ("50_main_", True, True), fault
    return all_shown(result.values), [fault.kind for fault in result.errors]


@pytest.mark.parametrize(("place", "expression", "expected"), rows(), ids=[row[0] for row in rows()])
def test_row(place: str, expression: str, expected: str) -> None:
    expected = expected.partition(": ")[2] if expected.startswith("row ") else expected
    values, kinds = outcome(expression)
    if expected.startswith("! "):
        assert kinds[:1] == [expected[2:]], (expression, values, kinds)
    else:
        parts = expected.split(" ; ")
        assert values.split(" ; ")[-len(parts) :] == parts, (expression, values, kinds)


def test_there_are_tables() -> None:
    assert len(rows()) == 352
