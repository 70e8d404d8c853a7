"""Checks: what is found in policies before they go live, and what is not."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from old_policies import MOM_BALLOON, MOM_KSM, VDSM
from policy_declared import DECLARED
from random_programs import program

from mom_core import Declarations, Severity
from mom_core.testing import snapshot
from mom_plugins_policy import Fault, Policy, PolicyError
from mom_plugins_policy.checks import RULES, Remark, check, check_policy

TRUE_OF_OLD_POLICIES = {"possible-nil", "average-of-nothing"}
"""Old policies are not careful about guests without data, and that is worth a warning."""


def remarks_on(text: str, declarations: Declarations | None = DECLARED) -> list[Remark]:
    return check({"50_test": text}, declarations)


def rules(text: str, declarations: Declarations | None = DECLARED) -> list[str]:
    return [remark.rule for remark in remarks_on(text, declarations)]


def in_loop(body: str) -> str:
    return f"(with Guests guest {body})"


# --- policies that are good ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("texts", [{"50_balloon": MOM_BALLOON}, {"50_ksm": MOM_KSM}, VDSM], ids=["mom balloon", "mom ksm", "vdsm"])
def test_old_policies_are_warned_of_guests_without_data_and_of_nothing_else(texts: dict[str, str]) -> None:
    assert {remark.rule for remark in check(texts, DECLARED)} <= TRUE_OF_OLD_POLICIES


def test_each_field_is_said_once_in_a_policy_to_be_possibly_nil() -> None:
    found = [remark.message.split(" may be ")[0] for remark in check(VDSM, DECLARED) if remark.rule == "possible-nil"]
    assert max(Counter(found).values()) <= 2, "guest.balloon_cur is used in two of the policies"


GOOD = (
    in_loop("(if (valid guest.balloon_cur) (debug (+ guest.balloon_cur 1)) 0)"),
    in_loop("(if (null guest.balloon_cur) 0 (debug (+ guest.balloon_cur 1)))"),
    in_loop("(if (!= guest.balloon_cur nil) (debug (+ guest.balloon_cur 1)) 0)"),
    in_loop("(if (== nil guest.balloon_cur) 0 (debug (+ guest.balloon_cur 1)))"),
    in_loop("(if (not (valid guest.balloon_cur)) 0 (debug (+ guest.balloon_cur 1)))"),
    in_loop("(if guest.balloon_cur (debug (+ guest.balloon_cur 1)) 0)"),
    in_loop("(if (and (valid guest.balloon_cur) (valid guest.balloon_max)) (debug (- guest.balloon_max guest.balloon_cur)) 0)"),
    in_loop("(if (or (null guest.balloon_cur) (null guest.balloon_max)) 0 (debug (- guest.balloon_max guest.balloon_cur)))"),
    in_loop("(let ((size guest.balloon_cur)) (if (valid size) (debug (+ guest.balloon_cur size)) 0))"),
    in_loop("(let ((size (if (valid guest.balloon_cur) guest.balloon_cur 0))) (debug (+ 1 size)))"),
    in_loop("(let ((known (valid guest.balloon_cur))) (if known (debug (+ guest.balloon_cur 1)) 0))"),
    in_loop(
        "(let ((two (if (valid guest.balloon_cur) (* 2 guest.balloon_cur) nil))) (if (valid two) (debug (+ two guest.balloon_cur)) 0))"
    ),
    "(def known (g) (valid g.balloon_cur))" + in_loop("(if (known guest) (debug (+ guest.balloon_cur 1)) 0)"),
    "(def twice (g) (* 2 g.balloon_cur))" + in_loop("(if (valid guest.balloon_cur) (debug (twice guest)) 0)"),
    "(def helper () (* 2 guest.balloon_cur))" + in_loop("(if (valid guest.balloon_cur) (debug (helper)) 0)"),
    in_loop('(if (valid guest.balloon_cur) (guest.SetVar "size" guest.balloon_cur) 0)')
    + in_loop('(let ((size (guest.GetVar "size"))) (if (valid size) (debug (+ size guest.balloon_cur)) 0))'),
    in_loop("(let ((change 0)) (if (valid guest.balloon_cur) (set change 5) 0) (if (!= change 0) (debug (+ guest.balloon_cur change)) 0))"),
    in_loop('(if (valid (guest.Stat "balloon_cur")) (debug (+ (guest.Stat "balloon_cur") 1)) 0)'),
    "(debug (/ Host.mem_free Host.mem_available))",
    "(defvar sum 0)" + in_loop("(if (valid guest.balloon_cur) (set sum (+ sum guest.balloon_cur)) 0)") + "(debug (/ sum 2))",
    "(if (> Host.mem_free (* 0.2 Host.mem_available)) 1 0)",
    "(if (> (/ Host.mem_free Host.mem_available) 0.2) 1 0)",
    "(if (> (/ Host.mem_available Host.mem_free) 20) 1 0)",
    "(if (> Host.load_1 Host.cpu_count) 1 0)",
    "(if (> (* 4 Host.ksm_pages_sharing) Host.mem_free) 1 0)",
    "(if (> (/ Host.ksm_general_profit 1024) Host.mem_free) 1 0)",
    "(if (> Host.psi_memory_some_avg10 0.2) 1 0)",
    "(if (< Host.ksm_general_profit 0) 1 0)",
    "(if (> Host.mem_free 0) 1 0)",
    "(defvar enabled 1) (if (> enabled 0) (Host.Control 'ksm_run' 1) nil)",
    "(defvar enabled nil) (if (valid enabled) (debug (+ enabled 1)) 0)",
    "(def f (x) (if (> x 0) (f (- x 1)) 0)) (debug (f 3))",
    "(def g () (h)) (def h () 1) (debug (g))",
    "(defvar s 'ab') (with s c (debug (+ c '.')))",
    in_loop("(if (valid guest.io_tune) (with guest.io_tune t (debug t.maximum.total_bytes_sec)) 0)"),
    "(defvar a abs) (debug (a -1))",
    in_loop("(if (== guest.os 'linux') (debug 1) 0)"),
    in_loop('(if (valid guest.mem_usable) (debug (guest.StatAvg "mem_usable")) 0)'),
    in_loop('(let ((t (guest.GetControl "balloon_target"))) (if (valid guest.balloon_cur t) (debug (- guest.balloon_cur t)) 0))'),
)


@pytest.mark.parametrize("text", GOOD)
def test_good_policies_get_no_remarks(text: str) -> None:
    assert [str(remark) for remark in remarks_on(text)] == []


# --- nil -------------------------------------------------------------------------------------------------------------------------

DOUBTFUL = (
    "(debug (+ guest.balloon_cur 1))",
    "(debug (max 0 guest.balloon_cur))",
    "(debug (abs guest.balloon_cur))",
    "(if (> guest.balloon_cur 5) 1 0)",
    "(if (valid guest.balloon_max) (debug (+ guest.balloon_cur 1)) 0)",
    "(if (or (valid guest.balloon_cur) (valid guest.balloon_max)) (debug (+ guest.balloon_cur 1)) 0)",
    "(if (valid guest.balloon_cur) 0 (debug (+ guest.balloon_cur 1)))",
    "(let ((size guest.balloon_cur)) (debug (+ size 1)))",
    "(let ((size (if (valid guest.balloon_max) guest.balloon_cur 0))) (debug (+ size 1)))",
    "(let ((size (if (valid guest.balloon_cur) guest.balloon_cur nil))) (debug (+ size 1)))",
    "(let ((size 0)) (if (valid guest.balloon_max) (set size guest.balloon_cur) 0) (debug (+ size 1)))",
    '(debug (+ 1 (guest.Stat "balloon_cur")))',
)


@pytest.mark.parametrize("body", DOUBTFUL)
def test_a_field_that_may_be_unknown_is_computed_with(body: str) -> None:
    assert "possible-nil" in rules(in_loop(body))


def test_nil_in_a_function_is_found_where_it_is_called_with_it() -> None:
    text = "(def twice (x) (* 2 x))\n" + in_loop("(debug (twice guest.balloon_cur))")
    (found,) = remarks_on(text)
    assert (found.rule, found.source.line, found.source.column) == ("possible-nil", 1, 21)


# --- units, constants ------------------------------------------------------------------------------------------------------------

UNITS = (
    ("(debug (+ Host.mem_free Host.ksm_pages_sharing))", "KiB and pages are added"),
    ("(debug (- Host.mem_free Host.ksm_general_profit))", "KiB and B are subtracted"),
    ("(if (== Host.mem_free Host.swap_in) 1 0)", "KiB and pages are compared"),
    ("(debug (max 0 Host.mem_free Host.ksm_pages_sharing))", "KiB and pages are compared"),
    ("(debug (+ Host.mem_free Host.cpu_count))", "KiB and a ratio or count are added"),
    ("(if (> (/ Host.mem_free Host.mem_available) Host.ksmd_cpu_usage) 1 0)", "a ratio or count and % are compared"),
    ("(if (> (* 0.8 Host.ksm_pages_sharing) (/ Host.mem_free 2)) 1 0)", "pages and KiB are compared"),
    ("(if (> (* Host.mem_free Host.cpu_count) Host.swap_in) 1 0)", "KiB and pages are compared"),
    ("(if (> (/ Host.mem_free Host.swap_in) Host.mem_free) 1 0)", "KiB/pages and KiB are compared"),
    ("(Host.Control 'ksm_pages_to_scan' Host.mem_free)", "ksm_pages_to_scan is in pages, this is KiB"),
    (in_loop("(if (valid guest.swap_in) (if (> guest.swap_in Host.swap_in) 1 0) 0)"), "KiB/s and pages are compared"),
    ("(defvar x Host.mem_free) (def f (y) (+ x y)) (debug (f Host.swap_in))", "KiB and pages are added"),
)


@pytest.mark.parametrize(("text", "message"), UNITS)
def test_units_are_followed_through_arithmetic(text: str, message: str) -> None:
    assert [remark.message for remark in remarks_on(text)] == [message]


# --- names -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "rule", "hint"),
    [
        ("(if (> Host.mem_fre 5) 1 0)", "unknown-field", "did you mean mem_free?"),
        ("(if (> (Host.Stat 'mem_fre') 5) 1 0)", "unknown-field", "did you mean mem_free?"),
        ("(debug (Host.StatAvg 'balloon_cur'))", "unknown-field", "there is a guest field of that name"),
        ("(debug Host.balloon_cur)", "unknown-field", "there is a guest field of that name"),
        (in_loop("(debug guest.name)"), "unknown-field", 'it is a property: (guest.Prop "name")'),
        (in_loop("(debug (guest.Prop 'nam'))"), "unknown-property", "did you mean name?"),
        (in_loop("(debug (guest.Prop 'balloon_cur'))"), "unknown-property", "read it as an attribute"),
        ("(Host.Control 'ksm_runn' 1)", "unknown-control", "did you mean ksm_run?"),
        ("(defvar threshold 1) (debug treshold threshold)", "undefined-symbol", "did you mean threshold?"),
        ("(def shrink () 1) (shrnk) (shrink)", "unknown-function", "did you mean shrink?"),
        ("(ValiD 1)", "unknown-function", "did you mean valid?"),
        ("(defvar ksm 1) (set ksmm 2) (debug ksm)", "unknown-variable", "did you mean ksm?"),
        ("(debug (Host.GetVar 'lst')) (Host.SetVar 'last' 1)", "unset-note", "did you mean last?"),
    ],
)
def test_misspelt_names_are_found_and_corrected(text: str, rule: str, hint: str) -> None:
    (found,) = remarks_on(text)
    assert (found.rule, found.hint) == (rule, hint)


SAID = (
    ("(debug (+ nil 1))", ["type"]),
    (in_loop("{ (debug (+ guest.balloon_cur 1)) (debug (+ guest.balloon_cur 2)) }"), ["possible-nil"]),  # known after the first
    ("(debug (+ Host.swap_total 1))", []),
    ("(debug (+ Host.swap_total 1)) (if (valid Host.swap_total) 1 0)", ["possible-nil"]),  # where the policy itself doubts it
    (in_loop("(if (and (valid guest.swap_in) (> guest.swap_in 5)) 1 0)"), ["no-short-circuit"]),
    (in_loop("(if (or (null guest.swap_in) (> guest.swap_in 5)) 1 0)"), ["no-short-circuit"]),
    ("(if (and (> Host.swap_total 0) (> (/ Host.swap_usage Host.swap_total) 0.5)) 1 0)", ["no-short-circuit"]),
    ("(if (or (== Host.swap_total 0) (> (/ Host.swap_usage Host.swap_total) 0.5)) 1 0)", ["no-short-circuit"]),
    ("(if (and (> Host.mem_free 5) (Host.Control 'ksm_run' 1)) 1 0)", ["no-short-circuit"]),
    ("(defvar n 0) (if (and (> Host.mem_free 5) (set n 1)) (debug n) 0)", ["no-short-circuit"]),
    ("(def start () (Host.Control 'ksm_run' 1)) (if (or (> Host.mem_free 5) (start)) 1 0)", ["no-short-circuit"]),
    (in_loop("(guest.Control 'ksm_run' 1)"), ["wrong-scope"]),
    ("(def on (e) (e.Control 'ksm_run' 1)) (on Host)", []),
    ("(def on (e) (e.Control 'balloon_target' 5000)) (on Host)", ["wrong-scope"]),
    ("(Host.Control 'ksm_run' -1) (Host.Control 'ksm_run' 2.5) (Host.Control 'ksm_run' 2)", ["control-bounds"] * 2),
    ("(Host.Control 'ksm_run' nil)", []),
    ("(defvar a 1) (let ((b 2)) 3) (def f () 4) (defvar _c 5) (def _g () 6) 7", ["unused-variable"] * 2 + ["unused-function"]),
    ("(def helper (unused) (debug guest.os))" + in_loop("(helper 1)"), []),  # dynamic scope is no mistake
    ("(def helper () (set total (+ total 1))) (let ((total 0)) (helper) (debug total))", []),
    ("(let ((inner 1)) (debug inner)) (debug inner)", ["undefined-symbol"]),
    ("(let ((a 1) (a 2)) (debug a))", ["duplicate-variable"]),
    ("(if (> Host.mem_free 5) (defvar sometimes 1) 0) (debug sometimes)", []),
    ("(def f (x) (+ x 1 2)) 1", ["unused-function", "arity"]),  # functions that nothing calls are looked at, too
    ("(def f () Host.mem_fre) 1", ["unused-function", "unknown-field"]),
    ("(defvar enabled 0) (if enabled (debug (+ 1 2 3)) 0)", ["arity"]),  # and so is what a constant switches off
)


@pytest.mark.parametrize(("text", "said"), SAID)
def test_what_is_said_of_a_policy(text: str, said: list[str]) -> None:
    assert rules(text) == said


def test_a_control_is_named_with_what_it_takes() -> None:
    assert rules("(Host.Control 'anything' (+ 1 Host.whatever))", None) == [], "without declarations every field and control is good"
    (named,) = check({"p": "(Host.Control 'ksm_run' 7)"}, DECLARED)
    assert named.message == "ksm_run has the values 0, 1, 2, and this is 7: nothing comes of it"
    (bounded,) = check({"p": "(Host.Control 'ksm_sleep_millisecs' 70000)"}, DECLARED)
    assert bounded.message == "ksm_sleep_millisecs is never set above 60000, and this is 70000"


def test_names_of_other_policies_count() -> None:
    defines = {"00_defines": "(defvar limit 5) (def low (x) (< x limit))"}
    uses = {"50_uses": "(if (low Host.mem_free) 1 0)"}
    assert check(defines, DECLARED) == [], "a policy of definitions only is for others"
    assert check({**defines, **uses}, DECLARED) == []
    assert [remark.rule for remark in check(uses, DECLARED)] == ["unknown-function"]
    assert check({"10_a": "(def f () 1) (defvar v 1)", "20_b": "(def f () 2) (set v 2) (debug (f) v)"}, DECLARED) == []


def test_names_of_default_policies_count_where_these_are_not_replaced() -> None:
    default = {"50_default": "(defvar limit 5) (def low (x) (< x limit)) (if (low Host.mem_free) 1 0)"}
    declared = Declarations(DECLARED.fields, DECLARED.controls, {}, default)
    assert check({"10_parameters": "(defvar limit 6)\n(debug 1)"}, declared) == []
    assert check({"90_late": "(if (low Host.mem_available) (set limit 7) 0)"}, declared) == []
    replaced = {"50_default": "(debug 1)", "90_late": "(if (low Host.mem_available) 1 0)"}
    assert [remark.rule for remark in check(replaced, declared)] == ["unknown-function"]


def test_a_later_policy_may_define_a_function_anew_with_other_parameters() -> None:
    first = "(def worth (a b) (> a b)) (def act (x) (if (worth x 1) (debug x) 0)) (defvar on 0) (if {} (act 2) (debug on))"
    second = "(def worth (a) (!= a nil)) (debug (worth Host.mem_free))"
    for condition in ("on", "(and (< Host.mem_free 9) (== on 1))", "1"):
        assert {remark.rule for remark in check({"10": first.format(condition), "20": second}, DECLARED)} == set()
    wrong = check({"10": "(def worth (a b) (> a b)) (def act () (worth 1 2 3))", "20": "(def worth (a) a) (debug (worth 2))"}, DECLARED)
    assert "arity" in {remark.rule for remark in wrong}


def test_a_name_is_never_advised_instead_of_itself() -> None:
    (found,) = remarks_on("(def f (wish) wish) (debug (f 1)) (set wish 1)")
    assert found.rule == "unknown-variable"
    assert "wish?" not in found.hint


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("(debug (if 1 2))", "arity"),
        ("(def f (x) x) (debug (f))", "arity"),
        ("(debug (Host.Prop))", "arity"),
        ("(debug (abs 1 2))", "arity"),
        ("(debug ())", "empty-form"),
        ("(debug {})", "empty-form"),
        ("(debug (eval))", "empty-form"),
        ("(debug (5 1))", "not-callable"),
        ("(debug ((abs 1) 2))", "not-callable"),
        ("(defvar n 3) (n)", "not-callable"),
        ("(debug (Host.mem_free))", "not-callable"),
        ("(debug (< 1 'a'))", "type"),
        ("(debug (* 'a' 2.0))", "type"),
        ("(with Host g 1)", "type"),
        ("(debug (+ Host.ksm_advisor_mode 1))", "type"),
        ("(Host.Control 'ksm_run' 'on')", "type"),
        ("(debug (<< 1 -1))", "range"),
        ("(debug (/ 1 0))", "zero-division"),
        ("(debug (/ Host.mem_free 0.0))", "zero-division"),
        ("(let (p 1) 2)", "malformed"),
        ("(debug +)", "malformed"),
        ("(set 'x' 1)", "malformed"),
    ],
)
def test_what_fails_for_certain_is_an_error(text: str, rule: str) -> None:
    (found,) = remarks_on(text)
    assert (found.rule, found.severity) == (rule, Severity.ERROR)


# --- remarks themselves ----------------------------------------------------------------------------------------------------------


def test_everything_that_keeps_policies_from_loading_is_told_at_once() -> None:
    found = check({"a": "(", "b": "(def f x 1) (def g (a a) 1)", "c": "0o8"}, DECLARED)
    assert [(remark.source.name, remark.rule) for remark in found] == [
        ("a", "syntax"),
        ("b", "malformed"),
        ("b", "malformed"),
        ("c", "bad-literal"),
    ]
    assert all(remark.severity is Severity.ERROR for remark in found)


def test_remarks_come_in_the_order_of_policies_and_texts() -> None:
    texts = {"b": "(debug (f))\n(debug (g))", "a": "(debug x)"}
    assert [(remark.source.name, remark.source.line) for remark in check(texts, DECLARED)] == [("a", 1), ("b", 1), ("b", 2)]


@pytest.mark.long
@pytest.mark.parametrize(
    "text",
    [
        "\n".join(f"(def f{n} (x) (+ (f{n - 1} x) (f{n - 1} (+ x 1))))" for n in range(1, 40))
        + "(def f0 (x) x) (debug (f39 Host.mem_free))",
        "(def f (x) (+ (f (- x 1)) (f (- x 2)))) (debug (f Host.mem_free))",
        "(with Guests g " * 14 + "(set x 1)" + ")" * 14,
        "(+ 1 " * 400 + "1" + ")" * 400,
        "(" * 1_000_000,
        '(debug (* "x" 1000000000)) (debug (<< 1 1000000000))',
        "(and " + "Host.mem_free " * 20_000 + ")",
    ],
    ids=["calls double", "recursion", "loops", "deep", "brackets", "large", "wide"],
)
def test_no_text_keeps_the_checks_busy_for_long(text: str) -> None:
    check({"50_test": text}, DECLARED)  # the test suite's own duration is the measure


# --- random programs


LARGE = {
    "arguments of min": in_loop("{ (defvar a guest.balloon_cur) (min " + "a " * 20_000 + ") }"),
    "sums of min": in_loop("(min " + "(+ 1 guest.balloon_cur) " * 8000 + ")"),
    "squares of squares": in_loop("{ (defvar a guest.balloon_cur) " + "(set a (* a a)) " * 1500 + "}"),
    "divisions by what is compared": in_loop("{ (defvar a guest.balloon_cur) (and " + "(/ 1 a) (!= a 0) " * 1400 + ") }"),
    "notes that may be nil": in_loop("(and " + " ".join(f"(< 1 (guest.GetVar 'n{n}'))" for n in range(4000)) + ")"),
    "misspelt variables": " ".join(f"(defvar known{n}a 1)" for n in range(5000)) + " ".join(f"(+ known{n}b 1)" for n in range(2000)),
    "misspelt functions": " ".join(f"(def known{n}a () 1)" for n in range(3000)) + " ".join(f"(known{n}b 1)" for n in range(2000)),
}


@pytest.mark.long
@pytest.mark.parametrize("name", LARGE)
def test_the_checks_take_time_in_proportion_to_the_text(name: str) -> None:
    policy = Policy.compile({"50_test": LARGE[name]}, DECLARED)
    began = time.process_time()
    check_policy(policy)
    assert time.process_time() - began < 5, "a second, where each argument or name was compared with each other: half a minute and more"


def test_units_are_compared_with_those_of_all_arguments() -> None:
    (found,) = [one for one in remarks_on(in_loop("(max 1 guest.balloon_cur 2 guest.mem_unused guest.swap_in)")) if one.rule == "units"]
    assert found.message == "KiB and KiB/s are compared"


def faults_of(text: str) -> Sequence[Fault]:
    try:
        Policy.compile({"p": text})
    except PolicyError as error:
        return error.faults
    return ()


@pytest.mark.long
@settings(max_examples=300, deadline=None)
@given(st.randoms(use_true_random=False), st.booleans())
def test_checks_of_random_programs_raise_nothing_and_refuse_what_compiling_refuses(choose: random.Random, declared: bool) -> None:
    text = program(choose.randrange)
    found = check({"p": text}, DECLARED if declared else None)
    assert {remark.rule for remark in found} <= RULES.keys()
    refused = faults_of(text)
    if refused:
        assert [(remark.rule, remark.source) for remark in found] == [(fault.kind, fault.source) for fault in refused]


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60))
def test_checks_of_any_text_raise_nothing(text: str) -> None:
    check({"p": text}, DECLARED)


@pytest.mark.long
@settings(max_examples=400, deadline=None)
@given(st.randoms(use_true_random=False))
def test_what_is_an_error_in_a_straight_line_does_fail(choose: random.Random) -> None:
    text = program(choose.randrange)
    if any(word in text for word in ("(if", "(with", "(def ", "debug")) or faults_of(text):
        return
    policy = Policy.compile({"p": text})
    taken = snapshot(host={"mem_free": 300, "swap_total": None, "cpu_count": 4, "late": None})
    failed = policy.evaluate(taken).errors
    if any(remark.severity is Severity.ERROR for remark in check({"p": text})):
        assert failed, text


def test_suggestions_for_many_long_names_that_are_alike_take_no_time() -> None:
    """A client may ask for a check, and each name would be compared with all others."""
    for length, count in ((190, 1000), (60, 3000)):
        names = [f"{'ab' * (length // 2)}{number}" for number in range(count)]
        bound, read = "\n".join(f"(defvar {name} 1)" for name in names), "\n".join(f"(+ {name}x 1)" for name in names)
        began = time.process_time()
        remarks = check({"50": f"{bound}\n{read}"})
        assert time.process_time() - began < 4
        assert len(remarks) > count
    assert "did you mean known?" in [one.hint for one in check({"50": "(defvar known 1)\n(+ knwon 1)"})]
