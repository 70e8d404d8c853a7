"""Survey of a program before compilation: names, functions, calls, and mistakes.

Scope is dynamic: a function sees its callers' names. So a function that is not inlined uses shared cells (`Program.shared`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import count
from operator import or_

from mom_plugins_policy.language.errors import Fault
from mom_plugins_policy.language.syntax import Form, FormKind, all_in
from mom_plugins_policy.language.words.forms import DEFINING, SPECIAL_FORMS, WORDS, FormWord, Role, Roles, expanded, in_order
from mom_plugins_policy.language.words.functions import CALLABLES, PREDEFINED
from mom_plugins_policy.language.words.methods import DISK_METHODS, ENTITY_METHODS
from mom_plugins_policy.language.words.word import Word

_METHODS = frozenset(ENTITY_METHODS) | frozenset(DISK_METHODS)
_VALUE, _BODY, _BRANCH, _STEP = Role.VALUE, Role.BODY, Role.BRANCH, Role.STEP  # local names are faster than enumeration members
_NOT_PLAIN = frozenset(name for name, word in SPECIAL_FORMS.items() if not word.plain)
_STATIC_DEPTH = 8  # a definition nested deeper in blocks counts as conditional
_INLINE_SIZES = (4000, 400, 80, 15, 0)  # candidate size limits for inlined functions; the first that keeps the program small is used


@dataclass(eq=False, slots=True)
class Definition:
    """`def` of a function, with its body's effects (without effects of called functions)."""

    form: Form
    name: str
    parameters: tuple[str, ...]
    body: Form
    number: int
    unconditional: bool
    size: int
    calls: Counter[str] = field(default_factory=Counter)
    assigned: set[str] = field(default_factory=set)
    free: set[str] = field(default_factory=set)


@dataclass(eq=False, slots=True)
class Program:
    """Texts as one program, with the survey's results."""

    forms: Sequence[Form]
    bound: set[str] = field(default_factory=set)
    assigned: set[str] = field(default_factory=set)
    definitions: dict[str, list[Definition]] = field(default_factory=dict)
    callables: bool = False
    """Whether a variable may hold a callable."""
    lists: bool = False
    """Whether the program may use a list that it has built."""
    alone: set[str] = field(default_factory=set)
    """Separate functions. All others are inlined."""
    shared: set[str] = field(default_factory=set)
    """Names that separate functions use without binding them."""
    faults: list[Fault] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    size: int = 0
    roles: dict[int, Roles] = field(default_factory=dict)
    """Roles of well-formed special forms, keyed by form index."""
    words: Mapping[str, Word] = field(default_factory=lambda: WORDS)
    """Words, without extensions that the program defines itself."""
    _changing: set[str] | None = None

    def functions(self) -> Iterator[Definition]:
        """Yield all definitions."""
        for several in self.definitions.values():
            yield from several

    def assigned_in(self, form: Form) -> set[str]:
        """Return names that a form may assign with `set`."""
        result: set[str] = set()
        called: list[str] = []
        for item in all_in([form] if self.assigned else []):
            roles = self.roles.get(item.index)
            if roles is not None and roles.assigned:
                result.add(roles.assigned)
            elif item.items and item.items[0].name in self.definitions:
                called.append(item.items[0].name)
        for name in self.reached(called):
            for definition in self.definitions[name]:
                result |= definition.assigned
        return result

    def reached(self, names: Iterable[str]) -> Iterator[str]:
        """Yield these functions and their callees."""
        todo, reached = [*names], set[str]()
        while todo:
            name = todo.pop()
            if name not in reached and name in self.definitions:
                reached.add(name)
                yield name
                todo.extend(callee for definition in self.definitions[name] for callee in definition.calls)

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
            for item in all_in([definition.body]):
                if self._does(item):
                    result.add(definition.name)
                elif _head(item) in self.definitions:
                    callers.setdefault(_head(item), []).append(definition.name)
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
    words = WORDS
    survey = _Survey(forms, words, everything=False)
    if survey.extended:
        forms, words = _with_extensions(survey.program)
        survey = _Survey(forms, words, everything=False)
    program = survey.program
    if program.callables and not program.bound.isdisjoint(_NOT_PLAIN):
        # A variable may turn a special form into a call, which evaluates its names and lists as arguments.
        program = _Survey(forms, words, everything=True).program
    _choose_inlining(program)
    return program


def _with_extensions(program: Program) -> tuple[Sequence[Form], Mapping[str, Word]]:
    # The words lack extensions that the program defines.
    own = {form.items[1].name for form in all_in(program.forms) if len(form.items) > 1 and form.items[0].name in DEFINING}
    if program.callables:
        # A variable of that name may hold a callable, but expansion comes before that is known.
        own |= program.bound.intersection(SPECIAL_FORMS)
    words = {name: word for name, word in WORDS.items() if not word.extension or name not in own}
    return expanded(program.forms, words), words


