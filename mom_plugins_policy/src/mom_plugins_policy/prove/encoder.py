"""Terms as formulas of SMT-LIB 2, so that a solver can say whether a value can leave its bounds.

Whatever an evaluation does is a model of these formulas; they may have other models, too. So what they exclude never happens, while what
they allow is only a place to look for a counterexample. Nothing is claimed about what is not understood here: a word that this file does
not know is any value of its types and its range.

All numbers are real numbers. A result of floats is its exact value with a relative error of at most 2**-53 (and 2**-1075 for products and
quotients), and rounding never crosses a number that is a float itself. Products of two unknowns are kept between planes, so that all
formulas are linear. Of infinities the sign is known; comparisons with NaN are false.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

from mom_plugins_policy.language.words.vocabulary import FINITE, INFINITE, INT, NAN, NIL, NUMBER, STRING
from mom_plugins_policy.symbols.terms import Term, Terms, is_boolean, truth_of

_RELATIVE: Final = Fraction(1, 1 << 53)
_TINY: Final = Fraction(1, 1 << 1075)
_EXACT: Final = 1 << 53  # integers up to here are floats, too
_ZERO: Final = Fraction(0)
_ONE: Final = Fraction(1)
_OVERFLOWS: Final = 1 << 1023  # results of floats below this are finite
_CONSTANTS: Final = 8  # values of a choice between constants, each of which is looked at by itself when it is a factor
_KINDS: Final = {"nil": NIL, "finite": FINITE, "infinite": INFINITE, "nan": NAN, "other": ~(NIL | NUMBER)}
_GIVEN: Final = frozenset({"const", "field", "average", "property", "present", "fresh", "host", "guest", "guests", "function", "method",
                           "definition", "unbound", "earlier note", "earlier control", "another policy's"})  # fmt: skip
"""What is there before anything is computed."""

TRUE: Final = "true"
FALSE: Final = "false"


@dataclass(frozen=True, slots=True)
class Rounded:
    """A result of floats: what it is, what it would be exactly, and when these are numbers to speak of."""

    number: str
    exact: str
    where: str
    operands: Sequence[Term]


@dataclass(slots=True)
class Encoded:
    """One term: of which kind its value is, the number that it is if it is finite, its sign if it is infinite (whether `above` 0), whether
    it counts as true, and whether it was computed.

    All are formulas. `parts` are the terms that `facts` speak of.
    """

    nil: str
    finite: str
    infinite: str
    nan: str
    number: str
    above: str
    truth: str
    computed: str
    parts: Sequence[Term] = ()
    facts: list[str] = field(default_factory=list)
    rounded: Rounded | None = None

    @property
    def numeric(self) -> str:
        """Whether it is a number of any kind."""
        return either(self.finite, self.infinite, self.nan)


class Encoding:
    """The formulas of terms, each made once. `names` are the variables in them, with their sorts."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.names: dict[str, str] = {}
        self._encoded: dict[Term, Encoded] = {}

    def of(self, term: Term) -> Encoded:
        """What a term is encoded as, with all of its parts."""
        todo = [term]
        while todo:
            one = todo[-1]
            if one in self._encoded:
                todo.pop()
                continue
            parts = self._parts(one)
            missing = [part for part in parts if part not in self._encoded]
            if missing:
                todo.extend(missing)
                continue
            self._encoded[one] = self._encode(one, parts)
            todo.pop()
        return self._encoded[term]

    def facts(self, roots: Iterable[Term], anchor: Term, depth: int | None = None) -> list[str]:
        """What is known about terms and what they are made of.

        :param anchor: a number that rounding does not cross, beside the operands of each operation
        :param depth: through how many operations to look; what is below may be anything
        """
        level = list(dict.fromkeys(roots))
        seen = set(level)
        found: list[str] = []
        while level and depth != 0:
            depth = None if depth is None else depth - 1
            below: list[Term] = []
            for term in level:
                encoded = self.of(term)
                found.extend(encoded.facts)
                if encoded.rounded is not None:
                    found.extend(self._ordered_as(encoded.rounded, (*encoded.rounded.operands, anchor, self.terms.const(0))))
                below.extend(part for part in encoded.parts if part not in seen)
                seen.update(encoded.parts)
            level = list(dict.fromkeys(below))
        return found

    def boolean(self, name: str) -> str:
        """A variable that is true or false."""
        self.names[name] = "Bool"
        return name

    def real(self, name: str) -> str:
        """A variable that is a number."""
        self.names[name] = "Real"
        return name

    def _parts(self, term: Term) -> Sequence[Term]:
        if term.op in _GIVEN:
            return ()
        if term.op in ("min", "max"):
            left, right = term.args
            return (left, right, self.terms.operation("lt", (right, left) if term.op == "min" else (left, right)))
        return term.args

    # --- one term --------------------------------------------------------------------------------------------------------------------

    def _encode(self, term: Term, parts: Sequence[Term]) -> Encoded:
        of = [self._encoded[part] for part in parts]
        found = self._value(term)
        found.parts = parts
        if term.op != "ite":  # of a choice, only what was chosen was computed
            found.facts.extend(implied(found.computed, one.computed) for one in of)
        match term.op:
            case "ite":
                self._branches(found, *of)
            case "min" | "max":
                self._is_one_of(found, of[2].truth, of[1], of[0])
            case "request":
                self._is_one_of(found, TRUE, of[0], of[0])
            case "requested":
                self._requested(found, term.args[0], of[0])
            case "abs":
                self._absolute(found, of[0])
            case "not":
                found.facts.append(same(found.truth, no(of[0].truth)))
            case "valid":
                found.facts.append(same(found.truth, both(*(no(one.nil) for one in of))))
            case "null":
                self._empty(found, parts, of)
            case "eq":
                self._equal(found, *of)
            case "lt" | "lte":
                self._ordered(found, term, *of)
            case "add" | "sub" | "mul" | "div":
                self._arithmetic(found, term, *of)
            case _:
                pass  # any value of its types and range
        return found

    def _value(self, term: Term) -> Encoded:
        """A value of the types and the range of a term, and no more."""
        computed = TRUE if term.op in _GIVEN else self.boolean(f"computed{term.number}")
        if term.is_constant:
            nil, finite, infinite, nan = (TRUE if term.types & kind else FALSE for kind in (NIL, FINITE, INFINITE, NAN))
            above = TRUE if isinstance(term.value, float) and term.value > 0 else FALSE
            return Encoded(nil, finite, infinite, nan, _written(term.low or _ZERO), above, TRUE if term.value else FALSE, computed)
        if is_boolean(term):
            truth = self.boolean(f"true{term.number}")
            return Encoded(FALSE, TRUE, FALSE, FALSE, f"(ite {truth} 1.0 0.0)", TRUE, truth, computed)
        kinds = self._kinds(term)
        number = self.real(f"number{term.number}") if kinds["finite"] != FALSE else "0.0"
        known = truth_of(term)
        if known is not None:
            truth = TRUE if known else FALSE
        else:
            other = both(kinds["other"], self.boolean(f"true{term.number}")) if kinds["other"] != FALSE else FALSE
            truth = either(both(kinds["finite"], f"(distinct {number} 0.0)"), kinds["infinite"], kinds["nan"], other)
        above = self.boolean(f"above{term.number}") if kinds["infinite"] != FALSE else TRUE
        found = Encoded(kinds["nil"], kinds["finite"], kinds["infinite"], kinds["nan"], number, above, truth, computed)
        inside = both(computed, found.finite)
        if term.low is not None:
            found.facts.append(implied(inside, f"(>= {number} {_written(term.low)})"))
        if term.high is not None:
            found.facts.append(implied(inside, f"(<= {number} {_written(term.high)})"))
        if _whole(term) and term.low == 0:
            found.facts.append(implied(inside, f"(or (= {number} 0.0) (>= {number} 1.0))"))
        return found

    def _kinds(self, term: Term) -> dict[str, str]:
        """Which kind a value is of: exactly one of those that its types allow."""
        possible = [kind for kind, types in _KINDS.items() if term.types & types]
        found = dict.fromkeys(_KINDS, FALSE)
        none = TRUE
        for kind in possible[:-1]:
            chosen = self.boolean(f"{kind}{term.number}")
            found[kind] = both(none, chosen)
            none = both(none, no(chosen))
        found[possible[-1]] = none
        return found

    def _branches(self, found: Encoded, condition: Encoded, then: Encoded, otherwise: Encoded) -> None:
        self._is_one_of(found, condition.truth, then, otherwise)
        found.facts.append(implied(found.computed, condition.computed))
        found.facts.append(implied(both(found.computed, condition.truth), then.computed))
        found.facts.append(implied(both(found.computed, no(condition.truth)), otherwise.computed))

    def _is_one_of(self, found: Encoded, condition: str, then: Encoded, otherwise: Encoded) -> None:
        """The value is one of two others."""
        for chosen, one in ((condition, then), (no(condition), otherwise)):
            alike = [same(found.nil, one.nil), same(found.finite, one.finite), same(found.infinite, one.infinite)]
            alike += [same(found.nan, one.nan), same(found.truth, one.truth), implied(one.finite, equal(found.number, one.number))]
            alike.append(implied(one.infinite, same(found.above, one.above)))
            found.facts.append(implied(both(found.computed, chosen), both(*alike)))

    def _requested(self, found: Encoded, arg: Term, of: Encoded) -> None:
        """A control takes finite numbers, nil, and texts of digits; anything else is an error."""
        text = no(either(of.nil, of.numeric)) if arg.types & STRING else FALSE
        found.facts.append(implied(found.computed, either(of.nil, of.finite, text)))
        found.facts.append(implied(both(found.computed, of.nil), found.nil))
        found.facts.append(implied(both(found.computed, of.finite), both(found.finite, equal(found.number, of.number))))

    def _absolute(self, found: Encoded, of: Encoded) -> None:
        value = f"(ite (>= {of.number} 0.0) {of.number} (- {of.number}))"
        found.facts.append(implied(found.computed, both(of.numeric, same(found.finite, of.finite))))
        found.facts.append(implied(both(found.computed, of.finite), equal(found.number, value)))
        found.facts.append(implied(both(found.computed, found.infinite), found.above))

    def _empty(self, found: Encoded, parts: Sequence[Term], of: Sequence[Encoded]) -> None:
        empty = [either(one.nil, both(no(one.numeric), self.boolean(f"empty{part.number}"))) for part, one in zip(parts, of, strict=True)]
        found.facts.append(same(found.truth, both(*empty)))

    def _equal(self, found: Encoded, left: Encoded, right: Encoded) -> None:
        facts, unequal = found.facts, no(found.truth)
        facts.append(implied(both(left.finite, right.finite), same(found.truth, equal(left.number, right.number))))
        facts.append(implied(both(left.infinite, right.infinite), same(found.truth, same(left.above, right.above))))
        facts.append(implied(either(both(left.infinite, right.finite), both(left.finite, right.infinite)), unequal))
        facts.append(implied(both(left.nil, right.nil), found.truth))
        facts.append(implied(either(left.nan, right.nan), unequal))
        for one, other in ((left, right), (right, left)):
            facts.append(implied(both(one.nil, no(other.nil)), unequal))
            facts.append(implied(both(one.numeric, no(other.numeric)), unequal))

    def _ordered(self, found: Encoded, term: Term, left: Encoded, right: Encoded) -> None:
        """Numbers are compared with numbers; texts and lists with their like; anything else is an error."""
        found.facts.append(implied(found.computed, both(no(left.nil), no(right.nil), same(left.numeric, right.numeric))))
        a, b = left.number, right.number
        next_a, next_b = (f"(+ {a} 1.0)", f"(+ {b} 1.0)") if all(map(_whole, term.args)) else ("", "")
        below = f"(<= {next_a} {b})" if next_a else f"(< {a} {b})"
        above = f"(<= {next_b} {a})" if next_b else f"(< {b} {a})"
        true, false = (below, f"(<= {b} {a})") if term.op == "lt" else (f"(<= {a} {b})", above)
        known = both(found.computed, left.finite, right.finite)
        found.facts.append(implied(both(known, found.truth), true))
        found.facts.append(implied(both(known, no(found.truth)), false))
        found.facts.append(implied(both(found.computed, either(left.nan, right.nan)), no(found.truth)))
        found.facts.append(implied(both(found.computed, left.infinite, right.finite), same(found.truth, no(left.above))))
        found.facts.append(implied(both(found.computed, left.finite, right.infinite), same(found.truth, right.above)))
        infinities = both(no(left.above), right.above) if term.op == "lt" else either(no(left.above), right.above)
        found.facts.append(implied(both(found.computed, left.infinite, right.infinite), same(found.truth, infinities)))

    # --- arithmetic --------------------------------------------------------------------------------------------------------------------

    def _arithmetic(self, found: Encoded, term: Term, left: Encoded, right: Encoded) -> None:
        """A sum, difference, product or quotient. Strings and lists can be added and repeated; of these nothing is known."""
        facts, computed = found.facts, found.computed
        facts.append(implied(computed, both(no(left.nil), no(right.nil), same(found.numeric, both(left.numeric, right.numeric)))))
        facts.append(implied(both(computed, found.finite), left.finite))
        if term.op == "div":
            facts.append(implied(both(computed, right.finite), f"(distinct {right.number} 0.0)"))
            facts.append(implied(both(computed, found.finite), either(right.finite, right.infinite)))
            facts.append(implied(both(computed, left.finite, right.infinite), both(found.finite, equal(found.number, "0.0"))))
        else:
            facts.append(implied(both(computed, found.finite), right.finite))
        facts.append(implied(both(computed, found.nan), no(both(left.finite, right.finite))))
        facts.append(implied(both(computed, either(left.nan, right.nan)), found.nan))
        facts.extend(implied(both(computed, found.infinite), one) for one in _sign(found, term, left, right))
        where = both(computed, left.finite, right.finite)
        exact, more = self._exact(term, left, right)
        facts.extend(implied(where, one) for one in more)
        facts.append(implied(both(where, found.infinite, found.above), f"(>= {exact} {_written(_OVERFLOWS)})"))
        facts.append(implied(both(where, found.infinite, no(found.above)), f"(<= {exact} {_written(-_OVERFLOWS)})"))
        where = both(where, found.finite)
        if _whole(term):
            facts.append(implied(where, equal(found.number, exact)))
            return
        # An integer that is no float is rounded before it is computed with.
        exactly = both(*(_representable(arg, one) for arg, one in zip(term.args, (left, right), strict=True)))
        if exactly != TRUE and term.op in ("mul", "div"):
            facts.extend(implied(where, one) for one in _near(found.number, exact, term, 4 * _RELATIVE))
            facts.extend(implied(where, f"(=> ({sign} {exact} 0.0) ({sign} {found.number} 0.0))") for sign in (">=", "<="))
        if exactly != TRUE and term.op in ("add", "sub"):
            facts.extend(implied(where, one) for one in _moved(found.number, term, left, right))
        where = both(where, exactly)
        if where != FALSE and _never_rounded(term):
            facts.append(implied(where, equal(found.number, exact)))
        elif where != FALSE:
            facts.extend(implied(where, one) for one in _near(found.number, exact, term, _RELATIVE))
            found.rounded = Rounded(found.number, exact, where, term.args)

    def _exact(self, term: Term, left: Encoded, right: Encoded) -> tuple[str, list[str]]:
        """What an operation comes to before it is rounded, and what is known about that besides."""
        a, b = left.number, right.number
        first, second = term.args
        if term.op in ("add", "sub"):
            return f"({'+' if term.op == 'add' else '-'} {a} {b})", []
        for factor, other in ((first, b), (second, a)):
            known = _known(factor)
            if known is not None and term.op == "mul":
                return f"(* {_written(known)} {other})", []
            if known and factor is second:
                return f"(* {_written(1 / known)} {a})", []
        exact = self.real(f"exact{term.number}")
        if term.op == "mul":
            return exact, _product(exact, (first, a), (second, b))
        # The quotient is the number that makes the dividend when it is multiplied with the divisor.
        return exact, _product(a, (term, exact), (second, b))

    def _ordered_as(self, rounded: Rounded, anchors: Iterable[Term]) -> list[str]:
        """Rounding keeps the order of a number and a float."""
        found: list[str] = []
        for term in dict.fromkeys(anchors):
            anchor = self.of(term)
            case = both(rounded.where, anchor.computed, anchor.finite, _representable(term, anchor))
            for sign in (">=", "<="):
                kept = f"(=> ({sign} {rounded.exact} {anchor.number}) ({sign} {rounded.number} {anchor.number}))"
                found.append(implied(case, kept))
        return found


