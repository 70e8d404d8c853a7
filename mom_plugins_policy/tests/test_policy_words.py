"""Every part of the language knows every word, and says of it what is so: one test for each thing that a record says."""

from __future__ import annotations

import contextlib
import itertools
import math
from typing import Any

import pytest
from plain_interpreter import Plain
from policy_fixture import fixture
from test_policy_agreement import comparable

from mom_core import Declarations, FieldSpec, Scope, Unit
from mom_plugins_policy import Policy
from mom_plugins_policy.symbols.ranges import CertainlyWrong
from mom_plugins_policy.symbols.terms import Term, Terms
from mom_plugins_policy.symbols.vocabulary import FLOAT, INFINITE, INT, LIST, NAN, NIL, NUMBER, STRING, Vocabulary
from mom_plugins_policy.words.forms import SPECIAL_FORMS
from mom_plugins_policy.words.functions import BUILTINS, FUNCTIONS, FunctionWord, covers
from mom_plugins_policy.words.units import ANY, UNKNOWN, Measured, dimension_of_unit

WORDS = list(FUNCTIONS.values())
COUNTS = (0, 1, 2, 3)
VALUES: dict[str, Any] = {"nil": None, "0": 0, "2": 2, "-3": -3, "7": 7, "0.5": 0.5, "-0.25": -0.25, "1e300": 1e300, '""': "", '"s"': "s"}

RANGES = ((0, 0), (1, 9), (-4, -1), (-5, 6), (0, 1 << 40), (3, 3))
"""Of numbers that a field may have."""


def kind_of(error: Exception) -> str:
    kinds = {TypeError: "type", ZeroDivisionError: "zero-division", OverflowError: "range", ValueError: "range", MemoryError: "limit"}
    return next(kind for one, kind in kinds.items() if isinstance(error, one))


