"""The compiled policy and the plain interpreter agree: on random programs, in values, errors with their positions, and decisions."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plain_interpreter import Plain
from policy_fixture import fixture
from random_programs import program

from mom_core import Guest, Host
from mom_plugins_policy import Policy, PolicyError
from mom_plugins_policy.language import analysis
from mom_plugins_policy.language.analysis import Program
from mom_plugins_policy.language.compiling import forms
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


def every_function_stands_alone(whole: Program, order: object, largest: int) -> int:
    for definition in whole.functions():
        definition.inline = False
    return 0


@pytest.fixture(params=["inlined", "alone", "apart", "alone and apart"])
def shape(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The ways in which code can be made: functions repeated or standing alone, forms together or in functions of their own."""
    if "alone" in request.param:
        monkeypatch.setattr(analysis, "_expanded", every_function_stands_alone)
    if "apart" in request.param:
        monkeypatch.setattr(forms, "_DEEP", 3)
        monkeypatch.setattr(forms, "_BLOCKS", 1)
    return str(request.param)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(4))
def test_random_programs_agree_however_they_are_compiled(shape: str, seed: int) -> None:
    choose = random.Random(f"{shape} {seed}")  # noqa: S311  # programs are no secrets
    for _ in range(60):
        check(program(choose.randrange))


@pytest.mark.long
@given(st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_any_program_agrees(data: st.DataObject) -> None:
    def choose(count: int) -> int:
        return data.draw(st.integers(0, count - 1))

    check(program(choose))


FOUND = [
    # What random programs have found, each as small as it can be.
    "(def f () (set d 100)) (defvar d 0) (let ((d (f))) 1) d (f (f))",
    "(defvar b 2.5) (def g () (null (let () (defvar b -3)) (set b 's'))) (g) b (d (def g () d))",
    "(def g (a b) 1) (g '' a) (eq (def f () a))",
    "(with Guests a (a.Control 'k' (set a (set a 100))))",
    "(set b (Host.Control (set c 100) (+ c Host.cpu_count)))",
    "(with Guests d (d.Remember (eq 1 (h 2)) (- 1 (g 100))))",
    "(let ((if 100)) (if 1 2 3))",
    "(== (- 1 2) nil)",
    "(with Guests a (with Guests b (min 0.5 a.balloon_cur Host)))",
    "(defvar f (abs -1)) (def f () 2) (f)",
    "(def f (n) (if (< n 1) (set v n) (let ((v 5)) { (f (- n 1)) v }))) (defvar v 1) (f 2) v",
    "(def f () (defvar w 1)) (if Host.mem_free (def g () (f)) 0) (g) (g) (def f () 7) (g)",
    "(with Guests Guests (with Guests g 1))",
    "(defvar x (with Guests g g)) (with x y (y.Control 'k' 1)) (== x x)",
    "(debug (with Guests g (set Host g))) Host.balloon_cur",
    "(def f () (with Guests g 1)) (def h (n) (if n (f) 0)) (* 2 (h 1)) (== (h 1) (h 1))",
    "(def f (n) (if (< n 1) (with Guests g n) (f (- n 1)))) (+ (f 2) (f 0))",
    "(def f (n) (if (< n 1) v (g (- n 1)))) (def g (n) (let ((v (+ v 1))) (f n))) (defvar v 0) (f 5) (g 3) v",
]

EXTENSIONS = [
    # Policies that have something of their own by the name of a word that the language was given later.
    "(def sqrt (a b) (- a b)) (sqrt 9 4)",
    "(if 0 (def sqrt (x) 7) 0) (sqrt 4)",
    "(sqrt 4) (def sqrt (x) 7)",
    "(def f () (sqrt 4)) (def sqrt (x) 7) (f) (def sqrt (x) 8) (f)",
    "(with Guests g { (defun sqrt (x) (+ x g.balloon_cur)) (sqrt 1) })",
    "(defvar sqrt 3) (+ sqrt (sqrt 4))",
    "(defvar sqrt abs) (sqrt -9)",
    "(let ((sqrt Host.Stat)) (sqrt 'mem_free'))",
    "(def f (sqrt) (sqrt 4)) (f 2)",
    "(sqrt -1)",
    "(with Guests g (sqrt g.balloon_cur))",
    "sqrt",
    "(def cond (a b) (- a b)) (cond 9 4)",
    "(if 0 (def cond (x) 7) 0) (cond (1 2))",
    "(cond (1 2)) (def cond (x) 7)",
    "(defun cond (c a b) (if c a b)) (cond (abs 1) (cond 0 1 2) 3)",
    "(defvar cond abs) (cond -9)",
    "(defvar cond (< 1 2)) (if cond 1 2)",
    "(let ((cond Host.Stat)) (cond 'mem_free'))",
    "(def f (cond) (if cond 1 2)) (f 0)",
    "(with Guests cond cond.balloon_max)",
    "(defvar else 0) (cond (else 5))",
    "(cond (0 1) (else 2) (1 3))",
    "(defvar else 1) (cond (0 1) (else 2) (1 3))",
    "(if 0 (cond) (if 0 (cond 1 2) 3))",
    "cond",
]


@pytest.mark.parametrize("text", EXTENSIONS)
def test_what_a_policy_calls_like_a_later_word_is_its_own(shape: str, text: str) -> None:
    check(text)


@pytest.mark.parametrize("text", FOUND)
def test_programs_that_were_once_wrong_agree(shape: str, text: str) -> None:
    check(text)


def test_the_plain_interpreter_fails_where_the_language_does() -> None:
    """The comparison would be worth little if the interpreter only ever agreed by failing in the first form."""
    choose = random.Random(7)  # noqa: S311  # programs are no secrets
    through = 0
    for _ in range(200):
        text = program(choose.randrange)
        try:
            policy = Policy.compile({"p": text})
        except PolicyError:
            continue
        through += not Plain(list(policy.program.forms), SNAPSHOT).run().stopped
    assert through >= 10
