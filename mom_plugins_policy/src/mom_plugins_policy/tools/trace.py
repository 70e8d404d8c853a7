"""An evaluation with every value that any form had, as a tree. Only for explanations: the code that a daemon runs knows nothing of this."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any, NamedTuple

from mom_core import HOST_ID, Guest, Host, Scope, Snapshot
from mom_plugins_policy.language.analysis import Program
from mom_plugins_policy.language.compiler import Compiled, compile_program
from mom_plugins_policy.language.errors import Fault, PolicyError, Trouble
from mom_plugins_policy.language.policy import TOO_COMPLICATED, Policy, Result, occurs, too_complicated
from mom_plugins_policy.language.runtime import Evaluation, Notes
from mom_plugins_policy.language.syntax import Form, FormKind
from mom_plugins_policy.language.words.forms import Role

SECONDS = 1.0
"""For the evaluation that is traced: as long as a person waits without asking why."""

MOST_EVENTS = 150_000
"""Values of forms that are kept: the default policies have some 100 for a guest. To find out what they were made of takes 5 us each."""

_ALL = range(1 << 31)
"""The indexes of all forms."""

_filenames = count(1)


class Node:
    """One evaluation of a form: its value, and the evaluations that it was made of, in their order.

    For a `with`, the children are the steps; a step's form is the name that it binds, its value the element, and its children what was
    evaluated in it. For a call of a function, the last child is the body.
    """

    __slots__ = ("children", "form", "parent", "value")

    def __init__(self, form: Form, value: Any, children: list[Node]) -> None:
        self.form = form
        self.value = value
        self.children = children
        self.parent: Node | None = None
        for child in children:
            child.parent = self

    @property
    def head(self) -> str:
        """The name or operator that the list begins with; empty for anything else."""
        return self.form.items[0].name if self.form.kind is FormKind.LIST and self.form.items else ""

    def child(self, form: Form) -> Node | None:
        """The evaluation of a part of the form, if it was evaluated."""
        return next((child for child in self.children if child.form is form), None)

    def ancestors(self) -> Iterator[tuple[Node, Node]]:
        """Pairs of a node around this one, and of its child that leads here; from the inside out."""
        here = self
        while here.parent is not None:
            yield here.parent, here
            here = here.parent


class _TracedRun(Evaluation):
    """A run whose code reports every value."""

    def begin_trace(self) -> list[tuple[int, Any]]:
        """Begin to keep what is reported."""
        self.events: list[tuple[int, Any]] = []
        return self.events

    def trace(self, site: int, value: Any) -> None:
        """Called by generated code: the form at a site had this value."""
        self.events.append((site, value))
        if len(self.events) > MOST_EVENTS:
            raise Trouble("limit", "too much to be traced", fatal=True)

    def traced_request(self, site: int, entity: Host | Guest) -> None:
        """Called by generated code: a control was asked for."""


def traced(
    policy: Policy, snapshot: Snapshot, history: Sequence[Snapshot] | None = None, notes: Notes | None = None
) -> tuple[list[Node], Result]:
    """Evaluate as `Policy.evaluate` does, and keep every value: the nodes at top level, and the result.

    :param history: older snapshots, oldest first; the snapshot's own if None
    :param notes: what was remembered earlier
    :raises PolicyError: `limit`: the code with traces is too complicated to be compiled, or the evaluation is too large to tell
    """
    older = snapshot.history if history is None else history
    declared = policy.declarations.fields if policy.declarations is not None else None

    def declares(scope: Scope, name: str) -> bool:
        return occurs(scope, name, snapshot, older) if declared is None else (scope, name) in declared

    limits = dataclasses.replace(policy.limits, seconds=SECONDS)
    filename = f"<traced policy {next(_filenames)}>"
    try:
        undeclared = frozenset(field for field in policy.fields if not declares(*field))
        compiled = compile_program(policy.program, limits, undeclared, filename, traced=_ALL)
    except TOO_COMPLICATED:
        raise too_complicated() from None
    run = _TracedRun(snapshot, older, limits, declares, compiled.sites, compiled.filename, compiled.namespace, notes)
    events = run.begin_trace()
    values: list[Any] = []
    stopped = False
    try:
        compiled.run(run, values)
    except Exception as error:  # noqa: BLE001  # whatever a policy does is an error of the policy
        if len(events) > MOST_EVENTS or run.is_late():
            raise _too_large() from None
        run.faults.append(run.fault(error))
        stopped = True
    return _tree(policy, compiled, events), Result(run, values, compiled, policy, stopped)


# --- what was decided on the way to requests ----------------------------------------------------------------------------------------


class Choice(NamedTuple):
    """A choice that was made: the truth of its condition, and what the forms in it came to, by their index."""

    form: Form
    truth: bool
    values: Mapping[int, Any]


class Paths:
    """The choices around requests, to be followed through evaluations of a program.

    :param around: by the index of a request's form: the choices around it, from the inside out
    :param told: by the index of a choice: the forms in its condition of which the value is wanted, the condition itself the last
    """

    def __init__(self, program: Program, around: Mapping[int, Sequence[Form]], told: Mapping[int, Sequence[Form]]) -> None:
        self.around = around
        self._program = program
        self._told = {choice: [form.index for form in forms] for choice, forms in told.items()}
        self._choice_of = {forms[-1].index: choice for choice, forms in told.items()}
        self._traced = {*around, *told, *(index for forms in self._told.values() for index in forms)}
        self._compiled: dict[frozenset[tuple[Scope, str]], Compiled] = {}

    def taken(self, result: Result) -> Mapping[tuple[str, int], Sequence[Choice]]:
        """For the last request of an entity (its id) by each form (its index): the choices that led to it, from the inside out.

        It is the same evaluation once more, on the same snapshot and notes. Nothing if it takes too long to tell.
        """
        compiled = self._compiled.get(result.undeclared)
        try:
            if compiled is None:
                filename = f"<traced policy {next(_filenames)}>"
                compiled = compile_program(self._program, result.limits, result.undeclared, filename, traced=self._traced)
                self._compiled = {result.undeclared: compiled}
            run = result.once_more(_PathRun, compiled)
        except TOO_COMPLICATED:
            return {}
        return {} if run.is_late() else self._followed(run.events, compiled)

    def _followed(self, events: Sequence[tuple[int, Any]], compiled: Compiled) -> Mapping[tuple[str, int], Sequence[Choice]]:
        found: dict[tuple[str, int], Sequence[Choice]] = {}
        last: dict[int, Any] = {}
        made: dict[int, list[Choice]] = {choice: [] for choice in self._told}
        forms = [site.form for site in compiled.sites]
        for site, value in events:
            form = forms[site]
            index = form.index
            if value.__class__ is _Asked:
                around = [made[one.index] for one in self.around.get(index, ())]
                found[value.identity, index] = [several[-1] for several in around if several]
                continue
            last[index] = value
            choice = self._choice_of.get(index)
            if choice is not None:
                made[choice].append(Choice(form, bool(value), {one: last[one] for one in self._told[choice] if one in last}))
            elif made.get(index):
                made[index].pop()  # this choice is done
        return found


class _Asked:
    """An event: a control was asked for, of the entity with this id."""

    __slots__ = ("identity",)

    def __init__(self, identity: str) -> None:
        self.identity = identity


class _PathRun(_TracedRun):
    """A run of which the events on the way to requests are kept; it writes nothing to the log."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.begin_trace()

    @staticmethod
    def debug(*values: Any) -> Any:
        """Nothing is written a second time."""
        return values[-1]

    def traced_request(self, site: int, entity: Host | Guest) -> None:
        """Called by generated code: a control was asked for."""
        self.trace(site, _Asked(entity.id if isinstance(entity, Guest) else HOST_ID))

    def trace(self, site: int, value: Any) -> None:
        """Called by generated code: the form at a site had this value."""
        self.events.append((site, value))

    def do_control(self, entity: Host | Guest, name: Any, value: Any, site: int) -> None:
        """`Control`, where it is not known before what it is called on."""
        super().do_control(entity, name, value, site)
        self.traced_request(site, entity)


