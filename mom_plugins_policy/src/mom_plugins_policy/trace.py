"""An evaluation with every value that any form had, as a tree. Only for explanations: the code that a daemon runs knows nothing of this."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

from mom_core import Scope, Snapshot
from mom_plugins_policy.compiler import Compiled, compile_program
from mom_plugins_policy.errors import Fault, PolicyError, Trouble
from mom_plugins_policy.policy import TOO_COMPLICATED, Policy, Result, occurs, too_complicated
from mom_plugins_policy.runtime import Run
from mom_plugins_policy.syntax import Form, FormKind
from mom_plugins_policy.words.forms import Role

if TYPE_CHECKING:
    from mom_plugins_policy.notes import Notes

SECONDS = 1.0
"""For the evaluation that is traced: as long as a person waits without asking why."""

MOST_EVENTS = 150_000
"""Values of forms that are kept: the default policies have some 100 for a guest. To find out what they were made of takes 5 us each."""

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


class _TracedRun(Run):
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
        compiled: Compiled = compile_program(policy.program, limits, frozenset(), filename, traced=True)
        undeclared = frozenset(field for field in compiled.fields if not declares(*field))
        if undeclared:
            compiled = compile_program(policy.program, limits, undeclared, filename, traced=True)
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
