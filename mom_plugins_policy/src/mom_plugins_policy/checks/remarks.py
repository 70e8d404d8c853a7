"""Remarks of the checks, and their rules."""

from __future__ import annotations

from collections.abc import Mapping

from mom_core import Severity
from mom_kvm import PolicyProblem
from mom_plugins_policy.language.syntax import Form

_ERRORS = (
    # Mistakes that refuse the policy.
    "syntax", "bad-literal", "limit",
    # Certain failures during evaluation; some of them refuse the policy as well.
    "malformed", "recursion", "range", "undefined-symbol", "unknown-function", "arity", "not-callable", "empty-form", "type",
    "zero-division", "unknown-variable", "unknown-field",
)  # fmt: skip

_WARNINGS = (
    # Legal, but suspicious.
    "empty-policy", "unknown-control", "unknown-property", "unset-note", "wrong-scope", "control-bounds", "units", "possible-nil",
    "average-of-nothing", "no-short-circuit", "unused-variable", "unused-function", "duplicate-function", "duplicate-variable",
    "shadowed-word", "def-of-builtin",
)  # fmt: skip

RULES: Mapping[str, Severity] = {**dict.fromkeys(_ERRORS, Severity.ERROR), **dict.fromkeys(_WARNINGS, Severity.WARNING)}
"""Severity of each rule; `docs/policy-checks.md` describes the rules. Errors are named after the kind of the error in an evaluation."""


def remark(rule: str, form: Form, message: str, hint: str = "", *, severity: Severity | None = None) -> PolicyProblem:
    """Return a remark on a form, with the severity of its rule unless `severity` is set."""
    return PolicyProblem(*form.source, rule, message, str(severity or RULES[rule]), hint)
