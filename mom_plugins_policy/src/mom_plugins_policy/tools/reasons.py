"""Why a guest got what it got, in words: the conditions that were decided on the way to the request, with the values that they had then.

The evaluation is repeated once, on the same snapshot and notes, and only what is told is traced (`Paths`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final
from weakref import WeakKeyDictionary

from mom_core import Guest, Scope, Unit, format_kib, printable
from mom_plugins_policy.language.analysis import Definition, Program
from mom_plugins_policy.language.policy import Result
from mom_plugins_policy.language.syntax import Form, FormKind, abridged
from mom_plugins_policy.language.words.forms import Role
from mom_plugins_policy.language.words.functions import BUILTINS, FUNCTIONS, OPERATORS
from mom_plugins_policy.language.words.units import ANY, UNKNOWN, Dimension, Measured, dimension_of_unit, written
from mom_plugins_policy.tools.trace import Choice, Paths

_LONGEST: Final = 600  # characters of what is said
_CONDITIONS: Final = 4  # around a request, from the inside out: those farther out are hardly about this guest
_CONDITIONS_TOLD: Final = 20  # of one `and` or `or`
_DEEPEST: Final = 40  # forms in forms that are looked at
_MOST_FORMS: Final = 2000  # that are told, or of which the unit is found out
_FARTHEST: Final = 400  # forms around a request
_LARGEST_BITS: Final = 512  # of an integer: a product of two such is still fast, and a float can hold what is shown
_SHOWN: Final = 60  # characters of a form
_SHOWN_ITEMS: Final = 20  # of a list

_TOLD_UNITS: Final = frozenset({Unit.KIB.value, Unit.KIB_PER_SECOND.value, Unit.SECONDS.value, Unit.PERCENT.value})


_known_paths: Final[WeakKeyDictionary[Result, Mapping[tuple[str, int], Sequence[Choice]]]] = WeakKeyDictionary()
"""What was traced of evaluations that are still told of: each guest is asked about by itself."""


def _taken(result: Result) -> Mapping[tuple[str, int], Sequence[Choice]]:
    """The choices on the way to requests, by the entity's id and the index of the request's form."""
    found = _known_paths.get(result)
    if found is None:
        found = _known_paths[result] = _survey(result.program).paths.taken(result)
    return found


def said(result: Result, guest: Guest, control: str) -> str:
    """Why a guest got this control, in words; empty where nothing is known of it.

    :param result: the evaluation that it got it by
    """
    requested = None if result.stopped or guest.id in result.failed else result.request_of(control, guest.id)
    return "" if requested is None else printable("; ".join(_Conditions(result, guest, requested).conditions()), _LONGEST)


def _amount(value: object, unit: str) -> str:
    if isinstance(value, int) and value.bit_length() > _LARGEST_BITS:
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        shown = [*value[:_SHOWN_ITEMS], "…"] if isinstance(value, list | tuple) and len(value) > _SHOWN_ITEMS else value
        return printable(value if isinstance(value, str) else str(shown), _SHOWN)
    if unit in (Unit.KIB, Unit.KIB_PER_SECOND):
        return format_kib(value) + unit.removeprefix(Unit.KIB)
    text = f"{value:,.0f}" if float(value).is_integer() else f"{value:,.3g}"
    return f"{text} {unit}".rstrip()


# --- what its conditions say -----------------------------------------------------------------------------------------------------


class _Outline:
    """What the words need to know of a program as a whole."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.around: dict[int, Form] = {}
        """By the id of a form: the one around it."""
        self.calls: dict[str, list[Form]] = {}
        self.defined: dict[str, list[Form]] = {}
        """By name: what it is bound to."""
        self.bodies: dict[int, Definition] = {id(one.body): one for one in program.functions()}
        requests: list[Form] = []
        todo = list(program.forms)
        while todo:
            form = todo.pop()
            for item in form.items:
                self.around[id(item)] = form
            todo.extend(form.items)
            head = form.items[0].name if form.items else ""
            if head.endswith(".Control"):
                requests.append(form)
            elif head in program.definitions:
                self.calls.setdefault(head, []).append(form)
            roles = program.roles.get(form.index)
            for name, value in roles.bindings if roles is not None else ():
                self.defined.setdefault(name.name, []).append(form if value is None else value)
        choices = {request.index: [outer for outer, _ in self.choices(request)] for request in requests}
        told = {choice.index: [*_told_in(choice.items[1]), choice.items[1]] for several in choices.values() for choice in several}
        self.paths = Paths(program, choices, told)

    def outwards(self, form: Form) -> Iterator[tuple[Form, Form]]:
        """Each form around one with its part that leads there, from the inside out; around a function's body, its only call."""
        for _ in range(_FARTHEST):
            definition = self.bodies.get(id(form))
            if definition is None:
                outer = self.around.get(id(form))
            else:
                calls = self.calls.get(definition.name, ())
                outer = calls[0] if len(calls) == 1 and len(self.program.definitions[definition.name]) == 1 else None
            if outer is None:
                return
            yield outer, form
            form = outer

    def choices(self, request: Form) -> list[tuple[Form, Form]]:
        """The choices around a request, from the inside out, each with the branch that leads there."""
        found = []
        for outer, inner in self.outwards(request):
            roles = self.program.roles.get(outer.index)
            if roles is not None and roles.last is Role.BRANCH and inner is not roles.parts[0]:
                found.append((outer, inner))
        return found[:_CONDITIONS]


