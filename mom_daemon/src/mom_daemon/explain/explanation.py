"""Explanation of a guest's state, from reports alone."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import tzinfo
from functools import partial
from operator import attrgetter
from typing import Any, Final, TypeVar

from mom_core import ControlSpec, Declarations, Guest, Problem, Report, Source, Status, Unit, Value, as_number, format_duration, printable
from mom_core.plugins.bounded import attempt, describe
from mom_daemon import amount
from mom_daemon.plugin_parts import About, ExplainedDecision, Explainer, Sentence
from mom_daemon.report_models import DecisionModel, StandingProblemModel, outcome_model, revision_model, told
from mom_kvm import PlatformProperties

LOG = logging.getLogger("mom.explanation")

Result = TypeVar("Result")

LONGEST_LINE: Final = 200

QUOTED_LINES: Final = 4

LONGEST_REASON: Final = 600


class Explainers:
    """Explainers of all plugins. If one fails, its part is shown as missing."""

    def __init__(self, made_by: Mapping[str, Callable[[], object]]) -> None:
        self._failed: dict[str, str] = {}
        made = _answers(made_by, self._failed)
        self._explainers = {name: explainer if isinstance(explainer := made.get(name), Explainer) else Explainer() for name in made_by}

    def by_control(self) -> Mapping[str, Explainer]:
        """Return explainers, keyed by control name."""
        return {spec.name: explainer for explainer in self._explainers.values() for spec in explainer.controls}

    def explain(
        self,
        report: Report,
        guest: Guest,
        *,
        texts: Mapping[str, str] | None = None,
        declarations: Declarations | None = None,
        zone: tzinfo | None = None,
    ) -> dict[str, Any]:
        """Explain a guest of a report, as a JSON object. `texts` are policies, keyed by name."""
        declared, failed = declarations or Declarations(), dict(self._failed)
        specs = {spec.name: spec for explainer in self._explainers.values() for spec in explainer.controls} | dict(declared.controls)
        decided = [decision.control for decision in report.decisions if decision.entity.id == guest.id]
        main = [control for explainer in self._explainers.values() for control in explainer.main_controls if control not in decided]
        suggested = self._suggested(report, guest, [*decided, *main], failed)

        about = About(report, guest, _wanted(report, guest, texts or {}, specs, suggested), declared, zone)
        unchanged = next((suggested[control] for control in main if control in suggested), "")
        nouns = {control: noun for explainer in self._explainers.values() for control, noun in explainer.nouns.items()}
        parts = _answers({name: partial(explainer.part, about) for name, explainer in self._explainers.items()}, failed)
        unknown = [fact for part in parts.values() for fact in part.unknown]
        unknown += [f"what the {name} plugin knows ({printable(error, LONGEST_LINE)})" for name, error in failed.items()]
        facts = _facts(about)
        trial = None
        if report.considered is not None:
            trial = [(control, now, then) for entity, control, now, then in report.differences() if entity.id == guest.id]
        problems = [problem for problem in report.problems if problem.entity is not None and problem.entity.id == guest.id]
        sentences = (
            *_of_platform(facts["properties"]),
            *_decided(about, specs, nouns),
            *_because(unchanged if not about.wanted else "", Sentence.UNCHANGED),
            *_trial(trial, specs),
            *_problems(problems),
            *_next(about),
            *_unknown(unknown),
            *(sentence for part in parts.values() for sentence in part.sentences),
        )
        return {
            **{name: value for part in parts.values() for name, value in part.figures.items()},
            **facts,
            "why_unchanged": unchanged,
            "problems": [told(StandingProblemModel, problem) for problem in problems],
            "trial": None if trial is None else [dict(zip(("control", "decided", "considered"), row, strict=True)) for row in trial],
            "unknown": unknown,
            "sentences": [{"topic": line.topic, "text": line.text} for line in sorted(sentences, key=attrgetter("place"))],
        }

    def _suggested(self, report: Report, guest: Guest, controls: Sequence[str], failed: dict[str, str]) -> dict[str, str]:
        calls = {name: partial(_reasons, explainer, report, guest, controls) for name, explainer in self._explainers.items()}
        reasons = _answers(calls, failed)
        return {control: text for texts in reversed(reasons.values()) for control, text in texts.items()}


def _answers(calls: Mapping[str, Callable[[], Result]], failed: dict[str, str]) -> dict[str, Result]:
    # Adds errors to `failed`.
    answers: dict[str, Result] = {}
    for name, call in calls.items():
        result = attempt(call)
        if result.error is None:
            answers[name] = result.value  # type: ignore[assignment]  # a call without an error has a value
            continue
        if name not in failed:
            LOG.error("the %s plugin failed to explain a guest: %s", name, describe(result.error), exc_info=result.error)
        failed[name] = describe(result.error)
    return answers


def _facts(about: About) -> dict[str, Any]:
    report, guest = about.report, about.guest
    return {
        "guest": {"id": guest.id, "name": guest.name},
        "properties": PlatformProperties.listed(guest),
        "cycle": report.number,
        "time": report.time,
        "mode": report.mode,
        "interval_seconds": about.interval,
        "decisions": [_as_json(explained) for explained in about.wanted],
    }


def _as_json(explained: ExplainedDecision) -> dict[str, Any]:
    decision, outcome = explained.decision, explained.outcome
    return {
        **told(DecisionModel, decision),
        "unit": explained.unit,
        "why": explained.why,
        "source": {**decision.source._asdict(), "text": explained.line},
        "revisions": [revision_model(revision) for revision in explained.revisions],
        "outcome": None if outcome is None else outcome_model(outcome),
    }


def _reasons(explainer: Explainer, report: Report, guest: Guest, controls: Sequence[str]) -> dict[str, str]:
    return {control: text for control in controls if (text := explainer.reason(report, guest, control))}


def _wanted(
    report: Report, guest: Guest, texts: Mapping[str, str], specs: Mapping[str, ControlSpec], suggested: Mapping[str, str]
) -> list[ExplainedDecision]:
    decisions = []
    outcomes = {outcome.decision.control: outcome for outcome in report.outcomes if outcome.decision.entity.id == guest.id}
    revisions = [revision for revision in report.revisions if revision.before.entity.id == guest.id]
    for decision in report.decisions:
        if decision.entity.id != guest.id:
            continue
        followed, now = [], decision
        for revision in revisions:
            if revision.before == now:
                followed.append(revision)
                if revision.after is None:
                    break
                now = revision.after
        dropped = bool(followed) and followed[-1].after is None
        outcome = None if dropped else outcomes.get(decision.control)
        why = suggested.get(decision.control, "") if decision.source.line else ""
        decisions.append(ExplainedDecision(decision, _unit(specs, decision.control), _line(decision.source, texts), followed, outcome, why))
    return decisions


def _unit(specs: Mapping[str, ControlSpec], control: str) -> str:
    return specs[control].unit.value if control in specs else ""


def _line(source: Source, texts: Mapping[str, str]) -> str:
    lines = texts.get(source.name, "").split("\n")
    if not 0 < source.line <= len(lines):
        return ""
    quoted = ""
    for line in lines[source.line - 1 : source.line - 1 + QUOTED_LINES]:
        quoted = f"{quoted} {line.strip()}".lstrip()
        if quoted.count("(") <= quoted.count(")"):
            break
    return printable(quoted, LONGEST_LINE)


# --- in words ------------------------------------------------------------------------------------------------------------------------


def _decided(about: About, specs: Mapping[str, ControlSpec], nouns: Mapping[str, str]) -> Iterator[Sentence]:
    here = Sentence.DECIDED
    if not about.wanted:
        yield Sentence("wanted", "No policy wants to change the guest in this cycle.", here)
    for explained in about.wanted:
        decision = explained.decision
        # Without conditions, a policy's reason quotes the policy line, which is shown below.
        own = decision.reason and not explained.why and not (decision.source.line and str(decision.source) in decision.reason)
        reason = f", because {printable(decision.reason, LONGEST_REASON)}" if own else ""
        noun = nouns.get(decision.control, decision.control)
        change = _change(explained, about.guest, specs.get(decision.control))
        yield Sentence("wanted", f"{_place(decision.source)} wants {noun} {amount(decision.value, explained.unit)}{change}{reason}.", here)
        if explained.line:
            yield Sentence("wanted", f"This line says: {explained.line}", here)
        yield from _because(explained.why, here)
        for revision in explained.revisions:
            made = "dropped it" if revision.after is None else f"changed it to {amount(revision.after.value, explained.unit)}"
            text = f"The review of {revision.reviewer or 'mom'} {made}: {printable(revision.reason, LONGEST_LINE)}."
            yield Sentence("review", text, here)
        if explained.outcome is not None or not (explained.revisions and explained.revisions[-1].after is None):
            yield Sentence("done", _done(explained), here)


def _because(why: str, place: int) -> Iterator[Sentence]:
    if why:
        yield Sentence("why", f"{printable(why[0].upper() + why[1:], LONGEST_REASON)}.", place)


def _change(explained: ExplainedDecision, guest: Guest, spec: ControlSpec | None) -> str:
    value = as_number(explained.decision.value)
    present = None if spec is None or spec.unit is not Unit.KIB else guest.number(spec.field)
    if present is None or value is None:
        return ""
    if abs(value - present) < 1:
        return ", which the guest already has"
    return f", {amount(abs(value - present), explained.unit)} {'more' if value > present else 'less'} than the guest has"


def _done(explained: ExplainedDecision) -> str:
    outcome, unit = explained.outcome, explained.unit
    if outcome is None:
        return "The result is unknown: mom was being stopped, or another decision on this control had precedence."
    change = f"{outcome.decision.control} {amount(outcome.decision.value, unit)}"
    error = f": {printable(outcome.error, LONGEST_LINE)}" if outcome.error else ""
    if outcome.status is Status.APPLIED:
        had = f"the guest had {amount(outcome.before, unit)}, and " if outcome.before is not None else ""
        after = "the value right after is unknown" if outcome.after is None else f"{amount(outcome.after, unit)} right after"
        return f"The hypervisor accepted the change ({change}): {had}{after}{error and f' ({error[2:]})'}."
    texts = {
        Status.UNCHANGED: f"Nothing was sent ({change}): the guest has this value already, or nearly{error}.",
        Status.OBSERVED: f"mom only observes: {change} was not sent{error}.",
        Status.REFUSED: f"mom did not send the change ({change}){error}.",
        Status.FAILED: f"The change FAILED ({change}){error}.",
        Status.GONE: f"The guest was gone when mom sent the change ({change}).",
    }
    return texts.get(outcome.status, f"{change}: {outcome.status}{error}.")


def _trial(trial: Sequence[tuple[str, Value, Value]] | None, specs: Mapping[str, ControlSpec]) -> Iterator[Sentence]:
    if trial is not None and not trial:
        yield Sentence("trial", "Policies on trial would decide the same about the guest.", Sentence.TRIAL)
    for control, decided, considered in trial or ():
        then, now = ("nothing" if value is None else amount(value, _unit(specs, control)) for value in (considered, decided))
        yield Sentence("trial", f"Policies on trial would set {control} to {then}, instead of {now}.", Sentence.TRIAL)


def _of_platform(properties: Mapping[str, str | list[str]]) -> Iterator[Sentence]:
    texts = {name: value if isinstance(value, str) else ", ".join(value) for name, value in properties.items()}
    if texts:
        listed = "; ".join(f"{name} {printable(text, LONGEST_LINE)}" for name, text in texts.items())
        yield Sentence("platform", f"Its platform says: {listed}.", Sentence.KIND)


def _problems(problems: Iterable[Problem]) -> Iterator[Sentence]:
    for problem in problems:
        hint = f" ({printable(problem.hint, LONGEST_LINE)})" if problem.hint else ""
        text = f"{problem.severity} from {problem.source}: {printable(problem.message, 300)}{hint}."
        yield Sentence("problems", text, Sentence.PROBLEMS)


def _next(about: About) -> Iterator[Sentence]:
    if about.report.mode == "observe":
        yield Sentence("next", "mom only observes: its decisions change nothing.", Sentence.NEXT)
    elif about.interval:
        text = f"mom looks at the guest again every {format_duration(about.interval)}, and sooner when something happens."
        yield Sentence("next", text, Sentence.NEXT + 1)


def _unknown(names: Sequence[str]) -> Iterator[Sentence]:
    if names:
        listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
        yield Sentence("unknown", f"Not known: {listed}.", Sentence.LAST)


def _place(source: Source) -> str:
    return f"The policy {source.name} (line {source.line}, column {source.column})" if source.line else f"The plugin {source.name}"
