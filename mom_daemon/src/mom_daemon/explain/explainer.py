"""A plugin's part of `mom explain`, made from reports alone. Unknown facts are named, never guessed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from enum import IntEnum
from types import MappingProxyType

from mom_core import ControlSpec, Decision, Declarations, Guest, Outcome, Report, Revision, Value, as_number, lasting


class SentencePlace(IntEnum):
    """Order of sentences. Within one place, they follow the order of the plugins."""

    HARM = 0  #: harm to the guest, and the cure
    PRESENT = 10  #: the guest's state and need
    KIND = 20  #: what kind of guest it is
    PROMISED = 30
    PAST = 40  #: start and cause of the present state
    HOST = 50
    DECIDED = 60  #: decisions of this cycle
    LAST_DECIDED = 61  #: earlier decisions
    UNCHANGED = 62  #: reason for no decision
    TRIAL = 70
    PROBLEMS = 80
    NEXT = 90
    LAST = 99


@dataclass(frozen=True, slots=True)
class Sentence:
    """Sentence for a person, below the heading `topic`."""

    topic: str
    text: str
    place: int = SentencePlace.PRESENT


@dataclass(frozen=True, slots=True)
class ExplanationPart:
    """Part of one plugin: sentences, figures by their JSON names, and unknown facts as nouns such as `its size`."""

    sentences: Sequence[Sentence] = ()
    figures: Mapping[str, Value] = field(default_factory=dict)
    unknown: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class ExplainedDecision:
    """Decision on the guest with its revisions and outcome. `line` is the policy's text, `why` the law's reason."""

    decision: Decision
    unit: str
    line: str
    revisions: Sequence[Revision]
    outcome: Outcome | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class About:
    """Guest in the report of one cycle, with the decisions on it."""

    report: Report
    guest: Guest
    wanted: Sequence[ExplainedDecision] = ()
    declarations: Declarations = field(default_factory=Declarations)
    zone: tzinfo | None = None

    @property
    def interval(self) -> float | None:
        """Return the seconds between two cycles."""
        return as_number(self.report.snapshot.host.properties.get("interval")) or None

    def number(self, name: str) -> float | None:
        """Return a field of the guest if it is a number."""
        return self.guest.number(name)

    def wanted_of(self, control: str) -> ExplainedDecision | None:
        """Return the first decision on a control."""
        return next((explained for explained in self.wanted if explained.decision.control == control), None)

    def ago(self, time: float) -> str:
        """Format a time, and the duration from it to the cycle."""
        return f"{self.at(time)}, {lasting(self.report.time - time)} before this cycle" if time < self.report.time else self.at(time)

    def at(self, time: float) -> str:
        """Format a time, with its day if the cycle has another one."""
        then, now = (datetime.fromtimestamp(moment, self.zone).astimezone(self.zone) for moment in (time, self.report.time))
        return then.strftime("%H:%M:%S %Z" if then.date() == now.date() else "%Y-%m-%d %H:%M:%S %Z").strip()


class Explainer:
    """Explanation of one plugin, from reports alone.

    `take` gets reports in order, or none if there is only one. `part` explains a guest of the last report. An explainer must not wait or
    touch the host. Reports of a status file lack properties, and decisions without an outcome.
    """

    controls: Sequence[ControlSpec] = ()
    """Controls of the plugin, for their units."""
    nouns: Mapping[str, str] = MappingProxyType({})
    """Nouns for its controls in sentences, such as `a size of`; default: their names."""
    verbs: Mapping[str, tuple[str, str]] = MappingProxyType({})
    """Verbs for a rise and a fall of its controls, such as `grown` and `shrunk`."""
    phrases: Mapping[str, str] = MappingProxyType({})
    """Short reasons for changes by its own law, by reason code."""
    main_controls: Sequence[str] = ()
    """Controls that always appear, even if no plugin decides on them."""

    def take(self, report: Report) -> None:
        """Note a finished cycle for later explanations."""

    def part(self, about: About) -> ExplanationPart:
        """Return this plugin's part for a guest."""
        return ExplanationPart()

    def reason(self, report: Report, guest: Guest, control: str) -> str:
        """Return the reason that its law reported for a control; empty if there is none."""
        return ""
