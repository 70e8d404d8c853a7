"""Plugin `pypolicy`: reads the operator's policies in Python, and evaluates them each cycle."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from mom_core import ConfigError, Decision, Finding, PluginContext, PluginSettings, Problem, Severity, Snapshot, Source, hookimpl
from mom_kvm import files_refused
from mom_plugins_policy.notes import NoteStore
from mom_plugins_policy.python.entities import CycleFacts
from mom_plugins_policy.python.evaluation import evaluate
from mom_plugins_policy.python.files import PythonPolicy, read_policies


class PypolicyPlugin:
    """Evaluates the operator's policies in Python."""

    class Settings(PluginSettings):
        """Location of the policies."""

        directory: Path = Path("/etc/mom/pypolicy.d")
        """A folder that only root and mom's user can write. Every *.py in it is a policy, in the order of the file names."""

    def __init__(self, settings: Settings, context: PluginContext) -> None:
        self._settings, self._context, self._policies = settings, context, list[PythonPolicy]()
        self._notes = NoteStore(context, whose="policies in Python")
        self._refused: tuple[Problem, ...] = ()

    @hookimpl
    def mom_setup(self) -> None:
        """Read all policies. mom does not start with an invalid one."""
        self.mom_reload()()
        self._notes.load()

    @hookimpl
    def mom_reload(self) -> Callable[[], None]:
        """Read all policies again. They come into force together after the reload of all plugins."""
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
        """Return the decisions of the policies in order, and their problems."""
        cycle = CycleFacts(snapshot, history, self._context.declarations, self._notes.begin(snapshot), {})
        until = time.monotonic() + self._settings.deadline / 2  # the other half is for the last attempt
        result = [*self._refused, *(item for policy in self._policies for item in evaluate(policy, cycle, until))]
        for identity in self._notes.keep(cycle.notes):
            guest = snapshot.guests.get(identity)
            most = f"{NoteStore.LARGEST >> 20} MiB"
            message = f"these notes are not kept, and the old ones stay: all notes together have more than {most}"
            result.append(Problem(Source(self._context.name), message, guest.entity if guest else None, hint="note less, or delete notes"))
        return result

    @hookimpl
    def mom_check(self) -> Iterable[Finding]:
        """Report policies with which mom would not start."""
        try:
            policies = read_policies(self._settings.directory)
        except ConfigError as error:
            return [Finding(Severity.ERROR, "pypolicy", str(problem)) for problem in error.problems]
        return (
            [] if policies else [Finding(Severity.WARNING, "pypolicy", f"no policy is in {self._settings.directory}", "put a *.py there")]
        )
