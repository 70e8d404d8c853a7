"""Terms say what the evaluator computes: compared on random programs and snapshots."""

from __future__ import annotations

import math
import random
from fractions import Fraction
from typing import Any

import pytest
from bounded_programs import bounded_program
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_declared import DECLARED, GUEST, HOST
from random_programs import program
from term_values import Unknowable, value_of

from mom_core import Snapshot, Unit
from mom_core.testing import snapshot
from mom_plugins_policy import Policy, PolicyError
from mom_plugins_policy.language.words.ranges import CertainlyWrong, number_range
from mom_plugins_policy.language.words.vocabulary import FLOAT, INFINITE, INT, NAN, NIL, STRING, Vocabulary
from mom_plugins_policy.symbols.machine import PathFails, SymbolicEvaluator, Unsupported
from mom_plugins_policy.symbols.terms import Terms

CONTROLS = ("balloon_target", "k", "share")


def random_fields(choose: random.Random, units: dict[str, Unit], missing: float) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, unit in units.items():
        if choose.random() < missing or unit in (Unit.TEXT, Unit.LIST):
            if choose.random() < 0.5:
                fields[name] = None
        else:
            fields[name] = choose.choice((0, 1, 2, 7, 100, 4096, 1 << 20, (1 << 40) - 1, choose.randrange(1 << 22)))
            if unit in (Unit.PERCENT, Unit.RATIO, Unit.SECONDS):
                fields[name] = float(fields[name]) / 8
    return fields


def random_snapshot(choose: random.Random, missing: float) -> Snapshot:
    def fields() -> dict[str, Any]:
        return {f"vm{number}": random_fields(choose, GUEST, missing) for number in range(choose.randrange(1, 4))}

    older = [{"host": random_fields(choose, HOST, missing), "guests": fields()} for _ in range(choose.randrange(3))]
    return snapshot(random_fields(choose, HOST, missing), fields(), {"host": {"interval": 5.0}}, older)  # type: ignore[arg-type]  # plain values


def agree(text: str, choose: random.Random) -> int:
    """Compare what is asked for by the evaluator and by the terms; how often there was something to compare."""
    try:
        policy = Policy.compile({"p": text}, DECLARED)
    except PolicyError:
        return 0
    machine = SymbolicEvaluator(policy.program, Vocabulary(DECLARED))
    dead = False
    try:
        machine.run()
    except Unsupported:
        return 0
    except PathFails:
        dead = True
    compared = 0
    for _ in range(6):
        taken = random_snapshot(choose, choose.choice((0.0, 0.0, 0.2)))
        result = policy.evaluate(taken)
        failed = {fault.guest for fault in result.errors}
        if result.stopped:
            continue
        for guest in taken.guests.values():
            if guest.name in failed:
                continue
            assert not dead, "it was said that every evaluation fails"
            asked = {decision.control: decision.value for decision in result.decisions if decision.entity.name == guest.name}
            for control in ("balloon_target", "share"):
                try:
                    expected = value_of(machine.requested(machine.terms.guest(0), control), taken, guest)
                except Unknowable:
                    continue
                if isinstance(expected, float) and control == "balloon_target":
                    expected = int(expected)
                assert asked.get(control) == expected, (control, taken)
                compared += 1
    return compared


def seeded(seeds: range) -> list[random.Random]:
    return [random.Random(seed) for seed in seeds]  # noqa: S311  # the same programs each time, and no secret


@pytest.mark.long
def test_terms_agree_with_the_evaluator_on_programs_that_ask_for_controls() -> None:
    assert sum(agree(bounded_program(choose.randrange), choose) for choose in seeded(range(250))) > 500


@pytest.mark.long
def test_terms_agree_with_the_evaluator_on_odd_programs() -> None:
    assert sum(agree(program(choose.randrange), choose) for choose in seeded(range(250))) > 100


# --- terms -------------------------------------------------------------------------------------------------------------------------

TERMS = Terms(Vocabulary(DECLARED))
CUR, MAX = TERMS.field(TERMS.guest(0), "balloon_cur"), TERMS.field(TERMS.guest(0), "balloon_max")


def test_equal_terms_are_one_object() -> None:
    assert TERMS.operation("add", (CUR, MAX)) is TERMS.operation("add", (CUR, MAX))
    assert TERMS.const(1) is not TERMS.const(1.0)
    assert TERMS.const(True) is not TERMS.const(1)
    assert TERMS.const(0.0) is not TERMS.const(-0.0)


def test_ranges_and_types_follow_from_the_declarations() -> None:
    assert (CUR.low, CUR.high, CUR.types) == (Fraction(0), Fraction(1 << 40), NIL | INT)
    difference = TERMS.operation("sub", (MAX, CUR))
    assert (difference.low, difference.high, difference.types) == (Fraction(-(1 << 40)), Fraction(1 << 40), INT)
    assert TERMS.operation("div", (CUR, MAX)).types == FLOAT, "a quotient of such numbers cannot overflow, and a division by 0 is an error"
    assert TERMS.field(TERMS.guest(0), "os").types == NIL | STRING


def test_bounds_of_products_of_products_stay_small_and_true() -> None:
    term, least = CUR, TERMS.operation("add", (CUR, TERMS.const(2)))
    for _ in range(200):
        term, least = TERMS.operation("mul", (term, term)), TERMS.operation("mul", (least, least))
    assert term.low == 0
    assert term.high is None
    assert least.low is None or least.low >= 2
    assert all(bound is None or bound.numerator.bit_length() < 20_000 for bound in (least.low, least.high))


def test_overflow_is_seen() -> None:
    large = TERMS.operation("mul", (TERMS.const(1e300), CUR))
    assert large.types == FLOAT | INFINITE | NAN
    assert large.high is None


OPERANDS = st.one_of(
    st.lists(st.integers(-(2**70), 2**70), min_size=3, max_size=3),
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=3, max_size=3),
).map(sorted)


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(["add", "sub", "mul", "div"]), OPERANDS, OPERANDS)
def test_ranges_hold_for_what_is_computed(name: str, left: list[float], right: list[float]) -> None:
    ranges = [(TERMS.const(low).low, TERMS.const(high).high, TERMS.const(low).types) for low, _, high in (left, right)]
    low, high, types = number_range(name, ranges[0], ranges[1])
    try:
        found = TERMS.operation(name, [TERMS.const(left[1]), TERMS.const(right[1])])
    except CertainlyWrong:
        return
    assert found.types & types
    if found.low is not None:
        assert low is None or low <= found.low
        assert high is None or found.low <= high


def test_a_term_with_many_parts_is_shown_in_short() -> None:
    term = CUR
    for _ in range(200):
        term = TERMS.operation("add", (term, term))
    assert math.log2(float(term.high or 0)) == 240
    assert len(repr(term)) < 400