def _sign(found: Encoded, term: Term, left: Encoded, right: Encoded) -> list[str]:
    """What sign an infinite result has that comes of an infinity."""
    if term.op in ("add", "sub"):
        other = right.above if term.op == "add" else no(right.above)
        return [implied(left.infinite, same(found.above, left.above)), implied(right.infinite, same(found.above, other))]
    infinite = either(left.infinite, right.infinite)
    signs = [
        (either(both(one.infinite, one.above), both(one.finite, f"(>= {one.number} 0.0)")),
         either(both(one.infinite, no(one.above)), both(one.finite, f"(<= {one.number} 0.0)")))
        for one in (left, right)
    ]  # fmt: skip
    alike = either(*(both(a, b) for a, b in zip(*signs, strict=True)))
    different = either(both(signs[0][0], signs[1][1]), both(signs[0][1], signs[1][0]))
    return [implied(both(infinite, no(different)), found.above), implied(both(infinite, no(alike)), no(found.above))]


def _product(product: str, one: tuple[Term, str], other: tuple[Term, str]) -> list[str]:
    """What is known about a product of two unknowns: the planes that touch it at ends of ranges, at 0 and at 1.

    (McCormick, Mathematical Programming 10, 1976.) Where (x - a) and (y - b) have the same sign, their product is not negative.
    """
    (first, x), (second, y) = one, other
    found: list[str] = []
    for a, end_of_x, sides_of_x in _corners(first, x):
        for b, end_of_y, sides_of_y in _corners(second, y):
            if (a and b and not (end_of_x and end_of_y)) or (a == 0 and b == 0):
                continue
            plane = f"(+ (* {_written(a)} {y}) (* {_written(b)} {x}) {_written(-a * b)})"
            for above_x, case_x in sides_of_x:
                for above_y, case_y in sides_of_y:
                    found.append(implied(both(case_x, case_y), f"({'>=' if above_x == above_y else '<='} {product} {plane})"))
    found.append(f"(=> (or (= {x} 0.0) (= {y} 0.0)) (= {product} 0.0))")
    for sign, side in ((">", ">"), ("<", "<"), (">", "<"), ("<", ">")):
        found.append(f"(=> (and ({sign} {x} 0.0) ({side} {y} 0.0)) ({'>' if sign == side else '<'} {product} 0.0))")
    for (term, number), (_, rest) in ((one, other), (other, one)):
        found += [f"(=> (= {number} {_written(value)}) (= {product} (* {_written(value)} {rest})))" for value in _choices(term)]
    return found


