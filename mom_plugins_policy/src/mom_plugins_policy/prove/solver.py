"""Whether a value that policies ask for can leave its bounds: one question to z3 for each request that may be the last one."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

import z3

from mom_plugins_policy.language.words.vocabulary import INT, NUMBER
from mom_plugins_policy.prove.encoder import FALSE, Encoding, both, either, implied, no
from mom_plugins_policy.symbols.machine import SymbolicRequest
from mom_plugins_policy.symbols.terms import Term

_PER_SECOND: Final = 1_000_000  # z3's units of work in a second or less: they are the same on a busy machine
_PATIENCE: Final = 10  # how much longer than that an answer may take by the clock, should a unit of work be a large one


class OutOfTime(Exception):
    """z3 has no answer within its budget."""


@dataclass(frozen=True, slots=True)
class Undecided:
    """A request of which the bound could not be shown to hold, and values of fields with which it may not: None is unknown."""

    request: SymbolicRequest
    point: Mapping[Term, Fraction | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Goal:
    """What a bound comes to, on which side of it values are to be, and whether both are cut to whole numbers before they are compared."""

    bound: Term
    at_least: bool
    whole: bool


class Solver:
    """Proves that requested values keep one bound.

    :param seconds: of CPU time that all questions together may take
    :param depth: how many operations inside each other are looked at, None: all
    :param conditions: what is assumed to have these truths
    :param orders: pairs of terms of which the first is assumed to be at most the second, where both are numbers; `needed` are those
        without which a proof was not found
    """

    def __init__(
        self,
        encoding: Encoding,
        goal: Goal,
        seconds: float,
        depth: int | None,
        conditions: Sequence[tuple[Term, bool]] = (),
        orders: Sequence[tuple[Term, Term]] = (),
    ) -> None:
        self.encoding = encoding
        self.goal = goal
        self.depth = depth
        self.conditions = conditions
        self.orders = orders
        self.needed: set[tuple[Term, Term]] = set()
        self._until = time.thread_time() + seconds

    def failures(self, asked: Term) -> Iterator[Undecided]:
        """The requests that are, or may be, out of bounds.

        :param asked: a term whose leaves are requests and nil
        :raises OutOfTime: not all requests could be looked at
        """
        for leaf in self.ends(asked):
            if isinstance(leaf.value, SymbolicRequest):
                point = self._refuted(asked, leaf, leaf.value)
                if point is not None:
                    yield Undecided(leaf.value, point)
            elif leaf is not self.encoding.terms.nil:
                raise OutOfTime  # a request about which nothing is known

    def ends(self, asked: Term) -> list[Term]:
        """The ends of choices inside each other, each once."""
        found: list[Term] = []
        seen: set[Term] = set()
        todo = [asked]
        while todo:
            term = todo.pop()
            if term in seen:
                continue
            seen.add(term)
            if term.op == "ite":
                todo += [term.args[2], term.args[1]]
            else:
                found.append(term)
        return found

    def _refuted(self, asked: Term, leaf: Term, request: SymbolicRequest) -> dict[Term, Fraction | None] | None:
        """Values of fields with which this request may be the one that counts, and out of bounds; None if that cannot be."""
        return self._solved(self.question(asked, leaf, request))

    def refuted(self, path: Sequence[tuple[Term, bool]], roots: Sequence[Term], claimed: str) -> dict[Term, Fraction | None] | None:
        """Values of fields with which these terms are computed on a path, and a claim about them is false; None if that cannot be.

        :raises OutOfTime: it cannot be told
        """
        asserted = [*(self.encoding.of(root).computed for root in roots), no(claimed)]
        return self._solved(self._text([*path, *self.conditions], roots, asserted))

    def _solved(self, text: str) -> dict[Term, Fraction | None] | None:
        """Values of fields with which a question is answered, None if there are none. Takes note of the `orders` that this needed."""
        left = self._until - time.thread_time()
        if left <= 0:
            raise OutOfTime
        solver = z3.SolverFor("QF_LRA")
        solver.set("rlimit", int(left * _PER_SECOND) + 1)
        solver.set("timeout", int(1000 * _PATIENCE * left) + 1)
        solver.set("core.minimize", True)
        solver.from_string(text)
        orders = {f"order{number}": pair for number, pair in enumerate(self.orders)}
        answer = solver.check(*(z3.Bool(name) for name in orders))
        if answer == z3.unsat:
            self.needed.update(orders[str(name)] for name in solver.unsat_core())
            return None
        if answer != z3.sat:
            raise OutOfTime
        return self._point(solver.model())

    def question(self, asked: Term, leaf: Term, request: SymbolicRequest) -> str:
        """Whether this request can be the one that counts, and out of bounds, in SMT-LIB."""
        choices, asserted = self._leading(asked, leaf)
        return self._text(self.conditions, [*choices, request.value, self.goal.bound], [*asserted, *self._outside(request.value)])

    def _text(self, conditions: Sequence[tuple[Term, bool]], roots: Sequence[Term], asserted: Sequence[str]) -> str:
        """A question in SMT-LIB: whether all that is asserted, and all that is known of these terms, can be."""
        encoding = self.encoding
        asserted = list(asserted)
        for condition, truth in conditions:
            known = encoding.of(condition)
            asserted += [known.computed, known.truth if truth else no(known.truth)]
        for number, (small, large) in enumerate(self.orders):
            one, other = encoding.of(small), encoding.of(large)
            case = both(encoding.boolean(f"order{number}"), one.finite, other.finite)
            asserted.append(implied(case, f"(<= {one.number} {other.number})"))
        roots = [*roots, *(condition for condition, _ in conditions), *(field for pair in self.orders for field in pair)]
        asserted += encoding.facts(roots, self.goal.bound, self.depth)
        declared = (f"(declare-const {name} {sort})" for name, sort in encoding.names.items())
        return "\n".join([*declared, *(f"(assert {one})" for one in asserted)])

    def _leading(self, asked: Term, leaf: Term) -> tuple[list[Term], list[str]]:
        """The choices by which a request comes to be the one that counts, and that they were made so."""
        reaching: dict[Term, bool] = {}
        order: list[Term] = []
        todo = [asked]
        while todo:
            term = todo.pop()
            if term in reaching:
                continue
            parts = term.args[1:] if term.op == "ite" else ()
            missing = [part for part in parts if part not in reaching]
            if missing:
                todo += [term, *missing]
                continue
            reaching[term] = term is leaf or any(reaching[part] for part in parts)
            order.append(term)
        choices: list[Term] = []
        facts: list[str] = [self._counts(asked)]
        for term in order:
            if not reaching[term] or term.op != "ite":
                continue
            condition, then, otherwise = term.args
            choices.append(condition)
            known = self.encoding.of(condition)
            facts.append(implied(self._counts(term), known.computed))
            for truth, part in ((known.truth, then), (no(known.truth), otherwise)):
                facts.append(implied(both(self._counts(term), truth), self._counts(part) if reaching[part] else FALSE))
        return choices, facts

    def _counts(self, term: Term) -> str:
        """That a choice, or its end, is what counts."""
        return self.encoding.boolean(f"counts{term.number}")

    def _outside(self, value: Term) -> list[str]:
        """That a value and its bound are computed, and the value is out of bounds."""
        asked, bound = self.encoding.of(value), self.encoding.of(self.goal.bound)
        a, b = asked.number, bound.number
        found = [asked.computed, asked.finite, bound.computed, bound.finite, f"({'<' if self.goal.at_least else '>'} {a} {b})"]
        if self.goal.whole and self.goal.bound.types & NUMBER == INT:
            # What is cut is nearer to 0, so on the far side of the bound it is further from it by a whole number.
            far = f"(<= {a} (- {b} 1.0))" if self.goal.at_least else f"(>= {a} (+ {b} 1.0))"
            found.append(either(f"({'>' if self.goal.at_least else '<'} {b} 0.0)", far))
        return found

    def _point(self, model: z3.ModelRef) -> dict[Term, Fraction | None]:
        values = {one.name(): model[one] for one in model.decls()}
        found: dict[Term, Fraction | None] = {}
        for term in self.encoding.terms.all():
            if term.op != "field":
                continue
            number = values.get(f"number{term.number}")
            if z3.is_true(values.get(f"nil{term.number}")):
                found[term] = None
            elif number is not None:
                found[term] = number.as_fraction()
        return found
