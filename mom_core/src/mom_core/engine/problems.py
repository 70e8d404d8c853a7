"""Log of problems: each is logged at its start and end."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from mom_core.model import Outcome, Problem, Severity, Source, Status
from mom_core.plugins.bounded import located

LOG = logging.getLogger("mom.engine")

REMEMBERED = 1000
"""Maximum number of standing problems of one source."""

LOGGED = 20
"""Maximum number of new problems logged per cycle."""

MOST_OF_ONE = 100

LONGEST = 2000

FORGOTTEN_AFTER_CYCLES = 10


_FREE_NUMBERS = re.compile(r"(?<!\w)(?<!\w-)\d+(?:\.\d+)?")
"""Numbers outside names. Messages that differ only in these numbers are one problem."""

_NOT_SET = frozenset({Status.FAILED, Status.REFUSED})


@contextmanager
def contained(plugin: str, what: str, problems: list[Problem]) -> Iterator[None]:
    """Turn exceptions into problems while mom reads a plugin's answer."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  # containment is the purpose
        problems.append(Problem(Source(plugin), f"{what}: the answer is invalid: {located(error)}"))


def few_of_each(problems: Sequence[Problem]) -> Sequence[Problem]:
    """Return the first problems of each source, with shortened messages, and a problem that counts the rest."""
    by_source: dict[str, list[Problem]] = {}
    for problem in problems:
        by_source.setdefault(problem.source.name, []).append(problem)
    kept: list[Problem] = []
    for source, group in by_source.items():
        kept += [replace(problem, message=problem.message[:LONGEST], hint=problem.hint[:LONGEST]) for problem in group[:MOST_OF_ONE]]
        if (more := len(group) - MOST_OF_ONE) > 0:
            kept.append(Problem(Source(source), f"{more} more problems in this cycle are not shown"))
    return kept


class ProblemLog:
    """Log of present problems."""

    def __init__(self) -> None:
        self._standing: dict[tuple[str, str, str], tuple[Problem, int]] = {}
        self._of_source: Counter[str] = Counter()
        self._begun: list[Problem] = []
        self.over: list[Problem] = []

    def note(self, problems: Iterable[Problem], outcomes: Iterable[Outcome], cycle: int, time: float) -> None:
        """Add a cycle's problems and failed decisions."""
        for problem in problems:
            about = "" if problem.entity is None else problem.entity.id
            # Messages that differ only in numbers are the same problem.
            self._take((str(problem.source), about, _FREE_NUMBERS.sub("#", problem.message)), problem, cycle, time)
        for outcome in outcomes:
            if outcome.status in _NOT_SET:
                decision = outcome.decision
                problem = Problem(decision.source, f"{decision.control} is not set: {outcome.error or outcome.status}", decision.entity)
                # The message varies with the value: leave it out of the key.
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
            LOG.log(level, "%s", described(problem))
        if len(begun) > LOGGED:
            LOG.warning("and %d more problems in this cycle; mom status shows them", len(begun) - LOGGED)

    def _take(self, key: tuple[str, str, str], problem: Problem, cycle: int, time: float) -> None:
        standing, last = self._standing.get(key, (None, cycle - 1))
        if standing is None:
            if self._of_source[problem.source.name] >= REMEMBERED:
                return
            standing = replace(problem, since=time)
            self._of_source[problem.source.name] += 1
            self._begun.append(problem)
        if last != cycle:
            self._standing[key] = replace(standing, cycles=standing.cycles + 1), cycle

    def standing(self) -> list[Problem]:
        """Return the present problems, oldest first. Thread-safe."""
        return [problem for problem, _ in list(self._standing.values())]  # a copy, because the engine's thread may change it


def described(problem: Problem) -> str:
    """Return a problem as one line."""
    who = f" {problem.entity}:" if problem.entity is not None else ""
    return f"{problem.source}:{who} {problem.message}" + (f" ({problem.hint})" if problem.hint else "")
