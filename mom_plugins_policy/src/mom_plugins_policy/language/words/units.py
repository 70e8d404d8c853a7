"""Dimensions of numbers and of the results of computations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

from mom_core import Unit

Dimension: TypeAlias = "frozenset[tuple[str, int]]"
"""Units with their powers; empty for a ratio or a count."""

ANY: Final = frozenset({("any", 0)})
"""Dimension of a plain number, which may count anything."""

UNKNOWN: Final = frozenset({("unknown", 0)})
"""No dimension, or one that the checks cannot determine."""

_NONE: Final[Dimension] = frozenset()

_WITHOUT_DIMENSION: Final = ("", "1", Unit.COUNT, Unit.RATIO, Unit.FLAG)

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
_CONVERTS: Final = (0.25, 0.01, 1 / 60)  # other numbers that may convert, besides tiny ones
_TINY: Final = 0.002


def dimension_of_unit(unit: Unit) -> Dimension:
    """Return a unit's dimension."""
    if unit in (Unit.TEXT, Unit.LIST):
        return UNKNOWN
    above, _, below = unit.value.partition("/")
    return frozenset((part, power) for part, power in ((above, 1), (below, -1)) if part not in _WITHOUT_DIMENSION)


class Measured(NamedTuple):
    """Dimension of a number, and its value if constant."""

    dimension: Dimension
    value: object = None


def unknown(args: Sequence[Measured]) -> Dimension:
    """Return `UNKNOWN`."""
    return UNKNOWN


def same(args: Sequence[Measured]) -> Dimension:
    """Return the arguments' common dimension."""
    result = args[0].dimension
    for arg in args[1:]:
        result = joined(result, arg.dimension)
    return result


def product(args: Sequence[Measured]) -> Dimension:
    """Return a product's dimension."""
    return _scaled(args, 1)


def quotient(args: Sequence[Measured]) -> Dimension:
    """Return a quotient's dimension."""
    return _scaled(args, -1)


def root(args: Sequence[Measured]) -> Dimension:
    """Return a square root's dimension."""
    (dimension, _) = args[0]
    if dimension in (ANY, UNKNOWN) or any(power % 2 for _, power in dimension):
        return ANY if dimension == ANY else UNKNOWN
    return frozenset((unit, power // 2) for unit, power in dimension)


def _scaled(args: Sequence[Measured], sign: int) -> Dimension:
    # `sign` is 1 for a product, -1 for a quotient. A plain number scales the other value or converts its unit.
    for number in (0, 1):
        (dimension, value), (other, _) = args[number], args[1 - number]
        if dimension == ANY:
            if other == ANY:
                return ANY
            if sign < 0 and number == 0:
                return UNKNOWN
            return other if _only_scales(value) else UNKNOWN
    if UNKNOWN in (args[0].dimension, args[1].dimension):
        return UNKNOWN
    powers = dict(args[0].dimension)
    for unit, power in args[1].dimension:
        powers[unit] = powers.get(unit, 0) + sign * power
    return frozenset((unit, power) for unit, power in powers.items() if power)


def _only_scales(value: object) -> bool:
    if not isinstance(value, int | float):
        return False
    size = abs(value)
    if isinstance(size, int) or size.is_integer():
        return size in _SCALES
    return size >= _TINY and size not in _CONVERTS


def joined(left: Dimension, right: Dimension) -> Dimension:
    """Return the common dimension of two values; `UNKNOWN` if their dimensions differ."""
    if left in (ANY, right):
        return right
    return left if right == ANY else UNKNOWN


def differ(left: Dimension, right: Dimension) -> bool:
    """Return whether both dimensions are known and differ."""
    return not {left, right} & {ANY, UNKNOWN} and left != right


def written(dimension: Dimension) -> str:
    """Describe a dimension."""
    if dimension == _NONE:
        return "a ratio or count"
    above = [_power(unit, power) for unit, power in sorted(dimension) if power > 0]
    below = [_power(unit, -power) for unit, power in sorted(dimension) if power < 0]
    return "*".join(above or ["1"]) + "".join(f"/{item}" for item in below)


def _power(unit: str, power: int) -> str:
    return unit if power == 1 else f"{unit}^{power}"


def conversion(left: Dimension, right: Dimension) -> str:
    """Return how to convert between two dimensions, or an empty string if unknown."""
    return _CONVERSIONS.get(frozenset({written(left), written(right)}), "")
