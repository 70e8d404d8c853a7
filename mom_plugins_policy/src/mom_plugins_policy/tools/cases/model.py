"""A test, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mom_core import Snapshot
from mom_plugins_policy.language.errors import Fault
from mom_plugins_policy.language.policy import Policy
from mom_plugins_policy.tools.cases.expected import Expected


@dataclass(frozen=True, slots=True)
class ExpectedError:
    """An error that an evaluation is to have; what is None may be anything, `message` a part of the message."""

    kind: str
    guest: str | None = None
    policy: str | None = None
    line: int | None = None
    message: str = ""

    def fits(self, fault: Fault) -> bool:
        """Whether an error is this one."""
        return (
            fault.kind == self.kind
            and (self.guest is None or fault.guest == self.guest)
            and (self.policy is None or fault.name == self.policy)
            and (self.line is None or fault.line == self.line)
            and self.message in fault.message
        )

    def __str__(self) -> str:
        parts = [
            f"guest {self.guest}" if self.guest else "",
            f"in {self.policy}" if self.policy else "",
            f"line {self.line}" if self.line else "",
        ]
        return " ".join([self.kind, *filter(None, parts), f"with '{self.message}'" if self.message else ""]).strip()


@dataclass(frozen=True, slots=True)
class PolicyTest:
    """One test: what is given, and what is expected. `decisions` by `host` or guest name, then by control."""

    name: str
    file: str
    line: int
    column: int
    policy: Policy
    taken: Snapshot
    remembered: Mapping[str, Mapping[str, Any]]
    decisions: Mapping[str, Mapping[str, Expected]]
    others: bool
    """Whether decisions that are not expected are fine."""
    errors: Sequence[ExpectedError] | None
    """None: errors are fine."""
    expected_notes: Mapping[str, Mapping[str, Any]] | None


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One thing that is not as expected: about what, what was expected, what came, and from where in which policy."""

    about: str
    expected: str
    got: str
    where: str = ""


@dataclass(frozen=True, slots=True)
class PolicyTestResult:
    """What became of a test."""

    case: PolicyTest
    differences: tuple[Mismatch, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether all was as expected."""
        return not self.differences
