"""Facts known before an evaluation: values, variables, and which values are not nil."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple, TypeAlias

from mom_core import Scope
from mom_plugins_policy.language.words import ENTITY, FLOAT, FUNCTION, INT, LIST, NIL, NUMBER, OTHER, STRING, UNBOUND

Keys = frozenset[Hashable]
"""Identities of values that are not nil."""

NO_KEYS: Final[Keys] = frozenset()


class EntityKey(NamedTuple):
    """The host, or the guest of a loop. `number` is the loop's nesting depth."""

    scope: Scope
    number: int = 0


class FieldKey(NamedTuple):
    """Field of an entity."""

    entity: EntityKey
    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """Knowledge about a value before the evaluation.

    :param doubt: field (or `nil`) that may make this value nil
    :param if_true: other values that cannot be nil if this value is true
    :param if_false: other values that cannot be nil if this value is false
    :param held: name of the function or method, if this value is one
    """

    types: int
    constant: tuple[object] | None = None
    entity: EntityKey | None = None
    doubt: FieldKey | str | None = None
    held: str = ""
    key: Hashable = None
    if_true: Keys = NO_KEYS
    if_false: Keys = NO_KEYS

    @property
    def identity(self) -> Hashable:
        """Key that all reads of the same value share."""
        return self if self.key is None else self.key

    def can_be(self, truth: bool) -> bool:
        """Return whether the value can be true or, with `truth=False`, false."""
        if self.constant is not None:
            return bool(self.constant[0]) is truth
        return not truth if self.types == NIL else truth or bool(self.types & ~(ENTITY | FUNCTION))

    def keys(self, truth: bool) -> Keys:
        """Return the values that cannot be nil if this value is true or, with `truth=False`, false."""
        return self.if_true | self.existing() if truth else self.if_false

    def existing(self) -> Keys:
        """Return this value's identity, if it may be nil."""
        return frozenset((self.identity,)) if self.types & NIL else NO_KEYS


NIL_VALUE: Final = Value(NIL, constant=(None,), doubt="nil")
NOT_BOUND: Final = Value(UNBOUND)


def constant(value: object) -> Value:
    """Return the knowledge about a constant."""
    if value is None:
        return NIL_VALUE
    types = INT if isinstance(value, int) else FLOAT if isinstance(value, float) else STRING if isinstance(value, str) else LIST
    return Value(types, constant=(value,))


def either(then: Value, otherwise: Value, if_true: Keys = NO_KEYS, if_false: Keys = NO_KEYS) -> Value:
    """Combine the values of two branches. Values in `if_true` are not nil in the first branch, those in `if_false` in the second."""
    if then is otherwise or (then.constant is not None and (then.types, then.constant) == (otherwise.types, otherwise.constant)):
        return then

    def where(truth: bool) -> Keys:
        possible = [item.keys(truth) | own for item, own in ((then, if_true), (otherwise, if_false)) if item.can_be(truth)]
        return frozenset.intersection(*possible) if possible else NO_KEYS

    return Value(
        then.types | otherwise.types,
        entity=then.entity if then.entity == otherwise.entity else None,
        doubt=then.doubt or otherwise.doubt,
        if_true=where(True),
        if_false=where(False),
    )


def bound(value: Value) -> Value:
    """Return a variable's value on the assumption that the variable is bound."""
    return replace(value, types=value.types & ~UNBOUND) if value.types & UNBOUND else value


Key: TypeAlias = "tuple[str, Hashable] | tuple[str, Hashable, str]"
"""(`variable`, scope, name), (`function`, name), or (`not nil`, key of a value)."""


