"""Rules of the checks; remarks on reserved names, and on declared fields, properties and controls."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Final, Protocol

from mom_core import Declarations, Scope, Severity, Unit, printable
from mom_kvm import PolicyProblem
from mom_plugins_policy.checks.knowledge import EntityKey, FieldKey, Value
from mom_plugins_policy.language.analysis import Program
from mom_plugins_policy.language.errors import Trouble, did_you_mean
from mom_plugins_policy.language.functions import PREDEFINED
from mom_plugins_policy.language.syntax import Form
from mom_plugins_policy.language.values import requested, show
from mom_plugins_policy.language.words import DATA, LIST, NIL, NUMBER, STRING

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


# --- declared names ------------------------------------------------------------------------------------------------------------

_PROPERTIES: Final = {Scope.HOST: ("name", "interval"), Scope.GUEST: ("name", "uuid", "pid")}
_MOST: Final = 10  # lookups of unknown names, which take at most half a second


class Say(Protocol):
    """Receiver of remarks on forms."""

    def __call__(self, rule: str, form: Form, message: str, hint: str = "", *, about: object = None) -> None:
        """Add a remark."""


class DeclaredNames:
    """Declared fields and controls. Without declarations, every name is valid."""

    def __init__(self, declarations: Declarations | None, say: Say) -> None:
        self._everything_goes = declarations is None
        names = declarations or Declarations()
        self._fields, self._controls = names.fields, names.controls
        self._say = say
        self._lookups = 0

    def like(self, name: str, names: Callable[[], Collection[str]]) -> str:
        """Return a hint with the most similar of `names`, or an empty string."""
        self._lookups += 1
        return did_you_mean(name, names()) if self._lookups <= _MOST else ""

    def declares(self, scope: Scope, name: str) -> bool:
        """Return whether policies may read this field."""
        return self._everything_goes or (scope, name) in self._fields

    def value_of(self, field: FieldKey) -> Value:
        """Return the types of a field's value."""
        spec = self._fields.get((field.entity.scope, field.name))
        if spec is None:
            types = DATA
        elif spec.unit in (Unit.TEXT, Unit.LIST):
            types = NIL | (STRING if spec.unit is Unit.TEXT else LIST)
        else:
            types = NIL | NUMBER
        return Value(types, doubt=field, key=field)

    # --- names ---------------------------------------------------------------------------------------------------------------------

    def field(self, form: Form, scope: Scope, name: str, *, attribute: bool) -> None:
        """Remark on a field that the policy reads but no plugin declares."""
        if self.declares(scope, name):
            return
        other = Scope.HOST if scope is Scope.GUEST else Scope.GUEST
        hint = self.like(name, lambda: [field for owner, field in self._fields if owner is scope])
        if (other, name) in self._fields:
            hint = f"there is a {other} field of that name" + (f"; {hint}" if hint else "")
        elif name in _PROPERTIES[scope] and attribute:
            hint = f'it is a property: ({form.name.partition(".")[0]}.Prop "{name}")'
        self._say("unknown-field", form, f"no plugin declares the {scope} field {printable(name, 60)}", hint)

    def method(self, entity: EntityKey | None, method: str, name: str, values: Sequence[Value], places: Sequence[Form]) -> None:
        """Check a method call whose first argument is the name of a field, property or control."""
        place = places[0]
        if method in ("Stat", "StatAvg") and entity is not None:
            self.field(place, entity.scope, name, attribute=False)
        elif method == "Prop" and entity is not None:
            self._property(entity.scope, name, place)
        elif method in ("Control", "GetControl"):
            self._control(entity, name, values, places)

    def average(self, place: Form, name: str) -> None:
        """Remark on the average of a field whose value may be unknown."""
        shown = printable(name, 60)
        message = f"the average of {shown} is 0.0 for a guest without a known value"
        self._say("average-of-nothing", place, message, f"use it inside of (if (valid guest.{shown}) … …)", about=name)

    def _property(self, scope: Scope, name: str, place: Form) -> None:
        if name in _PROPERTIES[scope]:
            return
        if (scope, name) in self._fields:
            self._say("unknown-property", place, f"{name} is a field of the {scope}, not a property", "read it as an attribute")
        elif hint := self.like(name, lambda: _PROPERTIES[scope]):
            self._say("unknown-property", place, f"a {scope} has no property {printable(name, 60)}", hint)

    # --- controls and comparisons ---

    def _control(self, entity: EntityKey | None, name: str, values: Sequence[Value], places: Sequence[Form]) -> None:
        spec = self._controls.get(name)
        if len(values) > 1:
            self._requested(values[1], places[1], takes_text=spec is not None and spec.unit is Unit.TEXT)
        if self._everything_goes:
            return
        if spec is None:
            hint = self.like(name, self._controls.keys)
            self._say("unknown-control", places[0], f"no plugin has the control {printable(name, 60)}", hint)
            return
        if entity is not None and entity.scope is not spec.scope:
            whose = "each guest" if spec.scope is Scope.GUEST else "the host"
            self._say("wrong-scope", places[0], f"{name} is a control of {whose}, not of the {entity.scope}: the request has no effect")
            return
        if len(values) < 2:
            return
        value, place = values[1], places[1]
        number = value.constant[0] if value.constant is not None else None
        if not isinstance(number, int | float) or spec.unit is Unit.TEXT:
            return
        shown = show(number) if isinstance(number, int) else f"{number:g}"
        if spec.choices and number not in spec.choices:
            has = ", ".join(map(str, spec.choices))
            self._say("control-bounds", place, f"{name} accepts only {has}, but the value is {shown}: the request has no effect")
        for bound, beyond, side in ((spec.minimum, operator.lt, "below"), (spec.maximum, operator.gt, "above")):
            if bound is not None and beyond(number, bound) and not spec.choices:
                self._say("control-bounds", place, f"mom never sets {name} {side} {bound:.15g}, but the value is {shown}")

    def _requested(self, value: Value, place: Form, *, takes_text: bool) -> None:
        try:
            if value.constant is not None:
                requested(value.constant[0], takes_text=takes_text)
            elif not value.types & (NIL | NUMBER | STRING):
                self._say("type", place, "a number is required, but this is not a number")
        except Trouble as error:
            self._say(error.kind, place, error.message.rstrip(","))
