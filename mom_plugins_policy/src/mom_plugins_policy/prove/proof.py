"""The whole way from a policy and a bound to an answer: it holds, it does not and here is a snapshot, or it cannot be told."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from enum import StrEnum
from fractions import Fraction

from mom_core import Declarations, MomError, Scope, Snapshot, Unit, printable
from mom_plugins_policy.language.errors import PolicyError
from mom_plugins_policy.language.policy import Policy
from mom_plugins_policy.language.reader import read
from mom_plugins_policy.language.syntax import Form, FormKind
from mom_plugins_policy.language.words.vocabulary import Vocabulary
from mom_plugins_policy.prove.accounts import ROUNDING_KIB, AccountedEvaluator, accounts_of
from mom_plugins_policy.prove.attempts import Attempts, Bound, GrowthAttempts, Subject, Violation, is_whole
from mom_plugins_policy.prove.encoder import Encoded, Encoding, both, implied
from mom_plugins_policy.prove.search import ViolationSearch, reads
from mom_plugins_policy.prove.solver import Goal, OutOfTime, Solver
from mom_plugins_policy.prove.steps import StepAttempts
from mom_plugins_policy.symbols.machine import PathFails, SymbolicEvaluator, Unsupported
from mom_plugins_policy.symbols.terms import Term

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

DEFAULT_BOUNDS = {
    "balloon_target": (
        Bound("(min guest.balloon_min guest.balloon_cur)", "", True, meaning="no guest is taken below what the platform promises it"),
        Bound("(min guest.guest_guarantee guest.balloon_cur)", "", True, meaning="no guest is taken below what it is guaranteed"),
        Bound("(- guest.balloon_cur guest.mem_usable)", "", True, meaning="no guest is taken below what it uses"),
        Bound("balloon_max", "guest.balloon_max", False, meaning="no guest gets more than its maximum"),
        Bound(
            "mem_really_available", "Host.mem_really_available", False, Subject.GROWTH,
            meaning="what guests get more, all together, is there on the host",
        ),
        Bound(
            "16384", "16384", False, Subject.RETURN,
            meaning="what a guest is given in one cycle is not taken from it in the next, nor the other way round",
        ),
    ),
}  # fmt: skip
"""What is asked of a control beside its declaration. An empty expression is the text."""

_DECLARED = "the control takes no other values: mom moves them to this one"

ALWAYS_ASSUMED = (
    "fields are as declared: unknown, or numbers from 0 to 2^40 (bytes from -2^40), "
    "whole where they count KiB, pages, milliseconds or things; and no evaluation is ended by its limits (time, steps, sizes)"
)
"""What every answer takes for granted."""

_WHOLE = frozenset({Unit.KIB, Unit.PAGES, Unit.COUNT, Unit.BYTES})
"""Units of which all guests together can have so many."""

_SHALLOW = 8  # operations inside each other that are looked at first: most requests are kept within bounds by the last of them
# Seconds of CPU time, as a busy machine must not change an answer.
_FIRST = 1.0  # for proving a bound by these, once without and once with what is known about fields
_SECOND = 6.0  # for proving it by all
_GLANCE = 0.3  # for a look for a counterexample after each of them
_SEARCH = 5.0  # for looking for one
_INDEX = -100_000  # where the forms of each bound are numbered from, as they are no part of the program


def _depths() -> tuple[tuple[int | None, float], ...]:
    """How many operations are looked at, for how many seconds, one after the other."""
    return (_SHALLOW, _FIRST), (None, _SECOND)


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
    later: Snapshot | None = None
    """The snapshot of the next cycle, where the answer is about two."""
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
    return _bound("--at-least" if at_least else "--at-most", text, at_least=at_least, scope=scope, declarations=declarations)


def _bound(where: str, text: str, *, at_least: bool, scope: Scope, declarations: Declarations | None) -> Bound:
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


def growth_bound(text: str, *, declarations: Declarations | None) -> Bound:
    """A bound on what all guests together get: a number, the name of a field of the host, or an expression about it.

    :raises MomError: it is none of these
    """
    return replace(_bound("--grow-at-most", text, at_least=False, scope=Scope.HOST, declarations=declarations), subject=Subject.GROWTH)


def return_bound(text: str) -> Bound:
    """A bound on what goes and returns: a number, or an expression about the guest and the policies' variables.

    :raises MomError: it is neither
    """
    _one_form("--return-at-most", text)
    return Bound(text, text, False, Subject.RETURN)


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
    """The bounds that a control has by its declaration, and what is asked of it besides, as far as the fields for that are declared."""
    found: list[Bound] = []
    spec = declarations.controls.get(control) if declarations is not None else None
    if spec is not None:
        for limit, at_least in ((spec.minimum, True), (spec.maximum, False)):
            if limit is not None:
                text = str(int(limit) if float(limit).is_integer() else limit)
                found.append(Bound(text, text, at_least, meaning=_DECLARED))
    for bound in DEFAULT_BOUNDS.get(control, ()):
        stated = replace(bound, expression=bound.expression or bound.text)
        if declarations is None or _fields_in(read("a bound", stated.expression)[0]) <= declarations.fields.keys():
            found.append(stated)
    return found


def _fields_in(form: Form) -> set[tuple[Scope, str]]:
    """The fields that an expression reads by name."""
    entity, _, name = form.name.partition(".") if form.kind is FormKind.NAME else ("", "", "")
    found = {(Scope.HOST if entity == "Host" else Scope.GUEST, name)} if name else set()
    return found.union(*map(_fields_in, form.items))


def prove(policy: Policy, control: str, bounds: Sequence[Bound], *, scope: Scope, assume: Sequence[str] = ()) -> list[ProofResult]:
    """Whether a policy can set a control out of bounds: one answer for each bound.

    `HOLDS` is certain: for all snapshots that are as the assumptions say. `VIOLATED` comes with a snapshot, and what the evaluator makes of
    it. Each bound takes some seconds of CPU time at most.

    :param assume: expressions that are true, for each guest (as `guest`) or for the host
    :raises MomError: a bound or an assumption can never be computed, or cannot be compiled (`PolicyError`)
    """
    each = _of_each(policy, control, [bound for bound in bounds if bound.subject is Subject.VALUE], scope, assume)
    found: list[ProofResult] = []
    for bound in bounds:
        if bound.subject is Subject.VALUE:
            found.append(next(each))
        elif bound.subject is Subject.GROWTH:
            found.append(_of_all(policy, control, bound, assume))
        else:
            found.append(_of_two_cycles(policy, control, bound, assume))
    return found


def _of_each(policy: Policy, control: str, bounds: Sequence[Bound], scope: Scope, assume: Sequence[str]) -> Iterator[ProofResult]:
    """The answers for bounds of each value by itself."""
    if not bounds:
        return
    machine = SymbolicEvaluator(policy.program, Vocabulary(policy.declarations), tracked=scope is Scope.GUEST, watched=control)
    question, unfollowed, never = _followed(policy, control, scope, machine, assume)
    for number, bound in enumerate(bounds):
        yield _answered(question, bound, number, unfollowed, never=never)


def _followed(
    policy: Policy, control: str, scope: Scope, machine: SymbolicEvaluator, assume: Sequence[str]
) -> tuple[_Question, Unsupported | None, bool]:
    """What there is to ask about a program, why it could not be followed, and whether nothing is ever decided."""
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
    return question, unfollowed, never


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
    return replace(result, seconds=time.monotonic() - started)


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
        for depth, seconds in _depths():
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


def _of_all(policy: Policy, control: str, bound: Bound, assume: Sequence[str]) -> ProofResult:
    """The answer for a bound on what all guests together get: by an account of the policy, as `accounts` says."""
    started = time.monotonic()
    field_name = _present_value(policy, control)
    orders: Sequence[tuple[str, str]] = ()
    points: list[Mapping[Term, Fraction | None]] = []
    form: Form | None = None
    why = "no variable was found from which each guest's step takes what the guest gets"
    kept = False
    for account in (*accounts_of(policy.program), ""):
        if kept:
            break  # without an account, a guest may get nothing at all
        machine = AccountedEvaluator(policy.program, Vocabulary(policy.declarations), account, control)
        question, unfollowed, never = _followed(policy, control, Scope.GUEST, machine, assume)
        if never:
            return ProofResult(bound, ProofAnswer.HOLDS, why="every evaluation ends in an error before anything is decided")
        if unfollowed is None:
            try:
                most = _evaluated(question, bound.expression, len(assume))
                limit = _with_what_was_taken(machine, field_name)
            except PathFails:
                raise MomError(f"the bound {bound.text} cannot be computed for any snapshot") from None
            except Unsupported as error:
                unfollowed = error
        if unfollowed is not None:
            form, why = (unfollowed.form, unfollowed.why) if account == "" else (form, why)
            continue
        orders = _orders(question, reads(machine.terms).fields)
        kept = _keeps(question, machine, most)
        if kept:
            for assumed in ((), orders) if orders else ((),):
                found = _tried(question, limit, bound, assumed, _SECOND, None, points)
                if found.held:
                    given = [*(f"{text} is true" for text in assume), *(f"{small} <= {large}" for small, large in found.needed)]
                    reason = f"each step takes what its guest gets from {account}" if machine.entry is not None else ""
                    return ProofResult(bound, ProofAnswer.HOLDS, given, why=reason, seconds=time.monotonic() - started)
                quick = _searched(question, bound, orders, points, _GLANCE)
                if quick is not None:
                    return replace(quick, seconds=time.monotonic() - started)
            form, why = found.form, f"what it gets could not be shown to be taken from {account}" if account else found.why
    slow = _searched(question, bound, orders, points, _SEARCH)
    result = slow if slow is not None else ProofResult(bound, ProofAnswer.UNKNOWN, form=form, why=why)
    return replace(result, seconds=time.monotonic() - started)


def _of_two_cycles(policy: Policy, control: str, bound: Bound, assume: Sequence[str]) -> ProofResult:
    """Whether a value returns: not where it only ever goes one way; otherwise by a search, as nothing is proved of two cycles."""
    started = time.monotonic()
    has = f"guest.{_present_value(policy, control)}"
    one_way = [
        Bound(f"never less by more than {bound.text}", f"(- {has} {bound.expression})", True),
        Bound(f"never more by more than {bound.text}", f"(+ {has} {bound.expression})", False),
    ]
    machine = SymbolicEvaluator(policy.program, Vocabulary(policy.declarations), watched=control)
    question, unfollowed, never = _followed(policy, control, Scope.GUEST, machine, assume)
    given = [f"{text} is true" for text in assume]
    orders = _orders(question, reads(machine.terms).fields)
    points: list[Mapping[Term, Fraction | None]] = []
    for number, direction in enumerate(() if unfollowed is not None or never else one_way):
        try:
            limit = _evaluated(question, direction.expression, len(assume) + number)
        except PathFails:
            raise MomError(f"the step {bound.text} cannot be computed for any snapshot") from None
        found = _tried(question, limit, direction, orders, _FIRST, None, points)
        if found.held:
            given += [f"{small} <= {large}" for small, large in found.needed]
            return ProofResult(bound, ProofAnswer.HOLDS, given, why=f"a guest gets {direction.text}", seconds=time.monotonic() - started)
    if never:
        return ProofResult(bound, ProofAnswer.HOLDS, given, why="every evaluation ends in an error before anything is decided")
    slow = _searched(question, bound, orders, points, _SEARCH)
    why = "it both gives and takes, which is not followed for two cycles; no host with one to three guests was found where it does not hold"
    result = slow if slow is not None else ProofResult(bound, ProofAnswer.UNKNOWN, why=why)
    return replace(result, seconds=time.monotonic() - started)


def _present_value(policy: Policy, control: str) -> str:
    """The field with what a guest has of a control. Raises `MomError`."""
    spec = policy.declarations.controls.get(control) if policy.declarations is not None else None
    if spec is None or spec.scope is not Scope.GUEST or spec.unit not in _WHOLE:
        raise MomError(
            f"what all guests together get of {control} has no meaning", hint="it has of amounts that guests have, such as balloon_target"
        )
    return spec.field


def _with_what_was_taken(machine: AccountedEvaluator, field_name: str) -> Term:
    """What a guest has, with what its step took from the account."""
    terms = machine.terms
    has = terms.field(terms.guest(0), field_name)
    return terms.operation("add", (has, terms.operation("add", (machine.taken, terms.const(ROUNDING_KIB)))))


def _keeps(question: _Question, machine: AccountedEvaluator, most: Term) -> bool:
    """Whether an account begins at no more than the bound, and no step puts it up or below 0."""
    of = question.encoding.of
    bound, entry = of(most), machine.entry
    begins = f"(>= {bound.number} 0.0)" if entry is None else _within(of(entry), bound)
    claims = [(machine.entry_path, [most] if entry is None else [most, entry], implied(bound.finite, begins))]
    for value, before, path in machine.assignments:
        stays = implied(both(of(before).finite, f"(>= {of(before).number} 0.0)"), _within(of(value), of(before)))
        claims.append((path, [value, before], stays))
    return all(any(_is_so(question, most, claim, depth, seconds) for depth, seconds in _depths()) for claim in claims)


def _is_so(
    question: _Question, most: Term, claim: tuple[Sequence[tuple[Term, bool]], Sequence[Term], str], depth: int | None, seconds: float
) -> bool:  # fmt: skip
    """Whether z3 shows a claim about terms on a path."""
    solver = Solver(question.encoding, Goal(most, False, False), seconds, depth, question.conditions)
    try:
        return solver.refuted(*claim) is None
    except OutOfTime:
        return False


def _within(value: Encoded, most: Encoded) -> str:
    """That a value is a number from 0 to another."""
    return both(value.finite, f"(>= {value.number} 0.0)", f"(<= {value.number} {most.number})")


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
    if bound.subject is Subject.VALUE:
        trial = Attempts(policy, question.control, question.scope, bound, question.assumed, orders)
    else:
        attempts = GrowthAttempts if bound.subject is Subject.GROWTH else StepAttempts
        trial = attempts(policy, question.control, _present_value(policy, question.control), bound, question.assumed, orders)
    search = ViolationSearch(trial, machine.vocabulary, reads(machine.terms), policy.program.forms)
    found = search.run(time.thread_time() + seconds, points)
    if found is None:
        return None
    taken, violation = found
    form = _form_at(policy.program.forms, violation)
    later = trial.following(taken) if isinstance(trial, StepAttempts) else None
    return ProofResult(bound, ProofAnswer.VIOLATED, counterexample=taken, violation=violation, form=form, later=later)


def _form_at(forms: Iterable[Form], violation: Violation) -> Form | None:
    todo = list(forms)
    while todo:
        form = todo.pop()
        if form.kind is FormKind.LIST and form.source == violation.decision.source:
            return form
        todo.extend(form.items)
    return None