def _too_large() -> PolicyError:
    message = f"the evaluation has more than {MOST_EVENTS:,} values, or takes longer than {SECONDS:g} s: too large to tell"
    return PolicyError([Fault("limit", "", 0, 0, f"{message}; a snapshot with fewer guests may be explained")])


class _Loop:
    """A `with` that is being evaluated: where its nodes begin, and its steps so far."""

    __slots__ = ("form", "name", "start", "steps")

    def __init__(self, form: Form, name: Form, start: int) -> None:
        self.form = form
        self.name = name
        self.start = start
        self.steps: list[tuple[Any, int]] = []  # element, and where the step's nodes begin


def _tree(policy: Policy, compiled: Compiled, events: Sequence[tuple[int, Any]]) -> list[Node]:
    """The nodes at top level. A form is reported after its parts; a step that failed leaves parts without the form around them."""
    bodies = {id(definition.body): definition.name for definition in policy.program.functions()}
    loop_of: dict[int, tuple[Form, str]] = {}
    for form in _all_forms(policy.program.forms):
        roles = policy.program.roles.get(form.index)
        if roles is not None and roles.last is Role.STEP:
            loop_of[id(roles.parts[0])] = (form, "begin")
            loop_of[id(roles.bindings[0].name)] = (form, "step")
    nodes: list[Node] = []
    loops: list[_Loop] = []
    for site, value in events:
        form = compiled.sites[site].form
        known = loop_of.get(id(form))
        if known is not None and form.kind is FormKind.NAME:
            whole, what = known
            if what == "begin":
                loops.append(_Loop(whole, policy.program.roles[whole.index].bindings[0].name, len(nodes)))
                continue
            while loops and loops[-1].form is not whole:
                loops.pop()
            if loops:
                loops[-1].steps.append((value, len(nodes)))
            continue
        if any(loop.form is form for loop in loops):
            while loops[-1].form is not form:
                loops.pop()
            nodes.append(Node(form, value, _steps(loops.pop(), nodes)))
            continue
        nodes.append(Node(form, value, _parts(form, nodes, bodies)))
    while loops:  # the evaluation stopped in the middle of these
        loop = loops.pop()
        nodes.append(Node(loop.form, None, _steps(loop, nodes)))
    return nodes


def _steps(loop: _Loop, nodes: list[Node]) -> list[Node]:
    """The steps of a loop; what belongs to them is taken from `nodes`."""
    ends = [*(start for _, start in loop.steps[1:]), len(nodes)]
    steps = [Node(loop.name, element, nodes[start:end]) for (element, start), end in zip(loop.steps, ends, strict=False)]
    del nodes[loop.start :]
    return steps


def _parts(form: Form, nodes: list[Node], bodies: dict[int, str]) -> list[Node]:
    """What a form was made of, taken from the end of `nodes`."""
    if nodes and nodes[-1].form is form:
        return nodes.pop().children  # a form that was compiled by itself is reported twice
    if form.kind not in (FormKind.LIST, FormKind.BLOCK):
        return []
    end = len(nodes)
    start = end
    if start and bodies.get(id(nodes[-1].form)) == (form.items[0].name if form.items else None):
        start -= 1
    while start and form.index < nodes[start - 1].form.index <= form.last:
        start -= 1
    parts = nodes[start:]
    del nodes[start:]
    return parts


def _all_forms(forms: Sequence[Form]) -> Iterator[Form]:
    todo = list(forms)
    while todo:
        form = todo.pop()
        yield form
        todo.extend(form.items)
