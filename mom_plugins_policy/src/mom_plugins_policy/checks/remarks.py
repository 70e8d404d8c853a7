"""The checks' remarks, and the rules that they come from."""

from __future__ import annotations

from collections.abc import Mapping

from mom_core import Severity
from mom_kvm import PolicyProblem
from mom_plugins_policy.language.syntax import Form

_ERRORS = (
    # What the policy is refused for.
    "syntax", "bad-literal", "limit",
    # What fails for certain, when it is reached; some of it is refused at load, too.
    "malformed", "recursion", "range", "undefined-symbol", "unknown-function", "arity", "not-callable", "empty-form", "type",
    "zero-division", "unknown-variable", "unknown-field",
)  # fmt: skip

_WARNINGS = (
    # What is legal, and hardly meant.
    "empty-policy", "unknown-control", "unknown-property", "unset-note", "wrong-scope", "control-bounds", "units", "possible-nil",
    "average-of-nothing", "no-short-circuit", "unused-variable", "unused-function", "duplicate-function", "duplicate-variable",
    "shadowed-word", "def-of-builtin",
)  # fmt: skip

RULES: Mapping[str, Severity] = {**dict.fromkeys(_ERRORS, Severity.ERROR), **dict.fromkeys(_WARNINGS, Severity.WARNING)}
"""How much each rule matters. Those that are errors have the names of the errors that an evaluation would end with. What each of them finds
is on the page `docs/policy-checks.md`."""


def remark(rule: str, form: Form, message: str, hint: str = "", *, severity: Severity | None = None) -> PolicyProblem:
    """Return a remark on a form, as severe as its rule unless it is said how."""
    return PolicyProblem(*form.source, rule, message, str(severity or RULES[rule]), hint)
