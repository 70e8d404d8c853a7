"""The whole way from a policy and a bound to an answer: it holds, it does not and here is a snapshot, or it cannot be told."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum
from fractions import Fraction

from mom_core import Declarations, MomError, Scope, Snapshot, Unit, printable
from mom_plugins_policy.errors import PolicyError
from mom_plugins_policy.policy import Policy
from mom_plugins_policy.prove.attempts import Attempts, Bound, Violation, is_whole
from mom_plugins_policy.prove.encoding import Encoding
from mom_plugins_policy.prove.search import ViolationSearch, reads
from mom_plugins_policy.prove.solver import Goal, OutOfTime, Solver
from mom_plugins_policy.reader import read
from mom_plugins_policy.symbols.machine import PathFails, SymbolicEvaluator, Unsupported
from mom_plugins_policy.symbols.terms import Term
from mom_plugins_policy.symbols.vocabulary import Vocabulary
from mom_plugins_policy.syntax import Form, FormKind

INVARIANTS = {
    Scope.GUEST: (
        ("balloon_min", "balloon_max"),
        ("balloon_cur", "balloon_max"),
        ("mem_unused", "mem_available"),
        ("mem_usable", "mem_available"),
        ("swap_usage", "swap_total"),
    ),
    Scope.HOST: (
        ("mem_unused", "mem_available"),
        ("mem_free", "mem_available"),
        ("mem_really_available", "mem_available"),
        ("swap_usage", "swap_total"),
    ),
}
"""Pairs of fields of which the first is never more than the second. A proof may assume them, and says which ones it needed."""

DEFAULT_BOUNDS = {"balloon_target": ("balloon_min", "balloon_max")}
"""Fields that bound a control beside its declaration: least and largest value."""

ALWAYS_ASSUMED = (
    "fields are as declared: unknown, or numbers from 0 to 2^40 (bytes from -2^40), "
    "whole where they count KiB, pages, milliseconds or things; and no evaluation is ended by its limits (time, steps, sizes)"
)
"""What every answer takes for granted."""

_SHALLOW = 8  # operations inside each other that are looked at first: most requests are kept within bounds by the last of them
# Seconds of CPU time, as a busy machine must not change an answer.
_FIRST = 1.0  # for proving a bound by these, once without and once with what is known about fields
_SECOND = 6.0  # for proving it by all
_GLANCE = 0.3  # for a look for a counterexample after each of them
_SEARCH = 5.0  # for looking for one
_INDEX = -100_000  # where the forms of each bound are numbered from, as they are no part of the program


class ProofAnswer(StrEnum):
    """What came of a claim."""

    HOLDS = "holds"
    VIOLATED = "violated"
    UNKNOWN = "cannot tell"


@dataclass(frozen=True, slots=True)
class ProofResult:
    """An answer, with what it takes for granted, and what speaks against it."""

    bound: Bound
    answer: ProofAnswer
    assumptions: Sequence[str] = ()
    form: Form | None = None
    """The request that is out of bounds, or that defeated the proof."""
    why: str = ""
    counterexample: Snapshot | None = None
    violation: Violation | None = None
    seconds: float = 0.0


@dataclass(slots=True)
class _Question:
    policy: Policy
    control: str
    scope: Scope
    machine: SymbolicEvaluator
    encoding: Encoding
    asked: Term | None
    assumed: Sequence[str]
    conditions: list[tuple[Term, bool]] = field(default_factory=list)


def bound_of(text: str, *, at_least: bool, scope: Scope, declarations: Declarations | None) -> Bound:
    """A bound as the command line gives it: a number, the name of a field of the control's owner, or an expression.

    :raises MomError: it is none of these
    """
    where = "--at-least" if at_least else "--at-most"
    form = _one_form(where, text)
    if form.kind is FormKind.LITERAL and isinstance(form.value, str):
        raise MomError(f"{where} is a number, a field or an expression, not a string")
    if form.kind is not FormKind.NAME or "." in form.name:
        return Bound(text, text, at_least)
    if declarations is not None and (scope, form.name) not in declarations.fields:
        known = [name for owner, name in declarations.fields if owner is scope]
        close = get_close_matches(form.name, known, 1)
        raise MomError(
            f"{where}: no plugin declares the {scope} field {form.name}", hint=f"did you mean {close[0]}?" if close else "see `mom fields`"
        )
    return Bound(text, f"{'guest' if scope is Scope.GUEST else 'Host'}.{form.name}", at_least)


def _one_form(where: str, text: str) -> Form:
    """The form that an option holds. Raises `MomError` for anything but one."""
    try:
        forms = read(where, text)
    except PolicyError as error:
        raise MomError(
            f"{where} {printable(text, 60)}: {error.faults[0].message}", hint="give a number, a field or an expression"
        ) from None
    if len(forms) != 1:
        raise MomError(f"{where} is one number, field or expression, not {len(forms)}")
    return forms[0]


def scope_of_control(control: str, policy: Policy, scope: Scope | None = None) -> Scope:
    """Whose control it is: as declared, else as asked, else by its name.

    :raises MomError: no plugin declares it, or it takes no numbers
    """
    declarations = policy.declarations
    if declarations is None:
        return scope or (Scope.HOST if control.startswith("ksm_") else Scope.GUEST)
    spec = declarations.controls.get(control)
    if spec is None:
        close = get_close_matches(control, list(declarations.controls), 1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(sorted(declarations.controls)) or 'none'}"
        raise MomError(f"no plugin declares the control {control}", hint=hint)
    if spec.unit in (Unit.TEXT, Unit.LIST):
        raise MomError(f"{control} takes no numbers, so that it has no bounds")
    return spec.scope


def default_bounds(control: str, scope: Scope, declarations: Declarations | None) -> list[Bound]:
    """The bounds that a control has by its declaration, and by the fields that bound it."""
    found: list[Bound] = []
    spec = declarations.controls.get(control) if declarations is not None else None
    if spec is not None:
        for limit, at_least in ((spec.minimum, True), (spec.maximum, False)):
            if limit is not None:
                text = str(int(limit) if float(limit).is_integer() else limit)
                found.append(Bound(text, text, at_least))
    least, most = DEFAULT_BOUNDS.get(control, ("", ""))
    for name, at_least in ((least, True), (most, False)):
        if name and (declarations is None or (scope, name) in declarations.fields):
            found.append(bound_of(name, at_least=at_least, scope=scope, declarations=declarations))
    return found


def prove(policy: Policy, control: str, bounds: Sequence[Bound], *, scope: Scope, assume: Sequence[str] = ()) -> list[ProofResult]:
    """Whether a policy can set a control out of bounds: one answer for each bound.

    `HOLDS` is certain: for all snapshots that are as the assumptions say. `VIOLATED` comes with a snapshot, and what the evaluator makes of
    it. Each bound takes some seconds of CPU time at most.

    :param assume: expressions that are true, for each guest (as `guest`) or for the host
    :raises MomError: a bound or an assumption can never be computed, or cannot be compiled (`PolicyError`)
    """
    machine = SymbolicEvaluator(policy.program, Vocabulary(policy.declarations), tracked=scope is Scope.GUEST, watched=control)
    question = _Question(policy, control, scope, machine, Encoding(machine.terms), None, assume)
    entity = machine.terms.guest(0) if scope is Scope.GUEST else machine.terms.host
    unfollowed: Unsupported | None = None
    never = False
    try:
        machine.run()
        question.asked = machine.requested(entity, control)
    except PathFails:
        question.asked = machine.requested(entity, control)
        never = question.asked is machine.terms.nil
    except Unsupported as error:
        unfollowed = error
    except RecursionError:
        unfollowed = Unsupported(policy.program.forms[0], "it is nested too deep to be followed")
    if not never:
        for number, text in enumerate(assume):
            _one_form("--assume", text)
            try:
                question.conditions.append((_evaluated(question, text, number), True))
            except PathFails:
                raise MomError(f"--assume {text}: that cannot be computed for any snapshot") from None
            except Unsupported as error:
                unfollowed = unfollowed or error
    return [_answered(question, bound, number, unfollowed, never=never) for number, bound in enumerate(bounds)]


def _evaluated(question: _Question, text: str, number: int) -> Term:
    """An expression about the guest that is looked at, behind the program."""
    machine = question.machine
    form = read("an expression", text, first_index=_INDEX * (number + 1))[0]
    try:
        return machine.about(form, "guest" if question.scope is Scope.GUEST else None)
    except RecursionError:
        raise Unsupported(form, "it is nested too deep to be followed") from None


def _answered(question: _Question, bound: Bound, number: int, unfollowed: Unsupported | None, *, never: bool) -> ProofResult:
    started = time.monotonic()
    result = _answer(question, bound, number, unfollowed, never=never)
    return ProofResult(
        bound, result.answer, result.assumptions, result.form, result.why, result.counterexample, result.violation,
        time.monotonic() - started,
    )  # fmt: skip


def _answer(question: _Question, bound: Bound, number: int, unfollowed: Unsupported | None, *, never: bool) -> ProofResult:
    given = [f"{text} is true" for text in question.assumed]
    if never:
        return ProofResult(bound, ProofAnswer.HOLDS, given, why="every evaluation ends in an error before anything is decided")
    terms = question.machine.terms
    limit: Term | None = None
    if unfollowed is None:
        try:
            limit = _evaluated(question, bound.expression, len(question.assumed) + number)
        except PathFails:
            raise MomError(f"the bound {bound.text} cannot be computed for any snapshot") from None
        except Unsupported as error:
            unfollowed = error
    orders = _orders(question, reads(terms).fields)
    points: list[Mapping[Term, Fraction | None]] = []
    form, why = (unfollowed.form, unfollowed.why) if unfollowed is not None else (None, "")
    if limit is not None and question.asked is not None:
        for depth, seconds in ((_SHALLOW, _FIRST), (None, _SECOND)):
            for assumed in ((), orders) if orders else ((),):
                found = _tried(question, limit, bound, assumed, seconds, depth, points)
                if found.held:
                    return ProofResult(bound, ProofAnswer.HOLDS, [*given, *(f"{small} <= {large}" for small, large in found.needed)])
            quick = _searched(question, bound, orders, points, _GLANCE)
            if quick is not None:
                return quick
        form, why = found.form, found.why
    slow = _searched(question, bound, orders, points, _SEARCH)
    return slow if slow is not None else ProofResult(bound, ProofAnswer.UNKNOWN, form=form, why=why)


@dataclass(frozen=True, slots=True)
class _Found:
    held: bool
    form: Form | None = None
    why: str = ""
    needed: Sequence[tuple[str, str]] = ()


def _tried(
    question: _Question,
    limit: Term,
    bound: Bound,
    orders: Sequence[tuple[str, str]],
    seconds: float,
    depth: int | None,
    points: list[Mapping[Term, Fraction | None]],
) -> _Found:
    """Try to prove a bound; gather the cases that speak against it, if they are wanted."""
    pairs = {(_field(question, small), _field(question, large)): (small, large) for small, large in orders}
    goal = Goal(limit, bound.at_least, is_whole(question.policy, question.control))
    solver = Solver(question.encoding, goal, seconds, depth, question.conditions, list(pairs))
    form: Form | None = None
    asked = question.asked if question.asked is not None else question.machine.terms.nil
    try:
        for failure in solver.failures(asked):
            form = form or failure.request.form
            points.append(failure.point)
    except OutOfTime:
        return _Found(False, form, "there are more cases than there is time for")
    needed = [names for pair, names in pairs.items() if pair in solver.needed]
    return _Found(form is None, form, "its value could not be shown to keep the bound", needed)


def _field(question: _Question, name: str) -> Term:
    terms = question.machine.terms
    return terms.field(terms.guest(0) if question.scope is Scope.GUEST else terms.host, name)


def _orders(question: _Question, known: Iterable[tuple[Scope, str]]) -> list[tuple[str, str]]:
    """The invariants of fields that have to do with the question."""
    names = {name for scope, name in known if scope is question.scope}
    return [(small, large) for small, large in INVARIANTS[question.scope] if small in names and large in names]


def _searched(
    question: _Question, bound: Bound, orders: Sequence[tuple[str, str]], points: Sequence[Mapping[Term, Fraction | None]], seconds: float
) -> ProofResult | None:  # fmt: skip
    """A counterexample, if one can be found in so many seconds."""
    machine, policy = question.machine, question.policy
    trial = Attempts(policy, question.control, question.scope, bound, question.assumed, orders)
    search = ViolationSearch(trial, machine.vocabulary, reads(machine.terms), policy.program.forms)
    found = search.run(time.thread_time() + seconds, points)
    if found is None:
        return None
    taken, violation = found
    form = _form_at(policy.program.forms, violation)
    return ProofResult(bound, ProofAnswer.VIOLATED, counterexample=taken, violation=violation, form=form)


def _form_at(forms: Iterable[Form], violation: Violation) -> Form | None:
    todo = list(forms)
    while todo:
        form = todo.pop()
        if form.kind is FormKind.LIST and form.source == violation.decision.source:
            return form
        todo.extend(form.items)
    return None
