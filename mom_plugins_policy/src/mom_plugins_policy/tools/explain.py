"""Why a policy decides what it decides: from a decision back to the fields, notes and literals that it was made of.

An evaluation is traced (`tracing`), then walked once to find out which binding each name was, as scopes are dynamic; from each request
for a control the way leads back through variables, parameters and notes (`Reason`), and outwards through the conditions that
had to hold (`Precondition`). What was not asked for is explained by the conditions that did not hold.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from mom_core import HOST_ID, Decision, Entity, Guest, Host, Snapshot, Source, Value, printable
from mom_plugins_policy.language.analysis import Definition
from mom_plugins_policy.language.errors import Fault
from mom_plugins_policy.language.policy import Policy
from mom_plugins_policy.language.runtime import Notes
from mom_plugins_policy.language.syntax import Form, FormKind, abridged
from mom_plugins_policy.language.words.forms import Role, Roles
from mom_plugins_policy.language.words.functions import BUILTINS, OPERATORS
from mom_plugins_policy.language.words.methods import ENTITY_METHODS, SETTERS
from mom_plugins_policy.tools.trace import Node, traced

DEEPEST = 60
"""Reasons of reasons that are followed."""

MOST_REASONS = 300
"""Reasons of one decision: some screens full."""

MOST_TOLD = 3000
"""Reasons of all requests, and of all that was not asked for, together."""

MOST_REQUESTS = 100
"""Requests that are told, beside the last one for each control."""

MOST_CONDITIONS = 100
"""Conditions, calls and loops around one request that are told, from the inside out."""

LARGEST_VALUE = 1000
"""Elements of a list and characters of a string that are shown whole."""

UNKNOWN = "unknown"
"""How a field got its value that has none."""

_SHOWN = 70  # characters of a form


_NOWHERE = Source("")


@dataclass(frozen=True, slots=True)
class Reason:
    """A value, and what it was made of.

    `text` is the form, variable or field; `source` where the form stands, or where the variable got the value; `how` says in words where
    the value came from, and `branch` which branch of an `if` was taken (`then`, `else`).
    """

    text: str
    value: Any
    source: Source = _NOWHERE
    how: str = ""
    branch: str = ""
    parts: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True)
class Precondition:
    """One thing on the way to a form: a condition and its value, a call of a function, or a loop and its element."""

    text: str
    value: Any
    source: Source
    kind: str
    """`condition`, `call` or `loop`."""
    parts: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True)
class ControlRequest:
    """One call of `Control`: what was asked for, by which form, out of what, and why the form was reached; the nearest condition first.

    `decision` is what became of it; None if it was not applied: it asked for nothing (nil), a later request replaced it (`replaced`), the
    guest's step failed, or the evaluation stopped.
    """

    control: str
    value: Value
    text: str
    source: Source
    reason: Reason | None
    conditions: tuple[Precondition, ...]
    decision: Decision | None = None
    replaced: bool = False


@dataclass(frozen=True, slots=True)
class Missed:
    """A form that was not reached, and the condition that it was not reached for.

    `further`: forms that would have given the variables and notes in that condition other values, and were not reached either.
    """

    text: str
    source: Source
    condition: Precondition
    further: tuple[Missed, ...] = ()


@dataclass(frozen=True, slots=True)
class EntityExplanation:
    """All about one entity in one evaluation."""

    entity: Entity
    requests: tuple[ControlRequest, ...]
    """In the order in which they were made; those that became decisions have one."""
    missed: tuple[Missed, ...]
    faults: tuple[Fault, ...]
    """What went wrong in this entity's steps, or outside of all steps."""
    stopped: bool
    """The evaluation stopped: nothing is applied to the host, and to guests what had been decided by then."""
    left_out: int = 0
    """Requests, replaced by later ones, that are not told."""


