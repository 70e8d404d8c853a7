"""Survey of a program before its evaluation: names, functions, roles of forms, and mistakes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import count

from mom_core import Scope
from mom_plugins_policy.language.errors import Fault
from mom_plugins_policy.language.syntax import Form, FormKind, all_in
from mom_plugins_policy.language.words.forms import DEFINING, SPECIAL_FORMS, WORDS, FormWord, Role, Roles, expanded
from mom_plugins_policy.language.words.functions import CALLABLES
from mom_plugins_policy.language.words.methods import DISK_METHODS, ENTITY_METHODS
from mom_plugins_policy.language.words.word import Word

_STATISTICS = ("Stat", "StatAvg")
_METHODS = frozenset(ENTITY_METHODS) | frozenset(DISK_METHODS)


@dataclass(eq=False, slots=True)
class Definition:
    """A function's `def`, with the names that the function's body assigns and calls."""

    form: Form
    name: str
    parameters: tuple[str, ...]
    body: Form
    number: int
    unconditional: bool
    assigned: set[str] = field(default_factory=set)
    calls: set[str] = field(default_factory=set)


@dataclass(eq=False, slots=True)
class Program:
    """All policies as one program, with the results of the survey."""

    forms: Sequence[Form]
    words: Mapping[str, Word] = field(default_factory=lambda: WORDS)
    """Words of the language, without the extensions that the program replaces by its own definitions."""
    bound: set[str] = field(default_factory=set)
    assigned: set[str] = field(default_factory=set)
    definitions: dict[str, list[Definition]] = field(default_factory=dict)
    callables: bool = False
    extended: bool = False
    faults: list[Fault] = field(default_factory=list)
    roles: dict[int, Roles] = field(default_factory=dict)
    """Roles of well-formed special forms, keyed by form index."""
    _changing: set[str] | None = None

    def functions(self) -> Iterator[Definition]:
        """Yield all definitions."""
        for several in self.definitions.values():
            yield from several

    def assigned_in(self, form: Form) -> set[str]:
        """Return the names that a form, or a function that it calls, may assign with `set`."""
        result: set[str] = set()
        called: list[str] = []
        for item in all_in([form] if self.assigned else []):
            roles = self.roles.get(item.index)
            if roles is not None and roles.assigned:
                result.add(roles.assigned)
            elif _head(item) in self.definitions:
                called.append(_head(item))
        for name in self._reached(called):
            for definition in self.definitions[name]:
                result |= definition.assigned
        return result

    def _reached(self, names: Iterable[str]) -> Iterator[str]:
        todo, reached = [*names], set[str]()
        while todo:
            name = todo.pop()
            if name not in reached and name in self.definitions:
                reached.add(name)
                yield name
                todo.extend(callee for definition in self.definitions[name] for callee in definition.calls)

    def fields(self) -> Set[tuple[Scope, str]]:
        """Return the fields of the host, and of guests in loops over `Guests`, that the policies mention."""
        fields: set[tuple[Scope, str]] = set()
        owners = self._owners()
        for form in all_in(self.forms):
            first, _, name = (_head(form) or form.name).partition(".")
            if name in _STATISTICS and len(form.items) > 1 and isinstance(form.items[1].value, str):
                fields.update((scope, form.items[1].value) for scope in Scope if (first, scope) in owners)
            elif form.kind is FormKind.NAME and name and name not in ENTITY_METHODS:
                fields.update((scope, name.partition(".")[0]) for scope in Scope if (first, scope) in owners)
        return fields

    def _owners(self) -> Set[tuple[str, Scope]]:
        owners, before = {("Host", Scope.HOST)}, 0
        while len(owners) > before:
            before = len(owners)
            for form in all_in(self.forms):
                roles = self.roles.get(form.index)
                if roles is not None and roles.last is Role.STEP and roles.parts[0].name == "Guests":
                    owners.add((roles.bindings[0].name.name, Scope.GUEST))
                for definition in self.definitions.get(_head(form), ()):
                    passed = zip(definition.parameters, form.items[1:], strict=False)
                    owners.update((to, scope) for to, argument in passed for scope in Scope if (argument.name, scope) in owners)
        return owners

    def changes(self, form: Form) -> bool:
        """Return whether a form can have effects."""
        if self._changing is None:
            self._changing = self._find_changing()
        return any(self._does(item) or _head(item) in self._changing for item in all_in([form]))

    def _does(self, form: Form) -> bool:
        roles, method = self.roles.get(form.index), ENTITY_METHODS.get(_head(form).rpartition(".")[2])
        return (roles is not None and bool(roles.assigned)) or (method is not None and method.writes and method.store != "memory")

    def _find_changing(self) -> set[str]:
        callers: dict[str, list[str]] = {}
        result: set[str] = set()
        for definition in self.functions():
            if any(map(self._does, all_in([definition.body]))):
                result.add(definition.name)
            for callee in definition.calls:
                callers.setdefault(callee, []).append(definition.name)
        todo = [*result]
        while todo:
            new = {*callers.pop(todo.pop(), ())} - result
            result |= new
            todo += new
        return result


def _head(form: Form) -> str:
    return form.items[0].name if form.items else ""


def analyse(forms: Sequence[Form]) -> Program:
    """Survey a program, in linear time."""
    program = _Survey(forms, WORDS).program
    if not program.extended:
        return program
    own = {form.items[1].name for form in all_in(forms) if len(form.items) > 1 and form.items[0].name in DEFINING}
    if program.callables:
        # A variable with the name of a special form may hold a callable. This is not known before the expansion.
        own |= program.bound.intersection(SPECIAL_FORMS)
    words = {name: word for name, word in WORDS.items() if not word.extension or name not in own}
    return _Survey(expanded(forms, words), words).program


class _Survey:
    def __init__(self, forms: Sequence[Form], words: Mapping[str, Word]) -> None:
        self.program = Program(forms, words)
        self._suspicions: list[tuple[str, Fault]] = []
        self._numbers = count()
        # (form, function around it, whether it is evaluated in any case)
        self._todo: list[tuple[Form, Definition | None, bool]] = []
        self._push(forms, None, always=True)
        while self._todo:
            self._visit(*self._todo.pop())
        # If the head may be a variable, only the evaluation shows whether the form is special.
        self.program.faults = [fault for head, fault in self._suspicions if head not in self.program.bound]

    def _push(self, forms: Sequence[Form], owner: Definition | None, *, always: bool = False) -> None:
        self._todo.extend((form, owner, always) for form in reversed(forms))

    def _visit(self, form: Form, owner: Definition | None, always: bool) -> None:
        if form.kind is FormKind.NAME:
            first, *parts = form.name.split(".")
            self.program.callables |= first in CALLABLES or not _METHODS.isdisjoint((first, *parts))
        elif form.kind is FormKind.BLOCK:
            self._push(form.items, owner, always=always)
        elif form.items and form.items[0].kind is FormKind.NAME:
            self._list(form, owner, always)
        elif form.items and form.items[0].kind is FormKind.OPERATOR:
            self._push(form.items[1:], owner)

    def _list(self, form: Form, owner: Definition | None, always: bool) -> None:
        name, arguments = form.items[0].name, form.items[1:]
        word = self.program.words.get(name)
        self.program.extended |= word is not None and word.extension
        if not isinstance(word, FormWord) or not word.takes(len(arguments)):
            if owner is not None:
                owner.calls.add(name)
            self._push(arguments, owner)
            return
        roles = word.roles(form)
        if word.flaws is not None:
            self._suspicions.extend((name, Fault("malformed", *at.source, why)) for at, why in word.flaws(form, roles))
        if roles is not None:
            self._special(form, roles, owner, always=always, plain=word.plain)
        elif word.expansion is not None:
            self._push(arguments, owner)

    def _special(self, form: Form, roles: Roles, owner: Definition | None, *, always: bool, plain: bool) -> None:
        program = self.program
        program.roles[form.index] = roles
        names = [binding.name.name for binding in roles.bindings]
        program.bound.update(names)
        if roles.assigned:
            program.assigned.add(roles.assigned)
            if owner is not None:
                owner.assigned.add(roles.assigned)
        if roles.defined is None:
            self._push(roles.parts, owner, always=always and plain)
            return
        name = roles.defined.name
        if (word := program.words.get(name)) is not None:
            program.extended |= word.extension
            return  # does nothing
        owner = Definition(form, name, tuple(names), roles.parts[0], next(self._numbers), always)
        program.definitions.setdefault(name, []).append(owner)
        self._push(roles.parts, owner)
