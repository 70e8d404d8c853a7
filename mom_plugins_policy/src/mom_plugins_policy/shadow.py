"""Policies on trial, which mom evaluates and only reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from mom_core import Decision, PluginContext, Problem, Severity, Snapshot, Source, printable
from mom_kvm import PolicyState
from mom_plugins_policy.language.errors import PolicyError
from mom_plugins_policy.language.policy import Policy
from mom_plugins_policy.notes import NoteStore
from mom_plugins_policy.sources import read_policies

_SHOWN: Final = 5  # errors of one evaluation


class Shadow:
    """Trial of a folder's policies. In the trial, each replaces the policy in force with the same name.

    :param seconds: time limit of an evaluation
    """

    def __init__(self, folder: Path, context: PluginContext, seconds: float) -> None:
        self.notes = NoteStore(context, "shadow-notes.json", "policies on trial")
        self._folder = folder
        self._context = context
        self._seconds = seconds
        self._texts: Mapping[str, str] = {}
        self._policy: Policy | None = None
        self._beside = ""
        self._trouble: Sequence[Problem] = ()

    def read(self) -> Callable[[], None]:
        """Read the folder; return a function that activates its policies. Raise `ConfigError` if a policy is invalid."""
        policies = read_policies(self._folder, None).usable()

        def commit() -> None:
            self._texts, self._beside = policies.texts, ""

        return commit

    def evaluate(self, snapshot: Snapshot, history: Sequence[Snapshot], in_force: PolicyState) -> list[Decision.Trial | Problem]:
        """Evaluate the policies on trial; return their decisions and errors."""
        if self._beside != in_force.version:
            self._compile(in_force)
        if self._policy is None:
            return [*self._trouble]
        result = self._policy.evaluate_with(self.notes, snapshot, history, self._seconds)
        report: list[Decision.Trial | Problem] = [Decision.Trial(result.decisions)]
        for fault in result.errors[:_SHOWN]:
            source = fault.source._replace(name=f"shadow {fault.source.name}")
            report.append(Problem(source, f"{fault.kind}: {fault.message}", fault.entity, Severity.WARNING))
        return report

    def _compile(self, in_force: PolicyState) -> None:
        self._beside, self._trouble = in_force.version, ()
        texts = {**{name: policy.text for name, policy in in_force.texts.items()}, **self._texts}
        try:
            self._policy = Policy.compile(texts, self._context.declarations)
        except PolicyError as error:
            self._policy = None
            message = f"the shadow policies cannot be used: {printable(str(error.faults[0]), 300)}"
            hint = f"`mom policy check {self._folder}`"
            self._trouble = [Problem(Source(self._context.name), message, severity=Severity.WARNING, hint=hint)]
            self._context.log.error("%s", message)
