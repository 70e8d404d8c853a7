"""Checks of policies before they are in force: findings and their absence."""

import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_declared import DECLARED
from random_programs import Writer, program

from mom_core import Declarations, Severity, Source
from mom_core.testing import snapshot
from mom_kvm import PolicyProblem
from mom_plugins_policy import Policy, PolicyError
from mom_plugins_policy.checks import RULES, check
from mom_plugins_policy.language import limits
from mom_plugins_policy.language.code import _Coder
from mom_plugins_policy.language.runtime import Code, Evaluation
from mom_plugins_policy.language.syntax import Form

TRUE_OF_OLD_POLICIES = {"possible-nil", "average-of-nothing", "empty-policy"}
"""Findings of old policies: they ignore guests without data, and one is empty."""


def remarks_on(text: str, declarations: Declarations | None = DECLARED) -> list[PolicyProblem]:
    return check({"50_test": text}, declarations)


def rules(text: str, declarations: Declarations | None = DECLARED) -> list[str]:
    return [remark.kind for remark in remarks_on(text, declarations)]


def in_loop(body: str) -> str:
    return f"(with Guests guest {body})"


# --- good policies ------------------------------------------------------------------------------------------------------


def test_old_policies_are_warned_once_of_each_field_without_data_and_of_nothing_else() -> None:
    """The policies are like MOM's and vdsm's."""
    texts = {path.stem: path.read_text() for path in (Path(__file__).parent / "old").glob("*.policy")}
    found = check(texts, DECLARED)
    assert {remark.kind for remark in found} == TRUE_OF_OLD_POLICIES
    doubted = Counter(remark.message.split(" may be ")[0] for remark in found if remark.kind == "possible-nil")
    assert max(doubted.values()) <= 2, "guest.balloon_cur is used in two of the policies"


def rows(name: str) -> list[tuple[str, ...]]:
    return [tuple(line.split("  =>  ")) for line in (Path(__file__).parent / name).read_text().splitlines() if "  =>  " in line]


@pytest.mark.parametrize(("text", "said"), rows("checks.txt"))
def test_what_is_said_of_a_policy(text: str, said: str) -> None:
    assert rules(text) == ([] if said == "nothing" else said.split())


def test_nil_in_a_function_is_found_where_it_is_called_with_it() -> None:
    text = "(def twice (x) (* 2 x))\n" + in_loop("(debug (twice guest.balloon_cur))")
    (found,) = remarks_on(text)
    assert (found.kind, found.source.line, found.source.column) == ("possible-nil", 1, 21)


@pytest.mark.parametrize(("text", "rule", "words"), rows("checks_words.txt"))
def test_a_remark_says_which_name_is_meant(text: str, rule: str, words: str) -> None:
    (found,) = remarks_on(text)
    assert found.kind == rule
    assert words in (found.message, found.hint)


def test_a_control_is_named_with_what_it_takes() -> None:
    assert rules("(Host.Control 'anything' (+ 1 Host.whatever))", None) == [], "without declarations every field and control is good"
    (named,) = check({"p": "(Host.Control 'ksm_run' 7)"}, DECLARED)
    assert named.message == "ksm_run accepts only 0, 1, 2, but the value is 7: the request has no effect"
    (bounded,) = check({"p": "(Host.Control 'ksm_sleep_millisecs' 70000)"}, DECLARED)
    assert bounded.message == "mom never sets ksm_sleep_millisecs above 60000, but the value is 70000"


@pytest.mark.parametrize("text", ["", "\ufeff", "\r\n", "# a script that writes policies has failed\n"])
def test_a_policy_in_which_nothing_is_is_told_and_so_is_that_it_takes_the_place_of_a_default(text: str) -> None:
    (found,) = remarks_on(text)
    assert (found.kind, found.severity) == ("empty-policy", "warning")
    assert found.message == "the policy contains only comments, so it decides nothing"
    declared = Declarations(DECLARED.fields, DECLARED.controls, {}, {"50_test": "(Host.Control 'ksm_run' 1)"})
    (replacing,) = remarks_on(text, declared)
    assert replacing.message.endswith(", and the default policy of this name is not used")
    assert rules("nil") == []


