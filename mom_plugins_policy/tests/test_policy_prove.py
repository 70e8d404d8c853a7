"""Proofs: that a control stays within bounds, or a snapshot in which it does not."""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections.abc import Sequence
from fractions import Fraction
from unittest.mock import patch

import pytest
import z3
from bounded_programs import bounded_program
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from policy_declared import DECLARED
from term_values import Unknowable, value_of
from test_policy_symbols import random_snapshot

from mom_core import Guest, MomError, Scope, Snapshot
from mom_plugins_policy import Policy, PolicyError
from mom_plugins_policy.language.reader import read
from mom_plugins_policy.language.words.vocabulary import FLOAT, Vocabulary
from mom_plugins_policy.prove import proof
from mom_plugins_policy.prove.attempts import Attempts, Bound
from mom_plugins_policy.prove.encoder import Encoded, Encoding
from mom_plugins_policy.prove.proof import ProofAnswer, ProofResult, bound_of, default_bounds, prove, scope_of_control
from mom_plugins_policy.prove.search import Reads, ViolationSearch, reads
from mom_plugins_policy.prove.solver import Goal, Solver
from mom_plugins_policy.symbols.machine import PathFails, SymbolicEvaluator, SymbolicRequest, Unsupported
from mom_plugins_policy.symbols.terms import Term, Terms
from mom_plugins_policy.tools.snapshots import as_json, made_snapshot


@pytest.fixture(autouse=True)
def in_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What needs an operator's patience in earnest has to be found sooner here."""
    for name, seconds in (("_FIRST", 2.0), ("_SECOND", 2.0), ("_GLANCE", 0.3), ("_SEARCH", 0.3)):
        monkeypatch.setattr(proof, name, seconds)


def verdicts(text: str, control: str, lows: Sequence[str] = (), highs: Sequence[str] = (), assume: Sequence[str] = ()) -> list[ProofResult]:
    policy = Policy.compile({"50_test": text}, DECLARED)
    scope = scope_of_control(control, policy)
    bounds = [bound_of(low, at_least=True, scope=scope, declarations=DECLARED) for low in lows]
    bounds += [bound_of(high, at_least=False, scope=scope, declarations=DECLARED) for high in highs]
    return prove(policy, control, bounds or default_bounds(control, scope, DECLARED), scope=scope, assume=assume)


def verdict(text: str, control: str = "balloon_target", low: str = "", high: str = "", assume: Sequence[str] = ()) -> ProofResult:
    (found,) = verdicts(text, control, [low] if low else [], [high] if high else [], assume)
    return found


def on_each(value: str, before: str = "") -> str:
    return f'{before}(with Guests guest (guest.Control "balloon_target" {value}))'


HOLDS_AT_LEAST = (
    ("guest.balloon_min", "balloon_min"),
    ("(max guest.balloon_min (/ guest.balloon_cur 2))", "balloon_min"),
    ("(max (/ guest.balloon_cur 2) guest.balloon_min)", "balloon_min"),
    ("(max 1 (min 5 guest.balloon_cur))", "1"),
    ("(+ guest.balloon_min (abs (- guest.balloon_cur guest.balloon_max)))", "balloon_min"),
    ("(* 1.01 guest.balloon_min)", "balloon_min"),
    ("(/ guest.balloon_min 0.99)", "balloon_min"),
    ("(+ guest.balloon_min 0.1)", "balloon_min"),
    ("(+ 0.5 (max guest.balloon_min 7))", "balloon_min"),
    ("(if (>= guest.balloon_cur guest.balloon_min) guest.balloon_cur guest.balloon_min)", "balloon_min"),
    ("(if (< guest.balloon_cur guest.balloon_min) guest.balloon_min guest.balloon_cur)", "balloon_min"),
    ("(if (or (null guest.balloon_min) (< guest.balloon_cur guest.balloon_min)) nil guest.balloon_cur)", "balloon_min"),
    ("(let ((least guest.balloon_min) (wanted (* 0.9 guest.balloon_cur))) (if (> wanted least) wanted least))", "balloon_min"),
    (
        "(- guest.balloon_max (* 0.5 (- guest.balloon_max (min guest.balloon_min guest.balloon_max))))",
        "(min guest.balloon_min guest.balloon_max)",
    ),
    ("(max guest.balloon_min (* 0.9 guest.balloon_cur))", "(* 0.9 guest.balloon_cur)"),
    ("(* 100 (min 1 (/ 1 Host.load_1)))", "0"),  # which may be 1 of infinity, and never NaN
    ('"2000"', "2000"),
    ("(< 1 2)", "1"),
)


