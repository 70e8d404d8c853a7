"""A plugin's own part of `mom explain`, from reports alone. Unknown facts are named, never guessed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from enum import IntEnum
from types import MappingProxyType

from mom_core import ControlSpec, Decision, Declarations, Guest, Outcome, Report, Revision, Value, as_number, lasting


class SentencePlace(IntEnum):
    """Where a sentence stands among the others; those of one place are in the order of the plugins."""

    HARM = 0  #: harm to the guest, and the cure
    PRESENT = 10  #: the guest's state and need
    KIND = 20  #: what kind of guest it is
    PROMISED = 30
    PAST = 40  #: since when it is so, and by whom
    HOST = 50
    DECIDED = 60  #: decisions of this cycle
    LAST_DECIDED = 61  #: the last decisions before
    UNCHANGED = 62  #: why nothing is wanted
    TRIAL = 70
    PROBLEMS = 80
    NEXT = 90
    LAST = 99


@dataclass(frozen=True, slots=True)
class Sentence:
    """One thing that a person should know; `topic` is the heading that it stands under, in lower case."""

    topic: str
    text: str
    place: int = SentencePlace.PRESENT


@dataclass(frozen=True, slots=True)
class ExplanationPart:
    """One plugin's part about a guest: sentences, figures for programs by their names in JSON, and unknown facts that it needs, each as a
    noun such as `its size`."""

    sentences: Sequence[Sentence] = ()
    figures: Mapping[str, Value] = field(default_factory=dict)
    unknown: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class ExplainedDecision:
    """One decision about the guest: its place with the policy's line, its reason in words (both empty if unknown), and its outcome."""

    decision: Decision
    unit: str
    line: str
    revisions: Sequence[Revision]
    outcome: Outcome | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class About:
    """Explained guest, in the report of one cycle, with the decisions about it."""

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
    """Says a plugin's part, from reports alone: those of a running mom, of its status file, or of a recording.

    `mom_explainer` gives a new one. It is given each report in turn (none, where only one is at hand), and asked about a guest of the last
    one. It touches nothing and waits for nothing; of a status file, properties and decisions without an outcome are missing.
    """

    controls: Sequence[ControlSpec] = ()
    """The plugin's controls, for their units, where no declarations are at hand."""
    nouns: Mapping[str, str] = MappingProxyType({})
    """How sentences call a control of its own, such as `a size of`; else by its name."""
    verbs: Mapping[str, tuple[str, str]] = MappingProxyType({})
    """How a change of a control of its own reads when the value rises, and when it falls, such as `grown` and `shrunk`."""
    phrases: Mapping[str, str] = MappingProxyType({})
    """Why its own law changes a value, in few words, by the code of the reason."""
    main_controls: Sequence[str] = ()
    """Controls that operators ask about even if no plugin decides them."""

    def take(self, report: Report) -> None:
        """Take a finished cycle, and keep what later explanations need."""

    def part(self, about: About) -> ExplanationPart:
        """Return this plugin's part about a guest."""
        return ExplanationPart()

    def reason(self, report: Report, guest: Guest, control: str) -> str:
        """Return the reason of its law for a suggestion on one of its controls, or for none; empty without one."""
        return ""
