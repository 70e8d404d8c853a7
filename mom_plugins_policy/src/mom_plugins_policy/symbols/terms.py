"""Terms: what a form's value is made of. Equal terms are one object, so that what is known about a value is known wherever it is used.

A term stands for one value of one evaluation. Its `types` and its range (`low`, `high`: of its numbers that are not NaN) hold in every
evaluation in which the term is computed without an error.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import TypeAlias

from mom_core import Scope
from mom_plugins_policy.symbols.vocabulary import (
    ANY,
    DATA,
    ENTITY,
    FINITE,
    FLOAT,
    FUNCTION,
    INFINITE,
    INT,
    LIST,
    NAN,
    NIL,
    NUMBER,
    OTHER,
    STRING,
    UNBOUND,
    Vocabulary,
)

Bound: TypeAlias = "Fraction | None"
"""One end of a range; None: unbounded."""

Constant: TypeAlias = "None | bool | int | float | str"

ARITHMETIC = frozenset({"add", "sub", "mul", "div"})
COMPARISONS = frozenset({"lt", "lte", "eq"})
_LARGEST_FLOAT = Fraction(1.7976931348623157e308)
_ZERO = Fraction(0)
_ONE = Fraction(1)
_LARGE = 4096  # bits of an integer, characters of a string
_LARGEST_BOUND = 2 * _LARGE  # bits of a bound: products of products double them each time
_FINEST = Fraction(1, 1 << _LARGE)  # what a bound that has more is rounded to
_DIGITS = re.compile(r"\s*[+-]?[0-9]{1,1000}\s*", re.ASCII)


class Term:
    """One term: `op` says how `value` (what is not a term) and `args` make its value. Made by `Terms` only."""

    __slots__ = ("args", "high", "low", "number", "op", "types", "value")

    def __init__(self, number: int, op: str, args: tuple[Term, ...], value: object, types: int, low: Bound, high: Bound) -> None:
        self.number = number
        self.op = op
        self.args = args
        self.value = value
        self.types = types
        self.low = low
        self.high = high

    @property
    def is_constant(self) -> bool:
        """Whether the value is known: it is `value`."""
        return self.op == "const"

    def __repr__(self) -> str:
        return self._shown(4)

    def _shown(self, depth: int) -> str:
        if self.op == "const":
            return repr(self.value)
        if depth == 0:
            return "…"
        value = [] if self.value is None else [str(self.value)]
        return f"({' '.join([self.op, *value, *(arg._shown(depth - 1) for arg in self.args)])})"


class CertainlyWrong(Exception):
    """An operation that cannot succeed on any values of these types; `kind` is the language's word for the error."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


def _rounded(bound: Bound, outwards: Callable[[Fraction], int]) -> Bound:
    """A bound that can be computed with: one of too many bits is moved outwards to one of fewer."""
    if bound is None or bound.numerator.bit_length() + bound.denominator.bit_length() <= _LARGEST_BOUND:
        return bound
    rounded = outwards(bound / _FINEST) * _FINEST
    return rounded if rounded.numerator.bit_length() <= _LARGEST_BOUND else None


