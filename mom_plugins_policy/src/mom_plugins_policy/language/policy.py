"""Policies: named texts, compiled once and evaluated on any number of snapshots."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache, cached_property
from itertools import islice
from typing import Any, Final, NamedTuple

from mom_core import Decision, Declarations, Guest, Host, Scope, Snapshot, Unit, Value, printable
from mom_kvm import PolicyProblem
from mom_plugins_policy.language import limits
from mom_plugins_policy.language.analysis import Definition, Program, analyse
from mom_plugins_policy.language.code import code_of
from mom_plugins_policy.language.errors import Fault, PolicyError
from mom_plugins_policy.language.functions import Clause
from mom_plugins_policy.language.reader import read
from mom_plugins_policy.language.runtime import Evaluation, Notes
from mom_plugins_policy.language.syntax import Form, FormKind, abridged, all_in
from mom_plugins_policy.language.values import Guests, show
from mom_plugins_policy.language.words import ENTITY_METHODS
from mom_plugins_policy.notes import NoteStore

_FIELD = re.compile(r"\.(\w+)")


# --- reasons of decisions: the conditions under which a program requests values of controls --------------------------------------

CONTROL: Final = ".Control"

_CONDITIONS: Final = 4  # nearest to the request; farther conditions rarely concern its guest
_FIELDS: Final = 12  # per condition
_FARTHEST: Final = 400  # enclosing forms that are searched for conditions
_LONGEST: Final = 600  # characters of a reason
_SHOWN: Final = 70  # characters of a condition


class RequestCondition(NamedTuple):
    """Condition of a request: its text, and the truth value that leads to the request.

    `fields` are those that it reads from the host, or from the entity whose control is requested, such as `Host.mem_free`.
    """

    text: str
    truth: bool
    fields: Sequence[str]


def reason_of(conditions: Sequence[RequestCondition], identity: str, snapshot: Snapshot) -> str:
    """Return a request's conditions as text with their fields' values, the outermost first. Without conditions, return an empty string."""
    entity = snapshot.host if identity == Host.ID else snapshot.guests[identity]
    texts = []
    for text, truth, fields in conditions:
        owners = [(field, *field.rpartition(".")[::2]) for field in fields]
        values = [f"{field} is {show((snapshot.host if of == 'Host' else entity).fields.get(name))}" for field, of, name in owners]
        texts.append(f"{text} is {'true' if truth else 'false'}" + (f" ({', '.join(values)})" if values else ""))
    return printable("; ".join(texts), _LONGEST)


def conditions_in(program: Program) -> Mapping[int, Sequence[RequestCondition]]:
    """Return requests' conditions (outermost first), keyed by the index of the request's form."""
    return _Outline(program).conditions


class _Outline:
    def __init__(self, program: Program) -> None:
        self._program = program
        self._around: dict[int, Form] = {}
        self._calls: dict[str, list[Form]] = {}
        self._bodies: dict[int, Definition] = {definition.body.index: definition for definition in program.functions()}
        requests: list[Form] = []
        for form in all_in(program.forms):
            parts = program.parts.get(form.index)
            for item in form.items if parts is None else parts.evaluated:
                self._around.setdefault(item.index, form)  # a clause of `cond` is no form
            head = form.items[0].name if form.items else ""
            if head.endswith(CONTROL):
                requests.append(form)
            elif head in program.definitions:
                self._calls.setdefault(head, []).append(form)
        self.conditions = {form.index: [*islice(self._conditions(form), _CONDITIONS)][::-1] for form in requests}

    def _conditions(self, request: Form) -> Iterator[RequestCondition]:
        owner, form = request.items[0].name.removesuffix(CONTROL), request
        for _ in range(_FARTHEST):
            outer = self._outer(form)
            if outer is None:
                return
            parts = self._program.parts.get(outer.index)
            for condition, truth in _leading_to(form, () if parts is None else parts.clauses):
                yield RequestCondition(abridged(condition, _SHOWN), truth, _fields(condition, owner))
            if form.index in self._bodies:
                owner = ""  # the caller may use another name for the entity
            form = outer

    def _outer(self, form: Form) -> Form | None:
        definition = self._bodies.get(form.index)
        if definition is None:
            return self._around.get(form.index)
        calls = self._calls.get(definition.name, [])
        alone = len(calls) == len(self._program.definitions[definition.name]) == 1
        return calls[0] if alone else None


def _leading_to(form: Form, clauses: Sequence[Clause]) -> Iterator[tuple[Form, bool]]:
    reached: list[tuple[Form, bool]] = []
    for condition, body in clauses:
        if form is condition:
            break
        if condition is not None:
            reached.append((condition, form in body))
        if form in body:
            break
    yield from reversed(reached)


def _fields(condition: Form, owner: str) -> Sequence[str]:
    names = dict.fromkeys(form.name for form in all_in((condition,)) if form.kind is FormKind.NAME)
    parts = [(text, *text.rpartition(".")[::2]) for text in names]
    return [text for text, of, name in parts if of and of in ("Host", owner) and name not in ENTITY_METHODS][:_FIELDS]


# --- policies ------------------------------------------------------------------------------------------------------------------


class Result:
    """Result of one evaluation, with one Python value per top-level form.

    An error outside of loops over `Guests` stops the evaluation. Decisions that loops have made for guests remain valid.
    """

    def __init__(self, run: Evaluation, policy: Policy, *, stopped: bool) -> None:
        self.values = [list(value) if isinstance(value, Guests) else value for value in run.values]
        self.errors: Sequence[Fault] = tuple(run.faults)
        self.stopped = stopped
        self.run = run
        self.policy = policy
        self._lost = {*run.failed, Host.ID} if stopped else run.failed

    @property
    def notes(self) -> Mapping[str, Mapping[str, Any]]:
        """Notes to keep, keyed by entity id and name; nil deletes a note."""
        return {identity: notes for identity, notes in self.run.noted.items() if identity not in self._lost}

    @cached_property
    def decisions(self) -> Sequence[Decision]:
        """Last request per control and entity. Guests at which a loop failed have no decisions."""
        run, policy = self.run, self.policy
        result: list[Decision] = []
        why = cache(self._why)
        for control, requests in run.controls.items():
            if not isinstance(control, str) or not requests:
                continue
            scope, whole = policy.takes(control)
            for identity, (entity, value, form) in requests.items():
                if value is None or identity in self._lost:
                    continue
                if scope is not None and scope is not entity.entity.scope:
                    continue
                size = int(value) if whole else value
                result.append(Decision(entity.entity, control, size, why(form)(identity), form.source))
        result.extend(self._disk_requests())
        return tuple(result)

    def _why(self, form: Form) -> Callable[[str], str]:
        # Return a function from entity ids to reasons: a plugin's suggestion, else the conditions, else the form's text.
        suggested, conditions = self._suggested_because(form), self.policy.conditions.get(form.index, ())

        def reason(identity: str) -> str:
            because = suggested.get(identity)
            return str(because) if because else reason_of(conditions, identity, self.run.snapshot) or _written_in(form)

        return reason

    def _suggested_because(self, form: Form) -> Mapping[str, Value]:
        declared = {} if self.policy.declarations is None else self.policy.declarations.fields
        snapshot, because = self.run.snapshot, dict[str, Value]()
        for name in _FIELD.findall(abridged(form)):
            if (spec := declared.get((Scope.HOST, name))) is not None and spec.reason:
                because[Host.ID] = snapshot.host.text(spec.reason)
            if (spec := declared.get((Scope.GUEST, name))) is not None and spec.reason:
                because.update(zip(snapshot.guests, snapshot.column(spec.reason), strict=True))
        return because

    def _disk_requests(self) -> Iterator[Decision]:
        run = self.run
        if self.policy.takes("io_tune")[0] is Scope.HOST:
            return
        for identity, form in run.disk_requests.items():
            if identity in run.failed:
                continue
            disks = [disk for disk in run.disks_of[identity] if getattr(disk, "changed", False)]
            tunes = [{"name": disk.attributes["name"], "path": disk.attributes["path"], **disk.current} for disk in disks]
            yield Decision(disks[0].guest.entity, "io_tune", tunes, _written_in(form), form.source)


def _written_in(form: Form) -> str:
    return f"{abridged(form)} in {form.source}"


class Policy:
    """Compiled policies; create with `compile`. Immutable and thread-safe."""

    def __init__(self, program: Program, empty: Sequence[str], declarations: Declarations | None) -> None:
        self.program = program
        self.empty = empty
        """Names of policies that contain no code."""
        self.declarations = declarations
        self._code = code_of(program)

    @cached_property
    def conditions(self) -> Mapping[int, Sequence[RequestCondition]]:
        """Conditions of requests, keyed by form index."""
        return conditions_in(self.program)

    @property
    def undeclared(self) -> Collection[tuple[Scope, str]]:
        """Fields that the policies mention but no plugin declares. Reading them is an error."""
        return [] if self.declarations is None else [field for field in self.program.fields() if field not in self.declarations.fields]

    @classmethod
    def compile(cls, texts: Mapping[str, object], declarations: Declarations | None = None) -> Policy:
        """Compile policies in name order as one program.

        :param declarations: None accepts all controls, and all fields in a snapshot or its history
        :raises PolicyError: with all mistakes
        """
        problems: list[PolicyProblem] = []
        forms: list[Form] = []
        empty: list[str] = []
        size = index = 0
        for name in sorted(texts):
            text = texts[name]
            if wrong := _wrong_name(name):
                problems.append(PolicyProblem(name, 0, 0, "malformed", wrong))
                continue
            if not isinstance(text, str):
                problems.append(PolicyProblem(name, 0, 0, "type", "a policy must be a string"))
                continue
            size += len(name) + len(text)
            if size > limits.TEXT:
                problems.append(PolicyProblem(name, 0, 0, "limit", f"the policies have more than {limits.TEXT:,} characters"))
                break
            try:
                read_forms = read(name, text, first_index=index)
            except PolicyError as error:
                problems.extend(error.problems)
                continue
            index += sum(1 for _ in all_in(read_forms))
            forms.extend(read_forms)
            if not read_forms:
                empty.append(name)
        program = analyse(forms)
        problems.extend(program.problems)
        if problems:
            raise PolicyError(sorted(problems))
        return cls(program, empty, declarations)

    @cached_property
    def text_controls(self) -> frozenset[str]:
        """Controls that take strings."""
        controls = {} if self.declarations is None else self.declarations.controls
        return frozenset(name for name, spec in controls.items() if spec.unit is Unit.TEXT)

    def takes(self, control: str) -> tuple[Scope | None, bool]:
        """Return a control's scope (None for any scope), and whether its values become integers."""
        spec = None if self.declarations is None else self.declarations.controls.get(control)
        return (None, False) if spec is None else (spec.scope, spec.unit.is_whole)

    def evaluate(
        self, snapshot: Snapshot, history: Sequence[Snapshot] | None = None, notes: Notes | None = None, seconds: float = limits.SECONDS
    ) -> Result:
        """Evaluate the policies. `Result.errors` contains their mistakes.

        :param history: older snapshots, oldest first; None for the snapshot's own history
        :param seconds: time limit
        """
        older = snapshot.history if history is None else history
        declared = {*fields_in((snapshot, *older))} if self.declarations is None else self.declarations.fields
        run = Evaluation(snapshot, older, declared, notes or {}, self.text_controls, seconds)
        stopped = False
        for form, code in zip(self.program.forms, self._code, strict=True):
            try:
                run.values.append(code(run))
            except Exception as error:  # noqa: BLE001  # a policy may cause any error
                run.faults.append(run.fault(run.located(error, form)))
                stopped = True
                break
        return Result(run, self, stopped=stopped)

    def evaluate_with(self, store: NoteStore, snapshot: Snapshot, history: Sequence[Snapshot], seconds: float = limits.SECONDS) -> Result:
        """Evaluate with the notes in `store`, and store new notes there."""
        before = store.begin(snapshot)
        result = self.evaluate(snapshot, history, before, seconds)
        after = {identity: {**before.get(identity, {}), **values} for identity, values in result.notes.items()}
        new = {identity: {name: value for name, value in values.items() if value is not None} for identity, values in after.items()}
        store.keep(new)
        return result


def fields_in(snapshots: Iterable[Snapshot]) -> dict[tuple[Scope, str], Host | Guest]:
    """Return all fields by scope and name, each with the first entity that has it."""
    result: dict[tuple[Scope, str], Host | Guest] = {}
    for item in snapshots:
        entities: list[Host | Guest] = [item.host, *item.guests.values()]
        for entity in entities:
            for name in entity.fields:
                result.setdefault((entity.entity.scope, name), entity)
    return result


def _wrong_name(name: str) -> str:
    if not name or len(name) > 128:
        return "a policy's name has 1 to 128 characters"
    if not name.isprintable() or "/" in name:
        return "a policy's name has no slashes and no control characters"
    return ""
