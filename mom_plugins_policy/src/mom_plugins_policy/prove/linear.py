"""Linear programming in exact arithmetic: the least value that a linear expression can take where linear inequalities hold.

A proof must not depend on rounding, so everything is a fraction; rows are kept as integers without a common divisor, which is several
times faster. The problems are small: some dozens of variables and inequalities, of two to four variables each. The method is the
simplex method with dictionaries (Chvátal, Linear Programming, 1983, chapters 2 and 3) and Bland's rule, which cannot cycle.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Generic, TypeVar

Variable = TypeVar("Variable", bound=Hashable)
_PIVOTS = 1500


class TooLong(Exception):
    """The problem takes more steps than it is worth."""


@dataclass(frozen=True, slots=True)
class Linear(Generic[Variable]):
    """A linear expression: the sum of variables times their coefficients, and a constant."""

    coefficients: Mapping[Variable, Fraction]
    constant: Fraction = Fraction(0)

    def __add__(self, other: Linear[Variable]) -> Linear[Variable]:
        return self.plus(other, Fraction(1))

    def __sub__(self, other: Linear[Variable]) -> Linear[Variable]:
        return self.plus(other, Fraction(-1))

    def plus(self, other: Linear[Variable], factor: Fraction) -> Linear[Variable]:
        """The sum with a multiple of another one."""
        found = dict(self.coefficients)
        for variable, coefficient in other.coefficients.items():
            total = found.get(variable, Fraction(0)) + factor * coefficient
            if total:
                found[variable] = total
            else:
                found.pop(variable, None)
        return Linear(found, self.constant + factor * other.constant)

    def times(self, factor: Fraction) -> Linear[Variable]:
        """A multiple."""
        if not factor:
            return Linear({})
        return Linear({variable: factor * coefficient for variable, coefficient in self.coefficients.items()}, factor * self.constant)


@dataclass(frozen=True, slots=True)
class Minimum(Generic[Variable]):
    """The least value, and a point where it is taken. `value` None: it has none; `possible`: whether the inequalities can hold at all."""

    possible: bool
    value: Fraction | None = None
    point: Mapping[Variable, Fraction] = field(default_factory=dict)


Range = tuple[Fraction | None, Fraction | None]


def minimum(
    objective: Linear[Variable], constraints: Sequence[Linear[Variable]], ranges: Mapping[Variable, Range]
) -> Minimum[Variable]:  # fmt: skip
    """The least value of an expression where all constraints are at most 0 and all variables in their ranges.

    :param ranges: least and largest value of each variable that occurs, None where there is none
    :raises TooLong: it would take too many steps
    """
    return _Dictionary(objective, constraints, ranges).solve()


class _Dictionary(Generic[Variable]):
    """Each basic variable as an expression of the others, all of which are at least 0.

    Variables are numbers; number -1 stands for the constant. A row `d, {n: a}` says d * basic = sum of a * variable n, with d above 0.
    """

    def __init__(self, objective: Linear[Variable], constraints: Sequence[Linear[Variable]], ranges: Mapping[Variable, Range]) -> None:
        self.names: dict[Variable, list[tuple[int, int]]] = {}  # as a sum of numbered variables with these signs
        self.offsets: dict[Variable, Fraction] = {}
        self.count = 0
        self.rows: dict[int, tuple[int, dict[int, int]]] = {}
        used = {variable for linear in (objective, *constraints) for variable in linear.coefficients}
        spans: list[tuple[int, Fraction]] = []
        for variable, (low, high) in ranges.items():
            if variable not in used:
                continue
            if low is not None:
                self.names[variable] = [(self._new(), 1)]
                if high is not None:
                    spans.append((self.names[variable][0][0], high - low))
            elif high is not None:
                self.names[variable] = [(self._new(), -1)]
            else:
                self.names[variable] = [(self._new(), 1), (self._new(), -1)]
            self.offsets[variable] = low if low is not None else high if high is not None else Fraction(0)
        for linear in constraints:
            found = self._numbered(linear)
            if len(found) > 1 or found.get(-1, 0) > 0:
                self._add({number: -coefficient for number, coefficient in found.items()})
        for number, span in spans:
            self._add({number: Fraction(-1), -1: span})
        self.objective = self._numbered(objective)

    def _new(self) -> int:
        self.count += 1
        return self.count - 1

    def _numbered(self, linear: Linear[Variable]) -> dict[int, Fraction]:
        found = {-1: linear.constant}
        for variable, coefficient in linear.coefficients.items():
            found[-1] += coefficient * self.offsets[variable]
            for number, sign in self.names[variable]:
                found[number] = coefficient * sign
        return found

    def _add(self, row: Mapping[int, Fraction]) -> None:
        scale = math.lcm(*(value.denominator for value in row.values()))
        self.rows[self._new()] = _reduced(scale, {number: int(value * scale) for number, value in row.items() if value})

    def solve(self) -> Minimum[Variable]:
        pivots = 0
        while True:  # make all basic variables at least 0
            negative = [basic for basic, (_, row) in self.rows.items() if row.get(-1, 0) < 0]
            if not negative:
                break
            basic = min(negative)
            candidates = [number for number, a in self.rows[basic][1].items() if number >= 0 and a > 0]
            if not candidates:
                return Minimum(False)
            self._pivot(basic, min(candidates))
            pivots += 1
            if pivots > _PIVOTS:
                raise TooLong
        scale = math.lcm(*(value.denominator for value in self.objective.values()))
        costs = (scale, {number: int(value * scale) for number, value in self.objective.items() if value and number >= 0})
        for basic, row in self.rows.items():
            costs = _substituted(costs, basic, row)
        while True:  # make the objective smaller
            entering = [number for number, a in costs[1].items() if number >= 0 and a < 0]
            if not entering:
                constant = Fraction(costs[1].get(-1, 0), costs[0]) + self.objective[-1]
                return Minimum(True, constant, self._point())
            enter = min(entering)
            leave: int | None = None
            least: Fraction | None = None
            for basic, (_, coefficients) in self.rows.items():
                a = coefficients.get(enter, 0)
                if a < 0:
                    ratio = Fraction(coefficients.get(-1, 0), -a)
                    if least is None or ratio < least or (ratio == least and leave is not None and basic < leave):
                        leave, least = basic, ratio
            if leave is None:
                return Minimum(True, None, self._point())
            self._pivot(leave, enter)
            costs = _substituted(costs, enter, self.rows[enter])
            pivots += 1
            if pivots > _PIVOTS:
                raise TooLong

    def _pivot(self, leave: int, enter: int) -> None:
        divisor, row = self.rows.pop(leave)
        a = row.pop(enter)
        if a > 0:
            found = {number: -value for number, value in row.items()}
            found[leave] = divisor
        else:
            found = row
            found[leave] = -divisor
        entered = _reduced(abs(a), found)
        for basic, other in self.rows.items():
            if enter in other[1]:
                self.rows[basic] = _substituted(other, enter, entered)
        self.rows[enter] = entered

    def _point(self) -> dict[Variable, Fraction]:
        values = {basic: Fraction(row.get(-1, 0), divisor) for basic, (divisor, row) in self.rows.items()}
        return {
            variable: self.offsets[variable] + sum(sign * values.get(number, Fraction(0)) for number, sign in parts)
            for variable, parts in self.names.items()
        }


def _substituted(row: tuple[int, dict[int, int]], number: int, by: tuple[int, dict[int, int]]) -> tuple[int, dict[int, int]]:
    """A row in which a variable is replaced by what it is."""
    divisor, coefficients = row
    a = coefficients.get(number, 0)
    if not a:
        return row
    scale, replacement = by
    found = {one: value * scale for one, value in coefficients.items() if one != number}
    for one, value in replacement.items():
        total = found.get(one, 0) + a * value
        if total:
            found[one] = total
        else:
            found.pop(one, None)
    return _reduced(divisor * scale, found)


def _reduced(divisor: int, coefficients: dict[int, int]) -> tuple[int, dict[int, int]]:
    common = math.gcd(divisor, *coefficients.values())
    if common == 1:
        return divisor, coefficients
    return divisor // common, {number: value // common for number, value in coefficients.items()}