class Terms:
    """Makes terms, and simplifies what can be computed now.

    :param functions: whether a value that nothing is known about may be a function
    """

    def __init__(self, vocabulary: Vocabulary, *, functions: bool = True) -> None:
        self.vocabulary = vocabulary
        self.unknown_types = ANY if functions else ANY & ~FUNCTION
        self._made: dict[tuple[object, ...], Term] = {}
        self._asked_for: dict[Term, Term] = {}
        self._fresh = 0
        self.nil = self.const(None)
        self.true = self.const(True)
        self.false = self.const(False)
        self.unbound = self._make("unbound", (), None, UNBOUND)
        self.host = self._make("host", (), None, ENTITY)
        self.guests = self._make("guests", (), None, OTHER)
        self.callables = {name: self._make("function", (), name, FUNCTION) for name in ("abs", "debug")}

    def _make(self, op: str, args: tuple[Term, ...], value: object, types: int, low: Bound = None, high: Bound = None) -> Term:
        key = (op, value.__class__, repr(value) if isinstance(value, float) else value, *(arg.number for arg in args))
        term = self._made.get(key)
        if term is None:
            low, high = _rounded(low, math.floor), _rounded(high, math.ceil)
            term = self._made[key] = Term(len(self._made), op, args, value, types, low, high)
        return term

    def all(self) -> Iterator[Term]:
        """All terms that were made."""
        return iter(self._made.values())

    # --- what is given -------------------------------------------------------------------------------------------------------------

    def const(self, value: Constant) -> Term:
        """A known value."""
        if value is None:
            return self._make("const", (), None, NIL)
        if isinstance(value, str):
            return self._make("const", (), value, STRING)
        if isinstance(value, float) and not math.isfinite(value):
            return self._make("const", (), value, NAN if math.isnan(value) else INFINITE)
        exact = Fraction(value)
        return self._make("const", (), value, FLOAT if isinstance(value, float) else INT, exact, exact)

    def guest(self, number: int) -> Term:
        """A guest: 0 is the one that is looked at, the others are any others."""
        return self._make("guest", (), number, ENTITY)

    def fresh(self, why: str, types: int | None = None, low: Bound = None, high: Bound = None) -> Term:
        """A value about which no more is known."""
        self._fresh += 1
        return self._make("fresh", (), (self._fresh, why), self.unknown_types if types is None else types & ~self._not_now, low, high)

    @property
    def _not_now(self) -> int:
        return ANY & ~self.unknown_types

    def flag(self, why: str) -> Term:
        """A choice between two possibilities about which no more is known."""
        return self.fresh(why, INT, _ZERO, _ONE)

    def named(self, why: str, owner: Term, name: object, types: int = DATA) -> Term:
        """A value about which no more is known than that it is always the same for this owner and name."""
        return self._make(why, (owner,), name, types)

    def field(self, entity: Term, name: str) -> Term:
        """The newest value of a field."""
        shape = self.vocabulary.shape(scope_of(entity), name)
        return self._make("field", (entity,), name, shape.types, _exactly(shape.low), _exactly(shape.high))

    def average(self, entity: Term, name: str) -> Term:
        """The mean of a field over the samples that are kept; 0.0 if there is no value."""
        shape = self.vocabulary.shape(scope_of(entity), name)
        if not shape.types & NUMBER:
            return self.const(0.0)  # of texts there is a mean only if none is known
        if shape.low is None or shape.high is None:
            return self._make("average", (entity,), name, NUMBER & ~INT)
        rounding = 2 if shape.types & FLOAT else 1  # a sum of floats is not exact
        return self._make(
            "average", (entity,), name, FLOAT, Fraction(min(shape.low * rounding, 0)), Fraction(max(shape.high * rounding, 0))
        )

    def method(self, entity: Term, name: str) -> Term:
        """A method of an entity, as a value."""
        return self._make("method", (entity,), name, FUNCTION)

    def definition(self, value: object) -> Term:
        """A function as the table of functions holds it."""
        return self._make("definition", (), value, OTHER)

    def request(self, request: object, value: Term) -> Term:
        """A value as it is asked for in one place."""
        return self._make("request", (value,), request, value.types, value.low, value.high)

    def asked_for(self, term: Term) -> Term:
        """A value that was asked for, wherever that was."""
        if term.op == "request":
            return term.args[0]
        if term.op != "ite":
            return term
        found = self._asked_for.get(term)
        if found is None:
            condition, then, otherwise = term.args
            found = self._asked_for[term] = self.ite(condition, self.asked_for(then), self.asked_for(otherwise))
        return found

    def stand_in(self, product: Term) -> Term:
        """What a product is before it is rounded: not a value of the language, but a number to reason with."""
        return self._make("stand-in", (product,), None, FLOAT)

    # --- choices -------------------------------------------------------------------------------------------------------------------

    def ite(self, condition: Term, then: Term, otherwise: Term) -> Term:
        """One of two values, by the truth of a condition."""
        truth = truth_of(condition)
        if truth is not None:
            return then if truth else otherwise
        if condition.op == "not":
            condition, then, otherwise = condition.args[0], otherwise, then
        if then.op == "ite" and then.args[0] is condition:
            then = then.args[1]
        if otherwise.op == "ite" and otherwise.args[0] is condition:
            otherwise = otherwise.args[2]
        if then is otherwise:
            return then
        types = then.types | otherwise.types
        low, high = _hull(then, otherwise)
        return self._make("ite", (condition, then, otherwise), None, types, low, high)

    def both(self, conditions: Sequence[tuple[Term, bool]]) -> Term:
        """Whether all of these conditions have these truths."""
        result = self.true
        for condition, truth in reversed(conditions):
            result = self.ite(condition, result, self.false) if truth else self.ite(condition, self.false, result)
        return result

    def is_bound(self, term: Term) -> Term:
        """Whether a variable has a value."""
        return self._leaves(term, lambda leaf: self.false if leaf.op == "unbound" else self.true)

    def replaced(self, term: Term, instead: Term) -> Term:
        """The value of a variable, or `instead` where it has none."""
        return self._leaves(term, lambda leaf: instead if leaf.op == "unbound" else leaf)

    def assigned(self, term: Term, value: Term) -> Term:
        """A new value of a variable where it has one."""
        return self._leaves(term, lambda leaf: leaf if leaf.op == "unbound" else value)

    def _leaves(self, term: Term, change: Callable[[Term], Term]) -> Term:
        if not term.types & UNBOUND or term.op != "ite":
            return change(term)
        condition, then, otherwise = term.args
        return self.ite(condition, self._leaves(then, change), self._leaves(otherwise, change))

    # --- operations ----------------------------------------------------------------------------------------------------------------

    def operation(self, name: str, args: Sequence[Term]) -> Term:
        """The value of a builtin. Raises `CertainlyWrong` where no values of these types make it succeed."""
        found = self._rewritten(name, args)
        if found is not None:
            return found
        if all(arg.is_constant for arg in args):
            return self._computed(name, [arg.value for arg in args])
        if name in ("lt", "lte"):
            return self._ordered(name, args[0], args[1])
        if name == "eq":
            return self._equal(args[0], args[1])
        if name in ("shl", "shr"):
            if not (args[0].types & INT and args[1].types & INT):
                raise _wrong_types(name)
            return self._make(name, tuple(args), None, INT)
        return self._arithmetic(name, args[0], args[1])

    def _rewritten(self, name: str, args: Sequence[Term]) -> Term | None:
        """An operation by others."""
        result: Term | None = None
        if name in ("gt", "gte"):
            result = self.operation("lt" if name == "gt" else "lte", (args[1], args[0]))
        elif name == "neq":
            result = self.negation(self.operation("eq", args))
        elif name in ("and", "or"):
            result = args[-1]
            for arg in reversed(args[:-1]):
                result = self.ite(arg, result, arg) if name == "and" else self.ite(arg, arg, result)
        elif name == "not":
            result = self.negation(args[0])
        elif name == "valid":
            result = self.valid(args)
        elif name == "null":
            result = self.null(args)
        elif name in ("min", "max"):
            result = args[0]
            for arg in args[1:]:
                result = self._extreme(name, result, arg)
        return result

    def negation(self, term: Term) -> Term:
        """`not`."""
        truth = truth_of(term)
        if truth is not None:
            return self.const(not truth)
        if term.op == "not" and is_boolean(term.args[0]):
            return term.args[0]
        return self._make("not", (term,), None, INT, _ZERO, _ONE)

    def valid(self, args: Sequence[Term]) -> Term:
        """Whether no argument is nil."""
        doubtful: list[Term] = []
        for arg in args:
            if not arg.types & ~NIL:
                return self.false
            if arg.types & NIL and arg not in doubtful:
                doubtful.append(arg)
        if not doubtful:
            return self.true
        return self._make("valid", tuple(sorted(doubtful, key=_number)), None, INT, _ZERO, _ONE)

    def null(self, args: Sequence[Term]) -> Term:
        """Whether every argument is nil or empty."""
        doubtful: list[Term] = []
        for arg in args:
            if arg.is_constant:
                if arg.value is not None and arg.value != "":
                    return self.false
            elif not arg.types & (NIL | STRING | LIST | OTHER):
                return self.false
            else:
                doubtful.append(arg)
        if not doubtful:
            return self.true
        return self._make("null", tuple(sorted(set(doubtful), key=_number)), None, INT, _ZERO, _ONE)

    def absolute(self, term: Term) -> Term:
        """`abs`."""
        if term.is_constant:
            return self._computed("abs", [term.value])
        if not term.types & NUMBER:
            raise _wrong_types("abs")
        low: Bound = _ZERO
        high: Bound = None
        if term.low is not None and term.high is not None:
            high = max(abs(term.low), abs(term.high))
            if term.low > 0 or term.high < 0:
                low = min(abs(term.low), abs(term.high))
        return self._make("abs", (term,), None, term.types & NUMBER, low, high)

    def requested(self, term: Term) -> Term:
        """What `Control` makes of a value: a finite number, or nil. Raises `CertainlyWrong` for anything else."""
        if not term.types & ~(FINITE | NIL):
            return term
        if term.is_constant:
            if isinstance(term.value, float):
                raise CertainlyWrong("range", f"{term.value} cannot be asked for")
            if isinstance(term.value, str) and _DIGITS.fullmatch(term.value):
                return self.const(int(term.value))
        types = term.types & (FINITE | NIL) | (INT if term.types & STRING else 0)
        if not types or term.is_constant:
            raise CertainlyWrong("type", "a number is asked for, and this is none")
        low, high = (None, None) if term.types & STRING else (term.low, term.high)
        return self._make("requested", (term,), None, types, low, high)

    def _computed(self, name: str, values: Sequence[object]) -> Term:
        """An operation on known values. What would be large is not computed here."""
        first, *rest = values
        if name == "shl" and rest and isinstance(rest[0], int) and rest[0] > _LARGE:
            return self.fresh("a large integer", INT)
        if name == "mul" and any(isinstance(value, str) for value in values) and any(isinstance(n, int) and n > 99 for n in values):
            return self.fresh("a long string", STRING)
        try:
            found = _PYTHON[name](first, *rest)
        except TypeError:
            raise _wrong_types(name) from None
        except ZeroDivisionError:
            raise CertainlyWrong("zero-division", "division by zero") from None
        except (OverflowError, ValueError):
            raise CertainlyWrong("range", "a number is out of range") from None
        if isinstance(found, int) and found.bit_length() > _LARGE:
            return self.fresh("a large integer", INT)
        if isinstance(found, str):
            return self.const(found) if len(found) <= _LARGE else self.fresh("a long string", STRING)
        return self.const(found)

    def _ordered(self, name: str, left: Term, right: Term) -> Term:
        if not _comparable(left, right):
            raise _wrong_types(name)
        return self._make(name, (left, right), None, INT, _ZERO, _ONE)

    def _equal(self, left: Term, right: Term) -> Term:
        if left is right and not left.types & (NAN | LIST | FUNCTION | OTHER):
            return self.true
        if left.number > right.number:
            left, right = right, left
        if not left.types & right.types and not (left.types & NUMBER and right.types & NUMBER):
            return self.false
        return self._make("eq", (left, right), None, INT, _ZERO, _ONE)

    def _extreme(self, name: str, left: Term, right: Term) -> Term:
        if left.is_constant and right.is_constant:
            chosen = self.operation("lt", (right, left) if name == "min" else (left, right))
            return right if chosen.value else left
        if not _comparable(left, right):
            raise _wrong_types(name)
        if left is right and not left.types & NAN:
            return left
        types = (left.types | right.types) & (NUMBER | STRING | LIST)
        if not (left.types & right.types) & STRING:
            types &= ~STRING
        if not (left.types & right.types) & LIST:
            types &= ~LIST
        low, high = _hull(left, right)
        # With a NaN on one side the left value stays, so the right one's bound holds only if there is none.
        if name == "min" and not right.types & NAN:
            high = _least(left.high, right.high)
        if name == "max" and not right.types & NAN:
            low = _most(left.low, right.low)
        if left.types & NAN:
            types |= NAN
        return self._make(name, (left, right), None, types, low, high)

    def _arithmetic(self, name: str, left: Term, right: Term) -> Term:
        if name == "div" and right.is_constant and right.low == 0:
            raise CertainlyWrong("zero-division", "division by zero")
        types = 0
        low: Bound = None
        high: Bound = None
        if left.types & NUMBER and right.types & NUMBER:
            low, high, types = number_range(name, ranged(left), ranged(right))
        if name == "add":
            types |= left.types & right.types & (STRING | LIST)
        if name == "mul":
            for one, other in ((left, right), (right, left)):
                if other.types & INT:
                    types |= one.types & (STRING | LIST)
        if not types:
            raise _wrong_types(name)
        return self._make(name, (left, right), None, types, low, high)