@pytest.mark.parametrize(("value", "bound"), HOLDS_AT_LEAST)
def test_lower_bounds_that_hold(value: str, bound: str) -> None:
    assert verdict(on_each(value), low=bound).answer is ProofAnswer.HOLDS


HOLDS_AT_MOST = (
    ("(min guest.balloon_max (* 1.1 guest.balloon_cur))", "balloon_max"),
    ("(* 0.999999999999 guest.balloon_max)", "balloon_max"),
    (
        "(+ guest.balloon_cur (* (min 1 Host.load_1) (- (max guest.balloon_cur guest.balloon_max) guest.balloon_cur)))",
        "(max guest.balloon_cur guest.balloon_max)",
    ),
    ("(min 100 (/ 1 Host.load_1))", "100"),
)


@pytest.mark.parametrize(("value", "bound"), HOLDS_AT_MOST)
def test_upper_bounds_that_hold(value: str, bound: str) -> None:
    assert verdict(on_each(value), high=bound).answer is ProofAnswer.HOLDS


NEAR_MISSES = (
    ("(max guest.balloon_cur (/ guest.balloon_min 2))", "balloon_min"),
    ("(max (* 0.999 guest.balloon_min) (/ guest.balloon_cur 2))", "balloon_min"),
    ("(- guest.balloon_min 1)", "balloon_min"),
    ("(- (+ guest.balloon_min 0.5) 1)", "balloon_min"),
    ("(if (> guest.balloon_cur guest.balloon_min) (- guest.balloon_cur 1.5) guest.balloon_min)", "balloon_min"),
    ("(if (valid guest.balloon_min) guest.balloon_cur guest.balloon_min)", "balloon_min"),
    ("(if (and guest.balloon_cur guest.balloon_min) (min guest.balloon_cur guest.balloon_min) nil)", "balloon_min"),
    ("(max 1 (min 5 (- guest.balloon_cur 3)))", "2"),
    ("(* (/ guest.balloon_min 3) 2.9)", "balloon_min"),
    ('"-5"', "0"),
)


@pytest.mark.parametrize(("value", "bound"), NEAR_MISSES)
def test_what_nearly_holds_is_refuted_by_a_snapshot(value: str, bound: str) -> None:
    found = verdict(on_each(value), low=bound)
    assert found.answer is ProofAnswer.VIOLATED
    assert found.violation is not None
    assert found.violation.value < found.violation.bound


def test_a_counterexample_is_what_the_evaluator_makes_of_the_printed_snapshot() -> None:
    text = on_each("(max guest.balloon_cur (/ guest.balloon_min 2))")
    found = verdict(text, low="balloon_min")
    assert found.counterexample is not None
    read_back = made_snapshot(json.loads(json.dumps(as_json(found.counterexample))), "test")
    (decision,) = Policy.compile({"50_test": text}, DECLARED).evaluate(read_back).decisions
    (guest,) = read_back.guests.values()
    assert isinstance(decision.value, int)
    assert isinstance(guest.fields["balloon_min"], int)
    assert decision.value < guest.fields["balloon_min"]
    assert found.form is not None
    assert found.form.source == decision.source


