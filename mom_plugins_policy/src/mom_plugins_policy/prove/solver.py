"""Whether a value can leave its bounds: by cases, and in each case by linear inequalities in exact arithmetic.

In each case every choice (`if`, `min`, `max`, `abs`) that the value depends on is decided in turn, until the least that `value - bound`
can be is not below zero, or the case is impossible, or there is nothing left to decide. Nothing here approximates in the wrong
direction: what is not understood is left out of the inequalities, so that more remains possible.

Floats: a float result is its exact value with a relative error of at most 2**-53 (and 2**-1075 for products and quotients), and rounding
never crosses a number that is a float itself. Infinities and NaN take part in no inequality; that a value is finite is known from its
range, or because a control takes only finite numbers.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from mom_plugins_policy.prove.cases import Assumptions, Impossible
from mom_plugins_policy.prove.linear import Linear, Minimum, Range, TooLong, minimum
from mom_plugins_policy.symbols.machine import SymbolicRequest
from mom_plugins_policy.symbols.terms import Term, Terms
from mom_plugins_policy.symbols.vocabulary import FINITE, INT, NAN, NIL, NUMBER

_RELATIVE = Fraction(1, 1 << 53)
_TINY = Fraction(1, 1 << 1075)
_EXACT = 1 << 53  # integers up to here are floats, too
_ZERO = Fraction(0)
_ONE = Fraction(1)
_NEAR = Fraction(1, 2)  # what is further below its bound than this is not so by rounding
_FAR = 12  # inequalities and operations between the goal and a choice that is left undecided
_COMPUTED = frozenset({"add", "sub", "mul", "div", "min", "max", "abs"})
_ANCHORS = 8  # numbers that a rounded one is compared with, when a proof needs it
_BOOLEAN = frozenset({"lt", "lte", "eq", "not", "valid", "null"})


class OutOfTime(Exception):
    """There are more cases than there is time for."""


@dataclass(frozen=True, slots=True)
class Undecided:
    """A case in which the bounds could not be shown to hold: the request, and values of terms with which they may not."""

    request: SymbolicRequest
    point: Mapping[Term, Fraction] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Goal:
    value: Term
    bound: Term
    at_least: bool


class _Problem:
    """The inequalities of one case."""

    def __init__(self, case: Assumptions) -> None:
        self.case = case
        self.constraints: list[Linear[Term]] = []
        self.exact: dict[Term, Linear[Term]] = {}
        self.products: dict[Term, Term] = {}

    def linear(self, term: Term) -> Linear[Term]:
        """A finite number as a linear expression: of itself, unless it is known better without rounding."""
        case = self.case
        term = case.resolved(term)
        if term.is_constant and term.low is not None:
            return Linear({}, term.low)
        if term.op in ("add", "sub") and all(case.whole(arg) for arg in term.args):
            left, right = (self.linear(arg) for arg in term.args)
            return left + right if term.op == "add" else left - right
        if term.op == "mul" and all(case.whole(arg) for arg in term.args):
            for factor, other in (term.args, term.args[::-1]):
                known = _known(case, factor)
                if known is not None:
                    return self.linear(other).times(known)
        return Linear({term: _ONE})

    def at_most(self, left: Linear[Term], right: Linear[Term], slack: Fraction = _ZERO) -> None:
        """left <= right + slack."""
        difference = left - right
        self.constraints.append(Linear(difference.coefficients, difference.constant - slack))

    def define(self, term: Term) -> None:
        """What a finite number has to do with what it is computed from."""
        case = self.case
        if term.op in ("add", "sub", "mul", "div"):
            if self.linear(term).coefficients == {term: _ONE}:
                self._define_arithmetic(term)
        elif term.op in ("min", "max"):
            self._define_extreme(term)
        elif term.op == "abs" and case.finite(term.args[0]):
            own, inner = self.linear(term), self.linear(term.args[0])
            self.at_most(inner, own)
            self.at_most(inner.times(-_ONE), own)
            low, high, _ = case.look(term.args[0])
            if low is not None and low >= 0:
                self.at_most(own, inner)
            elif high is not None and high <= 0:
                self.at_most(own, inner.times(-_ONE))

    def _define_extreme(self, term: Term) -> None:
        case = self.case
        own = self.linear(term)
        if any(case.look(arg)[2] & NAN for arg in term.args):
            return  # which of the two it is then does not depend on their order
        for arg in term.args:
            if case.finite(arg):
                other = self.linear(arg)
                self.at_most(own, other) if term.op == "min" else self.at_most(other, own)

    def _define_arithmetic(self, term: Term) -> None:
        case = self.case
        left, right = term.args
        if not case.finite(left) or not case.finite(right) or not _representable(case, left) or not _representable(case, right):
            return
        exact = self._exact(term)
        if exact is None:
            return
        self.exact[term] = exact
        own = Linear({term: _ONE})
        low, high = self._range(exact)
        tiny = _TINY if term.op in ("mul", "div") else _ZERO
        if case.whole(term):
            self.at_most(own, exact)
            self.at_most(exact, own)
            return
        if low is not None and low >= 0:
            self.at_most(own, exact.times(1 + _RELATIVE), tiny)
            self.at_most(exact.times(1 - _RELATIVE), own, tiny)
        elif high is not None and high <= 0:
            self.at_most(own, exact.times(1 - _RELATIVE), tiny)
            self.at_most(exact.times(1 + _RELATIVE), own, tiny)
        elif low is not None and high is not None:
            slack = max(-low, high) * _RELATIVE + tiny
            self.at_most(own, exact, slack)
            self.at_most(exact, own, slack)
        self._monotone(term, own)

    def _monotone(self, term: Term, own: Linear[Term]) -> None:
        """A product with a factor between 0 and 1 is not above the other factor, and so on: rounding does not change that."""
        case = self.case
        left, right = term.args
        if term.op == "mul":
            for factor, other in ((left, right), (right, left)):
                low, high, _ = case.look(factor)
                self._scaled(own, other, low, high)
        elif term.op == "div":
            low, high, _ = case.look(right)
            # The factor is the reciprocal of a divisor above 0.
            if low is not None and low >= 0:
                self._scaled(own, left, 1 / high if high else _ZERO, 1 / low if low else None)

    def _scaled(self, own: Linear[Term], other: Term, low: Fraction | None, high: Fraction | None) -> None:
        least, most, _ = self.case.look(other)
        value = self.linear(other)
        if low is not None and high is not None and low >= 0 and high <= 1:
            if least is not None and least >= 0:
                self.at_most(own, value)
            elif most is not None and most <= 0:
                self.at_most(value, own)
        elif low is not None and low >= 1:
            if least is not None and least >= 0:
                self.at_most(value, own)
            elif most is not None and most <= 0:
                self.at_most(own, value)

    def _exact(self, term: Term) -> Linear[Term] | None:
        """What a sum, difference, product or quotient is before it is rounded."""
        case = self.case
        left, right = term.args
        if term.op == "add":
            return self.linear(left) + self.linear(right)
        if term.op == "sub":
            return self.linear(left) - self.linear(right)
        if term.op == "div":
            known = _known(case, right)
            return None if not known else self.linear(left).times(1 / known)
        for factor, other in ((left, right), (right, left)):
            known = _known(case, factor)
            if known is not None:
                return self.linear(other).times(known)
        return self._product(term)

    def _product(self, term: Term) -> Linear[Term] | None:
        """A product of two unknowns: a number of its own, between four planes (McCormick, Mathematical Programming 10, 1976)."""
        case = self.case
        left, right = term.args
        a, b, _ = case.look(left)
        c, d, _ = case.look(right)
        if a is None or b is None or c is None or d is None:
            return None
        x, y = self.linear(left), self.linear(right)
        stand_in = self.products.setdefault(term, case.stand_in(term))
        product = Linear({stand_in: _ONE})
        self.at_most(x.times(c) + y.times(a), product, a * c)
        self.at_most(x.times(d) + y.times(b), product, b * d)
        self.at_most(product, x.times(c) + y.times(b), -(b * c))
        self.at_most(product, x.times(d) + y.times(a), -(a * d))
        return product

    def _range(self, linear: Linear[Term]) -> Range:
        low: Fraction | None = linear.constant
        high: Fraction | None = linear.constant
        for term, coefficient in linear.coefficients.items():
            least, most = self.range_of(term)
            if coefficient < 0:
                least, most = most, least
            low = None if low is None or least is None else low + coefficient * least
            high = None if high is None or most is None else high + coefficient * most
        return low, high

    def range_of(self, term: Term) -> Range:
        """The range of a variable of the inequalities."""
        if term.op == "stand-in":
            a, b, _ = self.case.look(term.args[0].args[0])
            c, d, _ = self.case.look(term.args[0].args[1])
            if a is None or b is None or c is None or d is None:
                return None, None
            corners = (a * c, a * d, b * c, b * d)
            return min(corners), max(corners)
        low, high, _ = self.case.look(term)
        return low, high

    def least(self, objective: Linear[Term]) -> Minimum[Term]:
        """The least value of an expression in this case."""
        constraints = self._connected(objective)
        ranges = {term: self.range_of(term) for linear in (objective, *constraints) for term in linear.coefficients}
        return minimum(objective, constraints, ranges)

    def possible(self) -> bool:
        """Whether all inequalities can hold at the same time, as far as that can be found out."""
        ranges = {term: self.range_of(term) for linear in self.constraints for term in linear.coefficients}
        nothing: Linear[Term] = Linear({})
        try:
            return minimum(nothing, self.constraints, ranges).possible
        except TooLong:
            return True

    def _connected(self, objective: Linear[Term]) -> list[Linear[Term]]:
        """The inequalities that have to do with an expression, directly or through others."""
        using: dict[Term, list[int]] = {}
        for number, linear in enumerate(self.constraints):
            for term in linear.coefficients:
                using.setdefault(term, []).append(number)
        found: set[int] = set()
        seen = set(objective.coefficients)
        todo = list(seen)
        while todo:
            for number in using.get(todo.pop(), ()):
                if number not in found:
                    found.add(number)
                    new = self.constraints[number].coefficients.keys() - seen
                    seen |= new
                    todo.extend(new)
        return [self.constraints[number] for number in sorted(found)]

    def distances(self, start: Iterable[Term]) -> dict[Term, int]:
        """The numbers that have to do with others, and through how many inequalities and operations."""
        using: dict[Term, list[Iterable[Term]]] = {}
        for linear in self.constraints:
            for term in linear.coefficients:
                using.setdefault(term, []).append(linear.coefficients)
        for term in self.case.defined:
            if term.op in _COMPUTED:
                related = [term, *(self.case.resolved(arg) for arg in term.args)]
                for one in related:
                    using.setdefault(one, []).append(related)
        found = dict.fromkeys(start, 0)
        todo = list(found)
        for term in todo:  # grows while it is gone through
            for group in using.get(term, ()):
                for other in group:
                    if other not in found:
                        found[other] = found[term] + 1
                        todo.append(other)
        return found


class Solver:
    """Proves that requested values stay within bounds.

    :param until: when to give up, by this thread's CPU time
    :param conditions: what is assumed to have these truths
    :param orders: pairs of terms of which the first is assumed to be at most the second, where both are numbers
    """

    def __init__(
        self, terms: Terms, until: float, conditions: Sequence[tuple[Term, bool]] = (), orders: Sequence[tuple[Term, Term]] = ()
    ) -> None:  # fmt: skip
        self.terms = terms
        self.until = until
        self.conditions = conditions
        self.orders = orders
        self.cases = 0

    def failures(self, asked: Term, bounds: Sequence[tuple[Term, bool]]) -> Iterator[Undecided]:
        """The cases in which a value is, or may be, out of bounds: at least (True) or at most (False) each of the bounds.

        :param asked: a term whose leaves are requests and nil
        :raises OutOfTime: not all cases could be looked at
        """
        case = Assumptions(self.terms)
        try:
            for condition, truth in self.conditions:
                case.learn(condition, truth)
        except Impossible:
            return
        for leaf, request in self._leaves(case, asked):
            for bound, at_least in bounds:
                yield from self._proved(leaf, request, _Goal(request.value, bound, at_least))

    def _leaves(self, case: Assumptions, term: Term) -> Iterator[tuple[Assumptions, SymbolicRequest]]:
        while term.op == "ite":
            condition, then, otherwise = term.args
            known = case.known(condition)
            if known is None:
                for truth in (True, False):
                    branch = self._with(case, condition, truth)
                    if branch is not None:
                        yield from self._leaves(branch, then if truth else otherwise)
                return
            term = then if known else otherwise
        if isinstance(term.value, SymbolicRequest):
            yield case, term.value
        elif term is not self.terms.nil:
            raise OutOfTime  # a request about which nothing is known

    def _with(self, case: Assumptions, condition: Term, truth: bool) -> Assumptions | None:
        self.cases += 1
        if time.thread_time() > self.until:
            raise OutOfTime
        branch = case.copy()
        try:
            branch.learn(condition, truth)
        except Impossible:
            return None
        return branch

    def _proved(self, case: Assumptions, request: SymbolicRequest, goal: _Goal) -> Iterator[Undecided]:
        case = case.copy()
        try:
            case.narrow(goal.value, ~NIL)
            case.narrow(goal.value, FINITE)
            case.narrow(goal.bound, NUMBER)
        except Impossible:
            return
        yield from self._searched(case, request, goal)

    def _searched(self, case: Assumptions, request: SymbolicRequest, goal: _Goal) -> Iterator[Undecided]:
        try:
            choices = self._look_at_all(case, goal)
            problem = self._problem(case)
            objectives = self._objectives(problem, goal)
            found = [self._least(problem, objective) for objective in objectives]
        except Impossible:
            return
        if any(_kept(one) for one in found):
            return
        ends = (case.resolved(goal.value), case.resolved(goal.bound))
        condition = self._next(case, choices, problem.distances(ends))
        if condition is None:
            if problem.possible() and not (any(map(_near, found)) and self._rounding(problem, objectives)):
                yield Undecided(request, next((one.point for one in found if one is not None), {}))
            return
        for truth in (True, False):
            branch = self._with(case, condition, truth)
            if branch is not None:
                yield from self._searched(branch, request, goal)

    def _next(self, case: Assumptions, choices: Mapping[Term, Term], distances: Mapping[Term, int]) -> Term | None:
        """The condition to decide next: of the choice that is nearest to the goal. What has nothing to do with it stays undecided."""
        best: tuple[int, Term] | None = None
        for condition, owner in choices.items():
            distance = distances.get(owner, _FAR)
            if distance < _FAR and (best is None or distance < best[0]) and case.known(condition) is None:
                best = (distance, condition)
        if best is not None:
            return best[1]
        return next((condition for condition in case.splits if case.known(condition) is None), None)

    def _look_at_all(self, case: Assumptions, goal: _Goal) -> dict[Term, Term]:
        """Look at all numbers that the goal depends on, and those that they are compared with.

        The conditions that choices among them hang on, each with the number that is chosen.
        """
        choices: dict[Term, Term] = {}
        case.defined.clear()
        for term in (goal.value, goal.bound):
            self._look_at(case, term, choices)
        case.settle()
        seen = 0
        while seen < len(case.orders):
            for (left, right), strict in list(case.orders.items())[seen:]:
                seen += 1
                if (case.resolved(left), case.resolved(right)) not in case.orders:
                    case.order(left, right, strict=strict)
                self._look_at(case, left, choices)
                self._look_at(case, right, choices)
            case.settle()
        return choices

    def _look_at(self, case: Assumptions, term: Term, choices: dict[Term, Term]) -> None:
        todo = [term]
        while todo:
            given = todo.pop()
            term = case.resolved(given)
            case.narrow(term, case.types_of(given) & NUMBER)
            if term is not given:
                for low in [case.low[given]] if given in case.low else []:
                    case.at_least(term, low)
                for high in [case.high[given]] if given in case.high else []:
                    case.at_most(term, high)
            if term in case.defined:
                continue
            case.defined[term] = None
            if term.op == "ite":
                choices.setdefault(term.args[0], term)
            elif term.op in _COMPUTED:
                todo.extend(reversed(term.args))
                if term.op in ("min", "max"):
                    choices.setdefault(case.chooses(term), term)
                elif term.op == "abs":
                    choices.setdefault(self.terms.operation("lt", (term.args[0], self.terms.const(0))), term)

    def _problem(self, case: Assumptions) -> _Problem:
        problem = _Problem(case)
        for term in case.defined:
            if case.finite(term):
                problem.define(term)
        for (left, right), strict in case.orders.items():
            if case.finite(left) and case.finite(right):
                step = -_ONE if strict and case.whole(left) and case.whole(right) else _ZERO
                problem.at_most(problem.linear(left), problem.linear(right), step)
        for left, right in self.orders:
            known = not (case.types_of(left) | case.types_of(right)) & ~FINITE
            if known and (left in case.defined or right in case.defined):
                problem.at_most(problem.linear(left), problem.linear(right))
        return problem

    def _objectives(self, problem: _Problem, goal: _Goal) -> list[Linear[Term]]:
        """How far the value is inside of its bound, if that is a number: it is enough if one of these is never below 0."""
        case = problem.case
        value, bound = case.resolved(goal.value), case.resolved(goal.bound)
        if not case.finite(value) or not case.finite(bound):
            return []
        values = [problem.linear(value)]
        if _representable(case, bound) and value in problem.exact:
            values.append(problem.exact[value])  # rounding does not cross the bound, so it is enough that the exact value keeps it
        limit = problem.linear(bound)
        return [one - limit if goal.at_least else limit - one for one in values]

    def _least(self, problem: _Problem, objective: Linear[Term]) -> Minimum[Term] | None:
        try:
            return problem.least(objective)
        except TooLong:
            return None

    def _rounding(self, problem: _Problem, objectives: Sequence[Linear[Term]]) -> bool:
        """Whether the goal holds when rounding is taken into account as it is: it never crosses another number of the program."""
        case = problem.case
        rounded = [term for term in problem.exact if not case.whole(term)]
        anchors = [term for term in case.defined if not term.is_constant and case.finite(term) and _representable(case, term)]
        learnt = False
        for term in rounded[:_ANCHORS]:
            for anchor in [one for one in anchors if one is not term][:_ANCHORS]:
                for sign in (_ONE, -_ONE):
                    if time.thread_time() > self.until:
                        raise OutOfTime
                    try:
                        found = problem.least((problem.exact[term] - problem.linear(anchor)).times(sign))
                    except TooLong:
                        continue
                    if not found.possible:
                        return True
                    if found.value is not None and found.value >= 0:
                        own, other = Linear({term: _ONE}).times(sign), problem.linear(anchor).times(sign)
                        problem.at_most(other, own)
                        learnt = True
        if not learnt:
            return False
        return any(_kept(self._least(problem, objective)) for objective in objectives)


def _kept(found: Minimum[Term] | None) -> bool:
    """Whether a least value says that the bound is kept, or that the case cannot be."""
    return found is not None and (not found.possible or (found.value is not None and found.value >= 0))


def _near(found: Minimum[Term] | None) -> bool:
    """Whether a least value is below 0 by so little that rounding may be the reason."""
    return found is not None and found.value is not None and found.value >= -_NEAR


def _known(case: Assumptions, term: Term) -> Fraction | None:
    """The value of a number, if there is only one."""
    low, high, types = case.look(term)
    return low if low is not None and low == high and not types & ~FINITE else None


def _representable(case: Assumptions, term: Term) -> bool:
    """Whether a number is a float or would be one exactly."""
    low, high, types = case.look(term)
    return not types & INT or (low is not None and high is not None and low >= -_EXACT and high <= _EXACT)
