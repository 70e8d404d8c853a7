"""Rules of the checks, and remarks on reserved names, independent of control flow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mom_core import Severity
from mom_kvm import PolicyProblem
from mom_plugins_policy.language.analysis import Program
from mom_plugins_policy.language.syntax import Form
from mom_plugins_policy.language.words.functions import PREDEFINED

_ERRORS = (
    # mom rejects the policy.
    "syntax", "bad-literal", "limit",
    # The policy is certain to fail during evaluation. For some of these errors, mom rejects it.
    "malformed", "recursion", "range", "undefined-symbol", "unknown-function", "arity", "not-callable", "empty-form", "type",
    "zero-division", "unknown-variable", "unknown-field",
)  # fmt: skip

_WARNINGS = (
    # Legal, but suspicious.
    "empty-policy", "unknown-control", "unknown-property", "wrong-scope", "control-bounds", "possible-nil",
    "average-of-nothing", "no-short-circuit", "duplicate-variable",
    "def-of-builtin",
)  # fmt: skip

RULES: Mapping[str, Severity] = {**dict.fromkeys(_ERRORS, Severity.ERROR), **dict.fromkeys(_WARNINGS, Severity.WARNING)}
"""Severities keyed by rule, as described in `docs/policy-checks.md`. A rule that predicts an evaluation error has the error's name."""


def remark(rule: str, form: Form, message: str, hint: str = "", *, severity: Severity | None = None) -> PolicyProblem:
    """Return a remark on a form. `severity` overrides the rule's severity."""
    return PolicyProblem(*form.source, rule, message, str(severity or RULES[rule]), hint)


def remarks_on_names(program: Program) -> Iterator[PolicyProblem]:
    """Yield remarks on a program's names."""
    for definition in program.functions():
        form = definition.form.items[1]
        if form.name in PREDEFINED:
            yield remark("def-of-builtin", form, f"{form.name} is a variable of the language, which hides this function")
    for form in program.ineffective:
        yield remark("def-of-builtin", form, f"{form.name} is a word of the language: the definition has no effect")
