"""Special forms: words that do more than evaluate their arguments in order.

Each form needs a method in `code.py` and in `checks/walk.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from mom_plugins_policy.language.syntax import Form, FormKind, abridged
from mom_plugins_policy.language.words.functions import BUILTINS
from mom_plugins_policy.language.words.word import Word


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
