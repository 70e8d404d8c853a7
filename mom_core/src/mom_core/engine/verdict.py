"""The verdict: how the host is as a whole, by what plugins and the core say of it, and since when."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Final, NamedTuple

from mom_core.engine.collect import SEE_DOCTOR
from mom_core.model import Condition, PluginReport, PluginState, Problem, Severity, Source, Verdict, printable

LOG = logging.getLogger("mom.engine")

CORE: Final = "core"
"""The source of what the core itself says."""

GAP_SECONDS: Final = 60.0
"""A condition stands until no plugin has reported it for so long: a measured value goes up and down around its bound, and the verdict must
not follow. Until then `over` says that its figures are of an earlier cycle."""

PAST_SECONDS: Final = 600.0
"""For so long what is over is told as such: an operator who comes because of it is there by then."""

PATIENCE_SECONDS: Final = 30.0
"""A hypervisor that restarts, or a call that takes its time, is back within this; after it, the operator has to look."""

MOST_CONDITIONS: Final = 20
"""Of one plugin. The verdict is read by a person."""

LONGEST: Final = 400
"""Characters of a message, a reason or a cure."""


class Said(NamedTuple):
    """A condition, the plugin that reports it, when it began and was reported last (monotonic seconds), and its place in that cycle."""

    plugin: str
    condition: Condition
    begun: float
    last: float
    place: int = 0


def judged(said: Iterable[Said], now: float, time: float) -> Verdict:
    """Return the verdict: conditions of one name joined, the worst first.

    Among equals, a standing condition comes before one that is over, and one that will soon be an error before one that will not. Then the
    order is that in which the plugins report them, in which a cause precedes its effects.

    :param now: seconds of the clock by which conditions began
    :param time: the same moment in seconds since the epoch
    """
    alike: dict[str, list[Said]] = {}
    for one in said:
        alike.setdefault(one.condition.name, []).append(one)
    ranked: list[tuple[tuple[int, bool, int, int], Condition]] = []
    for name, several in alike.items():
        joined, worst = _joined(name, several, now, time), min(_WORST_FIRST.index(each.condition.severity) for each in several)
        place = min(each.place for each in several)
        ranked.append(((_WORST_FIRST.index(joined.severity), joined.over > 0, worst, place), joined))
    return Verdict(tuple(condition for _, condition in sorted(ranked, key=itemgetter(0))))


_WORST_FIRST: Final = (Severity.ERROR, Severity.WARNING, Severity.OK)


def _joined(name: str, several: Sequence[Said], now: float, time: float) -> Condition:
    """One condition of what stands under a name; of what is past, where nothing of it stands."""
    last = max(one.last for one in several)
    standing = [one for one in several if last - one.last <= GAP_SECONDS]
    bad = any(one.condition.severity is Severity.ERROR and one.last - one.begun >= one.condition.after for one in standing)
    begun = min(one.begun for one in standing)
    newest = [one for one in standing if one.last == last]
    # One that knows why says the cause, and the others what is seen of it.
    worst_first = sorted(newest, key=lambda one: (_WORST_FIRST.index(one.condition.severity), not one.condition.why))
    return Condition(
        name=printable(name),
        severity=Severity.OK if now - last > GAP_SECONDS else Severity.ERROR if bad else Severity.WARNING,
        message=_together(one.condition.message for one in worst_first),
        why=_together(one.condition.why for one in worst_first),
        cure=_together(one.condition.cure for one in worst_first),
        plugins=tuple(one.plugin for one in worst_first),
        since=time - max(0.0, now - begun),
        lasted=max(0.0, last - begun),
        over=max(0.0, now - last),
    )


def _together(texts: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(printable(text, LONGEST) for text in texts if text))


class HeldConditions:
    """The conditions that are said, from cycle to cycle: the one place that knows since when, and for how long it is over."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], Said] = {}
        self._taken = -math.inf
        self._was_bad = False

    def take(self, said: Mapping[str, Sequence[Condition] | None], now: float, time: float) -> Verdict:
        """Return the verdict after a cycle.

        :param said: the conditions that each plugin reports now, in the order of the plugins; None if it did not answer, and its conditions
            go on
        :param now: seconds of a clock that never jumps
        :param time: seconds since the epoch
        """
        for key, held in list(self._held.items()):
            if held.plugin not in said or now - held.last > PAST_SECONDS:
                del self._held[key]
            elif said[held.plugin] is None and held.last == self._taken:
                self._held[key] = held._replace(last=now)
        reported = ((plugin, condition) for plugin, conditions in said.items() for condition in conditions or ())
        for place, (plugin, condition) in enumerate(reported):
            there = self._held.get((plugin, condition.name))
            goes_on = there is not None and (there.last == self._taken or now - there.last <= GAP_SECONDS)
            begun = there.begun if there is not None and goes_on else now
            self._held[plugin, condition.name] = Said(plugin, condition, begun, now, place)
        self._taken = now
        verdict = judged(self._held.values(), now, time)
        self._log(verdict)
        return verdict

    def _log(self, verdict: Verdict) -> None:
        """Once when it turns bad, and once when that is over."""
        if verdict.is_bad and not self._was_bad:
            worst = verdict.conditions[0]
            why, cure = worst.why and f", because {worst.why}", worst.cure and f" ({worst.cure})"
            LOG.error("verdict: %s%s%s", worst.message, why, cure)
        elif self._was_bad and not verdict.is_bad:
            LOG.info("verdict: no longer bad")
        self._was_bad = verdict.is_bad


