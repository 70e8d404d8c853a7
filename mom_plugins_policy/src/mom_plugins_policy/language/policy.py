"""Policies: named texts, compiled once and evaluated on any number of snapshots."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

from mom_core import HOST_ID, Decision, Declarations, Guest, Problem, Scope, Snapshot, Source, Unit, Value
from mom_plugins_policy.language.analysis import Program, analyse
from mom_plugins_policy.language.code import code_of
from mom_plugins_policy.language.conditions import RequestCondition, conditions_in, reason_of
from mom_plugins_policy.language.errors import Fault, PolicyError
from mom_plugins_policy.language.limits import DEFAULT_LIMITS, PolicyLimits
from mom_plugins_policy.language.reader import read
from mom_plugins_policy.language.runtime import Evaluation, Notes
from mom_plugins_policy.language.syntax import Form, abridged, all_in
from mom_plugins_policy.language.values import Guests
from mom_plugins_policy.notes import NoteStore

_FIELD = re.compile(r"\.(\w+)")
_FIELDS = 1000  # cached answers of `declares` in an evaluation: policies may make up names
_CODES = 4  # cached programs, each some MiB: the one in force, one checked before a change, one on trial, and the replaced one


class Result:
    """Result of one evaluation, with one Python value per top-level form.

    An error outside of loops over `Guests` stops the evaluation. Decisions that loops have made for guests remain valid.
    """

    def __init__(self, run: Evaluation, policy: Policy, *, stopped: bool) -> None:
        self.values = [list(value) if isinstance(value, Guests) else value for value in run.values]
        self.errors: Sequence[Fault] = tuple(run.faults)
        self.stopped = stopped
        self.unsaved: Sequence[Problem] = ()
        """Problems with notes that were not saved for lack of room."""
        self.run = run
        self.policy = policy
        self._lost = {*run.failed, HOST_ID} if stopped else run.failed

    @property
    def notes(self) -> Mapping[str, Mapping[str, Any]]:
        """Notes to keep, keyed by entity id and name; nil deletes a note."""
        return {identity: notes for identity, notes in self.run.noted.items() if identity not in self._lost}

    @cached_property
    def decisions(self) -> Sequence[Decision]:
        """Last request per control and entity. Guests at which a loop failed have no decisions."""
        run, policy = self.run, self.policy
        result: list[Decision] = []
        reasons: dict[int, _Reason] = {}
        for control, requests in run.controls.items():
            if not isinstance(control, str) or not requests:
                continue
            scope, whole = policy.takes(control)
            for identity, (entity, value, form) in requests.items():
                if value is None or identity in self._lost:
                    continue
                guest = isinstance(entity, Guest)
                if scope is not None and (scope is Scope.GUEST) != guest:
                    continue
                if form.index not in reasons:
                    reasons[form.index] = self._reason(form)
                reason = reasons[form.index]
                size = int(value) if whole else value
                result.append(Decision(entity.entity, control, size, reason.of(identity, run.snapshot), reason.source))
        result.extend(self._disk_requests())
        return tuple(result)

    def _reason(self, form: Form) -> _Reason:
        return _Reason(form.source, self._suggested_because(form), self.policy.code.conditions.get(form.index, ()), _written_in(form))

    def _suggested_because(self, form: Form) -> Mapping[str, Value]:
        declared = {} if self.policy.declarations is None else self.policy.declarations.fields
        snapshot, because = self.run.snapshot, dict[str, Value]()
        for name in _FIELD.findall(abridged(form)):
            if (spec := declared.get((Scope.HOST, name))) is not None and spec.reason:
                because[HOST_ID] = snapshot.host.text(spec.reason)
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
            limits = [{"name": disk.attributes["name"], "path": disk.attributes["path"], **disk.current} for disk in disks]
            yield Decision(disks[0].guest.entity, "io_tune", limits, _written_in(form), form.source)


def _written_in(form: Form) -> str:
    return f"{abridged(form)} in {form.source}"


class _Reason(NamedTuple):
    """Reason of a decision: a plugin's suggestion, else the conditions, else the form's text."""

    source: Source
    suggested: Mapping[str, Value]
    conditions: Sequence[RequestCondition]
    text: str

    def of(self, identity: str, snapshot: Snapshot) -> str:
        if suggested := self.suggested.get(identity):
            return str(suggested)
        return reason_of(self.conditions, identity, snapshot) or self.text


class Code:
    """Program with its executable code, shared by `Policy` objects with equal texts and limits.

    :param empty: names of policies that contain no code
    """

    def __init__(self, program: Program, empty: Sequence[str] = ()) -> None:
        self.program = program
        self.empty = empty
        self.run = code_of(program)

    @cached_property
    def conditions(self) -> Mapping[int, Sequence[RequestCondition]]:
        """Conditions of requests, keyed by form index."""
        return conditions_in(self.program)


class Policy:
    """Compiled policies; create with `compile`. Immutable and thread-safe."""

    def __init__(self, code: Code, declarations: Declarations | None, limits: PolicyLimits) -> None:
        self.code = code
        self.program = code.program
        self.declarations = declarations
        self.limits = limits

    @property
    def undeclared(self) -> Collection[tuple[Scope, str]]:
        """Fields that the policies mention but no plugin declares. Reading them is an error."""
        return [] if self.declarations is None else [field for field in self.program.fields() if field not in self.declarations.fields]

    @classmethod
    def compile(cls, texts: Mapping[str, str], declarations: Declarations | None = None, limits: PolicyLimits = DEFAULT_LIMITS) -> Policy:
        """Compile policies in name order as one program. Recent results are cached.

        :param declarations: None accepts all controls, and all fields in a snapshot or its history
        :raises PolicyError: with all faults
        """
        for name, text in texts.items():
            for item, role in ((name, "a policy's name"), (text, "a policy")):
                if not isinstance(item, str):
                    raise PolicyError([Fault("type", str(name), 0, 0, f"{role} must be a string, not {type(item).__name__}")])
        return cls(_code(tuple(sorted(texts.items())), limits), declarations, limits)

    @cached_property
    def text_controls(self) -> frozenset[str]:
        """Controls that take strings."""
        controls = {} if self.declarations is None else self.declarations.controls
        return frozenset(name for name, spec in controls.items() if spec.unit is Unit.TEXT)

    def takes(self, control: str) -> tuple[Scope | None, bool]:
        """Return a control's scope (None for any scope), and whether its values become integers."""
        spec = None if self.declarations is None else self.declarations.controls.get(control)
        return (None, False) if spec is None else (spec.scope, spec.unit.is_whole)

    def evaluate(self, snapshot: Snapshot, history: Sequence[Snapshot] | None = None, notes: Notes | None = None) -> Result:
        """Evaluate the policies. `Result.errors` contains their mistakes.

        :param history: older snapshots, oldest first; None for the snapshot's own history
        """
        older = snapshot.history if history is None else history
        declared = self.declarations.fields if self.declarations is not None else None

        @lru_cache(maxsize=_FIELDS)
        def declares(scope: Scope, name: str) -> bool:
            return (scope, name) in declared if declared is not None else occurs(scope, name, snapshot, older)

        run = Evaluation(snapshot, older, self.limits, declares, notes, self.text_controls)
        stopped = False
        for form, code in zip(self.program.forms, self.code.run, strict=True):
            try:
                run.values.append(code(run))
            except Exception as error:  # noqa: BLE001  # a policy may cause any error
                run.faults.append(run.fault(run.located(error, form)))
                stopped = True
                break
        return Result(run, self, stopped=stopped)

    def evaluate_with(self, store: NoteStore, snapshot: Snapshot, history: Sequence[Snapshot]) -> Result:
        """Evaluate with the notes in `store`. Store new notes there; delete notes that no policy mentions."""
        before = store.begin(snapshot)
        kept, named = self.program.kept_notes, self.program.kept_notes.names
        if kept.all_known:  # notes without a reader would use memory forever
            unnamed = [identity for identity, values in before.items() if not values.keys() <= named]
            remaining = {identity: {name: value for name, value in before[identity].items() if name in named} for identity in unnamed}
            store.keep(remaining)
            before.update(remaining)
        result = self.evaluate(snapshot, history, before)
        after = {identity: {**before.get(identity, {}), **values} for identity, values in result.notes.items()}
        new = {identity: {name: value for name, value in values.items() if value is not None} for identity, values in after.items()}
        result.unsaved = store.keep(new)
        return result


