"""Executable code of a program: one function per form.

Scope is dynamic: a function sees its callers' names. So a name has one value at a time, in `Evaluation.names`. A scope stores the earlier
values of the names that it binds, and restores them when it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from mom_plugins_policy.language import limits
from mom_plugins_policy.language.analysis import Program
from mom_plugins_policy.language.errors import Trouble
from mom_plugins_policy.language.functions import BUILTINS, DEFINING, OPERATORS, PREDEFINED, FormWord, FunctionWord, clauses_of
from mom_plugins_policy.language.runtime import Code, Evaluation
from mom_plugins_policy.language.syntax import Form, FormKind, all_in
from mom_plugins_policy.language.values import UNBOUND, Any_, Function


def code_of(program: Program) -> Sequence[Code]:
    """Return the code of each top-level form."""
    coder = _Coder(program)
    for form in reversed([*all_in(program.forms)]):  # compile parts before the forms around them
        coder.codes[form.index] = coder.code(form)
    return [coder.codes[form.index] for form in program.forms]


def _constant(value: Any_) -> Code:
    return lambda run: value


def _failing(form: Form, kind: str, message: str) -> Code:
    def fail(run: Evaluation) -> Any_:
        raise Trouble(kind, message, form)

    return fail


def _choice(test: Code, then: Code, otherwise: Code) -> Code:
    return lambda run: then(run) if test(run) else otherwise(run)


def _name(form: Form) -> Code:
    name, *parts = form.name.split(".")

    def read(run: Evaluation) -> Any_:
        value = run.names.get(name, UNBOUND)
        if value is UNBOUND:
            raise Trouble("undefined-symbol", f"there is no variable {name}", form)
        try:
            for part in parts:
                value = run.attribute(value, part)
        except Exception as error:  # noqa: BLE001  # `located` classifies errors
            raise run.located(error, form) from None
        return value

    return read


class _Coder:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.codes: dict[int, Code] = {}

    def codes_of(self, forms: Sequence[Form]) -> Sequence[Code]:
        return [self.codes[form.index] for form in forms]

    def code(self, form: Form) -> Code:
        """Return a form's code. `codes` must already contain the codes of the form's parts."""
        if form.kind is FormKind.LITERAL:
            return _constant(form.value)
        if form.kind is FormKind.NAME:
            return _constant(None) if form.name == "nil" else _name(form)
        if form.kind is FormKind.OPERATOR:
            return _failing(form, "malformed", f"the operator {form.name} is not a value")
        if form.kind is FormKind.BLOCK:
            return self.sequence(form, form.items)
        if not form.items:
            return _failing(form, "empty-form", "nothing to evaluate")
        head = form.items[0]
        if head.kind is FormKind.OPERATOR:
            return self.function(form, BUILTINS[OPERATORS[head.name]])
        if head.kind is not FormKind.NAME:
            return _failing(form, "not-callable", "the list does not begin with a name or an operator")
        code = self.word(form, head.name)
        if "." in head.name or head.name in PREDEFINED or head.name in self.program.bound:
            return self.variable_call(form, head.name, code)
        return code

    def word(self, form: Form, name: str) -> Code:
        word, count = self.program.words.get(name), len(form.items) - 1
        if word is None:
            return self.call(form, name)
        if not word.takes(count):
            return _failing(form, "arity", f"{name} takes {word.counted}, not {count}")
        if isinstance(word, FunctionWord):
            return self.function(form, word)
        defines_word = name in DEFINING and form.items[1].name in self.program.words
        if isinstance(word, FormWord) and not defines_word and word.parts(form) is None:
            return _failing(form, "malformed", word.shape)
        return _FORMS[name](self, form)

    # --- calls -----------------------------------------------------------------------------------------------------------------

    def function(self, form: Form, word: FunctionWord) -> Code:
        parts = form.items[1:]
        if not word.takes(len(parts)):
            return _failing(form, "arity", f"{form.items[0].name} takes {word.counted}, not {len(parts)}")
        codes, compute = self.codes_of(parts), word.compute

        def call(run: Evaluation) -> Any_:
            values = [code(run) for code in codes]
            try:
                return run.computed(compute, values)
            except Exception as error:  # noqa: BLE001  # `located` classifies errors
                raise run.located(error, form, parts, values) from None

        return call

    def call(self, form: Form, name: str) -> Code:
        parts = form.items[1:]
        codes = self.codes_of(parts)
        later = " yet (it is defined later, or not always)" if name in self.program.definitions else ""

        def call(run: Evaluation) -> Any_:
            if name not in run.functions:
                raise Trouble("unknown-function", f"there is no function {name}{later}", form)
            parameters, body = run.functions[name]
            if len(parameters) != len(codes):
                number = len(parameters)
                raise Trouble("arity", f"{name} takes {number} argument{'s' if number != 1 else ''}, not {len(codes)}", form)
            values = [code(run) for code in codes]
            names, outer, scope, depth = run.names, run.scope, dict[str, Any_](), run.depth
            try:
                run.charge(1)
                if depth >= limits.DEPTH:
                    raise Trouble("recursion", f"more than {limits.DEPTH} nested calls")
                run.depth, run.scope = depth + 1, scope
                for parameter, value in zip(parameters, values, strict=True):
                    run.bind(parameter, value)
                return body(run)
            except Exception as error:  # noqa: BLE001  # `located` classifies errors
                raise run.located(error, form) from None
            finally:
                for key in scope:  # without a call, which could fail where nesting is too deep
                    names[key] = scope[key]
                run.depth, run.scope = depth, outer

        return call

    def variable_call(self, form: Form, name: str, otherwise: Code) -> Code:
        """Return code for a call whose head may be a variable. The variable is read before the arguments are evaluated."""
        first, *attributes = name.split(".")
        parts = form.items[1:]
        codes = self.codes_of(parts)
        is_word = name in self.program.words

        def call(run: Evaluation) -> Any_:
            head = run.names.get(first, UNBOUND)
            for part in attributes:
                if head is not UNBOUND:
                    head = run.lookup(head, part)
            if head is UNBOUND or (is_word and head.__class__ is not Function):
                return otherwise(run)
            if head is None:
                if attributes and name not in run.functions:
                    raise Trouble("undefined-symbol", f"{name} is nil, and cannot be called", form)
                return otherwise(run)
            values = [code(run) for code in codes]
            try:
                return run.called(head, values, form)
            except Exception as error:  # noqa: BLE001  # `located` classifies errors
                raise run.located(error, form, parts, values) from None

        return call

    # --- special forms ---------------------------------------------------------------------------------------------------------

    def sequence(self, form: Form, items: Sequence[Form]) -> Code:
        if not items:
            return _failing(form, "empty-form", "nothing to evaluate")
        *first, last = self.codes_of(items)
        if not first:
            return last

        def sequence(run: Evaluation) -> Any_:
            for code in first:
                code(run)
            return last(run)

        return sequence

    def in_order(self, form: Form) -> Code:
        return self.sequence(form, form.items[1:])

    def choice(self, form: Form) -> Code:
        code = _constant(None)
        for condition, body in reversed(clauses_of(form)):
            if body:
                then = self.sequence(form, body)
                code = then if condition is None else _choice(self.codes[condition.index], then, code)
        return code

    def let(self, form: Form) -> Code:
        bindings = [(pair.items[0].name, self.codes[pair.items[1].index]) for pair in form.items[1].items]
        body = self.sequence(form, form.items[2:])

        def let(run: Evaluation) -> Any_:
            names, outer, scope = run.names, run.scope, dict[str, Any_]()
            run.scope = scope
            try:
                for name, code in bindings:
                    run.bind(name, code(run))
                return body(run)
            finally:
                for key in scope:
                    names[key] = scope[key]
                run.scope = outer

        return let

    def loop(self, form: Form) -> Code:
        over, body = self.codes[form.items[1].index], self.codes[form.items[3].index]
        name = form.items[2].name

        def loop(run: Evaluation) -> Any_:
            elements, values = over(run), []
            names, outer = run.names, run.scope
            try:
                elements = run.iterate(elements)
                contained = elements is run.guests.members
                remaining = run.enter_steps(len(elements)) if contained else None
                for element in elements:
                    scope = dict[str, Any_]()
                    run.scope = scope
                    try:
                        run.charge(1) if remaining is None else run.next_step()
                        run.bind(name, element)
                        values.append(body(run))
                    except Exception as error:  # an error ends the step of this guest only
                        if not contained:
                            raise
                        run.contain(run.located(error, form), element)
                        values.append(None)
                    finally:
                        for key in scope:
                            names[key] = scope[key]
                        run.scope = outer
                if remaining is not None:
                    run.leave_steps(remaining)
                return run.collected(values)
            except Exception as error:  # noqa: BLE001  # `located` classifies errors
                raise run.located(error, form) from None

        return loop

    def define(self, form: Form) -> Code:
        _, name, parameters, body = form.items
        if name.name in self.program.words:  # does nothing
            return _constant(name.name)
        function = [item.name for item in parameters.items], self.codes[body.index]

        def define(run: Evaluation) -> str:
            run.functions[name.name] = function
            return name.name

        return define

    def variable(self, form: Form) -> Code:
        name, initial = form.items[1].name, self.codes[form.items[2].index]

        def bind(run: Evaluation) -> Any_:
            run.bind(name, initial(run))
            return run.names[name]

        return bind

    def assignment(self, form: Form) -> Code:
        name, new = form.items[1].name, self.codes[form.items[2].index]

        def assign(run: Evaluation) -> Any_:
            value = new(run)
            if run.names.get(name, UNBOUND) is UNBOUND:
                raise Trouble("undefined-symbol", f"there is no variable {name} to set", form)
            run.names[name] = value
            return value

        return assign


_FORMS: Final[Mapping[str, Callable[[_Coder, Form], Code]]] = {
    "eval": _Coder.in_order, "if": _Coder.choice, "cond": _Coder.choice, "let": _Coder.let, "def": _Coder.define, "defun": _Coder.define,
    "defvar": _Coder.variable, "set": _Coder.assignment, "setq": _Coder.assignment, "with": _Coder.loop,
}  # fmt: skip