def explain(
    policy: Policy, snapshot: Snapshot, entity: Entity, history: Sequence[Snapshot] | None = None, notes: Notes | None = None
) -> EntityExplanation:
    """Evaluate once more, and say for each request about an entity how it came about, and for the others why they were not made.

    :param entity: the host's or a guest's identity, as the snapshot has it
    :param history: older snapshots, oldest first; the snapshot's own if None
    :param notes: what was remembered earlier
    :raises PolicyError: `limit`: the policy is too complicated for an explanation
    """
    nodes, result = traced(policy, snapshot, history, notes)
    walk = _Walk(policy, snapshot, entity.id)
    walk.visit_all(nodes)
    decided = {(d.control, d.source): d for d in result.decisions if d.entity.id == entity.id}
    mine = [request for request in walk.requests if request.entity == entity.id]
    last = {request.control: request for request in mine}
    requests = []
    told = [request for number, request in enumerate(mine) if number < MOST_REQUESTS or last[request.control] is request]
    for request in told:
        source = request.node.form.source
        replaced = last[request.control] is not request
        decision = None if replaced else decided.get((request.control, source))
        reasons = _Reasons(walk, entity.id)
        reason = reasons.of(request.value) if request.value is not None else None
        conditions = tuple(reasons.conditions(request.node))
        value = _brief(request.value.value) if request.value is not None else None
        requests.append(
            ControlRequest(request.control, value, abridged(request.node.form, _SHOWN), source, reason, conditions, decision, replaced)
        )
    missed = tuple(_Unreached(policy, walk, entity.id).requests())
    faults = tuple(fault for fault in result.errors if fault.entity is None or fault.entity.id == entity.id)
    return EntityExplanation(entity, tuple(requests), missed, faults, result.stopped, len(mine) - len(told))


def _brief(value: Any) -> Any:
    """A value as it is shown: of a large one its size, as there may be hundreds of them."""
    if isinstance(value, list | tuple) and _elements(value) > LARGEST_VALUE:
        return f"a list of more than {LARGEST_VALUE:,} elements"
    if isinstance(value, str) and len(value) > LARGEST_VALUE:
        return f"{value[:LARGEST_VALUE]}…"
    return value


def _elements(value: Sequence[Any]) -> int:
    """How many elements a list has, with those of lists in it; more than `LARGEST_VALUE` of them are not counted."""
    found = 0
    todo: list[Sequence[Any]] = [value]
    while todo and found <= LARGEST_VALUE:
        item = todo.pop()
        found += len(item)
        todo.extend(one for one in item[:LARGEST_VALUE] if isinstance(one, list | tuple))
    return found


# --- which binding a name was ------------------------------------------------------------------------------------------------------


@dataclass(eq=False, slots=True)
class _NamedValue:
    """A value that a name was given: by which node, in which form, how, in whose step (an entity id, empty outside of all)."""

    value: Any
    node: Node | None
    form: Form | None
    how: str
    step: str
    times: int = 1


@dataclass(eq=False, slots=True)
class _Request:
    entity: str
    control: str
    node: Node
    value: Node | None


