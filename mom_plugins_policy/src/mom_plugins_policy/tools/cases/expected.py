"""Expected values of decisions, and how tests write them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mom_core import Decision, Unit, UnitError, Value, parse_size, printable

SIZE: Final = re.compile(r"[0-9]+(?:\.[0-9]+)?\s*(?:[KMGTP]i?|k)?B")
"""An amount of memory as people write it."""

IN_BYTES: Final = {Unit.KIB: 1024, Unit.BYTES: 1}
"""The units in which amounts of memory are measured."""


@dataclass(frozen=True, slots=True)
class Expected:
    """The expected value of a decision: between two numbers, exactly something, anything, or no decision at all."""

    text: str
    """As it was written; `any` and `none` mean just that."""
    low: float = -math.inf
    high: float = math.inf
    strictly: bool = False
    """The bounds themselves are not allowed."""
    exactly: Value = None

    def holds(self, decision: Decision | None) -> bool:
        """True if this decision, or that there is none, is what was expected."""
        if decision is None or self.text == "none":
            return (decision is None) is (self.text == "none")
        value = decision.value
        if self.text == "any" or self.exactly is not None:
            return self.text == "any" or value == self.exactly
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return self.low < value < self.high if self.strictly else self.low <= value <= self.high


_RELATION = re.compile(r"(<=|>=|<|>)\s*(.+)")
_TOLERANCE = re.compile(r"(.+?)\s*(?:~|±|\+-)\s*(.+)")
_RANGE = re.compile(r"(.*?)\s*\.\.\s*(.*)")


def expected_value(written: object, unit: Unit | None) -> Expected:
    """The expectation, from how a test writes it: `5`, `1GiB`, `1GiB ~5%`, `1GiB..2GiB`, `< 1GiB`, `any`, `none`.

    :param unit: the control's unit; sizes are understood for KiB and bytes
    :raises ValueError: it cannot be understood; the message says why
    """
    if written is None:
        raise ValueError("is empty; write `none` for no decision, `any` for whatever is decided")
    if isinstance(written, list | Mapping):
        return Expected(str(written), exactly=written)
    if isinstance(written, bool):
        written = int(written)
    if isinstance(written, int | float):
        number = _finite(float(str(written)))  # of an integer that is too large, infinity
        return Expected(str(written), number, number)
    text = str(written).strip()
    if text in ("none", "any"):
        return Expected(text)
    if unit is Unit.TEXT:
        return Expected(text, exactly=text)
    return _range(text, unit)


def _range(text: str, unit: Unit | None) -> Expected:
    if found := _RELATION.fullmatch(text):
        sign, bound = found[1], _amount(found[2], unit)
        return Expected(text, low=bound, strictly=sign == ">") if sign[0] == ">" else Expected(text, high=bound, strictly=sign == "<")
    if found := _RANGE.fullmatch(text):
        if not found[1] and not found[2]:
            raise ValueError("has no bound; write any for whatever is decided")
        low = _amount(found[1], unit) if found[1] else -math.inf
        high = _amount(found[2], unit) if found[2] else math.inf
        if low > high:
            raise ValueError(f"ends ({found[2]}) below its beginning ({found[1]})")
        return Expected(text, low, high)
    if found := _TOLERANCE.fullmatch(text):
        middle = _amount(found[1], unit)
        part = middle * _amount(found[2][:-1].strip(), None) / 100 if found[2].endswith("%") else _amount(found[2], unit)
        return Expected(text, middle - abs(part), middle + abs(part))
    number = _amount(text, unit)
    return Expected(text, number, number)


def _amount(text: str, unit: Unit | None) -> float:
    if SIZE.fullmatch(text):
        if unit not in IN_BYTES:
            raise ValueError(f"{text} is a size, and the control is no amount of memory" if unit else f"{text} is no number")
        try:
            return parse_size(text) / IN_BYTES[unit]
        except UnitError as error:
            raise ValueError(error.message) from None
    try:
        return _finite(float(text.replace("_", "").replace(",", "")))
    except ValueError:
        such = "5, 1GiB, 1GiB ~5%, 1GiB..2GiB, < 1GiB, any or none"
        raise ValueError(f"'{printable(text, 40)}' is no number; write such as {such}") from None


def _finite(number: float) -> float:
    if not math.isfinite(number):
        raise ValueError(f"{number} is no number to expect")
    return number
