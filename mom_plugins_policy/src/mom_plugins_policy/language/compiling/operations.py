"""Builtins: Python operators, or helpers where a result must be limited first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

from mom_plugins_policy.language.compiling.code import ENTITIES, NUMBERS, SCALARS, Expression, constant_expression, joined
from mom_plugins_policy.language.compiling.entities import EntityAccess
from mom_plugins_policy.language.syntax import Form
from mom_plugins_policy.language.words.functions import BUILTINS, OPERATORS, FunctionWord

_GUARDED_SIZE = 64  # inputs whose sizes may add up in a number without a check
_GUARDED_TEXT = 4  # the same for possible strings: joining and comparing them takes at most 0.3 ms
_LOOSE_TEXTS = 64  # the same for all such sums of a program: variables may then hold up to 16 MiB
_PYTHON = {"lt": "<", "gt": ">", "lte": "<=", "gte": ">=", "eq": "==", "neq": "!="}


class Operations(EntityAccess):
    """Compiler of builtins for given arguments."""

    def _builtin(self, form: Form, name: str, arguments: Sequence[Form]) -> Expression:
        word = BUILTINS[name]
        if not word.takes(len(arguments)):
            return self._arity(form, form.items[0].name, word.arguments, len(arguments))
        return self._function(form, word, arguments, self.arguments(arguments))

    def _function(self, form: Form, word: FunctionWord, arguments: Sequence[Form], values: Sequence[Expression]) -> Expression:
        own = _OWN.get(word.name)
        if own is not None:
            return own(self, form, arguments, values)
        listed = ", ".join(value.text for value in values)
        text = self.marked(form, f"{called(word)}({listed})", arguments, values)
        if word.type != "number":
            return Expression(text, word.type, size=0 if word.type == "float" else 2)
        type_ = values[0].type if values[0].type in ("int", "float") else "num"
        return Expression(text, type_, size=max(2, values[0].size))

    def _native(
        self, form: Form, operator: str, arguments: Sequence[Form], values: Sequence[Expression], type_: str, size: int
    ) -> Expression:
        text = self.marked(form, f"{values[0].text} {operator} {values[1].text}", arguments, values)
        value = Expression(text, type_, size=size)
        if type_ in ("any", "str"):
            self.loose += size
            # each call of a separate function holds its own values
            checked = size > _GUARDED_TEXT or self.loose > _LOOSE_TEXTS or self.func is not self.run
        else:
            checked = size > _GUARDED_SIZE
        return self.guarded(value, form) if checked else value

    def _add(self, form: Form, arguments: Sequence[Form], values: Sequence[Expression]) -> Expression:
        left, right = values
        types = {left.type, right.type}
        size = left.size + right.size
        if types & NUMBERS:
            type_ = _number(types)
            return self._native(form, "+", arguments, values, type_, 0 if type_ == "float" else size)
        if "str" in types:
            return self._native(form, "+", arguments, values, "str", max(2, size))
        if not self.program.lists and "list" not in types:
            return self._native(form, "+", arguments, values, "any", max(2, size))
        left, right = self.spilled(left), self.spilled(right)
        adding = self.marked(form, self._helper("add", left.text, right.text), arguments, (left, right))
        native = self.marked(form, f"{left.text} + {right.text}", arguments, (left, right))
        text = f"({adding} if {left.text}.__class__ is list else {native})"
        return self.guarded(Expression(text, "list" if "list" in types else "any", size=max(2, size)), form)

    def _sub(self, form: Form, arguments: Sequence[Form], values: Sequence[Expression]) -> Expression:
        type_ = _number({value.type for value in values})
        return self._native(form, "-", arguments, values, type_, 0 if type_ == "float" else values[0].size + values[1].size)

    def _mul(self, form: Form, arguments: Sequence[Form], values: Sequence[Expression]) -> Expression:
        left, right = values
        types = {left.type, right.type}
        if "float" in types:
            return self._native(form, "*", arguments, values, "float", 0)
        if types <= NUMBERS:
            return self._native(form, "*", arguments, values, _number(types), max(2, left.size + right.size))
        left, right = self.spilled(left), self.spilled(right)
        multiplied = self.marked(form, self._helper("mul", left.text, right.text), arguments, (left, right))
        tests = [f"{value.text}.__class__ is float" for value in (left, right) if value.type in ("any", "num")]
        if not tests:
            return Expression(multiplied)
        native = self.marked(form, f"{left.text} * {right.text}", arguments, (left, right))
        return Expression(f"({native} if {' or '.join(tests)} else {multiplied})")

    def _div(self, form: Form, arguments: Sequence[Form], values: Sequence[Expression]) -> Expression:
        return self._native(form, "/", arguments, values, "float", 0)

    def _shifted_left(self, form: Form, arguments: Sequence[Form], values: Sequence[Expression]) -> Expression:
        text = self._helper("shl", values[0].text, values[1].text)
        return Expression(self.marked(form, text, arguments, values), "int", size=2)

    def _compared(self, form: Form, values: Sequence[Expression]) -> list[Expression]:
        if not self.program.lists or sum(value.type not in SCALARS and value.type != "str" for value in values) < 2:
            return list(values)
        named = [self.spilled(value) for value in values]
        texts = [value.text for value in named]
        # If the first value is no list, `min` and `max` fail before they compare lists.
        self.emit(f"if ({texts[0]}).__class__ is list: {self.marked(form, self._helper('compared', *texts))}")
        return named

    def _comparison(self, form: Form, arguments: Sequence[Form], values: Sequence[Expression]) -> Expression:
        operator = _PYTHON[_word_of(form)]
        left, right = values
        equality = operator in ("==", "!=")
        if equality and right.type == "nil" and right.const and left.type not in SCALARS:
            return Expression(f"({left.text} is{' not' if operator == '!=' else ''} None)", "bool", safe=left.safe)
        value = self._native(form, operator, arguments, self._compared(form, values), "bool", 1)
        numbers = left.type in NUMBERS and right.type in NUMBERS
        value.safe = left.safe and right.safe and (not self.program.lists if equality else numbers)
        return value

    def _and_or(self, form: Form, arguments: Sequence[Form], values: Sequence[Expression]) -> Expression:
        if not all(value.safe for value in values[1:]):
            values = [value if value.safe and value.stable else self.spilled(value) for value in values]
        word = f" {_word_of(form)} "
        text = f"({word.join(value.text for value in values)})"
        return Expression(text, _joined(values), size=max(value.size for value in values), safe=values[0].safe)

    def _not(self, form: Form, arguments: Sequence[Form], values: Sequence[Expression]) -> Expression:
        return Expression(f"(not {values[0].text})", "bool", safe=values[0].safe)

    def _extreme(self, form: Form, arguments: Sequence[Form], values: Sequence[Expression]) -> Expression:
        if len(values) == 1:
            return values[0]
        values = self._compared(form, values)
        helper = "largest" if _word_of(form) == "max" else "smallest"
        text = self.marked(form, f"{helper}({', '.join(value.text for value in values)})", arguments, values)
        safe = all(value.safe and value.type in NUMBERS for value in values)
        return Expression(text, _joined(values), size=max(value.size for value in values), safe=safe)

    def _null(self, form: Form, arguments: Sequence[Form], values: Sequence[Expression]) -> Expression:
        return self._all_of(values, _null_test)

    def _valid(self, form: Form, arguments: Sequence[Form], values: Sequence[Expression]) -> Expression:
        return self._all_of(values, _valid_test)

    def _debug(self, form: Form, arguments: Sequence[Form], values: Sequence[Expression]) -> Expression:
        text = self.marked(form, self._helper("debug", *(value.text for value in values)))
        return self.spilled(Expression(text, values[-1].type, size=values[-1].size))

    def _all_of(self, values: Sequence[Expression], test: Callable[[Expression], str]) -> Expression:
        if not all(value.safe for value in values):
            values = [self.spilled(value) for value in values]
        named = [value if value.named else self.spilled(value) for value in values]
        tests = [text for text in map(test, named) if text != "True"]
        if not tests or "False" in tests:
            return constant_expression(str(not tests), "bool", not tests)
        return Expression(f"({' and '.join(tests)})", "bool", safe=True)


_OWN: dict[str, Callable[[Operations, Form, Sequence[Form], Sequence[Expression]], Expression]] = {
    "add": Operations._add, "sub": Operations._sub, "mul": Operations._mul, "div": Operations._div,
    "shl": Operations._shifted_left, **dict.fromkeys(_PYTHON, Operations._comparison),
    "and": Operations._and_or, "or": Operations._and_or, "not": Operations._not, "min": Operations._extreme,
    "max": Operations._extreme, "null": Operations._null, "valid": Operations._valid, "debug": Operations._debug,
}  # fmt: skip


def called(word: FunctionWord) -> str:
    """Return a function's name in the code."""
    return f"word_{word.name}"


def _word_of(form: Form) -> str:
    name = form.items[0].name
    return OPERATORS.get(name, name)


def _joined(values: Sequence[Expression]) -> str:
    return reduce(joined, (value.type for value in values))


def _number(types: set[str]) -> str:
    if "float" in types:
        return "float"
    return "int" if types <= {"int", "bool"} else "num"


def _null_test(value: Expression) -> str:
    text = value.text
    if value.const:
        return str(value.constant is None or value.constant == "")
    if value.type in NUMBERS or value.type in ENTITIES or value.type == "fn":
        return "False"
    if value.type in ("str", "list", "guests"):
        return f"not {text}"
    return f"({text} is None or {text}.__class__ is not int and {text}.__class__ is not float and empty({text}))"


def _valid_test(value: Expression) -> str:
    if value.const:
        return str(value.constant is not None)
    return "True" if value.type in SCALARS and value.type != "nil" else f"{value.text} is not None"
