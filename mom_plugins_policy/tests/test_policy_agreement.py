"""The compiled policy and the plain interpreter agree: on random programs, in values, errors with their positions, and decisions."""

import math
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plain_interpreter import Plain
from policy_fixture import fixture
from random_programs import program

from mom_core import Guest, Host
from mom_plugins_policy import Policy, PolicyError
from mom_plugins_policy.language.reader import read
from mom_plugins_policy.language.values import Disk, Function, Guests, Record

SNAPSHOT = fixture()
LIMITS = {"recursion", "limit"}  # the plain interpreter knows of no limits


def comparable(value: Any) -> Any:
    """A value as something that both sides have."""
    if isinstance(value, Function | Disk):
        return type(value).__name__
    if isinstance(value, Record):
        return ("part", sorted(value.items()))
    if isinstance(value, list | Guests):
        return [comparable(item) for item in value]
    if isinstance(value, Host | Guest):
        return value.name
    if isinstance(value, float) and math.isnan(value):
        return "nan"
    return (type(value).__name__, value)


def check(text: str) -> None:
    """Both ways of evaluating a text, compared."""
    try:
        policy = Policy.compile({"p": text})
    except PolicyError as error:
        assert error.kind in ("malformed", "bad-literal"), text  # noqa: PT017  # any other kind would be a mistake of the compiler
        return
    result = policy.evaluate(SNAPSHOT)
    errors = sorted((error.kind, error.line, error.column, error.guest or "") for error in result.errors)
    assert not any(error.kind == "internal" for error in result.errors), (text, [str(error) for error in result.errors])
    if any(error.kind in LIMITS for error in result.errors):
        return
    plain = Plain(read("p", text), SNAPSHOT).run()
    if any(kind in LIMITS for kind, *_ in plain.errors):
        return
    assert errors == sorted((kind, line, column, guest or "") for kind, line, column, guest in plain.errors), text
    assert comparable(result.values) == comparable(plain.values), text
    decisions = {(one.entity.id, one.control): comparable(one.value) for one in result.decisions if one.control != "io_tune"}
    expected = {key: comparable(value) for key, value in plain.decisions().items() if isinstance(key[1], str)}
    assert decisions == expected, text


@pytest.mark.long
@pytest.mark.parametrize("seed", range(4))
def test_random_programs_agree_however_they_are_compiled(seed: int) -> None:
    choose = random.Random(f"{seed}")  # noqa: S311  # programs are no secrets
    for _ in range(60):
        check(program(choose.randrange))


@pytest.mark.long
@given(st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_any_program_agrees(data: st.DataObject) -> None:
    def choose(count: int) -> int:
        return data.draw(st.integers(0, count - 1))

    check(program(choose))


FOUND = [line for line in (Path(__file__).parent / "agreement.txt").read_text().splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("text", FOUND)
def test_programs_that_were_once_wrong_and_those_with_words_of_their_own_agree(text: str) -> None:
    check(text)