@dataclass(eq=False, slots=True)
class _Walk:
    """Walks the nodes in the order of evaluation with the scopes that there were."""

    policy: Policy
    snapshot: Snapshot
    entity: str
    """Who is asked about: an entity's id."""
    told_left: int = MOST_TOLD
    """Reasons that may still be told."""
    requests: list[_Request] = field(default_factory=list)
    bindings: dict[int, _NamedValue] = field(default_factory=dict)
    """By the id of a name's node: the binding that was read."""
    notes: dict[tuple[str, str, str], Node] = field(default_factory=dict)
    """What notes and controls hold now: by method, entity id and name, the call."""
    read: dict[int, Node] = field(default_factory=dict)
    """By the id of a call of GetVar or GetControl: the call that had set what it read."""
    reached: set[tuple[int, str]] = field(default_factory=set)
    """By the id of the form and the entity: assignments, notes and requests that were made."""
    branched: dict[int, dict[int, Node]] = field(default_factory=dict)
    """By the id of an `if` form: its last evaluation by the id of the branch taken (0: it got no further than the condition), in steps of
    the entity and outside of all steps."""
    scopes: list[set[str]] = field(default_factory=list)
    """The names that are bound in each scope, from the outside in."""
    held: dict[str, list[_NamedValue]] = field(default_factory=dict)
    """By name: its bindings, that of the innermost scope last."""
    step: str = ""

    def visit_all(self, nodes: Sequence[Node]) -> None:
        """Walk everything. Works off a list instead of calling itself: nodes may be deeper than Python's calls."""
        predefined = {"Host": self.snapshot.host, "Guests": None}
        self.scopes = [set(predefined)]
        self.held = {name: [_NamedValue(value, None, None, "", "")] for name, value in predefined.items()}
        todo: list[Iterator[object]] = [self._each(nodes)]
        while todo:
            following = next(todo[-1], None)
            if following is None:
                todo.pop()
            elif isinstance(following, Node):
                todo.append(self._visit(following))

    def _each(self, nodes: Sequence[Node]) -> Iterator[object]:
        yield from nodes

    def _visit(self, node: Node) -> Iterator[object]:
        form = node.form
        if form.kind is FormKind.NAME:
            binding = self._lookup(form.name.partition(".")[0])
            if binding is not None:
                self.bindings[id(node)] = binding
            yield from node.children
            return
        roles = self.policy.program.roles.get(form.index)
        if roles is not None:
            yield from self._loop(node, roles) if roles.last is Role.STEP else self._special(node, roles)
            return
        definition = _called(self.policy, node)
        if definition is not None:
            yield from self._call(node, definition)
            return
        yield from node.children
        name, _, method = node.head.rpartition(".")
        if method in ENTITY_METHODS and name:
            self._method(node, name, method)

    def _lookup(self, name: str) -> _NamedValue | None:
        bindings = self.held.get(name)
        return bindings[-1] if bindings else None

    def _bind(self, name: str, node: Node, form: Form, how: str) -> None:
        if name not in self.scopes[-1]:
            self.scopes[-1].add(name)
            self.held.setdefault(name, []).append(_NamedValue(node.value, node, form, how, self.step))

    def _leave_scope(self) -> None:
        for name in self.scopes.pop():
            self.held[name].pop()

    def _special(self, node: Node, roles: Roles) -> Iterator[object]:
        if roles.last is Role.BRANCH and self.step in (self.entity, ""):
            taken = id(node.children[-1].form) if len(node.children) > 1 else 0
            evaluations = self.branched.setdefault(id(node.form), {})
            evaluations.pop(taken, None)  # the last one stands last
            evaluations[taken] = node
        names = {id(value): name for name, value in roles.bindings if value is not None}
        if roles.scope:
            self.scopes.append(set())
        for child in node.children:
            yield child
            name = names.get(id(child.form))
            if name is not None:
                self._bind(name.name, child, name if roles.scope else node.form, node.head)
        if roles.scope:
            self._leave_scope()
        if roles.assigned:
            self._assign(node, roles.assigned)

    def _loop(self, node: Node, roles: Roles) -> Iterator[object]:
        before = self.step
        for step in node.children:
            self.scopes.append(set())
            self._bind(step.form.name, step, node.form, "loop")
            if isinstance(step.value, Guest):
                self.step = step.value.id
            yield from step.children
            self.step = before
            self._leave_scope()

    def _assign(self, node: Node, name: str) -> None:
        self.reached.add((id(node.form), self.step))
        bindings = self.held.get(name)
        if bindings and node.children:
            times = bindings[-1].times + 1 if bindings[-1].how == "set" else 1
            bindings[-1] = _NamedValue(node.value, node.children[-1], node.form, "set", self.step, times)

    def _call(self, node: Node, definition: Definition) -> Iterator[object]:
        *given, body = node.children
        yield from given
        self.scopes.append(set())
        for parameter, argument in zip(definition.parameters, given, strict=False):
            self._bind(parameter, argument, node.form, f"parameter of {definition.name}")
        yield body
        self._leave_scope()

    def _method(self, node: Node, name: str, method: str) -> None:
        binding = self._lookup(name)
        entity = binding.value if binding is not None else None
        if not isinstance(entity, Host | Guest) or not node.children:
            return
        identity = entity.id if isinstance(entity, Guest) else HOST_ID
        key = node.children[0].value
        if not isinstance(key, str):
            return
        if ENTITY_METHODS[method].writes:
            self.notes[(method, identity, key)] = node
            self.reached.add((id(node.form), identity))
        if method == "Control":
            self.requests.append(_Request(identity, key, node, node.children[1] if len(node.children) > 1 else None))
        elif method in SETTERS:
            setting = self.notes.get((SETTERS[method], identity, key))
            if setting is not None:
                self.read[id(node)] = setting


