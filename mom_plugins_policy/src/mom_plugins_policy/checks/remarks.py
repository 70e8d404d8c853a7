"""The checks' remarks, and the rules that they come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from mom_core import Severity
from mom_plugins_policy.language.syntax import Form
from mom_toolkit import PolicyProblem


class Rule(NamedTuple):
    """A rule: how much it matters, and the mistake that it finds."""

    severity: Severity
    summary: str


RULES: Mapping[str, Rule] = {
    # What the policy is refused for.
    "syntax": Rule(Severity.ERROR, "brackets do not match, or a character begins nothing"),
    "bad-literal": Rule(Severity.ERROR, "an octal number with a digit 8 or 9"),
    "limit": Rule(Severity.ERROR, "the policies are too large"),
    # What fails for certain, when it is reached; some of it is refused at load, too.
    "malformed": Rule(Severity.ERROR, "a form that is not built as it has to be"),
    "recursion": Rule(Severity.ERROR, "brackets nested too deep"),
    "range": Rule(Severity.ERROR, "a number that is too large, or a negative shift"),
    "undefined-symbol": Rule(Severity.ERROR, "a name that is bound nowhere"),
    "unknown-function": Rule(Severity.ERROR, "a function that is defined nowhere"),
    "arity": Rule(Severity.ERROR, "a wrong number of arguments"),
    "not-callable": Rule(Severity.ERROR, "something is called that is no function"),
    "empty-form": Rule(Severity.ERROR, "empty brackets are evaluated"),
    "type": Rule(Severity.ERROR, "operands that can never fit"),
    "zero-division": Rule(Severity.ERROR, "a division by zero"),
    "unknown-variable": Rule(Severity.ERROR, "a variable is set that is bound nowhere"),
    "unknown-field": Rule(Severity.ERROR, "a field that no plugin declares"),
    # What is legal, and hardly meant.
    "empty-policy": Rule(Severity.WARNING, "a policy in which nothing is"),
    "unknown-control": Rule(Severity.WARNING, "a control that no plugin declares"),
    "unknown-property": Rule(Severity.WARNING, "a property that no host or guest has"),
    "unset-note": Rule(Severity.WARNING, "a note is read that nothing sets"),
    "wrong-scope": Rule(Severity.WARNING, "a control of guests is set on the host, or the other way round"),
    "control-bounds": Rule(Severity.WARNING, "a control is set to a constant that is out of its bounds"),
    "units": Rule(Severity.WARNING, "numbers of different units are added, compared or asked for"),
    "possible-nil": Rule(Severity.WARNING, "a value that may be unknown is computed with"),
    "average-of-nothing": Rule(Severity.WARNING, "an average that is 0.0 where the field is unknown"),
    "no-short-circuit": Rule(Severity.WARNING, "and, or: a later argument relies on an earlier one, or has effects"),
    "unused-variable": Rule(Severity.WARNING, "a variable that nothing reads"),
    "unused-function": Rule(Severity.WARNING, "a function that nothing calls"),
    "duplicate-function": Rule(Severity.WARNING, "one policy defines a function twice"),
    "duplicate-variable": Rule(Severity.WARNING, "a name is bound twice in one scope; the first value stays"),
    "shadowed-word": Rule(Severity.WARNING, "a variable with the name of a word of the language"),
    "def-of-builtin": Rule(Severity.WARNING, "a definition of a word of the language does nothing"),
}
"""All rules by name. Those that are errors have the names of the errors that an evaluation would end with."""


def remark(rule: str, form: Form, message: str, hint: str = "", *, severity: Severity | None = None) -> PolicyProblem:
    """A remark on a form, as severe as its rule unless it is said how."""
    return PolicyProblem(*form.source, rule, message, str(severity or RULES[rule].severity), hint)