Ranged: TypeAlias = "tuple[Bound, Bound, int]"
"""A range and a mask of types."""


def ranged(term: Term) -> Ranged:
    """The range and types of a term's numbers."""
    return term.low, term.high, term.types & NUMBER


def number_range(name: str, left: Ranged, right: Ranged) -> Ranged:
    """The range and types of a sum, difference, product or quotient of numbers, with rounding; no types if it always fails."""
    types = 0
    if name != "div" and left[2] & INT and right[2] & INT:
        types |= INT
    if name == "div" or (left[2] | right[2]) & (FLOAT | INFINITE | NAN):
        types |= FLOAT
        left, right = _as_float(left), _as_float(right)
    low, high = _exact_range(name, left, right)
    if types & FLOAT:
        bounded = low is not None and high is not None and low > -_LARGEST_FLOAT and high < _LARGEST_FLOAT
        if not bounded or (left[2] | right[2]) & (INFINITE | NAN):
            types |= INFINITE | NAN
        low, high = rounded_down(low), rounded_up(high)
    return low, high, types


def _as_float(operand: Ranged) -> Ranged:
    """The range of an operand that becomes a float, which rounds large integers."""
    low, high, types = operand
    return (rounded_down(low), rounded_up(high), types) if types & INT else operand


def _exact_range(name: str, left: Ranged, right: Ranged) -> tuple[Bound, Bound]:
    a, b, _ = left
    c, d, types = right
    if name == "add":
        return _plus(a, c), _plus(b, d)
    if name == "sub":
        return _plus(a, _minus(d)), _plus(b, _minus(c))
    if name == "div":
        return _quotient(a, b, c, d, whole=not types & ~INT)
    # An infinite factor is at an end of its range, so the corners cover it; 0 times infinity is NaN.
    corners = [_times(x, y) for x in (_low(a), _high(b)) for y in (_low(c), _high(d))]
    return _bound(min(corners)), _bound(max(corners))


