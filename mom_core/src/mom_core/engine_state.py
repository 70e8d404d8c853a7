"""What an engine knows besides its reports."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from mom_core.model import LedgerEntry, Problem


@dataclass(frozen=True, slots=True)
class EngineState:
    """The knowledge of an engine besides its reports.

    `started_at` is in seconds since the epoch, `to_put_back` counts changes, `problems` are those that stand, `file` is the
    configuration's (None: it came from a program), `distributions` gives each plugin's distribution and its version by the plugin's
    name, `changes` is what the ledger holds.
    """

    hypervisor: str = ""
    started_at: float = 0.0
    to_put_back: int = 0
    problems: Sequence[Problem] = ()
    file: str | None = None
    distributions: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    changes: Collection[LedgerEntry] = ()
