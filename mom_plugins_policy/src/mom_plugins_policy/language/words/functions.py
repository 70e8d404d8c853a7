"""Functions of the language, and the values of the predefined variables `abs` and `debug`.

To add a function, add its record here and its rows to the tests. The record decides:

- the code, which calls `compute`. The time of a call must not grow with the values. `compute` raises `TypeError` for the error `type`,
  `ZeroDivisionError` for `zero-division`, `OverflowError` or `ValueError` for `range`, and `MemoryError` for `limit`.
- the checks. They use `result`. A `strict` function fails on nil.
- the tables of the reference and the editors' grammars (`docs/generate.py`).
"""

from __future__ import annotations

import logging
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from mom_core import printable
from mom_plugins_policy.language.values import empty, show
from mom_plugins_policy.language.words.word import FLOAT, INT, LIST, NUMBER, STRING, Word


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionWord(Word):
    """Function of the language. See the module's docstring."""

    compute: Callable[..., Any]
    result: int | None = None
    """Types that the result may have. None: those of the arguments."""
    strict: int | None = 1
    """With this many arguments or more, a nil argument is an error. None: nil is never an error."""
    operator: str = ""
    """Operator that may stand for the name at the head of a list."""
    variable: bool = False
    """Whether the function is the value of a predefined variable, which a policy may rebind."""


_LARGE_SHIFT = 1 << 13  # bits: more than any limit allows
_LONGEST = 1 << 17  # characters, elements: more than the limits allow


def _shifted_left(left: Any, right: Any) -> Any:
    if isinstance(left, int) and isinstance(right, int) and right > _LARGE_SHIFT:
        if left:
            raise OverflowError
        return 0
    return left << right


def _shifted_right(left: Any, right: Any) -> Any:
    return left >> (min(right, _LARGE_SHIFT) if isinstance(right, int) else right)


def _product(left: Any, right: Any) -> Any:
    for value, times in ((left, right), (right, left)):
        if isinstance(value, str | list | tuple) and isinstance(times, int) and len(value) * times > _LONGEST:
            raise MemoryError
    return left * right


def _first(truth: bool) -> Callable[..., Any]:
    def compute(*values: Any) -> Any:
        return next((value for value in values if bool(value) is truth), values[-1])

    return compute


def _none_missing(*values: Any) -> bool:
    return all(value is not None for value in values)


def _all_nothing(*values: Any) -> bool:
    return all(map(empty, values))


_log = logging.getLogger("mom.policy")

_LONGEST_DEBUG: Final = 2000  # characters


def _write_to_log(*values: Any) -> Any:
    if _log.isEnabledFor(logging.DEBUG):
        shown = [value[:_LONGEST_DEBUG] if isinstance(value, str) else show(value) for value in values[:_LONGEST_DEBUG]]
        # One line, so that a policy cannot forge log records.
        _log.debug("%s", printable(" ".join(shown), _LONGEST_DEBUG))
    return values[-1]


_FUNCTIONS = (
    FunctionWord(name="add", operator="+", least=2, most=2, meaning="sum of numbers; concatenation of strings or lists",
                 compute=operator.add, result=NUMBER | STRING | LIST),
    FunctionWord(name="sub", operator="-", least=2, most=2, meaning="difference",
                 compute=operator.sub, result=NUMBER),
    FunctionWord(name="mul", operator="*", least=2, most=2, meaning="product; repetition of a string or list",
                 compute=_product, result=NUMBER | STRING | LIST),
    FunctionWord(name="div", operator="/", least=2, most=2, meaning="quotient, always a float", compute=operator.truediv,
                 result=FLOAT),
    *(
        FunctionWord(name=name, operator=sign, least=2, most=2, meaning=meaning, compute=compute, result=INT)
        for name, sign, meaning, compute in (
            ("lt", "<", "less than", operator.lt),
            ("gt", ">", "greater than", operator.gt),
            ("lte", "<=", "less than or equal", operator.le),
            ("gte", ">=", "greater than or equal", operator.ge),
        )
    ),
    FunctionWord(name="eq", operator="==", least=2, most=2, meaning="equal; never an error", compute=operator.eq, strict=None,
                 result=INT),
    FunctionWord(name="neq", operator="!=", least=2, most=2, meaning="not equal; never an error", compute=operator.ne, strict=None,
                 result=INT),
    FunctionWord(name="shl", operator="<<", least=2, most=2, meaning="shift to the left", compute=_shifted_left, result=INT),
    FunctionWord(name="shr", operator=">>", least=2, most=2, meaning="arithmetic shift to the right", compute=_shifted_right,
                 result=INT),
    FunctionWord(name="and", least=1, most=None, meaning="the first false argument, or else the last; evaluates all arguments",
                 compute=_first(False), strict=None),
    FunctionWord(name="or", least=1, most=None, meaning="the first true argument, or else the last; evaluates all arguments",
                 compute=_first(True), strict=None),
    FunctionWord(name="not", least=1, most=1, meaning="whether the argument is false", compute=operator.not_, strict=None,
                 result=INT),
    FunctionWord(name="min", least=1, most=None, meaning="the smallest argument; of equal arguments the first",
                 compute=lambda *values: min(values), strict=2),
    FunctionWord(name="max", least=1, most=None, meaning="the largest argument; of equal arguments the first",
                 compute=lambda *values: max(values), strict=2),
    FunctionWord(name="null", least=0, most=None, meaning="whether every argument is nil or empty", compute=_all_nothing, strict=None,
                 result=INT),
    FunctionWord(name="valid", least=0, most=None, meaning="whether no argument is nil", compute=_none_missing, strict=None,
                 result=INT),
    FunctionWord(name="sqrt", extension=True, least=1, most=1, meaning="square root as a float; an error for a negative number",
                 compute=math.sqrt, result=FLOAT),
    FunctionWord(name="abs", variable=True, least=1, most=1, meaning="absolute value, of the argument's type", compute=abs,
                 result=NUMBER),
    FunctionWord(name="debug", variable=True, least=1, most=None, meaning="writes its arguments to the debug log; returns the last one",
                 compute=_write_to_log, strict=None),
)  # fmt: skip

FUNCTIONS: Mapping[str, FunctionWord] = {word.name: word for word in _FUNCTIONS}

BUILTINS: Mapping[str, FunctionWord] = {word.name: word for word in _FUNCTIONS if not word.variable}

CALLABLES: Mapping[str, FunctionWord] = {word.name: word for word in _FUNCTIONS if word.variable}

OPERATORS: Mapping[str, str] = {word.operator: word.name for word in _FUNCTIONS if word.operator}

PREDEFINED = ("Host", "Guests", *CALLABLES)
