"""Whether conditions can be true together, by looking at which values are nil and which choices are made: quick enough for every load.

Numbers are compared only where their ranges say it all. A case that is not excluded here may still be impossible.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mom_plugins_policy.language.words.vocabulary import NIL, NUMBER
from mom_plugins_policy.symbols.terms import Term, Terms, truth_of

_MOST: Final = 64  # cases
_DEPTH: Final = 60  # terms inside each other
_COMPUTED: Final = frozenset({"add", "sub", "mul", "div", "min", "max", "abs", "lt", "lte"})
"""What fails on nil."""


class _Impossible(Exception):
    """The case cannot occur."""


def contradictory(terms: Terms, conditions: Sequence[tuple[Term, bool]]) -> bool:
    """Whether conditions can never have these truths together. False also where that takes many cases to see."""
    todo = [_Case(terms, {}, {})]
    cases = 0
    while todo:
        case = todo.pop()
        cases += 1
        if cases > _MOST:
            return False
        try:
            for condition, truth in [*conditions, *conditions]:  # what is learnt last may decide what is first
                case.learn(condition, truth)
            open_choices = (case.undecided(condition) for condition, _ in reversed(conditions))
            choice = next((one for one in open_choices if one is not None), None)
        except _Impossible:
            continue
        if choice is None:
            return False
        todo.extend(_Case(terms, {**case.truths, choice: truth}, dict(case.nils)) for truth in (False, True))
    return True


class _Case:
    """What is decided: the truths of conditions, and which values are nil."""

    def __init__(self, terms: Terms, truths: dict[Term, bool], nils: dict[Term, bool]) -> None:
        self.terms = terms
        self.truths = truths
        self.nils = nils

    def learn(self, term: Term, truth: bool, depth: int = 0) -> None:
        """A condition was computed, and has this truth. Raises `_Impossible` where that cannot be."""
        if (not truth) in (self.truth(term, depth), self.computed(term, depth)):
            raise _Impossible
        if depth > _DEPTH or term.is_constant:
            return
        self.truths[term] = truth
        op, args = term.op, term.args
        if truth and term.types & NIL:
            self.learn_nil(term, False, depth + 1)
        if op == "not":
            self.learn(args[0], not truth, depth + 1)
        elif op == "valid" and (truth or len(args) == 1):
            for arg in args:
                self.learn_nil(arg, not truth, depth + 1)
        elif op == "null" and len(args) == 1 and (not truth or not args[0].types & ~(NIL | NUMBER)):
            self.learn_nil(args[0], truth, depth + 1)
        elif op == "eq" and self.terms.nil in args:
            self.learn_nil(args[1] if args[0] is self.terms.nil else args[0], truth, depth + 1)
        elif op in ("lt", "lte"):
            for arg in args:
                self.learn_nil(arg, False, depth + 1)
        elif op == "ite":
            self._learn_choice(term, truth, depth)

    def _learn_choice(self, term: Term, truth: bool, depth: int) -> None:
        condition, then, otherwise = term.args
        chosen = self.truth(condition, depth)
        if chosen is None:
            with_then, with_other = self._under(then, condition, True), self._under(otherwise, condition, False)
            if with_then is not None and with_then != truth:
                chosen = False
            elif with_other is not None and with_other != truth:
                chosen = True
        if chosen is not None:
            self.learn(condition, chosen, depth + 1)
            self.learn(then if chosen else otherwise, truth, depth + 1)

    def _under(self, term: Term, condition: Term, choice: bool) -> bool | None:
        """The truth of a term where a condition has a truth."""
        if term is condition:
            return choice
        if term.op == "not" and term.args[0] is condition:
            return not choice
        return self.truth(term)

    def learn_nil(self, term: Term, nil: bool, depth: int = 0) -> None:
        """A value was computed, and is nil or is not. Raises `_Impossible` where that cannot be."""
        known = self.nil(term, depth)
        if known is not None and known != nil:
            raise _Impossible
        if depth > _DEPTH or term.is_constant or (known is not None and term in self.nils):
            return
        self.nils[term] = nil
        if term.op == "ite":
            condition, then, otherwise = term.args
            chosen = self.truth(condition, depth)
            if chosen is None and self.nil(then, depth) == (not nil):
                chosen = False
            elif chosen is None and self.nil(otherwise, depth) == (not nil):
                chosen = True
            if chosen is not None:
                self.learn(condition, chosen, depth + 1)
                self.learn_nil(then if chosen else otherwise, nil, depth + 1)
        elif term.op in ("request", "requested"):
            self.learn_nil(term.args[0], nil, depth + 1)
        elif term.op in _COMPUTED:
            for arg in term.args:
                self.learn_nil(arg, False, depth + 1)

    def nil(self, term: Term, depth: int = 0) -> bool | None:
        """Whether a value is nil; None if that is not known."""
        if not term.types & NIL:
            return False
        if not term.types & ~NIL:
            return True
        known = self.nils.get(term)
        if known is not None or depth > _DEPTH:
            return known
        if term.op in ("request", "requested"):
            return self.nil(term.args[0], depth + 1)
        if term.op != "ite":
            return None
        chosen = self.truth(term.args[0], depth + 1)
        if chosen is not None:
            return self.nil(term.args[1 if chosen else 2], depth + 1)
        then = self.nil(term.args[1], depth + 1)
        return then if then is not None and then == self.nil(term.args[2], depth + 1) else None

    def truth(self, term: Term, depth: int = 0) -> bool | None:
        """Whether a condition is true; None if that is not known."""
        known = truth_of(term)
        if known is None:
            known = self.truths.get(term)
        return self.computed(term, depth) if known is None and depth <= _DEPTH else known

    def computed(self, term: Term, depth: int = 0) -> bool | None:
        """Whether a condition is true by what it is made of."""
        op, args = term.op, term.args
        if op == "not":
            inner = self.truth(args[0], depth + 1)
            return None if inner is None else not inner
        if op == "valid":
            nils = [self.nil(arg, depth + 1) for arg in args]
            return False if True in nils else None if None in nils else True
        if op == "ite":
            chosen = self.truth(args[0], depth + 1)
            return None if chosen is None else self.truth(args[1 if chosen else 2], depth + 1)
        if op in ("lt", "lte", "eq"):
            return self._compared(op, self.resolved(args[0], depth + 1), self.resolved(args[1], depth + 1))
        return False if self.nil(term, depth + 1) else None

    def _compared(self, op: str, left: Term, right: Term) -> bool | None:
        """What a comparison says of any values of these types and ranges."""
        if op == "eq":
            equal = self.terms.operation("eq", (left, right))
            return bool(equal.value) if equal.is_constant else None
        if (left.types | right.types) & ~NUMBER or left.high is None or right.low is None or left.low is None or right.high is None:
            return None
        if left.high < right.low or (left.high == right.low and op == "lte"):
            return True
        return False if left.low > right.high or (left.low == right.high and op == "lt") else None

    def resolved(self, term: Term, depth: int = 0) -> Term:
        """What a choice comes to, as far as it is decided."""
        while term.op == "ite" and depth <= _DEPTH:
            chosen = self.truth(term.args[0], depth + 1)
            if chosen is None:
                break
            term = term.args[1 if chosen else 2]
        return term

    def undecided(self, term: Term) -> Term | None:
        """A condition that the truth of another one hangs on, as far as it hangs on choices; None if there is none."""
        todo, seen = [term], set[Term]()
        while todo:
            term = self.resolved(todo.pop())
            if term in seen:
                continue
            seen.add(term)
            if term.op == "ite":
                return self.undecided(term.args[0]) or term.args[0]
            if term.op in ("not", "valid", "null", "eq", "lt", "lte"):
                todo.extend(term.args)
        return None
