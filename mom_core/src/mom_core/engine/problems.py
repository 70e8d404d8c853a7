"""Says each problem once, however long it lasts: in the log when it begins, in the line of the cycle when it is over, and as a count in
the status."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from mom_core.model import Outcome, Problem, Scope, Severity, Source, Status

LOG = logging.getLogger("mom.engine")

REMEMBERED = 1000
"""Problems that are remembered at the most: a source that finds new words every cycle must not fill the memory."""

ROOM_FOR_EACH = 20
"""Problems of each source that are remembered all the same: a thousand guests that cannot be resized must not hide what others say."""

LOGGED = 20
"""Problems that begin in one cycle are logged up to so many, the worst first; a hypervisor that is away is no news about each guest."""

MOST_OF_ONE = 100
"""Problems of one source that a cycle's report holds: an operator reads no more, and one plugin's flood must leave room for what others
say, also in recordings."""

LONGEST = 2000
"""Characters of a problem's message, and of its hint."""

FORGOTTEN_AFTER_CYCLES = 10
"""A problem that did not come back for so many cycles is over; one that comes and goes within that is not logged each time."""


FREE_NUMBERS = re.compile(r"(?<!\w)(?<!\w-)\d+(?:\.\d+)?")
"""Numbers (times, sizes, counts) that are no part of a name: `vm-17` and `vm-18` are two guests, `5.1 s` and `6.8 s` one problem."""

_NOT_SET = frozenset({Status.FAILED, Status.REFUSED})


def few(problems: Sequence[Problem], source: str) -> list[Problem]:
    """The first of these problems of a plugin or policy, none of them too long, and how many more there were."""
    kept = [
        one if len(one.message) <= LONGEST >= len(one.hint) else replace(one, message=one.message[:LONGEST], hint=one.hint[:LONGEST])
        for one in problems[:MOST_OF_ONE]
    ]
    if (more := len(problems) - MOST_OF_ONE) > 0:
        kept.append(Problem(Source(source), f"{more} more problems in this cycle are left out"))
    return kept


def few_of_each(problems: Sequence[Problem]) -> Sequence[Problem]:
    """The same for each source of these problems."""
    if len(problems) <= MOST_OF_ONE:
        return problems
    of_each: dict[str, list[Problem]] = {}
    for problem in problems:
        of_each.setdefault(problem.source.name, []).append(problem)
    return [one for name, of_one in of_each.items() for one in (few(of_one, name) if len(of_one) > MOST_OF_ONE + 1 else of_one)]


class ProblemLog:
    """The problems that stand now."""

    def __init__(self) -> None:
        self._standing: dict[tuple[str, str, str], tuple[Problem, int]] = {}
        """Each with the cycle in which it was seen last."""
        self._of_source: Counter[str] = Counter()
        """How many there are of each source."""
        self._begun: list[Problem] = []
        self.over: list[Problem] = []
        """Those that were over with the last cycle."""

    def note(self, problems: Iterable[Problem], outcomes: Iterable[Outcome], cycle: int, time: float) -> None:
        """Take in one cycle's problems, and the controls that could not be set."""
        alike: Counter[tuple[str, str, str]] = Counter()
        different = {(str(one.source), "" if one.entity is None else one.entity.id, one.message): one for one in problems}
        for (source, about, message), problem in different.items():
            key = (source, about, FREE_NUMBERS.sub("#", message))
            # Two that differ in a number are one problem that goes on, unless both are said in one cycle.
            alike[key] += 1
            self._take((source, about, f"{key[2]} {alike[key]}"), problem, cycle, time)
        for outcome in outcomes:
            if outcome.status in _NOT_SET:
                decision = outcome.decision
                problem = Problem(decision.source, f"{decision.control} is not set: {outcome.error or outcome.status}", decision.entity)
                # Values differ from cycle to cycle, and so do the words about them: it is one problem all the same.
                self._take((decision.control, decision.entity.id, outcome.status), problem, cycle, time)
        ended = [key for key, (_, last) in self._standing.items() if cycle - last >= FORGOTTEN_AFTER_CYCLES]
        self.over = [self._standing.pop(key)[0] for key in ended]
        self._of_source -= Counter(problem.source.name for problem in self.over)
        self._log_begun()

    def _log_begun(self) -> None:
        begun = sorted(self._begun, key=lambda problem: problem.severity is not Severity.ERROR)
        self._begun = []
        for problem in begun[:LOGGED]:
            level = logging.ERROR if problem.severity is Severity.ERROR else logging.WARNING
            guest = None if problem.entity is None or problem.entity.scope is Scope.HOST else problem.entity.name
            LOG.log(level, "%s", described(problem), extra={"mom": {"plugin": problem.source.name, "guest": guest}})
        if len(begun) > LOGGED:
            LOG.warning("and %d more problems in this cycle; mom status shows them", len(begun) - LOGGED)

    def _take(self, key: tuple[str, str, str], problem: Problem, cycle: int, time: float) -> None:
        there, last = self._standing.get(key, (None, cycle - 1))
        if there is None:
            if len(self._standing) >= (REMEMBERED if self._of_source[problem.source.name] >= ROOM_FOR_EACH else 2 * REMEMBERED):
                return
            there = replace(problem, since=time)
            self._of_source[problem.source.name] += 1
            self._begun.append(problem)
        if last != cycle:
            self._standing[key] = replace(there, cycles=there.cycles + 1), cycle

    def standing(self) -> list[Problem]:
        """The problems that are not over, oldest first."""
        return [problem for problem, _ in list(self._standing.values())]  # any thread may ask


def described(problem: Problem) -> str:
    """A problem on one line."""
    who = f" {problem.entity}:" if problem.entity is not None else ""
    return f"{problem.source}:{who} {problem.message}" + (f" ({problem.hint})" if problem.hint else "")