@lru_cache(maxsize=_CODES)
def _code(texts: Sequence[tuple[str, str]], limits: PolicyLimits) -> Code:
    if len(texts) > limits.policies:
        raise PolicyError(
            [Fault("limit", texts[-1][0], 0, 0, f"there are {len(texts):,} policies, but only {limits.policies:,} are allowed")]
        )
    faults: list[Fault] = []
    forms: list[Form] = []
    empty: list[str] = []
    size = 0
    index = 0
    for name, text in texts:
        if wrong := _wrong_name(name):
            faults.append(Fault("malformed", name, 0, 0, wrong))
            continue
        size += len(text)
        if size > limits.text:
            faults.append(Fault("limit", name, 0, 0, f"the policies have more than {limits.text:,} characters (the setting limits.text)"))
            break
        try:
            read_forms = read(name, text, limits, first_index=index)
        except PolicyError as error:
            faults.extend(error.faults)
            continue
        index += sum(1 for _ in all_in(read_forms))
        forms.extend(read_forms)
        if not read_forms:
            empty.append(name)
    program = analyse(forms)
    faults.extend(program.faults)
    if faults:
        raise PolicyError(sorted(faults, key=lambda fault: (fault.name, fault.line, fault.column)))
    return Code(program, empty)


def occurs(scope: Scope, name: str, snapshot: Snapshot, older: Sequence[Snapshot]) -> bool:
    """Return whether the snapshot or its history contains a field."""
    if scope is Scope.HOST:
        return any(name in item.host.fields for item in (snapshot, *older))
    return any(name in guest.fields for item in (snapshot, *older) for guest in item.guests.values())


def _wrong_name(name: str) -> str:
    if not name or len(name) > 128:
        return "a policy's name has 1 to 128 characters"
    if not name.isprintable() or "/" in name:
        return "a policy's name has no slashes and no control characters"
    return ""
