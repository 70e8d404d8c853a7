"""Remarks on unused and reserved names, independent of control flow."""

from __future__ import annotations

from collections.abc import Iterator

from mom_kvm import PolicyProblem
from mom_plugins_policy.checks.remarks import remark
from mom_plugins_policy.language.analysis import Program
from mom_plugins_policy.language.words.functions import PREDEFINED


def remarks_on_names(program: Program) -> Iterator[PolicyProblem]:
    """Yield remarks on a program's names."""
    yield from _unused(program)
    for definition in program.functions():
        form = definition.form.items[1]
        if form.name in PREDEFINED:
            yield remark("def-of-builtin", form, f"{form.name} is a variable of the language, which hides this function")
    for form in program.ineffective:
        yield remark("def-of-builtin", form, f"{form.name} is a word of the language: the definition has no effect")


def _unused(program: Program) -> Iterator[PolicyProblem]:
    libraries, hint = program.libraries(), "delete it, or begin its name with _"
    for (form, value), top in program.bindings:
        kept = value is None or form.name in program.read or form.name.startswith("_") or (top and form.text.name in libraries)
        if not kept:
            yield remark("unused-variable", form, f"nothing reads the variable {form.name}", hint)
    for definition in program.functions():
        form = definition.form.items[1]
        kept = form.name in program.called or form.name.startswith("_") or (definition.unconditional and form.text.name in libraries)
        if not kept:
            yield remark("unused-function", form, f"nothing calls the function {form.name}", hint)
