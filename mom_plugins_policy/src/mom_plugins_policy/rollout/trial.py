"""Policies that remember, and policies on trial: evaluated beside those in force, over the same snapshots. A shadow is a trial on no guest,
only to be reported."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from mom_core import Decision, Guest, PluginContext, Problem, Severity, ShadowDecisions, Snapshot, Source, printable
from mom_kvm import NoteStore, PolicyState
from mom_plugins_policy.language.errors import Fault, PolicyError
from mom_plugins_policy.language.limits import PolicyLimits
from mom_plugins_policy.language.policy import Policy, Result
from mom_plugins_policy.sources import read_policies

_SHOWN: Final = 5  # errors of one evaluation


class PolicyNotes(NoteStore):
    """The notes that evaluations find, and leave."""

    def evaluate(self, policy: Policy, snapshot: Snapshot, history: Sequence[Snapshot]) -> Result:
        """One evaluation that finds these notes, and leaves its own: nil forgets, and so does a policy that names a note no more."""
        before = self.begin(snapshot)
        named = policy.code.notes
        if named is not None:  # what no policy can ask for would only take the room of other notes, for ever
            unnamed = [identity for identity, values in before.items() if not values.keys() <= named]
            left = {identity: {name: value for name, value in before[identity].items() if name in named} for identity in unnamed}
            self.keep(left)
            before.update(left)
        result = policy.evaluate(snapshot, history, before, self.room)
        after = {identity: {**before.get(identity, {}), **values} for identity, values in result.notes.items()}
        self.keep({identity: {name: one for name, one in values.items() if one is not None} for identity, values in after.items()})
        return result


class InForce(NamedTuple):
    """The decisions of the policies in force in this cycle, without controls that are ignored, and what went wrong in them."""

    decisions: Sequence[Decision]
    errors: Sequence[Fault]
    ignored: Sequence[str]


class PolicyTrial:
    """One trial; without a policy, none: then the policies in force decide, and nothing is told. Its methods are called by the evaluator.

    :param name: what sources of its decisions and problems begin with
    :param policy: None while there is none that can be used
    """

    def __init__(self, name: str, policy: Policy | None, notes: PolicyNotes) -> None:
        self.policy = policy
        self.notes = notes
        self.trouble: Sequence[Problem] = ()
        """Why there is none."""
        self._name = name

    def read(self) -> Callable[[], None]:
        """Read what is tried, where it is in files; what is returned puts it to use. Raises `ConfigError`."""
        return lambda: None

    def has(self, guest: Guest) -> bool:
        """True if it decides for this guest."""
        return False

    def prepare(self, in_force: PolicyState) -> None:
        """Get ready before the policies in force are evaluated."""

    def evaluate(
        self, snapshot: Snapshot, history: Sequence[Snapshot], in_force: InForce
    ) -> tuple[Sequence[Decision], list[ShadowDecisions | Problem], Result | None]:
        """The decisions of the policies in force, with those of the policies on trial in their place for the guests in the trial; all that
        the latter decide, and what went wrong in them, which harms nobody; and their evaluation."""
        if self.policy is None:
            return in_force.decisions, [*self.trouble], None
        result = self.notes.evaluate(self.policy, snapshot, history)
        found: list[ShadowDecisions | Problem] = [ShadowDecisions(result.decisions)]
        for fault in result.errors[:_SHOWN]:
            source, message = self._source(fault.source), f"{fault.kind}: {fault.message}"
            found.append(Problem(source, message, fault.entity, Severity.WARNING))
        return self._counted(snapshot, history, in_force, result), found, result

    def _counted(self, snapshot: Snapshot, history: Sequence[Snapshot], in_force: InForce, result: Result) -> Sequence[Decision]:
        """The decisions that count."""
        return in_force.decisions

    def _source(self, source: Source) -> Source:
        """Who reads it must see that it is not by the policies that `mom policy show` prints."""
        return source._replace(name=f"{self._name} {source.name}")


class Shadow(PolicyTrial):
    """The policies of a folder in the place of those in force that have their names, and beside the others.

    :param limits: of the policies in force
    """

    def __init__(self, folder: Path, context: PluginContext, limits: PolicyLimits) -> None:
        super().__init__("shadow", None, PolicyNotes(context, "shadow-notes.json", "policies on trial"))
        self._folder = folder
        self._context = context
        self._limits = limits.beside()
        self._texts: Mapping[str, str] = {}
        self._beside = ""

    def read(self) -> Callable[[], None]:
        """Read the folder."""
        found = read_policies(self._folder, None, self._limits).usable()

        def commit() -> None:
            self._texts, self._beside = found.texts, ""

        return commit

    def prepare(self, in_force: PolicyState) -> None:
        """Compile it beside the policies in force, if these or the folder have changed."""
        if self._beside == in_force.version:
            return
        self._beside, self.trouble = in_force.version, ()
        texts = {**{name: policy.text for name, policy in in_force.texts.items()}, **self._texts}
        try:
            self.policy = Policy.compile(texts, self._context.declarations, self._limits)
        except PolicyError as error:
            self.policy = None
            message = f"the shadow policies cannot be used: {printable(str(error.faults[0]), 300)}"
            hint = f"`mom policy check {self._folder}`"
            self.trouble = [Problem(Source(self._context.name), message, severity=Severity.WARNING, hint=hint)]
            self._context.log.error("%s", message)
