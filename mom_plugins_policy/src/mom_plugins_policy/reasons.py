"""Why a guest got what it got, in words: what the policy itself says of it, and otherwise the conditions around the request.

A policy says why with a note: `(guest.SetVar "why balloon_target" "only {mem_usable KiB} are usable in it")`. The words are filled in when
a verb asks, so that they cost a cycle nothing but the note. A text may name another one that stands in the policy; what a guest or the
host says of itself is shown as it is, whatever braces are in it. Without a note, the conditions are told with the values that are known:
those of fields, notes, literals, and of variables that are made of these and never assigned again.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import Any, Final

from mom_core import HOST_ID, Guest, Scope, Snapshot, Unit, format_kib, printable
from mom_plugins_policy.analysis import Definition, Program
from mom_plugins_policy.policy import Result
from mom_plugins_policy.syntax import Form, FormKind, abridged
from mom_plugins_policy.words.forms import Role
from mom_plugins_policy.words.functions import BUILTINS, FUNCTIONS, OPERATORS
from mom_plugins_policy.words.units import ANY, UNKNOWN, Dimension, Measured, dimension_of_unit, written

WHY: Final = "why "
"""What the name of a note begins with that says why; the control's name follows."""

_LONGEST: Final = 600  # characters of what is said
_NESTED: Final = 4  # texts in texts: a text may name a note that is a text with names again
_MOST_NAMES: Final = 200  # that are filled in: as many as a text of this length can have, and some
_CONDITIONS: Final = 4  # around a request, from the inside out: those farther out are hardly about this guest
_CONDITIONS_TOLD: Final = 20  # of one `and` or `or`
_DEEPEST: Final = 40  # forms in forms that are computed again
_MOST_FORMS: Final = 2000  # that are computed again: some milliseconds
_FARTHEST: Final = 400  # forms around a request
_LARGEST_BITS: Final = 512  # of an integer: a product of two such is still fast, and a float can hold what is shown
_SHOWN: Final = 60  # characters of a form
_SHOWN_ITEMS: Final = 20  # of a list

_PLACE: Final = re.compile(r"\{([A-Za-z_][\w. -]{0,80}?)(?: (KiB/s|KiB|s|%))?\}")
_TOLD_UNITS: Final = frozenset({Unit.KIB.value, Unit.KIB_PER_SECOND.value, Unit.SECONDS.value, Unit.PERCENT.value})


class _UnknownError(Exception):
    """A value that cannot be told from the text and the snapshot alone."""


def said(result: Result, snapshot: Snapshot, guest: Guest, control: str) -> str:
    """Why a guest got this control, or did not, in words; empty where nothing is known of it.

    :param result: the evaluation of this snapshot
    """
    if result.stopped or guest.id in result.failed:
        return ""
    notes = result.notes_of(WHY + control)
    requested = result.request_of(control, guest.id)
    text = notes.get(guest.id)
    if text is None and requested is None:
        text = notes.get(HOST_ID)
    if isinstance(text, str) and text:
        filling = _Filling(result, snapshot, guest)
        return printable(filling.filled(text, WHY + control, HOST_ID if guest.id not in notes else guest.id), _LONGEST)
    if requested is None:
        return ""
    return printable("; ".join(_Told(result, snapshot, guest, requested).conditions()), _LONGEST)


# --- what a policy says --------------------------------------------------------------------------------------------------------


class _Filling:
    """Fills the names in a text with values, and those in the texts that it names, until enough is said."""

    def __init__(self, result: Result, snapshot: Snapshot, guest: Guest) -> None:
        self._result = result
        self._snapshot = snapshot
        self._guest = guest
        self._texts = _survey(result.program).texts
        self._left = _LONGEST + 1
        self._names = _MOST_NAMES

    def filled(self, text: str, name: str, whose: str) -> str:
        """The text of that note with its names replaced by values: first a note of that name, then a field."""
        pieces: list[str] = []
        self._fill(text, whose, pieces, ((whose, name),))
        return "".join(pieces)

    def _fill(self, text: str, whose: str, pieces: list[str], around: tuple[tuple[str, str], ...]) -> None:
        text = text[:_LONGEST]
        end = 0
        for match in _PLACE.finditer(text):
            self._add(text[end : match.start()], pieces)
            end = match.end()
            if self._left <= 0:
                return
            self._names -= 1
            if self._names < 0:
                self._add("…", pieces)
                self._left = 0
                return
            self._fill_in(match, whose, pieces, around)
        self._add(text[end:], pieces)

    def _fill_in(self, match: re.Match[str], whose: str, pieces: list[str], around: tuple[tuple[str, str], ...]) -> None:
        name, unit = match[1], match[2] or ""
        owner = HOST_ID if name.startswith("Host.") or whose == HOST_ID else self._guest.id
        name = name.removeprefix("Host.")
        found = self._result.notes_of(name).get(owner)
        if found is None:
            found = (self._snapshot.host.fields if owner == HOST_ID else self._guest.fields).get(name)
        elif isinstance(found, str) and found in self._texts:
            if (owner, name) in around or len(around) > _NESTED:
                self._add(match[0], pieces)  # a text within itself: as it stands
            else:
                self._fill(found, owner, pieces, (*around, (owner, name)))
            return
        self._add(_amount(found, unit), pieces)

    def _add(self, piece: str, pieces: list[str]) -> None:
        if self._left > 0:
            pieces.append(piece[: self._left])
            self._left -= len(piece)


