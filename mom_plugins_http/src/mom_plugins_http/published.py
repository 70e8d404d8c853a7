"""What the API answers from: the newest report, what came before it, and the clients that want to hear of the next."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from mom_cli import Explainers
from mom_core import Declarations, EngineState, Outcome, Report, Status, Value
from mom_toolkit import NO_PROMISES, PolicyState, Promises

KEPT_CYCLES: Final = 720
"""Cycles of which the host's values are kept: an hour at 5 s; some 10 MiB with 100 fields."""

KEPT_GUEST_SAMPLES: Final = 60_000
"""Samples of guests that are kept together, some 15 MiB: 60 cycles with 1,000 guests, all `KEPT_CYCLES` with 80."""

GUEST_HISTORY: Final = ("balloon_cur", "balloon_max", "mem_usable", "mem_available", "swap_in", "rss")
"""The fields of a guest whose history is kept."""

KEPT_DONE: Final = 1000
"""Outcomes of past cycles that are kept, the newest."""

DONE_OF_A_CYCLE: Final = 100
"""Of one cycle at most: where mom only observes a thousand guests, each cycle would push out all others."""

_WAITING_EVENTS: Final = 16
"""Events that a client may be behind; one that is further behind is let go, and may come again."""

_KEPT_ANSWERS: Final = 32
"""Encoded answers of a cycle that are kept for who asks the same: pages of a list, metrics."""


@dataclass(frozen=True, slots=True)
class CycleSample:
    """One past cycle: the host's values, and of each guest those of `GUEST_HISTORY`, by guest id (None: not kept any more).

    `together` are the sums of these over all guests that have them; None where none has.
    """

    number: int
    time: float
    duration: float
    host: Mapping[str, Value]
    guests: Mapping[str, tuple[Value, ...]] | None
    together: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class PastOutcome:
    """What came of a decision in a past cycle."""

    number: int
    time: float
    outcome: Outcome


@dataclass(slots=True)
class Totals:
    """What happened since the start, counted: decisions and revisions by control, outcomes by control and status."""

    cycles: int = 0
    seconds: float = 0.0
    woken: int = 0
    decisions: Counter[str] = field(default_factory=Counter)
    revisions: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, report: Report) -> None:
        """Count one more cycle."""
        self.cycles += 1
        self.seconds += report.duration
        self.woken += bool(report.woken_by)
        self.decisions.update(decision.control for decision in report.decisions)
        self.revisions.update(revision.before.control for revision in report.revisions)
        self.outcomes.update((outcome.decision.control, outcome.status.value) for outcome in report.outcomes)

    def copy(self) -> Totals:
        """As it is now."""
        return Totals(self.cycles, self.seconds, self.woken, self.decisions.copy(), self.revisions.copy(), self.outcomes.copy())


@dataclass(frozen=True, slots=True)
class ReportView:
    """One report with what belongs to it; nothing in it changes but `answers`, which only the server's thread touches."""

    report: Report
    declarations: Declarations
    totals: Totals
    together: Mapping[str, float | None] = field(default_factory=dict)
    """Sums over all guests of the fields of `GUEST_HISTORY`."""
    policies: PolicyState | None = None
    """Those that decided in this cycle."""
    promises: Promises = NO_PROMISES
    state: EngineState = field(default_factory=EngineState)
    """What the engine knew besides, when the cycle ended; and when that was, by the clock that all processes of a host share."""
    monotonic: float = field(default_factory=time.monotonic)
    answers: dict[object, bytes] = field(default_factory=dict)

    def answer(self, key: object, make: Callable[[], bytes]) -> bytes:
        """The encoded answer of this name, made when it is first asked for in this cycle."""
        found = self.answers.get(key)
        if found is None:
            found = make()
            if len(self.answers) < _KEPT_ANSWERS:
                self.answers[key] = found
        return found


class Subscriber:
    """A client that is told of each cycle."""

    def __init__(self) -> None:
        self._events: asyncio.Queue[bytes] = asyncio.Queue(_WAITING_EVENTS)
        self.behind = False
        """Whether it did not keep up."""

    def offer(self, event: bytes) -> None:
        """One more event, unless too many wait."""
        try:
            self._events.put_nowait(event)
        except asyncio.QueueFull:
            self.behind = True

    async def next(self, seconds: float) -> bytes | None:
        """The next event; None when there was none for so long."""
        try:
            return await asyncio.wait_for(self._events.get(), seconds)
        except TimeoutError:
            return None


class Published:
    """Takes reports in from the plugin's thread; everything else is for the server's."""

    def __init__(self) -> None:
        self.view: ReportView | None = None
        """Replaced as a whole."""
        self.subscribers: set[Subscriber] = set()
        self.explainers = Explainers()
        """They remember what explanations need of earlier cycles."""
        self._totals = Totals()
        self._samples: deque[CycleSample] = deque(maxlen=KEPT_CYCLES)
        self._done: deque[PastOutcome] = deque(maxlen=KEPT_DONE)

    def take(
        self,
        report: Report,
        declarations: Declarations,
        policies: PolicyState | None = None,
        promises: Promises = NO_PROMISES,
        state: EngineState | None = None,
    ) -> None:
        """A cycle has ended."""
        self._totals.add(report)
        self._remember(report)
        done = [outcome for outcome in report.outcomes if outcome.status is not Status.UNCHANGED]
        self._done.extend(PastOutcome(report.number, report.time, outcome) for outcome in done[:DONE_OF_A_CYCLE])
        self.explainers.use(declarations.explainers)
        self.explainers.take(report)
        together = self._samples[-1].together
        self.view = ReportView(report, declarations, self._totals.copy(), together, policies, promises, state or EngineState())

    def done(self) -> Sequence[PastOutcome]:
        """What was done in past cycles, the newest cycle first."""
        return list(self._done)[::-1]

    def history(self) -> Sequence[CycleSample]:
        """Past cycles, oldest first."""
        return list(self._samples)

    def _remember(self, report: Report) -> None:
        snapshot = report.snapshot
        guests = {guest.id: tuple(map(guest.fields.get, GUEST_HISTORY)) for guest in snapshot.guests.values()}
        together = dict(zip(GUEST_HISTORY, map(_sum, zip(*guests.values(), strict=True)), strict=True)) if guests else {}
        self._samples.append(CycleSample(report.number, report.time, report.duration, snapshot.host.fields, guests, together))
        kept = 0
        for index in range(len(self._samples) - 1, -1, -1):
            sample = self._samples[index]
            if sample.guests is None:
                break
            kept += len(sample.guests)
            if kept > KEPT_GUEST_SAMPLES:
                self._samples[index] = CycleSample(sample.number, sample.time, sample.duration, sample.host, None, sample.together)


def _sum(values: Sequence[Value]) -> float | None:
    known = [value for value in values if isinstance(value, int | float)]
    return sum(known) if known else None
