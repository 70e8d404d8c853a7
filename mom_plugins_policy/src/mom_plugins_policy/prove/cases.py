"""One case of a proof: conditions with their truths, and what follows from them for types and ranges of terms."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from mom_plugins_policy.symbols.ranges import Bound, Ranged, number_range
from mom_plugins_policy.symbols.terms import Term, Terms, truth_of
from mom_plugins_policy.symbols.vocabulary import FINITE, INT, LIST, NAN, NIL, NUMBER, OTHER, STRING

_DEPTH = 60  # terms inside each other whose ranges are computed again; below, what held when the term was made is used
_ONE = Fraction(1)
_ZERO = Fraction(0)


class Impossible(Exception):
    """The case cannot occur."""


class Assumptions:
    """What is known in one case. Learning something that cannot be raises `Impossible`.

    `defined` are the numbers that are looked at; `orders` the comparisons of numbers that hold: (a, b) with True for a < b, False for
    a <= b; `splits` the conditions that some choice among what is looked at hangs on.
    """

    __slots__ = ("_doubtful", "_ranges", "_terms", "defined", "high", "low", "orders", "splits", "truth", "types")

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self.truth: dict[Term, bool] = {}
        self.types: dict[Term, int] = {}
        self.low: dict[Term, Fraction] = {}
        self.high: dict[Term, Fraction] = {}
        self.orders: dict[tuple[Term, Term], bool] = {}
        self.splits: dict[Term, None] = {}
        self.defined: dict[Term, None] = {}
        self._ranges: dict[Term, Ranged] = {}
        self._doubtful: dict[tuple[Term, Term], bool] = {}

    def copy(self) -> Assumptions:
        """The same, to go on from in two ways."""
        other = Assumptions(self._terms)
        other.truth = dict(self.truth)
        other.types = dict(self.types)
        other.low = dict(self.low)
        other.high = dict(self.high)
        other.orders = dict(self.orders)
        other.splits = dict(self.splits)
        other.defined = dict(self.defined)
        other._doubtful = dict(self._doubtful)
        return other

    # --- what is known -------------------------------------------------------------------------------------------------------------

    def chooses(self, term: Term) -> Term:
        """The condition under which a `min` or `max` is its second argument."""
        left, right = term.args
        return self._terms.operation("lt", (right, left) if term.op == "min" else (left, right))

    def resolved(self, term: Term) -> Term:
        """What a term is the same as, by what is decided."""
        while True:
            if term.op == "request" or (term.op == "requested" and not self.types_of(term.args[0]) & ~(FINITE | NIL)):
                term = term.args[0]
                continue
            if term.op == "ite":
                condition, first, second = term.args
            elif term.op in ("min", "max"):
                condition, first, second = self.chooses(term), term.args[1], term.args[0]
            else:
                return term
            known = self.known(condition)
            if known is None:
                return term
            term = first if known else second

    def stand_in(self, product: Term) -> Term:
        """A term for the exact value of a product, before it is rounded."""
        return self._terms.stand_in(product)

    def types_of(self, term: Term) -> int:
        """The types that a term may have."""
        return self.types.get(term, term.types)

    def known(self, condition: Term, depth: int = 0) -> bool | None:
        """Whether a condition is true; None if that is not known."""
        truth = truth_of(condition)
        if truth is None:
            truth = self.truth.get(condition)
        if truth is not None or depth > _DEPTH:
            return truth
        if condition.op == "not":
            inner = self.known(condition.args[0], depth + 1)
            return None if inner is None else not inner
        return self.evaluated(condition, depth)

    def evaluated(self, condition: Term, depth: int = 0) -> bool | None:
        """Whether a condition is true, by what is known about the terms in it alone."""
        op, args = condition.op, condition.args
        if op == "not":
            inner = self.evaluated(args[0], depth + 1)
            return None if inner is None else not inner
        if op == "valid":
            types = [self.types_of(arg) for arg in args]
            return True if not any(one & NIL for one in types) else False if any(not one & ~NIL for one in types) else None
        if op in ("lt", "lte"):
            return self._order_known(op, *args)
        if op == "eq":
            left, right = self.resolved(args[0]), self.resolved(args[1])
            equal = self._terms.operation("eq", (left, right))
            return bool(equal.value) if equal.is_constant else None
        if op == "ite":
            chosen = self.known(args[0], depth + 1)
            return None if chosen is None else self.known(args[1] if chosen else args[2], depth + 1)
        return None

    def undecided(self, condition: Term) -> Term | None:
        """A condition that the truth of another one hangs on, as far as it hangs on choices; None if there is none."""
        todo = [condition]
        seen: set[Term] = set()
        while todo:
            term = self.resolved(todo.pop())
            if term in seen:
                continue
            seen.add(term)
            if term.op == "ite" and self.known(term.args[0]) is None:
                return self.undecided(term.args[0]) or term.args[0]
            if term.op in ("not", "valid", "null", "eq", "lt", "lte"):
                todo.extend(term.args)
        return None

    def _order_known(self, op: str, left: Term, right: Term) -> bool | None:
        low, high, types = self.look(left)
        least, most, other = self.look(right)
        if not types or not other or (types | other) & NAN:
            return None
        if not self._numeric(left) and not self._numeric(right):
            return None  # they may be strings
        if high is not None and least is not None and (high < least or (high == least and op == "lte")):
            return True
        if low is not None and most is not None and (low > most or (low == most and op == "lt")):
            return False
        return None

    def _numeric(self, term: Term) -> bool:
        """Whether a term that takes part in a comparison is a number."""
        return not self.types_of(term) & (STRING | LIST)

    def look(self, term: Term, depth: int = 0) -> Ranged:
        """The range and types of a term's numbers, in this case."""
        found = self._ranges.get(term)
        if found is not None:
            return found
        low, high, types = self._computed(term, depth) if depth < _DEPTH else (term.low, term.high, term.types & NUMBER)
        known = self.low.get(term)
        low = known if low is None else low if known is None else max(low, known)
        known = self.high.get(term)
        high = known if high is None else high if known is None else min(high, known)
        found = (low, high, types & self.types_of(term))
        if depth < _DEPTH:
            self._ranges[term] = found
        return found

    def _computed(self, term: Term, depth: int) -> Ranged:
        same = self.resolved(term)
        if same is not term:
            return self.look(same, depth + 1)
        if term.op in ("add", "sub", "mul", "div"):
            left, right = self.look(term.args[0], depth + 1), self.look(term.args[1], depth + 1)
            low, high, types = number_range(term.op, left, right)
            if term.op == "sub":
                low, high = self._difference(term, low, high)
            return low, high, types & term.types
        if term.op in ("ite", "min", "max", "abs"):
            return self._chosen(term, depth)
        return term.low, term.high, term.types & NUMBER

    def _difference(self, term: Term, low: Bound, high: Bound) -> tuple[Bound, Bound]:
        """The range of a difference of numbers of which the order is known."""
        left, right = (self.resolved(arg) for arg in term.args)
        if left is right:
            return _ZERO, _ZERO  # infinity less infinity is NaN, which is in no range
        if (right, left) in self.orders and (low is None or low < 0):
            low = _ZERO
        if (left, right) in self.orders and (high is None or high > 0):
            high = _ZERO
        return low, high

    def _chosen(self, term: Term, depth: int) -> Ranged:
        ranges = [self.look(arg, depth + 1) for arg in (term.args[1:] if term.op == "ite" else term.args)]
        types = 0
        lows: list[Bound] = []
        highs: list[Bound] = []
        for one_low, one_high, one_types in ranges:
            types |= one_types
            if one_types:
                lows.append(one_low)
                highs.append(one_high)
        low = _least(lows)
        high = _most(highs)
        if term.op == "abs" and low is not None and high is not None:
            low, high = (_ZERO if low <= 0 <= high else min(abs(low), abs(high))), max(abs(low), abs(high))
        elif term.op == "abs":
            low, high = _ZERO, None
        elif term.op in ("min", "max") and not types & NAN and len(highs) == 2:
            if term.op == "min":
                high = min((one for one in highs if one is not None), default=None)
            else:
                low = max((one for one in lows if one is not None), default=None)
        return low, high, types

    def finite(self, term: Term) -> bool:
        """Whether a number is neither infinite nor NaN."""
        types = self.look(term)[2]
        return bool(types) and not types & ~FINITE

    def whole(self, term: Term) -> bool:
        """Whether a number is an integer."""
        return self.look(term)[2] == INT

    # --- learning ------------------------------------------------------------------------------------------------------------------

    def learn(self, condition: Term, truth: bool, depth: int = 0) -> None:
        """A condition has this truth."""
        known = self.known(condition)
        if known is not None and known != truth:
            raise Impossible
        if condition in self.truth or truth_of(condition) is not None:
            return
        self.truth[condition] = truth
        self._ranges.clear()
        if depth > _DEPTH:
            return
        op, args = condition.op, condition.args
        if op == "not":
            self.learn(args[0], not truth, depth + 1)
        elif op == "valid":
            self._learn_valid(args, truth)
        elif op == "null":
            if truth:
                for arg in args:
                    self.narrow(arg, NIL | STRING | LIST | OTHER)
            elif len(args) == 1:
                self.narrow(args[0], ~NIL)
        elif op in ("lt", "lte"):
            self._learn_order(op, args[0], args[1], truth)
        elif op == "eq":
            self._learn_equal(args[0], args[1], truth)
        elif op == "ite":
            self._learn_choice(condition, truth, depth)
        elif op in ("request", "requested"):
            pass
        else:
            self._learn_number(condition, truth)

    def _learn_valid(self, args: tuple[Term, ...], truth: bool) -> None:
        if truth:
            for arg in args:
                self.narrow(arg, ~NIL)
            return
        doubtful = [arg for arg in args if self.types_of(arg) & NIL]
        if len(doubtful) == 1:
            self.narrow(doubtful[0], NIL)

    def _learn_order(self, op: str, left: Term, right: Term, truth: bool) -> None:
        if not truth:
            op, left, right = "lte" if op == "lt" else "lt", right, left
        if self._numeric(left) or self._numeric(right):
            self.narrow(left, NUMBER)
            self.narrow(right, NUMBER)
        else:
            return
        if truth:
            self.narrow(left, ~NAN)
            self.narrow(right, ~NAN)
            self.order(left, right, strict=op == "lt")
        else:
            self._doubtful[(left, right)] = op == "lt"
            self.settle()

    def settle(self) -> None:
        """A comparison that is false says something about order once neither side can be NaN."""
        for (left, right), strict in list(self._doubtful.items()):
            if not (self.look(left)[2] | self.look(right)[2]) & NAN:
                del self._doubtful[(left, right)]
                self.order(left, right, strict=strict)

    def order(self, left: Term, right: Term, *, strict: bool) -> None:
        """Two numbers that are not NaN: left < right, or left <= right."""
        left, right = self.resolved(left), self.resolved(right)
        if left is right:
            if strict:
                raise Impossible
            return
        self.orders[(left, right)] = strict or self.orders.get((left, right), False)
        self._ranges.clear()
        low, _, types = self.look(left)
        _, high, other = self.look(right)
        step = _ONE if strict and not (types | other) & ~INT else _ZERO
        if low is not None:
            self.at_least(right, low + step)
        if high is not None:
            self.at_most(left, high - step)

    def at_least(self, term: Term, bound: Fraction) -> None:
        """A number that is not NaN is not below a bound."""
        low, high, _ = self.look(term)
        if high is not None and high < bound:
            raise Impossible
        if low is None or low < bound:
            self.low[term] = bound
            self._ranges.clear()

    def at_most(self, term: Term, bound: Fraction) -> None:
        """A number that is not NaN is not above a bound."""
        low, high, _ = self.look(term)
        if low is not None and low > bound:
            raise Impossible
        if high is None or high > bound:
            self.high[term] = bound
            self._ranges.clear()

    def _learn_equal(self, left: Term, right: Term, truth: bool) -> None:
        nil = self._terms.nil
        if left is nil or right is nil:
            self.narrow(right if left is nil else left, NIL if truth else ~NIL)
            return
        if not truth:
            return
        for one, other in ((left, right), (right, left)):
            types = self.types_of(one)
            if not types & ~NUMBER:
                self.narrow(other, NUMBER & ~NAN)
                self.narrow(one, ~NAN)
            elif not types & ~NIL:
                self.narrow(other, NIL)
            elif not types & (NIL | NUMBER):
                self.narrow(other, ~(NIL | NUMBER))
        if not (self.types_of(left) | self.types_of(right)) & ~NUMBER:
            self.order(left, right, strict=False)
            self.order(right, left, strict=False)

    def _learn_choice(self, condition: Term, truth: bool, depth: int) -> None:
        chosen, then, otherwise = condition.args
        known = self.known(chosen)
        if known is None:
            first, second = self._under(then, chosen, True), self._under(otherwise, chosen, False)
            if first is not None and first != truth:
                known = False
            elif second is not None and second != truth:
                known = True
        if known is None:
            self.splits[chosen] = None
            return
        self.learn(chosen, known, depth + 1)
        branch = then if known else otherwise
        if branch is not chosen:
            self.learn(branch, truth, depth + 1)
        elif known != truth:
            raise Impossible

    def _under(self, term: Term, chosen: Term, choice: bool) -> bool | None:
        """The truth of a term where a condition has a truth."""
        if term is chosen:
            return choice
        if term.op == "not" and term.args[0] is chosen:
            return not choice
        return self.known(term)

    def _learn_number(self, term: Term, truth: bool) -> None:
        """The truth of a value that is no condition: a number, string, nil …"""
        types = self.types_of(term)
        if truth:
            self.narrow(term, ~NIL)
            low, _, types = self.look(term)
            if low == 0 and not self.types_of(term) & ~INT:
                self.at_least(term, _ONE)
        elif not types & ~NUMBER:
            self.narrow(term, ~NAN)
            self.at_least(term, _ZERO)
            self.at_most(term, _ZERO)

    def narrow(self, term: Term, mask: int) -> None:
        """A term has one of these types, and was computed without an error."""
        before = self.types_of(term)
        after = before & mask
        if not after:
            raise Impossible
        if after == before and (after & ~NUMBER or term in self.types):
            return
        self.types[term] = after
        self._ranges.clear()
        op, args = term.op, term.args
        if op == "request":
            self.narrow(args[0], after)
        elif op == "requested":
            if not self.types_of(args[0]) & STRING:
                self.narrow(args[0], after)
        elif op == "ite":
            self._narrow_choice(term, after)
        elif not after & ~NUMBER:
            self._narrow_operands(op, args, after)

    def _narrow_choice(self, term: Term, mask: int) -> None:
        condition, then, otherwise = term.args
        known = self.known(condition)
        if known is None and not self.types_of(then) & mask:
            known = False
        elif known is None and not self.types_of(otherwise) & mask:
            known = True
        if known is not None:
            self.learn(condition, known)
            self.narrow(then if known else otherwise, mask)

    def _narrow_operands(self, op: str, args: tuple[Term, ...], types: int) -> None:
        """What the operands of a number must be."""
        if op in ("add", "sub", "mul", "div", "min", "max", "abs"):
            for arg in args:
                self.narrow(arg, NUMBER)
        if not types & ~FINITE:
            # An infinite operand makes these infinite or NaN; only a divisor may be infinite.
            if op in ("add", "sub", "mul", "abs"):
                for arg in args:
                    self.narrow(arg, FINITE)
            elif op == "div":
                self.narrow(args[0], FINITE)


def _least(bounds: list[Bound]) -> Bound:
    known = [bound for bound in bounds if bound is not None]
    return min(known) if known and len(known) == len(bounds) else None


def _most(bounds: list[Bound]) -> Bound:
    known = [bound for bound in bounds if bound is not None]
    return max(known) if known and len(known) == len(bounds) else None


def impossible(terms: Terms, conditions: Sequence[tuple[Term, bool]], most: int = 64) -> bool:
    """Whether conditions can never have these truths together. False also where that takes more than so many cases to see."""
    first = Assumptions(terms)
    todo = [first]
    try:
        for condition, truth in conditions:
            first.learn(condition, truth)
    except Impossible:
        return True
    cases = 0
    while todo:
        case = todo.pop()
        cases += 1
        if cases > most:
            return False
        if any(case.evaluated(condition) == (not truth) for condition, truth in conditions):
            continue
        choices = (case.undecided(condition) for condition, _ in reversed(conditions))
        chosen = next((one for one in choices if one is not None), None)
        if chosen is None:
            return False
        for truth in (True, False):
            branch = case.copy()
            try:
                branch.learn(chosen, truth)
            except Impossible:
                continue
            todo.append(branch)
    return True
