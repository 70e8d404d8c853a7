"""Terms: what a form's value is made of. Equal terms are one object, so that what is known about a value is known wherever it is used.

A term stands for one value of one evaluation. Its `types` and its range (`low`, `high`: of its numbers that are not NaN) hold in every
evaluation in which the term is computed without an error.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import TypeAlias

from mom_core import Scope
from mom_plugins_policy.language.words.functions import CALLABLES, FUNCTIONS, FunctionWord, covers
from mom_plugins_policy.language.words.ranges import LARGE, Bound, CertainlyWrong, comparable, least, limited, most
from mom_plugins_policy.language.words.vocabulary import (
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

Constant: TypeAlias = "None | bool | int | float | str"

_ZERO = Fraction(0)
_ONE = Fraction(1)
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
        self.callables = {name: self._make("function", (), name, FUNCTION) for name in CALLABLES}

    def _make(self, op: str, args: tuple[Term, ...], value: object, types: int, low: Bound = None, high: Bound = None) -> Term:
        key = (op, value.__class__, repr(value) if isinstance(value, float) else value, *(arg.number for arg in args))
        term = self._made.get(key)
        if term is None:
            low, high = limited(low, math.floor), limited(high, math.ceil)
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
        """The value of a function. Raises `CertainlyWrong` where no values of these types make it succeed."""
        rewritten = _REWRITTEN.get(name)
        if rewritten is not None:
            return rewritten(self, args)
        word = FUNCTIONS[name]
        if all(arg.is_constant for arg in args):
            return self._computed(word, [arg.value for arg in args])
        if name == "eq":
            return self._equal(args[0], args[1])
        assert word.result is not None  # noqa: S101  # for the type checker: `covers` has seen to it
        low, high, types = word.result(args)
        if not types:
            raise _wrong_types(name)
        return self._make(name, tuple(args), None, types, low, high)

    def _both_or_either(self, name: str, args: Sequence[Term]) -> Term:
        """`and`, `or`."""
        result = args[-1]
        for arg in reversed(args[:-1]):
            result = self.ite(arg, result, arg) if name == "and" else self.ite(arg, arg, result)
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

    def _computed(self, word: FunctionWord, values: Sequence[object]) -> Term:
        """An operation on known values. What would be large is not computed here."""
        if word.name == "shl" and isinstance(values[1], int) and values[1] > LARGE:
            return self.fresh("a large integer", INT)
        try:
            found: Constant = word.compute(*values)
        except TypeError:
            raise _wrong_types(word.name) from None
        except ZeroDivisionError:
            raise CertainlyWrong("zero-division", "division by zero") from None
        except (OverflowError, ValueError):
            raise CertainlyWrong("range", "a number is out of range") from None
        except MemoryError:
            return self.fresh("a long string", STRING)
        if isinstance(found, int) and found.bit_length() > LARGE:
            return self.fresh("a large integer", INT)
        if isinstance(found, str):
            return self.const(found) if len(found) <= LARGE else self.fresh("a long string", STRING)
        return self.const(found)

    def _equal(self, left: Term, right: Term) -> Term:
        if left is right and not left.types & (NAN | LIST | FUNCTION | OTHER):
            return self.true
        if left.number > right.number:
            left, right = right, left
        if not left.types & right.types and not (left.types & NUMBER and right.types & NUMBER):
            return self.false
        return self._make("eq", (left, right), None, INT, _ZERO, _ONE)

    def _extremes(self, name: str, args: Sequence[Term]) -> Term:
        """`min`, `max`."""
        result = args[0]
        for arg in args[1:]:
            result = self._extreme(name, result, arg)
        return result

    def _extreme(self, name: str, left: Term, right: Term) -> Term:
        if left.is_constant and right.is_constant:
            chosen = self.operation("lt", (right, left) if name == "min" else (left, right))
            return right if chosen.value else left
        if not comparable(left, right):
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
            high = least(left.high, right.high)
        if name == "max" and not right.types & NAN:
            low = most(left.low, right.low)
        if left.types & NAN:
            types |= NAN
        return self._make(name, (left, right), None, types, low, high)


def is_boolean(term: Term) -> bool:
    """Whether a term is true or false, which is to say 1 or 0."""
    return term.op in _BOOLEAN or (term.op == "const" and isinstance(term.value, bool))


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


def _exactly(number: int | None) -> Bound:
    return None if number is None else Fraction(number)


def scope_of(entity: Term) -> Scope:
    """Whether a term is the host or a guest."""
    return Scope.HOST if entity.op == "host" else Scope.GUEST


def _number(term: Term) -> int:
    return term.number


def _wrong_types(name: str) -> CertainlyWrong:
    return CertainlyWrong("type", f"the operands of {name} can never fit")


def _hull(one: Term, other: Term) -> tuple[Bound, Bound]:
    if not one.types & NUMBER:
        return other.low, other.high
    if not other.types & NUMBER:
        return one.low, one.high
    low = None if one.low is None or other.low is None else min(one.low, other.low)
    high = None if one.high is None or other.high is None else max(one.high, other.high)
    return low, high


_BOOLEAN = frozenset({"lt", "lte", "eq", "not", "valid", "null"})

_REWRITTEN: Mapping[str, Callable[[Terms, Sequence[Term]], Term]] = {
    "gt": lambda terms, args: terms.operation("lt", (args[1], args[0])),
    "gte": lambda terms, args: terms.operation("lte", (args[1], args[0])),
    "neq": lambda terms, args: terms.negation(terms.operation("eq", args)),
    "and": lambda terms, args: terms._both_or_either("and", args),
    "or": lambda terms, args: terms._both_or_either("or", args),
    "not": lambda terms, args: terms.negation(args[0]),
    "valid": Terms.valid,
    "null": Terms.null,
    "min": lambda terms, args: terms._extremes("min", args),
    "max": lambda terms, args: terms._extremes("max", args),
    "debug": lambda terms, args: args[-1],
}
"""Functions that are told in terms of others, or have terms that are made in another way."""

covers("symbols/terms.py", (*_REWRITTEN, "eq"), lambda word: word.result is not None)