def test_a_counterexample_is_made_small() -> None:
    found = verdict(on_each("(- guest.balloon_min 1)"), low="balloon_min")
    assert found.counterexample is not None
    assert dict(found.counterexample.host.fields) == {}
    assert [dict(guest.fields) for guest in found.counterexample.guests.values()] == [{"balloon_min": 0}]


@pytest.mark.long
def test_rounding_is_taken_into_account() -> None:
    """3.0 * (1/3) is 1, but (x + 0.1) - 0.1 may be a little less than x, and is cut."""
    assert verdict(on_each("(- (+ guest.balloon_min 0.1) 0.1)"), low="balloon_min").answer is not ProofAnswer.HOLDS
    assert verdict(on_each("(* (/ guest.balloon_min 49) 49)"), low="balloon_min").answer is not ProofAnswer.HOLDS
    assert verdict(on_each("(* (/ guest.balloon_min 64) 64)"), low="balloon_min").answer is not ProofAnswer.VIOLATED
    assert verdict(on_each("(+ 9007199254740992 (+ 1.0 0))"), low="9007199254740993").answer is ProofAnswer.VIOLATED


def test_what_is_cut_to_a_whole_number_is_compared_whole() -> None:
    assert verdict(on_each("(+ 3 0.9)"), high="3").answer is not ProofAnswer.VIOLATED
    assert verdict(on_each("0.5"), low="0").answer is ProofAnswer.HOLDS
    assert verdict('(with Guests guest (guest.Control "share" 0.5))', "share", low="0.6").answer is ProofAnswer.VIOLATED


def test_infinities_and_nan_are_no_requests() -> None:
    assert verdict(on_each("(if (> (* 1e300 (* 1e300 guest.balloon_cur)) 0) (* 1e300 1e300) 5)"), low="5").answer is ProofAnswer.HOLDS
    nan = "(let ((i (* 1e300 (* 1e300 (+ 1 guest.balloon_cur))))) (- i i))"
    assert verdict(on_each(f"(max 5 {nan})"), low="5").answer is ProofAnswer.HOLDS
    assert verdict(on_each(f"(min (max 7 {nan}) 9)"), low="7").answer is ProofAnswer.HOLDS


def test_order_of_minimum_and_maximum_matters_with_nan() -> None:
    """(Host.Prop …) may be any number: (max x 5) is NaN if x is, and no request; (max 5 x) is 5."""
    assert verdict(on_each('(max (Host.Prop "interval") 5)'), low="5").answer is ProofAnswer.HOLDS
    assert verdict(on_each('(max 5 (Host.Prop "interval"))'), low="5").answer is ProofAnswer.HOLDS


def test_where_the_bound_is_unknown_there_is_none() -> None:
    assert verdict(on_each("(if (null guest.balloon_min) 0 guest.balloon_min)"), low="balloon_min").answer is ProofAnswer.HOLDS


def test_the_last_request_counts() -> None:
    text = on_each("0") + on_each('(max guest.balloon_min (guest.GetControl "balloon_target"))')
    assert verdict(text, low="balloon_min").answer is ProofAnswer.HOLDS
    assert verdict(on_each("guest.balloon_min") + on_each("0"), low="balloon_min").answer is ProofAnswer.VIOLATED
    assert verdict(on_each("0") + on_each("nil"), low="5").answer is ProofAnswer.HOLDS, "nil is no request"


def test_a_guest_of_which_a_step_fails_gets_nothing() -> None:
    text = on_each("0") + "(with Guests guest (+ guest.balloon_min nil))"
    assert verdict(text, low="5").answer is ProofAnswer.HOLDS


