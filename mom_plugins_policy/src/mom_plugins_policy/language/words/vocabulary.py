"""The type, unit and range of a field, as they are known to the checks before it is read."""

from __future__ import annotations

from dataclasses import dataclass

from mom_core import ControlSpec, Declarations, FieldSpec, Scope, Unit

NIL, INT, FLOAT, INFINITE, NAN, STRING, LIST, ENTITY, FUNCTION, OTHER, UNBOUND = (1 << bit for bit in range(11))
"""The types of values, as bits of a mask. INT is integers and booleans, FLOAT finite floats; UNBOUND is a variable without a value."""

FINITE = INT | FLOAT
NUMBER = FINITE | INFINITE | NAN
DATA = NIL | NUMBER | STRING | LIST | OTHER
"""What a plugin may put into a field or property."""
ANY = DATA | ENTITY | FUNCTION

LARGEST = 1 << 40
"""No field is beyond this: KiB make a zebibyte of it, and arithmetic with it is far from the limits of floats."""

_WHOLE = frozenset({Unit.KIB, Unit.PAGES, Unit.COUNT, Unit.FLAG, Unit.MILLISECONDS, Unit.BYTES})
_SIGNED = frozenset({Unit.BYTES})  # a profit, such as KSM's, may be a loss


@dataclass(frozen=True, slots=True)
class Shape:
    """What values a field can have: a mask of types, and the range of numbers (None: unbounded)."""

    types: int
    low: int | None
    high: int | None


_ANYTHING = Shape(DATA, None, None)


class Vocabulary:
    """The declared fields and controls. Without declarations nothing is known, and every name is good."""

    def __init__(self, declarations: Declarations | None) -> None:
        self.declarations = declarations

    def declares(self, scope: Scope, name: str) -> bool:
        """Whether a field can be read."""
        return self.declarations is None or (scope, name) in self.declarations.fields

    def field(self, scope: Scope, name: str) -> FieldSpec | None:
        """The declaration of a field, if there is one."""
        return None if self.declarations is None else self.declarations.fields.get((scope, name))

    def control(self, name: str) -> ControlSpec | None:
        """The declaration of a control, if there is one."""
        return None if self.declarations is None else self.declarations.controls.get(name)

    def shape(self, scope: Scope, name: str) -> Shape:
        """What values a field can have."""
        spec = self.field(scope, name)
        if spec is None:
            return _ANYTHING
        if spec.unit is Unit.TEXT:
            return Shape(NIL | STRING, None, None)
        if spec.unit is Unit.LIST:
            return Shape(NIL | LIST, None, None)
        types = NIL | INT if spec.unit in _WHOLE else NIL | FINITE
        return Shape(types, -LARGEST if spec.unit in _SIGNED else 0, LARGEST)