def _corners(term: Term, number: str) -> list[tuple[Fraction, bool, list[tuple[bool, str]]]]:
    """Where planes touch: a value, whether it is an end of the range, and the sides of it: whether above, and when a number is there."""
    found: list[tuple[Fraction, bool, list[tuple[bool, str]]]] = []
    for value in dict.fromkeys((_ZERO, _ONE, term.low, term.high)):
        if value is None or (term.low is not None and value < term.low) or (term.high is not None and value > term.high):
            continue
        sides: list[tuple[bool, str]] = []
        if value != term.high:
            sides.append((True, TRUE if value == term.low else f"(>= {number} {_written(value)})"))
        if value != term.low:
            sides.append((False, TRUE if value == term.high else f"(<= {number} {_written(value)})"))
        found.append((value, value in (term.low, term.high), sides))
    return found


def _choices(term: Term) -> list[Fraction]:
    """The constants among which a choice may choose, if there are few."""
    found: set[Fraction] = set()
    todo, seen = [term], {term}
    while todo and len(found) <= _CONSTANTS:
        one = todo.pop()
        if one.is_constant and one.low is not None:
            found.add(one.low)
        elif one.op == "ite":
            todo.extend(part for part in one.args[1:] if part not in seen)
            seen.update(one.args[1:])
    return sorted(found) if len(found) <= _CONSTANTS else []