def _told_in(test: Form, depth: int = 0) -> Iterator[Form]:
    """The forms in a condition that may be told with their values."""
    head, parts = _head(test), test.items[1:]
    word = BUILTINS.get(head)
    if depth > _DEEPEST or word is None:
        return
    yield from parts
    if head in ("and", "or", "not"):
        for part in parts:
            yield from _told_in(part, depth + 1)


_survey = lru_cache(maxsize=2)(_Outline)  # policies in force, and on trial: whoever looks at a guest asks in each cycle


class _Conditions:
    """The conditions around one request, in words."""

    def __init__(self, result: Result, guest: Guest, request: Form) -> None:
        self._result = result
        self._known = _survey(result.program)
        self._taken = _taken(result).get((guest.id, request.index), ())
        self._whose = {request.items[0].name.partition(".")[0]}
        self._arguments: dict[str, Form] = {}
        """By parameter: what the calls around the request give it."""
        self._values: Mapping[int, Any] = {}
        self._left = _MOST_FORMS
        for call, body in self._known.outwards(request):
            definition = self._known.bodies.get(id(body))
            for parameter, argument in zip(definition.parameters, call.items[1:], strict=False) if definition is not None else ():
                self._arguments[parameter] = argument
                if parameter in self._whose and argument.kind is FormKind.NAME:
                    self._whose.add(argument.name)

    def conditions(self) -> Iterator[str]:
        """What had to hold, the outermost first."""
        for choice in reversed(self._taken):
            self._values = choice.values
            yield self._phrase(choice.form, choice.truth)

    def _phrase(self, test: Form, holds: bool, depth: int = 0) -> str:
        """A condition that held, or did not."""
        self._left -= 1
        if self._left < 0:
            return "…"
        head = _head(test) if depth < _DEEPEST else ""
        parts = test.items[1:]
        if head == "not" and len(parts) == 1:
            return self._phrase(parts[0], not holds, depth + 1)
        word = BUILTINS.get(head)
        if head in ("and", "or"):
            telling = [one for one in parts if self._truth(one) is holds] if holds is (head == "or") else parts
            if telling:
                return " and ".join(self._phrase(one, holds, depth + 1) for one in telling[:_CONDITIONS_TOLD])
        if head == "null" and holds and len(parts) == 1 and self._values.get(parts[0].index) is not None:
            return f"{_name_of(parts[0], self._whose)} is empty"
        if word is not None and word.told is not None and word.told[0].count("{}") == len(parts):
            others = parts[::-1] if len(parts) == 2 else [None]
            return word.told[not holds].format(*(self._operand(one, other) for one, other in zip(parts, others, strict=True)))
        if test.kind is FormKind.NAME:
            return f"{self._operand(test)} is {'true' if holds else 'false'}"
        return f"{abridged(test, _SHOWN)} is {'true' if holds else 'false'}"

    def _operand(self, form: Form, other: Form | None = None) -> str:
        """A side of a comparison, with its value where it is known."""
        unit = self._unit(form) or ("" if other is None else self._unit(other))
        value = form.value if form.kind is FormKind.LITERAL else self._values.get(form.index)
        if value is None:
            return _name_of(form, self._whose)
        shown = _amount(value, unit)
        return shown if form.kind is FormKind.LITERAL else f"{_name_of(form, self._whose)} ({shown})"

    def _truth(self, form: Form) -> bool:
        return bool(form.value if form.kind is FormKind.LITERAL else self._values.get(form.index))

    def _unit(self, form: Form) -> str:
        """The unit of a form; empty where it has none, or it is not known."""
        unit = written(self._dimension(form, 0))
        return unit if unit in _TOLD_UNITS else ""

    def _dimension(self, form: Form, depth: int) -> Dimension:
        self._left -= 1
        if depth > _DEEPEST or self._left < 0:
            return UNKNOWN
        if form.kind is FormKind.LITERAL:
            return ANY
        if form.kind is FormKind.NAME:
            base, _, field = form.name.partition(".")
            if not field:
                bound = self._known.defined.get(base, [])
                argument = self._arguments.get(base, bound[0] if len(bound) == 1 else form)
                return self._dimension(argument, depth + 1)
            declared = self._result.declarations
            spec = None if declared is None else declared.fields.get((Scope.HOST if base == "Host" else Scope.GUEST, field))
            return UNKNOWN if spec is None else dimension_of_unit(spec.unit)
        word = FUNCTIONS.get(_head(form))
        if word is None or not word.takes(len(form.items) - 1):
            return UNKNOWN
        return word.unit([Measured(self._dimension(one, depth + 1), one.value) for one in form.items[1:]])


def _head(form: Form) -> str:
    head = form.items[0].name if form.kind is FormKind.LIST and form.items else ""
    return OPERATORS.get(head, head)


def _name_of(form: Form, whose: set[str]) -> str:
    """How a person calls what a form stands for."""
    base, _, field = form.name.partition(".") if form.kind is FormKind.NAME else ("", "", "")
    if field and base == "Host":
        return f"the host's {field}"
    if field and base in whose:
        return f"its {field}"
    return abridged(form, _SHOWN)
