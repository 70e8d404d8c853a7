"""Evaluation of a program on a snapshot."""

from __future__ import annotations

import logging
import operator
from collections.abc import Callable, Container, Hashable, Mapping, Sequence
from functools import cached_property, reduce
from typing import Any, Final, TypeAlias

from mom_core import Entity, Guest, Host, Scope, Snapshot, Source, Value
from mom_plugins_policy.language import limits
from mom_plugins_policy.language.budgets import SMALL, Budgets
from mom_plugins_policy.language.errors import PYTHON_MESSAGES, Fault, Trouble, kind_of
from mom_plugins_policy.language.functions import CALLABLES, FunctionWord
from mom_plugins_policy.language.syntax import Form, FormKind, abridged
from mom_plugins_policy.language.values import UNBOUND, Any_, Disk, Function, Guests, requested, samples_of, show
from mom_plugins_policy.language.words import DISK_METHODS, ENTITY_METHODS, Word
from mom_plugins_policy.notes import LONGEST, keepable

_log = logging.getLogger("mom.policy")


_FUNCTION: Final = 400  # bytes of a method as a value
_CHARACTER: Final = 80  # bytes of a non-ASCII character as an element: Python shares only ASCII characters
_MOST_FAULTS: Final = 1000  # reported per evaluation; each takes 20 us and 1 KiB

Notes: TypeAlias = Mapping[str, Mapping[str, Any]]
"""Notes keyed by entity ID and name."""

Code: TypeAlias = "Callable[[Evaluation], Any_]"


def _predefined(word: FunctionWord) -> Function:
    return Function(word.name, lambda run, arguments, form: run.grown(word.compute(*arguments)), word)


_PREDEFINED: Final = {name: _predefined(word) for name, word in CALLABLES.items()}


