"""Why a guest got what it got, in words: the conditions around a request."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from old_policies import MOM_BALLOON
from policy_fixture import fixture
from random_programs import program

from mom_core import ControlSpec, Declarations, FieldSpec, Scope, Snapshot, Unit, Value
from mom_core.testing import snapshot
from mom_plugins_policy import Policy, PolicyError
from mom_plugins_policy.notes import NoteStore
from mom_plugins_policy.tools.reasons import said

MIB = 1024
SIZE = "balloon_target"
GUEST: Mapping[str, Value] = {
    "balloon_cur": 1000 * MIB,
    "balloon_max": 2000 * MIB,
    "balloon_min": 0,
    "mem_unused": 600 * MIB,
    "swap_in": 2048,
}
DECLARED = Declarations(
    fields={
        (scope, name): FieldSpec(name, Unit.KIB_PER_SECOND if name == "swap_in" else Unit.KIB, scope, "")
        for scope, names in ((Scope.HOST, ("mem_free", "mem_available")), (Scope.GUEST, (*GUEST, "absent")))
        for name in names
    },
    controls={SIZE: ControlSpec(SIZE, Unit.KIB, Scope.GUEST, "", "balloon_cur")},
)
TAKEN = snapshot(
    host={"mem_free": 1000 * MIB, "mem_available": 16000 * MIB}, guests={"web": GUEST, "db": GUEST}, properties={"host": {"interval": 5.0}}
)


def why(text: str, name: str = "web", control: str = SIZE, taken: Snapshot = TAKEN) -> str:
    result = Policy.compile({"p": text}, DECLARED).evaluate(taken)
    return said(result, taken.guests[name], control)


class TestTheConditions:
    def test_comparisons_are_told_with_their_values_the_outermost_first(self) -> None:
        text = """(if (< Host.mem_free (* 0.2 Host.mem_available))
            (with Guests g (if (> g.swap_in 4096) 0 (g.Control "balloon_target" (* 0.9 g.balloon_cur)))) 0)"""
        assert why(text) == (
            "the host's mem_free (1,000 MiB) is less than (* 0.2 Host.mem_available) (3.12 GiB); its swap_in (2,048 KiB/s) is not "
            "more than 4,096 KiB/s"
        )

    def test_variables_notes_and_functions_are_followed(self) -> None:
        assert why(MOM_BALLOON) == (
            "host_free_percent (0.0625) is less than pressure_threshold (0.2); "
            "shrink_size (950 MiB) is at most its balloon_cur (1,000 MiB) and (change_is_big_enough guest shrink_size) is true"
        )
        text = '(with Guests g (g.SetVar "n" 3)) (with Guests g (if (== (g.GetVar "n") 3) (g.Control "balloon_target" 5) 0))'
        assert why(text) == '(g.GetVar "n") (3) is equal to 3'

    @pytest.mark.parametrize(
        ("condition", "words"),
        [
            ("(not (> g.swap_in 9999))", "its swap_in (2,048 KiB/s) is not more than 9,999 KiB/s"),
            ("(and (valid g.swap_in) (null g.absent))", "its swap_in (2,048 KiB/s) is known and its absent is unknown"),
            ("(or (> g.swap_in 1) (> g.swap_in 9999))", "its swap_in (2,048 KiB/s) is more than 1 KiB/s"),
            ("(g.Recall 'x' 1)", '(g.Recall "x" 1) is true'),
            ("g.swap_in", "its swap_in (2,048 KiB/s) is true"),
        ],
    )
    def test_conditions_have_their_words(self, condition: str, words: str) -> None:
        assert why(f'(with Guests g (if {condition} (g.Control "balloon_target" 5) 0))') == words

    def test_of_a_conjunction_that_failed_only_what_was_false_is_told(self) -> None:
        text = '(with Guests g (if (and (> g.swap_in 1) (> g.mem_unused 4)) 0 (g.Control "balloon_target" 5)))'
        assert why(text.replace("(> g.mem_unused 4)", "(< g.mem_unused 4)")) == "its mem_unused (600 MiB) is not less than 4 KiB"

    def test_a_variable_has_the_value_in_the_words_that_it_had_when_the_condition_was_decided(self) -> None:
        body = '(with Guests g (if (< part 3) (g.Control "balloon_target" 5) 0))'
        assert why(f"(defvar part 1) (set part 2) {body} (set part 9)") == "part (2) is less than 3"
        assert why(f"(defvar part 1) (let ((part 2)) {body})") == "part (2) is less than 3"
        assert why(f"(defvar part 1) (defvar part 9) {body}") == "part (1) is less than 3", "a defvar of what is bound does nothing"
        assert why(f'(defvar none "") (with none part part) (defvar part 1) {body}') == "part (1) is less than 3"
        count = '(defvar n 0) (with Guests g { (set n (+ n 1)) (if (< n 9) (g.Control "balloon_target" 5) 0) })'
        assert {why(count, name) for name in ("web", "db")} == {"n (1) is less than 9", "n (2) is less than 9"}

    def test_a_note_has_the_value_that_it_had_then(self) -> None:
        text = """(with Guests g {
            (g.SetVar "n" 1) (if (== (g.GetVar "n") 1) (g.Control "balloon_target" 5) 0) (g.SetVar "n" 2) })"""
        assert why(text) == '(g.GetVar "n") (1) is equal to 1'

    def test_what_was_remembered_then_decides_and_not_what_is_remembered_now(self) -> None:
        store = NoteStore()
        text = """(with Guests g {
            (if (< (g.Recall "times" 0) 1) (g.Control "balloon_target" 5) (g.Control "balloon_target" 6))
            (g.Remember "times" (+ 1 (g.Recall "times" 0))) })"""
        policy = Policy.compile({"p": text}, DECLARED)
        for words in ("(0) is less than 1", "(1) is not less than 1", "(2) is not less than 1"):
            result = policy.evaluate(TAKEN, notes=store.now())
            store.keep(result.notes, TAKEN)
            assert said(result, TAKEN.guests["web"], SIZE) == f'(g.Recall "times" 0) {words}'

    def test_the_branch_that_is_told_is_the_one_that_was_taken(self) -> None:
        taken = snapshot(host={"mem_free": 1}, guests={"web": {"os": ""}})
        text = '(with Guests g (if (null g.os) (g.Control "balloon_target" 5) (g.Control "balloon_target" 6)))'
        result = Policy.compile({"p": text}).evaluate(taken)
        assert [decision.value for decision in result.decisions] == [5]
        assert said(result, taken.guests["web"], SIZE) == "its os is empty"
        text = '(def f (n) (if (< n 1) 0 (if (> n 1) (f (- n 1)) 0))) (with Guests g (if (== (f 3) 0) (g.Control "balloon_target" 5) 0))'
        assert why(text) == "(f 3) (0) is equal to 0"

    def test_the_last_request_counts_of_several_by_one_form(self) -> None:
        text = """(def ask (g n) (if (> n 0) (g.Control "balloon_target" n) 0))
                  (defvar letters "ab") (defvar n 1)
                  (with Guests g (with letters c { (ask g n) (set n (+ n 1)) }))"""
        assert why(text, "db") == "n (2) is more than 0"
        assert why(text, "web") == "n (4) is more than 0", "it comes after db"

    def test_a_choice_within_the_branch_that_is_decided_later_does_not_hide_the_one_around_it(self) -> None:
        text = """(def f (g n) (if (< n 3) { (if (> n 0) (f g (- n 1)) 0) (g.Control "balloon_target" n) } 0))
                  (with Guests g (f g 2))"""
        assert why(text) == "n (2) is less than 3", "the outermost call asks last"

    def test_nothing_is_written_to_the_log_again(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("DEBUG", "mom.policy")
        assert why('(with Guests g (if (debug "x" (> g.swap_in 1)) (g.Control "balloon_target" 5) 0))')
        assert len([one for one in caplog.records if one.getMessage().startswith("x")]) == 2, "one for each guest"

    def test_without_a_condition_or_a_request_nothing_is_said(self) -> None:
        assert why('(with Guests g (g.Control "balloon_target" 5))') == ""
        assert why("(+ 1 2)") == ""
        assert why('(with Guests g (if 1 (g.Control "balloon_target" nil) 0))') == ""

    def test_variables_that_are_made_of_each_other_again_and_again_cost_little(self) -> None:
        names = [f"v{number}" for number in range(39)]
        chain = " ".join(f"(defvar {one} (+ {before} {before}))" for before, one in pairwise(names))
        squares = chain.replace("+", "*")
        for text in (chain, squares):
            told = why(f'(defvar v0 1) {text} (with Guests g (if (> v38 0) (g.Control "balloon_target" 5) 0))')
            assert told in ("v38 (274,877,906,944) is more than 0", "v38 (1) is more than 0")

    def test_conditions_as_deep_as_they_may_be_are_told_or_quoted(self) -> None:
        depth = min(90, sys.getrecursionlimit() // 4)
        told = why("(with Guests g (if " + "(not " * depth + "g.swap_in" + ")" * depth + ' (g.Control "balloon_target" 5) 0))')
        assert told.endswith(("is true", "is false"))


@pytest.mark.long
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_something_or_nothing_is_said_of_whatever_program(data: st.DataObject) -> None:
    text = program(lambda count: data.draw(st.integers(0, count - 1)))
    taken = fixture()
    try:
        result = Policy.compile({"p": text}).evaluate(taken)
    except PolicyError:
        return
    controls = {decision.control for decision in result.decisions} | {"a", "t", SIZE}
    for guest in taken.guests.values():
        for control in controls:
            assert len(said(result, guest, control)) <= 600
