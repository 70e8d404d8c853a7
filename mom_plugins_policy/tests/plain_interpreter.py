"""A small, slow, obviously right interpreter of the language, against which the compiled one is checked.

It walks the tree, keeps each scope as a dictionary and looks every name up when it meets it. Of limits it knows the depth of calls. What
values are, and what a function makes of them, it takes from the language: other tests compare that with the code.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from mom_core import HOST_ID, Guest, Host, Snapshot
from mom_plugins_policy.language.errors import Trouble, kind_of
from mom_plugins_policy.language.syntax import Form, FormKind
from mom_plugins_policy.language.values import Disk, Function, Guests, Record, requested
from mom_plugins_policy.language.words.forms import SPECIAL_FORMS
from mom_plugins_policy.language.words.functions import BUILTINS, CALLABLES, OPERATORS, FunctionWord
from mom_plugins_policy.language.words.methods import DISK_METHODS, ENTITY_METHODS

from mom_plugins_policy.language.words.word import Word
ANYWORD = Word(name='x', least=0, most=None, meaning='')
DEPTH = 200


class PlainError(Exception):
    def __init__(self, kind: str, form: Form | None = None) -> None:
        super().__init__(kind)
        self.kind = kind
        self.form = form


def defined(forms: Iterable[Form]) -> set[str]:
    """The names of all functions that a program defines, wherever that is."""
    found = set()
    for form in forms:
        if len(form.items) > 1 and form.items[0].name in ("def", "defun"):
            found.add(form.items[1].name)
        found |= defined(form.items)
    return found


class Plain:
    def __init__(self, forms: list[Form], snapshot: Snapshot) -> None:
        self.forms = forms
        self.words = {**SPECIAL_FORMS, **BUILTINS}
        for name in defined(forms) & {name for name, word in self.words.items() if word.extension}:
            del self.words[name]
        self.snapshot = snapshot
        self.samples = [*snapshot.history, snapshot]
        self.guests = Guests(snapshot.guests.values())
        self.scopes: list[dict[str, Any]] = [
            {"Host": snapshot.host, "Guests": self.guests, **{name: self.callable(word) for name, word in CALLABLES.items()}}
        ]
        self.functions: dict[str, tuple[list[str], Form]] = {}
        self.depth = 0
        self.stored: dict[str, dict[tuple[str, Any], Any]] = {word.store: {} for word in ENTITY_METHODS.values()}
        self.disks: dict[str, Any] = {}
        self.failed: set[str] = set()
        self.errors: list[tuple[str, int, int, str | None]] = []
        self.stopped = False
        self.values: list[Any] = []

    def run(self) -> Plain:
        try:
            for form in self.forms:
                self.values.append(self.eval(form))
        except PlainError as error:
            self._report(error, None)
            self.stopped = True
        return self

    def decisions(self) -> dict[tuple[str, str], Any]:
        lost = self.failed | ({HOST_ID} if self.stopped else set())
        return {key: value for key, value in self.stored["control"].items() if value is not None and key[0] not in lost}

    def _report(self, error: PlainError, guest: str | None) -> None:
        assert error.form is not None
        _, line, column = error.form.source
        entry = (error.kind, line, column, guest)
        if entry not in self.errors:
            self.errors.append(entry)

    # --- names ---------------------------------------------------------------------------------------------------------------

    def find(self, name: str) -> tuple[bool, Any]:
        if name == "nil":
            return False, None
        for scope in reversed(self.scopes):
            if name in scope:
                return True, scope[name]
        return False, None

    def resolve(self, name: str) -> tuple[bool, Any]:
        first, *rest = name.split(".")
        found, value = self.find(first)
        for part in rest:
            if not found:
                break
            found, value = self.attribute(value, part)
        return found, value

    def attribute(self, value: Any, name: str) -> tuple[bool, Any]:
        if isinstance(value, Host | Guest):
            if name in ENTITY_METHODS:
                return True, Function(name, lambda args, site: self.method(value, name, tuple(args)), ANYWORD)
            if not self.declared(value, name):
                return False, None
            if name == "io_tune" and isinstance(value, Guest):
                return True, self.io_tune(value)
            return True, value.fields.get(name)
        if isinstance(value, Disk) and name in DISK_METHODS:
            return True, Function(name, lambda args, site: self.set_disk(value, name, tuple(args)), ANYWORD)
        parts = value.attributes if isinstance(value, Disk) else value if isinstance(value, Record) else {}
        return name in parts, parts.get(name)

    def declared(self, entity: Host | Guest, name: Any) -> bool:
        if not isinstance(name, str):
            return False
        if isinstance(entity, Host):
            return any(name in sample.host.fields for sample in self.samples)
        return any(name in guest.fields for sample in self.samples for guest in sample.guests.values())

    def io_tune(self, guest: Guest) -> Any:
        if guest.id not in self.disks:
            found = guest.fields.get("io_tune")
            self.disks[guest.id] = [Disk(guest, item) for item in found] if isinstance(found, list) else found
        return self.disks[guest.id]

    # --- forms ---------------------------------------------------------------------------------------------------------------

    def eval(self, form: Form) -> Any:
        if form.kind is FormKind.LITERAL:
            return form.value
        if form.kind is FormKind.OPERATOR:
            raise PlainError("malformed", form)
        if form.kind is FormKind.NAME:
            if form.name == "nil":
                return None
            found, value = self.resolve(form.name)
            if not found:
                raise PlainError("undefined-symbol", form)
            return value
        if form.kind is FormKind.BLOCK:
            return self.sequence(form, form.items)
        try:
            return self.call(form)
        except PlainError as error:
            if error.form is None:
                error.form = form
            raise
        except (TypeError, ArithmeticError, ValueError, MemoryError, RecursionError, Trouble) as error:
            raise PlainError(kind_of(error), form) from None  # Python's own limit comes before ours where calls are nested in other forms

    def sequence(self, form: Form, items: list[Form]) -> Any:
        if not items:
            raise PlainError("empty-form", form)
        value = None
        for item in items:
            value = self.eval(item)
        return value

    def call(self, form: Form) -> Any:
        if not form.items:
            raise PlainError("empty-form")
        head, args = form.items[0], form.items[1:]
        if head.kind is FormKind.OPERATOR:
            return self.word(form, OPERATORS[head.name], args)
        if head.kind is not FormKind.NAME:
            raise PlainError("not-callable")
        name = head.name
        builtin = name in self.words
        found, value = self.resolve(name)
        if found and value is not None and (isinstance(value, Function) or not builtin):
            values = [self.eval(arg) for arg in args]
            if not isinstance(value, Function):
                raise PlainError("not-callable")
            return value(values, form)
        if found and value is None and "." in name and name not in self.functions:
            raise PlainError("undefined-symbol")
        return self.word(form, name, args)

    def word(self, form: Form, name: str, args: list[Form]) -> Any:
        known = self.words.get(name)
        if known is not None:
            if not known.takes(len(args)):
                raise PlainError("arity")
            if name in BUILTINS:
                return BUILTINS[name].compute(*[self.eval(arg) for arg in args])
            return getattr(self, f"special_{ {'defun': 'def', 'setq': 'set'}.get(name, name) }")(form, *args)
        if name not in self.functions:
            raise PlainError("unknown-function")
        parameters, body = self.functions[name]
        if len(parameters) != len(args):
            raise PlainError("arity")
        values = [self.eval(arg) for arg in args]
        scope: dict[str, Any] = {}
        for parameter, value in zip(parameters, values, strict=True):
            scope.setdefault(parameter, value)
        if self.depth >= DEPTH:
            raise PlainError("recursion")
        self.depth += 1
        self.scopes.append(scope)
        try:
            return self.eval(body)
        finally:
            self.scopes.pop()
            self.depth -= 1

    def special_if(self, form: Form, condition: Form, first: Form, second: Form) -> Any:
        return self.eval(first) if self.eval(condition) else self.eval(second)

    def special_eval(self, form: Form, *body: Form) -> Any:
        return self.sequence(form, list(body))

    def special_cond(self, form: Form, *clauses: Form) -> Any:
        if any(clause.kind is not FormKind.LIST or len(clause.items) < 2 for clause in clauses):
            raise PlainError("malformed")
        for clause in clauses:
            test, *body = clause.items
            if (clause is clauses[-1] and test.name == "else") or self.eval(test):
                return self.sequence(clause, body)
        return None

    def special_let(self, form: Form, pairs: Form, *body: Form) -> Any:
        if pairs.kind is not FormKind.LIST:
            raise PlainError("malformed")
        for pair in pairs.items:
            if pair.kind is not FormKind.LIST or len(pair.items) != 2 or pair.items[0].kind is not FormKind.NAME:
                raise PlainError("malformed")
        self.scopes.append({})
        try:
            for pair in pairs.items:
                value = self.eval(pair.items[1])
                self.scopes[-1].setdefault(pair.items[0].name, value)
            return self.sequence(form, list(body))
        finally:
            self.scopes.pop()

    def special_def(self, form: Form, name: Form, parameters: Form, body: Form) -> Any:
        if name.kind is not FormKind.NAME:
            raise PlainError("malformed")
        if name.name not in self.words:
            self.functions[name.name] = ([item.name for item in parameters.items], body)
        return name.name

    def special_defvar(self, form: Form, name: Form, value: Form) -> Any:
        if name.kind is not FormKind.NAME:
            raise PlainError("malformed")
        return self.scopes[-1].setdefault(name.name, self.eval(value))

    def special_set(self, form: Form, name: Form, value: Form) -> Any:
        if name.kind is not FormKind.NAME:
            raise PlainError("malformed")
        result = self.eval(value)
        for scope in reversed(self.scopes):
            if name.name in scope and name.name != "nil":
                scope[name.name] = result
                return result
        raise PlainError("undefined-symbol")

    def special_with(self, form: Form, items: Form, name: Form, body: Form) -> Any:
        if items.kind is not FormKind.NAME or name.kind is not FormKind.NAME:
            raise PlainError("malformed")
        elements = self.eval(items)
        if not isinstance(elements, Guests | list | str):
            raise PlainError("type")
        values = []
        for element in list(elements):
            self.scopes.append({name.name: element})
            height, depth = len(self.scopes), self.depth
            try:
                values.append(self.eval(body))
            except PlainError as error:
                if elements is not self.guests:
                    raise
                self._report(error, element.name)
                self.failed.add(element.id)
                values.append(None)
                del self.scopes[height:]
                self.depth = depth
            finally:
                self.scopes.pop()
        return values

    @staticmethod
    def callable(word: FunctionWord) -> Function:
        def call(args: tuple[Any, ...], site: int) -> Any:
            if not word.takes(len(args)):
                raise PlainError("arity")
            return word.compute(*args)

        return Function(word.name, call, ANYWORD)

    # --- entities ------------------------------------------------------------------------------------------------------------

    def method(self, entity: Host | Guest, name: str, values: tuple[Any, ...]) -> Any:
        if not ENTITY_METHODS[name].takes(len(values)):
            raise PlainError("arity")
        identity = entity.id if isinstance(entity, Guest) else "host"
        if name in ("Stat", "StatAvg", "Remember", "Recall") and not isinstance(values[0], str):
            raise PlainError("type" if name in ("Remember", "Recall") else "unknown-field")
        hash(values[0])
        key = (identity, values[0])
        if name == "Prop":
            if values[0] not in entity.properties and len(values) == 1:
                raise PlainError("missing-property")
            return entity.properties.get(values[0], values[-1])
        if name in ("Stat", "StatAvg"):
            if not self.declared(entity, values[0]):
                raise PlainError("unknown-field")
            if name == "Stat":
                if values[0] == "io_tune" and isinstance(entity, Guest) and "io_tune" in entity.fields:
                    return self.io_tune(entity)
                return entity.fields.get(values[0], values[1] if len(values) > 1 else None)
            return self.mean(entity, values[0])
        word = ENTITY_METHODS[name]
        if word.writes:
            if word.store == "memory" and not self.keepable(values[1]):
                raise PlainError("type")
            self.stored[word.store][key] = requested(values[1]) if word.store == "control" else values[1]
            return None
        found = self.stored[word.store].get(key)
        return found if found is not None else values[1] if len(values) > 1 else None

    def keepable(self, value: Any) -> bool:
        if isinstance(value, list):
            return all(not isinstance(item, list) and self.keepable(item) for item in value)
        return value is None or isinstance(value, int | str) or (isinstance(value, float) and math.isfinite(value))

    def mean(self, entity: Host | Guest, name: str) -> float:
        there = [sample.host if isinstance(entity, Host) else sample.guests.get(entity.id) for sample in self.samples]
        values: list[Any] = [one.fields[name] for one in there if one is not None and one.fields.get(name) is not None]
        total: Any = 0
        for value in values:
            total += value
        return float(total / len(values)) if values else 0.0

    def set_disk(self, disk: Disk, name: str, values: tuple[Any, ...]) -> None:
        if len(values) != 1:
            raise PlainError("arity")
        value = requested(values[0])
        disk.current[DISK_METHODS[name]] = None if value is None else int(value)