class Knowledge(dict[Key, Any]):
    """Facts at one point of a walk, keyed by `Key`. `begin` and `end` enclose a branch."""

    def __init__(self) -> None:
        super().__init__()
        self.chain = [0]
        self._scopes = 0
        self._frames: list[dict[Key, Any]] = []

    def learn(self, key: Key, fact: Any) -> None:
        """Set a fact."""
        if self._frames:
            self._frames[-1].setdefault(key, self.get(key))
        self[key] = fact

    def begin(self) -> None:
        """Start a branch."""
        self._frames.append({})

    def end(self) -> dict[Key, Any]:
        """End a branch; remove and return its facts."""
        learnt = {}
        for key, before in self._frames.pop().items():
            learnt[key] = self.pop(key)
            if before is not None:
                self[key] = before
        return learnt

    def know(self, keys: Keys) -> None:
        """Record that these values are not nil."""
        for key in keys:
            if ("not nil", key) not in self:
                self.learn(("not nil", key), True)

    def is_known(self, value: Value) -> bool:
        """Return whether a value is not nil here."""
        return ("not nil", value.identity) in self

    def join(self, first: Mapping[Key, Any], second: Mapping[Key, Any], if_true: Keys, if_false: Keys) -> None:
        """Merge the facts that two branches changed."""
        for key in {**first, **second}:
            now = self.get(key)
            then, otherwise = first.get(key, now), second.get(key, now)
            kind = key[0]
            if kind == "not nil":
                if then and otherwise:
                    self.learn(key, True)
            elif kind == "function":
                self.learn(key, tuple(dict.fromkeys((*(then or ()), *(otherwise or ())))))
            else:
                self.learn(key, either(then or NOT_BOUND, otherwise or NOT_BOUND, if_true, if_false))

    @contextlib.contextmanager
    def scoped(self) -> Iterator[None]:
        """Enter a new scope."""
        chain = self.chain
        self._scopes += 1
        self.chain = [*chain, self._scopes]
        try:
            yield
        finally:
            self.chain = chain

    def bind(self, name: str, value: Value) -> Value:
        """Bind a name in the innermost scope, unless it is already bound there; return the name's value."""
        key = ("variable", self.chain[-1], name)
        before = self.get(key)
        if before is None or before.types & UNBOUND:
            value = value if before is None else either(bound(before), value)
            self.learn(key, value)
            return value
        return before  # type: ignore[no-any-return]  # the fact of a variable is a value

    def lookup(self, name: str) -> Value | None:
        """Return a variable's value; None if unbound."""
        result: Value | None = None
        for scope in reversed(self.chain) if name != "nil" else ():
            value = self.get(("variable", scope, name))
            if value is not None:
                result = bound(value) if result is None else either(result, bound(value))
                if not value.types & UNBOUND:
                    return result
        return result

    def narrowed(self, value: Value) -> Value:
        """Return the value. If it cannot be nil here, leave nil out of its types."""
        if value.types & NIL and value.types != NIL and self.is_known(value):
            return replace(value, types=value.types & ~NIL, doubt=None, key=value.identity)
        return value


def _valid(now: Knowledge, value: Value, args: Sequence[Value]) -> Value:
    if any(arg.types == NIL for arg in args):
        return constant(False)
    if not any(arg.types & NIL and not now.is_known(arg) for arg in args):
        return constant(True)
    return replace(value, if_true=frozenset[Hashable]().union(*(arg.existing() for arg in args)))


def _null(now: Knowledge, value: Value, args: Sequence[Value]) -> Value:
    if any(not arg.types & (NIL | STRING | LIST | OTHER) for arg in args):
        return constant(False)
    return replace(value, if_false=args[0].existing() if len(args) == 1 else NO_KEYS)


def _equal(now: Knowledge, value: Value, args: Sequence[Value]) -> Value:
    value_arg, constant_arg = _constant_last(args)
    if not value_arg.types & constant_arg.types and not (value_arg.types & NUMBER and constant_arg.types & NUMBER):
        return constant(False)
    if constant_arg.constant is None:
        return value
    if constant_arg.constant == (None,):
        return replace(value, if_false=value_arg.existing())
    otherwise = value_arg.keys(True) if constant_arg.constant == (0,) and not value_arg.types & NIL else NO_KEYS
    return replace(value, if_true=value_arg.existing(), if_false=otherwise)


def _not(now: Knowledge, value: Value, args: Sequence[Value]) -> Value:
    (arg,) = args
    if arg.constant is not None:
        return constant(not arg.constant[0])
    return replace(value, if_true=arg.keys(False), if_false=arg.keys(True))


def _and(now: Knowledge, value: Value, args: Sequence[Value]) -> Value:
    keys = frozenset[Hashable]().union(*(arg.keys(True) for arg in args))
    doubt = next((arg.doubt for arg in args if arg.doubt is not None), None)
    return replace(value, if_true=keys, if_false=args[0].keys(False) if len(args) == 1 else NO_KEYS, doubt=doubt)


def _or(now: Knowledge, value: Value, args: Sequence[Value]) -> Value:
    keys = frozenset[Hashable]().union(*(arg.keys(False) for arg in args))
    return replace(value, if_false=keys, if_true=args[0].keys(True) if len(args) == 1 else NO_KEYS, doubt=args[-1].doubt)


def _constant_last(args: Sequence[Value]) -> Sequence[Value]:
    return args if args[0].constant is None else args[::-1]


CONDITIONS: Final[Mapping[str, Callable[[Knowledge, Value, Sequence[Value]], Value]]] = {
    "valid": _valid, "null": _null, "eq": _equal, "neq": lambda now, value, args: _not(now, value, [_equal(now, value, args)]),
    "not": _not, "and": _and, "or": _or,
}  # fmt: skip
"""Rules that derive knowledge from functions' results, keyed by function name."""
