"""Plugin `pypolicy`: reads policies in Python, and evaluates them in each cycle."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from mom_core import ConfigError, Decision, Finding, PluginContext, PluginSettings, Problem, Severity, Snapshot, Source, hookimpl, printable
from mom_plugins_policy.notes import NoteStore, keepable
from mom_plugins_policy.python.entities import Guest, Guests, Host, PolicyCycle, PolicyMistake, PythonEvaluation
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
            message = f"new notes are not saved, and the old notes stay: {wrong[0]!r:.60} is not a number, string or list of these"
            yield Problem(Source(evaluation.policy.path.name), printable(message, 400), guest.entity if guest else None)
