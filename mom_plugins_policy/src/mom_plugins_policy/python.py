"""Policies in Python: the plugin `pypolicy`, and the names that policies import."""

from __future__ import annotations

import inspect
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from traceback import walk_tb
from types import ModuleType
from typing import Any, Final, NamedTuple, TypeVar

import mom_core
from mom_core import (
    ConfigError,
    Decision,
    Finding,
    PluginContext,
    PluginSettings,
    Problem,
    Severity,
    Snapshot,
    Source,
    Value,
    hookimpl,
    printable,
)
from mom_plugins_policy.language.errors import did_you_mean
from mom_plugins_policy.language.values import samples_of
from mom_plugins_policy.notes import NoteStore, keepable
from mom_plugins_policy.sources import files_refused, read_folder

__all__ = ["Decision", "GiB", "Guest", "Host", "KiB", "MiB", "PypolicyPlugin", "TiB"]

T = TypeVar("T")

# In KiB, as in fields and controls.
KiB, MiB, GiB, TiB = 1, 1 << 10, 1 << 20, 1 << 30

Notes = dict[str, Any]


class PythonPolicy(NamedTuple):
    """Loaded policy."""

    path: Path
    decide: Callable[[Any, Any], object]


class PolicyMistake(Exception):
    """Mistake in a policy, independent of any guest."""


class PolicyCycle(NamedTuple):
    """Data of one cycle: `notes` keyed by entity id, `decided` keyed by entity id and control."""

    snapshot: Snapshot
    history: Sequence[Snapshot]
    declared: mom_core.Declarations
    notes: dict[str, Notes]
    decided: dict[tuple[str, str], Value]


@dataclass(slots=True)
class PythonEvaluation:
    """One evaluation of one policy.

    :ivar made: all decisions, yielded or not
    :ivar loops: the guest of each unfinished loop over the guests, oldest loop first
    """

    policy: PythonPolicy
    cycle: PolicyCycle
    made: list[Decision] = field(default_factory=list)
    notes: dict[str, Notes] = field(default_factory=dict)
    loops: list[list[Guest]] = field(default_factory=list)


class _ReadableEntity:
    """Host or guest, as a policy sees it. `unknown` contains the names of unknown fields that the policy read."""

    def __init__(self, entity: mom_core.Host | mom_core.Guest, evaluation: PythonEvaluation) -> None:
        self._entity, self._evaluation = entity, evaluation
        self.name, self.entity, self.unknown = entity.name, entity.entity, dict[str, None]()

    def number(self, field: str) -> float | None:
        """Return a numeric field, in the unit that `mom fields` shows; None while unknown."""
        return self._read(field, self._entity.number)

    def text(self, field: str) -> str | None:
        """Return a string field; None while unknown."""
        return self._read(field, self._entity.text)

    def items(self, field: str) -> Sequence[Mapping[str, Value]] | None:
        """Return a copy of a list field, such as one item per disk; None while unknown."""
        return deepcopy(self._read(field, self._entity.items))

    def average(self, field: str) -> float | None:
        """Return a numeric field's mean over the kept cycles (setting `history`); for guests, since their start. None: unknown."""
        self.number(field)
        samples = samples_of(self._entity, [*self._evaluation.cycle.history, self._evaluation.cycle.snapshot])
        numbers = [number for item in samples if (number := item.number(field)) is not None]
        return sum(numbers) / len(numbers) if numbers else None

    def prop(self, name: str) -> Value:
        """Return a property, such as a guest's `uuid` or the host's `interval`; None if absent."""
        return deepcopy(self._entity.properties.get(name))

    def wanted(self, control: str) -> Value:
        """Return the value that an earlier policy decided in this cycle, or None."""
        return deepcopy(self._evaluation.cycle.decided.get((self.entity.id, control)))

    @property
    def notes(self) -> Notes:
        """Values that policies store by name: numbers, strings, and lists of these. mom keeps them across cycles and restarts of mom.

        All policies share them. mom deletes a guest's notes when the guest is gone or restarts.
        """
        noted, identity = self._evaluation.notes, self.entity.id
        if identity not in noted:
            noted[identity] = deepcopy(self._evaluation.cycle.notes.get(identity, {}))
        return noted[identity]

    def set(self, control: str, value: Value, *, because: str, least: float | None = None, most: float | None = None) -> Decision:
        """Return a decision on a control, in the unit that `mom plugin info` shows. The decision has no effect without `yield`.

        :param because: reason for `mom explain`, without a full stop
        :param least: lower bound of the value
        :param most: upper bound of the value, which overrides `least`
        """
        if isinstance(value, int | float):
            value = value if least is None else max(value, least)
            value = value if most is None else min(value, most)
            spec = self._evaluation.cycle.declared.controls.get(control)
            if isinstance(value, float) and spec is not None and spec.unit.is_whole:
                value = int(value)  # as in the policy language: a fraction in a computed size is no mistake
        decision = Decision(self.entity, control, value, str(because)[:600], self._place())
        self._evaluation.made.append(decision)
        return decision

    def _read(self, field: str, read: Callable[[str], T | None]) -> T | None:
        declared, scope = self._evaluation.cycle.declared.fields, self.entity.scope
        if (scope, field) not in declared:
            advice = did_you_mean(field, [name for of, name in declared if of is scope])
            message = f"no enabled plugin declares the field {field!r:.60} of the {scope}"
            raise PolicyMistake(f"{message}; {advice}" if advice else message)
        value = read(field)
        if value is None:
            self.unknown[field] = None
        return value

    def _place(self) -> Source:
        frame = sys._getframe(2)
        while frame.f_code.co_filename != str(self._evaluation.policy.path) and frame.f_back is not None:
            frame = frame.f_back
        return Source(self._evaluation.policy.path.name, frame.f_lineno, 1)