def _may_be_callable(name: str) -> bool:
    first, *parts = name.split(".")
    return first in CALLABLES or not _METHODS.isdisjoint((first, *parts))


@dataclass(slots=True, eq=False)
class _NamesAround:
    # The thousands of values of a `let` share one list.

    places: Mapping[str, int]
    before: int
    around: _NamesAround | None

    def __contains__(self, name: str) -> bool:
        here: _NamesAround | None = self
        while here is not None:
            if here.places.get(name, here.before) < here.before:
                return True
            here = here.around
        return False


_NOTHING_BOUND = _NamesAround({}, 0, None)


class _Survey:
    def __init__(self, forms: Sequence[Form], words: Mapping[str, Word], *, everything: bool) -> None:
        self.program = Program(forms, words=words)
        self.everything = everything
        self.extended = False
        """Whether an extension is used or defined."""
        self.suspicions: list[tuple[str, Fault]] = []
        self.visited: set[tuple[int, int]] = set()
        self.numbers = count()
        # (form, owner, dropped: nothing uses its value, level: >= 0 while unconditional, bound: names bound around it in its function)
        self.todo: list[tuple[Form, Definition | None, bool, int, _NamesAround]] = []
        self.todo.extend((form, None, True, 0, _NOTHING_BOUND) for form in reversed(forms))
        while self.todo:
            self._visit(*self.todo.pop())
        # If the head may be a variable, only the evaluation shows whether the form is special.
        self.program.faults = [fault for head, fault in self.suspicions if head not in self.program.bound]

    def _visit(self, form: Form, owner: Definition | None, dropped: bool, level: int, bound: _NamesAround) -> None:
        program = self.program
        if self.everything:
            # Once per function: otherwise two ways to evaluate a form would double the work at each level.
            key = (form.index, -1 if owner is None else owner.number)
            if key in self.visited:
                return
            self.visited.add(key)
            bound = _NOTHING_BOUND
        program.size += 1
        if owner is not None:
            owner.size += 1
        if form.kind is FormKind.NAME:
            self._name(form.name, owner, bound)
            if _may_be_callable(form.name):
                program.callables = True
            return
        if form.kind is FormKind.BLOCK:
            self._special(form, in_order(form.items), owner, dropped, level, bound)
        elif form.items:
            self._list(form, owner, dropped, level, bound)

    def _list(self, form: Form, owner: Definition | None, dropped: bool, level: int, bound: _NamesAround) -> None:
        program = self.program
        head = form.items[0]
        arguments = form.items[1:]
        if head.kind is not FormKind.NAME:
            if head.kind is FormKind.OPERATOR:
                self._all(arguments, owner, bound)
            return
        self._name(head.name, owner, bound)
        word = program.words.get(head.name)
        if word is not None and word.extension:
            self.extended = True
        if isinstance(word, FormWord) and word.takes(len(arguments)):
            roles = word.roles(form)
            if word.flaws is not None:
                self.suspicions.extend((head.name, Fault("malformed", *at.source, why)) for at, why in word.flaws(form, roles))
            if roles is not None:
                program.roles[form.index] = roles
                self._special(form, roles, owner, dropped, level, bound)
            if word.expansion is not None or (self.everything and not word.plain):
                self._all(arguments, owner, bound)
            return
        if word is None:
            (program.calls if owner is None else owner.calls)[head.name] += 1
        self._all(arguments, owner, bound)

    def _name(self, name: str, owner: Definition | None, bound: _NamesAround) -> None:
        first = name.partition(".")[0]
        if owner is not None and first not in bound:
            owner.free.add(first)

    def _all(self, forms: Sequence[Form], owner: Definition | None, bound: _NamesAround) -> None:
        self.todo.extend((form, owner, False, -1, bound) for form in reversed(forms))

    def _special(self, form: Form, roles: Roles, owner: Definition | None, dropped: bool, level: int, bound: _NamesAround) -> None:
        parts, kinds, bindings, scope, assigned, defined = roles
        names = [binding.name.name for binding in bindings]
        self.program.bound.update(names)
        if defined is not None:
            self._def(form, roles, defined.name, owner, level)
            return
        if assigned:
            self.program.assigned.add(assigned)
            if owner is not None:
                owner.assigned.add(assigned)
            self._name(assigned, owner, bound)
        places: dict[str, int] = {}
        if scope:
            for place, name in enumerate(names):
                places.setdefault(name, place)
        elif names and owner is not None:
            owner.free.update(name for name in names if name not in bound)  # bound only from here on
        deeper = level + 1 if not scope and 0 <= level < _STATIC_DEPTH else -1
        last = len(parts) - 1
        todo = self.todo
        for place in range(last, -1, -1):
            part, role = parts[place], kinds[place]
            bound_before = len(names)
            if role is _VALUE:
                bound_before = min(place, bound_before)
            around = _NamesAround(places, bound_before, bound) if scope and bound_before else bound
            if role is _BODY:
                todo.append((part, owner, dropped if place == last else True, deeper, around))
            elif role is _BRANCH or role is _STEP:
                todo.append((part, owner, dropped, -1, around))
                self.program.lists = self.program.lists or (role is _STEP and not dropped)
            else:
                todo.append((part, owner, False, -1, around))

    def _def(self, form: Form, roles: Roles, name: str, owner: Definition | None, level: int) -> None:
        word = self.program.words.get(name)
        if word is not None:
            self.extended = self.extended or word.extension
            return  # does nothing
        parameters = tuple(binding.name.name for binding in roles.bindings)
        unconditional = owner is None and level >= 0 and not self.everything
        (body,) = roles.parts
        definition = Definition(form, name, parameters, body, next(self.numbers), unconditional, 0)
        self.program.definitions.setdefault(name, []).append(definition)
        self.todo.append((body, definition, False, -1, _NamesAround(dict.fromkeys(parameters, 0), 1, _NOTHING_BOUND)))