def accepted(plugin: str, said: Iterable[Condition], problems: list[Problem]) -> list[Condition]:
    """Return the valid conditions of a plugin's `mom_problems`; each invalid condition becomes a problem."""
    conditions: list[Condition] = []
    for item in said:
        if why := _why_useless(item):
            problems.append(Problem(Source(plugin), f"mom_problems: {why}"))
        else:
            conditions.append(item)
    if len(conditions) > MOST_CONDITIONS:
        message = f"mom_problems: it says {len(conditions)} conditions; more than {MOST_CONDITIONS} are left out"
        hint = "a condition is about the whole, not about each guest"
        problems.append(Problem(Source(plugin), message, severity=Severity.WARNING, hint=hint))
    return conditions[:MOST_CONDITIONS]


def _why_useless(item: Condition) -> str:
    """The reason why a condition cannot be worked with; empty if it can."""
    texts: tuple[object, ...] = (item.name, item.message, item.why, item.cure)
    if not all(isinstance(text, str) for text in texts) or not item.name or not item.message:
        return "a condition needs a name and a message, and nothing but texts in them"
    if item.severity not in {Severity.WARNING, Severity.ERROR}:
        return f"the condition {printable(item.name)} is neither a warning nor an error"
    after: object = item.after
    if not isinstance(after, int | float) or isinstance(after, bool) or not 0 <= after < math.inf:
        return f"the condition {printable(item.name)} needs seconds from 0 on as `after`"
    return ""


def own_conditions(plugins: Iterable[PluginReport], guests_unknown: Problem | None, ledger: Sequence[Condition]) -> list[Condition]:
    """The conditions that the core itself sees: plugins that do not work, guests that are not listed, changes that cannot be remembered."""
    conditions = [*ledger]
    if guests_unknown is not None:
        conditions.append(Condition("guests", guests_unknown.message, cure=guests_unknown.hint, after=PATIENCE_SECONDS))
    for plugin in plugins:
        # What a plugin raises may differ from time to time, and is in the table of plugins.
        if plugin.state is PluginState.SET_ASIDE:
            message = f"the plugin {plugin.name} keeps failing and is set aside, until it is tried again"
            conditions.append(Condition(f"plugin {plugin.name}", message, printable(plugin.last_error, LONGEST), SEE_DOCTOR))
        elif plugin.state is PluginState.HUNG:
            message = f"the plugin {plugin.name} hangs: a call has not come back"
            cure = "see what it waits for; a restart of mom ends the call"
            conditions.append(
                Condition(f"plugin {plugin.name}", message, printable(plugin.last_error, LONGEST), cure, after=PATIENCE_SECONDS)
            )
    return conditions
