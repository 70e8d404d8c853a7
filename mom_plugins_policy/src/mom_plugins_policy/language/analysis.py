"""Survey of a program before its evaluation: names, functions, parts of forms, and mistakes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field

from mom_core import Scope
from mom_kvm import PolicyProblem
from mom_plugins_policy.language.functions import CALLABLES, DEFINING, WORDS, FormWord, Parts
from mom_plugins_policy.language.syntax import Form, FormKind, all_in
from mom_plugins_policy.language.words import DISK_METHODS, ENTITY_METHODS, Word

_STATISTICS = ("Stat", "StatAvg")
_METHODS = frozenset(ENTITY_METHODS) | frozenset(DISK_METHODS)


@dataclass(eq=False, slots=True)
class Definition:
    """Definition of a function, with the names that its body assigns and calls."""

    form: Form
    name: str
    parameters: tuple[str, ...]
    body: Form
    unconditional: bool
    assigned: set[str] = field(default_factory=set)
    calls: set[str] = field(default_factory=set)


@dataclass(eq=False, slots=True)
class Program:
    """All policies as one program, with the results of the survey."""

    forms: Sequence[Form]
    words: Mapping[str, Word] = field(default_factory=lambda: WORDS)
    """Words of the language, without the extensions that the program redefines."""
    bound: set[str] = field(default_factory=set)
    assigned: set[str] = field(default_factory=set)
    definitions: dict[str, list[Definition]] = field(default_factory=dict)
    ineffective: list[Form] = field(default_factory=list)
    """Names of definitions that have no effect, because the names are words of the language."""
    callables: bool = False
    problems: list[PolicyProblem] = field(default_factory=list)
    parts: dict[int, Parts] = field(default_factory=dict)
    """Parts of well-formed special forms, keyed by form index."""

    def functions(self) -> Iterator[Definition]:
        """Yield all definitions."""
        for several in self.definitions.values():
            yield from several

    def assigned_in(self, form: Form) -> set[str]:
        """Return the names that a form, or a function that it calls, may assign with `set`."""
        result: set[str] = set()
        called: list[str] = []
        for item in all_in([form] if self.assigned else []):
            parts = self.parts.get(item.index)
            if parts is not None and parts.assigned:
                result.add(parts.assigned)
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
        """Return the mentioned fields of the host, and of guests in loops over `Guests`."""
        fields: set[tuple[Scope, str]] = set()
        owners = self._owners()
        for form in all_in(self.forms):
            first, _, name = (_head(form) or form.name).partition(".")
            if name in _STATISTICS and len(form.items) > 1 and form.items[1].kind is FormKind.LITERAL:
                fields.update((scope, str(form.items[1].value)) for scope in Scope if (first, scope) in owners)
            elif form.kind is FormKind.NAME and name and name not in ENTITY_METHODS:
                fields.update((scope, name.partition(".")[0]) for scope in Scope if (first, scope) in owners)
        return fields

    def _owners(self) -> Set[tuple[str, Scope]]:
        owners = {("Host", Scope.HOST)}
        owners |= {(parts.bindings[0].name, Scope.GUEST) for parts in self.parts.values() if parts.collection == "Guests"}
        before = 0
        while len(owners) > before:
            before = len(owners)
            for form in all_in(self.forms):
                for definition in self.definitions.get(_head(form), ()):
                    passed = zip(definition.parameters, form.items[1:], strict=False)
                    owners.update((to, scope) for to, argument in passed for scope in Scope if (argument.name, scope) in owners)
        return owners

    def changes(self, form: Form) -> bool:
        """Return whether a form sets variables, controls, or notes for one evaluation by itself, not by a function that it calls."""
        return any(map(self._does, all_in([form])))

    def _does(self, form: Form) -> bool:
        parts, method = self.parts.get(form.index), ENTITY_METHODS.get(_head(form).rpartition(".")[2])
        return (parts is not None and bool(parts.assigned)) or (method is not None and method.writes)


def _head(form: Form) -> str:
    return form.items[0].name if form.items else ""


def analyse(forms: Sequence[Form]) -> Program:
    """Survey a program, in linear time."""
    own = {form.items[1].name for form in all_in(forms) if len(form.items) > 1 and form.items[0].name in DEFINING}
    return _Survey(Program(forms, {name: word for name, word in WORDS.items() if not word.extension or name not in own})).program


class _Survey:
    def __init__(self, program: Program) -> None:
        self.program = program
        self._suspicions: list[tuple[str, PolicyProblem]] = []
        # (form, enclosing function, whether the form is always evaluated)
        self._todo: list[tuple[Form, Definition | None, bool]] = []
        self._push(program.forms, None, always=True)
        while self._todo:
            self._visit(*self._todo.pop())
        # If the head may be a variable, only the evaluation shows whether the form is special.
        program.problems = [problem for head, problem in self._suspicions if head not in program.bound]

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
        program, name, arguments = self.program, form.items[0].name, form.items[1:]
        word = program.words.get(name)
        if not isinstance(word, FormWord) or not word.takes(len(arguments)):
            if owner is not None:
                owner.calls.add(name)
            self._push(arguments, owner)
            return
        parts = word.parts(form)
        if word.flaws is not None:
            self._suspicions.extend((name, PolicyProblem(*at.source, "malformed", why)) for at, why in word.flaws(form, parts))
        if parts is not None:
            self._special(form, parts, owner, always=always, plain=word.plain)
        elif word.extension:
            self._push(arguments, owner)

    def _special(self, form: Form, parts: Parts, owner: Definition | None, *, always: bool, plain: bool) -> None:
        program = self.program
        program.parts[form.index] = parts
        names = [binding.name for binding in parts.bindings]
        program.bound.update(names)
        if parts.assigned:
            program.assigned.add(parts.assigned)
            if owner is not None:
                owner.assigned.add(parts.assigned)
        if parts.defined is not None:
            if parts.defined.name in program.words:
                program.ineffective.append(parts.defined)
                return
            owner = Definition(form, parts.defined.name, tuple(names), parts.evaluated[0], always)
            program.definitions.setdefault(parts.defined.name, []).append(owner)
        self._push(parts.evaluated, owner, always=always and plain and parts.defined is None)
