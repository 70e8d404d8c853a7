"""Policies that change while mom runs: what an evaluator offers to whoever takes changes in, such as a control socket.

The evaluator knows the language and keeps the texts; who passes changes on knows neither. Both know only this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from mom_core.errors import PolicyProblem
from mom_core.model import Value


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


@runtime_checkable
class PolicyTexts(Protocol):
    """The policies of an evaluator, to be read and changed while it works. Any thread may call this.

    A change is checked as a whole before anything is replaced, and is in force from the next evaluation on, all of it; a refused one
    changes nothing. What is set here comes before files and defaults of the same name, also after files were read again.

    What changes raises `PolicyConflict` if the version is no longer `expected_version` (None: whatever it is), and `PolicyRefused`
    with all that is wrong in the texts. `who` is for the log and the history, such as `xmlrpc, process 812 of user 36`.
    """

    def state(self) -> PolicyState:
        """What is in force now."""
        ...

    def check(self, changes: Mapping[str, str | None], *, replace_all: bool = False) -> Sequence[PolicyProblem]:
        """Everything for which `change` would refuse the same; nothing if it would not."""
        ...

    def change(
        self, changes: Mapping[str, str | None], *, who: str, replace_all: bool = False, expected_version: str | None = None
    ) -> PolicyState:
        """Set the policies of these names, and remove those whose text is None; removing one that does not exist is fine.

        :param replace_all: remove all others, those from files and the defaults too, until `reset`
        :return: what is in force then
        """
        ...

    def reset(self, *, who: str, expected_version: str | None = None) -> PolicyState:
        """Forget all that was changed at run time, and read the files again."""
        ...

    def history(self) -> Sequence[PolicyChange]:
        """The last changes, oldest first; the last one made what is in force."""
        ...

    def roll_back(self, version: str, *, who: str, expected_version: str | None = None) -> PolicyState:
        """Make the texts what they were in a version that the history has. Raises `MomError` if it does not have it."""
        ...

    def memory(self) -> Value:
        """What the policies remember from one evaluation to the next, as JSON that only `set_memory` understands: for a recording."""
        ...

    def set_memory(self, memory: Value) -> None:
        """Remember this and nothing else: for a replay. Raises `MomError` for what `memory` did not give."""
        ...