_End: TypeAlias = "Fraction | float"
"""One end of a range; the only floats are the infinities."""


def _low(bound: Bound) -> _End:
    return -math.inf if bound is None else bound


def _high(bound: Bound) -> _End:
    return math.inf if bound is None else bound


def _bound(end: _End) -> Bound:
    return None if isinstance(end, float) else end


def _times(one: _End, other: _End) -> _End:
    if one == 0 or other == 0:
        return _ZERO
    if isinstance(one, float) or isinstance(other, float):
        return math.inf if (one > 0) == (other > 0) else -math.inf
    return one * other


def _quotient(a: Bound, b: Bound, c: Bound, d: Bound, *, whole: bool) -> tuple[Bound, Bound]:
    """The range of [a, b] / [c, d]; a divisor of 0 is an error and does not count. `whole`: the divisor is an integer."""
    if c is None or c < 0:
        if d is None or d > 0:
            return None, None
        a, b, c, d = _minus(b), _minus(a), -d, _minus(c)
    if whole and c < 1:
        c = _ONE
    # Now the divisor is above 0, from c (perhaps 0, itself excluded) to d.
    low: Bound = None
    high: Bound = None
    if a is not None:
        if a >= 0:
            low = a / d if d else _ZERO
        elif c:
            low = a / c
    if b is not None:
        if b <= 0:
            high = b / d if d else _ZERO
        elif c:
            high = b / c
    return low, high


