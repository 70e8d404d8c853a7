"""Policies that change while mom runs: service of an evaluator for plugins that take changes, such as a control socket.

Only the evaluator knows the language, and keeps the texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from mom_core import ConfigError, MomError, Problem, Source, Value, printable


@dataclass(frozen=True, slots=True, order=True)
class PolicyProblem:
    """Mistake in policy texts: the policy's name, the place (1-based, 0: unknown), the kind and a message.

    `kind` is a word of the policy language's reference, such as `syntax` or `arity`. `severity` is `error`, or `warning` for a likely
    mistake. `hint` is a cure.
    """

    name: str
    line: int
    column: int
    kind: str
    message: str
    severity: str = "error"
    hint: str = ""

    @property
    def source(self) -> Source:
        """The place."""
        return Source(self.name, self.line, self.column)

    def __str__(self) -> str:
        return f"{self.source}: {self.kind}: {self.message}" if self.name else f"{self.kind}: {self.message}"


class PolicyRefused(MomError):
    """Unusable policies; the earlier ones stay in force. `problems` has all mistakes, at least one."""

    def __init__(self, problems: Sequence[PolicyProblem], *, hint: str = "") -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems), hint=hint)


class PolicyConflict(MomError):
    """Another client has changed the policies meanwhile; `version` is in force, and nothing was changed."""

    def __init__(self, message: str, *, version: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.version = version


@dataclass(frozen=True, slots=True)
class PolicyText:
    """Text of a policy in force, and its origin (a file's path, `default`, or who set it at run time)."""

    text: str
    origin: str = ""


@dataclass(frozen=True, slots=True)
class PolicyState:
    """All policies in force at one moment, in the order of names, and their version: an entity tag, different after each change, also
    across restarts."""

    version: str
    texts: Mapping[str, PolicyText] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """Change of the policies: its version, time (seconds since the epoch), author and kind.

    `diff` is a unified diff for a person; empty: the version before is unknown.
    """

    version: str
    time: float
    who: str
    what: str
    diff: str = ""


class PolicyTexts(Protocol):
    """An evaluator's policies, to be read and changed while it works. For any thread.

    A change is checked as a whole first, and counts from the next evaluation on; a refused one changes nothing. Texts set here override
    files and defaults of the same name, also after files were read again.

    Changing calls raise `PolicyConflict` if the version is not `expected_version` (None: any), and `PolicyRefused` with all mistakes. `who`
    is for the log and the history, such as `xmlrpc, process 812 of user 36`.
    """

    def state(self) -> PolicyState:
        """Return the policies in force now."""

    def check(self, changes: Mapping[str, str | None], *, replace_all: bool = False) -> Sequence[PolicyProblem]:
        """Return the problems for which `change` would refuse these texts."""

    def remarks(self, changes: Mapping[str, str | None], *, replace_all: bool = False) -> Sequence[PolicyProblem]:
        """Return all objections to changes: the problems of `check`, certain failures at evaluation as errors, and likely mistakes as
        warnings. Unchanged policies count only with problems that the changes cause."""

    def change(
        self, changes: Mapping[str, str | None], *, who: str, replace_all: bool = False, expected_version: str | None = None
    ) -> PolicyState:
        """Set the policies of these names, and remove those whose text is None; a missing one is no error.

        :param replace_all: remove all others, including files and defaults, until `reset`
        :return: the policies then in force
        """

    def reset(self, *, who: str, expected_version: str | None = None) -> PolicyState:
        """Drop all changes made at run time, and read the files again."""

    def history(self) -> Sequence[PolicyChange]:
        """Return the last changes, oldest first."""

    def roll_back(self, version: str, *, who: str, expected_version: str | None = None) -> PolicyState:
        """Restore the texts of a version in the history. Raises `MomError` for an unknown one."""

    def memory(self) -> Value:
        """Return the policies' notes as JSON for `set_memory`, for a recording."""

    def set_memory(self, memory: Value) -> None:
        """Replace the policies' notes, for a replay. Raises `MomError` for a value that `memory` did not return."""

    def failure(self) -> str:
        """Return why the newest evaluation stopped early, with the place in the texts; empty: it did not, or there was none."""


def files_refused(plugin: str, error: ConfigError) -> Problem:
    """Return the problem of a plugin whose policy files are invalid when read again; it stands until a reload."""
    message = f"the files were refused when they were read again: {printable(str(replace(error.problems[0], hint='')), 400)}"
    hint = "the policies from before stay in force; `mom config check` tells all that is wrong, a reload reads the files again"
    return Problem(Source(plugin), message, hint=hint)
