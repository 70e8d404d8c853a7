"""Ranges and types of numbers: what a computation can come to, by what its operands can be. Bounds are exact fractions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Protocol, TypeAlias

from mom_plugins_policy.language.words.vocabulary import FINITE, FLOAT, INFINITE, INT, LIST, NAN, NUMBER, STRING

Bound: TypeAlias = "Fraction | None"
"""One end of a range; None: unbounded."""

LARGE = 4096
"""Bits of an integer, characters of a string: what is larger is not computed on symbols."""

_LARGEST_FLOAT = Fraction(1.7976931348623157e308)
_ZERO = Fraction(0)
_ONE = Fraction(1)
_LARGEST_BOUND = 2 * LARGE  # bits of a bound: products of products double them each time
_FINEST = Fraction(1, 1 << LARGE)  # what a bound that has more is rounded to


class Operand(Protocol):
    """What is known of an argument: a mask of types, the range of its numbers that are not NaN, and whether its value is known."""

    @property
    def types(self) -> int:
        """The types that it may have."""

    @property
    def low(self) -> Bound:
        """No number is below this."""

    @property
    def high(self) -> Bound:
        """No number is above this."""

    @property
    def is_constant(self) -> bool:
        """Whether the value is known."""


class CertainlyWrong(Exception):
    """An operation that cannot succeed on any values of these types; `kind` is the language's word for the error."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


Ranged: TypeAlias = "tuple[Bound, Bound, int]"
"""A range and a mask of types."""


def ranged(term: Operand) -> Ranged:
    """The range and types of a term's numbers."""
    return term.low, term.high, term.types & NUMBER


def limited(bound: Bound, outwards: Callable[[Fraction], int]) -> Bound:
    """A bound that can be computed with: one of too many bits is moved outwards to one of fewer."""
    if bound is None or bound.numerator.bit_length() + bound.denominator.bit_length() <= _LARGEST_BOUND:
        return bound
    rounded = outwards(bound / _FINEST) * _FINEST
    return rounded if rounded.numerator.bit_length() <= _LARGEST_BOUND else None


def number_range(name: str, left: Ranged, right: Ranged) -> Ranged:
    """The range and types of a sum, difference, product or quotient of numbers, with rounding; no types if it always fails."""
    types = 0
    if name != "div" and left[2] & INT and right[2] & INT:
        types |= INT
    if name == "div" or (left[2] | right[2]) & (FLOAT | INFINITE | NAN):
        types |= FLOAT
        left, right = _as_float(left), _as_float(right)
    low, high = _EXACT[name](left, right)
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


def _sum(left: Ranged, right: Ranged) -> tuple[Bound, Bound]:
    return _plus(left[0], right[0]), _plus(left[1], right[1])


def _difference(left: Ranged, right: Ranged) -> tuple[Bound, Bound]:
    return _plus(left[0], _minus(right[1])), _plus(left[1], _minus(right[0]))


def _product(left: Ranged, right: Ranged) -> tuple[Bound, Bound]:
    # An infinite factor is at an end of its range, so the corners cover it; 0 times infinity is NaN.
    corners = [_times(x, y) for x in (_low(left[0]), _high(left[1])) for y in (_low(right[0]), _high(right[1]))]
    return _bound(min(corners)), _bound(max(corners))


def _ratio(left: Ranged, right: Ranged) -> tuple[Bound, Bound]:
    return _quotient(*left[:2], *right[:2], whole=not right[2] & ~INT)


_EXACT: Mapping[str, Callable[[Ranged, Ranged], tuple[Bound, Bound]]] = {
    "add": _sum, "sub": _difference, "mul": _product, "div": _ratio,
}  # fmt: skip


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


def _plus(one: Bound, other: Bound) -> Bound:
    return None if one is None or other is None else one + other


def _minus(bound: Bound) -> Bound:
    return None if bound is None else -bound


def least(one: Bound, other: Bound) -> Bound:
    """The smaller of two upper bounds."""
    return other if one is None else one if other is None else min(one, other)


def most(one: Bound, other: Bound) -> Bound:
    """The larger of two lower bounds."""
    return other if one is None else one if other is None else max(one, other)


# --- results of builtins -----------------------------------------------------------------------------------------------------------


def arithmetic(name: str) -> Callable[[Sequence[Operand]], Ranged]:
    """The result of a sum, difference, product or quotient, and of what `+` and `*` make of strings and lists."""

    def result(args: Sequence[Operand]) -> Ranged:
        left, right = args
        if name == "div" and right.is_constant and right.low == 0:
            raise CertainlyWrong("zero-division", "division by zero")
        low: Bound = None
        high: Bound = None
        types = 0
        if left.types & NUMBER and right.types & NUMBER:
            low, high, types = number_range(name, ranged(left), ranged(right))
        if name == "add":
            types |= left.types & right.types & (STRING | LIST)
        if name == "mul":
            for one, other in ((left, right), (right, left)):
                if other.types & INT:
                    types |= one.types & (STRING | LIST)
        return low, high, types

    return result


def comparable(left: Operand, right: Operand) -> bool:
    """Whether two values can be put in order: two numbers, strings or lists."""
    return bool((left.types & NUMBER and right.types & NUMBER) or left.types & right.types & (STRING | LIST))


def order(args: Sequence[Operand]) -> Ranged:
    """The result of a comparison."""
    return _ZERO, _ONE, INT if comparable(*args) else 0


def shift(args: Sequence[Operand]) -> Ranged:
    """The result of a shift."""
    return None, None, INT if args[0].types & INT and args[1].types & INT else 0


def magnitude(args: Sequence[Operand]) -> Ranged:
    """The result of an absolute value."""
    low, high, types = ranged(args[0])
    if low is None or high is None:
        return _ZERO, None, types
    sizes = abs(low), abs(high)
    return (min(sizes) if low > 0 or high < 0 else _ZERO), max(sizes), types


def root(args: Sequence[Operand]) -> Ranged:
    """The result of a square root: it is the nearest float, so that what is larger never has a smaller root."""
    low, high, types = ranged(args[0])
    if high is not None and high < 0 and not args[0].types & NAN:
        raise CertainlyWrong("range", "a negative number has no root")
    above = rounded_down(None if low is None else max(low, _ZERO))
    below = rounded_up(high)
    found = types & (INFINITE | NAN) | (FLOAT if types & FINITE else 0)
    return (
        _ZERO if above is None else Fraction(math.sqrt(above)),
        None if below is None or below < 0 else Fraction(math.sqrt(below)),
        found,
    )