def _near(number: str, exact: str, term: Term, relative: Fraction) -> list[str]:
    """How far a float may be from what it would be exactly."""
    tiny = _written(_TINY if term.op in ("mul", "div") else _ZERO)
    larger, smaller = (f"(* {_written(factor)} {exact})" for factor in (1 + relative, 1 - relative))
    found: list[str] = []
    if term.high is None or term.high > 0:
        found.append(f"(=> (>= {exact} 0.0) (and (<= {number} (+ {larger} {tiny})) (>= {number} (- {smaller} {tiny}))))")
    if term.low is None or term.low < 0:
        found.append(f"(=> (<= {exact} 0.0) (and (>= {number} (- {larger} {tiny})) (<= {number} (+ {smaller} {tiny}))))")
    return found


def _moved(number: str, term: Term, left: Encoded, right: Encoded) -> list[str]:
    """To which side of an operand that is a float a sum or difference lies: rounding keeps that, also of an integer that is no float."""
    up, down = (">=", "<=") if term.op == "add" else ("<=", ">=")
    pairs = [(term.args[0], left, right)]
    if term.op == "add":
        pairs.append((term.args[1], right, left))
    found: list[str] = []
    for operand, one, other in pairs:
        case = _representable(operand, one)
        found.append(implied(case, f"(=> (>= {other.number} 0.0) ({up} {number} {one.number}))"))
        found.append(implied(case, f"(=> (<= {other.number} 0.0) ({down} {number} {one.number}))"))
    return found


