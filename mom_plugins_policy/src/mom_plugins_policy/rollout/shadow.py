"""A second set of policies, evaluated beside those in force, of which nothing is applied: to see on this host what it would do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from mom_core import ConfigError, PluginContext, Problem, Severity, ShadowDecisions, Snapshot, Source, printable
from mom_plugins_policy.language.errors import PolicyError
from mom_plugins_policy.language.limits import PolicyLimits
from mom_plugins_policy.language.policy import Policy, Result
from mom_plugins_policy.notes import BEGIN_ANEW, NOTES, NoteStore
from mom_plugins_policy.sources import read_policies
from mom_toolkit import PolicyState

_SHOWN: Final = 5  # errors of one evaluation


def warnings(name: str, result: Result) -> list[Problem]:
    """The problems of a second set of policies, which harm nobody. `name` is how sources call the set."""
    return [
        Problem(Source(f"{name} {fault.name}", fault.line, fault.column), f"{fault.kind}: {fault.message}", fault.entity, Severity.WARNING)
        for fault in result.errors[:_SHOWN]
    ]


class Shadow:
    """The policies of a folder in the place of those in force that have their names, and beside the others.

    :param limits: of the policies in force
    """

    def __init__(self, folder: Path, context: PluginContext, limits: PolicyLimits) -> None:
        self.folder = folder
        self._context = context
        self._limits = limits.beside()
        what = "the file of notes of policies on trial"
        notes = context.state_file("shadow-notes.json", what, NOTES, mode=0o600, loss=BEGIN_ANEW)
        self._notes = NoteStore(notes)
        self._texts: Mapping[str, str] = {}
        self._policy: Policy | None = None
        self._beside = self._trouble = ""

    def load(self) -> None:
        """Read the folder, and what it remembered. Raises `ConfigError` with all that is wrong with the files."""
        self.prepare()()
        self._notes.load()

    def prepare(self) -> Callable[[], None]:
        """Read the folder again; what is returned puts it to use. Raises `ConfigError`."""
        found = read_policies(self.folder, None, self._limits)
        if found.problems:
            raise ConfigError(sorted(found.problems))

        def commit() -> None:
            self._texts, self._beside = found.texts, ""

        return commit

    def evaluate(self, snapshot: Snapshot, history: Sequence[Snapshot], in_force: PolicyState) -> list[ShadowDecisions | Problem]:
        """Decisions with the shadow's policies. Never raises for them."""
        if self._beside != in_force.version:
            self._compile(in_force)
        if self._policy is None:
            hint = f"`mom policy check {self.folder}`"
            return [Problem(Source(self._context.name), self._trouble, severity=Severity.WARNING, hint=hint)]
        result = self._notes.evaluate(self._policy, snapshot, history)
        return [ShadowDecisions(result.decisions), *warnings("shadow", result)]

    def _compile(self, in_force: PolicyState) -> None:
        self._beside, self._trouble = in_force.version, ""
        texts = {**{name: policy.text for name, policy in in_force.texts.items()}, **self._texts}
        try:
            self._policy = Policy.compile(texts, self._context.declarations, self._limits)
        except PolicyError as error:
            self._policy = None
            first = error.faults[0]
            self._trouble = f"the shadow policies cannot be used: {printable(str(first), 300)}"
            self._context.log.error("%s", self._trouble)
