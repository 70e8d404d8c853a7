"""Declared fields, properties and controls, with types and bounds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from difflib import get_close_matches
from typing import Final, Protocol

from mom_core import Declarations, Scope, Unit, printable
from mom_plugins_policy.checks.knowledge import EntityKey, FieldKey, Value
from mom_plugins_policy.language.errors import Trouble
from mom_plugins_policy.language.syntax import Form
from mom_plugins_policy.language.values import requested, show
from mom_plugins_policy.language.words.types import DATA, INT, LIST, NIL, NUMBER, STRING

_PROPERTIES: Final = {Scope.HOST: ("name", "interval"), Scope.GUEST: ("name", "uuid", "pid")}
# With these limits, lookups of similar names take at most half a second.
_MOST: Final = 10  # lookups of unknown names
_COMPARED: Final = 400  # names compared per lookup
_LONGEST: Final = 40  # characters of a compared name: longer comparisons are slow

_WHOLE: Final = frozenset({Unit.KIB, Unit.PAGES, Unit.COUNT, Unit.FLAG, Unit.MILLISECONDS, Unit.BYTES})


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
        self._suggested: dict[tuple[str, str], str] = {}

    def like(self, kind: str, name: str, names: Callable[[], Collection[str]]) -> str:
        """Return a hint with the most similar of `names`, or an empty string."""
        key = (kind, name)
        if key not in self._suggested and len(self._suggested) < _MOST and len(name) <= _LONGEST:
            # `names` contains this very name if it is bound elsewhere.
            similar = sorted(item for item in names() if item != name and len(item) <= _LONGEST)[:_COMPARED]
            close = [item for item in similar if item.lower() == name.lower()] or get_close_matches(name, similar, 1)
            self._suggested[key] = f"did you mean {close[0]}?" if close else ""
        return self._suggested.get(key, "")

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
            types = NIL | (INT if spec.unit in _WHOLE else NUMBER)
        return Value(types, doubt=field, key=field)

    # --- names ---------------------------------------------------------------------------------------------------------------------

    def field(self, form: Form, scope: Scope, name: str, *, attribute: bool) -> None:
        """Remark on a field that the policy reads but no plugin declares."""
        if self.declares(scope, name):
            return
        other = Scope.HOST if scope is Scope.GUEST else Scope.GUEST
        hint = self.like(scope, name, lambda: [field for owner, field in self._fields if owner is scope])
        if (other, name) in self._fields:
            hint = f"there is a {other} field of that name" + (f"; {hint}" if hint else "")
        elif name in _PROPERTIES[scope] and attribute:
            hint = f'it is a property: ({form.name.partition(".")[0]}.Prop "{name}")'
        self._say("unknown-field", form, f"no plugin declares the {scope} field {printable(name, 60)}", hint)

    def method(self, entity: EntityKey | None, method: str, name: str, values: Sequence[Value], places: Sequence[Form]) -> None:
        """Check a method call whose first argument is the name of a field, property or control."""
        place = places[0]
        if method in ("Stat", "StatAvg"):
            self._statistic(entity, name, place)
        elif method == "Prop" and entity is not None:
            self._property(entity.scope, name, place)
        elif method in ("Control", "GetControl"):
            self._control(entity, name, values, places)

    def _statistic(self, entity: EntityKey | None, name: str, place: Form) -> None:
        if entity is not None:
            self.field(place, entity.scope, name, attribute=False)
        elif not any(self.declares(scope, name) for scope in Scope):
            hint = self.like("field", name, lambda: [field for _, field in self._fields])
            self._say("unknown-field", place, f"no plugin declares the field {printable(name, 60)}", hint)

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
        elif hint := self.like("property", name, lambda: _PROPERTIES[scope]):
            self._say("unknown-property", place, f"a {scope} has no property {printable(name, 60)}", hint)

    # --- controls and comparisons ---

    def _control(self, entity: EntityKey | None, name: str, values: Sequence[Value], places: Sequence[Form]) -> None:
        spec = self._controls.get(name)
        if len(values) > 1:
            self._requested(values[1], places[1], takes_text=spec is not None and spec.unit is Unit.TEXT)
        if self._everything_goes:
            return
        if spec is None:
            hint = self.like("control", name, self._controls.keys)
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
        elif spec.minimum is not None and number < spec.minimum:
            self._say("control-bounds", place, f"mom never sets {name} below {spec.minimum:.15g}, but the value is {shown}")
        elif spec.maximum is not None and number > spec.maximum:
            self._say("control-bounds", place, f"mom never sets {name} above {spec.maximum:.15g}, but the value is {shown}")

    def _requested(self, value: Value, place: Form, *, takes_text: bool) -> None:
        try:
            if value.constant is not None:
                requested(value.constant[0], takes_text=takes_text)
            elif not value.types & (NIL | NUMBER | STRING):
                self._say("type", place, "a number is required, but this is not a number")
        except Trouble as error:
            self._say(error.kind, place, error.message.rstrip(","))
