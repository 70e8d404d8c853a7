"""Acts: recent changes as text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from typing_extensions import TypedDict

from mom_core import Entity, Outcome, Scope, Status, Unit, Value, as_number, first_names, printable
from mom_daemon import Explainer, amount
from mom_daemon.report_models import EntityModel, SourceModel, Time, described, told
from mom_plugins_http.routes.published import PastNote, PastOutcome, as_object

NAMED: Final = 3

STEP_GAP_SECONDS: Final = 60.0
"""Longest time between two steps of an act, in seconds, unless cycles are slower."""

LONGEST: Final = 400


@described
class ActModel(TypedDict):
    """Change that mom made, would have made, or failed to make; or a change of policies or reservations."""

    time: Time
    """Time of the last step."""
    since: Time
    """Time of the first step."""
    about: int
    """Number of guests, or 1 for the host; 0 for policies or reservations."""
    first: list[EntityModel]
    """The first three guests by name, or the host."""
    who: str
    """Guests or host as text; otherwise `policies` or `reserved`."""
    text: str
    status: str
    """Status of the outcome; like `control`, empty for a change of policies or reservations."""
    control: str
    source: SourceModel | None
    """Source of the decision; null for a change of policies or reservations."""


@dataclass(frozen=True, slots=True)
class Words:
    """Vocabulary of acts: units and explainers, keyed by control."""

    units: Mapping[str, str]
    explainers: Mapping[str, Explainer]

    def verb(self, outcome: Outcome, *, falls: bool) -> str:
        """Return the verb of a change, such as `shrunk`."""
        control = outcome.decision.control
        verbs = self.explainers.get(control, Explainer()).verbs.get(control, (f"changed in {control.replace('_', ' ')}",) * 2)
        return verbs[falls]

    def why(self, outcome: Outcome) -> str:
        """Return a decision's reason, without the policy expression that decided."""
        decision = outcome.decision
        code, form, _ = decision.reason.partition(": (")
        if form:
            return self.explainers.get(decision.control, Explainer()).phrases.get(code, code)
        return f"by {decision.source}" if not decision.reason or decision.reason.startswith("(") else decision.reason


@dataclass(frozen=True, slots=True)
class Act:
    """Steps of one change, newest first."""

    steps: Sequence[PastOutcome]

    @property
    def last(self) -> Outcome:
        """Newest step."""
        return self.steps[0].outcome

    @property
    def before(self) -> Value:
        """Value before the first step."""
        return self.steps[-1].outcome.before

    @property
    def rises(self) -> bool | None:
        """Whether the value rose; None if unchanged or not a number."""
        return _rises(self.before, self.last.decision.value)


def acts(outcomes: Sequence[PastOutcome], notes: Sequence[PastNote], words: Words, gap: float, *, together: bool) -> list[ActModel]:
    """Return all acts, newest first.

    :param gap: longest time between two steps of one act, in seconds
    :param together: join the same change of several guests
    """
    single = folded(outcomes, gap)
    groups = joined(single, words, gap) if together else [[act] for act in single]
    news: list[ActModel] = [
        {
            "time": note.time, "since": note.time, "about": 0, "first": [], "who": note.who, "text": printable(note.text, LONGEST),
            "status": "", "control": "", "source": None,
        }
        for note in notes
    ]  # fmt: skip
    return sorted([*(_model(group, words) for group in groups), *news], key=lambda act: -act["time"])


def folded(outcomes: Sequence[PastOutcome], gap: float) -> list[Act]:
    """Group changes of one value with the same direction and outcome, at most `gap` seconds apart."""
    groups: list[list[PastOutcome]] = []
    newest: dict[tuple[Scope, str, str], list[PastOutcome]] = {}
    for past in outcomes:
        decision = past.outcome.decision
        key = decision.entity.scope, decision.entity.id, decision.control
        group = newest.get(key)
        if group is not None and group[-1].time - past.time <= gap and _kind(group[-1]) == _kind(past):
            group.append(past)
        else:
            groups.append([past])
            newest[key] = groups[-1]
    return [Act(group) for group in groups]


def joined(single: Sequence[Act], words: Words, gap: float) -> list[list[Act]]:
    """Group different guests' acts that differ only in sizes, at most `gap` seconds apart."""
    groups: list[dict[Entity, Act]] = []
    newest: dict[tuple[object, ...], dict[Entity, Act]] = {}
    begins: dict[tuple[object, ...], float] = {}
    for act in single:
        entity = act.last.decision.entity
        key = act.last.decision.control, act.last.status, act.last.error, act.rises, _FIGURE.sub("", words.why(act.last))
        group = newest.get(key)
        if group is None or entity in group or begins[key] - act.steps[0].time > gap:
            newest[key] = group = {}
            begins[key] = act.steps[-1].time
            groups.append(group)
        group[entity], begins[key] = act, min(begins[key], act.steps[-1].time)
    return [list(group.values()) for group in groups]


_FIGURE: Final = re.compile(r"[0-9][0-9.,]*( ?[KMGT]iB)?")


def _kind(past: PastOutcome) -> tuple[Status, str, bool | None]:
    outcome = past.outcome
    return outcome.status, outcome.error, _rises(outcome.before, outcome.decision.value)


def _rises(before: Value, value: Value) -> bool | None:
    first, last = as_number(before), as_number(value)
    return None if first is None or last is None or first == last else last > first


def _model(group: Sequence[Act], words: Words) -> ActModel:
    newest = group[0].last
    entities = sorted((act.last.decision.entity for act in group), key=lambda entity: entity.name)
    return {
        "time": group[0].steps[0].time,
        "since": min(act.steps[-1].time for act in group),
        "about": len(entities),
        "first": as_object(entities[:NAMED]),
        "who": first_names([entity.name for entity in entities], NAMED),
        "text": printable(_sentence(group, words), LONGEST),
        "status": str(newest.status),
        "control": newest.decision.control,
        "source": told(SourceModel, newest.decision.source),
    }


def _sentence(group: Sequence[Act], words: Words) -> str:
    act, steps = group[0], sum(len(act.steps) for act in group)
    outcome = act.last
    verb, status = words.verb(outcome, falls=act.rises is False), outcome.status
    times = f" in {steps} steps" if steps > 1 and len(group) == 1 and status is Status.APPLIED else ""
    change = _change(group, words)
    if status in {Status.APPLIED, Status.OBSERVED}:
        return f"{'would be ' if status is Status.OBSERVED else ''}{verb}{times}{change}: {words.why(outcome)}"
    return f"not {verb}{change}: {status}{f' {steps} times' if steps > 1 else ''}, {outcome.error or words.why(outcome)}"


def _change(group: Sequence[Act], words: Words) -> str:
    control, before, after = group[0].last.decision.control, group[0].before, group[0].last.decision.value
    unit_of_control = words.units.get(control, "")
    if len(group) > 1:
        if unit_of_control != Unit.KIB:
            return ""
        before = sum(as_number(act.before) or 0 for act in group)
        after = sum(as_number(act.last.decision.value) or 0 for act in group)
    first, last = amount(before, unit_of_control), amount(after, unit_of_control)
    figure, _, unit = first.partition(" ")
    return f", {figure if unit and unit == last.partition(' ')[2] else first} → {last}{' together' if len(group) > 1 else ''}"
