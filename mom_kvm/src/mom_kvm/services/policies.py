"""Policies that change while mom runs: what an evaluator offers to plugins that take changes in, such as a control socket.

The evaluator knows the language and keeps the texts; who passes changes on knows neither. Both know only this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from mom_core import ConfigError, MomError, Problem, Source, Value, printable


@dataclass(frozen=True, slots=True, order=True)
class PolicyProblem:
    """One thing that is wrong with policy texts: the policy's name, where in it (1-based, 0 if unknown), of which kind, and what.

    `kind` is a word of the policy language's reference, such as `syntax` or `arity`. `severity` is `error`, or `warning` for what is legal
    and hardly meant; `hint` says what to do.
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
    """Policies that cannot be used; what was in force before still is. `problems` holds all that is wrong, at least one."""

    def __init__(self, problems: Sequence[PolicyProblem], *, hint: str = "") -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems), hint=hint)


class PolicyConflict(MomError):
    """The policies were changed by another client in the meantime: `version` is what is in force. Nothing was changed."""

    def __init__(self, message: str, *, version: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.version = version


@dataclass(frozen=True, slots=True)
class PolicyText:
    """One policy that is in force: its text, and where it comes from (a file's path, `default`, or who has set it at run time)."""

    text: str
    origin: str = ""


@dataclass(frozen=True, slots=True)
class PolicyState:
    """All policies in force at one moment, by name and in name order, and the version that they are.

    `version` is any text that is another one after each change, also after a restart: an entity tag.
    """

    version: str
    texts: Mapping[str, PolicyText] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """One change of the policies: the version that it made, when (seconds since the epoch), who made it, and what it was.

    `diff` is a unified diff of the texts, for a person; empty where the version before is not known any more.
    """

    version: str
    time: float
    who: str
    what: str
    diff: str = ""


class PolicyTexts(Protocol):
    """The policies of an evaluator, to be read and changed while it works. Any thread may call this.

    A change is checked as a whole before anything is replaced, and is in force from the next evaluation on, all of it; a refused one
    changes nothing. What is set here comes before files and defaults of the same name, also after files were read again.

    What changes raises `PolicyConflict` if the version is no longer `expected_version` (None: whatever it is), and `PolicyRefused`
    with all that is wrong in the texts. `who` is for the log and the history, such as `xmlrpc, process 812 of user 36`.
    """

    def state(self) -> PolicyState:
        """Return the policies in force now."""

    def check(self, changes: Mapping[str, str | None], *, replace_all: bool = False) -> Sequence[PolicyProblem]:
        """Return all problems for which `change` would refuse the same texts."""

    def remarks(self, changes: Mapping[str, str | None], *, replace_all: bool = False) -> Sequence[PolicyProblem]:
        """Return everything that speaks against changes: the problems of `check`, certain failures at evaluation as errors, and
        likely mistakes as warnings. Unchanged policies count only with problems that the changes cause. Nothing changes.
        """

    def change(
        self, changes: Mapping[str, str | None], *, who: str, replace_all: bool = False, expected_version: str | None = None
    ) -> PolicyState:
        """Set the policies of these names, and remove those whose text is None; removing one that does not exist is fine.

        :param replace_all: remove all others, those from files and the defaults too, until `reset`
        :return: what is in force then
        """

    def reset(self, *, who: str, expected_version: str | None = None) -> PolicyState:
        """Forget all that was changed at run time, and read the files again."""

    def history(self) -> Sequence[PolicyChange]:
        """Return the last changes, oldest first; the last one made what is in force."""

    def roll_back(self, version: str, *, who: str, expected_version: str | None = None) -> PolicyState:
        """Make the texts what they were in a version that the history has. Raises `MomError` if it does not have it."""

    def memory(self) -> Value:
        """Return the notes of policies as JSON that only `set_memory` understands, for a recording."""

    def set_memory(self, memory: Value) -> None:
        """Remember this and nothing else: for a replay. Raises `MomError` for what `memory` did not give."""

    def failure(self) -> str:
        """Return why the newest evaluation stopped early, with the place in the texts. Empty if it did not,
        and before the first one.
        """


def files_refused(plugin: str, error: ConfigError) -> Problem:
    """Return the problem of a plugin whose policy files are invalid when read again; it stands until a reload."""
    message = f"the files were refused when they were read again: {printable(str(replace(error.problems[0], hint='')), 400)}"
    hint = "the policies from before stay in force; `mom config check` tells all that is wrong, a reload reads the files again"
    return Problem(Source(plugin), message, hint=hint)
