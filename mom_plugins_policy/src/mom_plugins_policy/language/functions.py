"""Functions of the language, the values of the predefined variables `abs` and `debug`, and special forms.

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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from mom_core import printable
from mom_plugins_policy.language.syntax import Form, FormKind, abridged
from mom_plugins_policy.language.values import empty, show
from mom_plugins_policy.language.words import FLOAT, INT, LIST, NUMBER, STRING, Word


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


# --- special forms -------------------------------------------------------------------------------------------------------------

# Special forms do more than evaluate their arguments in order. Each form needs a method in `code.py` and in `checks/walk.py`.


class Clause(NamedTuple):
    """Clause of an `if` or `cond`. The last clause is the `else`, without a condition; an empty body means nil."""

    condition: Form | None
    body: Sequence[Form]


class Parts(NamedTuple):
    """Parts of a special form."""

    evaluated: Sequence[Form]
    bindings: Sequence[Form] = ()
    """Names that the form binds, each before the next value is evaluated."""
    assigned: str = ""
    defined: Form | None = None
    """Name of the function that the form defines. The bindings are the function's parameters."""
    clauses: Sequence[Clause] = ()
    collection: str = ""
    """Name of the collection that the form loops over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FormWord(Word):
    """Special form."""

    parts: Callable[[Form], Parts | None]
    """Function that splits a form with a valid number of arguments into parts, or returns None if an argument is malformed."""
    shape: str = ""
    flaws: Callable[[Form, Parts | None], Iterable[tuple[Form, str]]] | None = None
    """Function that yields the mistakes for which mom rejects a policy. Other mistakes show only during evaluation."""
    plain: bool = False
    """Whether all parts are evaluated in order."""


ELSE: Final = "else"
"""Word that may replace the condition in a `cond`'s last clause."""


def _if(form: Form) -> Parts:
    _, condition, then, otherwise = form.items
    return Parts(form.items[1:], clauses=(Clause(condition, (then,)), Clause(None, (otherwise,))))


def _cond(form: Form) -> Parts | None:
    clauses = form.items[1:]
    if any(clause.kind is not FormKind.LIST or len(clause.items) < 2 for clause in clauses):
        return None
    otherwise: Sequence[Form] = ()
    if clauses[-1].items[0].name == ELSE:
        otherwise = clauses.pop().items[1:]
    evaluated = [part for clause in clauses for part in clause.items]
    choices = [Clause(clause.items[0], clause.items[1:]) for clause in clauses]
    return Parts((*evaluated, *otherwise), clauses=(*choices, Clause(None, otherwise)))


def _let(form: Form) -> Parts | None:
    pairs = form.items[1]
    if pairs.kind is not FormKind.LIST:
        return None
    if any(pair.kind is not FormKind.LIST or len(pair.items) != 2 or pair.items[0].kind is not FormKind.NAME for pair in pairs.items):
        return None
    return Parts((*(pair.items[1] for pair in pairs.items), *form.items[2:]), [pair.items[0] for pair in pairs.items])


def _def(form: Form) -> Parts | None:
    _, name, parameters, body = form.items
    if name.kind is not FormKind.NAME or not _are_names(parameters):
        return None
    return Parts((body,), parameters.items, defined=name)


def _are_names(parameters: Form) -> bool:
    return parameters.kind is FormKind.LIST and all(item.kind is FormKind.NAME for item in parameters.items)


def _defvar(form: Form) -> Parts | None:
    _, name, value = form.items
    return Parts((value,), (name,)) if name.kind is FormKind.NAME else None


def _set(form: Form) -> Parts | None:
    _, name, value = form.items
    return Parts((value,), assigned=name.name) if name.kind is FormKind.NAME else None


def _with(form: Form) -> Parts | None:
    _, items, name, body = form.items
    if items.kind is not FormKind.NAME or name.kind is not FormKind.NAME:
        return None
    return Parts((items, body), (name,), collection=items.name)


def _invalid_names(form: Form, parts: Parts | None) -> Iterator[tuple[Form, str]]:
    for name in parts.bindings if parts is not None else ():
        if name.name == "nil":
            yield name, "nil cannot be a variable"
        elif "." in name.name:
            yield name, f"{name.name} cannot be read as a variable, because of its dot"


def _invalid_parameters(form: Form, parts: Parts | None) -> Iterator[tuple[Form, str]]:
    _, name, listed, _ = form.items
    if name.kind is not FormKind.NAME:
        return
    if not _are_names(listed):
        yield listed, f"the parameters of {name.name} must be a list of names in ( ) or [ ], not {abridged(listed, 30)}"
        return
    names: set[str] = set()
    for parameter in listed.items:
        if parameter.name in names:
            yield parameter, f"{name.name} has two parameters named {parameter.name}"
        names.add(parameter.name)


_DEFINES = "`def` takes a name, a list of parameters and a body"
_SETS = "`set` takes a name and a value"

_FORMS = (
    FormWord(name="if", least=3, most=3, meaning="evaluates the condition, then one of two branches", parts=_if),
    FormWord(name="let", least=2, most=None, meaning="binds names one after the other in a new scope; returns the last form's value",
             parts=_let, shape="`let` takes a list of pairs of a name and a value", flaws=_invalid_names),
    FormWord(name="def", least=3, most=3, meaning="defines a function: name, parameters, one body form", parts=_def, shape=_DEFINES,
             flaws=_invalid_parameters),
    FormWord(name="defun", least=3, most=3, meaning="the same as def", parts=_def, shape=_DEFINES, flaws=_invalid_parameters),
    FormWord(name="defvar", least=2, most=2, meaning="binds a name in the innermost scope, unless already bound there", parts=_defvar,
             shape="`defvar` takes a name and a value", flaws=_invalid_names),
    FormWord(name="set", least=2, most=2, meaning="assigns a value to the nearest binding of a name", parts=_set, shape=_SETS),
    FormWord(name="setq", least=2, most=2, meaning="the same as set", parts=_set, shape=_SETS),
    FormWord(name="with", least=3, most=3, meaning="evaluates the body once for each element; returns the list of the values", parts=_with,
             shape="`with` takes the name of a collection, a name for its elements, and a body"),
    FormWord(name="eval", least=0, most=None, meaning="evaluates forms in order, as in `{ }`; returns the last form's value",
             parts=lambda form: Parts(form.items[1:]), plain=True),
    FormWord(name="cond", extension=True, least=1, most=100, parts=_cond,
        meaning="evaluates the first clause `(condition form …)` whose condition is true or `else`; nil without such a clause",
        shape="each clause of `cond` is a list of a condition and forms"),
)  # fmt: skip

SPECIAL_FORMS: Mapping[str, FormWord] = {word.name: word for word in _FORMS}

DEFINING = frozenset({"def", "defun"})
"""Forms that define functions. If the function's name is a word of the language, they do nothing, even if malformed."""


def clauses_of(form: Form) -> Sequence[Clause]:
    """Return the clauses of a well-formed `if` or `cond`."""
    parts = SPECIAL_FORMS[form.items[0].name].parts(form)
    return () if parts is None else parts.clauses


WORDS: Mapping[str, Word] = {**SPECIAL_FORMS, **BUILTINS}
"""Words that may be the head of a list. A variable of the same name hides a word."""