class Host(_ReadableEntity):
    """Host in one cycle."""


class Guest(_ReadableEntity):
    """Guest in one cycle."""


class Guests(tuple[Guest, ...]):
    """Guests of one cycle, in name order."""

    def __iter__(self) -> Iterator[Guest]:
        if self:
            loops, loop = self[0]._evaluation.loops, list[Guest]()
            loops.append(loop)
            for guest in super().__iter__():
                loop[:] = [guest]
                yield guest
            loops.remove(loop)


_HINT: Final = "a policy defines `def decide(host, guests):`, which yields decisions; a failed reload keeps the old policies"


def read_policies(directory: Path) -> list[PythonPolicy]:
    """Load `*.py` in name order, except names that begin with `.` or `_`.

    :raises ConfigError: with all errors by file and line
    """
    sources = read_folder(directory, ".py", ignored="_")
    policies = list[PythonPolicy]()
    for name, text in sources.texts.items():
        path = Path(sources.files[name])
        try:
            policies.append(PythonPolicy(path, _decide_in(path, text)))
        except (Exception, SystemExit) as error:  # noqa: BLE001  # the operator's code may raise anything
            line, message = line_of(error, path), printable(f"{type(error).__name__}: {error}", 400)
            sources.problems.append(ConfigError.Problem(printable(str(path), 400), line, min(line, 1), message, _HINT))
    sources.usable()
    return policies


def _decide_in(path: Path, text: str) -> Callable[[Any, Any], object]:
    module = ModuleType(str(path))
    sys.modules[module.__name__] = module  # `dataclass` looks there for the module of a class
    try:
        exec(compile(text.removeprefix("\ufeff"), path, "exec", dont_inherit=True), module.__dict__)  # noqa: S102  # only root and mom's user can write the file
        inspect.signature(module.decide).bind("the host", "the guests")
        decide: Callable[[Any, Any], object] = module.decide
    finally:
        del sys.modules[module.__name__]
    return decide


def line_of(error: BaseException, path: Path) -> int:
    """Return the number of the line in `path` that raised the error; 0 if there is none."""
    lines = [line for frame, line in walk_tb(error.__traceback__) if frame.f_code.co_filename == str(path)]
    return lines[-1] if lines else getattr(error, "lineno", None) or 0


