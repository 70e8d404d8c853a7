"""Part of a plugin in `mom explain`, from reports alone. Unknown facts are named, never guessed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from enum import IntEnum
from types import MappingProxyType

from mom_core import ControlSpec, Decision, Declarations, Guest, Outcome, Report, Revision, Value, as_number, lasting


class SentencePlace(IntEnum):
    """Order of sentences; sentences of one place are in the order of the plugins."""

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
    """Sentence for a person, below the heading `topic` in lower case."""

    topic: str
    text: str
    place: int = SentencePlace.PRESENT


@dataclass(frozen=True, slots=True)
class ExplanationPart:
    """Part of one plugin about a guest: sentences, figures by their names in JSON, and needed facts that are unknown, each a noun such as
    `its size`."""

    sentences: Sequence[Sentence] = ()
    figures: Mapping[str, Value] = field(default_factory=dict)
    unknown: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class ExplainedDecision:
    """Decision about the guest, with its revisions and outcome. `line` is the policy's text, `why` the law's reason; both empty if
    unknown."""

    decision: Decision
    unit: str
    line: str
    revisions: Sequence[Revision]
    outcome: Outcome | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class About:
    """Guest in the report of one cycle, with the decisions about it."""

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
        """Return a field of the guest, if it is a number."""
        return self.guest.number(name)

    def wanted_of(self, control: str) -> ExplainedDecision | None:
        """Return the first decision on a control."""
        return next((explained for explained in self.wanted if explained.decision.control == control), None)

    def ago(self, time: float) -> str:
        """Format a moment and the time from it to the cycle."""
        return f"{self.at(time)}, {lasting(self.report.time - time)} before this cycle" if time < self.report.time else self.at(time)

    def at(self, time: float) -> str:
        """Format a moment, with its day if that is not the cycle's."""
        then, now = (datetime.fromtimestamp(moment, self.zone).astimezone(self.zone) for moment in (time, self.report.time))
        return then.strftime("%H:%M:%S %Z" if then.date() == now.date() else "%Y-%m-%d %H:%M:%S %Z").strip()


class Explainer:
    """Source of a plugin's part, from reports alone: those of a running mom, of its status file, or of a recording.

    `mom_explainer` returns a new one. `take` gets each report in turn, or none if only one is available. `part` is about a guest of the
    last report. An explainer touches nothing and waits for nothing. Reports of a status file lack properties and decisions without an
    outcome.
    """

    controls: Sequence[ControlSpec] = ()
    """Controls of the plugin, for their units without declarations."""
    nouns: Mapping[str, str] = MappingProxyType({})
    """Nouns for its own controls in sentences, such as `a size of`; by default their names."""
    verbs: Mapping[str, tuple[str, str]] = MappingProxyType({})
    """Verbs for a rise and a fall of its own controls, such as `grown` and `shrunk`."""
    phrases: Mapping[str, str] = MappingProxyType({})
    """Short reasons for changes by its own law, by reason code."""
    main_controls: Sequence[str] = ()
    """Controls that operators ask about even if no plugin decides them."""

    def take(self, report: Report) -> None:
        """Keep facts of a finished cycle for later explanations."""

    def part(self, about: About) -> ExplanationPart:
        """Return this plugin's part about a guest."""
        return ExplanationPart()

    def reason(self, report: Report, guest: Guest, control: str) -> str:
        """Return the reason that its law reported with a suggestion, or with none, for a control; empty if there is no reason."""
        return ""