def test_what_was_decided_for_guests_before_an_error_elsewhere_counts() -> None:
    corrected = on_each("(max guest.balloon_min 5)")
    assert verdict(on_each("0") + "(+ 1 nil)" + corrected, low="5").answer is ProofAnswer.VIOLATED
    assert verdict(on_each("0") + "(debug (+ Host.mem_free 1))" + corrected, low="5").answer is ProofAnswer.VIOLATED
    assert verdict(on_each("0") + "(if (valid Host.mem_free) (debug (max 1 2)) 3)" + corrected, low="5").answer is ProofAnswer.HOLDS
    assert verdict("(with Guests g { (g.Control 'balloon_target' 0) (g.Control 'balloon_target' 5) })", low="5").answer is ProofAnswer.HOLDS
    host = "(Host.Control 'ksm_run' 3) (debug (+ Host.mem_free 1)) (Host.Control 'ksm_run' 1)"
    assert verdict(host, "ksm_run", high="2").answer is ProofAnswer.HOLDS, "what was asked for the host is lost with the rest"


def test_notes_carry_what_is_known_from_loop_to_loop() -> None:
    text = (
        '(with Guests g (if (valid g.balloon_cur g.balloon_min) (if (> g.balloon_cur g.balloon_min) (g.SetVar "can" 1) 0) 0))'
        '(with Guests g (if (valid (g.GetVar "can")) (g.Control "balloon_target" g.balloon_cur) 0))'
    )
    assert verdict(text, low="balloon_min").answer is ProofAnswer.HOLDS


def test_other_guests_may_change_every_variable() -> None:
    text = "(defvar floor 10) (with Guests g { (g.Control 'balloon_target' floor) (set floor (- floor 1)) })"
    assert verdict(text, low="10").answer is ProofAnswer.VIOLATED
    text = "(defvar last Host) (with Guests g { (if (!= last Host) (last.Control 'balloon_target' 0) 0) (set last g) })"
    assert verdict(text, low="1").answer is ProofAnswer.VIOLATED
    text = "(with Guests g (with Guests h (h.Control 'balloon_target' g.balloon_cur)))"
    assert verdict(text, low="1").answer is ProofAnswer.VIOLATED
    text = "(with Guests g (with Guests h (h.Control 'balloon_target' (max h.balloon_min g.balloon_cur))))"
    assert verdict(text, low="balloon_min").answer is ProofAnswer.HOLDS


def test_requests_through_variables_functions_and_lists_are_seen() -> None:
    assert verdict("(with Guests g { (defvar ask g.Control) (ask 'balloon_target' 0) })", low="1").answer is ProofAnswer.VIOLATED
    assert verdict("(def ask (e v) (e.Control 'balloon_target' v)) (with Guests g (ask g 0))", low="1").answer is ProofAnswer.VIOLATED
    assert verdict("(defvar all (with Guests g g)) (with all g (g.Control 'balloon_target' 0))", low="1").answer is ProofAnswer.VIOLATED
    assert verdict("(def ask (n) (with Guests g (g.Control n 0))) (ask 'balloon_target')", low="1").answer is ProofAnswer.VIOLATED
    assert verdict("(with Guests g (g.Control (g.Prop 'name') 0))", low="1").answer is not ProofAnswer.HOLDS


def test_what_is_not_followed_is_not_said_to_hold() -> None:
    recursive = "(def f (n) (if (> n 0) (f (- n 1)) (with Guests g (g.Control 'balloon_target' 0)))) (f Host.cpu_count)"
    found = verdict(recursive, low="1")
    assert found.answer is not ProofAnswer.HOLDS
    redefined = "(with Guests g { (def f () 0) (g.Control 'balloon_target' (f)) })"
    assert verdict(redefined, low="1").answer is not ProofAnswer.HOLDS


@pytest.mark.long
def test_what_cannot_be_told_names_the_place() -> None:
    text = on_each("(if (== (/ (* 12345.678 guest.balloon_cur) 3.21) 98765.4321012345) 0 5)")
    found = verdict(text, low="5")
    assert found.answer is ProofAnswer.UNKNOWN
    assert found.form is not None
    assert found.form.source.column == 20