def _called(policy: Policy, node: Node) -> Definition | None:
    """The function that a node called, if it is a call and has come back."""
    if not node.children:
        return None
    body = node.children[-1].form
    return next((one for one in policy.program.definitions.get(node.head, ()) if one.body is body), None)


# --- what a value was made of ------------------------------------------------------------------------------------------------------


class _Reasons:
    """Follows values of one request back; what was told once is referred to afterwards."""

    def __init__(self, walk: _Walk, entity: str) -> None:
        self._walk = walk
        self._roles = walk.policy.program.roles
        self._entity = entity
        self._told: set[int] = set()
        self._count = 0
        self.names: set[str] = set()
        """The variables that were told of."""
        self.unset: set[tuple[str, str]] = set()
        """The notes and controls that were read and not set: the method that would have set them, and the name."""

    def conditions(self, node: Node) -> Iterator[Precondition]:
        """What had to hold for a node to be evaluated, from the inside out."""
        left = MOST_CONDITIONS
        for outer, inner in node.ancestors():
            condition = self._condition(outer, inner)
            if condition is not None:
                yield condition
                left -= 1
                if not left:
                    return

    def _condition(self, outer: Node, inner: Node) -> Precondition | None:
        form = outer.form
        roles = self._roles.get(form.index)
        if roles is not None and roles.last is Role.BRANCH and outer.children[0] is not inner:
            return self.condition(outer)
        if _called(self._walk.policy, outer) is not None and outer.children[-1] is inner:
            return Precondition(abridged(form, _SHOWN), None, form.source, "call")
        if roles is not None and roles.last is Role.STEP:
            text = f"({outer.head} {abridged(roles.parts[0], 30)} {inner.form.name} …)"
            return Precondition(text, _brief(inner.value), form.source, "loop")
        return None

    def condition(self, node: Node, depth: int = 0) -> Precondition:
        """The condition of an `if`, with its value; its reasons are followed from `depth` to `DEEPEST`."""
        test = node.children[0]
        reason = self.of(test, depth)
        parts = () if reason is None else reason.parts if reason.text == abridged(test.form, _SHOWN) else (reason,)
        return Precondition(abridged(test.form, _SHOWN), _brief(test.value), test.form.source, "condition", parts)

    def of(self, node: Node, depth: int = 0) -> Reason | None:
        """What a value was made of; None for what needs no words: literals, and entities."""
        while node.children and self._is_sequence(node.form):
            node = node.children[-1]
        form = node.form
        roles = self._roles.get(form.index)
        if form.kind is FormKind.LITERAL or isinstance(node.value, Host | Guest) or (form.kind is FormKind.NAME and form.name == "nil"):
            return None
        self._count += 1
        self._walk.told_left -= 1
        if depth > DEEPEST or self._is_enough():
            return Reason(abridged(form, _SHOWN), _brief(node.value), form.source, "and so on" if self._is_enough() else "")
        if form.kind is FormKind.NAME:
            return self._name(node, depth)
        if roles is not None and roles.last is Role.BRANCH:
            return self._choice(node, roles, depth)
        head = node.head
        if _called(self._walk.policy, node) is not None:
            return self._from(node, node.children[-1], depth, "")
        setting = self._walk.read.get(id(node))
        if setting is not None:
            return self._note(node, setting, depth)
        method = head.rpartition(".")[2]
        if "." in head and method in ENTITY_METHODS:
            if method in SETTERS and node.value is None and node.children and isinstance(node.children[0].value, str):
                self.unset.add((SETTERS[method], node.children[0].value))
            how = ENTITY_METHODS[method].unset if node.value is None else ""
            return Reason(abridged(form, _SHOWN), _brief(node.value), form.source, how)
        parts = () if roles is not None and roles.last is Role.STEP else self._parts(node, depth)
        return Reason(abridged(form, _SHOWN), _brief(node.value), form.source, parts=parts)

    def _is_sequence(self, form: Form) -> bool:
        """Whether the value of a form is that of its last part."""
        roles = self._roles.get(form.index)
        return form.kind is FormKind.BLOCK or (roles is not None and roles.last is Role.BODY)

    def _is_enough(self) -> bool:
        return self._count > MOST_REASONS or self._walk.told_left < 0

    def _parts(self, node: Node, depth: int) -> tuple[Reason, ...]:
        """What the arguments of a builtin were made of. Arithmetic inside of arithmetic gets no line of its own."""
        found: list[Reason] = []
        for child in node.children:
            if self._is_enough():
                break
            reason = self.of(child, depth + 1)
            if reason is None:
                continue
            word = BUILTINS.get(OPERATORS.get(child.head, child.head))
            # Of what selects an argument, the value says which one counted.
            found.extend(reason.parts if word is not None and not word.selects else (reason,))
        return tuple(_once(found))

    def _name(self, node: Node, depth: int) -> Reason | None:
        form = node.form
        binding = self._walk.bindings.get(id(node))
        if "." in form.name:
            return Reason(form.name, _brief(node.value), how=UNKNOWN if node.value is None else "")
        if binding is None or binding.node is None or binding.form is None:
            return Reason(form.name, _brief(node.value)) if binding is None or form.name not in ("Host", "Guests") else None
        how = binding.how
        self.names.add(form.name)
        if id(binding) in self._told:
            return Reason(form.name, _brief(node.value), how="see above")
        self._told.add(id(binding))
        source = binding.form.source
        if how == "loop":
            return Reason(form.name, _brief(node.value), source, how)
        if how == "set" and binding.step and binding.step != self._entity:
            guest = self._walk.snapshot.guests.get(binding.step)
            whose = printable(guest.name) if guest is not None else "the host"
            times = f"{binding.times} times, last" if binding.times > 1 else "once,"
            return Reason(form.name, _brief(node.value), source, f"set {times} for {whose}")
        return self._from(node, binding.node, depth, how, source)

    def _note(self, node: Node, setting: Node, depth: int) -> Reason:
        given = setting.children[1] if len(setting.children) > 1 else None
        how = f"by {setting.head.rpartition('.')[2]}"
        if given is None:
            return Reason(abridged(node.form, _SHOWN), _brief(node.value), setting.form.source, how)
        return self._from(node, given, depth, how, setting.form.source)

    def _from(self, node: Node, given: Node, depth: int, how: str, source: Source | None = None) -> Reason:
        """The reason of a name or call that has its value from another node."""
        reason = self.of(given, depth + 1)
        text = abridged(node.form, _SHOWN)
        where = source or node.form.source
        if reason is None:
            return Reason(text, _brief(node.value), where, how)
        if given.form.kind is FormKind.NAME or reason.how:
            return Reason(text, _brief(node.value), where, how, parts=(reason,))
        return Reason(text, _brief(node.value), where, f"{how} {reason.text}".strip(), reason.branch, reason.parts)

    def _choice(self, node: Node, roles: Roles, depth: int) -> Reason:
        test = node.children[0]
        reason = self.of(test, depth + 1)
        parts = []
        if reason is not None:
            parts.append(Reason(reason.text, _brief(test.value), reason.source, reason.how or "condition", parts=reason.parts))
        branch = ""
        value = _brief(node.value)
        if len(node.children) > 1:
            taken = node.children[-1]
            branch = "then" if taken.form is roles.parts[1] else "else"
            value = _brief(taken.value) if value is None else value
            inner = self.of(taken, depth + 1)
            if inner is not None:
                parts.append(inner)
        return Reason(abridged(node.form, _SHOWN), value, node.form.source, branch=branch, parts=tuple(parts))