def _choose_inlining(program: Program) -> None:
    definitions = program.definitions
    program.alone.update(name for name, several in definitions.items() if not all(item.unconditional for item in several))
    order = _callees_first(program)
    for size in _INLINE_SIZES:
        total = _expanded(program, order, size)
        if total <= 4 * program.size + 20_000:
            break
    # A separate function looks up callees with several definitions at each call, so these callees are separate too.
    called = {callee for name in program.alone for callee in _callees(program, name)}
    program.alone.update(name for name in program.reached(called) if len(definitions[name]) > 1)
    if not program.alone:
        return
    changing = sorted((program.bound | set(PREDEFINED)) & (program.bound | program.assigned))
    free = _free_with_callees(program, order, changing)
    shared = reduce(or_, (free[name] for name in program.alone))
    program.shared |= {name for number, name in enumerate(changing) if shared >> number & 1}


def _callees_first(program: Program) -> list[str]:
    # A function becomes separate if its call closes a cycle.
    definitions = program.definitions
    order: list[str] = []
    begun: set[str] = set()
    finished: set[str] = set()
    for root in definitions:
        work = [] if root in begun else [(root, _callees(program, root))]
        while work:
            name, callees = work[-1]
            begun.add(name)
            callee = next(callees, None)
            if callee is None:
                work.pop()
                finished.add(name)
                order.append(name)
            elif callee not in begun:
                work.append((callee, _callees(program, callee)))
            elif callee not in finished:
                program.alone.add(callee)
    return order


def _callees(program: Program, name: str) -> Iterator[str]:
    return iter(
        dict.fromkeys(callee for definition in program.definitions[name] for callee in definition.calls if callee in program.definitions)
    )


def _expanded(program: Program, order: Sequence[str], largest: int) -> int:
    definitions = program.definitions
    sites = Counter(program.calls)
    for definition in program.functions():
        sites.update(definition.calls)
    cost: dict[str, int] = {}
    total = 0
    for name in order:
        size = 0
        for definition in definitions[name]:
            size = max(size, definition.size + sum(cost.get(callee, 1) * count for callee, count in definition.calls.items()))
        if size > largest and sites[name] > 1:
            program.alone.add(name)
        cost[name] = size
        if name in program.alone:
            cost[name] = 1
            total += size * len(definitions[name])
    return total + program.size + sum(cost.get(callee, 1) * count for callee, count in program.calls.items())


def _free_with_callees(program: Program, order: Sequence[str], names: Sequence[str]) -> dict[str, int]:
    """Return names from callers' scopes as bit masks."""
    definitions = program.definitions
    bits = {name: 1 << number for number, name in enumerate(names)}

    def of(some: Iterable[str]) -> int:
        return reduce(or_, (bits[name] for name in some if name in bits), 0)

    free: dict[str, int] = {}
    for name in order:
        bits_of_name = 0
        for definition in definitions[name]:
            own = of(definition.free)
            for callee in definition.calls:
                own |= free.get(callee, 0)  # a separate function shares its own names anyway
            bits_of_name |= own & ~of(definition.parameters)
        free[name] = bits_of_name
    return free
