"""Watches a program while it is evaluated on symbols, and remarks on what will fail or is hardly meant."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from mom_core import Declarations, Scope, Severity, Unit, printable
from mom_plugins_policy.checks.dimensions import Dimensions
from mom_plugins_policy.checks.remarks import Remark, remark
from mom_plugins_policy.checks.suggestions import Suggestions
from mom_plugins_policy.language.analysis import Definition, Program
from mom_plugins_policy.language.syntax import Form, FormKind, abridged
from mom_plugins_policy.language.words.forms import WORDS
from mom_plugins_policy.language.words.functions import FUNCTIONS, FunctionWord
from mom_plugins_policy.language.words.units import ANY, UNKNOWN, Dimension, conversion, differ, dimension_of_unit, written
from mom_plugins_policy.language.words.vocabulary import ANY as ANY_TYPE
from mom_plugins_policy.language.words.vocabulary import NIL, Vocabulary
from mom_plugins_policy.symbols.contradictions import contradictory
from mom_plugins_policy.symbols.machine import PathFails, SymbolicEvaluator, Unsupported
from mom_plugins_policy.symbols.terms import Term, scope_of

_STEPS: Final = 12_000  # forms evaluated: some tenths of a second
_OF_VALUES: Final = frozenset(
    {"type", "possible-nil", "zero-division", "range", "constant-comparison", "ratio", "control-bounds", "not-callable"}
)
"""What is not said of a branch that a constant switches off: it may do so because it does not fit."""

_PROPERTIES: Final = {Scope.HOST: ("name", "interval"), Scope.GUEST: ("name", "uuid", "pid")}
_ELSEWHERE: Final = "check it together with the policy that defines it, if there is one"
_CHOICES: Final = 12  # choices inside each other that are looked through for a nil

PARTS: Final[Mapping[Scope, Mapping[str, str]]] = {
    Scope.HOST: {
        **dict.fromkeys(("mem_free", "mem_unused", "mem_really_available", "mem_cached", "mem_shmem", "anon_pages"), "mem_available"),
        "swap_usage": "swap_total",
        "hugepages_free": "hugepages_total",
    },
    Scope.GUEST: {
        **dict.fromkeys(("mem_unused", "mem_usable", "mem_disk_caches"), "mem_available"),
        **dict.fromkeys(("balloon_cur", "balloon_min", "balloon_target"), "balloon_max"),
        "swap_usage": "swap_total",
    },
}
"""Fields that are a part of another one, so that their ratio goes from 0 to 1."""


class _Lenient(Vocabulary):
    """Every field can be read, so that what comes after a wrong name is looked at, too."""

    def declares(self, scope: Scope, name: str) -> bool:
        return True


@dataclass(slots=True)
class _Together:
    """An `and` or `or` that is being evaluated: its arguments so far, and what these compare with zero."""

    form: Form
    word: str
    values: list[Term] = field(default_factory=list)
    compared: set[Term] = field(default_factory=set)

    def add(self, value: Term) -> None:
        """One more argument."""
        self.values.append(value)
        self.compared.update(_compared_with_zero(value))


class Watcher(SymbolicEvaluator):
    """One run of the checks that need to know what values are made of.

    :param elsewhere: names that policies beside these bind or define
    :param guarded: for each policy, the host fields that it tests for nil somewhere
    """

    def __init__(
        self, program: Program, declarations: Declarations | None, elsewhere: Collection[str], guarded: Mapping[str, Collection[str]]
    ) -> None:  # fmt: skip
        super().__init__(program, _Lenient(declarations), closed=False, steps=_STEPS)
        self.declarations = declarations
        self.words = {name: word for name, word in program.words.items() if not word.extension or name not in elsewhere}
        self.elsewhere = elsewhere
        self.guarded = guarded
        self.remarks: dict[tuple[str, int, object], Remark] = {}
        self.notes_read: list[tuple[Form, str]] = []
        self._dimensions = Dimensions(self.vocabulary)
        self._together: list[_Together] = []  # the and, or around, from the outside in
        self._like = Suggestions().of
        self._bound_in: dict[tuple[int, str], str] = {}
        self._entered: set[int] = set()
        self._switched_off = 0
        self._afterwards = False  # whether the program has ended, and what nothing called is looked at

    def watch(self) -> None:
        """Follow the whole program, and then the functions that nothing calls."""
        try:
            for form in self.program.forms:
                self._survived(lambda form=form: self.evaluate(form))  # type: ignore[misc]  # a default keeps the form
            self._afterwards = True
            for definition in list(self.program.functions()):
                if definition.number not in self._entered:
                    unknown = [self.terms.fresh(name) for name in definition.parameters]
                    self._survived(lambda one=definition, values=unknown: self.call(one, values))  # type: ignore[misc]  # as above
        except RecursionError:
            pass  # it is nested so deep that what was found has to do

    def _survived(self, work: Callable[[], object]) -> None:
        try:
            work()
        except (PathFails, Unsupported):
            del self.path[:]

    # --- remarks -------------------------------------------------------------------------------------------------------------------

    def say(self, rule: str, form: Form, message: str, hint: str = "", *, about: object = None) -> None:
        """Remark on a form, once; `about` tells remarks apart that are on one thing in several places."""
        if self._switched_off and rule in _OF_VALUES:
            return
        key = (rule, form.index, None) if about is None else (rule, -1, (form.text.name, about))
        # What is switched off, or never called, may be so because the plugin with these fields is not enabled.
        unused = rule == "unknown-field" and (self._switched_off or self._afterwards)
        found = remark(rule, form, message, hint, severity=Severity.WARNING if unused else None)
        known = self.remarks.get(key)
        if known is None or (known.severity is not Severity.ERROR and found.severity is Severity.ERROR):
            self.remarks[key] = found

    def wrong(self, form: Form, kind: str, message: str) -> PathFails:
        """A form fails for certain, here."""
        head = form.items[0].name if form.items else ""
        roles = self.program.roles.get(form.index)
        if kind == "undefined-symbol" and roles is not None and roles.assigned:
            name = form.items[1]
            self.say("unknown-variable", name, message, self._like("variable", name.name, self._variables) or _ELSEWHERE)
            return PathFails()
        if kind == "unknown-field":
            return PathFails()  # remarked on already
        where = form
        hint = ""
        if kind == "undefined-symbol":
            hint = self._like("variable", form.name.partition(".")[0], self._variables)
        elif kind == "unknown-function":
            where = form.items[0]
            later = head in self.program.definitions
            hint = "it is defined only later" if later else self._like("function", head, self._functions)
        elif kind == "not-callable" and form.items:
            where = form.items[0]
            hint = f"call the function otherwise, or the variable {head}" if head in self.program.definitions else ""
        elif kind == "malformed" and form.kind is FormKind.OPERATOR:
            hint = "an operator stands first in its brackets"
        if not hint and kind in ("undefined-symbol", "unknown-function"):
            hint = _ELSEWHERE
        self.say(kind, where, message, hint)
        return PathFails()

    def _variables(self) -> Collection[str]:
        return self.program.bound | set(self.elsewhere)

    def _functions(self) -> Collection[str]:
        return {*self.program.definitions, *self.elsewhere, *WORDS}

    # --- what other policies may provide -------------------------------------------------------------------------------------------

    def lookup(self, name: str) -> Term:
        """What a variable holds."""
        found = super().lookup(name)
        if found.op == "unbound" and name in self.elsewhere:
            return self.terms.named("another policy's", self.terms.host, name, ANY_TYPE & self.terms.unknown_types)
        return found

    def _set(self, form: Form, arguments: Sequence[Form]) -> Term:
        name = arguments[0]
        if name.kind is FormKind.NAME and name.name in self.elsewhere and super().lookup(name.name).op == "unbound":
            return self.evaluate(arguments[1])
        return super()._set(form, arguments)

    def _function(self, form: Form, name: str, held: Term, arguments: Sequence[Form]) -> Term:
        if held.op == "unbound" and name in self.elsewhere:
            for argument in arguments:
                self.evaluate(argument)
            return self.terms.fresh(f"the value of {name}")
        return super()._function(form, name, self._then(name, held, len(arguments)), arguments)

    def _then(self, name: str, held: Term, given: int) -> Term:
        """The function of this name when the call is made. What nothing called so far may have been meant for before a later policy
        defined another function of that name: the definition that fits counts."""
        if not self._afterwards or not isinstance(held.value, Definition) or len(held.value.parameters) == given:
            return held
        fitting = [definition for definition in self.program.definitions[name] if len(definition.parameters) == given]
        return self.terms.definition(fitting[-1]) if fitting else held

    def call(self, definition: Definition, values: Sequence[Term]) -> Term:
        """The value of a function's body."""
        self._entered.add(definition.number)
        together, self._together = self._together, []
        try:
            return super().call(definition, values)
        finally:
            self._together = together

    # --- how the program is followed -----------------------------------------------------------------------------------------------

    def other_branch(self, condition: Term) -> bool:
        """Constants are parameters: what they switch off now is looked at, too."""
        return condition.is_constant

    def _looked_at(self, work: Callable[[], Term]) -> None:
        self._switched_off += 1
        try:
            super()._looked_at(work)
        finally:
            self._switched_off -= 1

    def _tracked_step(self, name: str, body: Form) -> None:
        self._survived_step(lambda: super(Watcher, self)._tracked_step(name, body))

    def _survived_step(self, work: Callable[[], None]) -> None:
        start = len(self.path)
        try:
            work()
        except PathFails:
            del self.path[start:]

    def _other_steps(self, name: str, body: Form, element: Callable[[], Term]) -> list[Any]:
        """Other guests do what the one that is looked at does: once is enough for remarks. Elements of lists are looked at here."""
        if element != self._other_guest:
            return super()._other_steps(name, body, element)
        effects = self.effects_of(body)
        self._forget_variables(effects)
        for kind in effects.kinds:
            for key in list(self._store):
                if key[0] == kind and key[1] is self.terms.host:
                    self._put(key, self.terms.fresh(f"a {kind}"))
        return []

    def _builtin(self, form: Form, name: str, arguments: Sequence[Form]) -> Term:
        if name not in ("and", "or") or len(arguments) < 2:
            return super()._builtin(form, name, arguments)
        together = _Together(form, name)
        self._together.append(together)
        try:
            for number, argument in enumerate(arguments):
                if number:
                    self._look_for_effects(argument, form, name)
                together.add(self.evaluate(argument))
        finally:
            self._together.pop()
        return self.operation(form, FUNCTIONS[name], together.values, arguments)

    def _look_for_effects(self, argument: Form, form: Form, name: str) -> None:
        effects = self.effects_of(argument)
        if effects.assigned or effects.kinds - ({"note", "control"} if self.program.callables else set()):
            instead = "(if a b a)" if name == "and" else "(if a a b)"
            self.say(
                "no-short-circuit",
                argument,
                f"this is done whatever the arguments before it are: `{name}` evaluates all its arguments",
                f"write {instead} where b depends on a",
            )

    # --- operations ----------------------------------------------------------------------------------------------------------------

    def on_operation(self, form: Form, word: FunctionWord, args: Sequence[Term], forms: Sequence[Form]) -> None:
        """A function is about to be computed."""
        if word.strict is not None and len(args) >= word.strict:
            for arg, place in zip(args, forms, strict=True):
                self._look_for_nil(arg, place, form)
        if word.mixing and len(args) > 1:
            self._look_at_units(word, args, forms)
        if word.mirrored:
            self._look_at_comparison(form, word.name, args[0], args[1])
            self._look_at_comparison(form, word.mirrored, args[1], args[0])
        if word.name == "div" and self._together:
            self._look_at_divisor(args[1], forms[1], form)

    def _look_for_nil(self, arg: Term, place: Form, form: Form) -> None:
        cause = self._nil_in(arg)
        if cause is None or arg is self.terms.nil or contradictory(self.terms, [*self.path, (self.terms.valid((arg,)), False)]):
            return
        shown = abridged(place, 40)
        head = form.items[0].name
        for around in self._together:
            if self._excluded(arg, around):
                self.say(
                    "no-short-circuit",
                    place,
                    f"`{around.word}` evaluates all its arguments, so an earlier one does not keep nil from `{head}`: {shown} may be nil",
                    f"write (if {abridged(around.form.items[1], 30)} … …) around it",
                )
                return
        if cause.op == "field":
            name = str(cause.value)
            owner = "host" if cause.args[0].op == "host" else "guest"
            if owner == "host" and name not in self.guarded.get(form.text.name, ()):
                return
            if self.declarations is not None and (scope_of(cause.args[0]), name) not in self.declarations.fields:
                return  # remarked on already
            also = ", which this policy tests elsewhere," if owner == "host" else ""
            self.say(
                "possible-nil",
                place,
                f"the {owner}'s {name}{also} may be unknown here: `{head}` fails on nil",
                f"use it inside of (if (valid {shown if place.kind is FormKind.NAME else f'{owner}.{name}'}) … …)",
                about=(owner, name),
            )
        else:
            self.say("possible-nil", place, f"{shown} may be nil here, and `{head}` fails on nil", f"test it with (valid {shown}) before")

    def _nil_in(self, term: Term, depth: int = 0) -> Term | None:
        """The field, or nil itself, that a value may be here; None if that cannot be, or cannot be known."""
        if not term.types & NIL or term in self.not_nil or depth > _CHOICES:
            return None
        if term is self.terms.nil or term.op == "field":
            return term
        if term.op in ("request", "requested"):
            return self._nil_in(term.args[0], depth + 1)
        if term.op != "ite":
            return None
        condition, then, otherwise = term.args
        known = self.decided(condition)
        if known is not None:
            return self._nil_in(then if known else otherwise, depth + 1)
        for branch, truth in ((then, True), (otherwise, False)):
            if branch.types & NIL:
                with self._supposed([(condition, truth)]) as possible:
                    cause = self._nil_in(branch, depth + 1) if possible else None
                if cause is not None:
                    return cause
        return None

    @contextmanager
    def _supposed(self, conditions: Sequence[tuple[Term, bool]]) -> Iterator[bool]:
        """What holds where conditions do; nothing of it stays known."""
        self._begin()
        try:
            yield all(self.assume(condition, truth) for condition, truth in conditions)
        finally:
            self._end()

    def _excluded(self, arg: Term, around: _Together) -> bool:
        """Whether an `and` or `or` that did not evaluate everything would have kept an argument from being nil."""
        self.spend(len(around.values))
        with self._supposed([(value, around.word == "and") for value in around.values]) as possible:
            return bool(around.values) and (not possible or self._nil_in(arg) is None)

    def _look_at_divisor(self, divisor: Term, place: Form, form: Form) -> None:
        if divisor.is_constant:
            return
        for around in self._together:
            if divisor in around.compared:
                self.say(
                    "no-short-circuit",
                    place,
                    f"`{around.word}` evaluates all its arguments, so an earlier one does not keep this from being a division by zero",
                    "put the division into an `if`",
                )

    def _look_at_units(self, word: FunctionWord, args: Sequence[Term], forms: Sequence[Form]) -> None:
        first: Dimension | None = None
        for arg, place in zip(args, forms, strict=True):
            found = self._dimensions.of(arg)
            if found in (ANY, UNKNOWN):
                continue
            if first is None:
                first = found
            elif found != first:
                self.say("units", place, f"{written(first)} and {written(found)} {word.mixing}", conversion(first, found))
                return

    def _look_at_comparison(self, form: Form, name: str, quantity: Term, limit: Term) -> None:
        """A field, or the ratio of two, against a constant or a multiple of another one."""
        if limit.op == "mul":
            for factor, other in (limit.args, limit.args[::-1]):
                if _above_one(factor) and _is_part(quantity, other):
                    whole = _shown(other)
                    times = _times(factor)
                    self.say("ratio", form, f"{_shown(quantity)} is a part of {whole}, never {times} times as much", _as_ratio(factor))
        if not limit.is_constant or limit.low is None:
            return
        if quantity.op == "div" and _is_part(*quantity.args) and _above_one(limit):
            part, whole = map(_shown, quantity.args)
            self.say("ratio", form, f"{part} is a part of {whole}: their ratio is never above 1", _as_ratio(limit))
        elif quantity.op in ("field", "average") and quantity.low == 0 and limit.low <= 0:
            never = name == "lt" or (name == "lte" and limit.low < 0)
            if never or name == "gte" or (name == "gt" and limit.low < 0):
                outcome = "false" if never else "true"
                self.say("constant-comparison", form, f"this is always {outcome}: {_shown(quantity)} is never negative")

    # --- fields, controls and notes ----------------------------------------------------------------------------------------------------

    def on_field(self, form: Form, entity: Term, name: str) -> None:
        """A field is read as an attribute."""
        self._look_at_field(form, scope_of(entity), name, attribute=True)

    def _look_at_field(self, form: Form, scope: Scope, name: str, *, attribute: bool) -> None:
        if self.declarations is None or (scope, name) in self.declarations.fields:
            return
        other = Scope.HOST if scope is Scope.GUEST else Scope.GUEST
        fields = self.declarations.fields
        hint = self._like(scope, name, lambda: [field for owner, field in fields if owner is scope])
        if (other, name) in self.declarations.fields:
            hint = f"there is a {other} field of that name" + (f"; {hint}" if hint else "")
        elif name in _PROPERTIES[scope] and attribute:
            hint = f'it is a property: (… .Prop "{name}")'.replace("… ", form.name.partition(".")[0])
        self.say("unknown-field", form, f"no plugin declares the {scope} field {printable(name, 60)}", hint)

    def on_method(self, form: Form, entity: Term | None, method: str, args: Sequence[Term], forms: Sequence[Form]) -> None:
        """A method is about to be called."""
        name = args[0].value if args[0].is_constant else None
        if not isinstance(name, str):
            return
        scope = scope_of(entity) if entity is not None and entity.op in ("host", "guest") else None
        place = forms[0]
        if method == "GetVar":
            self.notes_read.append((place, name))
        elif method in ("Stat", "StatAvg"):
            self._look_at_statistic(entity, scope, method, name, place)
        elif method == "Prop" and scope is not None:
            self._look_at_property(scope, name, place)
        elif method in ("Control", "GetControl"):
            self._look_at_control(scope, name, args, forms)

    def _look_at_statistic(self, entity: Term | None, scope: Scope | None, method: str, name: str, place: Form) -> None:
        if scope is not None:
            self._look_at_field(place, scope, name, attribute=False)
        elif self.declarations is not None and not any((owner, name) in self.declarations.fields for owner in Scope):
            fields = self.declarations.fields
            hint = self._like("field", name, lambda: [field for _, field in fields])
            self.say("unknown-field", place, f"no plugin declares the field {printable(name, 60)}", hint)
        if method == "StatAvg" and entity is not None and scope is Scope.GUEST and self.terms.field(entity, name) not in self.not_nil:
            self.say(
                "average-of-nothing",
                place,
                f"the average of {printable(name, 60)} is 0.0 for a guest of which it is unknown",
                f"use it inside of (if (valid guest.{printable(name, 60)}) … …)",
                about=name,
            )

    def _look_at_property(self, scope: Scope, name: str, place: Form) -> None:
        known = _PROPERTIES[scope]
        if name in known:
            return
        if self.declarations is not None and (scope, name) in self.declarations.fields:
            self.say("unknown-property", place, f"{name} is a field of the {scope}, not a property", "read it as an attribute")
        elif hint := self._like("property", name, lambda: known):
            self.say("unknown-property", place, f"a {scope} has no property {printable(name, 60)}", hint)

    def _look_at_control(self, scope: Scope | None, name: str, args: Sequence[Term], forms: Sequence[Form]) -> None:
        if self.declarations is None:
            return
        spec = self.declarations.controls.get(name)
        if spec is None:
            hint = self._like("control", name, self.declarations.controls.keys)
            self.say("unknown-control", forms[0], f"no plugin has the control {printable(name, 60)}", hint)
            return
        if scope is not None and scope is not spec.scope:
            whose = "each guest" if spec.scope is Scope.GUEST else "the host"
            self.say("wrong-scope", forms[0], f"{name} is a control of {whose}, not of the {scope}: nothing comes of this")
            return
        if len(args) < 2:
            return
        value, place = args[1], forms[1]
        wanted, given = dimension_of_unit(spec.unit), self._dimensions.of(value)
        if differ(wanted, given):
            self.say("units", place, f"{name} is in {spec.unit}, this is {written(given)}", conversion(wanted, given))
        if value.is_constant and value.low is not None and spec.unit is not Unit.TEXT:
            shown = _times(value)
            if spec.choices and value.low not in spec.choices:
                has = ", ".join(map(str, spec.choices))
                self.say("control-bounds", place, f"{name} has the values {has}, and this is {shown}: nothing comes of it")
            elif spec.minimum is not None and value.low < spec.minimum:
                self.say("control-bounds", place, f"{name} is never set below {spec.minimum:g}, and this is {shown}")
            elif spec.maximum is not None and value.low > spec.maximum:
                self.say("control-bounds", place, f"{name} is never set above {spec.maximum:g}, and this is {shown}")
        if name == "balloon_target" and value.op == "mul":
            self._look_at_size(value, place)

    def _look_at_size(self, value: Term, place: Form) -> None:
        for factor, other in (value.args, value.args[::-1]):
            if _above_one(factor) and other.op == "field" and other.value == "balloon_max":
                times = _times(factor)
                self.say("ratio", place, f"{times} times balloon_max is more than the guest can have", _as_ratio(factor))

    def on_defvar(self, form: Form, name: Form, *, bound: bool) -> None:
        """A `defvar`."""
        key = (self._chain[-1], name.name)
        if bound and self._bound_in.get(key) == form.text.name:
            self.say(
                "duplicate-variable",
                name,
                f"{name.name} is bound in this scope already and keeps its value: this defvar does nothing",
                "use set to change it",
            )
        self._bound_in.setdefault(key, form.text.name)

    def look_at_notes(self, noted: Collection[str]) -> None:
        """Remark on notes that are read, and not among those that are set anywhere."""
        for place, name in self.notes_read:
            if name not in noted:
                hint = self._like("note", name, lambda: noted)
                self.say("unset-note", place, f"nothing sets the note {printable(name, 60)}: it is always nil", hint)


