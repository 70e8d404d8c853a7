"""Explanations: from a decision back to the fields that it was made of, and why other requests were not made."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_fixture import fixture
from policy_verbs import mom_policy
from random_programs import program

from mom_core import Entity, Snapshot
from mom_core.testing import snapshot
from mom_plugins_policy import Policy, PolicyError, PolicyLimits
from mom_plugins_policy.language.policy import Result
from mom_plugins_policy.language.runtime import show
from mom_plugins_policy.tools.explain import EntityExplanation, Missed, Reason, explain
from mom_plugins_policy.tools.trace import traced

SNAPSHOT = snapshot(
    host={"mem_free": 300, "mem_available": 1000},
    guests={"vm1": {"balloon_cur": 100, "balloon_max": 200}, "vm2": {"balloon_cur": 50, "balloon_max": 400}, "vm3": {"balloon_max": 10}},
)


def entity(name: str, taken: Snapshot = SNAPSHOT) -> Entity:
    return taken.host.entity if name == "host" else taken.guests[name].entity


def explained(text: str, name: str = "vm1", taken: Snapshot = SNAPSHOT) -> EntityExplanation:
    return explain(Policy.compile({"p": text}), taken, entity(name, taken))


def lines(reason: Reason | None, depth: int = 0) -> Iterator[str]:
    """A reason as indented text."""
    if reason is not None:
        extra = "".join(f" [{word}]" for word in (reason.how, reason.branch) if word)
        yield f"{' ' * depth}{reason.text} = {show(reason.value)}{extra}"
        for part in reason.parts:
            yield from lines(part, depth + 1)


def reason(text: str, name: str = "vm1") -> list[str]:
    return list(lines(explained(text, name).requests[-1].reason))


def conditions(text: str, name: str = "vm1") -> list[str]:
    return [f"{one.kind} {one.text} {show(one.value)}" for one in explained(text, name).requests[-1].conditions]


def test_a_value_is_followed_through_variables_to_fields() -> None:
    text = '(defvar share 0.5) (with Guests g (let ((size g.balloon_cur)) (g.Control "t" (* share (+ size 10)))))'
    assert reason(text) == [
        "(* share (+ size 10)) = 55.0",
        " share = 0.5 [defvar]",
        " size = 100 [let]",
        "  g.balloon_cur = 100",
    ]


def test_a_literal_needs_no_reason() -> None:
    assert reason('(with Guests g (g.Control "t" 5))') == []


def test_the_branch_that_gave_a_value_is_shown_with_its_condition() -> None:
    text = '(with Guests g (g.Control "t" (if (< g.balloon_cur 80) g.balloon_max (max g.balloon_cur 7))))'
    assert reason(text) == [
        "(if (< g.balloon_cur 80) g.balloon_max (max g.balloon_cur 7)) = 100 [else]",
        " (< g.balloon_cur 80) = false [condition]",
        "  g.balloon_cur = 100",
        " (max g.balloon_cur 7) = 100",
        "  g.balloon_cur = 100",
    ]
    assert reason(text, "vm2")[0].endswith("= 400 [then]")


def test_a_function_is_followed_into_its_body_and_its_parameters_to_the_arguments() -> None:
    text = '(def half (x) (/ x 2)) (with Guests g (g.Control "t" (half g.balloon_max)))'
    assert reason(text) == [
        "(half g.balloon_max) = 100.0 [(/ x 2)]",
        " x = 200 [parameter of half]",
        "  g.balloon_max = 200",
    ]


def test_dynamic_scope_is_followed_as_it_was() -> None:
    text = '(defvar v 1) (def peek () v) (with Guests g (let ((v g.balloon_cur)) (g.Control "t" (+ (peek) 0))))'
    assert " v = 100 [let]" in "\n".join(reason(text))
    assert "v = 1 " not in "\n".join(reason(text))


def test_an_assignment_is_followed_to_the_last_one() -> None:
    text = '(defvar x 1) (set x (+ x 1)) (set x (* x Host.mem_free)) (with Guests g (g.Control "t" x))'
    assert reason(text) == ["x = 600 [set (* x Host.mem_free)]", " x = 2 [set (+ x 1)]", "  x = 1 [defvar]", " Host.mem_free = 300"]


def test_a_sum_over_other_guests_is_not_followed_into_each_of_them() -> None:
    text = '(defvar s 0) (with Guests g (set s (+ s g.balloon_max))) (with Guests g (g.Control "t" s))'
    assert reason(text) == ["s = 610 [set 3 times, last for vm3]"]
    assert reason(text, "vm3")[0] == "s = 610 [set (+ s g.balloon_max)]"


def test_notes_are_followed_to_where_they_were_set() -> None:
    text = '(with Guests g (g.SetVar "n" (+ g.balloon_cur 1))) (with Guests g (g.Control "t" (g.GetVar "n")))'
    assert reason(text) == ['(g.GetVar "n") = 101 [by SetVar (+ g.balloon_cur 1)]', " g.balloon_cur = 100"]
    assert reason('(with Guests g (g.Control "t" (max 1 (g.Stat "balloon_cur"))))')[1] == ' (g.Stat "balloon_cur") = 100'


def test_the_conditions_around_a_request_are_told_from_the_inside_out() -> None:
    text = """
    (def ask (who) (if (> who.balloon_max 150) (who.Control "t" 1) nil))
    (if (valid Host.mem_free) (with Guests g (if (< g.balloon_cur 60) nil (ask g))) nil)"""
    assert conditions(text) == [
        "condition (> who.balloon_max 150) true",
        "call (ask g) nil",
        "condition (< g.balloon_cur 60) false",
        "loop (with Guests g …) <vm1>",
        "condition (valid Host.mem_free) true",
    ]


def test_what_was_told_once_is_referred_to_afterwards() -> None:
    text = '(with Guests g (let ((a (* 2 g.balloon_cur))) (if (> a 5) (g.Control "t" (+ a a)) nil)))'
    request = explained(text).requests[0]
    assert list(lines(request.conditions[0].parts[0])) == ["a = 200 [see above]"]


def test_a_later_request_replaces_an_earlier_one() -> None:
    text = '(with Guests g (g.Control "t" 1)) (with Guests g (g.Control "t" 2))'
    first, second = explained(text).requests
    assert (first.value, first.replaced, first.decision) == (1, True, None)
    assert second.decision is not None
    assert second.decision.value == 2


def test_a_request_of_a_guest_whose_step_failed_is_not_applied() -> None:
    explanation = explained('(with Guests g { (g.Control "t" 1) (+ 1 g.balloon_cur) })', "vm3")
    assert [request.decision for request in explanation.requests] == [None]
    assert [(fault.kind, fault.guest) for fault in explanation.faults] == [("type", "vm3")]
    assert explained('(with Guests g { (g.Control "t" 1) (+ 1 g.balloon_cur) })', "vm1").faults == ()


def test_steps_that_fail_inside_of_functions_and_inner_loops_leave_the_others_in_order() -> None:
    text = """
    (def deep (x) (+ 1 (* 2 x)))
    (defvar twice (with Guests g 1))
    (with Guests g { (with twice i (deep g.balloon_cur)) (g.Control "t" (deep g.balloon_max)) })"""
    for name, value in (("vm1", 401), ("vm2", 801)):
        (request,) = explained(text, name).requests
        assert request.value == value
        assert [one.kind for one in request.conditions] == ["loop"]
        assert next(lines(request.reason)) == f"(deep g.balloon_max) = {value} [(+ 1 (* 2 x))]"
    assert explained(text, "vm3").requests == ()


def test_after_an_error_outside_of_loops_the_host_has_no_decisions_and_that_is_told() -> None:
    explanation = explained('(Host.Control "t" 1) (/ 1 0)', "host")
    assert explanation.stopped
    assert [request.decision for request in explanation.requests] == [None]
    assert [fault.kind for fault in explanation.faults] == ["zero-division"]


def missed(found: tuple[Missed, ...], depth: int = 0) -> Iterator[str]:
    for one in found:
        yield f"{' ' * depth}{one.text}: {one.condition.text} {show(one.condition.value)}"
        yield from missed(one.further, depth + 1)


def test_a_request_that_was_not_made_has_the_condition_that_kept_it() -> None:
    text = '(with Guests g (if (> g.balloon_max 300) (if (valid g.balloon_cur) (g.Control "t" 1) (g.Control "u" 2)) nil))'
    assert list(missed(explained(text).missed)) == [
        '(g.Control "t" 1): (> g.balloon_max 300) false',
        '(g.Control "u" 2): (> g.balloon_max 300) false',
    ]
    assert list(missed(explained(text, "vm2").missed)) == ['(g.Control "u" 2): (valid g.balloon_cur) true']


def test_what_was_not_reached_is_followed_through_variables_and_notes() -> None:
    text = """
    (with Guests g (if (valid g.balloon_cur) (g.SetVar "give" 5) nil))
    (with Guests g (let ((change 0) (give (g.GetVar "give")))
        (if (valid give) (set change give) nil)
        (if (!= change 0) (g.Control "t" change) nil)))"""
    assert list(missed(explained(text, "vm3").missed)) == [
        '(g.Control "t" change): (!= change 0) false',
        " (set change give): (valid give) false",
        '  (g.SetVar "give" 5): (valid g.balloon_cur) false',
    ]


def test_a_function_that_was_not_called_is_explained_by_its_calls() -> None:
    text = '(def ask (e) (e.Control "t" 1)) (with Guests g (if (> g.balloon_max 300) (ask g) nil))'
    assert list(missed(explained(text).missed)) == ['(e.Control "t" 1): (> g.balloon_max 300) false']


def test_the_host_is_explained_by_its_own_requests_only() -> None:
    text = '(if (< Host.mem_free 100) (Host.Control "k" 1) nil) (with Guests g (if 0 (g.Control "t" 1) nil))'
    assert list(missed(explained(text, "host").missed)) == ['(Host.Control "k" 1): (< Host.mem_free 100) false']
    assert list(missed(explained(text, "vm1").missed)) == ['(g.Control "t" 1): 0 0']


def test_very_deep_programs_can_be_explained() -> None:
    deep = "(+ 1 " * 200 + "g.balloon_cur" + ")" * 200
    (request,) = explained(f'(with Guests g (g.Control "t" {deep}))').requests
    assert request.value == 300
    chain = "".join(f"(defvar v{n} (+ 1 v{n - 1}))" for n in range(1, 400))
    (request,) = explained(f'(defvar v0 0) {chain} (with Guests g (g.Control "t" v399))').requests
    assert request.value == 399
    many = "(set x (+ x g.balloon_cur))" * 500
    assert explained(f'(with Guests g (let ((x 0)) {many} (g.Control "t" x)))').requests[0].value == 50_000


def nested(functions: int) -> str:
    """Functions that call each other, each from inside of hundreds of blocks."""
    last = functions - 1
    texts = [f"(def f{n} (x) {'{ ' * 400}{f'(+ 1 (f{n + 1} x))' if n < last else 'x'}{' }' * 400})" for n in range(functions)]
    return f'{" ".join(texts)} (with Guests g (g.Control "t" (f0 g.balloon_cur)))'


def test_blocks_inside_of_blocks_in_functions_that_call_each_other_can_be_explained() -> None:
    (request,) = explained(nested(4)).requests
    assert request.value == 103
    assert list(lines(request.reason))[-1].strip() == "g.balloon_cur = 100"


def test_what_is_too_complicated_to_be_explained_is_told() -> None:
    with pytest.raises(PolicyError, match="too complicated to be compiled"):
        explained(nested(30))


STRING = '(defvar s "' + "a" * 60 + '") '
LARGE = {
    "calls that double": "(def f (n) (if (< n 16) (+ (f (+ n 1)) (f (+ n 1))) 1)) (f 0)",
    "loops": STRING + "(with s a (with s b (with s c (Host.Control 'x' Host.mem_free))))",
    "calls inside each other": STRING + "(def f (n) (if (< n 90) (f (+ n 1)) (with s x (with s y (with s z (+ 1 Host.mem_free)))))) (f 0)",
}


@pytest.mark.parametrize("name", LARGE)
def test_what_is_too_large_to_be_told_is_said_to_be_so_at_once(name: str) -> None:
    began = time.process_time()
    with pytest.raises(PolicyError, match="too large to tell"):
        explained(LARGE[name])
    assert time.process_time() - began < 2, "82 s, when each name was looked for in all scopes"


def test_what_is_just_small_enough_is_told_soon() -> None:
    calls = "(def f (n) (if (< n 12) (+ (f (+ n 1)) (f (+ n 1))) 1))"
    missed = "{ " + "(g.Control 'x' 1) " * 200 + "}"
    began = time.process_time()
    told = explained(f"{calls} (f 0) (with Guests g (if (< g.balloon_cur 0) {missed} 0))")
    assert time.process_time() - began < 3
    assert len(told.missed) == 50


def test_of_thousands_of_requests_the_first_and_the_last_are_told() -> None:
    told = explained(STRING + "(with Guests g (with s a (with s b (g.Control 't' (+ 1 g.balloon_cur)))))")
    assert len(told.requests) == 101
    assert told.left_out == 3600 - 101
    assert [request.replaced for request in told.requests] == [True] * 100 + [False]


def test_of_large_values_only_the_size_is_told() -> None:
    told = explained(STRING + "(with Guests g { (defvar l (with s a (with s b a))) (if (== l 1) 0 (g.Control 't' 1)) })")
    (condition, *_) = told.requests[0].conditions
    assert [part.value for part in condition.parts] == ["a list of more than 1,000 elements"]


def test_recursion_can_be_explained() -> None:
    text = '(def down (n) (if (< n 1) 0 (+ 1 (down (- n 1))))) (with Guests g (g.Control "t" (down 90)))'
    (request,) = explained(text).requests
    assert request.value == 90
    assert next(lines(request.reason)).startswith("(down 90) = 90 [(if (< n 1)")


def outcome(result: Result) -> tuple[str, ...]:
    errors = [(fault.kind, fault.name, fault.line, fault.column, fault.guest) for fault in result.errors]
    return tuple(map(repr, (list(map(repr, result.values)), result.decisions, errors, result.stopped, result.notes)))


@pytest.mark.long
@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_traced_evaluation_comes_to_the_same_and_every_decision_is_explained(data: st.DataObject) -> None:
    text = program(lambda count: data.draw(st.integers(0, count - 1)))
    try:
        policy = Policy.compile({"p": text}, limits=PolicyLimits(steps=3000, guest_steps=1000, depth=30))
    except PolicyError:
        return
    taken = fixture()
    result = policy.evaluate(taken)
    assert outcome(traced(policy, taken)[1]) == outcome(result)
    for whose in (taken.host.entity, *(guest.entity for guest in taken.guests.values())):
        explanation = explain(policy, taken, whose)
        told = sorted((one.control, repr(one.decision.value)) for one in explanation.requests if one.decision is not None)
        assert told == sorted((d.control, repr(d.value)) for d in result.decisions if d.entity == whose)


# --- the verb ------------------------------------------------------------------------------------------------------------------------

POLICY = """(defvar spare 0.9)
(with Guests guest
    (if (valid guest.balloon_cur)
        (guest.Control "balloon_target" (* spare guest.balloon_cur))
        nil))