def rounded_down(bound: Bound) -> Bound:
    """The largest float that is not above a number: what a float result that is exactly not below the number is rounded to, or more."""
    if bound is None or bound < -_LARGEST_FLOAT:
        return None
    if bound > _LARGEST_FLOAT:
        return _LARGEST_FLOAT
    near = float(bound)
    if math.isinf(near) or Fraction(near) > bound:
        near = math.nextafter(near, -math.inf)
    return Fraction(near)


def rounded_up(bound: Bound) -> Bound:
    """The smallest float that is not below a number."""
    return _minus(rounded_down(_minus(bound)))


def _exactly(number: int | None) -> Bound:
    return None if number is None else Fraction(number)


def is_boolean(term: Term) -> bool:
    """Whether a term is true or false, which is to say 1 or 0."""
    return term.op in ("lt", "lte", "eq", "not", "valid", "null") or (term.op == "const" and isinstance(term.value, bool))


def truth_of(term: Term) -> bool | None:
    """Whether a term is true, None if that depends."""
    if term.op == "const":
        return bool(term.value)
    if term.op in ("host", "guest", "function", "method", "definition"):
        return True
    if not term.types & ~(NUMBER & ~NAN):
        if (term.low is not None and term.low > 0) or (term.high is not None and term.high < 0):
            return True
        if term.low == 0 and term.high == 0:
            return False
    return None


