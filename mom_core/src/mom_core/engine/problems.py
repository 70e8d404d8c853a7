"""Log of problems, each logged at its start and end, and the verdict about the host, from reported conditions."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from operator import itemgetter
from typing import Final, NamedTuple

from mom_core.model import GUESTS, Condition, Outcome, PluginReport, Problem, Severity, Source, Status, Verdict
from mom_core.plugins.bounded import located
from mom_core.texts import printable

LOG = logging.getLogger("mom.engine")

SEE_DOCTOR: Final = "`mom doctor` says more"

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
            standing = replace(problem, since=time)
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


GAP_SECONDS: Final = 60.0
"""A condition has ended if no plugin has reported it for more than this time."""

PATIENCE_SECONDS: Final = 30.0

_LONGEST_TEXT: Final = 400


class ReportedCondition(NamedTuple):
    """Reported condition, with its first and last report in monotonic seconds, and its position for sorting."""

    plugin: str
    condition: Condition
    begun: float
    last: float
    place: int = 0


def judged(reports: Iterable[ReportedCondition], now: float, time: float) -> Verdict:
    """Join conditions by name, and sort them: worst first, warnings that may become errors before others.

    :param now: monotonic seconds
    :param time: seconds since the epoch
    """
    alike: dict[str, list[ReportedCondition]] = {}
    for report in reports:
        alike.setdefault(report.condition.name, []).append(report)
    ranked: list[tuple[tuple[int, int, int], Condition]] = []
    for name, several in alike.items():
        joined, worst = _joined(name, several, now, time), min(_WORST_FIRST.index(each.condition.severity) for each in several)
        place = min(each.place for each in several)
        ranked.append(((_WORST_FIRST.index(joined.severity), worst, place), joined))
    return Verdict(tuple(condition for _, condition in sorted(ranked, key=itemgetter(0))))


_WORST_FIRST: Final = (Severity.ERROR, Severity.WARNING, Severity.OK)


def _joined(name: str, several: Sequence[ReportedCondition], now: float, time: float) -> Condition:
    last = max(report.last for report in several)
    bad = any(report.condition.severity is Severity.ERROR and report.last - report.begun >= report.condition.after for report in several)
    begun = min(report.begun for report in several)
    newest = [report for report in several if report.last == last]
    worst_first = sorted(newest, key=lambda report: (_WORST_FIRST.index(report.condition.severity), not report.condition.why))
    return Condition(
        name=printable(name),
        severity=Severity.ERROR if bad else Severity.WARNING,
        message=_together(report.condition.message for report in worst_first),
        why=_together(report.condition.why for report in worst_first),
        cure=_together(report.condition.cure for report in worst_first),
        plugins=tuple(report.plugin for report in worst_first),
        since=time - max(0.0, now - begun),
        lasted=max(0.0, last - begun),
        over=max(0.0, now - last),
    )


def _together(texts: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(printable(text, _LONGEST_TEXT) for text in texts if text))


class HeldConditions:
    """Conditions kept from cycle to cycle."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], ReportedCondition] = {}
        self._taken = -math.inf
        self._was_bad = False

    def take(self, reports: Mapping[str, Sequence[Condition] | None], now: float, time: float) -> Verdict:
        """Record the conditions of a cycle, and return the verdict.

        :param reports: conditions keyed by plugin, in file order. None if the plugin did not answer: its old conditions persist
        """
        for key, held in list(self._held.items()):
            if reports.get(held.plugin, ()) is None and held.last == self._taken:
                self._held[key] = held._replace(last=now)
        reported = ((plugin, condition) for plugin, conditions in reports.items() for condition in conditions or ())
        for place, (plugin, condition) in enumerate(reported):
            previous = self._held.get((plugin, condition.name))
            begun = now if previous is None else previous.begun
            self._held[plugin, condition.name] = ReportedCondition(plugin, condition, begun, now, place)
        self._held = {key: held for key, held in self._held.items() if held.plugin in reports and now - held.last <= GAP_SECONDS}
        self._taken = now
        verdict = judged(self._held.values(), now, time)
        self._log(verdict)
        return verdict

    def _log(self, verdict: Verdict) -> None:
        if verdict.is_bad and not self._was_bad:
            worst = verdict.conditions[0]
            why, cure = worst.why and f", because {worst.why}", worst.cure and f" ({worst.cure})"
            LOG.error("verdict: %s%s%s", worst.message, why, cure)
        elif self._was_bad and not verdict.is_bad:
            LOG.info("verdict: no longer bad")
        self._was_bad = verdict.is_bad


def own_conditions(plugins: Iterable[PluginReport], guests_unknown: Problem | None, ledger: Sequence[Condition]) -> list[Condition]:
    """Return the core's own conditions."""
    conditions = [*ledger]
    if guests_unknown is not None:
        conditions.append(Condition(GUESTS, guests_unknown.message, cure=guests_unknown.hint, after=PATIENCE_SECONDS))
    for plugin in plugins:
        if plugin.state is PluginReport.State.SET_ASIDE:
            message = f"the {plugin.name} plugin keeps failing, so mom calls it less often"
            conditions.append(Condition(f"plugin {plugin.name}", message, printable(plugin.last_error, _LONGEST_TEXT), SEE_DOCTOR))
        elif plugin.state is PluginReport.State.HUNG:
            message = f"the {plugin.name} plugin has hung: a call has not returned"
            cure = "find out what the call waits for; a restart of mom ends the call"
            conditions.append(
                Condition(f"plugin {plugin.name}", message, printable(plugin.last_error, _LONGEST_TEXT), cure, after=PATIENCE_SECONDS)
            )
    return conditions