def test_guests_are_given_the_names_that_the_policy_asks_for() -> None:
    found = verdict("(with Guests g (if (== (g.Prop 'name') 'router') (g.Control 'balloon_target' 5) nil))", low="6")
    assert found.counterexample is not None
    assert [guest.name for guest in found.counterexample.guests.values()] == ["router"]


def test_assumptions_are_stated_and_only_those_that_were_needed() -> None:
    found = verdict(on_each("(* 1.0 guest.balloon_min)"), high="balloon_max")
    assert (found.answer, list(found.assumptions)) == (ProofAnswer.HOLDS, ["balloon_min <= balloon_max"])
    found = verdict(on_each("guest.balloon_min"), high="balloon_max", assume=["(<= guest.balloon_min guest.balloon_max)"])
    assert list(found.assumptions) == ["(<= guest.balloon_min guest.balloon_max) is true"]
    found = verdict(on_each("guest.balloon_cur"), low="balloon_min")
    assert found.answer is ProofAnswer.VIOLATED
    assert (
        verdict(on_each("guest.balloon_cur"), low="balloon_min", assume=["(>= guest.balloon_cur guest.balloon_min)"]).answer
        is ProofAnswer.HOLDS
    )


def test_counterexamples_are_as_assumed() -> None:
    found = verdict(on_each("guest.balloon_cur"), low="balloon_min", assume=["(> guest.balloon_cur 1000)"])
    assert found.counterexample is not None
    for guest in found.counterexample.guests.values():
        assert isinstance(guest.fields["balloon_cur"], int)
        assert guest.fields["balloon_cur"] > 1000


def test_controls_of_the_host() -> None:
    text = "(Host.Control 'ksm_pages_to_scan' (max 64 (min 1250 (/ Host.mem_free 1000))))"
    assert [found.answer for found in verdicts(text, "ksm_pages_to_scan")] == [ProofAnswer.HOLDS, ProofAnswer.HOLDS]
    assert [found.answer for found in verdicts(text, "ksm_pages_to_scan", ["65"], ["1249"])] == [ProofAnswer.VIOLATED, ProofAnswer.VIOLATED]
    in_loop = "(with Guests g (Host.Control 'ksm_run' g.vcpu_count))"
    assert [found.answer for found in verdicts(in_loop, "ksm_run")] == [ProofAnswer.HOLDS, ProofAnswer.VIOLATED]
    in_loop = "(Host.Control 'ksm_run' 2) (with Guests g (Host.Control 'ksm_run' (min 1 g.vcpu_count)))"
    assert [found.answer for found in verdicts(in_loop, "ksm_run")] == [ProofAnswer.HOLDS, ProofAnswer.HOLDS]


def test_default_bounds_are_the_declared_ones_and_for_balloons_those_of_the_guest_and_the_host() -> None:
    assert [str(bound) for bound in default_bounds("balloon_target", Scope.GUEST, DECLARED)] == [
        "at least 1024", "at least (min guest.balloon_min guest.balloon_cur)", "at least (- guest.balloon_cur guest.mem_usable)",
        "at most balloon_max", "of all guests together grows by at most mem_really_available",
        "does not go and return by more than 16384",
    ]  # fmt: skip
    assert [str(bound) for bound in default_bounds("ksm_run", Scope.HOST, DECLARED)] == ["at least 0", "at most 2"]


@pytest.mark.parametrize(
    ("bound", "message"),
    [
        ("balloon_mim", "did you mean balloon_min?"),
        ("1 2", "one number, field or expression"),
        ("'text'", "not a string"),
        ("(+ 1", "never closed"),
        ("", "one number, field or expression"),
    ],
)
def test_bounds_that_make_no_sense_are_refused(bound: str, message: str) -> None:
    with pytest.raises(MomError, match=message.replace("?", r"\?")) as refused:
        bound_of(bound, at_least=True, scope=Scope.GUEST, declarations=DECLARED)
    assert not isinstance(refused.value, PolicyError)


