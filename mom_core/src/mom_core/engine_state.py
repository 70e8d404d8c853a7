"""What an engine knows besides its reports."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from mom_core.model import LedgerEntry, Problem


@dataclass(frozen=True, slots=True)
class StandingProblem:
    """A problem that is not over: since when (seconds since the epoch), and in how many cycles it was seen."""

    problem: Problem
    since: float
    cycles: int


@dataclass(frozen=True, slots=True)
class EngineState:
    """What an engine knows besides its reports.

    `started_at` is in seconds since the epoch, `to_put_back` counts changes, `file` is the configuration's (None: it came from a program),
    `distributions` gives each plugin's distribution and its version by the plugin's name, `changes` is what the ledger holds.
    """

    hypervisor: str = ""
    started_at: float = 0.0
    to_put_back: int = 0
    problems: Sequence[StandingProblem] = ()
    file: str | None = None
    distributions: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    changes: Collection[LedgerEntry] = ()
