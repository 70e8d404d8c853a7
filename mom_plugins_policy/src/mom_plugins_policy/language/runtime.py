"""Runtime of compiled policies."""

from __future__ import annotations

import logging
import math
import operator
import sys
from collections.abc import Callable, Container, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from traceback import walk_tb
from types import CodeType, FrameType
from typing import Any, NoReturn, Protocol, TypeAlias

from mom_core import HOST_ID, Entity, Guest, Host, Scope, Snapshot, printable
from mom_plugins_policy.language.budgets import MEMORY, Budgets
from mom_plugins_policy.language.errors import PYTHON_MESSAGES, Fault, Trouble, kind_of
from mom_plugins_policy.language.limits import PolicyLimits
from mom_plugins_policy.language.syntax import Form, abridged
from mom_plugins_policy.language.values import UNBOUND, Any_, Disk, Function, Guests, requested, show
from mom_plugins_policy.language.words.methods import DISK_METHODS, ENTITY_METHODS
from mom_plugins_policy.notes import NoteStore

_log = logging.getLogger("mom.policy")


_FUNCTION = 400  # bytes of a method as a value
_CHARACTER = 80  # bytes of a non-ASCII character as an element: Python shares only ASCII characters
_MOST_FAULTS = 1000  # reported per evaluation; each takes 20 us and 1 KiB


Notes: TypeAlias = Mapping[str, Mapping[str, Any]]
"""Keyed by entity id and name."""


_LONGEST_DEBUG = 2000


def write_to_log(*values: Any_) -> Any_:
    """Log values at level debug; return the last."""
    if _log.isEnabledFor(logging.DEBUG):
        shown = [value[:_LONGEST_DEBUG] if isinstance(value, str) else show(value) for value in values[:_LONGEST_DEBUG]]
        # One line, so that a policy cannot forge log records.
        _log.debug("%s", printable(" ".join(shown), _LONGEST_DEBUG))
    return values[-1]


def fail(kind: str, message: str) -> NoReturn:
    """Raise `Trouble` inside an expression."""
    raise Trouble(kind, message)


@dataclass(slots=True, eq=False)
class Site:
    """Place in generated code that can fail, with operands for messages."""

    form: Form
    operands: Sequence[tuple[Form, str]] = ()
    codes: list[tuple[str, CodeType]] | None = None


class Emitted(Protocol):
    """Generated code. Its file name is unique, for tracebacks."""

    sites: Sequence[Site]
    filename: str
    namespace: dict[str, Any_]


Declares: TypeAlias = Callable[[Scope, str], bool]