"""
TAKEN = {"guests": {"vm1": {"balloon_cur": 1000}, "vm3": {"balloon_cur": None}}, "properties": {"vm1": {"uuid": "u-1"}}}


@pytest.fixture
def files(tmp_path: Path) -> list[Path | str]:
    path, taken = tmp_path / "50_test.policy", tmp_path / "taken.json"
    path.write_text(POLICY)
    taken.write_text(json.dumps(TAKEN))
    return [path, "--snapshot", taken]


def test_an_explanation_reads_from_the_decision_down(files: list[Path | str]) -> None:
    done = mom_policy("explain", *files, "--guest", "vm1")
    path = files[0]
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        f"vm1: balloon_target = 900  {path}:4:9",
        '  (guest.Control "balloon_target" (* spare guest.balloon_cur))',
        f"    (* spare guest.balloon_cur) = 900.0  {path}:4:41",
        f"      spare = 0.9  defvar  {path}:1:1",
        "      guest.balloon_cur = 1000",
        "  because",
        f"    (valid guest.balloon_cur) is true  {path}:3:9",
        "      guest.balloon_cur = 1000",
        f"    <vm1> in (with Guests guest …)  {path}:2:1",
    ]
    assert mom_policy("explain", *files, "--guest", "u-1").out == done.out


def test_that_nothing_is_decided_is_told_first_with_what_is_unknown(files: list[Path | str]) -> None:
    done = mom_policy("explain", *files, "--guest", "vm3")
    assert done.code == 0
    assert done.out.splitlines()[:2] == ["vm3: nothing is decided", "unknown: guest.balloon_cur"]


def test_json_has_the_same_tree(files: list[Path | str]) -> None:
    told: dict[str, Any] = json.loads(mom_policy("explain", *files, "--guest", "vm1", "--json").out)
    (request,) = told["requests"]
    assert request["decided"]
    assert (request["value"], request["line"], request["file"]) == (900, 4, str(files[0]))
    assert [part["form"] for part in request["reason"]["reasons"]] == ["spare", "guest.balloon_cur"]
    assert [one["kind"] for one in request["because"]] == ["condition", "loop"]
    missed_one = json.loads(mom_policy("explain", *files, "--guest", "vm3", "--json").out)["not_asked_for"][0]
    assert missed_one["because"]["reasons"][0] == {"form": "guest.balloon_cur", "value": None, "how": "unknown"}


def test_errors_about_it_are_shown_and_exit_code_is_1(tmp_path: Path, files: list[Path | str]) -> None:
    (tmp_path / "50_test.policy").write_text("(with Guests g (+ 1 g.balloon_cur))")
    done = mom_policy("explain", *files, "--guest", "vm3")
    assert done.code == 1
    assert "1:16: type: operands of these types do not fit" in done.out
    assert "nothing that was asked for vm3 is applied in this cycle" in done.out
    assert mom_policy("explain", *files, "--guest", "vm1").code == 0


def test_it_must_be_said_whom_it_is_about(files: list[Path | str]) -> None:
    assert "say whom it is about" in mom_policy("explain", *files).err
    assert mom_policy("explain", *files, "--host", "--guest", "vm1").code == 2
    done = mom_policy("explain", *files, "--guest", "vm4")
    assert done.code == 1
    assert "the snapshot has no guest 'vm4' (did you mean vm3?)" in done.err


def test_the_default_policies_explain_themselves() -> None:
    done = mom_policy("explain", "--guest", "db")
    assert done.code == 0
    assert "db: balloon_target = " in done.out
    assert "guest.balloon_suggested = " in done.out
    quiet = mom_policy("explain", "--guest", "quiet").out
    assert quiet.startswith("quiet: nothing is decided\nunknown: guest.")
    assert "guest.balloon_suggested" in quiet.splitlines()[1]
    host = mom_policy("explain", "--host", "--control", "ksm_run").out
    assert "example: ksm_run = 1" in host
    assert "ksm_sleep_millisecs" not in host