class PypolicyPlugin:
    """Evaluator of the operator's policies in Python."""

    class Settings(PluginSettings):
        """Location of the policies."""

        directory: Path = Path("/etc/mom/pypolicy.d")
        """Folder that only root and mom's user can write. Every *.py in it is a policy; mom evaluates the policies in name order."""

    def __init__(self, settings: Settings, context: PluginContext) -> None:
        self._settings, self._context, self._policies = settings, context, list[PythonPolicy]()
        self._notes = NoteStore(context, whose="policies in Python")
        self._refused: tuple[Problem, ...] = ()

    @hookimpl
    def mom_setup(self) -> None:
        """Read all policies. Invalid policies prevent a start."""
        self.mom_reload()()
        self._notes.load()

    @hookimpl
    def mom_reload(self) -> Callable[[], None]:
        try:
            policies = read_policies(self._settings.directory)
        except ConfigError as error:
            self._refused = (files_refused(self._context.name, error),)
            raise

        def commit() -> None:
            self._policies, self._refused = policies, ()
            self._context.log.info("policies in Python: %s", ", ".join(policy.path.name for policy in policies) or "none")

        return commit

    @hookimpl
    def mom_evaluate(self, snapshot: Snapshot, history: Sequence[Snapshot]) -> Iterable[Decision | Problem]:
        cycle = PolicyCycle(snapshot, history, self._context.declarations, self._notes.begin(snapshot), {})
        until = time.monotonic() + self._settings.deadline / 2  # the other half is for the last attempt
        decided = (item for policy in self._policies for item in _evaluate(policy, cycle, until))
        report = [*self._refused, *decided]
        self._notes.keep(cycle.notes)
        return report

    @hookimpl
    def mom_check(self) -> Iterable[Finding]:
        try:
            policies = read_policies(self._settings.directory)
        except ConfigError as error:
            return [Finding(Severity.ERROR, "pypolicy", str(problem)) for problem in error.problems]
        return [] if policies else [Finding(Severity.WARNING, "pypolicy", f"no policy is in {self._settings.directory}", "add a *.py file")]


def _evaluate(policy: PythonPolicy, cycle: PolicyCycle, until: float) -> list[Decision | Problem]:
    """Evaluate a policy.

    If the policy fails at a guest in a loop, evaluate it again without that guest. After any other error, the policy decides nothing.
    """
    left_out: dict[str, Problem] = {}
    while True:
        evaluation = PythonEvaluation(policy, cycle)
        guests = Guests(Guest(guest, evaluation) for identity, guest in cycle.snapshot.guests.items() if identity not in left_out)
        try:
            made = policy.decide(Host(cycle.snapshot.host, evaluation), guests)
            several = made if isinstance(made, Iterable) else [] if made is None else [made]
            decisions = list(several)
            for wrong in (item for item in decisions if not isinstance(item, Decision)):
                raise PolicyMistake(f"decide yields a {type(wrong).__name__}; it must yield `guest.set(…)`")
        except (Exception, SystemExit) as error:  # noqa: BLE001  # the operator's code may raise anything
            source = Source(policy.path.name, line_of(error, policy.path), 1)
            guest = None if isinstance(error, PolicyMistake) or not evaluation.loops else evaluation.loops[-1][0]
            if guest is None or time.monotonic() > until:
                message = str(error) if isinstance(error, PolicyMistake) else f"{type(error).__name__}: {error}"
                return [Problem(source, printable(f"the policy decides nothing in this cycle: {message}", 400))]
            left_out[guest.entity.id] = _left_out(source, guest, error)
            continue
        problems = [*left_out.values(), *_problems(decisions, evaluation)]
        cycle.decided.update({(decision.entity.id, decision.control): decision.value for decision in decisions})
        cycle.notes.update(evaluation.notes)
        return [*decisions, *problems]


def _left_out(source: Source, guest: Guest, error: BaseException) -> Problem:
    if guest.unknown and isinstance(error, TypeError):  # neither the policy nor the host is at fault
        message = f"left out by {source.name}, because {', '.join(guest.unknown)} {'is' if len(guest.unknown) == 1 else 'are'} unknown"
        return Problem(source, message, guest.entity, Severity.WARNING, "test a value with `is None` before you use it")
    return Problem(source, printable(f"left out by {source.name}: {type(error).__name__}: {error}", 400), guest.entity)


def _problems(yielded: list[Decision], evaluation: PythonEvaluation) -> Iterator[Problem]:
    yielded_ids = set(map(id, yielded))
    lost = [decision for decision in evaluation.made if id(decision) not in yielded_ids]
    for source, control in dict.fromkeys((decision.source, decision.control) for decision in lost):
        yield Problem(source, f"a decision on {control} has no effect, because it is not yielded", hint="write `yield` before `set`")
    for identity, notes in list(evaluation.notes.items()):
        wrong = [name for name, value in notes.items() if not (isinstance(name, str) and keepable(value))]
        if wrong:
            del evaluation.notes[identity]
            guest = evaluation.cycle.snapshot.guests.get(identity)
            cannot = f"{wrong[0]!r:.60} is not a number, string or list of these, or is too long"
            message = f"new notes are not saved, and the old notes stay: {cannot}"
            yield Problem(Source(evaluation.policy.path.name), printable(message, 400), guest.entity if guest else None)
