"""Policy variables in the generated code: each has a `Slot`, usually a local variable in Python."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import reduce
from typing import TypeAlias

from mom_plugins_policy.language.analysis import Program
from mom_plugins_policy.language.compiling.code import Emitter, Expression, PyFunction, joined
from mom_plugins_policy.language.facts import Facts
from mom_plugins_policy.language.limits import PolicyLimits
from mom_plugins_policy.language.syntax import Form, all_in
from mom_plugins_policy.language.words.functions import CALLABLES


@dataclass(slots=True, eq=False)
class Slot:
    """Python variable, shared cell, or alias of a never assigned variable."""

    name: str
    py: str
    owner: PyFunction
    stable: bool = False
    shared: bool = False
    alias: Expression | None = None
    flag: str = ""
    saved: str = ""
    reset: bool = False


@dataclass(slots=True, eq=False)
class Bindings:
    """Scope during code generation."""

    owner: PyFunction
    slots: dict[str, Slot] = field(default_factory=dict)


# Whether a slot is certainly bound, and type and size of its value. Without an entry it is unbound.
Fact: TypeAlias = tuple[bool, str, int]


class Scoping(Emitter):
    """Resolver of variables."""

    def __init__(self, program: Program, limits: PolicyLimits) -> None:
        super().__init__(limits)
        self.program = program
        self.blocks = 0
        self.facts: Facts[Slot, Fact] = Facts()
        self.predefined = Bindings(self.run)
        self.chain = [self.predefined]
        self._predefine()

    def _predefine(self) -> None:
        texts = {"Host": ("host", "host"), "Guests": ("guests", "guests"), **{name: (name.upper(), "fn") for name in CALLABLES}}
        for name, (text, type_) in texts.items():
            if text in ("host", "guests"):
                self._use(text)
            shared = name in self.program.shared
            if shared or name in self.program.assigned:
                slot = Slot(name, self._cell(name) if shared else self._new("v"), self.run, shared=shared)
                self.run.inits[slot.py] = text
            else:
                slot = Slot(name, text, self.run, stable=True)
            self.predefined.slots[name] = slot
            self.facts[slot] = (True, "any" if shared else type_, 1)

    def _join(self, first: Mapping[Slot, Fact], second: Mapping[Slot, Fact]) -> None:
        for key in {**first, **second}:
            either = [fact for learnt in (first, second) if (fact := learnt.get(key) or self.facts.get(key)) is not None]
            certain = len(either) == 2 and all(fact[0] for fact in either)
            self.facts.learn(key, (certain, reduce(joined, (fact[1] for fact in either)), max(fact[2] for fact in either)))

    def _forget_assigned(self, form: Form) -> None:
        names = self.program.assigned_in(form)
        if names:
            for key in list(self.facts):
                if key.name in names:
                    self.facts.learn(key, (self.facts[key][0], "any", 1))

    def _cell(self, name: str) -> str:
        return self._initial("s", name)

    def _assign(self, py: str, owner: PyFunction) -> str:
        if owner is not self.func:
            self.func.nonlocals.add(py)
            owner.inits.setdefault(py, "U")
        return py

    def _late_resets(self, scope: Bindings) -> None:
        self.late(lambda: [f"{slot.py} = U" for slot in scope.slots.values() if slot.reset and not slot.shared])

    @contextmanager
    def _scoped(self, forms: Sequence[Form], names: Sequence[str]) -> Iterator[Bindings]:
        # Bindings are undone at the end, because separate functions may see them.
        scope = Bindings(self.func)
        shared = self.program.shared
        for name in sorted(shared.intersection((*names, *self._bound_by(forms if shared else ())))):
            slot = Slot(name, self._cell(name), self.func, shared=True, flag=self._new("b"), saved=self._new("t"))
            scope.slots[name] = slot
            self.emit(f"{slot.flag} = False")
        slots = list(scope.slots.values())
        self.chain = [*self.chain, scope]
        if not slots:
            self._late_resets(scope)
            yield scope
        else:
            self.emit("try:")
            self.blocks += 1
            with self._block() as block:
                self._late_resets(scope)
                yield scope
            self.blocks -= 1
            self._put(block)
            self.emit("finally:")
            for slot in slots:
                self.emit(f" if {slot.flag}: {self._assign(slot.py, self.run)} = {slot.saved}")
        self.chain = self.chain[:-1]

    def _bound_by(self, forms: Sequence[Form]) -> Iterator[str]:
        for form in all_in(forms):
            roles = self.program.roles.get(form.index)
            if roles is not None and not roles.scope:
                yield from (binding.name.name for binding in roles.bindings)

    def _candidates(self, name: str) -> tuple[list[Slot], bool]:
        # The innermost slot comes first. The flag says whether the last slot certainly holds the variable.
        result: list[Slot] = []
        for scope in reversed(self.chain):
            slot = scope.slots.get(name)
            if slot is not None:
                fact = self.facts.get(slot)
                if fact is not None:
                    result.append(slot)
                    if fact[0]:
                        return result, True
        return result, False

    def _lookup(self, name: str) -> Expression | None:
        # The result is None if certainly unbound, and not `safe` if perhaps unbound (`U`).
        if name == "nil":
            return None
        slots, certain = self._candidates(name)
        if name in self.program.shared:
            return Expression(self._cell(name), "any", safe=certain)
        if not slots:
            return None
        last = self.facts[slots[-1]]
        if len(slots) == 1 and certain:
            if slots[0].alias is not None:
                return slots[0].alias
            return Expression(slots[0].py, last[1], size=last[2], stable=slots[0].stable, safe=True)
        text = slots[-1].py
        if not certain:
            slots[-1].reset = True
        type_, size = last[1], last[2]
        for slot in reversed(slots[:-1]):
            slot.reset = True
            text = f"({slot.py} if {slot.py} is not U else {text})"
            type_, size = joined(type_, self.facts[slot][1]), max(size, self.facts[slot][2])
        return Expression(text, type_, size=size, safe=certain)

    def _variable(self, form: Form, name: str) -> Expression:
        value = self._lookup(name)
        if value is None:
            return self.fault(form, "undefined-symbol", f"there is no variable {name}")
        if value.safe:
            return value
        text = value.text
        if not text.isidentifier():
            text = self.spilled(value, pure=True).text
        failing = self.marked(form, f"fail({self.constant('undefined-symbol')}, {self.constant(f'there is no variable {name} here')})")
        return Expression(f"({text} if {text} is not U else {failing})", value.type, size=value.size)

    @staticmethod
    def _has_shared(scope: Bindings) -> bool:
        return any(slot.shared for slot in scope.slots.values())

    def _slot(self, scope: Bindings, name: str) -> Slot:
        slot = scope.slots.get(name)
        if slot is None:
            shared = name in self.program.shared
            py = self._cell(name) if shared else self._new("v")
            slot = scope.slots[name] = Slot(name, py, scope.owner, stable=not shared and name not in self.program.assigned, shared=shared)
        return slot

    def _bind(self, scope: Bindings, name: str, value: Expression) -> Expression:
        slot = scope.slots.get(name)
        if slot is None and name not in self.program.shared and name not in self.program.assigned and scope.owner is self.func:
            value = self.spilled(value)
            slot = scope.slots[name] = Slot(name, value.text, scope.owner, stable=True, alias=value)
            self.facts.learn(slot, (True, value.type, value.size))
            return value
        return self._bind_variable(self._slot(scope, name), value)

    def _bind_variable(self, slot: Slot, value: Expression) -> Expression:
        fact = self.facts.get(slot)
        if fact is not None and fact[0]:
            self.drop(value)
            return Expression(slot.py, "any" if slot.shared else fact[1], size=fact[2], stable=slot.stable, safe=True)
        owner = self.run if slot.shared else slot.owner
        pad, type_, size = "", value.type, value.size
        if fact is not None:  # it may already be bound
            value = self.spilled(value)
            if slot.shared and slot.flag:
                test = f"not {slot.flag}"
            else:
                slot.reset = True
                test = f"{slot.py} is U"
            self.emit(f"if {test}:")
            pad, type_, size = " ", joined(fact[1], type_), max(fact[2], size)
        saving = []
        if slot.flag:  # the end of the scope restores the cell
            saving = [f"{self._assign(slot.saved, slot.owner)} = {slot.py}", f"{self._assign(slot.flag, slot.owner)} = True"]
        for line in (*saving, f"{self._assign(slot.py, owner)} = {value.text}"):
            self.emit(f"{pad}{line}")
        type_ = "any" if slot.shared else type_
        self.facts.learn(slot, (True, type_, size))
        return Expression(slot.py, type_, size=size, stable=slot.stable, safe=True)

    def _expect_bindings(self, form: Form) -> None:
        for name in self._bound_by([form]):
            slot = self._slot(self.chain[-1], name)
            if slot not in self.facts:
                self.facts.learn(slot, (False, "any", 1))
                slot.reset = True
