"""Explanations: which form decided something, the conditions around it with their values, and why other requests were not made."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_fixture import fixture
from policy_verbs import mom_policy
from random_programs import program

from mom_core import ControlSpec, Declarations, Entity, FieldSpec, Scope, Snapshot, Unit
from mom_core.testing import snapshot
from mom_plugins_policy import Policy, PolicyError, PolicyLimits
from mom_plugins_policy.rollout.trial import PolicyNotes
from mom_plugins_policy.tools.explain import EntityExplanation, Missed, explain, said

SNAPSHOT = snapshot(
    host={"mem_free": 300, "mem_available": 1000},
    guests={"vm1": {"balloon_cur": 100, "balloon_max": 200}, "vm2": {"balloon_cur": 50, "balloon_max": 400}, "vm3": {"balloon_max": 10}},
)


def entity(name: str, taken: Snapshot = SNAPSHOT) -> Entity:
    return taken.host.entity if name == "host" else taken.guests[name].entity


def explained(text: str, name: str = "vm1", taken: Snapshot = SNAPSHOT) -> EntityExplanation:
    return explain(Policy.compile({"p": text}), taken, entity(name, taken))


def conditions(text: str, name: str = "vm1") -> list[str]:
    return [str(condition) for condition in explained(text, name).requests[-1].because]


def why(text: str, name: str = "vm1", control: str = "t") -> str:
    return said(Policy.compile({"p": text}).evaluate(SNAPSHOT), SNAPSHOT.guests[name], control)


def test_a_request_has_its_form_and_the_values_that_it_was_made_of() -> None:
    text = '(defvar share 0.5) (with Guests g (let ((size g.balloon_cur)) (g.Control "t" (* share (+ size (g.Stat "balloon_max"))))))'
    (request,) = explained(text).requests
    assert (request.control, request.value, request.decided) == ("t", 150.0, True)
    assert request.form == '(g.Control "t" (* share (+ size (g.Stat "balloon_max"))))'
    assert request.values == (("share", 0.5), ("size", 100), ('(g.Stat "balloon_max")', 200))


def test_the_conditions_around_a_request_are_told_with_their_values_from_the_inside_out() -> None:
    text = """
    (def ask (who) (if (> who.balloon_max 150) (who.Control "t" 1) nil))
    (if (valid Host.mem_free) (with Guests g (if (< g.balloon_cur 60) nil (ask g))) nil)"""
    expected = [
        "(> who.balloon_max 150) is true (who.balloon_max is 200)",
        "(< g.balloon_cur 60) is false (g.balloon_cur is 100)",
        "(valid Host.mem_free) is true (Host.mem_free is 300)",
    ]
    assert conditions(text) == expected
    assert why(text) == "; ".join(reversed(expected))


@pytest.mark.parametrize("asked", ['(g.Control "pins" "0-1")', '{ (defvar ask g.Control) (ask "pins" "0-1") }'])
def test_a_control_that_takes_text_is_explained_and_so_is_what_comes_after_it(asked: str) -> None:
    controls = {name: ControlSpec(name, unit, Scope.GUEST, "", name) for name, unit in (("pins", Unit.TEXT), ("t", Unit.KIB))}
    fields = {(Scope.GUEST, name): FieldSpec(name, Unit.KIB, Scope.GUEST, "") for name in ("balloon_cur", "balloon_max")}
    text = f'(with Guests g (if (> g.balloon_max 150) {{ {asked} (g.Control "t" 5) }} nil))'
    result = Policy.compile({"p": text}, Declarations(fields=fields, controls=controls)).evaluate(SNAPSHOT)
    why = "(> g.balloon_max 150) is true (g.balloon_max is 200)"
    assert [said(result, SNAPSHOT.guests["vm1"], control) for control in ("pins", "t")] == ["" if "defvar" in asked else why, why]


BODY = '(with Guests g (if (< part 3) (g.Control "t" 5) 0))'
COUNTED = '(defvar n 0) (with Guests g { (set n (+ n 1)) (if (< n 9) (g.Control "t" 5) 0) })'
SEVERAL = """(def ask (g n) (if (> n 0) (g.Control "t" n) 0)) (defvar letters "ab") (defvar n 1)
    (with Guests g (with letters c { (ask g n) (set n (+ n 1)) }))"""
NOTED = '(with Guests g { (g.SetVar "n" 1) (if (== (g.GetVar "n") 1) (g.Control "t" 5) 0) (g.SetVar "n" 2) })'
NESTED = '(def f (g n) (if (< n 3) { (if (> n 0) (f g (- n 1)) 0) (g.Control "t" n) } 0)) (with Guests g (f g 2))'


@pytest.mark.parametrize(
    ("text", "guest", "because"),
    [
        (f"(defvar part 1) (set part 2) {BODY} (set part 9)", "vm1", "(< part 3) is true (part is 2)"),  # as it was when it was decided
        (f"(defvar part 1) (let ((part 2)) {BODY})", "vm1", "(< part 3) is true (part is 2)"),
        (COUNTED, "vm1", "(< n 9) is true (n is 1)"),
        (COUNTED, "vm2", "(< n 9) is true (n is 2)"),
        (NOTED, "vm1", '(== (g.GetVar "n") 1) is true ((g.GetVar "n") is 1)'),
        (SEVERAL, "vm1", "(> n 0) is true (n is 2)"),  # the last of several requests by one form counts
        (SEVERAL, "vm2", "(> n 0) is true (n is 4)"),
        (NESTED, "vm1", "(< n 3) is true (n is 2)"),  # the outermost call asks last
        ('(with Guests g (g.Control "t" 5))', "vm1", ""),
        ("(+ 1 2)", "vm1", ""),
        ('(with Guests g (if 1 (g.Control "t" nil) 0))', "vm1", ""),
    ],
)
def test_the_conditions_are_those_of_the_request_that_counts(text: str, guest: str, because: str) -> None:
    assert why(text, guest) == because


def test_what_was_remembered_then_decides_and_not_what_is_remembered_now() -> None:
    store = PolicyNotes()
    text = """(with Guests g {
        (if (< (g.Recall "times" 0) 1) (g.Control "t" 5) (g.Control "t" 6))
        (g.Remember "times" (+ 1 (g.Recall "times" 0))) })"""
    policy = Policy.compile({"p": text})
    for words in ('true ((g.Recall "times" 0) is 0)', 'false ((g.Recall "times" 0) is 1)'):
        result = store.evaluate(policy, SNAPSHOT, ())
        assert said(result, SNAPSHOT.guests["vm1"], "t") == f'(< (g.Recall "times" 0) 1) is {words}'


def test_nothing_is_written_to_the_log_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "mom.policy")
    assert why('(with Guests g (if (debug "x" (> g.balloon_max 1)) (g.Control "t" 5) 0))')
    assert len([one for one in caplog.records if one.getMessage().startswith("x")]) == 3, "one for each guest"


FAILS = '(with Guests g { (g.Control "t" 1) (+ 1 g.balloon_cur) })'


@pytest.mark.parametrize(
    ("text", "name", "stopped", "decided", "errors"),
    [
        (FAILS, "vm3", False, [False], [("type", "vm3")]),
        (FAILS, "vm1", False, [True], []),
        ('(Host.Control "t" 1) (/ 1 0)', "host", True, [False], [("zero-division", None)]),
    ],
)
def test_what_failed_and_what_that_costs_is_told(text: str, name: str, stopped: bool, decided: list[bool], errors: list[object]) -> None:
    explanation = explained(text, name)
    assert (explanation.stopped, [request.decided for request in explanation.requests]) == (stopped, decided)
    assert [(fault.kind, fault.guest) for fault in explanation.errors] == errors


def missed(several: Sequence[Missed]) -> list[str]:
    return [f"{one.form}: {one.because}" for one in several]


def test_a_request_that_was_not_made_has_the_condition_that_kept_it() -> None:
    text = '(with Guests g (if (> g.balloon_max 300) (if (valid g.balloon_cur) (g.Control "t" 1) (g.Control "u" 2)) nil))'
    assert missed(explained(text).not_asked_for) == [
        '(g.Control "t" 1): (> g.balloon_max 300) is false (g.balloon_max is 200)',
        '(g.Control "u" 2): (> g.balloon_max 300) is false (g.balloon_max is 200)',
    ]
    assert missed(explained(text, "vm2").not_asked_for) == ['(g.Control "u" 2): (valid g.balloon_cur) is true (g.balloon_cur is 50)']
    text = '(def ask (e) (e.Control "t" 1)) (with Guests g (if (> g.balloon_max 300) (ask g) nil))'
    assert missed(explained(text).not_asked_for) == ['(e.Control "t" 1): (> g.balloon_max 300) is false (g.balloon_max is 200)']


def test_the_host_is_explained_by_its_own_requests_only() -> None:
    text = '(if (< Host.mem_free 100) (Host.Control "k" 1) nil) (with Guests g (if 0 (g.Control "t" 1) nil))'
    assert missed(explained(text, "host").not_asked_for) == ['(Host.Control "k" 1): (< Host.mem_free 100) is false (Host.mem_free is 300)']
    assert missed(explained(text, "vm1").not_asked_for) == ['(g.Control "t" 1): 0 is false']


def test_deep_and_recursive_programs_can_be_explained() -> None:
    deep = "(+ 1 " * 200 + "g.balloon_cur" + ")" * 200
    assert explained(f'(with Guests g (g.Control "t" {deep}))').requests[0].value == 300
    text = '(def down (n) (if (< n 1) 0 (+ 1 (down (- n 1))))) (with Guests g (g.Control "t" (down 90)))'
    assert explained(text).requests[0].value == 90
    told = why("(with Guests g (if " + "(not " * 90 + "g.balloon_max" + ")" * 90 + ' (g.Control "t" 5) 0))')
    assert told.endswith("is true (g.balloon_max is 200)")


def test_what_is_too_large_to_be_told_is_said_to_be_so_at_once() -> None:
    loops = '(defvar s "' + "a" * 60 + '") (with s a (with s b (with s c (if (== a b) (Host.Control "x" Host.mem_free) 0))))'
    began = time.process_time()
    with pytest.raises(PolicyError, match="too large to tell"):
        explained(loops)
    assert time.process_time() - began < 20


@pytest.mark.long
@settings(deadline=None, max_examples=100)
@given(st.data())
def test_every_decision_is_explained(data: st.DataObject) -> None:
    text = program(lambda count: data.draw(st.integers(0, count - 1)))
    try:
        policy = Policy.compile({"p": text}, limits=PolicyLimits(steps=3000, guest_steps=1000, depth=30))
    except PolicyError:
        return
    taken = fixture()
    result = policy.evaluate(taken)
    for whose in (taken.host.entity, *(guest.entity for guest in taken.guests.values())):
        explanation = explain(policy, taken, whose)
        told = sorted((one.control, repr(one.value)) for one in explanation.requests if one.decided)
        assert told == sorted((d.control, repr(d.value)) for d in result.decisions if d.entity == whose)
    for guest in taken.guests.values():
        assert all(len(said(result, guest, control)) <= 600 for control in ("a", "t", "balloon_target"))


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
        "    spare = 0.9",
        "    guest.balloon_cur = 1000",
        "  because",
        f"    (valid guest.balloon_cur) is true  {path}:3:9",
        "      guest.balloon_cur = 1000",
    ]
    assert mom_policy("explain", *files, "--guest", "u-1").out == done.out


def test_that_nothing_is_decided_is_told_first_with_what_is_unknown(files: list[Path | str]) -> None:
    done = mom_policy("explain", *files, "--guest", "vm3")
    assert done.code == 0
    assert done.out.splitlines()[:2] == ["vm3: nothing is decided", "unknown: guest.balloon_cur"]


def test_json_has_the_same(files: list[Path | str]) -> None:
    told: dict[str, Any] = json.loads(mom_policy("explain", *files, "--guest", "vm1", "--json").out)
    (request,) = told["requests"]
    assert request["decided"]
    assert (request["value"], request["line"], request["file"]) == (900, 4, str(files[0]))
    assert [part["form"] for part in request["values"]] == ["spare", "guest.balloon_cur"]
    assert [(one["form"], one["truth"]) for one in request["because"]] == [("(valid guest.balloon_cur)", True)]
    missed_one = json.loads(mom_policy("explain", *files, "--guest", "vm3", "--json").out)["not_asked_for"][0]
    assert missed_one["because"]["values"] == [{"form": "guest.balloon_cur", "value": None}]


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
    assert "there is no guest vm4 in the snapshot /" in done.err
    assert "taken.json (did you mean vm3 or vm1? --live looks at this host)" in done.err


def test_a_guest_of_this_host_is_not_looked_for_in_the_example_without_a_word() -> None:
    done = mom_policy("explain", "--guest", "router")
    assert done.err == "mom: there is no guest router in the example (it has db, quiet, web; --live looks at this host)\n"
    assert "no guest web-1 in the example (did you mean web? --live" in mom_policy("explain", "--guest", "web-1").err


def test_the_default_policies_explain_themselves() -> None:
    done = mom_policy("explain", "--guest", "db")
    assert done.code == 0
    assert "db: balloon_target = " in done.out
    assert "guest.balloon_suggested = " in done.out
    quiet = mom_policy("explain", "--guest", "quiet").out
    assert quiet.startswith("quiet: nothing is decided\nunknown: guest.")
    assert "guest.balloon_suggested" in quiet.splitlines()[1]
    host = mom_policy("explain", "--host").out
    assert "example: ksm_run = 1" in host


def test_default_policies_are_not_told_of_where_the_configuration_uses_none(tmp_path: Path) -> None:
    config = tmp_path / "mom.yaml"
    config.write_text("plugins: {sim: {}, balloon: {}}\n")
    for verb in (("explain", "--guest", "web"), ("eval",), ("check",)):
        done = mom_policy(*verb, "-c", config)
        assert (done.code, done.out) == (1, "")
        assert f"{config} does not enable the plugin policy, so a mom with it uses no policy (name a policy" in done.err
    assert "50_balloon" in mom_policy("explain", "--guest", "web", "--defaults", "-c", config).out
