"""Values of fields, and their conversion. An invalid value counts as unknown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from mom_core.texts import shown
from mom_core.units import Unit

Value: TypeAlias = "int | float | str | bool | None | Sequence[Value] | Mapping[str, Value]"
"""Value of a field. None means unknown."""

NUMBER_LIMIT: Final = 2.0**63


def are_within_bounds(numbers: Iterable[Any]) -> bool:
    """Return whether all magnitudes add up to less than 2**63: a fast check that each number is valid."""
    try:
        return float(sum(map(abs, numbers))) < NUMBER_LIMIT  # also false for NaN
    except OverflowError:  # an integer beyond all floats
        return False


def why_unfit(value: object, unit: Unit) -> str:
    """Return why a field or control of this unit cannot have this value; empty if it can."""
    if unit is Unit.TEXT:
        fits, wanted = isinstance(value, str), "a text"
    elif unit is Unit.LIST:
        items = value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else (None,)
        fits, wanted = all(isinstance(item, Mapping) for item in items), "a list of mappings"
    else:
        fits = isinstance(value, int | float) and -NUMBER_LIMIT < value < NUMBER_LIMIT
        wanted = "a number below 2**63" if isinstance(value, int | float) else "a number"
    return "" if fits else f"should be {wanted} and is {type(value).__name__} {shown(value)}"


def is_usual_number(value: object) -> bool:
    """Return whether this is a number between -1e18 and 1e18, and no boolean."""
    return type(value) in (int, float) and -1e18 < value < 1e18  # type: ignore[operator]  # a number here


def as_number(value: Value) -> float | None:
    """Return a number between -2**63 and 2**63; None for other values, NaN and booleans."""
    kind = type(value)  # hot path: exact types first, and the limit as a literal
    if kind is int or kind is float:
        return value if -(2.0**63) < value < 2.0**63 else None  # type: ignore[operator,return-value]  # mypy does not narrow by `kind`
    if value is None or kind is bool or not isinstance(value, int | float):
        return None
    return value if -NUMBER_LIMIT < value < NUMBER_LIMIT else None


def as_whole(value: Value) -> int | None:
    """Return a whole number; 2.0 counts as 2. Return None for fractions, and where `as_number` does."""
    number = as_number(value)
    return int(number) if number is not None and number == int(number) else None


def as_items(value: Value) -> Sequence[Mapping[str, Value]] | None:
    """Return the mappings in a list, for example one per disk; None if the value is unknown or no list."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return None
    return [item for item in value if isinstance(item, Mapping)]


class Readable:
    """Base of `Host` and `Guest`: methods read a field as one type and return None if it is unknown."""

    __slots__ = ()

    fields: Mapping[str, Value]

    def number(self, name: str) -> float | None:
        """Return a field, converted by `as_number`."""
        return as_number(self.fields.get(name))

    def whole(self, name: str) -> int | None:
        """Return a field, converted by `as_whole`."""
        return as_whole(self.fields.get(name))

    def text(self, name: str) -> str | None:
        """Return a field as a string, possibly empty; None if unknown or not a string."""
        value = self.fields.get(name)
        return value if isinstance(value, str) else None

    def items(self, name: str) -> Sequence[Mapping[str, Value]] | None:
        """Return a field, converted by `as_items`."""
        return as_items(self.fields.get(name))
