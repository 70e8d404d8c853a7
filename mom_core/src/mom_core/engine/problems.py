"""Says each problem once, however long it lasts: in the log when it begins and when it is over, and as a count in the status."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from mom_core.model import Outcome, Problem, Severity, Status

LOG = logging.getLogger("mom.engine")

REMEMBERED = 1000
"""Problems that are remembered at the most: a source that finds new words every cycle must not fill the memory."""

FORGOTTEN_AFTER_CYCLES = 10
"""A problem that did not come back for so many cycles is over; one that comes and goes within that is not logged each time."""


_NOT_SET = frozenset({Status.FAILED, Status.REFUSED})


@dataclass(slots=True)
class Standing:
    """A problem that has been seen: since when (seconds since the epoch), in how many cycles, and in which last."""

    problem: Problem
    since: float
    count: int
    last_cycle: int


class ProblemLog:
    """The problems that stand now."""

    def __init__(self) -> None:
        self._standing: dict[tuple[str, str, str], Standing] = {}

    def note(self, problems: Iterable[Problem], outcomes: Iterable[Outcome], cycle: int, time: float) -> None:
        """Take in one cycle's problems, and the controls that could not be set."""
        for problem in problems:
            self._take((str(problem.source), "" if problem.entity is None else problem.entity.id, problem.message), problem, cycle, time)
        for outcome in outcomes:
            if outcome.status in _NOT_SET:
                decision = outcome.decision
                problem = Problem(decision.source, f"{decision.control} is not set: {outcome.error or outcome.status}", decision.entity)
                # Values differ from cycle to cycle, and so do the words about them: it is one problem all the same.
                self._take((decision.control, decision.entity.id, outcome.status), problem, cycle, time)
        for key in [key for key, standing in self._standing.items() if cycle - standing.last_cycle >= FORGOTTEN_AFTER_CYCLES]:
            over = self._standing.pop(key)
            LOG.info("over, after %d cycles: %s", over.count, _line(over.problem))

    def _take(self, key: tuple[str, str, str], problem: Problem, cycle: int, time: float) -> None:
        there = self._standing.get(key)
        if there is not None:
            there.count += there.last_cycle != cycle
            there.last_cycle = cycle
        elif len(self._standing) < REMEMBERED:
            self._standing[key] = Standing(problem, time, 1, cycle)
            level = logging.ERROR if problem.severity is Severity.ERROR else logging.WARNING
            LOG.log(level, "%s", _line(problem))

    def standing(self) -> list[Standing]:
        """The problems that are not over, oldest first."""
        return list(self._standing.values())


def _line(problem: Problem) -> str:
    who = f" {problem.entity}:" if problem.entity is not None else ""
    return f"{problem.source}:{who} {problem.message}" + (f" ({problem.hint})" if problem.hint else "")