def _never_rounded(term: Term) -> bool:
    """Whether a result of floats is always one of its operands, or that with the other sign."""
    left, right = map(_known, term.args)
    if term.op in ("add", "sub"):
        return left == 0 or right == 0
    return right in (1, -1) or (left in (1, -1) and term.op == "mul")


def _representable(term: Term, of: Encoded) -> str:
    """Whether a number is a float, or would be one exactly."""
    if not term.types & INT or (term.low is not None and term.high is not None and term.low >= -_EXACT and term.high <= _EXACT):
        return TRUE
    if term.is_constant:
        return FALSE
    return f"(and (>= {of.number} {_written(-_EXACT)}) (<= {of.number} {_written(_EXACT)}))"


def _known(term: Term) -> Fraction | None:
    """The value of a number, if there is only one."""
    return term.low if term.low is not None and term.low == term.high and not term.types & (INFINITE | NAN) else None


def _whole(term: Term) -> bool:
    """Whether a number, where it is one, is an integer."""
    return term.types & NUMBER == INT


def _written(value: Fraction | int) -> str:
    """A number as SMT-LIB writes it."""
    value = Fraction(value)
    size = f"{abs(value.numerator)}.0" if value.denominator == 1 else f"(/ {abs(value.numerator)}.0 {value.denominator}.0)"
    return f"(- {size})" if value < 0 else size