def _amount(value: object, unit: str) -> str:
    if value is None:
        return "an unknown amount" if unit else "unknown"
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


class _Survey:
    """What the words need to know of a program as a whole."""

    def __init__(self, program: Program) -> None:
        self.around: dict[int, Form] = {}
        """By the id of a form: the one around it."""
        self.calls: dict[str, list[Form]] = {}
        self.defined: dict[str, list[Form]] = {}
        """By name: what `let` and `defvar` bind it to; of several `defvar` outside of all else only the first, as the others do nothing."""
        self.elsewhere: set[str] = set()
        """Names that loops bind."""
        self.texts: set[str] = set()
        """The texts that stand in the program."""
        self.parameters = {name for one in program.functions() for name in one.parameters}
        self.bodies: dict[int, Definition] = {id(one.body): one for one in program.functions()}
        whole = {id(form) for form in program.forms}
        for form in program.forms:
            if len(form.items) == 3 and form.items[0].name == "defvar":
                self.defined.setdefault(form.items[1].name, [form.items[2]])
        todo = list(program.forms)
        while todo:
            form = todo.pop()
            if form.kind is FormKind.LITERAL and isinstance(form.value, str):
                self.texts.add(form.value)
            for item in form.items:
                self.around[id(item)] = form
            todo.extend(form.items)
            roles = program.roles.get(form.index)
            head = form.items[0].name if form.items else ""
            if roles is None:
                if head in program.definitions:
                    self.calls.setdefault(head, []).append(form)
                continue
            for name, value in roles.bindings if roles.defined is None else ():
                if value is None:
                    self.elsewhere.add(name.name)
                elif roles.scope or id(form) not in whole:
                    self.defined.setdefault(name.name, []).append(value)


_survey = lru_cache(maxsize=2)(_Survey)  # policies in force, and on trial: whoever looks at a guest asks in each cycle


