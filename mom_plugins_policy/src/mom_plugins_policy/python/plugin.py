"""Plugin `pypolicy`: reads policies in Python, and evaluates them in each cycle."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from traceback import walk_tb

from pydantic import ValidationError

from mom_core import ConfigError, Decision, Finding, PluginContext, PluginSettings, Problem, Severity, Snapshot, Source, hookimpl, printable
from mom_plugins_policy.notes import NoteStore
from mom_plugins_policy.python.entities import CAN_BE_KEPT, Guest, Guests, Host, PolicyCycle, PolicyMistake, PythonEvaluation
from mom_plugins_policy.python.files import PythonPolicy, line_of, read_policies
from mom_plugins_policy.sources import files_refused


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
        return [*self._refused, *decided, *self._notes.keep(cycle.notes)]

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
            decisions_made = list(islice(several, evaluation.most + 1))
            if len(decisions_made) > evaluation.most:
                raise evaluation.too_many()
            for wrong in (item for item in decisions_made if not isinstance(item, Decision)):
                raise PolicyMistake(f"decide yields a {type(wrong).__name__}; it must yield `guest.set(…)`")
        except (Exception, SystemExit) as error:  # noqa: BLE001  # the operator's code may raise anything
            source = Source(policy.path.name, line_of(error, policy.path), 1)
            guest = None if isinstance(error, PolicyMistake) else _blamed(error, evaluation)
            if guest is None or time.monotonic() > until:
                message = str(error) if isinstance(error, PolicyMistake) else f"{type(error).__name__}: {error}"
                return [Problem(source, printable(f"the policy decides nothing in this cycle: {message}", 400))]
            left_out[guest.entity.id] = _left_out(source, guest, error)
            continue
        problems = [*left_out.values(), *_problems(decisions_made, evaluation)]
        faulty = {id(decision) for decision, fault in evaluation.made if fault}
        decisions = [decision for decision in decisions_made if id(decision) not in faulty]
        cycle.decided.update({(decision.entity.id, decision.control): decision.value for decision in decisions})
        cycle.notes.update(evaluation.notes)
        return [*decisions, *problems]


def _blamed(error: BaseException, evaluation: PythonEvaluation) -> Guest | None:
    lines = {id(frame): line for frame, line in walk_tb(error.__traceback__)}
    ended = [loop for loop in reversed(evaluation.loops) if loop.place is None or loop.place in lines.items()]
    maybe = [loop for loop in reversed(evaluation.loops) if loop.place and loop.place[0] in lines]  # a `finally` moved to another line
    return next((loop.guest for loop in [*ended, *maybe]), None)


def _left_out(source: Source, guest: Guest, error: BaseException) -> Problem:
    if guest.unknown and isinstance(error, TypeError):  # neither the policy nor the host is at fault
        message = f"left out by {source.name}, because {', '.join(guest.unknown)} {'is' if len(guest.unknown) == 1 else 'are'} unknown"
        return Problem(source, message, guest.entity, Severity.WARNING, "test a value with `is None` before you use it")
    return Problem(source, printable(f"left out by {source.name}: {type(error).__name__}: {error}", 400), guest.entity)


def _problems(yielded: list[Decision], evaluation: PythonEvaluation) -> Iterator[Problem]:
    yielded_ids = set(map(id, yielded))
    for decision, fault in evaluation.made:
        if fault and id(decision) in yielded_ids:
            yield Problem(decision.source, f"not decided: {fault}", decision.entity)
    for source, control in dict.fromkeys(
        (decision.source, decision.control) for decision, _ in evaluation.made if id(decision) not in yielded_ids
    ):
        yield Problem(source, f"a decision on {control} has no effect, because it is not yielded", hint="write `yield` before `set`")
    for identity, notes in list(evaluation.notes.items()):
        try:
            CAN_BE_KEPT.validate_python(notes, strict=True)
        except ValidationError as error:
            del evaluation.notes[identity]
            guest, first = evaluation.cycle.snapshot.guests.get(identity), error.errors()[0]
            which = f"{first['loc'][0]!r:.60} is not a number, string or list of these" if first["loc"] else first["msg"]
            message = f"new notes are not saved, and the old notes stay: {which}"
            yield Problem(Source(evaluation.policy.path.name), printable(message, 400), guest.entity if guest else None)
