"""Why a policy decides what it decides: the form that asked for it, and the conditions around that, with the values that they had.

The evaluation is repeated, on the same snapshot and notes, and only what is told is reported by the code (`traced`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from mom_core import HOST_ID, Entity, Guest, Host, Scope, Snapshot, Source, Value, printable
from mom_plugins_policy.language.analysis import Definition, Program
from mom_plugins_policy.language.compiler import Compiled
from mom_plugins_policy.language.errors import Fault, PolicyError, Trouble
from mom_plugins_policy.language.limits import PolicyLimits
from mom_plugins_policy.language.policy import TOO_COMPLICATED, Policy, Result
from mom_plugins_policy.language.runtime import Evaluation
from mom_plugins_policy.language.syntax import Form, FormKind, abridged, all_in
from mom_plugins_policy.language.values import show
from mom_plugins_policy.language.words.forms import Role
from mom_plugins_policy.language.words.methods import ENTITY_METHODS

_MOST_EVENTS: Final = 300_000  # values of forms that are kept: a policy has some 10 for a guest
_MOST_BYTES: Final = 32 << 20  # of the strings and lists among them, each counted as often as it is reported
_CONDITIONS: Final = 4  # around a request, from the inside out: those farther out are hardly about this guest
_OPERANDS: Final = 12  # of one form that are told
_FARTHEST: Final = 400  # forms around a request that are looked at
_MOST_MISSED: Final = 50  # requests that were not made
_LONGEST: Final = 600  # characters of what is said of one decision
_SHOWN: Final = 70  # characters of a form


class FormValue(NamedTuple):
    """A part of a form, with the value that it had."""

    form: str
    value: Any


Told = tuple[FormValue, ...]


@dataclass(frozen=True, slots=True)
class Precondition:
    """A condition on the way to a form, whether it held, and the values in it."""

    form: str
    truth: bool
    source: Source
    values: Told

    def __str__(self) -> str:
        values = f" ({', '.join(f'{text} is {show(value)}' for text, value in self.values)})" if self.values else ""
        return f"{self.form} is {'true' if self.truth else 'false'}{values}"


@dataclass(frozen=True, slots=True)
class ControlRequest:
    """The last request for a control: what was asked for, by which form, of which values, and the conditions around it, the innermost
    first. `decided`: it is a decision; it is none where it asks for nil, the guest's step failed, or the evaluation stopped.
    """

    control: str
    value: Value
    decided: bool
    form: str
    source: Source
    values: Told
    because: tuple[Precondition, ...]


@dataclass(frozen=True, slots=True)
class Missed:
    """A request that was not made, and the condition that it was not made for."""

    form: str
    source: Source
    because: Precondition


@dataclass(frozen=True, slots=True)
class EntityExplanation:
    """All about one entity in one evaluation. `errors`: what went wrong in its steps, or outside of all steps; then it may have stopped."""

    entity: Entity
    stopped: bool
    errors: tuple[Fault, ...]
    requests: tuple[ControlRequest, ...]
    not_asked_for: tuple[Missed, ...]


def explain(policy: Policy, snapshot: Snapshot, entity: Entity) -> EntityExplanation:
    """Evaluate, and say for each request about an entity how it came about, and for the others why they were not made.

    :param entity: the host's or a guest's identity, as the snapshot has it
    :raises PolicyError: `limit`: the policy is too complicated, or the evaluation too large, for an explanation
    """
    result = policy.evaluate(snapshot)
    traces = _traces_of(result)
    if traces is None:
        raise PolicyError([Fault("limit", "", 0, 0, "the evaluation is too large to tell; a snapshot with fewer guests may be explained")])
    requests = []
    decided = {decision.control: decision.value for decision in result.decisions if decision.entity.id == entity.id}
    for control in result.run.controls:
        form = result.request_of(control, entity.id) if isinstance(control, str) else None
        if form is not None and isinstance(control, str):
            value = decided.get(control, result.run.controls[control][entity.id][1])
            conditions, values = traces.asked.get((entity.id, form.index), ((), ()))
            made = ControlRequest(control, value, control in decided, abridged(form, _SHOWN), form.source, values, tuple(conditions))
            requests.append(made)
    faults = tuple(fault for fault in result.errors if fault.entity is None or fault.entity.id == entity.id)
    return EntityExplanation(entity, result.stopped, faults, tuple(requests), tuple(traces.missed(entity.id)))


def said(result: Result, guest: Guest, control: str) -> str:
    """Why a guest got this control, in words: the conditions around the request, the outermost first. Empty where none is known."""
    form = None if result.stopped or guest.id in result.run.failed else result.request_of(control, guest.id)
    traces = None if form is None else _traces_of(result)
    if form is None or traces is None:
        return ""
    conditions, _ = traces.asked.get((guest.id, form.index), ((), ()))
    return printable("; ".join(map(str, reversed(conditions))), _LONGEST)


# --- what is traced ------------------------------------------------------------------------------------------------------------------


class _Outline:
    """The parts of a program that explanations need: its requests, and the choices around each of them."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._around: dict[int, Form] = {}
        self._calls: dict[str, list[Form]] = {}
        self._bodies: dict[int, Definition] = {one.body.index: one for one in program.functions()}
        self.loops: dict[int, Form] = {}
        """By the index of the name that a loop binds: the loop."""
        self.requests: list[Form] = []
        for form in all_in(program.forms):
            self._around.update((item.index, form) for item in form.items)
            head = form.items[0].name if form.items else ""
            if head.endswith(".Control"):
                self.requests.append(form)
            elif head in program.definitions:
                self._calls.setdefault(head, []).append(form)
            roles = program.roles.get(form.index)
            if roles is not None and roles.last is Role.STEP:
                self.loops[roles.bindings[0].name.index] = form
        self.choices = {form.index: list(self._choices(form)) for form in self.requests}
        around = {choice.index: choice for several in self.choices.values() for choice, _ in several}
        self.operands = {form.index: list(_operands(form))[:_OPERANDS] for form in self.requests}
        self.operands.update({choice.index: list(_operands(choice.items[1]))[:_OPERANDS] for choice in around.values()})
        self.tests = {choice.items[1].index: choice for choice in around.values()}
        operands = {form.index for several in self.operands.values() for form in several}
        loops = {*self.loops, *(form.index for form in self.loops.values())}
        self.traced = {*self.choices, *around, *self.tests, *operands, *loops}

    def _choices(self, form: Form) -> Iterator[tuple[Form, bool]]:
        """The choices around a form, from the inside out, each with the truth that leads there; for a body, those of its only call."""
        found = 0
        for _ in range(_FARTHEST):
            definition = self._bodies.get(form.index)
            calls = [] if definition is None else self._calls.get(definition.name, [])
            alone = definition is not None and len(calls) == len(self.program.definitions[definition.name]) == 1
            outer = self._around.get(form.index) if definition is None else calls[0] if alone else None
            if outer is None or found == _CONDITIONS:
                return
            roles = self.program.roles.get(outer.index)
            if roles is not None and roles.last is Role.BRANCH and form is not roles.parts[0]:
                found += 1
                yield outer, form is roles.parts[1]
            form = outer