def test_controls_that_make_no_sense_are_refused() -> None:
    policy = Policy.compile({"p": "1"}, DECLARED)
    with pytest.raises(MomError, match=r"did you mean balloon_target\?"):
        scope_of_control("baloon_target", policy)
    with pytest.raises(MomError, match="cannot be computed"):
        verdict(on_each("1"), low="(+ nil 1)")


# --- soundness -----------------------------------------------------------------------------------------------------------------------


def outcome(seed: int) -> str:
    """Try to prove a random claim about a random program, and attack it: what came of both."""
    choose = random.Random(seed)  # noqa: S311  # the same claims each time, and no secret
    text = bounded_program(choose.randrange)
    control = choose.choice(("balloon_target", "balloon_target", "share", "ksm_pages_to_scan"))
    limit = choose.choice(
        ("balloon_min", "balloon_min", "balloon_max", "0", "100") if control != "ksm_pages_to_scan" else ("0", "mem_free")
    )
    policy = Policy.compile({"p": text}, DECLARED)
    scope = scope_of_control(control, policy)
    bound = bound_of(limit, at_least=choose.random() < 0.6, scope=scope, declarations=DECLARED)
    (found,) = prove(policy, control, [bound], scope=scope)
    if found.answer is ProofAnswer.HOLDS:
        attacked = attack(policy, control, scope, bound, found.assumptions)
        assert attacked is None, f"{text}\n{bound}: {attacked}"
    return str(found.answer)


def attack(policy: Policy, control: str, scope: Scope, bound: Bound, assumptions: Sequence[str]) -> object:
    orders = [(one, other) for one, _, other in (text.partition(" <= ") for text in assumptions)]
    machine = SymbolicEvaluator(policy.program, Vocabulary(DECLARED))
    fields = {(Scope.GUEST, name) for name in ("balloon_min", "balloon_max", "balloon_cur", "cpu_usage")}
    fields |= {(Scope.HOST, name) for name in ("mem_free", "mem_available", "load_1", "cpu_count")}
    read = Reads(reads(machine.terms).fields | fields, averages=True, names=False)
    trial = Attempts(policy, control, scope, bound, (), orders)
    search = ViolationSearch(trial, machine.vocabulary, read, policy.program.forms)
    return search.run(time.thread_time() + 0.1)


@pytest.mark.long
def test_what_is_said_to_hold_is_never_violated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "_GLANCE", 0.03)
    monkeypatch.setattr(proof, "_SEARCH", 0.03)
    outcomes = [outcome(seed) for seed in range(60)]
    assert outcomes.count("holds") > 10
    assert outcomes.count("violated") > 10


@pytest.mark.long
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.data())
def test_no_search_refutes_a_proof_about_any_program(data: st.DataObject) -> None:
    text = bounded_program(lambda size: data.draw(st.integers(0, size - 1)))
    try:
        policy = Policy.compile({"p": text}, DECLARED)
    except PolicyError:
        return
    control = data.draw(st.sampled_from(("balloon_target", "share", "ksm_pages_to_scan")))
    scope = scope_of_control(control, policy)
    limit = data.draw(st.sampled_from(("balloon_min", "balloon_max", "0") if scope is Scope.GUEST else ("0", "mem_free", "100")))
    bound = bound_of(limit, at_least=data.draw(st.booleans()), scope=scope, declarations=DECLARED)
    with patch.multiple(proof, _GLANCE=0.01, _SEARCH=0.01, _SECOND=1.0):
        (found,) = prove(policy, control, [bound], scope=scope)
    if found.answer is ProofAnswer.HOLDS:
        assert attack(policy, control, scope, bound, found.assumptions) is None


