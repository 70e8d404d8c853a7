"""Services that concern this host: policies, recordings, metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mom_core import MomError, Report, Source, Value


@dataclass(frozen=True, slots=True, order=True)
class PolicyProblem:
    """Mistake in a policy. `line` and `column` count from 1; 0 if unknown. `severity` is `error` or `warning`."""

    name: str
    line: int
    column: int
    kind: str
    message: str
    severity: str = "error"
    hint: str = ""

    @property
    def source(self) -> Source:
        """Policy, line and column of the mistake."""
        return Source(self.name, self.line, self.column)

    def __str__(self) -> str:
        return f"{self.source}: {self.kind}: {self.message}" if self.name else f"{self.kind}: {self.message}"


@dataclass(frozen=True, slots=True)
class PolicyState:
    """All policies in force. Each change makes a new `version`, unique even across restarts of mom."""

    @dataclass(frozen=True, slots=True)
    class Text:
        """Text of a policy in force. `origin` is the path of its file, `default`, or the client that set it at run time."""

        text: str
        origin: str = ""

    @dataclass(frozen=True, slots=True)
    class Change:
        """Change of the policies. `time` is in seconds since the epoch. `diff` is a unified diff; empty if unknown."""

        version: str
        time: float
        who: str
        what: str
        diff: str = ""

    class Refused(MomError):
        """Error: policies are invalid, and the earlier policies stay in force. `problems` contains all mistakes."""

        def __init__(self, problems: Sequence[PolicyProblem], *, hint: str = "") -> None:
            self.problems = tuple(problems)
            super().__init__("\n".join(str(problem) for problem in self.problems), hint=hint)

    class Conflict(MomError):
        """Error: another client has changed the policies. `version` is now in force."""

        def __init__(self, message: str, *, version: str, hint: str = "") -> None:
            super().__init__(message, hint=hint)
            self.version = version

    version: str
    texts: Mapping[str, PolicyState.Text] = field(default_factory=dict)


class PolicyTexts(Protocol):
    """Policies of an evaluator. Thread-safe.

    Policies set here override files and default policies. Changes raise `PolicyState.Refused`, or `PolicyState.Conflict` if
    `expected_version` is not in force (None allows any version). `who` is for the log.
    """

    def state(self) -> PolicyState:
        """Return the policies in force."""

    def remarks(self, changes: Mapping[str, str | None], *, replace_all: bool = False) -> Sequence[PolicyProblem]:
        """Return problems of these changes: errors for which `change` would refuse them, inevitable evaluation failures, and warnings."""

    def change(
        self, changes: Mapping[str, str | None], *, who: str, replace_all: bool = False, expected_version: str | None = None
    ) -> PolicyState:
        """Set and remove policies in one step.

        :param changes: texts keyed by name; None removes the policy
        :param replace_all: remove all other policies, also those from files and defaults, until `reset`
        """

    def reset(self, *, who: str, expected_version: str | None = None) -> PolicyState:
        """Drop run-time changes, and read the files again."""

    def history(self) -> Sequence[PolicyState.Change]:
        """Return the last changes, oldest first."""

    def roll_back(self, version: str, *, who: str, expected_version: str | None = None) -> PolicyState:
        """Restore the policies of a version. Raise `MomError` if the version is unknown."""

    def memory(self) -> Value:
        """Return the notes that policies keep, as a JSON value for a recording."""

    def set_memory(self, memory: Value) -> None:
        """Replace the notes that policies keep, for a replay. Raise `MomError` if the value is invalid."""

    def failure(self) -> str:
        """Return why the last evaluation stopped early; empty if it did not."""


@dataclass(frozen=True, slots=True)
class PastCycle:
    """Recorded cycle: its report, and its policies' texts keyed by name."""

    report: Report
    policies: Mapping[str, str]


class PastCycles(Protocol):
    """Reader of a recording. Methods raise `MomError` if the recording is unreadable."""

    @property
    def where(self) -> str:
        """Name of the recording for messages, such as its folder."""

    def cycles(self, since: float, until: float) -> Iterator[PastCycle]:
        """Yield the cycles between two times (seconds since the epoch), in recorded order."""


@dataclass(frozen=True, slots=True)
class RecordedPoint:
    """Values of a host over a span of time, or of one guest in a recorded cycle. Unknown values are missing.

    `time` is the middle of the span. The key `guests.FIELD` is for the sum of a field over all guests.
    """

    time: float
    seconds: float = 0.0
    least: Mapping[str, float] = field(default_factory=dict)
    mean: Mapping[str, float] = field(default_factory=dict)
    most: Mapping[str, float] = field(default_factory=dict)
    guest: Mapping[str, Value] | None = None


class RecordedPoints(Protocol):
    """Reader of this host's recording, for programs that draw it."""

    def recorded_points(
        self, since: float, until: float, most: int, *, guest: str = "", guest_fields: Sequence[str] = ()
    ) -> Sequence[RecordedPoint]:
        """Return evenly spaced points in order of time. Raise `MomError` if the recording is unreadable.

        The call takes seconds, so make it in a separate thread. Times are in seconds since the epoch.

        :param most: maximum number of points
        :param guest: ID of a guest; empty for the host
        """


class HostMetrics(Protocol):
    """Server of this host's metrics, by HTTPS at `/metrics`."""

    @property
    def metrics_port(self) -> int | None:
        """TCP port for other machines. None if they cannot connect. Thread-safe."""