def _once(reasons: Sequence[Reason]) -> Iterator[Reason]:
    seen: set[tuple[str, str]] = set()
    for reason in reasons:
        key = (reason.text, repr(reason.value))
        if key not in seen or reason.parts:
            seen.add(key)
            yield reason


# --- what was not asked for --------------------------------------------------------------------------------------------------------

_MOST_MISSED = 50
_MOST_STEPS = 100_000  # outwards from such forms, to the conditions around them and around the calls of their functions
_CHAIN = 4  # forms not reached because of forms not reached, and so on


class _Unreached:
    """Finds out why forms were not reached for an entity: the innermost condition around each that went the other way."""

    def __init__(self, policy: Policy, walk: _Walk, entity: str) -> None:
        self._walk = walk
        self._roles = policy.program.roles
        self._entity = entity
        self._around: dict[int, Form] = {}
        self._calls: dict[str, list[Form]] = {}
        self._bodies = {id(definition.body): definition.name for definition in policy.program.functions()}
        self._setting: dict[tuple[str, str], list[Form]] = {}
        """By `set` or a method, and the name: the forms that set it."""
        self._left = _MOST_MISSED
        self._steps = _MOST_STEPS
        self._survey(policy)

    def _survey(self, policy: Policy) -> None:
        todo = list(reversed(policy.program.forms))
        while todo:
            form = todo.pop()
            for item in form.items:
                self._around[id(item)] = form
            todo.extend(reversed(form.items))
            if form.kind is not FormKind.LIST or len(form.items) < 2:
                continue
            head = form.items[0].name
            base, _, method = head.rpartition(".")
            roles = policy.program.roles.get(form.index)
            if roles is not None and roles.assigned:
                self._setting.setdefault(("set", roles.assigned), []).append(form)
            elif method in ENTITY_METHODS and ENTITY_METHODS[method].writes and (base == "Host") is (self._entity == HOST_ID):
                self._setting.setdefault((method, str(form.items[1].value)), []).append(form)
            if head in policy.program.definitions:
                self._calls.setdefault(head, []).append(form)

    def requests(self) -> Iterator[Missed]:
        """The requests in the program that were not made for the entity, in the order of the program."""
        forms = [form for (method, _), several in self._setting.items() if method == "Control" for form in several]
        for form in sorted(forms, key=lambda form: form.index):
            yield from self._missed(form, 1, set())

    def _missed(self, form: Form, depth: int, seen: set[int]) -> Iterator[Missed]:
        if self._left <= 0 or id(form) in seen or {(id(form), self._entity), (id(form), "")} & self._walk.reached:
            return
        seen.add(id(form))
        barrier = self._barrier(form)
        if barrier is None:
            return
        self._left -= 1
        reasons = _Reasons(self._walk, self._entity)
        condition = reasons.condition(barrier, DEEPEST - 3)
        wanted = [*(("set", name) for name in sorted(reasons.names)), *sorted(reasons.unset)] if depth < _CHAIN else []
        further = tuple(found for key in wanted for other in self._setting.get(key, ()) for found in self._missed(other, depth + 1, seen))
        yield Missed(abridged(form, _SHOWN), form.source, condition, further)

    def _barrier(self, form: Form) -> Node | None:
        """The last evaluation of the innermost `if` around a form, or around the calls of its function, that went the other way."""
        todo = deque((form,))
        seen: set[int] = set()
        while todo:
            here = todo.popleft()
            while id(here) not in seen:
                seen.add(id(here))
                self._steps -= 1
                if self._steps < 0:
                    return None
                outer = self._around.get(id(here))
                if outer is None:
                    break
                if id(here) in self._bodies:
                    todo.extend(self._calls.get(self._bodies[id(here)], ()))
                    break
                roles = self._roles.get(outer.index)
                if roles is not None and roles.last is Role.BRANCH and here is not roles.parts[0] and here is not outer.items[0]:
                    evaluations = self._walk.branched.get(id(outer), {})
                    other = [node for taken, node in evaluations.items() if taken not in (0, id(here))]
                    if other:
                        return other[-1]
                    if evaluations:
                        break
                here = outer
        return None
