"""What is known of a value before anything is evaluated: types, unit, and which fields are known where it is true, or is not nil."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, NamedTuple

from mom_core import Scope
from mom_plugins_policy.language.words.types import ENTITY, FLOAT, FUNCTION, INT, LIST, NIL, STRING, UNBOUND
from mom_plugins_policy.language.words.units import ANY as ANY_UNIT
from mom_plugins_policy.language.words.units import UNKNOWN, Dimension, joined

_DEEPEST: Final = 6  # choices of choices that are looked into

Keys = frozenset[Hashable]
"""Values that are not nil."""

NO_KEYS: Final[Keys] = frozenset()


class EntityKey(NamedTuple):
    """The host, or the guest of a loop, by how many loops are around it."""

    scope: Scope
    number: int = 0


class FieldKey(NamedTuple):
    """A field of an entity."""

    entity: EntityKey
    name: str


class Choice(NamedTuple):
    """One of two values, by a condition: with what is not nil where it is true, and where it is false."""

    then: Value
    otherwise: Value
    if_true: Keys
    if_false: Keys


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """One value.

    `constant` holds it where it is known. `field` is the field that it is, or the mean of; `doubt` the field, or `nil`, for which it may be
    nil as far as can be seen here. `if_true` and `if_false`: what is not nil then. `zero`: what it compares with 0. `held`: the function
    or method that it is.
    """

    types: int
    unit: Dimension = UNKNOWN
    constant: tuple[object] | None = None
    entity: EntityKey | None = None
    field: FieldKey | None = None
    doubt: FieldKey | str | None = None
    held: str = ""
    key: Hashable = None
    choice: Choice | None = None
    if_true: Keys = NO_KEYS
    if_false: Keys = NO_KEYS
    zero: Keys = NO_KEYS

    @property
    def identity(self) -> Hashable:
        """The same for all that is known to be the same value."""
        return self if self.key is None else self.key

    def can_be(self, truth: bool) -> bool:
        """Whether it can be true, or false."""
        if self.constant is not None:
            return bool(self.constant[0]) is truth
        return not truth if self.types == NIL else truth or bool(self.types & ~(ENTITY | FUNCTION))

    def keys(self, truth: bool) -> Keys:
        """What is not nil where it is true, or false."""

        def own(value: Value) -> Keys:
            return value.if_true | _itself(value) if truth else value.if_false

        return own(self) | _where(self, lambda value: value.can_be(truth), own)

    def existing(self) -> Keys:
        """What is not nil where this is not."""
        return _itself(self) | _where(self, lambda value: value.types != NIL, _itself)

    def compared(self, other: object, *, equal: bool) -> Keys:
        """What is not nil where it equals a constant, or does not."""

        def possible(value: Value) -> bool:
            return value.constant is None or (value.constant[0] == other) is equal

        known = equal is (other is not None)
        return _where(self, possible, _itself if known else lambda value: NO_KEYS) | (_itself(self) if known else NO_KEYS)


def _itself(value: Value) -> Keys:
    return frozenset((value.identity,)) if value.types & NIL else NO_KEYS


def _where(value: Value, possible: Callable[[Value], bool], own: Callable[[Value], Keys], depth: int = 0) -> Keys:
    """What is not nil where a value is one of those that are possible, by the choices that made it."""
    if value.choice is None or depth > _DEEPEST:
        return own(value)
    then, otherwise, if_true, if_false = value.choice
    chosen = if_true | _where(then, possible, own, depth + 1) if possible(then) else None
    other = if_false | _where(otherwise, possible, own, depth + 1) if possible(otherwise) else None
    if chosen is None or other is None:
        return chosen or other or NO_KEYS
    return chosen & other


NIL_VALUE: Final = Value(NIL, ANY_UNIT, (None,), doubt="nil")
NOT_BOUND: Final = Value(UNBOUND)


def constant(value: object) -> Value:
    """A value that is known."""
    if value is None:
        return NIL_VALUE
    types = INT if isinstance(value, int) else FLOAT if isinstance(value, float) else STRING if isinstance(value, str) else LIST
    return Value(types, ANY_UNIT, (value,))


def either(then: Value, otherwise: Value, if_true: Keys = NO_KEYS, if_false: Keys = NO_KEYS) -> Value:
    """One of two values."""
    if then is otherwise:
        return then
    if (
        then.constant is not None
        and otherwise.constant is not None
        and then.types == otherwise.types
        and then.constant == otherwise.constant
    ):
        return then
    types = then.types | otherwise.types
    entity = then.entity if then.entity == otherwise.entity else None
    return Value(
        types,
        joined(then.unit, otherwise.unit),
        entity=entity,
        doubt=then.doubt or otherwise.doubt,
        choice=Choice(then, otherwise, if_true, if_false),
    )


def bound(value: Value) -> Value:
    """The value of a variable that may be unbound, where it is not."""
    while value.types & UNBOUND and value.choice is not None:
        then, otherwise, _, _ = value.choice
        if then.types == UNBOUND:
            value = otherwise
        elif otherwise.types == UNBOUND:
            value = then
        else:
            return either(bound(then), bound(otherwise))
    return value
