"""Section 14 of the language reference, row by row: where we follow the original, and where we do better than it."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from policy_fixture import fixture

from mom_core import Declarations, Snapshot
from mom_core.testing import snapshot
from mom_plugins_policy import Policy, PolicyError, Result


def run(text: str, snap: Snapshot | None = None) -> Result:
    return Policy.compile({"50_main_": text}).evaluate(snap or fixture())


def last(text: str) -> Any:
    result = run(text)
    assert not result.errors, [str(error) for error in result.errors]
    return result.values[-1]


def kinds(result: Result) -> list[str]:
    return [error.kind for error in result.errors]


def refused(texts: dict[str, Any]) -> PolicyError:
    with pytest.raises(PolicyError) as caught:
        Policy.compile(texts)
    return caught.value


def asked(result: Result) -> dict[tuple[str, str], Any]:
    return {(decision.entity.name, decision.control): decision.value for decision in result.decisions}


# --- rows 1 to 7: loading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", " \n", "# nothing but this", "# nothing\n# at all\n", "\ufeff", "\ufeff# a comment"])
def test_row_03_a_policy_without_forms_does_nothing(text: str) -> None:
    assert run(text).values == []
    assert Policy.compile({"10_empty": text, "20_other": "7"}).evaluate(fixture()).values == [7]


@pytest.mark.parametrize("text", [5, None, b"1", ["1"]])
def test_row_04_a_text_that_is_no_string_is_refused(text: object) -> None:
    assert refused({"50_main_": text}).name == "50_main_"


def test_row_05_each_policy_is_complete_by_itself() -> None:
    error = refused({"10_first": '(defvar a "', "20_second": '")'})
    assert (error.kind, error.name) == ("syntax", "10_first")
    assert [fault.name for fault in error.faults] == ["10_first", "20_second"]


def test_row_07_positions_count_lines_of_comments_and_strings_in_their_own_policy() -> None:
    texts = {"10_long": "1\n" * 50, "20_short": '# one\n"two\nthree"\n   (set never 1)'}
    (error,) = Policy.compile(texts).evaluate(fixture()).errors
    assert (error.kind, error.name, error.line, error.column) == ("undefined-symbol", "20_short", 4, 4)


# --- rows 8 to 11: a guest's trouble, and names ------------------------------------------------------------------------------------


def test_row_08_one_nil_fails_its_guest_only() -> None:
    result = run(
        """
        (with Guests guest (guest.Control "early" 1))
        (with Guests guest {
            (guest.Control "balloon_target" (- guest.balloon_cur 10))
        })
        """
    )
    (error,) = result.errors
    assert (error.kind, error.guest, error.line, error.column) == ("type", "vm2", 4, 45)
    assert error.values == ("guest.balloon_cur is nil",)
    assert result.values == [[None, None], [None, None]]
    assert asked(result) == {("vm1", "early"): 1, ("vm1", "balloon_target"): 90}


def test_row_08_the_failed_guest_is_that_of_the_innermost_loop() -> None:
    result = run('(with Guests g { (g.Control "k" 1) (with Guests h { (h.Control "j" 1) (+ 1 h.balloon_cur) }) })')
    assert {error.guest for error in result.errors} == {"vm2"}
    assert asked(result) == {("vm1", "k"): 1, ("vm1", "j"): 1}


def test_row_08_the_host_and_variables_keep_what_a_failed_step_did_before() -> None:
    result = run('(defvar n 0) (with Guests g { (set n (+ n 1)) (Host.Control "k" n) (+ 1 g.balloon_cur) }) n')
    assert result.values[-1] == 2
    assert asked(result) == {("host", "k"): 2} or asked(result) == {("h1", "k"): 2}


def test_row_09_numbers_that_arrive_as_strings_fail_their_guest_only() -> None:
    snap = snapshot(guests={"a": {"balloon_min": "100", "balloon_max": 200}, "b": {"balloon_min": 100, "balloon_max": 200}})
    result = run('(with Guests g (g.Control "balloon_target" (max g.balloon_min (* 0.1 g.balloon_max))))', snap)
    assert [(error.kind, error.guest) for error in result.errors] == [("type", "a")]
    assert asked(result) == {("b", "balloon_target"): 100}


def test_row_10_a_parameter_of_an_unknown_name_fails_with_its_position() -> None:
    result = Policy.compile({"00-defines": "(defvar known 1)", "01-parameters": "(set known 2)\n(set unknown 3)"}).evaluate(fixture())
    (error,) = result.errors
    assert (error.kind, error.name, error.line, error.column) == ("undefined-symbol", "01-parameters", 2, 1)
    assert not result.decisions


# --- rows 12 to 16: functions and scopes -------------------------------------------------------------------------------------------


# --- rows 17 to 21: reach ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "Host.__class__", "Host.fields", "Host.entity", "Host.properties", "Host.Prop.__self__", "Host.Prop.__globals__", "Host.Prop._call",
        "Guests.members", "Guests.__len__", "s.upper", "s.format", "abs.__call__", "abs.name", "nil.__class__", "n.bit_length", "l.append",
        "Host.Control.__init__", "Guests.count",
    ],
)  # fmt: skip
@pytest.mark.parametrize("use", ["{}", "({})", "(with {} x x)", "(debug {})", "(let ((v {})) v)"])
def test_row_17_nothing_but_the_language_can_be_reached(name: str, use: str) -> None:
    result = run(f'(defvar s "text") (defvar n 5) (defvar l (with Guests g 1)) {use.format(name)}')
    assert kinds(result) in (["undefined-symbol"], ["unknown-function"])


def test_row_19_chains_of_attributes_are_resolved() -> None:
    text = "(with Guests g (if (valid g.io_tune) (with g.io_tune t t.maximum.total_bytes_sec) nil))"
    assert last(text) == [[500], None]
    assert kinds(run("Host.mem_free.x")) == ["undefined-symbol"]
    assert kinds(run("(Host.swap_total 1)")) == ["undefined-symbol"]


# --- rows 22 to 25: notes, fields, controls ----------------------------------------------------------------------------------------


def test_row_24_a_misspelt_field_fails_its_guest_only() -> None:
    result = run('(with Guests g (g.Stat "typo")) (with Guests g g.typo) 5')
    assert [(error.kind, error.guest) for error in result.errors] == [
        ("unknown-field", "vm1"), ("unknown-field", "vm2"), ("undefined-symbol", "vm1"), ("undefined-symbol", "vm2"),
    ]  # fmt: skip
    assert result.values[-1] == 5


def test_row_25_digits_booleans_and_nil_are_as_before() -> None:
    result = run('(Host.Control "a" "12") (Host.Control "b" (< 1 2)) (Host.Control "c" nil) (Host.Control "d" 5) (Host.Control "d" nil)')
    assert {control: value for (_, control), value in asked(result).items()} == {"a": 12, "b": 1}
    assert not result.errors


# --- rows 28 to 31: limits and habits ----------------------------------------------------------------------------------------------


def test_row_29_a_guest_that_uses_up_its_steps_fails_alone() -> None:
    text = """
    (def spin (n) (if (< n 1) 0 (+ (spin (- n 1)) (spin (- n 1)))))
    (with Guests g (if (valid g.balloon_cur) (spin 100) (g.Control "k" 1)))
    """
    result = run(text)
    assert [(error.kind, error.guest) for error in result.errors] == [("limit", "vm1")]
    assert asked(result) == {("vm2", "k"): 1}


# --- section 15: what the shipped policies rely on ---------------------------------------------------------------------------------


def test_shipped_policies_may_debug_entities(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "mom.policy"):
        assert last('(debug "host:" Host nil 5)') == 5
    assert caplog.messages == ["host: <Host> nil 5"]


def test_shipped_policies_define_truth_and_take_parameters() -> None:
    texts = {
        "00-defines": "# vdsm\n(defvar False 0)\n(defvar True 1)\n(defvar balloonEnabled True)(defvar share 0.1)",
        "01-parameters": "(set balloonEnabled False)\n(set share 1e-05)\n(set name 'text')\n",
        "02-balloon": "(def change (g) { # a comment\n (defvar size g.balloon_max)"
        " (g.Control 'balloon_target' (* size # between\n share)) })"
        "(if (== balloonEnabled True){(with Guests g (change g))}{(debug 'off')})",
        "99-comment-only": "# no line break",
    }
    texts["00-defines"] += "(defvar name 'other')"
    result = Policy.compile(texts).evaluate(fixture())
    assert not result.errors
    assert not result.decisions
    texts["01-parameters"] = texts["01-parameters"].replace("balloonEnabled False", "balloonEnabled True")
    assert asked(Policy.compile(texts).evaluate(fixture())) == {
        ("vm1", "balloon_target"): pytest.approx(0.002),
        ("vm2", "balloon_target"): pytest.approx(0.004),
    }


def test_fields_are_declared_by_the_snapshot_or_by_plugins() -> None:
    snap = snapshot(host={"mem_free": 1})
    assert Policy.compile({"p": "Host.mem_free"}).evaluate(snap).values == [1]
    assert [error.kind for error in Policy.compile({"p": "Host.mem_free"}, Declarations()).evaluate(snap).errors] == ["undefined-symbol"]


def test_debug_writes_one_line_whatever_it_is_given(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "mom.policy"):
        Policy.compile({"p": '(debug "x\n2026-01-01 ERROR mom.engine: all is lost" "\x1b[2J")'}).evaluate(snapshot())
    assert caplog.messages == [r"x\n2026-01-01 ERROR mom.engine: all is lost \x1b[2J"]
