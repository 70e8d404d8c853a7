"""Special forms, functions, and calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from mom_core import Scope
from mom_plugins_policy.language.analysis import Definition, Program
from mom_plugins_policy.language.budgets import ELEMENT, SLICE
from mom_plugins_policy.language.compiling.code import (
    ENTITIES,
    NIL,
    SCALARS,
    Expression,
    PyFunction,
    TooComplicatedError,
    constant_expression,
    joined,
)
from mom_plugins_policy.language.compiling.operations import Operations
from mom_plugins_policy.language.facts import Facts
from mom_plugins_policy.language.limits import PolicyLimits
from mom_plugins_policy.language.syntax import Form, FormKind
from mom_plugins_policy.language.words.forms import DEFINING, FormWord
from mom_plugins_policy.language.words.functions import CALLABLES, OPERATORS, PREDEFINED, FunctionWord
from mom_plugins_policy.language.words.methods import ENTITY_METHODS

_DEEP = 36  # nested forms in one Python function; deeper forms become separate functions
_BLOCKS = 5  # nested loops in one Python function; Python allows 20 blocks
_COPIES = 8  # generated forms per form of the program


class Generator(Operations):
    """Generator of a program's code. The constructor generates it."""

    def __init__(self, program: Program, limits: PolicyLimits, undeclared: frozenset[tuple[Scope, str]]) -> None:
        super().__init__(program, limits, undeclared)
        self.level = 0
        self.weight = 0
        """Forms generated so far in this loop or function."""
        self.counting = False
        """Whether the steps of a turn are known only at run time."""
        self.generated = 0
        self.next_look = SLICE
        """Count of generated forms at the next check of the time."""
        self.most = _COPIES * program.size + 50_000
        self.guest_loops = 0
        self.depth = "1"
        """Nesting of a called function, as an expression."""
        self.table: dict[str, Definition] | None = {}
        """Functions that are certainly defined here; None if unknown."""
        self._definition_of = {definition.form.index: definition for definition in program.functions()}
        self._units: set[int] = set()
        self._waiting: list[Callable[[], None]] = []
        self._main()

    def _main(self) -> None:
        changing = self.program.bound | self.program.assigned
        constant_facts = {slot: self.facts[slot] for name, slot in self.predefined.slots.items() if name not in changing}
        self._late_resets(self.predefined)
        for form in self.program.forms:
            self._watch(form)
            value = self.guarded(self.generate(form), form)
            self.emit(f"out.append({value.text})")
        while self._waiting:
            self.facts = Facts(constant_facts)
            self.level = self.blocks = 0
            self._waiting.pop()()

    def generate(self, form: Form, *, dropped: bool = False) -> Expression:
        """Emit a form's statements, and return its value."""
        self.weight += 1
        self.generated += 1
        if self.generated > self.most:
            raise TooComplicatedError
        if form.kind is FormKind.LITERAL:
            value = self.literal(form.value)
        elif form.kind is FormKind.NAME:
            value = self._name(form)
        elif form.kind is FormKind.OPERATOR:
            value = self.fault(form, "malformed", f"the operator {form.name} is not a value")
        elif self.level >= _DEEP or self.blocks >= _BLOCKS:
            value = self._apart(form)
        else:
            self.level += 1
            value = self._sequence(form, form.items, dropped) if form.kind is FormKind.BLOCK else self._list(form, dropped)
            self.level -= 1
        return value

    def _apart(self, form: Form) -> Expression:
        # The form is nested too deep for Python.
        name = self._new("P")
        function = PyFunction(f"def {name}():")
        self.func.inner.append(function)
        chain, facts, table = self.chain, Facts(self.facts), None if self.table is None else dict(self.table)
        depth = self.depth

        def later() -> None:
            self.chain, self.facts, self.table, self.depth = chain, facts, table, depth
            self._fill(function, form, lambda: self.generate(form), 0)

        self._waiting.append(later)
        self._forget_assigned(form)
        self._expect_bindings(form)
        self.counting = True
        return self.spilled(Expression(f"{name}()"))

    def _fill(self, function: PyFunction, form: Form, value: Callable[[], Expression], steps: int) -> None:
        self.func, self.lines, self.indent, self.guest_loops = function, function.lines, 1, 1
        weight = self._counted(form)
        self.weight = steps
        self.emit(f"return {self.guarded(value(), form).text}")
        weight.append(self.weight)

    def _counted(self, form: Form, factor: str = "", many: Callable[[], str] | None = None) -> list[int]:
        # The caller adds the number of steps to the returned list. `many` returns a statement to emit when the countdown ends.
        weight: list[int] = []
        self._use("left")
        self._assign("left", self.run)
        refill = self.marked(form, self._helper("refill", "left"))
        self.late(lambda: [f"left -= {weight[0]}{factor}", "if left < 0:", f" left = {refill}", *([f" {many()}"] if many else [])])
        return weight

    def _watch(self, form: Form) -> None:
        # Long code may have no counted steps.
        if self.generated > self.next_look:
            self.emit(self.marked(form, self._helper("look")))
            self.next_look = self.generated + SLICE

    def _sequence(self, form: Form, items: Sequence[Form], dropped: bool) -> Expression:
        if not items:
            return self.fault(form, "empty-form", "nothing to evaluate")
        for item in items[:-1]:
            self._watch(item)
            self.drop(self.generate(item, dropped=True))
        return self.generate(items[-1], dropped=dropped)

    def _list(self, form: Form, dropped: bool) -> Expression:
        if not form.items:
            return self.fault(form, "empty-form", "nothing to evaluate")
        head, arguments = form.items[0], form.items[1:]
        if head.kind is FormKind.OPERATOR:
            return self._builtin(form, OPERATORS[head.name], arguments)
        if head.kind is not FormKind.NAME:
            return self.fault(form, "not-callable", "a list begins with a name or an operator; this")
        name = head.name
        if "." in name:
            return self._dotted_call(form, name, arguments)
        if name in PREDEFINED or name in self.program.bound:
            value = self._lookup(name)
            if value is not None:
                return self._variable_call(form, value, arguments, dropped)
        return self._word(form, arguments, dropped)

    def _word(self, form: Form, arguments: Sequence[Form], dropped: bool) -> Expression:
        name = form.items[0].name
        word = self.program.words.get(name)
        if isinstance(word, FormWord):
            if not word.takes(len(arguments)):
                return self._arity(form, name, word.arguments, len(arguments))
            if form.index not in self.program.roles and not (name in DEFINING and arguments[0].name in self.program.words):
                return self.fault(form, "malformed", word.shape)
            return _METHODS[name](self, form, arguments, dropped)
        if word is not None:
            return self._builtin(form, name, arguments)
        if name in self.program.definitions:
            return self._call(form, name, arguments, dropped)
        return self.fault(form, "unknown-function", f"there is no function {name}")

    def _branches(self, test: Expression, first: Callable[[], Expression], second: Callable[[], Expression], dropped: bool) -> Expression:
        next_look = self.next_look
        self.facts.begin()
        with self._block() as block:
            value = first()
        learnt = self.facts.end()
        self.facts.begin()
        with self._block() as other_block:
            otherwise = second()
        learnt_otherwise = self.facts.end()
        self.next_look = next_look  # the other branch checks the time itself
        self._join(learnt, learnt_otherwise)
        type_, size = joined(value.type, otherwise.type), max(value.size, otherwise.size)
        safe = test.safe and value.safe and otherwise.safe
        if not block and not other_block:
            return Expression(f"({value.text} if {test.text} else {otherwise.text})", type_, size=size, safe=safe)
        pad = " " * (self.indent + 1)
        result = "" if dropped else self._new("t")
        for lines, each in ((block, value), (other_block, otherwise)):
            if not dropped:
                lines.append(f"{pad}{result} = {each.text}")
            elif not each.safe:
                lines.append(f"{pad}{each.text}")
        self.emit(f"if {test.text}:", pure=safe)
        self._put(block)
        if other_block:
            self.emit("else:", pure=True)
            self._put(other_block)
        return NIL if dropped else Expression(result, type_, size=size, stable=True, safe=True)

    def _if(self, form: Form, arguments: Sequence[Form], dropped: bool) -> Expression:
        condition, first, second = arguments
        test = self.generate(condition)
        if test.const:
            return self.generate(first if test.constant else second, dropped=dropped)
        return self._branches(
            test, lambda: self.generate(first, dropped=dropped), lambda: self.generate(second, dropped=dropped), dropped
        )  # fmt: skip

    def _let(self, form: Form, arguments: Sequence[Form], dropped: bool) -> Expression:
        roles = self.program.roles[form.index]
        with self._scoped(roles.parts, [name.name for name, _ in roles.bindings]) as scope:
            for name, value in (pair.items for pair in arguments[0].items):
                self._bind(scope, name.name, self.generate(value))
            result = self._sequence(form, arguments[1:], dropped)
            if self._has_shared(scope):
                result = self.spilled(result)
        return result

    def _defvar(self, form: Form, arguments: Sequence[Form], dropped: bool) -> Expression:
        name, initial = arguments
        if name.name == "nil" or "." in name.name:
            return self.fault(form, "malformed", "`defvar` takes a name and a value")
        value = self.generate(initial)
        scope = self.chain[-1]
        if name.name in self.program.shared:
            value = self.guarded(value, form)
        return self._bind_variable(self._slot(scope, name.name), value)

    def _set(self, form: Form, arguments: Sequence[Form], dropped: bool) -> Expression:
        target, new = arguments
        name = target.name
        value = self.guarded(self.generate(new), form)
        missing = self.marked(form, f"fail({self.constant('undefined-symbol')}, {self.constant(f'there is no variable {name} to set')})")
        slots, certain = self._candidates(name) if name != "nil" else ([], False)
        if name in self.program.shared:
            cell = self._cell(name)
            value = self.spilled(value)
            if not certain:
                self.emit(f"if {cell} is U: {missing}")
            self.emit(f"{self._assign(cell, self.run)} = {value.text}")
            return value
        if not slots:
            self.drop(value)
            return Expression(missing)
        if len(slots) == 1 and certain:
            slot = slots[0]
            self.emit(f"{self._assign(slot.py, slot.owner)} = {value.text}")
            self.facts.learn(slot, (True, value.type, value.size))
            return Expression(slot.py, value.type, size=value.size, safe=True)
        value = self.spilled(value)
        word = "if"
        for number, slot in enumerate(slots):
            slot.reset = slot.reset or not certain or number < len(slots) - 1
            last = certain and number == len(slots) - 1
            self.emit("else:" if last else f"{word} {slot.py} is not U:")
            self.emit(f" {self._assign(slot.py, slot.owner)} = {value.text}")
            fact = self.facts[slot]
            self.facts.learn(slot, (fact[0], joined(fact[1], value.type), max(fact[2], value.size)))
            word = "elif"
        if not certain:
            self.emit("else:")
            self.emit(f" {missing}")
        return value

    def _with(self, form: Form, arguments: Sequence[Form], dropped: bool) -> Expression:
        items, _, body = arguments
        source = self._name(items)
        guests = source.type == "guests"
        element = Expression(self._new("g"), "guest" if guests else "any", stable=True, safe=True)
        over = self._iterated(form, source, element)
        contained = guests or source.type == "any"
        outermost = guests and self.guest_loops == 0 and self.table is not None
        counting: list[bool] = []
        turn: list[int] = []
        turns, weight = self._turns(form, over, turn, counting if outermost else None)
        place = self.site(form)
        result = "" if dropped else self._new("r")
        if result:
            self.emit(f"{result} = []")
        self._forget_assigned(body)
        outer_weight, self.weight, self.counting = self.weight, 0, False
        self.blocks += 1
        self.guest_loops += contained
        self.facts.begin()
        with self._block() as loop:
            if contained:
                enter = self.marked(form, self._helper("enter_step", "left")) if outermost else ""
                type_ = self._contained_step(form, over, element, result, lambda: [f"left = {enter}"] if enter and counting[0] else [])
            else:
                type_ = self._step(form, element, result)
            counting.append(self.counting)
        self.facts.end()
        self.guest_loops -= contained
        self.blocks -= 1
        turn.append(self.weight + 1)
        weight.append(1 if outermost else turn[0])  # each step of an outermost loop has its own budget
        self.weight, self.counting = outer_weight, True
        self.late(lambda: [f"#{place}", self._over_guests(element.text, turns) if guests else f"for {element.text} in {turns}:"])
        self._put(loop)
        if outermost and counting[0]:
            self.emit(f"left = {self._helper('leave_steps', 'left')}")
        return self._collected(form, result, type_, outermost=outermost) if result else NIL

    def _turns(self, form: Form, over: str, turn: list[int], counting: list[bool] | None) -> tuple[str, list[int]]:
        # The caller fills `turn` and `counting` later.
        turns, watch = self._new("i"), self._use("turns")

        def watched() -> str:
            return f"{turns} = {watch}({over}, {max(1, SLICE // turn[0])})"

        if counting is None:
            self.emit(f"{turns} = {over}", pure=True)
            return turns, self._counted(form, f" * len({over})", watched)
        weight = self._counted(form, f" * len({over})")
        # Turns with counted steps check the time themselves.
        self.late(lambda: [f"{turns} = {over}" if counting[0] else watched()])
        return turns, weight

    def _iterated(self, form: Form, source: Expression, element: Expression) -> str:
        if source.type == "guests":
            self._read_of[element.text] = {}
            return self._use("members")
        over = self._new("i")
        self.emit(f"{over} = {self.marked(form, self._helper('iterate', source.text))}")
        return over

    def _collected(self, form: Form, result: str, type_: str, *, outermost: bool) -> Expression:
        if self.program.lists and type_ not in SCALARS:
            self.emit(self.marked(form, self._helper("collected", result)))
        elif not outermost:
            self.emit(self.marked(form, self._helper("build", f"{ELEMENT} * len({result})")))
        return Expression(result, "list", stable=True, safe=True)

    def _contained_step(self, form: Form, over: str, element: Expression, result: str, first: Callable[[], list[str]]) -> str:
        # An error fails only that guest.
        self.emit("try:")
        with self._block() as step:
            self.late(first)
            type_ = self._step(form, element, result)
        self._put(step)
        error = self._new("e")
        self.emit(f"except E as {error}:")
        if over != self._use("members"):
            self.emit(f" if {over} is not members: raise")
        self.emit(f" {self._helper('contain', error, element.text)}")
        if result:
            self.emit(f" {result}.append(None)")
        return type_

    def _step(self, form: Form, element: Expression, result: str) -> str:
        name, body = form.items[2], form.items[3]
        with self._scoped([body], [name.name]) as scope:
            self._bind(scope, name.name, element)
            value = self.generate(body, dropped=not result)
            if result:
                value = self.guarded(value, form)
                self.emit(f"{result}.append({value.text})")
            else:
                self.drop(value)
        return value.type

    def _def(self, form: Form, arguments: Sequence[Form], dropped: bool) -> Expression:
        name = arguments[0]
        value = constant_expression(self.string(name.name), "str", name.name)
        definition = self._definition_of.get(form.index)
        if definition is None:
            return value  # defining a word does nothing
        if self.table is not None and definition.unconditional:
            self.table[name.name] = definition
        function = self._standing(definition)
        func = self.func

        def late() -> list[str]:
            cell = self._outermost["n"].get(definition.name)
            if cell is None:
                return []
            if func is not self.run:
                func.nonlocals.add(cell)
            return [f"{cell} = ({function or None}, {len(definition.parameters)})"]

        self.late(late)
        self.effects += 1
        return value

    def _standing(self, definition: Definition) -> str:
        if definition.name not in self.program.alone:
            return ""
        name, form = f"F{definition.number}", definition.form
        if definition.number in self._units:
            return name
        self._units.add(definition.number)
        parameters = [self._new("p") for _ in definition.parameters]
        too_deep = self.marked(form, self._helper("too_deep"))
        unit = PyFunction(f"def {name}({', '.join(['d', *parameters])}):", [f" if d > {self.limits.depth}: {too_deep}"])
        self.run.inner.append(unit)
        values = [Expression(py, stable=True, safe=True) for py in parameters]

        def later() -> None:
            self.chain, self.table, self.depth = [self.predefined], None, "d + 1"
            self._fill(unit, form, lambda: self._inlined(definition, values, dropped=False), 1)

        self._waiting.append(later)
        return name

    def _call(self, form: Form, name: str, arguments: Sequence[Form], dropped: bool = False) -> Expression:
        several = self.program.definitions[name]
        unknown = f"there is no function {name} yet (it is defined later, or not always)"
        if self.table is not None and all(definition.unconditional for definition in several):
            definition = self.table.get(name)
            if definition is None:
                return self.fault(form, "unknown-function", unknown)
            function = self._standing(definition)
        else:
            definition = several[0]
            called = self._new("t")
            self.emit(f"{called} = {self._initial('n', name)}")
            self.emit(f"if {called} is U: {self.fault(form, 'unknown-function', unknown).text}")
            if len({len(item.parameters) for item in several}) > 1:
                wrong = self._arity(form, name, "another number of arguments", len(arguments)).text
                self.emit(f"if {called}[1] != {len(arguments)}: {wrong}")
                definition = next((item for item in several if len(item.parameters) == len(arguments)), definition)
            function = f"{called}[0]" if len(several) > 1 else self._standing(definition)
        if len(definition.parameters) != len(arguments):
            number = len(definition.parameters)
            return self._arity(form, name, f"{number} argument{'s' if number != 1 else ''}", len(arguments))
        values = self.arguments(arguments)
        if not function:
            return self._inlined(definition, values, dropped)
        texts = [value.text for value in self.all_guarded(values, form)]
        self.counting = True
        called_with = ", ".join([self.depth, *texts])
        return self.spilled(Expression(self.marked(form, f"{function}({called_with})")))

    def _inlined(self, definition: Definition, values: Sequence[Expression], dropped: bool) -> Expression:
        if not self.program.shared.isdisjoint(definition.parameters):
            values = [self.spilled(value) for value in values]
        with self._scoped([definition.body], definition.parameters) as scope:
            for parameter, value in zip(definition.parameters, values, strict=True):
                self._bind(scope, parameter, value)
            result = self.generate(definition.body, dropped=dropped)
            if self._has_shared(scope):
                result = self.spilled(result)
        return result

    def _variable_call(self, form: Form, value: Expression, arguments: Sequence[Form], dropped: bool) -> Expression:
        name = form.items[0].name
        if value.safe and value.text in _HELD:
            return self._callable(form, _HELD[value.text], arguments)
        word = name in self.program.words
        never = not self.program.callables and value.type != "fn"
        if (word and (never or value.const)) or value.type == "nil":
            return self._word(form, arguments, dropped)
        # The arguments may assign the variable; the call uses its value from before.
        head = self.spilled(value, pure=True)
        if value.safe and (value.type == "fn" or (not word and value.type in SCALARS)):
            return self._called(form, head.text, arguments)
        test = f"{head.text}.__class__ is FN" if word else f"{head.text} is not U and {head.text} is not None"
        return self._branches(
            Expression(test, safe=True),
            lambda: self._called(form, head.text, arguments),
            lambda: self._word(form, arguments, dropped),
            dropped,
        )

    def _called(self, form: Form, function: str, arguments: Sequence[Form]) -> Expression:
        values = self.arguments(arguments)
        texts = [value.text for value in self.all_guarded(values, form)]
        listed = "".join(f"{text}, " for text in texts)
        return self.spilled(Expression(self.marked(form, self._helper("call", function, f"({listed})", str(self.site(form))))))

    def _callable(self, form: Form, word: FunctionWord, arguments: Sequence[Form]) -> Expression:
        values = self.arguments(arguments)
        if not word.takes(len(values)):
            self.drop(*values)
            return self._arity(form, word.name, word.arguments, len(values))
        return self._function(form, word, arguments, values)

    def _dotted_call(self, form: Form, name: str, arguments: Sequence[Form]) -> Expression:
        parts = name.split(".")
        base = self._lookup(parts[0])
        if base is None:
            return self._word(form, arguments, False)
        if base.safe and base.type in ENTITIES and len(parts) == 2 and parts[1] in ENTITY_METHODS:
            return self._method(form, base, parts[1], arguments)
        if not base.named:
            base = self.spilled(base, pure=True)
        head = self._new("t")
        names = self.constant(tuple(parts[1:]))
        self.emit(f"{head} = {self._use('head')}({base.text}, {names})", pure=True)
        if name in self.program.definitions:
            return self._branches(
                Expression(f"{head} is not U and {head} is not None", safe=True),
                lambda: self._called(form, head, arguments),
                lambda: self._call(form, name, arguments),
                False,
            )
        self.emit(f"if {head} is U: {self.fault(form, 'unknown-function', f'there is no function {name}').text}")
        self.emit(f"if {head} is None: {self.fault(form, 'undefined-symbol', f'{name} is nil, and cannot be called').text}")
        return self._called(form, head, arguments)


_HELD: Mapping[str, FunctionWord] = {name.upper(): word for name, word in CALLABLES.items()}

_METHODS: dict[str, Callable[[Generator, Form, Sequence[Form], bool], Expression]] = {
    "eval": Generator._sequence, "if": Generator._if, "let": Generator._let, "def": Generator._def, "defun": Generator._def,
    "defvar": Generator._defvar, "set": Generator._set, "setq": Generator._set, "with": Generator._with,
}  # fmt: skip