def scope_of(entity: Term) -> Scope:
    """Whether a term is the host or a guest."""
    return Scope.HOST if entity.op == "host" else Scope.GUEST


def _number(term: Term) -> int:
    return term.number


def _comparable(left: Term, right: Term) -> bool:
    return bool((left.types & NUMBER and right.types & NUMBER) or left.types & right.types & (STRING | LIST))


def _wrong_types(name: str) -> CertainlyWrong:
    return CertainlyWrong("type", f"the operands of {name} can never fit")


def _plus(one: Bound, other: Bound) -> Bound:
    return None if one is None or other is None else one + other


def _minus(bound: Bound) -> Bound:
    return None if bound is None else -bound


def _least(one: Bound, other: Bound) -> Bound:
    """The smaller of two upper bounds."""
    return other if one is None else one if other is None else min(one, other)


def _most(one: Bound, other: Bound) -> Bound:
    """The larger of two lower bounds."""
    return other if one is None else one if other is None else max(one, other)


def _hull(one: Term, other: Term) -> tuple[Bound, Bound]:
    if not one.types & NUMBER:
        return other.low, other.high
    if not other.types & NUMBER:
        return one.low, one.high
    low = None if one.low is None or other.low is None else min(one.low, other.low)
    high = None if one.high is None or other.high is None else max(one.high, other.high)
    return low, high


_PYTHON: Mapping[str, Callable[..., int | float | str]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv, "lt": operator.lt, "lte": operator.le,
    "eq": operator.eq, "shl": operator.lshift, "shr": lambda left, right: left >> min(right, 2 * _LARGE), "abs": abs,
}  # fmt: skip
