"""Special forms: words that do more than evaluate their arguments in order.

`Roles` says when each part is evaluated. A form without expansion needs a method in `code.py` and in `checks/walk.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from mom_plugins_policy.language.syntax import DerivedForm, Form, FormKind, abridged, all_in
from mom_plugins_policy.language.words.functions import BUILTINS
from mom_plugins_policy.language.words.word import Word


class Role(Enum):
    """Role of a form's part: when the program evaluates it."""

    CONDITION = "condition"
    """Its value chooses the branch."""
    BRANCH = "branch"
    """Evaluated if the condition chooses it. The form returns the branch's value."""
    VALUE = "value"
    """Evaluated once."""
    BODY = "body"
    """Evaluated in order; the form returns the last value."""
    STEP = "step"
    """Evaluated for each element of the previous value."""
    FUNCTION = "function"
    """Evaluated when the function is called."""


class Binding(NamedTuple):
    """Bound name, and the form of its value, if any."""

    name: Form
    value: Form | None


class Roles(NamedTuple):
    """Roles of a form's parts."""

    parts: tuple[Form, ...]
    roles: tuple[Role, ...]
    bindings: tuple[Binding, ...] = ()
    """Names that the form binds. Each is bound as soon as its value is known."""
    scope: bool = False
    """Whether the bindings have their own scope."""
    assigned: str = ""
    defined: Form | None = None
    """Name of the function that the form defines. The bindings are the function's parameters."""

    @property
    def last(self) -> Role | None:
        """Role of the last part. It distinguishes loops, choices and sequences."""
        return self.roles[-1] if self.roles else None


@dataclass(frozen=True, slots=True, kw_only=True)
class FormWord(Word):
    """Special form."""

    roles: Callable[[Form], Roles | None]
    """Returns the roles if the number of parts is valid; None if a part is malformed."""
    shape: str = ""
    flaws: Callable[[Form, Roles | None], Iterable[tuple[Form, str]]] | None = None
    """Yields the mistakes for which mom rejects a policy. Other mistakes show only during evaluation."""
    plain: bool = False
    """Whether all parts are evaluated in order."""
    expansion: Callable[[Form], Form | None] | None = None
    """Returns an equivalent form of simpler words; None if the form is malformed."""


_CHOICE: Final = (Role.CONDITION, Role.BRANCH, Role.BRANCH)
_LOOP: Final = (Role.VALUE, Role.STEP)
_VALUE: Final = (Role.VALUE,)
_BODY: Final = (Role.BODY,)
_FUNCTION: Final = (Role.FUNCTION,)


def _if(form: Form) -> Roles:
    return Roles(tuple(form.items[1:]), _CHOICE)


def _let(form: Form) -> Roles | None:
    pairs = form.items[1]
    if pairs.kind is not FormKind.LIST:
        return None
    if any(pair.kind is not FormKind.LIST or len(pair.items) != 2 or pair.items[0].kind is not FormKind.NAME for pair in pairs.items):
        return None
    bindings = tuple(Binding(*pair.items) for pair in pairs.items)
    parts = (*(pair.items[1] for pair in pairs.items), *form.items[2:])
    return Roles(parts, _VALUE * len(bindings) + _BODY * (len(form.items) - 2), bindings, scope=True)


def _def(form: Form) -> Roles | None:
    _, name, parameters, body = form.items
    if name.kind is not FormKind.NAME or not _are_names(parameters):
        return None
    return Roles((body,), _FUNCTION, tuple(Binding(item, None) for item in parameters.items), scope=True, defined=name)


def _are_names(parameters: Form) -> bool:
    return parameters.kind is FormKind.LIST and all(item.kind is FormKind.NAME for item in parameters.items)


def _defvar(form: Form) -> Roles | None:
    _, name, value = form.items
    return Roles((value,), _VALUE, (Binding(name, value),)) if name.kind is FormKind.NAME else None


def _set(form: Form) -> Roles | None:
    _, name, value = form.items
    return Roles((value,), _VALUE, assigned=name.name) if name.kind is FormKind.NAME else None


def _with(form: Form) -> Roles | None:
    _, items, name, body = form.items
    if items.kind is not FormKind.NAME or name.kind is not FormKind.NAME:
        return None
    return Roles((items, body), _LOOP, (Binding(name, None),), scope=True)


def in_order(forms: Sequence[Form]) -> Roles:
    """Return roles of forms evaluated in sequence, as in `{ }`."""
    return Roles(tuple(forms), _BODY * len(forms))