def computed(word: FunctionWord, values: list[Any]) -> Any:
    """A value, or the kind of the error."""
    try:
        return word.compute(*values)
    except (TypeError, ArithmeticError, ValueError, MemoryError) as error:
        return f"! {kind_of(error)}"


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
                    break  # that more arguments are taken is seen from one row

    def test_the_plain_interpreter_agrees(self, word: FunctionWord) -> None:
        for texts in itertools.product(VALUES, repeat=max(1, word.least)):
            policy = Policy.compile({"p": f"({' '.join([word.name, *texts])})"})
            plain = Plain(list(policy.program.forms), fixture()).run()
            result = policy.evaluate(fixture())
            assert [error.kind for error in result.errors] == [kind for kind, *_ in plain.errors]
            assert comparable(list(result.values)) == comparable(plain.values)

    def test_a_nil_is_an_error_where_the_record_is_strict_and_nowhere_else(self, word: FunctionWord) -> None:
        for count in COUNTS:
            if word.takes(count) and count:
                strict = word.strict is not None and count >= word.strict
                failed = computed(word, [None] * count) == "! type"
                assert failed is strict, count

    def test_terms_have_the_types_and_range_of_what_is_computed(self, word: FunctionWord) -> None:
        terms = Terms(Vocabulary(None))
        for count in (1, 2):
            if not word.takes(count):
                continue
            for number, ranges in enumerate(itertools.product(RANGES, repeat=count)):
                for kind in (INT, FLOAT, INT | NIL | STRING):
                    args = [terms.fresh(f"{number}", kind, low, high) for low, high in ranges]
                    self.compare(word, terms, args, ranges, kind)

    def compare(self, word: FunctionWord, terms: Terms, args: list[Term], ranges: Any, kind: int) -> None:
        samples = [[low, high, (low + high) // 2] for low, high in ranges]
        if kind == FLOAT:
            samples = [[float(one) for one in some] + [(some[0] + some[1]) / 3] for some in samples]
        elif kind != INT:
            samples = [[*some, None, "", "s"] for some in samples]
        found: Term | None = None
        with contextlib.suppress(CertainlyWrong):
            found = terms.operation(word.name, args)
        for values in itertools.product(*samples):
            if any(isinstance(value, float) and not low <= value <= high for value, (low, high) in zip(values, ranges, strict=True)):
                continue
            value = computed(word, list(values))
            if value == "! limit":
                continue
            if isinstance(value, str) and value.startswith("! "):
                assert word.fails(args), (word.name, values)
                continue
            assert found is not None, f"{values} do not fail, so not all do"
            self.inside(value, found)

    def inside(self, value: Any, term: Term) -> None:
        types = {type(None): NIL, bool: INT, int: INT, float: FLOAT, str: STRING, list: LIST}[type(value)]
        if isinstance(value, float) and not math.isfinite(value):
            types = NAN if math.isnan(value) else INFINITE
        assert term.types & types, (term, value)
        if types & (INT | FLOAT) and term.types & NUMBER:
            assert term.low is None or value >= term.low, (term, value)
            assert term.high is None or value <= term.high, (term, value)

    def test_a_value_grows_with_its_arguments_as_its_unit_says(self, word: FunctionWord) -> None:
        memory = dimension_of_unit(Unit.KIB)
        for count in (1, 2):
            if not word.takes(count):
                continue
            found = word.unit([Measured(memory)] * count)
            if found in (ANY, UNKNOWN):
                continue
            power = dict(found).get("KiB", 0)
            values = [64.0, 16.0][:count]
            assert computed(word, [4 * value for value in values]) == computed(word, values) * 4.0**power

    def test_a_condition_is_told_with_as_many_arguments_as_it_can_have(self, word: FunctionWord) -> None:
        if word.told is not None:
            holds, fails = word.told
            assert holds != fails
            assert holds.count("{}") == fails.count("{}")
            assert word.takes(holds.count("{}"))

    def test_a_comparison_and_its_mirror_say_the_same(self, word: FunctionWord) -> None:
        if word.mirrored:
            mirror = FUNCTIONS[word.mirrored]
            assert mirror.mirrored == word.name
            assert all(word.compute(a, b) == mirror.compute(b, a) for a, b in itertools.product((1, 2, 3), repeat=2))


def test_a_part_that_does_not_know_a_word_fails_at_import() -> None:
    covers("a part", FUNCTIONS, lambda word: False)
    with pytest.raises(TypeError, match="a part: no record, or no rule, for sqrt"):
        covers("a part", set(FUNCTIONS) - {"sqrt"}, lambda word: False)
    with pytest.raises(TypeError, match="pow"):
        covers("a part", [*FUNCTIONS, "pow"], lambda word: False)


def test_no_word_is_both_a_form_and_a_function() -> None:
    assert not SPECIAL_FORMS.keys() & FUNCTIONS.keys()


def test_extensions_alone_yield_to_functions_of_policies() -> None:
    for name in BUILTINS:
        result = Policy.compile({"p": f'(def {name} () "mine") ({name})'}).evaluate(fixture())
        mine = list(result.values) == [name, "mine"]
        assert mine is BUILTINS[name].extension, name


def test_a_function_has_the_units_of_its_arguments_in_the_checks() -> None:
    from mom_plugins_policy.checks import check

    declared = Declarations(
        fields={(Scope.HOST, name): FieldSpec(name, Unit.KIB, Scope.HOST, "") for name in ("mem_free", "mem_available")}, controls={}
    )
    remarks = check({"p": "(+ (sqrt (* Host.mem_free Host.mem_available)) Host.mem_free)"}, declared)
    assert not [one for one in remarks if one.rule == "units"]
    remarks = check({"p": "(+ (sqrt Host.mem_free) (/ Host.mem_free Host.mem_available))"}, declared)
    assert not [one for one in remarks if one.rule == "units"], "of half a power nothing can be said"
    remarks = check({"p": "(+ (sqrt (* Host.mem_free Host.mem_available)) (* Host.mem_free Host.mem_free))"}, declared)
    assert [one.rule for one in remarks if one.rule == "units"] == ["units"]
