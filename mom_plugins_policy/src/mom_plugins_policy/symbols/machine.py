"""Evaluates a whole program once, on symbols: both branches of every `if`, every function where it is called, and one guest for all.

What is computed is a superset of what evaluations do. One guest is looked at (`guest 0`). A loop over `Guests` is: any number of steps of
other guests, in which everything that such steps assign takes unknown values; the step of the guest that is looked at; and other guests
again. Loops over lists are unknown steps only. So what is known afterwards holds for every guest of every snapshot.

An error in a step of the guest that is looked at means that none of that guest's decisions is applied. Where an error is certain, the path
ends (`PathFails`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar, NamedTuple, TypeAlias

from mom_plugins_policy.language.analysis import Definition, Program
from mom_plugins_policy.language.syntax import Form, FormKind
from mom_plugins_policy.language.words import methods
from mom_plugins_policy.language.words.forms import DEFINING, FormWord, covers
from mom_plugins_policy.language.words.functions import BUILTINS, FUNCTIONS, OPERATORS, PREDEFINED, FunctionWord
from mom_plugins_policy.language.words.methods import DISK_METHODS, ENTITY_METHODS
from mom_plugins_policy.language.words.ranges import CertainlyWrong
from mom_plugins_policy.language.words.vocabulary import DATA, ENTITY, FUNCTION, INT, LIST, NIL, NUMBER, OTHER, STRING, UNBOUND, Vocabulary
from mom_plugins_policy.language.words.word import Word
from mom_plugins_policy.symbols.terms import Constant, Term, Terms, scope_of, truth_of

_DEPTH = 120  # forms inside each other, with calls: far more than policies have, and safely below Python's limit
_CALLS = 12  # calls of one function inside each other
_STEPS = 60_000  # forms evaluated: a second or so

_Key: TypeAlias = "tuple[str, Hashable, Hashable]"
"""What the store holds: a `variable` of a scope, a `function`, a `note` or `control` of an entity, or `any` note or control of it."""

_Path: TypeAlias = "list[tuple[Term, bool]]"
_Tried: TypeAlias = "tuple[Term, dict[_Key, Term], _Path]"


class PathFails(Exception):
    """The path that was followed ends in an error for certain."""


class Unsupported(Exception):
    """The program does something that is not followed here; `form` is where, `why` what."""

    def __init__(self, form: Form, why: str) -> None:
        super().__init__(why)
        self.form = form
        self.why = why


class SymbolicRequest:
    """One evaluation of a `Control`: the form, and the value's term. What it stands for is a value of the store of controls."""

    __slots__ = ("form", "number", "value")

    def __init__(self, number: int, form: Form, value: Term) -> None:
        self.number = number
        self.form = form
        self.value = value

    def __str__(self) -> str:
        return f"request {self.number}"


class Effects(NamedTuple):
    """What evaluating a form may do beyond its value, wherever it is called from."""

    assigned: frozenset[str]
    """Names that `set` assigns."""
    defined: Sequence[Form]
    """Functions that it defines."""
    kinds: frozenset[str]
    """`note` or `control`, where it may set such."""


class _Steps(NamedTuple):
    """The steps of others that are being followed: where their path begins, and what they have written to whom."""

    start: int
    written: list[tuple[_Key, Term, Term]]