def admitted(text: str, choose: random.Random) -> int:
    """Check that what the evaluator decides is possible by the formulas that proofs are made of; how many decisions there were."""
    try:
        policy = Policy.compile({"p": text}, DECLARED)
    except PolicyError:
        return 0
    machine = SymbolicEvaluator(policy.program, Vocabulary(DECLARED), watched="balloon_target")
    with contextlib.suppress(PathFails):
        try:
            machine.run()
        except Unsupported:
            return 0
    asked = machine.requested(machine.terms.guest(0), "balloon_target")
    compared = 0
    for _ in range(3):
        taken = random_snapshot(choose, choose.choice((0.0, 0.0, 0.2)))
        for decision in policy.evaluate(taken).decisions:
            if decision.control == "balloon_target" and decision.entity.id in taken.guests:
                assert possible(machine, asked, taken, taken.guests[decision.entity.id], int(decision.value)), (decision, taken)  # type: ignore[arg-type]  # a number
                compared += 1
    return compared


def possible(machine: SymbolicEvaluator, asked: Term, taken: Snapshot, guest: Guest, value: int) -> bool:
    """Whether z3 finds that a request can come to this value, cut to a whole number, for this guest in this snapshot."""
    terms = machine.terms
    encoding = Encoding(terms)
    solver = Solver(encoding, Goal(terms.const(value + 1), True, False), 5.0, None)
    for leaf in solver.ends(asked):
        if not isinstance(leaf.value, SymbolicRequest):
            continue
        question = z3.Solver()
        number = encoding.of(leaf.value.value).number
        facts = [f"(< {written(value - 1)} {number} {written(value + 1)})"]
        facts += [f"(>= {number} {written(value)})"] if value > 0 else [f"(<= {number} {written(value)})"] if value < 0 else []
        for term in list(terms.all()):
            if term.op in ("field", "average", "present"):
                with contextlib.suppress(Unknowable):
                    facts += is_now(encoding.of(term), value_of(term, taken, guest))
        text = solver.question(asked, leaf, leaf.value)
        question.from_string(text + "".join(f"(assert {fact})" for fact in facts))
        if question.check() == z3.sat:
            return True
    return False


def is_now(encoded: Encoded, value: object) -> list[str]:
    if value is None:
        return [encoded.nil]
    return [encoded.finite, f"(= {encoded.number} {written(value)})"] if isinstance(value, int | float) else []


def written(value: float) -> str:
    exact = Fraction(value)
    size = f"(/ {abs(exact.numerator)}.0 {exact.denominator}.0)"
    return size if value >= 0 else f"(- {size})"


@pytest.mark.long
def test_what_an_evaluation_does_is_never_excluded() -> None:
    generators = (random.Random(seed) for seed in range(1000, 1120))  # noqa: S311  # the same programs each time, and no secret
    assert sum(admitted(bounded_program(choose.randrange), choose) for choose in generators) > 100


def test_a_word_that_the_encoding_does_not_know_may_be_anything_of_its_types_and_range() -> None:
    terms = Terms(Vocabulary(DECLARED))
    field = terms.field(terms.guest(0), "balloon_cur")
    unheard_of = terms._make("square-root", (field,), None, FLOAT, Fraction(0), Fraction(1 << 20))
    asked = [terms.request(SymbolicRequest(0, read("p", "(f)")[0], unheard_of), unheard_of)]
    for bound, at_least, held in (("0", True, True), ("1048576", False, True), ("1", True, False), ("1048575", False, False)):
        goal = Goal(terms.const(int(bound)), at_least, False)
        assert (not list(Solver(Encoding(terms), goal, 5.0, None).failures(asked[0]))) == held


@pytest.mark.long
def test_a_proof_that_takes_too_long_is_no_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_FIRST", "_SECOND"):
        monkeypatch.setattr(proof, name, 0.0)
    found = verdict(on_each("guest.balloon_min"), low="balloon_min")
    assert found.answer is ProofAnswer.UNKNOWN
    assert "time" in found.why