# --- formulas, without what is known ---------------------------------------------------------------------------------------------------


def both(*formulas: str) -> str:
    """That all are true."""
    left = [one for one in formulas if one != TRUE]
    if FALSE in left:
        return FALSE
    return TRUE if not left else left[0] if len(left) == 1 else f"(and {' '.join(left)})"


def either(*formulas: str) -> str:
    """That one of them is true."""
    left = [one for one in formulas if one != FALSE]
    if TRUE in left:
        return TRUE
    return FALSE if not left else left[0] if len(left) == 1 else f"(or {' '.join(left)})"


def no(formula: str) -> str:
    """That one is false."""
    return FALSE if formula == TRUE else TRUE if formula == FALSE else f"(not {formula})"


def implied(condition: str, formula: str) -> str:
    """That where one is true, the other is."""
    if TRUE in (condition, formula):
        return formula
    return TRUE if condition == FALSE else no(condition) if formula == FALSE else f"(=> {condition} {formula})"


def same(one: str, other: str) -> str:
    """That both are true, or none."""
    if one == other:
        return TRUE
    for first, second in ((one, other), (other, one)):
        if first in (TRUE, FALSE):
            return second if first == TRUE else no(second)
    return f"(= {one} {other})"


def equal(one: str, other: str) -> str:
    """That two numbers are the same."""
    return TRUE if one == other else f"(= {one} {other})"
