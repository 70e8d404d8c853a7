"""All parts of the language know all words. One test for each property of a word."""

import functools
import itertools
import math
import operator
from typing import Any

import pytest
from policy_fixture import fixture

from mom_core.testing import snapshot
from mom_plugins_policy import Policy
from mom_plugins_policy.language.functions import BUILTINS, FUNCTIONS, FunctionWord
from mom_plugins_policy.language.words import FLOAT, INT, LIST, NIL, STRING

WORDS = list(FUNCTIONS.values())
COUNTS = (0, 1, 2, 3)
VALUES: dict[str, Any] = {"nil": None, "0": 0, "2": 2, "-3": -3, "7": 7, "0.5": 0.5, "-0.25": -0.25, "1e300": 1e300, '""': "", '"s"': "s"}


def test_a_property_that_a_guest_lacks_is_an_error_or_the_second_argument() -> None:
    taken = snapshot(guests={"a": {}, "b": {}}, properties={"a": {"uuid": "a", "flavor": "m1.small"}})
    assert Policy.compile({"50": '(with Guests g (g.Prop "flavor" "none"))'}).evaluate(taken).values == [["m1.small", "none"]]
    assert Policy.compile({"50": '(with Guests g (g.Prop "flavor" nil))'}).evaluate(taken).values == [["m1.small", None]]
    (error,) = Policy.compile({"50": '(with Guests g (g.Prop "flavor"))'}).evaluate(taken).errors
    assert (error.kind, error.guest) == ("missing-property", "b")


def comparable(value: Any) -> Any:
    """Return a value with its type. NaN equals itself."""
    if isinstance(value, list):
        return [comparable(item) for item in value]
    return "nan" if isinstance(value, float) and math.isnan(value) else (type(value).__name__, value)


def kind_of(error: Exception) -> str:
    kinds = {TypeError: "type", ZeroDivisionError: "zero-division", OverflowError: "range", ValueError: "range", MemoryError: "limit"}
    return next(kind for one, kind in kinds.items() if isinstance(error, one))


def computed(word: FunctionWord, values: list[Any]) -> Any:
    """Return a value, or the kind of the error."""
    try:
        return word.compute(*values)
    except (TypeError, ArithmeticError, ValueError, MemoryError) as error:
        return f"! {kind_of(error)}"


def type_of(value: Any) -> int:
    return {type(None): NIL, bool: INT, int: INT, float: FLOAT, str: STRING, list: LIST}[type(value)]


@pytest.mark.parametrize("word", WORDS, ids=lambda word: word.name)
class TestFunctions:
    def test_the_code_computes_what_the_record_says(self, word: FunctionWord) -> None:
        for count in COUNTS:
            for texts in itertools.product(VALUES, repeat=count):
                text = f"({' '.join([word.name, *texts])})"
                result = Policy.compile({"p": text}).evaluate(fixture())
                found = result.values[0] if result.values else f"! {result.errors[0].kind}"
                expected = computed(word, [VALUES[one] for one in texts]) if word.takes(count) else "! arity"
                assert comparable(found) == comparable(expected), text
                if count == 3:
                    break  # one row shows that more arguments are accepted

    def test_a_nil_is_an_error_where_the_record_is_strict_and_nowhere_else(self, word: FunctionWord) -> None:
        for count in COUNTS:
            if word.takes(count) and count:
                strict = word.strict is not None and count >= word.strict
                failed = computed(word, [None] * count) == "! type"
                assert failed is strict, count

    def test_a_value_has_one_of_the_types_that_the_checks_expect(self, word: FunctionWord) -> None:
        for count in COUNTS:
            for values in itertools.product(VALUES.values(), repeat=count) if word.takes(count) and count else ():
                value = computed(word, list(values))
                if not (isinstance(value, str) and value.startswith("! ")):
                    of_arguments = functools.reduce(operator.or_, map(type_of, values))
                    assert type_of(value) & (of_arguments if word.result is None else word.result), values
                if count == 3:
                    break


def test_extensions_alone_yield_to_functions_of_policies() -> None:
    for name in BUILTINS:
        result = Policy.compile({"p": f'(def {name} () "mine") ({name})'}).evaluate(fixture())
        mine = list(result.values) == [name, "mine"]
        assert mine is BUILTINS[name].extension, name
