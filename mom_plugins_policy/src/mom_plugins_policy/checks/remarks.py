"""Rules of the checks."""

from __future__ import annotations

from collections.abc import Mapping

from mom_core import Severity
from mom_kvm import PolicyProblem
from mom_plugins_policy.language.syntax import Form

_ERRORS = (
    # mom rejects the policy.
    "syntax", "bad-literal", "limit",
    # The policy is certain to fail during evaluation. For some of these errors, mom rejects it.
    "malformed", "recursion", "range", "undefined-symbol", "unknown-function", "arity", "not-callable", "empty-form", "type",
    "zero-division", "unknown-variable", "unknown-field",
)  # fmt: skip

_WARNINGS = (
    # Legal, but suspicious.
    "empty-policy", "unknown-control", "unknown-property", "wrong-scope", "control-bounds", "units", "possible-nil",
    "average-of-nothing", "no-short-circuit", "unused-variable", "unused-function", "duplicate-variable",
    "def-of-builtin",
)  # fmt: skip

RULES: Mapping[str, Severity] = {**dict.fromkeys(_ERRORS, Severity.ERROR), **dict.fromkeys(_WARNINGS, Severity.WARNING)}
"""Severities keyed by rule, as described in `docs/policy-checks.md`. A rule that predicts an evaluation error has the error's name."""


def remark(rule: str, form: Form, message: str, hint: str = "", *, severity: Severity | None = None) -> PolicyProblem:
    """Return a remark on a form. `severity` overrides the rule's severity."""
    return PolicyProblem(*form.source, rule, message, str(severity or RULES[rule]), hint)
