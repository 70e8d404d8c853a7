"""Values as far as they are known before anything is evaluated: types, unit, and which fields are known where it is true, or is not nil."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from mom_core import Scope
from mom_plugins_policy.language.words.types import ENTITY, FLOAT, FUNCTION, INT, LIST, NIL, STRING, UNBOUND
from mom_plugins_policy.language.words.units import ANY as ANY_UNIT
from mom_plugins_policy.language.words.units import UNKNOWN, Dimension, joined

Keys = frozenset[Hashable]
"""Values that are not nil."""

NO_KEYS: Final[Keys] = frozenset()


class EntityKey(NamedTuple):
    """Host, or the guest of a loop, by how many loops are around it."""

    scope: Scope
    number: int = 0


class FieldKey(NamedTuple):
    """Field of an entity."""

    entity: EntityKey
    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """One value.

    `constant` holds it where it is known. `doubt` is the field, or `nil`, for which it may be nil as far as can be seen here. `if_true`,
    `if_false` and `if_there`: the other values that are not nil where this one is true, false, and not nil. `zero`: what it compares with
    0. `held`: the function or method that it is.
    """

    types: int
    unit: Dimension = UNKNOWN
    constant: tuple[object] | None = None
    entity: EntityKey | None = None
    doubt: FieldKey | str | None = None
    held: str = ""
    key: Hashable = None
    if_true: Keys = NO_KEYS
    if_false: Keys = NO_KEYS
    if_there: Keys = NO_KEYS
    zero: Keys = NO_KEYS

    @property
    def identity(self) -> Hashable:
        """The same for all that is known to be the same value."""
        return self if self.key is None else self.key

    def can_be(self, truth: bool) -> bool:
        """Return True if it can be true, or false."""
        if self.constant is not None:
            return bool(self.constant[0]) is truth
        return not truth if self.types == NIL else truth or bool(self.types & ~(ENTITY | FUNCTION))

    def keys(self, truth: bool) -> Keys:
        """Return the values that are not nil where it is true, or false."""
        return self.if_true | self.existing() if truth else self.if_false

    def existing(self) -> Keys:
        """Return the values that are not nil where this one is not."""
        return self.if_there | frozenset((self.identity,)) if self.types & NIL else self.if_there


NIL_VALUE: Final = Value(NIL, ANY_UNIT, (None,), doubt="nil")
NOT_BOUND: Final = Value(UNBOUND)


def constant(value: object) -> Value:
    """Return a value that is known."""
    if value is None:
        return NIL_VALUE
    types = INT if isinstance(value, int) else FLOAT if isinstance(value, float) else STRING if isinstance(value, str) else LIST
    return Value(types, ANY_UNIT, (value,))


def either(then: Value, otherwise: Value, if_true: Keys = NO_KEYS, if_false: Keys = NO_KEYS) -> Value:
    """One of two values, by a condition: with the values that are not nil where it is true, and where it is false."""
    if then is otherwise or (then.constant is not None and (then.types, then.constant) == (otherwise.types, otherwise.constant)):
        return then

    def of(first: Keys | None, second: Keys | None) -> Keys:
        """Return the keys of the two values; None of one that it cannot be."""
        chosen, other = (None if one is None else one | own for one, own in ((first, if_true), (second, if_false)))
        return chosen or other or NO_KEYS if chosen is None or other is None else chosen & other

    def where(truth: bool) -> Keys:
        return of(*(item.keys(truth) if item.can_be(truth) else None for item in (then, otherwise)))

    return Value(
        then.types | otherwise.types,
        joined(then.unit, otherwise.unit),
        entity=then.entity if then.entity == otherwise.entity else None,
        doubt=then.doubt or otherwise.doubt,
        if_true=where(True),
        if_false=where(False),
        if_there=of(*(item.existing() if item.types != NIL else None for item in (then, otherwise))),
    )


def bound(value: Value) -> Value:
    """Return the value of a variable that may be unbound, where it is not."""
    return replace(value, types=value.types & ~UNBOUND) if value.types & UNBOUND else value