class Evaluation(Budgets):
    """One evaluation.

    :ivar names: current values of all names; `UNBOUND` for a name whose scope has ended
    :ivar scope: names bound in the innermost scope, with their earlier values
    :ivar values: values of the top-level forms
    :ivar controls: requests keyed by control and entity id
    :param declared: fields that policies may read
    :param takes_text: names of controls that take text
    """

    def __init__(
        self,
        snapshot: Snapshot,
        history: Sequence[Snapshot],
        declared: Container[tuple[Scope, str]],
        notes: Notes,
        takes_text: Container[Hashable],
        seconds: float,
    ) -> None:
        super().__init__(seconds)
        self.snapshot = snapshot
        self.guests = Guests(snapshot.listed)
        self.names: dict[str, Any_] = {"Host": snapshot.host, "Guests": self.guests, **_PREDEFINED}
        self.scope: dict[str, Any_] = dict(self.names)
        self.functions: dict[str, tuple[Sequence[str], Code]] = {}
        self.depth = 0
        self.declared = declared
        self.takes_text = takes_text
        self.controls: dict[Hashable, dict[str, tuple[Host | Guest, Any_, Form]]] = {}
        self.variables: dict[Hashable, dict[str, Any_]] = {}
        self.values: list[Any_] = []
        self.faults: list[Fault] = []
        self.failed: set[str] = set()
        self.notes = notes
        self.noted: dict[str, dict[str, Any_]] = {}
        self.disks_of: dict[str, Any_] = {}
        self.disk_requests: dict[str, Form] = {}
        self._history = history
        self._columns: dict[str, Sequence[Value]] = {}
        self._faults_seen: set[tuple[int, str]] = set()

    # --- names and calls -------------------------------------------------------------------------------------------------------

    def bind(self, name: str, value: Any_) -> None:
        """Bind a name in the innermost scope, unless it is already bound there."""
        if name not in self.scope:
            self.scope[name] = self.names.get(name, UNBOUND)
            self.names[name] = value

    def computed(self, compute: Callable[..., Any_], values: Sequence[Any_]) -> Any_:
        """Return a function's result. Raise `Trouble` if it exceeds the limits."""
        self.left -= 1
        if self.left < 0:
            self.refill()
        if values and values[0].__class__ is list:  # comparing long lists takes long
            self.look()
        result = compute(*values)
        kind = result.__class__
        if kind is float or kind is bool or (kind is int and -SMALL < result < SMALL):
            return result
        return self.grown(result)

    def called(self, function: Any_, values: Sequence[Any_], form: Form) -> Any_:
        """Call the value of a variable or an attribute."""
        self.charge(1)
        if function.__class__ is not Function:
            raise Trouble("not-callable", f"{show(function)} cannot be called")
        return function(self, values, form)

    def iterate(self, value: Any_) -> Sequence[Any_]:
        """Return the elements of a value that `with` loops over."""
        kind = value.__class__
        if kind is Guests:
            return value.members  # type: ignore[no-any-return]  # the class is checked above
        if kind is list or kind is str or kind is tuple:
            if kind is str and not value.isascii():
                self.build(_CHARACTER * len(value))
            return value  # type: ignore[no-any-return]  # the class is checked above
        raise Trouble("type", f"`with` goes over Guests, a list or a string, not over {show(value)},")

    # --- errors ----------------------------------------------------------------------------------------------------------------

    @staticmethod
    def located(error: Exception, form: Form, parts: Sequence[Form] = (), values: Sequence[Any_] = ()) -> Trouble:
        """Return the error as a `Trouble` with the form that failed. An error that already has an inner form keeps that form.

        :param parts: forms of `values`, for the message
        """
        if isinstance(error, Trouble):
            trouble = error
        else:
            kind = kind_of(error)
            trouble = Trouble(kind, PYTHON_MESSAGES.get(kind, type(error).__name__))
            if kind == "internal":
                _log.error("a bug in the policy evaluator", exc_info=error)
        if trouble.form is None:
            shown = [(part, value) for part, value in zip(parts, values, strict=False) if part.kind is not FormKind.LITERAL]
            trouble.values = tuple(f"{abridged(part, 30)} is {show(value)}" for part, value in shown if part.name != "nil")
            trouble.form = form
        return trouble

    def contain(self, error: Trouble, guest: Guest) -> None:
        """Record an error at a guest in a loop. Raise it if it is fatal."""
        self.failed.add(guest.id)
        if error.fatal:
            raise error
        self.look(error.form)
        if len(self.faults) >= _MOST_FAULTS or error.form is None:
            return
        place = error.form.index, guest.id
        if place not in self._faults_seen:
            self._faults_seen.add(place)
            self.faults.append(self.fault(error, guest.entity))

    @staticmethod
    def fault(error: Trouble, entity: Entity | None = None) -> Fault:
        """Return an error as a `Fault`, with its position."""
        source = Source("") if error.form is None else error.form.source
        where = "" if error.form is None else f" in {abridged(error.form)}"
        return Fault(error.kind, source, f"{error.message}{where}", entity, error.values)

    # --- entities --------------------------------------------------------------------------------------------------------------

    def attribute(self, value: Any_, name: str) -> Any_:
        """Return a value's attribute. Raise `Trouble` if there is none."""
        result = self.lookup(value, name)
        if result is UNBOUND:
            scope = {Host: "host", Guest: "guest"}.get(value.__class__)
            message = f"{show(value)} has no {name}" if scope is None else f"there is no {scope} field {name}"
            raise Trouble("undefined-symbol", message)
        if result.__class__ is Function:
            self.build(_FUNCTION)
        return result

    def lookup(self, value: Any_, name: str) -> Any_:
        """Return a value's attribute, or `UNBOUND` if there is none."""
        kind = value.__class__
        if kind is Guest or kind is Host:
            if name in ENTITY_METHODS:
                return _method(value, name)
            if (Scope.GUEST if kind is Guest else Scope.HOST, name) not in self.declared:
                return UNBOUND
            return self.disks(value) if name == "io_tune" and kind is Guest else self.field(value, name)
        if kind is Disk:
            return _setter(value, name) if name in DISK_METHODS else value.attributes.get(name, UNBOUND)
        if isinstance(value, Mapping):
            return value.get(name, UNBOUND)
        return UNBOUND

    @cached_property
    def _places(self) -> Mapping[str, int]:
        return {guest.id: place for place, guest in enumerate(self.guests)}

    def field(self, entity: Host | Guest, name: str) -> Any_:
        """Return a field's newest value."""
        if isinstance(entity, Host):
            return entity.fields.get(name)
        column = self._columns.get(name)
        if column is None:
            column = self._columns[name] = self.snapshot.column(name)
        return column[self._places[entity.id]]

    def _fields(self, entity: Host | Guest) -> Mapping[str, Any_]:
        return self.snapshot.guests[entity.id].fields if entity.__class__ is Guest else entity.fields

    def disks(self, guest: Guest) -> Any_:
        """Return a guest's `io_tune`: nil, or its disks. Every call returns the same objects."""
        if guest.id not in self.disks_of:
            value = self.field(guest, "io_tune")
            if isinstance(value, Sequence) and not isinstance(value, str):
                value = [Disk(guest, item) if isinstance(item, Mapping) else item for item in value]
            self.disks_of[guest.id] = value
        return self.disks_of[guest.id]

    def do_prop(self, entity: Host | Guest, name: Any_, *default: Any_) -> Any_:
        """Return a property, or the default."""
        try:
            return entity.properties[name]
        except KeyError:
            if default:
                return default[0]
            raise Trouble("missing-property", f"{show(entity)} has no property {show(name)}") from None

    def do_stat(self, entity: Host | Guest, field: Any_, default: Any_ = None) -> Any_:
        """Return a field's newest value, or the default."""
        self._declared(entity, field)
        if field == "io_tune" and entity.__class__ is Guest and field in self._fields(entity):
            return self.disks(entity)
        return self._fields(entity).get(field, default)

    def do_statavg(self, entity: Host | Guest, field: Any_) -> float:
        """Return the mean of a field's known values; 0.0 without values. A guest's values count since its start."""
        self._declared(entity, field)
        older = (sample.fields.get(field) for sample in samples_of(entity, self._history))
        values = [value for value in (*older, self.field(entity, field)) if value is not None]
        # `sum` rounds differently since Python 3.12.
        return float(reduce(operator.add, values, 0) / len(values)) if values else 0.0

    def _declared(self, entity: Host | Guest, field: Any_) -> None:
        scope = Scope.GUEST if entity.__class__ is Guest else Scope.HOST
        if not isinstance(field, str) or (scope, field) not in self.declared:
            raise Trouble("unknown-field", f"no plugin declares {'a guest' if scope is Scope.GUEST else 'a host'} field {show(field)}")

    def _of_name(self, stored: dict[Hashable, dict[str, Any_]], name: Hashable, kind: str) -> dict[str, Any_]:
        if name not in stored:
            if isinstance(name, str) and len(name) > limits.NAME:
                raise Trouble("limit", f"a name of more than {limits.NAME} characters")
            if len(stored) >= limits.NAMES:
                raise Trouble("limit", f"more than {limits.NAMES} different {kind}")
            stored[name] = {}
        return stored[name]

    def do_control(self, entity: Host | Guest, name: Any_, value: Any_, form: Form) -> None:
        """Request a value for a control."""
        value = requested(value, takes_text=name in self.takes_text)
        self._of_name(self.controls, name, "controls")[_id(entity)] = (entity, value, form)

    def do_getcontrol(self, entity: Host | Guest, name: Any_) -> Any_:
        """Return the control's last requested value, or None."""
        request = self.controls.get(name, {}).get(_id(entity))
        return None if request is None else request[1]

    def do_setvar(self, entity: Host | Guest, name: Any_, value: Any_) -> None:
        """Set a note for this evaluation."""
        self._of_name(self.variables, name, "notes")[_id(entity)] = value

    def do_getvar(self, entity: Host | Guest, name: Any_) -> Any_:
        """Return a note of this evaluation, or None."""
        return self.variables.get(name, {}).get(_id(entity))

    def do_remember(self, entity: Host | Guest, name: Any_, value: Any_) -> None:
        """Set a note that mom keeps."""
        _check_note(name)
        if not keepable(value):
            can = f"nil, numbers, strings and flat lists of these can, with at most {LONGEST:,} characters"
            raise Trouble("type", f"{show(value)} cannot be kept: only {can}")
        if len(name) > limits.NAME:
            raise Trouble("limit", f"a name of more than {limits.NAME} characters")
        identity = _id(entity)
        notes = self.noted.setdefault(identity, {})
        kept = self.notes.get(identity, {})
        if name not in notes and name not in kept and len(kept.keys() | notes.keys()) >= limits.NAMES:
            raise Trouble("limit", f"more than {limits.NAMES} notes on {show(entity)}; set unused notes to nil")
        notes[name] = value

    def do_recall(self, entity: Host | Guest, name: Any_, default: Any_ = None) -> Any_:
        """Return a kept note, or the default."""
        _check_note(name)
        value = self.noted.get(_id(entity), {}).get(name, self.notes.get(_id(entity), {}).get(name))
        return default if value is None else value


def _id(entity: Host | Guest) -> str:
    return entity.id if isinstance(entity, Guest) else Host.ID


def _check_note(name: Any_) -> None:
    if not isinstance(name, str):
        raise Trouble("type", f"a note's name is a string, not {show(name)},")


# Methods get the evaluation with each call. If they kept it, both would refer to each other, and Python would free them late.
def _method(entity: Host | Guest, name: str) -> Function:
    implementation: Callable[..., Any_] = getattr(Evaluation, f"do_{name.lower()}")

    def call(run: Evaluation, arguments: Sequence[Any_], form: Form) -> Any_:
        return implementation(run, entity, *arguments, form) if name == "Control" else implementation(run, entity, *arguments)

    return Function(name, call, ENTITY_METHODS[name])


_SETTER: Final = Word(name="set…", least=1, most=1, meaning="")


def _setter(disk: Disk, name: str) -> Function:
    def call(run: Evaluation, arguments: Sequence[Any_], form: Form) -> None:
        value = requested(arguments[0])
        disk.current[DISK_METHODS[name]] = None if value is None else int(value)
        disk.changed = True
        run.disk_requests[disk.guest.id] = form

    return Function(name, call, _SETTER)