def test_names_of_other_policies_count() -> None:
    defines = {"00_defines": "(defvar limit 5) (def low (x) (< x limit))"}
    uses = {"50_uses": "(if (low Host.mem_free) 1 0)"}
    assert check(defines, DECLARED) == [], "a policy of definitions only is for others"
    assert check({**defines, **uses}, DECLARED) == []
    assert [remark.kind for remark in check(uses, DECLARED)] == ["unknown-function"]
    assert check({"10_a": "(def f () 1) (defvar v 1)", "20_b": "(def f () 2) (set v 2) (debug (f) v)"}, DECLARED) == []


def test_names_of_default_policies_count_where_these_are_not_replaced() -> None:
    default = {"50_default": "(defvar limit 5) (def low (x) (< x limit)) (if (low Host.mem_free) 1 0)"}
    declared = Declarations(DECLARED.fields, DECLARED.controls, {}, default)
    assert check({"10_parameters": "(defvar limit 6)\n(debug 1)"}, declared) == []
    assert check({"90_late": "(if (low Host.mem_available) (set limit 7) 0)"}, declared) == []
    replaced = {"50_default": "(debug 1)", "90_late": "(if (low Host.mem_available) 1 0)"}
    assert [remark.kind for remark in check(replaced, declared)] == ["unknown-function"]


def test_a_later_policy_may_define_a_function_anew_with_other_parameters() -> None:
    first = "(def worth (a b) (> a b)) (def act (x) (if (worth x 1) (debug x) 0)) (defvar on 0) (if {} (act 2) (debug on))"
    second = "(def worth (a) (!= a nil)) (debug (worth Host.mem_free))"
    for condition in ("on", "(and (< Host.mem_free 9) (== on 1))", "1"):
        assert {remark.kind for remark in check({"10": first.format(condition), "20": second}, DECLARED)} == set()
    wrong = check({"10": "(def worth (a b) (> a b)) (def act () (worth 1 2 3))", "20": "(def worth (a) a) (debug (worth 2))"}, DECLARED)
    assert "arity" in {remark.kind for remark in wrong}


@pytest.mark.parametrize("body", ["(guest.Control 'balloon_target' 2048)", "(debug size)", "(set size 1)", "(shrink guest)"])
def test_a_function_that_nothing_calls_yet_may_use_the_names_of_a_caller_that_comes_later(body: str) -> None:
    assert {one.severity for one in remarks_on(f"(def helper () {body})")} == {Severity.WARNING}
    assert Severity.ERROR in {one.severity for one in remarks_on(f"(def helper () {body}) (helper)")}


LARGE = {
    "calls double": "\n".join(f"(def f{n} (x) (+ (f{n - 1} x) (f{n - 1} (+ x 1))))" for n in range(1, 40))
    + "(def f0 (x) x) (debug (f39 Host.mem_free))",
    "loops": "(with Guests g " * 14 + "(set x 1)" + ")" * 14,
    "large": '(debug (* "x" 1000000000)) (debug (<< 1 1000000000))',
    "wide": "(and " + "Host.mem_free " * 20_000 + ")",
    "arguments of min": in_loop("{ (defvar a guest.balloon_cur) (min " + "a " * 20_000 + ") }"),
    "squares of squares": in_loop("{ (defvar a guest.balloon_cur) " + "(set a (* a a)) " * 1500 + "}"),
    "misspelt variables": " ".join(f"(defvar known{n}a 1)" for n in range(5000)) + " ".join(f"(+ known{n}b 1)" for n in range(2000)),
}