def _shown(term: Term) -> str:
    owner = "Host" if term.args[0].op == "host" else "guest"
    return f"{owner}.{term.value}"


def _is_part(part: Term, whole: Term) -> bool:
    """Whether one field is a part of another one of the same host or guest."""
    if part.op not in ("field", "average") or whole.op not in ("field", "average") or part.args[0] is not whole.args[0]:
        return False
    return PARTS[scope_of(part.args[0])].get(str(part.value)) == whole.value


def _above_one(term: Term) -> bool:
    return term.is_constant and term.low is not None and term.low > 1


def _times(factor: Term) -> str:
    return f"{float(factor.low or 0):g}"


def _as_ratio(percentage: Term) -> str:
    """How a percentage is written as a ratio, if a number may be meant as one."""
    low = percentage.low
    return f"{float(low):g} % is {float(low) / 100:.2f}" if low is not None and low <= 100 else ""


def _compared_with_zero(value: Term) -> set[Term]:
    """Terms that a condition compares with 0."""
    found: set[Term] = set()
    todo = [value]
    while todo:
        term = todo.pop()
        if term.op in ("lt", "lte", "eq"):
            for one, other in (term.args, term.args[::-1]):
                if other.is_constant and other.low == 0:
                    found.add(one)
        elif term.op in ("not", "ite"):
            todo.extend(term.args)
    return found