@lru_cache(maxsize=2)  # policies in force, and on trial: whoever looks at a guest asks in each cycle
def _traced(program: Program, limits: PolicyLimits, undeclared: frozenset[tuple[Scope, str]]) -> tuple[_Outline, Compiled]:
    """The outline of a program, and the code that reports what it names."""
    outline = _Outline(program)
    return outline, Compiled(program, limits, undeclared, traced=outline.traced)


def _operands(form: Form) -> Iterator[Form]:
    """The names, and the calls of methods, of which a form is made."""
    if form.kind is FormKind.NAME:
        yield form
    elif form.items:
        method = form.items[0].name.rpartition(".")[2] if form.kind is FormKind.LIST else ""
        if method in ENTITY_METHODS and not ENTITY_METHODS[method].writes:
            yield form
        else:
            for item in form.items[form.kind is FormKind.LIST :]:
                yield from _operands(item)


class _TracedRun(Evaluation):
    """A run whose code reports the values of some forms. It writes nothing to the log."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.events: list[tuple[int, Any, str]] = []
        """The form at a site, its value, or the id of the entity of which it asked for a control."""
        self._bytes = 0

    @staticmethod
    def debug(*values: Any) -> Any:
        """Nothing is written a second time."""
        return values[-1]

    def trace(self, site: int, value: Any, asked: str = "") -> None:
        """Called by generated code: the form at a site had this value."""
        self.events.append((site, value, asked))
        if value.__class__ is str or value.__class__ is list:
            self._bytes += value.__sizeof__()
        if self.is_full():
            raise Trouble("limit", "too much to be traced", fatal=True)

    def is_full(self) -> bool:
        """True if more was reported than is kept."""
        return len(self.events) > _MOST_EVENTS or self._bytes > _MOST_BYTES

    def traced_request(self, site: int, entity: Host | Guest) -> None:
        """Called by generated code: a control was asked for."""
        self.trace(site, None, entity.id if isinstance(entity, Guest) else HOST_ID)

    def do_control(self, entity: Host | Guest, name: Any, value: Any, site: int) -> None:
        """`Control`, where it is not known before what it is called on."""
        super().do_control(entity, name, value, site)
        self.traced_request(site, entity)


@dataclass(slots=True)
class _Traces:
    """The values that were reported of one evaluation.

    `asked`: by the entity's id and the request's index, the conditions around the last request, and the values that it was made of;
    `decided`: by the id of who a step was for (empty: outside of all) and the choice's index, the condition as it came out last.
    """

    outline: _Outline
    asked: dict[tuple[str, int], tuple[Sequence[Precondition], Told]] = field(default_factory=dict)
    decided: dict[tuple[str, int], Precondition] = field(default_factory=dict)

    def follow(self, events: Sequence[tuple[int, Any, str]], compiled: Compiled) -> None:
        """Take in what was reported, in its order."""
        last: dict[int, Any] = {}
        open_choices: dict[int, list[Precondition]] = {}
        loops: list[tuple[Form, str]] = []
        forms = [site.form for site in compiled.sites]
        for site, value, asked in events:
            form = forms[site]
            loop, choice = self.outline.loops.get(form.index), self.outline.tests.get(form.index)
            if asked:
                around = [open_choices.get(outer.index) for outer, _ in self.outline.choices.get(form.index, ())]
                self.asked[asked, form.index] = [several[-1] for several in around if several], self._values(form.index, last)
                continue
            last[form.index] = value
            if loop is not None and form.kind is FormKind.NAME:
                while loops and loops[-1][0] is loop:
                    loops.pop()
                loops.append((loop, value.id if isinstance(value, Guest) else loops[-1][1] if loops else ""))
            elif choice is not None:
                made = Precondition(abridged(form, _SHOWN), bool(value), form.source, self._values(choice.index, last))
                open_choices.setdefault(choice.index, []).append(made)
                self.decided[loops[-1][1] if loops else "", choice.index] = made
            elif open_choices.get(form.index):
                open_choices[form.index].pop()  # this choice is done
            while loops and loops[-1][0] is form:
                loops.pop()

    def _values(self, index: int, last: Mapping[int, Any]) -> Told:
        told = {abridged(one, _SHOWN): last[one.index] for one in self.outline.operands.get(index, ()) if one.index in last}
        return tuple(FormValue(*one) for one in told.items())

    def missed(self, identity: str) -> Iterator[Missed]:
        """The requests that were not made for an entity, each with the nearest condition that led elsewhere."""
        left = _MOST_MISSED
        for form in self.outline.requests:
            of_host = form.items[0].name == "Host.Control"
            if of_host is not (identity == HOST_ID) or (identity, form.index) in self.asked or not left:
                continue
            for choice, wanted in self.outline.choices[form.index]:
                condition = self.decided.get((identity, choice.index)) or self.decided.get(("", choice.index))
                if condition is not None:
                    if condition.truth is not wanted:
                        left -= 1
                        yield Missed(abridged(form, _SHOWN), form.source, condition)
                    break


_known: Final[WeakKeyDictionary[Result, _Traces]] = WeakKeyDictionary()
"""The traces of evaluations that are still told of: each guest is asked about by itself."""


def _traces_of(result: Result) -> _Traces | None:
    """The values of the forms around requests; None if it takes too long to tell."""
    traces = _known.get(result)
    if traces is not None:
        return traces
    try:
        outline, compiled = _traced(result.policy.program, result.policy.limits, result.compiled.undeclared)
    except TOO_COMPLICATED:
        return None
    was = result.run
    run = _TracedRun(was.snapshot, was.history, was.limits, was.declares, compiled, was.notes, was.takes_text)
    with contextlib.suppress(Exception):  # whatever a policy does is an error of the policy, and was told
        compiled.run(run, [])
    if run.is_late() or run.is_full():
        return None
    traces = _known[result] = _Traces(outline)
    traces.follow(run.events, compiled)
    return traces
