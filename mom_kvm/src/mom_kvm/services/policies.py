"""Service of an evaluator with changing policies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mom_core import MomError, Source, Value


@dataclass(frozen=True, slots=True, order=True)
class PolicyProblem:
    """Mistake in policies. Line and column count from 1; 0 if unknown. `severity` is `error` or `warning`."""

    name: str
    line: int
    column: int
    kind: str
    message: str
    severity: str = "error"
    hint: str = ""

    @property
    def source(self) -> Source:
        """Place of the mistake."""
        return Source(self.name, self.line, self.column)

    def __str__(self) -> str:
        return f"{self.source}: {self.kind}: {self.message}" if self.name else f"{self.kind}: {self.message}"


class PolicyRefused(MomError):
    """Invalid policies; the earlier policies stay in force. `problems` has all mistakes."""

    def __init__(self, problems: Sequence[PolicyProblem], *, hint: str = "") -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems), hint=hint)


class PolicyConflict(MomError):
    """Another client has changed the policies; `version` is in force."""

    def __init__(self, message: str, *, version: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.version = version


@dataclass(frozen=True, slots=True)
class PolicyText:
    """Policy in force, and its origin: a file's path, `default`, or who set it at run time."""

    text: str
    origin: str = ""


@dataclass(frozen=True, slots=True)
class PolicyState:
    """All policies in force. `version` differs after each change, also across restarts."""

    version: str
    texts: Mapping[str, PolicyText] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """Change of the policies. `time` in seconds since the epoch. `diff` is a unified diff; empty if unknown."""

    version: str
    time: float
    who: str
    what: str
    diff: str = ""


class PolicyTexts(Protocol):
    """An evaluator's policies. Thread-safe.

    Texts set here override files and defaults. Changes raise `PolicyRefused`, or `PolicyConflict` for another version than
    `expected_version` (None for any version). `who` is for the log.
    """

    def state(self) -> PolicyState:
        """Return the policies in force."""

    def remarks(self, changes: Mapping[str, str | None], *, replace_all: bool = False) -> Sequence[PolicyProblem]:
        """Return problems for which `change` would refuse, failures that are certain, and warnings."""

    def change(
        self, changes: Mapping[str, str | None], *, who: str, replace_all: bool = False, expected_version: str | None = None
    ) -> PolicyState:
        """Set policies; None removes a policy.

        :param replace_all: remove all other policies, also those from files and defaults, until `reset`
        :return: the policies now in force
        """

    def reset(self, *, who: str, expected_version: str | None = None) -> PolicyState:
        """Drop run-time changes; read the files again."""

    def history(self) -> Sequence[PolicyChange]:
        """Return the last changes, oldest first."""

    def roll_back(self, version: str, *, who: str, expected_version: str | None = None) -> PolicyState:
        """Restore a version. Raises `MomError` for an unknown version."""

    def memory(self) -> Value:
        """Return the notes of policies as JSON, for a recording."""

    def set_memory(self, memory: Value) -> None:
        """Replace the notes of policies, for a replay. Raises `MomError` for an invalid value."""

    def failure(self) -> str:
        """Return why the last evaluation stopped early; empty without a failure."""