@pytest.mark.long
@pytest.mark.parametrize("name", LARGE)
def test_the_checks_take_time_in_proportion_to_the_text(name: str) -> None:
    began = time.process_time()
    check({"50_test": LARGE[name]}, DECLARED)
    assert time.process_time() - began < 25, (
        "a second or two, where each argument or name was compared with each other: half a minute and more"
    )


def faults_of(text: str) -> Sequence[PolicyProblem]:
    try:
        Policy.compile({"p": text})
    except PolicyError as error:
        return error.problems
    return ()


@pytest.mark.long
@given(st.randoms(use_true_random=False), st.booleans())
def test_checks_of_random_programs_raise_nothing_and_refuse_what_compiling_refuses(choose: random.Random, declared: bool) -> None:
    text = program(choose.randrange)
    found = check({"p": text}, DECLARED if declared else None)
    assert {remark.kind for remark in found} <= RULES.keys()
    refused = faults_of(text)
    if refused:
        assert [(remark.kind, remark.source) for remark in found] == [(fault.kind, fault.source) for fault in refused]


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> set[Source]:
    """Return the places of forms that were evaluated to a value."""
    places = set[Source]()
    code_of = _Coder.code

    def noted(self: _Coder, form: Form) -> Code:
        code, place = code_of(self, form), form.source

        def run(evaluation: Evaluation) -> object:
            value = code(evaluation)
            places.add(place)
            return value

        return run

    monkeypatch.setattr(_Coder, "code", noted)
    return places


def outside_of_functions(forms: Sequence[Form], around: Form | None = None) -> Iterator[tuple[Form, Form | None]]:
    """Yield all forms with their outer form, except in functions: one call may always fail, and another may not."""
    for form in forms:
        yield form, around
        if not (form.items and form.items[0].name in ("def", "defun")):
            yield from outside_of_functions(form.items, form)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(4))
def test_what_is_certain_to_fail_never_comes_to_a_value(seed: int, done: set[Source], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STEPS", 20_000)
    monkeypatch.setattr(limits, "GUEST_STEPS", 20_000)
    choose = random.Random(seed)  # noqa: S311  # programs are no secrets
    claims = 0
    for _ in range(150):
        text = "(with Guests a {" + " ".join(Writer(choose.randrange).form(3) for _ in range(2)) + "})\n" + program(choose.randrange)
        if faults_of(text):
            continue
        policy = Policy.compile({"p": text})
        places = {form.source: (form, around) for form, around in outside_of_functions(policy.program.forms)}
        certain = [remark for remark in check({"p": text}) if remark.severity == Severity.ERROR and remark.source in places]
        claims += len(certain)
        for free in (0, 300) if certain else ():
            guest = {"balloon_cur": free, "balloon_max": 400, "os": "linux", "io_tune": None}
            seen = snapshot(
                host={"mem_free": free, "swap_total": free or None, "cpu_count": 4, "late": None}, guests={"a": guest, "b": guest}
            )
            done.clear()
            policy.evaluate(seen)
            for remark in certain:
                form, around = places[remark.source]
                of_a_request = "a number is required" in remark.message or "cannot be requested" in remark.message
                at_a_part = remark.kind in ("unknown-function", "not-callable", "unknown-variable") or of_a_request
                part = around if at_a_part else form
                assert part is None or part.source not in done, (text, remark)
    assert claims > 50


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("(< 1 2 3)", "< takes 2 arguments, not 3"),
        ("(debug host.mem_free)", "did you mean Host?"), ('(Host.control "ksm_run" 1)', "did you mean Control?"),
        ("(IF 1 2 3)", "did you mean if?"),
        ("(debug (+ 1 'a'))", "the operands of + have incompatible types"),
    ],
)  # fmt: skip
def test_a_remark_names_what_was_written_and_what_to_write(text: str, said: str) -> None:
    (found,) = remarks_on(text)
    assert said in f"{found.message}; {found.hint}"
