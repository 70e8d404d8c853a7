"""Verdict about the host, from reported conditions."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Final, NamedTuple

from mom_core.engine.collect import SEE_DOCTOR
from mom_core.model import GUESTS, Condition, PluginReport, Problem, Severity, Verdict
from mom_core.texts import printable

LOG = logging.getLogger("mom.engine")

GAP_SECONDS: Final = 60.0
"""A condition has ended if no plugin has reported it for more than this time."""

PATIENCE_SECONDS: Final = 30.0

LONGEST: Final = 400


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
    return "; ".join(dict.fromkeys(printable(text, LONGEST) for text in texts if text))


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
            conditions.append(Condition(f"plugin {plugin.name}", message, printable(plugin.last_error, LONGEST), SEE_DOCTOR))
        elif plugin.state is PluginReport.State.HUNG:
            message = f"the {plugin.name} plugin has hung: a call has not returned"
            cure = "find out what the call waits for; a restart of mom ends the call"
            conditions.append(
                Condition(f"plugin {plugin.name}", message, printable(plugin.last_error, LONGEST), cure, after=PATIENCE_SECONDS)
            )
    return conditions
