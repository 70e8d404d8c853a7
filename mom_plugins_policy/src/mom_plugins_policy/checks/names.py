"""Remarks on names, independent of control flow: unused, bound twice, or reserved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from mom_kvm import PolicyProblem
from mom_plugins_policy.checks.remarks import remark
from mom_plugins_policy.language.analysis import Program
from mom_plugins_policy.language.syntax import Form, FormKind
from mom_plugins_policy.language.words.forms import WORDS, Roles
from mom_plugins_policy.language.words.functions import PREDEFINED

_TAKEN = frozenset(name for name, word in WORDS.items() if not word.extension)


@dataclass(slots=True)
class Names:
    """Names that policies bind, read and call."""

    read: set[str] = field(default_factory=set)
    called: set[str] = field(default_factory=set)
    variables: list[tuple[Form, bool]] = field(default_factory=list)
    """Variables of `defvar` and `let`, each with True if at top level."""
    others: list[Form] = field(default_factory=list)
    """Variables of `with`, and parameters of functions."""
    functions: list[tuple[Form, bool]] = field(default_factory=list)
    """Functions of `def`, each with True if at top level."""
    tested: dict[str, set[str]] = field(default_factory=dict)
    libraries: set[str] = field(default_factory=set)
    """Policies that only bind and define names."""
    noted: set[str] = field(default_factory=set)
    notes_known: bool = True
    """False if a policy computes the name of a note."""


def survey(program: Program) -> Names:
    """Collect a program's names."""
    names = Names()
    doing: set[str] = set()
    for form in program.forms:
        name = form.text.name
        roles = program.roles.get(form.index)
        if roles is None or not (roles.defined or roles.assigned or (roles.bindings and not roles.scope)):
            doing.add(name)
        todo = [(form, True)]
        while todo:
            item, top = todo.pop()
            todo.extend((entry, False) for entry in _looked_at(names, item, program.roles.get(item.index), top))
    names.libraries = {form.text.name for form in program.forms} - doing
    return names


def _looked_at(names: Names, form: Form, roles: Roles | None, top: bool) -> Iterator[Form]:
    """Yield those parts of a form that are evaluated."""
    if form.kind is FormKind.NAME:
        names.read.add(form.name.partition(".")[0])
        return
    if form.kind is not FormKind.LIST or not form.items:
        yield from form.items
        return
    head, *arguments = form.items
    if head.kind is not FormKind.NAME:
        yield from form.items
        return
    names.called.add(head.name)
    names.read.add(head.name.partition(".")[0])
    if head.name.endswith(".SetVar") and arguments:
        name = arguments[0].value
        names.notes_known = names.notes_known and arguments[0].kind is FormKind.LITERAL and isinstance(name, str)
        names.noted.add(str(name))
    if roles is not None:
        _bound(names, roles, top)
        yield from roles.parts
        return
    if head.name in ("valid", "null"):
        for argument in arguments:
            if argument.kind is FormKind.NAME and argument.name.startswith("Host."):
                names.tested.setdefault(form.text.name, set()).add(argument.name[5:])
    yield from arguments


def _bound(names: Names, roles: Roles, top: bool) -> None:
    if roles.defined is not None:
        names.functions.append((roles.defined, top))
    valued = [name for name, value in roles.bindings if value is not None]
    names.variables.extend((name, top and not roles.scope) for name in valued)
    names.others.extend(name for name, value in roles.bindings if value is None)


def remarks_on_names(names: Names) -> Iterator[PolicyProblem]:
    """Yield remarks on names."""
    for form, top in names.variables:
        unread = form.name not in names.read and not form.name.startswith("_")
        if unread and not (top and form.text.name in names.libraries):
            yield remark("unused-variable", form, f"nothing reads the variable {form.name}", "delete it, or begin its name with _")
    for form, top in names.functions:
        if form.name in _TAKEN or form.name in names.called or form.name.startswith("_"):
            continue
        if not (top and form.text.name in names.libraries):
            yield remark("unused-function", form, f"nothing calls the function {form.name}", "delete it, or begin its name with _")
    first: dict[tuple[str, str], Form] = {}
    for form, top in names.functions:
        earlier = first.setdefault((form.text.name, form.name), form) if top else form
        if earlier is not form:
            line = earlier.source.line
            yield remark(
                "duplicate-function", form, f"{form.name} is already defined in line {line}; from here on, this definition is used"
            )
    for form in [*(form for form, _ in names.variables), *names.others]:
        if form.name in _TAKEN or form.name in PREDEFINED:
            yield remark("shadowed-word", form, f"{form.name} is a word of the language", "give the variable another name")
    for form, _ in names.functions:
        if form.name in _TAKEN:
            yield remark("def-of-builtin", form, f"{form.name} is a word of the language, which cannot be redefined: this has no effect")
        elif form.name in PREDEFINED:
            yield remark("def-of-builtin", form, f"{form.name} is a variable of the language, which hides this function")
