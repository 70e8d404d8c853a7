"""Functions of which more is known than the types of their values: what is not nil where they are true, and where they are false."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from mom_plugins_policy.checks.known import Knowledge
from mom_plugins_policy.checks.values import NO_KEYS, Keys, Value, constant
from mom_plugins_policy.language.words.types import LIST, NIL, NUMBER, OTHER, STRING


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
    one, other = _constant_last(args)
    if not one.types & other.types and not (one.types & NUMBER and other.types & NUMBER):
        return constant(False)
    if other.constant is None:
        return value
    if other.constant == (None,):
        return replace(value, if_false=one.existing())
    otherwise = one.keys(True) if other.constant == (0,) and not one.types & NIL else NO_KEYS
    return replace(value, if_true=one.existing(), if_false=otherwise, zero=_compared_with_zero(args))


def _not(now: Knowledge, value: Value, args: Sequence[Value]) -> Value:
    (arg,) = args
    if arg.constant is not None:
        return constant(not arg.constant[0])
    return replace(value, if_true=arg.keys(False), if_false=arg.keys(True), zero=arg.zero)


def _ordered(now: Knowledge, value: Value, args: Sequence[Value]) -> Value:
    return replace(value, zero=_compared_with_zero(args))


def _and(now: Knowledge, value: Value, args: Sequence[Value]) -> Value:
    keys = frozenset[Hashable]().union(*(arg.keys(True) for arg in args))
    doubt = next((arg.doubt for arg in args if arg.doubt is not None), None)
    return replace(value, if_true=keys, if_false=args[0].keys(False) if len(args) == 1 else NO_KEYS, doubt=doubt)


def _or(now: Knowledge, value: Value, args: Sequence[Value]) -> Value:
    keys = frozenset[Hashable]().union(*(arg.keys(False) for arg in args))
    return replace(value, if_false=keys, if_true=args[0].keys(True) if len(args) == 1 else NO_KEYS, doubt=args[-1].doubt)


def _constant_last(args: Sequence[Value]) -> Sequence[Value]:
    return args if args[0].constant is None else args[::-1]


def _compared_with_zero(args: Sequence[Value]) -> Keys:
    one, other = _constant_last(args)
    return frozenset((one.identity,)) if other.constant is not None and other.constant[0] == 0 else NO_KEYS


CONDITIONS: Final[Mapping[str, Callable[[Knowledge, Value, Sequence[Value]], Value]]] = {
    "valid": _valid, "null": _null, "eq": _equal, "neq": lambda now, value, args: _not(now, value, [_equal(now, value, args)]),
    "not": _not, "and": _and, "or": _or, "lt": _ordered, "gt": _ordered, "lte": _ordered, "gte": _ordered,
}  # fmt: skip
"""Functions of which more is known than the types of their values."""