class SymbolicEvaluator:
    """One run of a program on symbols. `run` does it; `requested` says what came of it.

    :param closed: nothing was requested or noted before, and no other policies come; otherwise such values are unknown
    """

    def __init__(
        self,
        program: Program,
        vocabulary: Vocabulary,
        *,
        closed: bool = True,
        steps: int = _STEPS,
    ) -> None:
        self.program = program
        self.words = program.words
        self.vocabulary = vocabulary
        self.closed = closed
        self.terms = Terms(vocabulary, functions=program.callables)
        self.requests: list[SymbolicRequest] = []
        self.path: _Path = []
        self.facts: dict[Term, bool] = {}
        self.not_nil: set[Term] = set()
        self._frames: list[dict[_Key, Term | None]] = []
        self._fact_frames: list[list[Term]] = []
        self._store: dict[_Key, Term] = {}
        self._definition_of = {definition.form.index: definition for definition in program.functions()}
        self._scopes = 0
        self._chain: list[int] = []
        self._depth = 0
        self._steps_left = steps
        self._active: dict[int, int] = {}
        self._guests = 0
        self._ended = False
        self._others: list[_Steps] = []
        self._effects: dict[int, Effects] = {}
        self._new_scope()
        self._bind(self._chain[0], "Host", self.terms.host)
        self._bind(self._chain[0], "Guests", self.terms.guests)
        for name, term in self.terms.callables.items():
            self._bind(self._chain[0], name, term)

    # --- what came of it -----------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Evaluate the program. Raises `PathFails` if every evaluation ends in an error, `Unsupported` if it is beyond this machine."""
        try:
            for form in self.program.forms:
                self.evaluate(form)
        except PathFails:
            self._ended = True
            raise

    def requested(self, entity: Term, control: str) -> Term:
        """What may be asked for in the end: a term whose leaves are requests, or nil."""
        return self.terms.nil if self._ended else self._get(("control", entity, control))

    def spend(self, steps: int) -> None:
        """Count work, in forms evaluated: when too much is done, the program is not followed to its end."""
        self._steps_left -= steps

    # --- hooks for those who watch -------------------------------------------------------------------------------------------------

    def wrong(self, form: Form, kind: str, message: str) -> PathFails:
        """A form fails for certain, here."""
        return PathFails()

    def on_operation(self, form: Form, word: FunctionWord, args: Sequence[Term], forms: Sequence[Form]) -> None:
        """A function is about to be computed."""

    def on_method(self, form: Form, entity: Term | None, method: str, args: Sequence[Term], forms: Sequence[Form]) -> None:
        """A method is about to be called; `entity` is None if nothing is known about it."""

    def on_field(self, form: Form, entity: Term, name: str) -> None:
        """A field is read as an attribute."""

    def on_defvar(self, form: Form, name: Form, *, bound: bool) -> None:
        """A `defvar`; `bound`: it does nothing, as there is such a variable in this scope."""

    def other_branch(self, condition: Term) -> bool:
        """Whether to look at a branch that is never taken, because the condition is known."""
        return False

    # --- the store: variables, functions, notes and controls ------------------------------------------------------------------------------

    def _get(self, key: _Key) -> Term:
        found = self._store.get(key)
        return self._initial(key) if found is None else found

    def _initial(self, key: _Key) -> Term:
        kind, owner, _ = key
        if not isinstance(owner, Term):
            return self.terms.unbound
        types = NIL | NUMBER if kind == "control" else DATA
        if ("any", kind, owner) in self._store:
            return self.terms.fresh(f"a {kind}", types)
        return self.terms.nil

    def _owned(self, kind: str, owner: Term, name: Hashable) -> Term:
        """A note or control as a policy reads it."""
        if not self.closed and (kind, owner, name) not in self._store:
            return self.terms.named(f"earlier {kind}", owner, name, NIL | NUMBER if kind == "control" else DATA)
        return self._get((kind, owner, name))

    def _put(self, key: _Key, value: Term) -> None:
        if self._frames:
            self._frames[-1].setdefault(key, self._store.get(key))
        self._store[key] = value

    def _begin(self) -> None:
        self._frames.append({})
        self._fact_frames.append([])

    def _end(self) -> dict[_Key, Term]:
        """Undo everything since `_begin`; what had changed."""
        changed: dict[_Key, Term] = {}
        for key, before in self._frames.pop().items():
            changed[key] = self._store[key]
            if before is None:
                del self._store[key]
            else:
                self._store[key] = before
        for term in self._fact_frames.pop():
            self.facts.pop(term, None)
            self.not_nil.discard(term)
        return changed

    def _new_scope(self) -> int:
        self._scopes += 1
        self._chain.append(self._scopes)
        return self._scopes

    def _bind(self, scope: int, name: str, value: Term) -> Term:
        """Bind a name unless it is bound; the value that it has then."""
        key = ("variable", scope, name)
        bound = self.terms.replaced(self._get(key), value)
        self._put(key, bound)
        return bound

    def lookup(self, name: str) -> Term:
        """What a variable holds: perhaps, or certainly, nothing."""
        found = self.terms.unbound
        if name == "nil":
            return found
        pending: list[Term] = []
        for scope in reversed(self._chain):
            value = self._store.get(("variable", scope, name))
            if value is not None:
                pending.append(value)
                if not value.types & UNBOUND:
                    break
        for value in reversed(pending):
            found = self.terms.replaced(value, found)
        return found

    def _variable(self, form: Form, name: str) -> Term:
        value = self.lookup(name)
        if value.types & UNBOUND:
            self._suppose(form, self.terms.is_bound(value), True, "undefined-symbol", f"there is no variable {name}")
            value = self._stripped(value)
        return value

    def _stripped(self, value: Term) -> Term:
        """A value that is known to be bound, without what it would be otherwise."""
        while value.op == "ite" and value.types & UNBOUND:
            _, then, otherwise = value.args
            if then.op == "unbound":
                value = otherwise
            elif otherwise.op == "unbound":
                value = then
            else:
                return self.terms.ite(value.args[0], self._stripped(then), self._stripped(otherwise))
        return value

    # --- what is known on this path ------------------------------------------------------------------------------------------------

    def decided(self, condition: Term) -> bool | None:
        """Whether a condition is true here; None if that is not known."""
        truth = truth_of(condition)
        if truth is None:
            truth = self.facts.get(condition)
        if truth is None and condition.op == "not":
            inner = self.decided(condition.args[0])
            truth = None if inner is None else not inner
        if truth is None and condition.op == "valid" and all(arg in self.not_nil or not arg.types & NIL for arg in condition.args):
            truth = True
        return truth

    def assume(self, condition: Term, truth: bool, depth: int = 0) -> bool:
        """Take note that a condition holds from here on. False if that cannot be."""
        known = self.decided(condition)
        if known is not None:
            return known == truth
        self._know(condition, truth)
        if depth > 20:
            return True
        op, args = condition.op, condition.args
        if op == "not":
            return self.assume(args[0], not truth, depth + 1)
        if truth and (op == "valid" or condition.types & NIL):
            for arg in args if op == "valid" else (condition,):
                self._exists(arg, depth + 1)
        if op == "null" and not truth and len(args) == 1:
            self._exists(args[0], depth + 1)
        if op == "eq" and not truth:
            for arg, other in (args, args[::-1]):
                if other is self.terms.nil:
                    self._exists(arg, depth + 1)
        if op == "ite":
            return self._assume_choice(condition, truth, depth)
        return True

    def _assume_choice(self, condition: Term, truth: bool, depth: int) -> bool:
        chosen, then, otherwise = condition.args
        known = self.decided(chosen)
        if known is None:
            if not self._possible(then, truth, chosen, True):
                known = False
            elif not self._possible(otherwise, truth, chosen, False):
                known = True
        if known is None:
            return True
        return self.assume(chosen, known, depth + 1) and self.assume(then if known else otherwise, truth, depth + 1)

    def _possible(self, term: Term, truth: bool, chosen: Term, choice: bool) -> bool:
        """Whether a branch of a choice can have this truth, as far as can be seen at a glance."""
        if term is chosen:
            return choice == truth
        if term.op == "not" and term.args[0] is chosen:
            return choice != truth
        known = self.decided(term)
        return known is None or known == truth

    def _know(self, condition: Term, truth: bool) -> None:
        self.facts[condition] = truth
        if self._fact_frames:
            self._fact_frames[-1].append(condition)

    def _exists(self, term: Term, depth: int) -> None:
        """Take note that a value is not nil, and of what follows for the choice that made it."""
        if term in self.not_nil or not term.types & NIL or depth > 20:
            return
        self.not_nil.add(term)
        if self._fact_frames:
            self._fact_frames[-1].append(term)
        if term.op == "ite":
            condition, then, otherwise = term.args
            known = self.decided(condition)
            if known is None and not then.types & ~NIL:
                known = False
            elif known is None and not otherwise.types & ~NIL:
                known = True
            if known is not None:
                self.assume(condition, known, depth + 1)
                self._exists(then if known else otherwise, depth + 1)
        if term.op in ("request", "requested"):
            self._exists(term.args[0], depth + 1)

    def exists(self, term: Term) -> None:
        """Take note that a value is not nil here."""
        self._exists(term, 0)

    def _suppose(self, form: Form, condition: Term, truth: bool, kind: str, message: str) -> None:
        """Go on where a condition holds; otherwise the form fails."""
        known = self.decided(condition)
        if known == truth:
            return
        if known is not None or not self.assume(condition, truth):
            raise self.wrong(form, kind, message)
        self.path.append((condition, truth))

    # --- forms ---------------------------------------------------------------------------------------------------------------------

    def evaluate(self, form: Form) -> Term:
        """The term of a form's value; its effects are in the store."""
        if form.kind is FormKind.LITERAL:
            value: Constant = form.value
            return self.terms.const(value)
        if form.kind is FormKind.NAME:
            return self._name(form, form.name)
        if form.kind is FormKind.OPERATOR:
            raise self.wrong(form, "malformed", f"the operator {form.name} is no value")
        self.spend(1)
        if self._steps_left < 0:
            raise Unsupported(form, "the program is too long to be followed")
        self._depth += 1
        if self._depth > _DEPTH:
            raise Unsupported(form, "it is nested too deep to be followed")
        try:
            return self._sequence(form, form.items) if form.kind is FormKind.BLOCK else self._list(form)
        finally:
            self._depth -= 1

    def _sequence(self, form: Form, items: Sequence[Form]) -> Term:
        if not items:
            raise self.wrong(form, "empty-form", "there is nothing to evaluate")
        for item in items[:-1]:
            self.evaluate(item)
        return self.evaluate(items[-1])

    def _name(self, form: Form, name: str) -> Term:
        if name == "nil":
            return self.terms.nil
        first, *rest = name.split(".")
        value = self._variable(form, first)
        for part in rest:
            value = self._attribute(form, value, part)
        return value

    def _attribute(self, form: Form, value: Term, name: str) -> Term:
        if value.op in ("host", "guest"):
            if name in ENTITY_METHODS:
                return self.terms.method(value, name)
            self.on_field(form, value, name)
            scope = scope_of(value)
            if not self.vocabulary.declares(scope, name):
                raise self.wrong(form, "undefined-symbol", f"there is no {scope} field {name}")
            return self.terms.field(value, name)
        if not value.types & (ENTITY | OTHER):
            raise self.wrong(form, "undefined-symbol", f"this value has no {name}")
        return self.terms.fresh(f"the attribute {name}")

    def _list(self, form: Form) -> Term:
        if not form.items:
            raise self.wrong(form, "empty-form", "there is nothing to evaluate")
        head, arguments = form.items[0], form.items[1:]
        if head.kind is FormKind.OPERATOR:
            return self._builtin(form, OPERATORS[head.name], arguments)
        if head.kind is not FormKind.NAME:
            raise self.wrong(form, "not-callable", "a list begins with a name or an operator")
        name = head.name
        if "." in name:
            return self._dotted_call(form, name, arguments)
        if name in PREDEFINED or name in self.program.bound:
            value = self.lookup(name)
            if value.op != "unbound":
                return self._variable_call(form, value, arguments)
        return self._word(form, arguments)

    def _variable_call(self, form: Form, value: Term, arguments: Sequence[Form]) -> Term:
        """A list whose head is, or may be, a variable."""
        name = form.items[0].name
        if value.op in ("function", "method"):
            return self._called(form, value, arguments)
        if value.types & FUNCTION:
            raise Unsupported(form, f"it is not known whether {name} holds a function")
        if name in self.words:
            return self._word(form, arguments)  # what cannot be called does not hide a word
        held = self.terms.negation(self._is_nothing(value))
        if truth_of(held):
            raise self.wrong(form, "not-callable", f"{name} is a variable here, and what it holds cannot be called")
        self._suppose(form, held, False, "not-callable", f"{name} is a variable here, and what it holds cannot be called")
        return self._word(form, arguments)

    def _is_nothing(self, value: Term) -> Term:
        """Whether a variable is unbound or nil."""
        bound = self.terms.is_bound(value)
        nothing = self.terms.negation(self.terms.valid((self.terms.replaced(value, self.terms.nil),)))
        return self.terms.ite(bound, nothing, self.terms.true)

    def _word(self, form: Form, arguments: Sequence[Form]) -> Term:
        name = form.items[0].name
        word = self.words.get(name)
        if isinstance(word, FormWord):
            self._arity(form, name, word, len(arguments))
            roles = word.roles(form)
            if roles is None and not (name in DEFINING and arguments[0].name in self.words):
                raise self.wrong(form, "malformed", word.shape)
            return self._METHODS[name](self, form, arguments)
        if word is not None:
            return self._builtin(form, name, arguments)
        return self._function(form, name, self._get(("function", "", name)), arguments)

    def _arity(self, form: Form, name: str, word: Word, given: int) -> None:
        if not word.takes(given):
            raise self.wrong(form, "arity", f"{name} takes {word.arguments}, not {given}")

    def _builtin(self, form: Form, name: str, arguments: Sequence[Form]) -> Term:
        word = BUILTINS[name]
        self._arity(form, form.items[0].name, word, len(arguments))
        return self.operation(form, word, [self.evaluate(argument) for argument in arguments], arguments)

    def operation(self, form: Form, word: FunctionWord, args: Sequence[Term], forms: Sequence[Form]) -> Term:
        """The value of a function, whose arguments are evaluated already."""
        self.on_operation(form, word, args, forms)
        try:
            result = self.terms.operation(word.name, args)
        except CertainlyWrong as error:
            raise self.wrong(form, error.kind, error.message) from None
        if word.strict is not None and len(args) >= word.strict:
            for arg in args:
                self.exists(arg)
        return result

    # --- special forms -------------------------------------------------------------------------------------------------------------

    def _if(self, form: Form, arguments: Sequence[Form]) -> Term:
        condition = self.evaluate(arguments[0])
        return self._branches(condition, lambda: self.evaluate(arguments[1]), lambda: self.evaluate(arguments[2]))

    def _branches(self, condition: Term, first: Callable[[], Term], second: Callable[[], Term]) -> Term:
        """One of two values, with what the one or the other does."""
        known = self.decided(condition)
        if known is not None:
            if self.other_branch(condition):
                self._looked_at(second if known else first)
            return first() if known else second()
        one = self._tried(condition, True, first)
        other = self._tried(condition, False, second)
        if one is None or other is None:
            if one is None and other is None:
                raise PathFails
            truth = one is not None
            value, changed, path = one or other or (self.terms.nil, {}, [])
            self.assume(condition, truth)
            self.path.extend(path)
            for key, after in changed.items():
                self._put(key, after)
            return value
        for key in {**one[1], **other[1]}:
            now = self._get(key)
            self._put(key, self.terms.ite(condition, one[1].get(key, now), other[1].get(key, now)))
        return self.terms.ite(condition, one[0], other[0])

    def _tried(self, condition: Term, truth: bool, work: Callable[[], Term]) -> _Tried | None:
        """What a branch comes to; None if it always fails. Everything that it does is undone."""
        start = len(self.path)
        self._begin()
        value: Term | None = None
        path: list[tuple[Term, bool]] = []
        try:
            self.path.append((condition, truth))
            if self.assume(condition, truth):
                value = work()
                path = self.path[start:]
        except PathFails:
            pass
        finally:
            del self.path[start:]
            changed = self._end()
        return None if value is None else (value, changed, path)

    def _looked_at(self, work: Callable[[], Term]) -> None:
        """Follow a branch without any consequence."""
        start = len(self.path)
        self._begin()
        try:
            work()
        except PathFails:
            pass
        finally:
            del self.path[start:]
            self._end()

    def _let(self, form: Form, arguments: Sequence[Form]) -> Term:
        with self._scoped() as scope:
            for name, value in (pair.items for pair in arguments[0].items):
                self._bind(scope, name.name, self.evaluate(value))
            return self._sequence(form, arguments[1:])

    @contextmanager
    def _scoped(self) -> Iterator[int]:
        chain = self._chain
        self._chain = list(chain)
        try:
            yield self._new_scope()
        finally:
            self._chain = chain

    def _defvar(self, form: Form, arguments: Sequence[Form]) -> Term:
        name, given = arguments
        if name.name == "nil" or "." in name.name:
            raise self.wrong(form, "malformed", "`defvar` takes a name and a value")
        value = self.evaluate(given)
        scope = self._chain[-1]
        before = self._get(("variable", scope, name.name))
        self.on_defvar(form, name, bound=not before.types & UNBOUND)
        return self._bind(scope, name.name, value)

    def _set(self, form: Form, arguments: Sequence[Form]) -> Term:
        name, given = arguments
        value = self.evaluate(given)
        bound = self.terms.is_bound(self.lookup(name.name))
        self._suppose(form, bound, True, "undefined-symbol", f"there is no variable {name.name} to set")
        inner = self.terms.false  # whether an inner scope has it
        for scope in reversed(self._chain):
            key = ("variable", scope, name.name)
            before = self._store.get(key)
            if before is None:
                continue
            self._put(key, self.terms.ite(inner, before, self.terms.assigned(before, value)))
            inner = self.terms.ite(inner, self.terms.true, self.terms.is_bound(before))
            if not before.types & UNBOUND:
                break
        return value

    def _def(self, form: Form, arguments: Sequence[Form]) -> Term:
        name = arguments[0]
        if name.name not in self.words:
            definition = self._definition_of.get(form.index)
            if definition is None:
                raise Unsupported(form, "it is not known what this defines")
            self._put(("function", "", name.name), self.terms.definition(definition))
        return self.terms.const(name.name)

    def _with(self, form: Form, arguments: Sequence[Form]) -> Term:
        items, name, body = arguments
        over = self._name(items, items.name)
        if over is self.terms.guests:
            written = self._other_steps(name.name, body, self._other_guest)
            self._tracked_step(name.name, body)
            self._after_others(self.effects_of(body), written)
        elif not over.types & (LIST | STRING | OTHER):
            raise self.wrong(form, "type", "`with` goes over Guests, a list or a string")
        else:
            types = STRING if not over.types & ~STRING else None
            self._other_steps(name.name, body, lambda: self.terms.fresh("an element", types))
        return self.terms.fresh("a list", LIST)

    def _other_guest(self) -> Term:
        self._guests += 1
        return self.terms.guest(self._guests)

    def _tracked_step(self, name: str, body: Form) -> None:
        """The step of the guest that is looked at."""
        with self._scoped() as scope:
            self._bind(scope, name, self.terms.guest(0))
            self.evaluate(body)

    def _other_steps(self, name: str, body: Form, element: Callable[[], Term]) -> list[tuple[_Key, Term, Term]]:
        """Any number of steps of others, of which any may fail at any place. What they may write to the entities that are looked at."""
        effects = self.effects_of(body)
        steps = _Steps(len(self.path), [])
        self._begin()
        self._others.append(steps)
        try:
            self._forget_variables(effects)
            self._forget_owned(effects)
            with self._scoped() as scope:
                self._bind(scope, name, element())
                self.evaluate(body)
        except PathFails:
            pass
        finally:
            self._others.pop()
            del self.path[steps.start :]
            self._end()
        self._after_others(effects, steps.written)
        return steps.written

    def _after_others(self, effects: Effects, written: Sequence[tuple[_Key, Term, Term]]) -> None:
        """What may hold after steps of others."""
        self._forget_variables(effects)
        for key, value, condition in written:
            self._write(key, value, self.terms.ite(self.terms.flag("another step"), condition, self.terms.false))

    def _write(self, key: _Key, value: Term, condition: Term) -> None:
        """Set a note or control, if a condition holds."""
        self._put(key, self.terms.ite(condition, value, self._get(key)))
        if self._others:
            start, written = self._others[-1]
            written.append((key, value, self.terms.both([*self.path[start:], (condition, True)])))

    def _forget_variables(self, effects: Effects) -> None:
        """What these effects may assign becomes unknown."""
        for name in effects.assigned:
            for scope in self._chain:
                before = self._store.get(("variable", scope, name))
                if before is not None:
                    self._put(("variable", scope, name), self.terms.assigned(before, self.terms.fresh(name)))
        for form in effects.defined:
            definition = self._get(("function", "", form.items[1].name)).value
            if definition is not self._definition_of.get(form.index):
                raise Unsupported(form, "a function is defined in a loop or in a function that calls itself")

    def _forget_owned(self, effects: Effects) -> None:
        """Notes and requests that these effects may set become unknown."""
        for kind in effects.kinds:
            for key in list(self._store):
                if key[0] == kind:
                    self._put(key, self.terms.fresh(f"a {kind}", NIL | NUMBER if kind == "control" else None))
            for owner in (self.terms.host, self.terms.guest(0)):
                self._put(("any", kind, owner), self.terms.true)

    def effects_of(self, body: Form) -> Effects:
        """What evaluating a form may do, with all functions that it may call."""
        found = self._effects.get(body.index)
        if found is not None:
            return found
        assigned: set[str] = set()
        defined: list[Form] = []
        kinds: set[str] = {"note", "control"} if self.program.callables else set()
        seen: set[str] = set()
        todo = [body]
        while todo:
            form = todo.pop()
            todo.extend(form.items)
            if form.kind is FormKind.NAME:
                method = ENTITY_METHODS.get(form.name.rpartition(".")[2])
                if method is not None and method.writes and method.store != "memory":  # what is remembered may be anything anyhow
                    kinds.add(method.store)
                if form.name in self.program.definitions and form.name not in seen:
                    seen.add(form.name)
                    todo.extend(definition.body for definition in self.program.definitions[form.name])
            roles = self.program.roles.get(form.index)
            if roles is not None and roles.assigned:
                assigned.add(roles.assigned)
            if form.index in self._definition_of:
                defined.append(form)
        found = self._effects[body.index] = Effects(frozenset(assigned), defined, frozenset(kinds))
        return found

    # --- functions -----------------------------------------------------------------------------------------------------------------

    def _function(self, form: Form, name: str, held: Term, arguments: Sequence[Form]) -> Term:
        """A call of what the table of functions holds."""
        if held.op == "ite":
            condition, then, otherwise = held.args
            return self._branches(
                condition, lambda: self._function(form, name, then, arguments), lambda: self._function(form, name, otherwise, arguments)
            )
        definition = held.value
        if not isinstance(definition, Definition):
            raise self.wrong(form, "unknown-function", f"there is no function {name}")
        wanted = len(definition.parameters)
        if wanted != len(arguments):
            s = "" if wanted == 1 else "s"
            raise self.wrong(form, "arity", f"{name} takes {wanted} argument{s}, not {len(arguments)}")
        values = [self.evaluate(argument) for argument in arguments]
        calls = self._active.get(definition.number, 0)
        if calls >= _CALLS:
            return self._not_entered(form, definition)
        self._active[definition.number] = calls + 1
        try:
            return self.call(definition, values)
        finally:
            self._active[definition.number] = calls

    def call(self, definition: Definition, values: Sequence[Term]) -> Term:
        """The value of a function's body."""
        with self._scoped() as scope:
            for parameter, value in zip(definition.parameters, values, strict=True):
                self._bind(scope, parameter, value)
            return self.evaluate(definition.body)

    def _not_entered(self, form: Form, definition: Definition) -> Term:
        """A call that is not followed further: anything may come of it."""
        effects = self.effects_of(definition.body)
        if effects.kinds or effects.defined or self.program.callables:
            raise Unsupported(form, f"{definition.name} calls itself, and that is not followed far enough")
        self._forget_variables(effects)
        return self.terms.fresh(f"the value of {definition.name}")

    def _called(self, form: Form, function: Term, arguments: Sequence[Form]) -> Term:
        """A call of what a variable or attribute holds."""
        values = [self.evaluate(argument) for argument in arguments]
        if function.op == "method":
            return self._method(form, function.args[0], str(function.value), values, arguments)
        word = FUNCTIONS[str(function.value)]
        self._arity(form, word.name, word, len(values))
        return self.operation(form, word, values, arguments)

    def _dotted_call(self, form: Form, name: str, arguments: Sequence[Form]) -> Term:
        first, *rest = name.split(".")
        base = self.lookup(first)
        if base.op == "unbound":
            return self._word(form, arguments)
        if base.types & UNBOUND and name in self.program.definitions:
            raise Unsupported(form, f"it is not known whether {name} is a method or a function")
        base = self._variable(form, first)
        if base.op in ("host", "guest"):
            if len(rest) == 1 and rest[0] in ENTITY_METHODS:
                values = [self.evaluate(argument) for argument in arguments]
                return self._method(form, base, rest[0], values, arguments)
            return self._field_call(form, name, base, rest, arguments)
        if name in self.program.definitions:
            if base.types & (ENTITY | OTHER):
                raise Unsupported(form, f"it is not known whether {name} is a method or a function")
            return self._word(form, arguments)
        if not base.types & (ENTITY | OTHER):
            raise self.wrong(form, "unknown-function", f"there is no function {name}")
        if len(rest) > 1 or (rest[0] not in ENTITY_METHODS and rest[0] not in DISK_METHODS):
            if self.program.callables:
                raise Unsupported(form, f"it is not known what {name} is")
            raise self.wrong(form, "not-callable", f"{name} is no method")
        values = [self.evaluate(argument) for argument in arguments]
        if rest[0] in DISK_METHODS:
            return self.terms.nil
        return self._method(form, None, rest[0], values, arguments)

    def _field_call(self, form: Form, name: str, base: Term, rest: Sequence[str], arguments: Sequence[Form]) -> Term:
        """A field at the head of a list: an error, unless the field is nil and there is a function of that dotted name."""
        if name not in self.program.definitions:
            kind = "not-callable" if self.vocabulary.declares(scope_of(base), rest[0]) else "unknown-function"
            raise self.wrong(form, kind, f"{name} cannot be called")
        if len(rest) > 1:
            raise Unsupported(form, f"it is not known whether {name} can be called")
        if self.vocabulary.declares(scope_of(base), rest[0]):
            field = self.terms.field(base, rest[0])
            self._suppose(form, self.terms.valid((field,)), False, "not-callable", f"{name} is a field, and cannot be called")
        return self._word(form, arguments)

    # --- methods of entities -------------------------------------------------------------------------------------------------------

    def _method(self, form: Form, entity: Term | None, method: str, values: Sequence[Term], forms: Sequence[Form]) -> Term:
        self._arity(form, form.items[0].name, ENTITY_METHODS[method], len(values))
        self.on_method(form, entity, method, values, forms)
        return self._CALLED[method](self, form, entity, values)

    def _control(self, form: Form, entity: Term | None, values: Sequence[Term]) -> Term:
        try:
            asked = self.terms.requested(values[1])
        except CertainlyWrong as error:
            raise self.wrong(form, error.kind, error.message) from None
        request = SymbolicRequest(len(self.requests), form, asked)
        self.requests.append(request)
        leaf = self.terms.request(request, asked)
        if values[0].is_constant:
            for owner, condition in self._owners(entity):
                self._write(("control", owner, values[0].value), leaf, condition)
        elif self.closed:
            raise Unsupported(form, "it is not known which control is asked for")
        return self.terms.nil

    def _set_note(self, form: Form, entity: Term | None, values: Sequence[Term]) -> Term:
        self._note(entity, values[0], values[1])
        return self.terms.nil

    def _remember(self, form: Form, entity: Term | None, values: Sequence[Term]) -> Term:
        return self.terms.nil

    def _recall(self, form: Form, entity: Term | None, values: Sequence[Term]) -> Term:
        return self.terms.fresh("what is remembered", DATA | (values[1].types if len(values) > 1 else 0))

    def _asked_for(self, form: Form, entity: Term | None, values: Sequence[Term]) -> Term:
        if entity is None or not _is_looked_at(entity) or not values[0].is_constant:
            return self.terms.fresh("the value of GetControl", NIL | NUMBER)
        return self.terms.asked_for(self._owned("control", entity, values[0].value))

    def _noted(self, form: Form, entity: Term | None, values: Sequence[Term]) -> Term:
        if entity is None or not _is_looked_at(entity) or not values[0].is_constant:
            return self.terms.fresh("the value of GetVar")
        return self._owned("note", entity, values[0].value)

    def _property(self, form: Form, entity: Term | None, values: Sequence[Term]) -> Term:
        if entity is None or entity.op not in ("host", "guest") or not values[0].is_constant:
            return self.terms.fresh("the value of Prop")
        return self.terms.named("property", entity, values[0].value)

    def _stat(self, form: Form, entity: Term | None, values: Sequence[Term]) -> Term:
        if entity is None or entity.op not in ("host", "guest") or not values[0].is_constant:
            return self.terms.fresh("the value of Stat")
        field = self.terms.field(entity, self._field_of(form, entity, values[0].value))
        if len(values) == 1:
            return field
        return self.terms.ite(self.terms.named("present", entity, field.value, INT), field, values[1])

    def _average(self, form: Form, entity: Term | None, values: Sequence[Term]) -> Term:
        if entity is None or entity.op not in ("host", "guest"):
            return self.terms.fresh("the value of StatAvg")
        if not values[0].is_constant:
            return self.terms.fresh("the value of StatAvg", NUMBER & ~INT)
        return self.terms.average(entity, self._field_of(form, entity, values[0].value))

    def _field_of(self, form: Form, entity: Term, name: object) -> str:
        scope = scope_of(entity)
        if not isinstance(name, str) or not self.vocabulary.declares(scope, name):
            raise self.wrong(form, "unknown-field", f"there is no {scope} field {name}")
        return name

    def _owners(self, entity: Term | None) -> list[tuple[Term, Term]]:
        """The entities among those looked at that a method may be called on, and when it is."""
        if entity is not None and (entity.op == "host" or (entity.op == "guest" and entity.value == 0)):
            return [(entity, self.terms.true)]
        if entity is not None and entity.op == "guest":
            return []
        return [(owner, self.terms.flag("which entity")) for owner in (self.terms.host, self.terms.guest(0))]

    def _note(self, entity: Term | None, name: Term, value: Term) -> None:
        for owner, condition in self._owners(entity):
            if name.is_constant:
                self._write(("note", owner, name.value), value, condition)
                continue
            for key in list(self._store):
                if key[0] == "note" and key[1] is owner:
                    self._write(key, self.terms.fresh("a note"), self.terms.true)
            self._write(("any", "note", owner), self.terms.true, self.terms.true)

    def _eval(self, form: Form, arguments: Sequence[Form]) -> Term:
        return self._sequence(form, arguments)

    _CALLED: ClassVar[dict[str, Callable[[SymbolicEvaluator, Form, Term | None, Sequence[Term]], Term]]] = {
        "Prop": _property, "Stat": _stat, "StatAvg": _average, "Control": _control, "GetControl": _asked_for, "SetVar": _set_note,
        "GetVar": _noted, "Remember": _remember, "Recall": _recall,
    }  # fmt: skip

    _METHODS: ClassVar[dict[str, Callable[[SymbolicEvaluator, Form, Sequence[Form]], Term]]] = {
        "eval": _eval, "if": _if, "let": _let, "def": _def, "defun": _def, "defvar": _defvar, "set": _set, "setq": _set, "with": _with,
    }  # fmt: skip


def _is_looked_at(entity: Term) -> bool:
    """Whether what is written to an entity is followed: the host, and one guest."""
    return entity.op == "host" or (entity.op == "guest" and entity.value == 0)


covers("symbols/machine.py", SymbolicEvaluator._METHODS)
methods.covers("symbols/machine.py", SymbolicEvaluator._CALLED)
