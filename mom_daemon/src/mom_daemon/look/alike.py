"""Problems for people. A problem of many guests appears once, with their number and first names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from mom_core import Entity, Problem, Scope, Severity, Source, lasting, printable

NAMED: Final = 3

LONGEST_HINT: Final = 400
"""Maximum length in characters."""


@dataclass(frozen=True, slots=True)
class CommonProblem:
    """Problem, and all guests that it concerns; safe to print. `since` is in seconds since the epoch.

    `about` is empty without an entity. `hint` is the hint for the first guest.
    """

    severity: Severity
    source: Source
    message: str
    hint: str
    about: Sequence[Entity]
    since: float
    cycles: int

    @property
    def who(self) -> str:
        """Return the guest's name, or the number of guests and the first names; empty without a guest."""
        names = [printable(entity.name, 60) for entity in self.about[: NAMED + 1]]
        if len(self.about) < 2:
            return "".join(names)
        more = len(self.about) - NAMED
        # One further name is as short as `1 more`.
        named = f"{', '.join(names[:NAMED])} and {more} more" if more > 1 else f"{', '.join(names[:-1])} and {names[-1]}"
        return f"{len(self.about)} guests ({named})"

    @property
    def text(self) -> str:
        """Return the problem as one line, without its severity and its start time."""
        who, hint = self.who and f" {self.who}:", self.hint and f" ({self.hint})"
        return f"{printable(str(self.source), 300)}:{who} {self.message}{hint}"

    def lasted(self, now: float) -> str:
        """Format how long, and in how many cycles, the problem has lasted."""
        return f"for {lasting(max(0.0, now - self.since))}, in {self.cycles} {'cycle' if self.cycles == 1 else 'cycles'}"


def common_problems(problems: Iterable[Problem]) -> list[CommonProblem]:
    """Join equal problems of several guests; keep the order."""
    alike: dict[tuple[Severity, Source, str, Scope | None], list[Problem]] = {}
    for problem in problems:
        scope = None if problem.entity is None else problem.entity.scope
        alike.setdefault((problem.severity, problem.source, problem.message, scope), []).append(problem)
    return [_common(several) for several in alike.values()]


def _common(several: Sequence[Problem]) -> CommonProblem:
    first = several[0]
    hint = printable(first.hint, LONGEST_HINT) if first.hint else ""
    if hint and first.entity is not None and any(problem.hint != first.hint for problem in several):
        hint = f"such as {printable(first.entity.name, 60)}: {hint}"
    about = tuple(problem.entity for problem in several if problem.entity is not None)
    since, cycles = min(problem.since for problem in several), max(problem.cycles for problem in several)
    return CommonProblem(first.severity, first.source, printable(first.message, 1000), hint, about, since, cycles)
