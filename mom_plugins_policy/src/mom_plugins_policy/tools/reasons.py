"""Why a guest got what it got, in words: what the policy itself says of it, and otherwise the conditions around the request.

A policy says why with a note: `(guest.SetVar "why balloon_target" "only {mem_usable KiB} are usable in it")`. The words are filled in when
a verb asks, so that they cost a cycle nothing but the note; notes that they name are told as they were when that was noted. A text may name
another one that stands in the policy; what a guest or the host says of itself is shown as it is, whatever braces are in it. Without a note,
the conditions that were decided on the way to the request are told, with the values that they had then. For both, the evaluation is
repeated once, on the same snapshot and notes, and only what is told is traced (`NotesThen`, `Paths`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, Final, TypeAlias
from weakref import WeakKeyDictionary

from mom_core import HOST_ID, Guest, Scope, Snapshot, Unit, format_kib, printable
from mom_plugins_policy.language.analysis import Definition, Program
from mom_plugins_policy.language.policy import Result
from mom_plugins_policy.language.syntax import Form, FormKind, abridged
from mom_plugins_policy.language.words.forms import Role
from mom_plugins_policy.language.words.functions import BUILTINS, FUNCTIONS, OPERATORS
from mom_plugins_policy.language.words.units import ANY, UNKNOWN, Dimension, Measured, dimension_of_unit, written
from mom_plugins_policy.tools.trace import Choice, DatedRun, NotesThen, Paths, notes_then

WHY: Final = "why "
"""What the name of a note begins with that says why; the control's name follows."""

_LONGEST: Final = 600  # characters of what is said
_NESTED: Final = 4  # texts in texts: a text may name a note that is a text with names again
_MOST_NAMES: Final = 200  # that are filled in: as many as a text of this length can have, and some
_CONDITIONS: Final = 4  # around a request, from the inside out: those farther out are hardly about this guest
_CONDITIONS_TOLD: Final = 20  # of one `and` or `or`
_DEEPEST: Final = 40  # forms in forms that are looked at
_MOST_FORMS: Final = 2000  # that are told, or of which the unit is found out
_FARTHEST: Final = 400  # forms around a request
_LARGEST_BITS: Final = 512  # of an integer: a product of two such is still fast, and a float can hold what is shown
_SHOWN: Final = 60  # characters of a form
_SHOWN_ITEMS: Final = 20  # of a list

_PLACE: Final = re.compile(r"\{([A-Za-z_][\w. -]{0,80}?)(?: (KiB/s|KiB|s|%))?\}")
_TOLD_UNITS: Final = frozenset({Unit.KIB.value, Unit.KIB_PER_SECOND.value, Unit.SECONDS.value, Unit.PERCENT.value})


_Piece: TypeAlias = "tuple[str, str, str, str]"
"""Of a text: what stands before a name in braces, the name, its unit, and all of that as it is written. The last one has no name."""

_known_notes: Final[WeakKeyDictionary[Result, dict[bool, NotesThen | None]]] = WeakKeyDictionary()
"""The notes of evaluations that are still told of: those that the program's texts name, or all."""

_known_paths: Final[WeakKeyDictionary[Result, Mapping[tuple[str, int], Sequence[Choice]]]] = WeakKeyDictionary()
"""What was traced of evaluations that are still told of: each guest is asked about by itself."""


def _taken(result: Result) -> Mapping[tuple[str, int], Sequence[Choice]]:
    """The choices on the way to requests, by the entity's id and the index of the request's form."""
    found = _known_paths.get(result)
    if found is None:
        found = _known_paths[result] = _survey(result.program).paths.taken(result)
    return found


def _notes_then(result: Result, *, every: bool) -> NotesThen | None:
    """The notes of an evaluation as they were at any time; None if that is too much to tell.

    :param every: also those that no text in the program names
    """
    known = _known_notes.setdefault(result, {})
    if every not in known:
        known[every] = notes_then(result, None if every else _survey(result.program).named)
    return known[every]


def kept_to_be_told(program: Program) -> Callable[..., DatedRun]:
    """What runs an evaluation of which it will be asked why: it need not be repeated for the notes that texts name."""
    return partial(DatedRun, _survey(program).named)


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
    return printable("; ".join(_Conditions(result, guest, requested).conditions()), _LONGEST)