class Evaluation(Budgets):
    """One evaluation. Generated code calls the methods by name.

    :param takes_text: names of controls that take text
    :param room: space for more notes in bytes
    """

    def __init__(
        self,
        snapshot: Snapshot,
        history: Sequence[Snapshot],
        limits: PolicyLimits,
        declares: Declares,
        code: Emitted,
        notes: Notes | None,
        takes_text: Container[Hashable] = (),
        room: int = NoteStore.LARGEST,
    ) -> None:
        super().__init__(limits)
        self.snapshot = snapshot
        self.host = snapshot.host
        self.guests = Guests(snapshot.listed)
        self.declares = declares
        self.takes_text = takes_text
        self.controls: dict[Hashable, dict[str, tuple[Host | Guest, Any_, int]]] = {}
        self.variables: dict[Hashable, dict[str, Any_]] = {}
        self.faults: list[Fault] = []
        self.failed: set[str] = set()
        self.notes: Notes = notes or {}
        self.noted: dict[str, dict[str, Any_]] = {}
        self._room = room
        self._recalled: dict[str, dict[str, Any_]] = {}
        self.disks_of: dict[str, Any_] = {}
        self.disk_sites: dict[str, int] = {}
        self.history = history
        self._hosts = [older.host for older in history]
        self._older = [older.guests for older in history]
        self._code = code
        self._faults_seen: set[tuple[int, str]] = set()

    # --- budgets ---------------------------------------------------------------------------------------------------------------

    def _held(self) -> int:
        todo: list[Iterable[Any_]] = [notes.values() for notes in (*self.variables.values(), *self.noted.values())]
        todo += [[value for _, value, _ in requests.values()] for requests in self.controls.values()]
        todo.append([value for value, _ in self._weights.values()])
        frame: FrameType | None = sys._getframe()
        while frame is not None:
            if frame.f_code.co_filename == self._code.filename:
                todo.append(frame.f_locals.values())
            frame = frame.f_back
        size, ids = 0, set[int]()
        while todo and size <= MEMORY:
            for value in todo.pop():
                kind = value.__class__
                if kind is list or (kind is str and len(value) > _CHARACTER):
                    if id(value) in ids:
                        continue
                    ids.add(id(value))
                if kind is list:
                    todo.append(value)
                if kind is list or kind is str or kind is int or kind is float:
                    size += value.__sizeof__()
                elif kind is Function:
                    size += _FUNCTION
        return size

    # --- errors ----------------------------------------------------------------------------------------------------------------

    def contain(self, error: Exception, guest: Guest) -> None:
        """Record an error of a guest's step; raise fatal errors."""
        self.failed.add(guest.id)
        if isinstance(error, Trouble) and error.fatal:
            raise error
        self.look(error)
        if len(self.faults) > _MOST_FAULTS:
            return
        site = self._site(error)
        place = self._code.sites[site].form.index if site >= 0 else -1
        if (place, guest.id) not in self._faults_seen:
            self._faults_seen.add((place, guest.id))
            if len(self.faults) == _MOST_FAULTS:
                error = Trouble(
                    "limit", f"more than {_MOST_FAULTS:,} errors; further errors are not reported, only the place of the next one"
                )
            self.faults.append(self._fault(error, site, guest.entity))

    def fault(self, error: Exception) -> Fault:
        """Return the fault for an error outside of loops over Guests."""
        return self._fault(error, self._site(error), None)

    def _site(self, error: Exception) -> int:
        lines: Mapping[int, int] = self._code.namespace["LINES"]
        sites = [lines.get(line, -1) for _, line in self._frames(error)]
        if isinstance(error, Trouble) and error.of_call and len(sites) > 1:
            sites.pop()
        return sites[-1] if sites else -1

    def _frames(self, error: Exception) -> list[tuple[FrameType, int]]:
        return [(frame, line) for frame, line in walk_tb(error.__traceback__) if frame.f_code.co_filename == self._code.filename]

    def _fault(self, error: Exception, place: int, entity: Entity | None) -> Fault:
        if place < 0:
            return Fault(kind_of(error), "", 0, 0, str(error) or type(error).__name__, entity)
        site = self._code.sites[place]
        if isinstance(error, Trouble):
            kind, message = error.kind, error.message
        else:
            kind = kind_of(error)
            message = PYTHON_MESSAGES.get(kind, type(error).__name__)
            if kind == "internal":
                _log.error("a bug in the policy evaluator", exc_info=error)
        values = self._values(site, error)
        return Fault(kind, *site.form.source, f"{message} in {abridged(site.form)}", entity, values)

    def _values(self, site: Site, error: Exception) -> tuple[str, ...]:
        frames = self._frames(error)
        if not frames or not site.operands:
            return ()
        if site.codes is None:
            site.codes = [(abridged(form, 30), compile(text, self._code.filename, "eval")) for form, text in site.operands]
        variables = frames[-1][0].f_locals
        result: list[str] = []
        for shown, code in site.codes:
            needed = {name: variables[name] for name in code.co_names if name in variables}
            try:
                value = eval(code, self._code.namespace, needed)  # noqa: S307  # generated code, with the values of the failing code
            except Exception:  # noqa: BLE001, S112  # the message then lacks a value
                continue
            result.append(f"{shown} is {show(value)}")
        return tuple(result)

    # --- values ----------------------------------------------------------------------------------------------------------------

    def iterate(self, value: Any_) -> Any_:
        """Return the elements of a value that `with` loops over."""
        kind = value.__class__
        if kind is Guests:
            return value.members
        if kind is list or kind is str or kind is tuple:
            if kind is str and not value.isascii():
                self.build(_CHARACTER * len(value))
            return value
        raise Trouble("type", f"`with` goes over Guests, a list or a string, not over {show(value)},")

    @staticmethod
    def call(value: Any_, arguments: tuple[Any_, ...], site: int) -> Any_:
        """Call a variable's or attribute's value."""
        if value.__class__ is not Function:
            raise Trouble("not-callable", f"{show(value)} cannot be called")
        return value(*arguments, site=site)

    debug = staticmethod(write_to_log)

    # --- entities --------------------------------------------------------------------------------------------------------------

    def attribute(self, value: Any_, name: str) -> Any_:
        """Return `a.b` for any type."""
        result = self._attribute(value, name)
        if result is UNBOUND:
            raise Trouble("undefined-symbol", f"{show(value)} has no {name}")
        if result.__class__ is Function:
            self.build(_FUNCTION)
        return result

    def _attribute(self, value: Any_, name: str) -> Any_:
        kind = value.__class__
        if kind is Guest or kind is Host:
            if name in ENTITY_METHODS:
                return self.method(value, name)
            if not self.declares(Scope.GUEST if kind is Guest else Scope.HOST, name):
                return UNBOUND
            return self.disks(value) if name == "io_tune" and kind is Guest else self.field(value, name)
        if kind is Disk:
            if name in DISK_METHODS:
                return self.disk_method(value, name)
            return value.attributes.get(name, UNBOUND)
        if isinstance(value, Mapping):
            return value.get(name, UNBOUND)
        return UNBOUND

    def head(self, value: Any_, names: Sequence[str]) -> Any_:
        """Return `a.b…` at the head of a list; `UNBOUND` if missing."""
        for name in names:
            if value is UNBOUND:
                break
            value = self._attribute(value, name)
        return value

    def method(self, entity: Host | Guest, name: str) -> Function:
        """Return an entity's method as a value."""
        implementation: Callable[..., Any_] = getattr(self, f"do_{name.lower()}")

        def call(arguments: tuple[Any_, ...], site: int) -> Any_:
            return implementation(entity, *arguments, site) if name == "Control" else implementation(entity, *arguments)

        return Function(name, call, ENTITY_METHODS[name])

    def disk_method(self, disk: Disk, name: str) -> Function:
        """Return a disk's setter as a value."""

        def call(arguments: tuple[Any_, ...], site: int) -> None:
            if len(arguments) != 1:
                raise Trouble("arity", f"{name} takes 1 argument, not {len(arguments)},")
            value = requested(arguments[0])
            disk.current[DISK_METHODS[name]] = None if value is None else int(value)
            disk.changed = True
            self.disk_sites[disk.guest.id] = site

        return Function(name, call)

    def field(self, entity: Host | Guest, name: str, default: Any_ = None) -> Any_:
        """Return a field."""
        return self._fields(entity).get(name, default)

    def _fields(self, entity: Host | Guest) -> Mapping[str, Any_]:
        return self.snapshot.guests[entity.id].fields if entity.__class__ is Guest else entity.fields

    def disks(self, guest: Guest) -> Any_:
        """Return a guest's `io_tune`: nil, or always the same object per disk."""
        if guest.id not in self.disks_of:
            value = self.field(guest, "io_tune")
            if isinstance(value, Sequence) and not isinstance(value, str):
                value = [Disk(guest, item) if isinstance(item, Mapping) else item for item in value]
            self.disks_of[guest.id] = value
        return self.disks_of[guest.id]

    def do_prop(self, entity: Host | Guest, name: Any_, *default: Any_) -> Any_:
        """Implement `Prop`."""
        try:
            return entity.properties[name]
        except KeyError:
            if default:
                return default[0]
            raise Trouble("missing-property", f"{show(entity)} has no property {show(name)}") from None

    def do_stat(self, entity: Host | Guest, field: Any_, default: Any_ = None) -> Any_:
        """Implement `Stat`."""
        self._declared(entity, field)
        if field == "io_tune" and entity.__class__ is Guest and field in self._fields(entity):
            return self.disks(entity)
        return self.field(entity, field, default)

    def do_statavg(self, entity: Host | Guest, field: Any_) -> float:
        """Implement `StatAvg`. A guest's average begins at the guest's start."""
        self._declared(entity, field)
        samples: Iterable[Host | Guest] = self._hosts
        if isinstance(entity, Guest):
            older = (guests.get(entity.id) for guests in self._older)
            samples = (guest for guest in older if guest is not None and guest.incarnation == entity.incarnation)
        newest = self.field(entity, field)
        values = [value for value in (*(sample.fields.get(field) for sample in samples), newest) if value is not None]
        # `sum` rounds differently since Python 3.12.
        return float(reduce(operator.add, values, 0) / len(values)) if values else 0.0

    def _declared(self, entity: Host | Guest, field: Any_) -> None:
        scope = Scope.GUEST if entity.__class__ is Guest else Scope.HOST
        if not isinstance(field, str) or len(field) > self.limits.name or not self.declares(scope, field):
            raise Trouble("unknown-field", f"no plugin declares {'a guest' if scope is Scope.GUEST else 'a host'} field {show(field)}")

    def control(self, name: Hashable) -> dict[str, tuple[Host | Guest, Any_, int]]:
        """Return requests for a control, keyed by entity id."""
        return self._of_name(self.controls, name, "controls")

    def variable(self, name: Hashable) -> dict[str, Any_]:
        """Return `SetVar` notes of one name, keyed by entity id."""
        return self._of_name(self.variables, name, "notes")

    def _of_name(self, stored: dict[Hashable, dict[str, Any_]], name: Hashable, kind: str) -> dict[str, Any_]:
        if name not in stored:
            if isinstance(name, str) and len(name) > self.limits.name:
                raise Trouble("limit", f"a name of more than {self.limits.name} characters")
            if len(stored) >= self.limits.names:
                raise Trouble("limit", f"more than {self.limits.names} different {kind}")
            stored[name] = {}
        return stored[name]

    def request(self, name: Hashable, value: Any_) -> Any_:
        """Return a control's requested value."""
        return requested(value, takes_text=name in self.takes_text)

    def do_control(self, entity: Host | Guest, name: Any_, value: Any_, site: int) -> None:
        """Implement `Control`."""
        self.control(name)[_id(entity)] = (entity, self.request(name, value), site)

    def do_getcontrol(self, entity: Host | Guest, name: Any_) -> Any_:
        """Implement `GetControl`."""
        request = self.controls.get(name, {}).get(_id(entity))
        return None if request is None else request[1]

    def do_setvar(self, entity: Host | Guest, name: Any_, value: Any_) -> None:
        """Implement `SetVar`."""
        self.variable(name)[_id(entity)] = value

    def do_getvar(self, entity: Host | Guest, name: Any_) -> Any_:
        """Implement `GetVar`."""
        return self.variables.get(name, {}).get(_id(entity))

    def do_remember(self, entity: Host | Guest, name: Any_, value: Any_) -> None:
        """Implement `Remember`."""
        _check_note(name)
        small = value.__class__ in _NUMBERS and -_SMALL < value < _SMALL
        if not small and not _keepable(value):
            raise Trouble("type", f"{show(value)} cannot be kept: only numbers, strings, nil and flat lists of these can")
        identity = _id(entity)
        notes = self.noted.setdefault(identity, {})
        kept = self.notes.get(identity, {})
        if name not in notes and len(kept.keys() | notes.keys()) >= self.limits.names and name not in kept:
            raise Trouble("limit", f"more than {self.limits.names} notes on {show(entity)}; set unused notes to nil")
        before = self._note(identity, name)
        if not small or before.__class__ not in _NUMBERS:  # all small numbers have the same size
            self._make_room(name, before, value)
        notes[name] = value
        recalled = self._recalled.get(name)
        if recalled is not None:
            if value is None:
                recalled.pop(identity, None)
            else:
                recalled[identity] = value

    def _make_room(self, name: str, before: Any_, value: Any_) -> None:
        if len(name) > self.limits.name:
            raise Trouble("limit", f"a name of more than {self.limits.name} characters")
        if sum(len(item) for item in (value if isinstance(value, list) else [value]) if isinstance(item, str)) > self.limits.string:
            raise Trouble("limit", f"a note of more than {self.limits.string:,} characters")
        growth = NoteStore.size_of(name, value) - NoteStore.size_of(name, before)
        if growth > max(self._room, 0):
            raise Trouble("limit", f"notes on the host and all guests of more than {NoteStore.LARGEST >> 20} MiB together")
        self._room -= max(growth, 0)  # shrinking frees nothing: if the guest's step fails, its old notes stay

    def recalled(self, name: str) -> dict[str, Any_]:
        """Return a note's values keyed by entity id. `do_remember` keeps them current."""
        result = {identity: value for identity, notes in self.notes.items() if (value := notes.get(name)) is not None}
        self._recalled[name] = result
        return result

    def do_recall(self, entity: Host | Guest, name: Any_, default: Any_ = None) -> Any_:
        """Implement `Recall`."""
        _check_note(name)
        value = self._note(_id(entity), name)
        return default if value is None else value

    def _note(self, identity: str, name: str) -> Any_:
        noted = self.noted.get(identity, {})
        return noted[name] if name in noted else self.notes.get(identity, {}).get(name)


def _id(entity: Host | Guest) -> str:
    return entity.id if isinstance(entity, Guest) else HOST_ID


def _check_note(name: Any_) -> None:
    if not isinstance(name, str):
        raise Trouble("type", f"a note's name is a string, not {show(name)},")


_NUMBERS: frozenset[type[Any_]] = frozenset({int, float, bool})
_SMALL = 1 << 63

_KEPT = 1000  # elements of a remembered list


def _keepable(value: Any_) -> bool:
    if isinstance(value, list):
        return len(value) <= _KEPT and all(not isinstance(item, list) and _keepable(item) for item in value)
    return value is None or isinstance(value, int | str) or (isinstance(value, float) and math.isfinite(value))
