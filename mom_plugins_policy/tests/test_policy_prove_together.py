"""Proofs about all guests together: through an account, or a snapshot in which they get too much."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from policy_declared import DECLARED

from mom_core import MomError, Scope
from mom_plugins_policy import Policy
from mom_plugins_policy.prove import proof
from mom_plugins_policy.prove.accounts import accounts_of
from mom_plugins_policy.prove.proof import ProofAnswer, ProofResult, growth_bound, prove

SHARED = """
(defvar left {first})
(with Guests guest
    (if (valid guest.balloon_cur guest.balloon_max Host.mem_free)
        (let ((more (min left (max 0 (- guest.balloon_max guest.balloon_cur)))))
            {{
                (set left (- left more))
                (guest.Control "balloon_target" (+ guest.balloon_cur more))
            }})
        0))
"""


@pytest.fixture(autouse=True)
def in_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What needs an operator's patience in earnest has to be found sooner here."""
    for name, seconds in (("_FIRST", 2.0), ("_SECOND", 2.0), ("_GLANCE", 0.3), ("_SEARCH", 0.5)):
        monkeypatch.setattr(proof, name, seconds)


def verdict(text: str, bound: str = "mem_free", assume: Sequence[str] = ()) -> ProofResult:
    policy = Policy.compile({"50_test": text}, DECLARED)
    (found,) = prove(policy, "balloon_target", [growth_bound(bound, declarations=DECLARED)], scope=Scope.GUEST, assume=assume)
    return found


def shared(first: str = "(if (valid Host.mem_free) Host.mem_free 0)") -> str:
    return SHARED.format(first=first)


def test_what_is_taken_from_an_account_is_no_more_than_it_began_with() -> None:
    found = verdict(shared())
    assert found.answer is ProofAnswer.HOLDS
    assert "left" in found.why


def test_an_account_may_begin_with_a_part_of_the_bound() -> None:
    assert verdict(shared("(if (valid Host.mem_free) (* 0.5 Host.mem_free) 0)")).answer is ProofAnswer.HOLDS


def test_policies_that_only_take_from_guests_need_no_account() -> None:
    text = '(with Guests guest (guest.Control "balloon_target" (* 0.9 guest.balloon_cur)))'
    assert verdict(text).answer is ProofAnswer.HOLDS


GIVEN_WITHOUT = {
    "the account begins with more than there is": shared("(if (valid Host.mem_free) (* 2 Host.mem_free) 0)"),
    "only half of it is taken from the account": shared().replace("(- left more)", "(- left (/ more 2))"),
    "large steps only are taken from it": shared().replace("(set left (- left more))", "(if (> more 9999) (set left (- left more)) 0)"),
    "it is filled again": shared().replace(
        "(set left (- left more))", "{ (set left (- left more)) (if (< left 9) (set left (+ left 99999)) 0) }"
    ),
    "a later loop gives without any account": shared() + '(with Guests guest (guest.Control "balloon_target" guest.balloon_max))',
    "an error before the loop leaves what was given before it": (
        '(with Guests guest (guest.Control "balloon_target" guest.balloon_max)) (debug (+ Host.swap_in 1))' + shared()
    ),
    "the account is kept for some hosts only": (
        f"(if (valid Host.swap_in) {{ {shared()} }} (with Guests guest (guest.Control 'balloon_target' guest.balloon_max)))"
    ),
    "each guest gets a part of the whole": (
        '(with Guests guest (guest.Control "balloon_target" (+ guest.balloon_cur (* 0.6 Host.mem_free))))'
    ),
}


@pytest.mark.parametrize("why", GIVEN_WITHOUT)
def test_it_does_not_hold_where(why: str) -> None:
    assert verdict(GIVEN_WITHOUT[why]).answer is ProofAnswer.VIOLATED


@pytest.mark.long
def test_what_is_not_followed_is_not_said_to_hold() -> None:
    nested = shared().replace("(with Guests guest", "(with Guests other (with Guests guest") + ")"
    assert verdict(nested).answer is ProofAnswer.UNKNOWN
    for_another = (
        "(defvar left (if (valid Host.mem_free) Host.mem_free 0)) (defvar last Host)"
        "(with Guests g { (set left (max 0 (- left 5)))"
        "  (if (!= last Host) (last.Control 'balloon_target' last.balloon_max) 0) (set last g) })"
    )
    assert verdict(for_another).answer is not ProofAnswer.HOLDS


def test_a_counterexample_is_of_several_guests_where_it_takes_several() -> None:
    found = verdict('(with Guests guest (guest.Control "balloon_target" (+ guest.balloon_cur (* 0.6 Host.mem_free))))')
    assert found.answer is ProofAnswer.VIOLATED
    assert found.counterexample is not None
    assert found.violation is not None
    assert len(found.counterexample.guests) > 1
    assert found.violation.value > found.violation.bound


def test_one_kib_for_each_guest_is_left_to_rounding() -> None:
    text = shared().replace("(min left (max 0 (- guest.balloon_max guest.balloon_cur)))", "(* 0.3 left)")
    assert verdict(text).answer is ProofAnswer.HOLDS


def test_an_assumption_is_made_of_each_guest() -> None:
    text = shared().replace("(+ guest.balloon_cur more)", "(if (> guest.cpu_usage 50) guest.balloon_max (+ guest.balloon_cur more))")
    assert verdict(text).answer is ProofAnswer.VIOLATED
    found = verdict(text, assume=["(<= guest.cpu_usage 50)"])
    assert found.answer is ProofAnswer.HOLDS
    assert "(<= guest.cpu_usage 50) is true" in found.assumptions


def test_accounts_are_variables_from_which_something_is_taken() -> None:
    program = Policy.compile({"p": shared() + "(defvar total 0) (with Guests g (set total (+ total 1)))"}, DECLARED).program
    assert accounts_of(program) == ["left"]


def test_controls_of_which_guests_have_no_amount_are_refused() -> None:
    policy = Policy.compile({"p": "1"}, DECLARED)
    for control in ("share", "ksm_run"):
        with pytest.raises(MomError, match="all guests together"):
            prove(policy, control, [growth_bound("5", declarations=DECLARED)], scope=policy_scope(control))


def policy_scope(control: str) -> Scope:
    return DECLARED.controls[control].scope


def test_a_bound_on_all_guests_is_about_the_host() -> None:
    with pytest.raises(MomError, match="no plugin declares the host field balloon_max"):
        growth_bound("balloon_max", declarations=DECLARED)