# --- what a policy says --------------------------------------------------------------------------------------------------------


class _TooMuch(Exception):
    """The notes of the evaluation are too many to be told as they were."""


class _Filling:
    """Fills the names in a text with values, and those in the texts that it names, until enough is said."""

    def __init__(self, result: Result, snapshot: Snapshot, guest: Guest) -> None:
        self._result = result
        self._snapshot = snapshot
        self._guest = guest
        self._texts = _survey(result.program).texts
        self._left = _LONGEST + 1
        self._names = _MOST_NAMES
        self._then: NotesThen | None = None
        self._date = 0

    def filled(self, text: str, name: str, whose: str) -> str:
        """The text of that note with its names replaced by values: first a note of that name, as it was then; then a field."""
        self._noted = (whose, name)
        self._every = text not in self._texts
        pieces: list[str] = []
        try:
            self._fill(text, whose, pieces, ((whose, name),))
        except _TooMuch:
            return ""
        return "".join(pieces)

    def _fill(self, text: str, whose: str, pieces: list[str], around: tuple[tuple[str, str], ...]) -> None:
        for before, name, unit, whole in _pieces_of(text[:_LONGEST]):
            if before:
                self._add(before, pieces)
            if not name or self._left <= 0:
                return
            self._names -= 1
            if self._names < 0:
                self._add("…", pieces)
                self._left = 0
                return
            self._fill_in(name, unit, whole, whose, pieces, around)

    def _fill_in(self, name: str, unit: str, whole: str, whose: str, pieces: list[str], around: tuple[tuple[str, str], ...]) -> None:
        owner = HOST_ID if name.startswith("Host.") or whose == HOST_ID else self._guest.id
        name = name.removeprefix("Host.")
        found = self._note(owner, name) if owner in self._result.notes_of(name) else None
        if found is None:
            found = (self._snapshot.host.fields if owner == HOST_ID else self._guest.fields).get(name)
        elif isinstance(found, str) and found in self._texts:
            if (owner, name) in around or len(around) > _NESTED:
                self._add(whole, pieces)  # a text within itself: as it stands
            else:
                self._fill(found, owner, pieces, (*around, (owner, name)))
            return
        self._add(_amount(found, unit), pieces)

    def _note(self, owner: str, name: str) -> object:
        """A note when it was noted why."""
        if self._then is None:
            self._then = _notes_then(self._result, every=self._every)
            if self._then is None:
                raise _TooMuch
            self._date = self._then.date_of(*self._noted)
        return self._then.note(owner, name, self._date)

    def _add(self, piece: str, pieces: list[str]) -> None:
        if self._left > 0:
            pieces.append(piece[: self._left])
            self._left -= len(piece)


@lru_cache(maxsize=256)
def _pieces_of(text: str) -> Sequence[_Piece]:
    """A text, taken apart at the names in it."""
    found: list[_Piece] = []
    end = 0
    for match in _PLACE.finditer(text):
        found.append((text[end : match.start()], match[1], match[2] or "", match[0]))
        end = match.end()
    return (*found, (text[end:], "", "", ""))


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


class _Outline:
    """What the words need to know of a program as a whole."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.around: dict[int, Form] = {}
        """By the id of a form: the one around it."""
        self.calls: dict[str, list[Form]] = {}
        self.defined: dict[str, list[Form]] = {}
        """By name: what it is bound to."""
        self.texts: set[str] = set()
        """The texts that stand in the program."""
        self.named: set[str] = set()
        """The names of notes that these name, and those of notes that say why."""
        self.bodies: dict[int, Definition] = {id(one.body): one for one in program.functions()}
        requests: list[Form] = []
        todo = list(program.forms)
        while todo:
            form = todo.pop()
            if form.kind is FormKind.LITERAL and isinstance(form.value, str):
                self.texts.add(form.value)
                self.named.update(name.removeprefix("Host.") for _, name, _, _ in _pieces_of(form.value))
                if form.value.startswith(WHY):
                    self.named.add(form.value)
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