def _invalid_names(form: Form, roles: Roles | None) -> Iterator[tuple[Form, str]]:
    for name, _ in roles.bindings if roles is not None else ():
        if name.name == "nil":
            yield name, "nil cannot be a variable"
        elif "." in name.name:
            yield name, f"{name.name} cannot be read as a variable, because of its dot"


def _invalid_parameters(form: Form, roles: Roles | None) -> Iterator[tuple[Form, str]]:
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


ELSE: Final = "else"
"""Word that may stand in place of the condition in the last clause of a `cond`."""


def _cond(form: Form) -> Form | None:
    head, *clauses = form.items
    if not clauses or any(clause.kind is not FormKind.LIST or len(clause.items) < 2 for clause in clauses):
        return None
    last = clauses[-1]
    if last.items[0].name == ELSE:
        otherwise = _in_order(last, last.items[1:])
        clauses = clauses[:-1]
    else:
        otherwise = Form(FormKind.NAME, "nil", form.text, form.end - 1, form.end)
    shown = form.items[1:]
    for number in reversed(range(len(clauses))):
        clause = clauses[number]
        original = form
        if number:
            original = Form(FormKind.LIST, None, form.text, clause.start, form.end, items=[head, *shown[number:]])
        word = Form(FormKind.NAME, "if", form.text, head.start, head.end)
        otherwise = DerivedForm(original, [word, clause.items[0], _in_order(clause, clause.items[1:]), otherwise])
    return otherwise


def _in_order(clause: Form, forms: Sequence[Form]) -> Form:
    if len(forms) == 1:
        return forms[0]
    return Form(FormKind.BLOCK, None, clause.text, forms[0].start, forms[-1].end, items=list(forms))


_DEFINES = "`def` takes a name, a list of parameters and a body"
_SETS = "`set` takes a name and a value"

_FORMS = (
    FormWord(name="if", least=3, most=3, meaning="evaluates the condition, then one branch only", roles=_if,
             named="a condition, a form for true, and a form for false: nil for nothing"),
    FormWord(name="let", least=2, most=None, meaning="binds names one after the other in a new scope; returns the last form's value",
             roles=_let, shape="`let` takes a list of pairs of a name and a value", flaws=_invalid_names),
    FormWord(name="def", least=3, most=3, meaning="defines a function: name, parameters, one body form", roles=_def, shape=_DEFINES,
             flaws=_invalid_parameters),
    FormWord(name="defun", least=3, most=3, meaning="the same as def", roles=_def, shape=_DEFINES, flaws=_invalid_parameters),
    FormWord(name="defvar", least=2, most=2, meaning="binds a name in the innermost scope, unless it is bound there already", roles=_defvar,
             shape="`defvar` takes a name and a value", flaws=_invalid_names),
    FormWord(name="set", least=2, most=2, meaning="assigns a value to the nearest binding of a name", roles=_set, shape=_SETS),
    FormWord(name="setq", least=2, most=2, meaning="the same as set", roles=_set, shape=_SETS),
    FormWord(name="with", least=3, most=3, meaning="evaluates the body once for each element; returns the list of the values", roles=_with,
             shape="`with` takes the name of a collection, a name for its elements, and a body"),
    FormWord(name="eval", least=0, most=None, meaning="evaluates forms in order, as in `{ }`; returns the last form's value",
             roles=lambda form: in_order(form.items[1:]), plain=True),
    FormWord(name="cond", extension=True, least=1, most=100, roles=lambda form: None, expansion=_cond,
        meaning="the first clause `(condition form …)` with a true condition; the last may begin with `else`; nil if no condition is true",
        shape="each clause of `cond` is a list of a condition and forms"),
)  # fmt: skip

SPECIAL_FORMS: Mapping[str, FormWord] = {word.name: word for word in _FORMS}

DEFINING = frozenset({"def", "defun"})
"""Forms that define functions. If the function's name is a word of the language, they do nothing, even if malformed."""

WORDS: Mapping[str, Word] = {**SPECIAL_FORMS, **BUILTINS}
"""Words that may be the head of a list. A variable of the same name hides a word."""


def expanded(forms: Sequence[Form], words: Mapping[str, Word]) -> Sequence[Form]:
    """Return the forms with all expansions applied, and numbered again."""
    top = [_expansion(form, words) for form in forms]
    for number, form in enumerate(all_in(top)):
        form.index = number
        form.items = [_expansion(item, words) for item in form.items]
    return top


def _expansion(form: Form, words: Mapping[str, Word]) -> Form:
    while True:
        word = words.get(form.items[0].name) if form.kind is FormKind.LIST and form.items else None
        if not isinstance(word, FormWord) or word.expansion is None or not word.takes(len(form.items) - 1):
            return form
        other = word.expansion(form)
        if other is None:
            return form
        form = other
