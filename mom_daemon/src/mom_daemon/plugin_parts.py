"""Contributions of plugins to verbs: connections to a running mom, and parts of `mom status` and `mom explain`.

Unknown facts are named, never guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from mom_core import ControlSpec, Decision, Declarations, Guest, Outcome, Report, Revision, Unit, Value, as_number, format_kib, lasting

if TYPE_CHECKING:
    from mom_daemon.report_models import ReportDocument
    from mom_kvm import PolicyState


class RunningMom(Protocol):
    """Connection to the running mom. Each call raises `MomError` if mom does not answer, and `NotRunning` if no mom is running."""

    @property
    def where(self) -> str:
        """Return the connection's name in messages, such as the socket's path."""

    def report(self) -> ReportDocument:
        """Return the newest cycle in the status file's form."""

    def explanation(self, guest: str) -> Mapping[str, Any]:
        """Return the explanation of the guest with this id or name."""

    def configuration(self) -> Mapping[str, Any]:
        """Return the settings in force, with secrets masked."""

    def policies(self) -> Mapping[str, PolicyState.Text]:
        """Return the policies in force, keyed by name."""


@dataclass(frozen=True, slots=True)
class StatusPart:
    """Words under a heading of `mom status`. The smallest `place` comes first."""

    heading: str
    text: str
    place: int = 50

    @classmethod
    def of_fields(cls, report: Report, heading: str, *fields: tuple[str, str, Unit, int]) -> Iterator[StatusPart]:
        """Yield a part for each of these host fields that is a known number.

        :param fields: name, text around the value (`available {}`), unit, and place of each field
        """
        for name, form, unit, place in fields:
            value = report.snapshot.host.number(name)
            if value is not None:
                yield cls(heading, form.format(format_kib(value) if unit is Unit.KIB else value), place)

    @classmethod
    def of_memory(cls, report: Report) -> Iterator[StatusPart]:
        """Yield parts on the host's memory, real or simulated."""
        return cls.of_fields(
            report,
            "host",
            ("mem_available", "memory {}", Unit.KIB, 10),
            ("mem_really_available", "available {}", Unit.KIB, 11),
            ("swap_usage", "swapped {}", Unit.KIB, 30),
            ("psi_memory_some_avg10", "memory pressure {:.1f} %", Unit.PERCENT, 50),
        )


# --- mom explain ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sentence:
    """Sentence under the heading `topic`. Sentences are sorted by `place`, then in the order of the plugins."""

    HARM: ClassVar = 0  #: harm to the guest, and its fix
    PRESENT: ClassVar = 10  #: the guest's state and need
    KIND: ClassVar = 20  #: kind of guest
    PROMISED: ClassVar = 30
    PAST: ClassVar = 40  #: start and cause of the present state
    HOST: ClassVar = 50
    DECIDED: ClassVar = 60  #: decisions of this cycle
    UNCHANGED: ClassVar = 62  #: reason for no decision
    TRIAL: ClassVar = 70
    PROBLEMS: ClassVar = 80
    NEXT: ClassVar = 90
    LAST: ClassVar = 99

    topic: str
    text: str
    place: int = PRESENT


@dataclass(frozen=True, slots=True)
class ExplanationPart:
    """One plugin's sentences, its figures keyed by JSON name, and unknown facts as nouns such as `its size`."""

    sentences: Sequence[Sentence] = ()
    figures: Mapping[str, Value] = field(default_factory=dict)
    unknown: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class ExplainedDecision:
    """Decision, with the `line` of the policy that made it, or the control law's reason (`why`)."""

    decision: Decision
    unit: str
    line: str
    revisions: Sequence[Revision]
    outcome: Outcome | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class About:
    """Guest in one cycle's report, with the decisions on this guest."""

    report: Report
    guest: Guest
    wanted: Sequence[ExplainedDecision] = ()
    declarations: Declarations = field(default_factory=Declarations)
    zone: tzinfo | None = None

    @property
    def interval(self) -> float | None:
        """Return the seconds between two cycles; None if unknown."""
        return as_number(self.report.snapshot.host.properties.get("interval")) or None

    def number(self, name: str) -> float | None:
        """Return this guest's field; None if it is not a number."""
        return self.guest.number(name)

    def wanted_of(self, control: str) -> ExplainedDecision | None:
        """Return the first decision on a control."""
        return next((explained for explained in self.wanted if explained.decision.control == control), None)

    def ago(self, time: float) -> str:
        """Format a time, and how long before this cycle it was."""
        return f"{self.at(time)}, {lasting(self.report.time - time)} before this cycle" if time < self.report.time else self.at(time)

    def at(self, time: float) -> str:
        """Format a time, with its day if the cycle's day differs."""
        then, now = (datetime.fromtimestamp(moment, self.zone).astimezone(self.zone) for moment in (time, self.report.time))
        return then.strftime("%H:%M:%S %Z" if then.date() == now.date() else "%Y-%m-%d %H:%M:%S %Z").strip()


class Explainer:
    """Base class of a plugin's explainer, which explains guests from a report alone. It must not wait or touch the host."""

    controls: Sequence[ControlSpec] = ()
    nouns: Mapping[str, str] = MappingProxyType({})
    """Words before a control's value, such as `a size of`, keyed by control. The default is the control's name."""
    verbs: Mapping[str, tuple[str, str]] = MappingProxyType({})
    """Participles for a rise and a fall, such as `grown` and `shrunk`, keyed by control."""
    phrases: Mapping[str, str] = MappingProxyType({})
    """Short reasons for changes by this plugin's law, keyed by reason code."""
    main_controls: Sequence[str] = ()
    """Controls for which `mom explain` shows the law's reason even without decisions."""
    topic: str = ""
    """Heading of `sentences`."""
    place: int = Sentence.PRESENT
    """Place of `sentences`: the smallest comes first."""

    def sentences(self, about: About) -> Iterable[str]:
        """Return this plugin's sentences about a guest; none if the plugin does not affect the guest."""
        return ()

    def part(self, about: About) -> ExplanationPart:
        """Return this plugin's part for a guest: by default, the sentences alone."""
        return ExplanationPart([Sentence(self.topic, text, self.place) for text in self.sentences(about)])

    def reason(self, report: Report, guest: Guest, control: str) -> str:
        """Return the control law's reason for a control's value, or an empty string."""
        return ""