class _Told:
    """The conditions around one request, in words."""

    def __init__(self, result: Result, snapshot: Snapshot, guest: Guest, request: Form) -> None:
        self._result = result
        self._snapshot = snapshot
        self._guest = guest
        self._request = request
        self._program: Program = result.program
        self._known = _survey(result.program)
        self._whose = {request.items[0].name.partition(".")[0]} if request.items else set()
        self._arguments: dict[str, Form] = {}
        """By parameter: what the calls around the request give it."""
        self._left = _MOST_FORMS

    def conditions(self) -> list[str]:
        """What had to hold, the outermost first."""
        tests: list[tuple[Form, bool]] = []
        here = self._request
        for _ in range(_FARTHEST):
            outer = self._outer(here)
            if outer is None or len(tests) >= _CONDITIONS:
                break
            roles = self._program.roles.get(outer.index)
            if roles is not None and roles.last is Role.BRANCH and here is not roles.parts[0]:
                tests.append((roles.parts[0], here is roles.parts[1]))
            here = outer
        return [self._phrase(test, holds) for test, holds in reversed(tests)]

    def _outer(self, form: Form) -> Form | None:
        """The form around one; around a function's body, its only call."""
        definition = self._known.bodies.get(id(form))
        if definition is None:
            return self._known.around.get(id(form))
        calls = self._known.calls.get(definition.name, ())
        if len(calls) != 1 or len(self._program.definitions[definition.name]) != 1:
            return None
        for parameter, argument in zip(definition.parameters, calls[0].items[1:], strict=False):
            self._arguments[parameter] = argument
            if parameter in self._whose and argument.kind is FormKind.NAME:
                self._whose.add(argument.name)
        return calls[0]

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
        if word is not None and word.told is not None and word.told[0].count("{}") == len(parts):
            others = parts[::-1] if len(parts) == 2 else [None]
            return word.told[not holds].format(*(self._operand(one, other) for one, other in zip(parts, others, strict=True)))
        if test.kind is FormKind.NAME:
            return f"{self._operand(test)} is {'true' if holds else 'false'}"
        return f"{abridged(test, _SHOWN)} is {'true' if holds else 'false'}"

    def _operand(self, form: Form, other: Form | None = None) -> str:
        """A side of a comparison, with its value where it is known."""
        unit = self._unit(form) or ("" if other is None else self._unit(other))
        try:
            value = self._value(form)
        except _UnknownError:
            return _name_of(form, self._whose)
        shown = _amount(value, unit)
        if value is None:
            return _name_of(form, self._whose)
        return shown if form.kind is FormKind.LITERAL else f"{_name_of(form, self._whose)} ({shown})"

    def _truth(self, form: Form) -> bool | None:
        try:
            return bool(self._value(form))
        except _UnknownError:
            return None

    def _value(self, form: Form, depth: int = 0) -> Any:
        """What a form comes to. Raises `_UnknownError` where that cannot be told."""
        self._left -= 1
        if depth > _DEEPEST or self._left < 0:
            raise _UnknownError
        if form.kind is FormKind.LITERAL:
            return form.value
        if form.kind is FormKind.NAME:
            return self._named(form.name, depth)
        head, parts = _head(form), form.items[1:]
        base, _, method = head.rpartition(".")
        if method and len(parts) == 1 and parts[0].kind is FormKind.LITERAL and isinstance(parts[0].value, str):
            return self._asked(method, self._identity(base), parts[0].value)
        if head == "if" and len(parts) == 3:
            return self._value(parts[1] if self._value(parts[0], depth + 1) else parts[2], depth + 1)
        word = FUNCTIONS.get(head)
        if head not in self._program.words and (word is None or not word.variable or head in self._program.bound):
            raise _UnknownError
        if word is None or not word.takes(len(parts)):
            raise _UnknownError
        values = [self._value(one, depth + 1) for one in parts]
        if word.strict is not None and not all(map(_is_plain, values)):
            raise _UnknownError
        try:
            return word.compute(*values)
        except (TypeError, ValueError, ArithmeticError, MemoryError) as error:
            raise _UnknownError from error

    def _asked(self, method: str, identity: str, name: str) -> Any:
        """What a method of the host or the guest gives."""
        entity = self._snapshot.host if identity == HOST_ID else self._guest
        if method == "GetVar":
            return self._result.notes_of(name).get(identity)
        if method == "Prop":
            return entity.properties.get(name)
        if method == "Stat":
            return entity.fields.get(name)
        if method != "StatAvg":
            raise _UnknownError
        try:
            return self._result.mean_of(entity, name)
        except TypeError as error:
            raise _UnknownError from error

    def _named(self, name: str, depth: int) -> Any:
        if name == "nil":
            return None
        base, _, field = name.partition(".")
        if field:
            identity = self._identity(base)
            return (self._snapshot.host.fields if identity == HOST_ID else self._guest.fields).get(field)
        return self._value(self._definition(name), depth + 1)

    def _definition(self, name: str) -> Form:
        """The only form from which a variable has its value."""
        if (
            name in self._program.assigned
            or name in self._known.elsewhere
            or (name in self._known.parameters and name not in self._arguments)
        ):
            raise _UnknownError
        argument = self._arguments.get(name)
        defined = self._known.defined.get(name, [])
        if argument is not None and not defined:
            return argument
        if len(defined) != 1 or argument is not None:
            raise _UnknownError
        return defined[0]

    def _identity(self, base: str) -> str:
        if base == "Host":
            return HOST_ID
        if base not in self._whose:
            raise _UnknownError
        return self._guest.id

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
                try:
                    return self._dimension(self._definition(form.name), depth + 1)
                except _UnknownError:
                    return UNKNOWN
            declared = self._result.declarations
            spec = None if declared is None else declared.fields.get((Scope.HOST if base == "Host" else Scope.GUEST, field))
            return UNKNOWN if spec is None else dimension_of_unit(spec.unit)
        word = FUNCTIONS.get(_head(form))
        if word is None or not word.takes(len(form.items) - 1):
            return UNKNOWN
        return word.unit([Measured(self._dimension(one, depth + 1), one.value) for one in form.items[1:]])


def _is_plain(value: Any) -> bool:
    """Whether it is a number, and computing with it takes no time."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, float) or value.bit_length() <= _LARGEST_BITS


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
