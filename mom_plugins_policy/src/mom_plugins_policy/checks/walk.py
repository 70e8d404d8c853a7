"""Walk over a program: both branches of every `if`, functions at their calls, and loops once."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial, reduce
from operator import or_
from typing import Any, Final

from mom_core import Declarations, Scope, Severity, count_of
from mom_kvm import PolicyProblem
from mom_plugins_policy.checks.declared import DeclaredNames, remark
from mom_plugins_policy.checks.knowledge import (
    CONDITIONS,
    NIL_VALUE,
    NO_KEYS,
    EntityKey,
    FieldKey,
    Key,
    Keys,
    Knowledge,
    Value,
    constant,
    either,
)
from mom_plugins_policy.language import functions, words
from mom_plugins_policy.language.analysis import Definition, Program
from mom_plugins_policy.language.errors import PYTHON_MESSAGES, kind_of
from mom_plugins_policy.language.functions import Clause, FormWord, FunctionWord, clauses_of
from mom_plugins_policy.language.syntax import Form, FormKind, abridged
from mom_plugins_policy.language.words import ANY, ENTITY, FLOAT, FUNCTION, LIST, NIL, OTHER, STRING, UNBOUND, Word

_STEPS: Final = 12_000  # visited lists: some tenths of a second
_DEEPEST: Final = 120  # nested forms including calls: far above real policies, safely below Python's limit
_CALLS: Final = 2  # nested calls of one function
_LARGEST_BITS: Final = 4096  # of a computed integer
_LONGEST: Final = 4096  # characters of a computed string

_OF_VALUES: Final = frozenset({"type", "possible-nil", "zero-division", "range", "control-bounds", "not-callable"})
"""Rules that the checks skip in a branch that a constant condition disables."""

_OF_NAMES: Final = frozenset({"unknown-field", "undefined-symbol", "unknown-variable", "unknown-function"})

_ELSEWHERE: Final = "if another policy defines it, check both together"


class _Fails(Exception):
    """Certain failure of the visited form."""


class _TooFar(Exception):
    """End of the walk: the program is too long, deep or dynamic."""


class Walk:
    """Walk over a program. Its result is `remarks`."""

    def __init__(self, program: Program, declarations: Declarations | None) -> None:
        self.program = program
        self.remarks: dict[tuple[str, int, object], PolicyProblem] = {}
        self.declared = DeclaredNames(declarations, self.say)
        self._unknown = Value(ANY if program.callables else ANY & ~FUNCTION)
        self._now = Knowledge()
        self._steps = _STEPS
        self._depth = self._loops = self._switched_off = 0
        self._afterwards = False  # true while walking functions that nothing calls
        self._active = Counter[int]()
        self._bound_in: dict[tuple[int, str], str] = {}
        self._now.bind("Host", Value(ENTITY, entity=EntityKey(Scope.HOST)))
        self._now.bind("Guests", Value(OTHER, held="Guests"))
        for name in functions.CALLABLES:
            self._now.bind(name, Value(FUNCTION, held=name))

    def walk(self) -> None:
        """Walk over the program, then over functions that nothing calls."""
        try:
            for form in self.program.forms:
                self._survived(partial(self._value, form))
            self._afterwards = True
            for definition in self.program.functions():
                if definition.form.index not in self._active:
                    self._survived(partial(self._body, definition, [replace(self._unknown) for _ in definition.parameters]))
        except RecursionError:
            pass  # too deep; keep the remarks so far

    def _survived(self, work: Callable[[], object]) -> None:
        try:
            work()
        except _Fails:
            pass  # already remarked
        except _TooFar:
            self._steps = 0  # the skipped code may change anything

    # --- remarks -------------------------------------------------------------------------------------------------------------------

    def say(self, rule: str, form: Form, message: str, hint: str = "", *, about: object = None) -> None:
        """Add a remark on a form. If a policy gets several remarks with the same rule and `about`, only one appears."""
        if self._switched_off and rule in _OF_VALUES:
            return
        key = (rule, form.index, None) if about is None else (rule, -1, (form.text.name, about))
        # Code may be disabled, or a function never called, because the plugin that declares its fields is not enabled. A later policy may
        # call the function, and bind its names.
        unused = (rule == "unknown-field" and self._switched_off) or (rule in _OF_NAMES and self._afterwards)
        made = remark(rule, form, message, hint, severity=Severity.WARNING if unused else None)
        before = self.remarks.get(key)
        if before is None or (before.severity, made.severity) == (Severity.WARNING, Severity.ERROR):
            self.remarks[key] = made

    def _wrong(self, form: Form, kind: str, message: str, where: Form | None = None, hint: str = "") -> _Fails:
        self.say(kind, where or form, message, hint)
        return _Fails()

    # --- names ---------------------------------------------------------------------------------------------------------------------

    def _name(self, form: Form) -> Value:
        if form.name == "nil":
            return NIL_VALUE
        first, *parts = form.name.split(".")
        value = self._now.lookup(first)
        if value is None:
            hint = self.declared.like(first, lambda: {*self.program.bound, *functions.PREDEFINED}) or _ELSEWHERE
            raise self._wrong(form, "undefined-symbol", f"there is no variable {first}", hint=hint)
        for part in parts:
            value = self._attribute(form, value, part)
        return self._now.narrowed(value)

    def _attribute(self, form: Form, value: Value, name: str) -> Value:
        if value.entity is not None:
            if name in words.ENTITY_METHODS:
                return Value(FUNCTION, entity=value.entity, held=name)
            self.declared.field(form, value.entity.scope, name, attribute=True)
            return self.declared.value_of(FieldKey(value.entity, name))
        if not value.types & (ENTITY | OTHER):
            raise self._wrong(form, "undefined-symbol", f"this value has no attribute {name}")
        return replace(self._unknown)

    # --- forms ---------------------------------------------------------------------------------------------------------------------

    def _value(self, form: Form) -> Value:
        if form.kind is FormKind.LITERAL:
            return constant(form.value)
        if form.kind is FormKind.NAME:
            return self._name(form)
        if form.kind is FormKind.OPERATOR:
            message = f"the operator {form.name} is not a value"
            raise self._wrong(form, "malformed", message, hint="write the operator first in its brackets")
        self._steps -= 1
        if self._steps < 0 or self._depth >= _DEEPEST:
            raise _TooFar
        self._depth += 1
        try:
            return self._in_order(form, form.items) if form.kind is FormKind.BLOCK else self._list(form)
        finally:
            self._depth -= 1

    def _in_order(self, form: Form, items: Sequence[Form]) -> Value:
        if not items:
            raise self._wrong(form, "empty-form", "there is nothing to evaluate")
        return [self._value(item) for item in items][-1]

    def _list(self, form: Form) -> Value:
        if not form.items:
            raise self._wrong(form, "empty-form", "there is nothing to evaluate")
        head, arguments = form.items[0], form.items[1:]
        if head.kind is FormKind.OPERATOR:
            return self._builtin(form, functions.BUILTINS[functions.OPERATORS[head.name]], arguments)
        if head.kind is not FormKind.NAME:
            raise self._wrong(form, "not-callable", "a list begins with a name or an operator", head)
        if "." in head.name:
            return self._dotted_call(form, head, arguments)
        value = self._now.lookup(head.name) if head.name in functions.PREDEFINED or head.name in self.program.bound else None
        if value is None:
            return self._word(form, arguments)
        if value.held and value.types == FUNCTION:
            values = [self._value(argument) for argument in arguments]
            if value.held in functions.FUNCTIONS:
                self._arity(form, value.held, functions.FUNCTIONS[value.held], len(values))
                return self._function(form, functions.FUNCTIONS[value.held], values, arguments)
            return self._method(form, value, value.held, values, arguments)
        if value.types & FUNCTION:
            raise _TooFar
        if head.name not in self.program.words and not value.types & (NIL | UNBOUND):
            hint = f"rename the function or the variable {head.name}" if head.name in self.program.definitions else ""
            raise self._wrong(form, "not-callable", f"{head.name} is a variable here, and its value cannot be called", head, hint)
        return self._word(form, arguments)  # a value that cannot be called does not hide a word

    def _word(self, form: Form, arguments: Sequence[Form]) -> Value:
        name = form.items[0].name
        word = self.program.words.get(name)
        if isinstance(word, FormWord):
            self._arity(form, name, word, len(arguments))
            if word.parts(form) is None and not (name in functions.DEFINING and arguments[0].name in self.program.words):
                raise self._wrong(form, "malformed", word.shape)
            return _FORMS[name](self, form, arguments)
        if isinstance(word, FunctionWord):
            return self._builtin(form, word, arguments)
        return self._call(form, name, arguments)

    def _arity(self, form: Form, name: str, word: Word, count: int) -> None:
        if not word.takes(count):
            raise self._wrong(form, "arity", f"{name} takes {word.counted}, not {count}")

    def _choice(self, form: Form, arguments: Sequence[Form]) -> Value:
        return self._chosen(form, clauses_of(form))

    def _chosen(self, form: Form, clauses: Sequence[Clause]) -> Value:
        (condition, body), *remaining = clauses
        if condition is None:
            return self._in_order(form, body) if body else NIL_VALUE
        test = self._value(condition)
        then, otherwise = partial(self._in_order, form, body), partial(self._chosen, form, remaining)
        if test.constant is not None:  # users may change the constant, so also check the other branch
            chosen, left_out = (then, otherwise) if test.constant[0] else (otherwise, then)
            self._switched_off += 1
            self._branch(left_out, NO_KEYS)
            self._switched_off -= 1
            return chosen()
        if_true, if_false = test.keys(True), test.keys(False)
        value_then, learnt = self._branch(then, if_true)
        value_otherwise, learnt_otherwise = self._branch(otherwise, if_false)
        if value_then is not None and value_otherwise is not None:
            self._now.join(learnt, learnt_otherwise, if_true, if_false)
            return either(value_then, value_otherwise, if_true, if_false)
        value, changed = (value_otherwise, learnt_otherwise) if value_then is None else (value_then, learnt)
        if value is None:
            raise _Fails
        for key, after in changed.items():
            self._now.learn(key, after)
        return value

    def _branch(self, work: Callable[[], Value], keys: Keys) -> tuple[Value | None, dict[Key, Any]]:
        # `work` may assume that `keys` are not nil. Its changes are undone; its value is None if it fails.
        self._now.begin()
        self._now.know(keys)
        value = None
        try:
            with contextlib.suppress(_Fails):
                value = work()
        finally:
            changed = self._now.end()
        return value, changed

    def _let(self, form: Form, arguments: Sequence[Form]) -> Value:
        with self._now.scoped():
            for name, value in (pair.items for pair in arguments[0].items):
                self._bind(name, self._value(value))
            return self._in_order(form, arguments[1:])

    def _defvar(self, form: Form, arguments: Sequence[Form]) -> Value:
        name, initial = arguments
        if name.name == "nil" or "." in name.name:
            raise self._wrong(form, "malformed", "`defvar` takes a name and a value")
        return self._bind(name, self._value(initial))

    def _bind(self, name: Form, value: Value) -> Value:
        key = (self._now.chain[-1], name.name)
        before = self._now.get(("variable", *key))
        if before is not None and not before.types & UNBOUND and self._bound_in.get(key) == name.text.name:
            message = f"{name.name} is bound in this scope already and keeps its value: the new value has no effect"
            self.say("duplicate-variable", name, message, "use `set` to change the value")
        self._bound_in.setdefault(key, name.text.name)
        return self._now.bind(name.name, value)

    def _set(self, form: Form, arguments: Sequence[Form]) -> Value:
        name, new = arguments
        value = self._value(new)
        held = False
        for scope in reversed(self._now.chain):
            key = ("variable", scope, name.name)
            before = self._now.get(key)
            if before is not None and name.name != "nil":
                held = True
                self._now.learn(key, either(before, value) if before.types & UNBOUND else value)
                if not before.types & UNBOUND:
                    break
        if not held:
            hint = self.declared.like(name.name, lambda: self.program.bound) or _ELSEWHERE
            raise self._wrong(form, "unknown-variable", f"there is no variable {name.name} to set", name, hint)
        return value

    def _def(self, form: Form, arguments: Sequence[Form]) -> Value:
        for definition in self.program.definitions.get(arguments[0].name, ()):
            if definition.form is form:
                self._now.learn(("function", definition.name), (definition,))
        return constant(arguments[0].name)

    def _with(self, form: Form, arguments: Sequence[Form]) -> Value:
        items, name, body = arguments
        over = self._name(items)
        if not over.types & (LIST | STRING | OTHER):
            raise self._wrong(form, "type", "`with` goes over Guests, a list or a string")
        element = replace(self._unknown) if over.types & ~STRING else Value(STRING)
        if over.held == "Guests":
            element = Value(ENTITY, entity=EntityKey(Scope.GUEST, self._loops))

        def step() -> Value:
            with self._now.scoped():
                self._now.bind(name.name, element)
                return self._value(body)

        self._forget_assigned(body)
        self._loops += 1
        before = set(self._now)
        _, learnt = self._branch(step, NO_KEYS)  # a failure ends only one guest's step
        self._loops -= 1
        changed = {key: value for key, value in learnt.items() if key in before or key[0] == "function"}
        self._now.join(changed, {}, NO_KEYS, NO_KEYS)
        return Value(LIST)

    def _forget_assigned(self, form: Form) -> None:
        for name in self.program.assigned_in(form):
            for scope in self._now.chain:
                before = self._now.get(("variable", scope, name))
                if before is not None:  # it may be unchanged, or unbound
                    self._now.learn(("variable", scope, name), replace(self._unknown, types=self._unknown.types | before.types))

    # --- functions -----------------------------------------------------------------------------------------------------------------

    def _call(self, form: Form, name: str, arguments: Sequence[Form]) -> Value:
        # A definition under a condition, in a loop or in a function may already have been evaluated.
        perhaps = [item for item in self.program.definitions.get(name, ()) if not item.unconditional]
        candidates: Sequence[Definition] = list(dict.fromkeys([*perhaps, *self._now.get(("function", name), ())]))
        if self._afterwards:  # a later policy may have replaced the definition
            candidates = self.program.definitions.get(name, ())
        if not candidates:
            later = "it is defined only later" if name in self.program.definitions else ""
            hint = later or self.declared.like(name, lambda: {*self.program.definitions, *functions.WORDS}) or _ELSEWHERE
            raise self._wrong(form, "unknown-function", f"there is no function {name}", form.items[0], hint)
        fitting = [candidate for candidate in candidates if len(candidate.parameters) == len(arguments)]
        if not fitting:
            number = len(candidates[-1].parameters)
            raise self._wrong(form, "arity", f"{name} takes {count_of(number, 'argument')}, not {len(arguments)}")
        values = [self._value(argument) for argument in arguments]
        if len(fitting) == 1:
            return self._body(fitting[0], values)
        for entry in fitting:  # any of these definitions may be in force
            self._branch(partial(self._body, entry, values), NO_KEYS)
        for entry in fitting:
            self._forget_assigned(entry.body)
        return replace(self._unknown)

    def _body(self, definition: Definition, values: Sequence[Value]) -> Value:
        if self._active[definition.form.index] >= _CALLS:
            self._forget_assigned(definition.body)
            return replace(self._unknown)
        self._active[definition.form.index] += 1
        try:
            with self._now.scoped():
                for parameter, value in zip(definition.parameters, values, strict=True):
                    self._now.bind(parameter, value)
                return self._value(definition.body)
        finally:
            self._active[definition.form.index] -= 1

    def _builtin(self, form: Form, word: FunctionWord, arguments: Sequence[Form]) -> Value:
        self._arity(form, form.items[0].name, word, len(arguments))
        for argument in arguments[1:] if word.name in ("and", "or") else ():
            if self.program.changes(argument):
                message = f"this argument is evaluated regardless of the earlier arguments: `{word.name}` evaluates all its arguments"
                instead = "(if a b a)" if word.name == "and" else "(if a a b)"
                self.say("no-short-circuit", argument, message, f"write {instead} where b depends on a")
        return self._function(form, word, [self._value(argument) for argument in arguments], arguments)

    def _function(self, form: Form, word: FunctionWord, args: Sequence[Value], places: Sequence[Form]) -> Value:
        if word.strict is not None and len(args) >= word.strict:
            for arg, place in zip(args, places, strict=True):
                self._look_for_nil(form, arg, place)
        value = self._computed(form, word, args)
        if word.strict is not None and len(args) >= word.strict:
            for arg in args:
                self._now.know(arg.existing())
        return value

    def _computed(self, form: Form, word: FunctionWord, args: Sequence[Value]) -> Value:
        if word.name == "debug":
            return args[-1]
        if all(arg.constant is not None for arg in args):
            try:
                result = word.compute(*(arg.constant[0] for arg in args if arg.constant is not None))
            except (TypeError, ArithmeticError, ValueError) as error:
                kind = kind_of(error)
                raise self._wrong(form, kind, _CERTAIN.get(kind, PYTHON_MESSAGES[kind]).format(form.items[0].name)) from None
            except MemoryError:
                return Value(STRING)
            large = isinstance(result, int) and result.bit_length() > _LARGEST_BITS
            if not large and not (isinstance(result, str) and len(result) > _LONGEST):
                return constant(result)
        if word.name == "div" and args[1].constant is not None and args[1].constant[0] == 0:
            raise self._wrong(form, "zero-division", _CERTAIN["zero-division"])
        types = reduce(or_, (arg.types for arg in args), 0) if word.result is None else word.result
        tell = CONDITIONS.get(word.name)
        value = Value(types & ~NIL if word.strict is not None else types)
        return value if tell is None else tell(self._now, value, args)

    def _look_for_nil(self, form: Form, arg: Value, place: Form) -> None:
        if arg.doubt is None or arg.types == NIL or self._now.is_known(arg):
            return
        shown, head = abridged(place, 40), form.items[0].name
        if isinstance(arg.doubt, FieldKey):
            (scope, _), name = arg.doubt
            if scope is Scope.HOST or not self.declared.declares(scope, name):  # usually known, or already remarked
                return
            message = f"the {scope}'s {name} may be unknown here: `{head}` fails on nil"
            tested = shown if place.kind is FormKind.NAME else f"{scope}.{name}"
            self.say("possible-nil", place, message, f"use it inside of (if (valid {tested}) … …)", about=(scope, name))
        else:
            self.say("possible-nil", place, f"{shown} may be nil here, and `{head}` fails on nil", f"test it with (valid {shown}) before")

    # --- methods -------------------------------------------------------------------------------------------------------------------

    def _dotted_call(self, form: Form, head: Form, arguments: Sequence[Form]) -> Value:
        first, *parts = head.name.split(".")
        base = self._now.lookup(first)
        if base is None:
            return self._word(form, arguments)
        method = len(parts) == 1 and (parts[0] in words.ENTITY_METHODS or parts[0] in words.DISK_METHODS)
        if method and base.types & (ENTITY | OTHER) and not (base.entity is not None and parts[0] in words.DISK_METHODS):
            values = [self._value(argument) for argument in arguments]
            return NIL_VALUE if parts[0] in words.DISK_METHODS else self._method(form, base, parts[0], values, arguments)
        if head.name in self.program.definitions:
            return self._word(form, arguments)
        if base.entity is None and base.types & (ENTITY | OTHER) and self.program.callables:
            raise _TooFar
        declared = base.entity is None or self.declared.declares(base.entity.scope, parts[0])
        kind = "not-callable" if declared and base.types & (ENTITY | OTHER) else "unknown-function"
        hint = "" if base.entity is None else self.declared.like(parts[0], lambda: words.ENTITY_METHODS)
        raise self._wrong(form, kind, f"{head.name} cannot be called", head, hint)

    def _method(self, form: Form, base: Value, method: str, values: Sequence[Value], places: Sequence[Form]) -> Value:
        self._arity(form, form.items[0].name, words.ENTITY_METHODS[method], len(values))
        name = values[0].constant[0] if values[0].constant is not None else None
        if not isinstance(name, str):
            return NIL_VALUE if words.ENTITY_METHODS[method].writes else replace(self._unknown)
        self.declared.method(base.entity, method, name, values, places)
        entity = base.entity
        if method == "StatAvg" and entity is not None:
            key = FieldKey(entity, name)
            if entity.scope is Scope.GUEST and ("not nil", key) not in self._now:
                self.declared.average(places[0], name)
            return Value(FLOAT)
        if method == "Stat" and entity is not None:
            value = self._now.narrowed(self.declared.value_of(FieldKey(entity, name)))
            return value if len(values) == 1 else replace(either(value, values[1]), doubt=None)
        return NIL_VALUE if words.ENTITY_METHODS[method].writes else replace(self._unknown)


_CERTAIN: Final = {"type": "the operands of {} have incompatible types", "zero-division": "division by zero"}

_FORMS: Final[Mapping[str, Callable[[Walk, Form, Sequence[Form]], Value]]] = {
    "eval": Walk._in_order, "if": Walk._choice, "cond": Walk._choice, "let": Walk._let, "def": Walk._def, "defun": Walk._def,
    "defvar": Walk._defvar, "set": Walk._set, "setq": Walk._set, "with": Walk._with,
}  # fmt: skip
