"""What a field can hold, and how to read it as a number, a text or a list: what is none, or cannot be, is unknown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

Value: TypeAlias = "int | float | str | bool | None | Sequence[Value] | Mapping[str, Value]"
"""What a field can hold. None: collected, and found to be unknown."""

NUMBER_LIMIT: Final = 2.0**63
"""Numbers from here on are rubbish: no counter or size of a host reaches it, and an uninitialised 64-bit field does."""


def are_within_bounds(numbers: Iterable[Any]) -> bool:
    """True if these integers and floats are within bounds, all together: nearly all fields of nearly all guests are."""
    try:
        return float(sum(map(abs, numbers))) < NUMBER_LIMIT  # false for what is not a number, too
    except OverflowError:  # an integer beyond all floats
        return False


def is_usual_number(value: object) -> bool:
    """True for an integer or float that can be written anywhere, as nearly all values are."""
    return type(value) in (int, float) and -1e18 < value < 1e18  # type: ignore[operator]  # a number by then


def number_wanted(given: object) -> str:
    """What belongs where this is no number of a host: words for an error."""
    return "a number below 2**63" if isinstance(given, int | float) else "a number"


def as_number(value: Value) -> float | None:
    """A number as it is. None: it is unknown or no number, not finite, or 2**63 and beyond; true and false are no numbers."""
    kind = type(value)  # exact types first, and the limit written out: this is asked a dozen times for each guest in each cycle
    if kind is int or kind is float:
        return value if -(2.0**63) < value < 2.0**63 else None  # type: ignore[operator,return-value]  # mypy does not narrow by `kind`
    if value is None or kind is bool or not isinstance(value, int | float):
        return None
    return value if -NUMBER_LIMIT < value < NUMBER_LIMIT else None


def as_whole(value: Value) -> int | None:
    """A whole number, also where it is written as 2.0. None: as with `as_number`, or it has a fraction."""
    number = as_number(value)
    return int(number) if number is not None and number == int(number) else None


def as_items(value: Value) -> Sequence[Mapping[str, Value]] | None:
    """The mappings of a list, such as one for each disk; what else is in it is left out. None: it is unknown or no list."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return None
    return [item for item in value if isinstance(item, Mapping)]


class Readable:
    """The base of what has fields: a snapshot's host and guests. Each method reads one field as what it should be; None: it is unknown."""

    __slots__ = ()

    fields: Mapping[str, Value]

    def number(self, name: str) -> float | None:
        """A field as a number: see `as_number`."""
        return as_number(self.fields.get(name))

    def whole(self, name: str) -> int | None:
        """A field as a whole number: see `as_whole`."""
        return as_whole(self.fields.get(name))

    def text(self, name: str) -> str | None:
        """A field as a text, also an empty one. None: it is unknown or no text."""
        value = self.fields.get(name)
        return value if isinstance(value, str) else None

    def items(self, name: str) -> Sequence[Mapping[str, Value]] | None:
        """A field as a list of mappings: see `as_items`."""
        return as_items(self.fields.get(name))
