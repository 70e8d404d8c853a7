"""Units of computed values: what the numbers of a term count, as far as that can be known."""

from __future__ import annotations

from typing import Final, TypeAlias

from mom_core import Unit
from mom_plugins_policy.symbols.terms import Term, scope_of
from mom_plugins_policy.symbols.vocabulary import Vocabulary

Dimension: TypeAlias = "frozenset[tuple[str, int]]"
"""Units and their powers; empty for a ratio or a number of things."""

ANY: Final = frozenset({("any", 0)})
"""A plain number, which may count anything."""

UNKNOWN: Final = frozenset({("unknown", 0)})
"""Nothing can be said."""

_NONE: Final[Dimension] = frozenset()

_DIMENSIONS: Final = {
    Unit.KIB: {"KiB": 1},
    Unit.BYTES: {"B": 1},
    Unit.PAGES: {"pages": 1},
    Unit.COUNT: {},
    Unit.PERCENT: {"%": 1},
    Unit.RATIO: {},
    Unit.FLAG: {},
    Unit.SECONDS: {"s": 1},
    Unit.MILLISECONDS: {"ms": 1},
    Unit.MICROSECONDS: {"us": 1},
    Unit.KIB_PER_SECOND: {"KiB": 1, "s": -1},
    Unit.PAGES_PER_SECOND: {"pages": 1, "s": -1},
    Unit.PER_SECOND: {"s": -1},
    Unit.BYTES_PER_SECOND: {"B": 1, "s": -1},
}

_CONVERSIONS: Final = {
    frozenset({"KiB", "pages"}): "a page has 4 KiB on most machines: multiply the pages by 4",
    frozenset({"KiB", "B"}): "divide the bytes by 1024",
    frozenset({"B", "pages"}): "a page has 4096 bytes on most machines",
    frozenset({"KiB/s", "pages/s"}): "a page has 4 KiB on most machines: multiply the pages by 4",
    frozenset({"s", "ms"}): "divide the milliseconds by 1000",
    frozenset({"s", "us"}): "divide the microseconds by 1000000",
    frozenset({"ms", "us"}): "divide the microseconds by 1000",
    frozenset({"%", "a ratio or count"}): "a percentage of 20 is a ratio of 0.20",
}

_SCALES: Final = (0, 1, 2, 3)  # integers that only scale; larger ones may convert, such as pages to KiB
_CONVERTS: Final = (0.25, 0.01, 1 / 60)  # other numbers that may convert, beside the tiny ones
_TINY: Final = 0.002


def dimension_of_unit(unit: Unit) -> Dimension:
    """What numbers in a unit count."""
    powers = _DIMENSIONS.get(unit)
    return UNKNOWN if powers is None else frozenset(powers.items())


class Dimensions:
    """The dimensions of terms, each computed once."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._known: dict[Term, Dimension] = {}

    def of(self, term: Term) -> Dimension:
        """What a term's numbers count."""
        todo = [term]
        while todo:  # without recursion, as terms may be deep
            item = todo[-1]
            if item in self._known:
                todo.pop()
                continue
            missing = [arg for arg in item.args if arg not in self._known]
            if missing:
                todo.extend(missing)
                continue
            todo.pop()
            self._known[item] = self._computed(item)
        return self._known[term]

    def _computed(self, term: Term) -> Dimension:
        args = [self._known[arg] for arg in term.args]
        if term.op == "const":
            return ANY
        if term.op in ("field", "average") and isinstance(term.value, str):
            spec = self._vocabulary.field(scope_of(term.args[0]), term.value)
            return UNKNOWN if spec is None else dimension_of_unit(spec.unit)
        if term.op in ("add", "sub", "min", "max"):
            return joined(args[0], args[1])
        if term.op == "ite":
            return joined(args[1], args[2])
        if term.op in ("abs", "request", "requested"):
            return args[0]
        if term.op == "mul":
            return self._scaled(term, args, 1)
        if term.op == "div":
            return self._scaled(term, args, -1)
        return UNKNOWN

    def _scaled(self, term: Term, args: list[Dimension], sign: int) -> Dimension:
        """A product (sign 1) or quotient (sign -1). A plain number scales, or converts to another unit: some are known to scale."""
        for number in (0, 1):
            constant, other = term.args[number], args[1 - number]
            if args[number] == ANY:
                if other == ANY:
                    return ANY
                if sign < 0 and number == 0:
                    return UNKNOWN
                return other if constant.is_constant and _only_scales(constant.value) else UNKNOWN
        if UNKNOWN in args:
            return UNKNOWN
        powers = dict(args[0])
        for unit, power in args[1]:
            powers[unit] = powers.get(unit, 0) + sign * power
        return frozenset((unit, power) for unit, power in powers.items() if power)


def _only_scales(value: object) -> bool:
    if not isinstance(value, int | float):
        return False
    size = abs(value)
    if float(size).is_integer():
        return size in _SCALES
    return size >= _TINY and size not in _CONVERTS


def joined(one: Dimension, other: Dimension) -> Dimension:
    """What is one or the other; unknown if they differ."""
    if one in (ANY, other):
        return other
    return one if other == ANY else UNKNOWN


def differ(one: Dimension, other: Dimension) -> bool:
    """Whether two dimensions are known, and not the same."""
    return not {one, other} & {ANY, UNKNOWN} and one != other


def written(dimension: Dimension) -> str:
    """A dimension in words."""
    if dimension == _NONE:
        return "a ratio or count"
    above = [_power(unit, power) for unit, power in sorted(dimension) if power > 0]
    below = [_power(unit, -power) for unit, power in sorted(dimension) if power < 0]
    return "*".join(above or ["1"]) + "".join(f"/{one}" for one in below)


def _power(unit: str, power: int) -> str:
    return unit if power == 1 else f"{unit}^{power}"


def conversion(one: Dimension, other: Dimension) -> str:
    """How to convert between two dimensions, empty if that is not known."""
    return _CONVERSIONS.get(frozenset({written(one), written(other)}), "")
