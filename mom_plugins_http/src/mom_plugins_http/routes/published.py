"""What the API answers from: the newest report, what came before it, and the clients that want to hear of the next."""

from __future__ import annotations

import asyncio
import math
import sys
import time
from array import array
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar, cast

from mom_core import Declarations, EngineState, Outcome, Report, Snapshot, Status, Value
from mom_daemon import Explainers, ReportDocument, report_document
from mom_kvm import PolicyState
from mom_plugins_http.server.access import Peer

T = TypeVar("T")

KEPT_CYCLES: Final = 720
"""Cycles of which the host's values are kept: an hour at 5 s; some 10 MiB with 100 fields."""

KEPT_GUEST_SAMPLES: Final = 60_000
"""Samples of guests that are kept together, some 6 MiB: 60 cycles with 1,000 guests, all `KEPT_CYCLES` with 80."""

GUEST_HISTORY: Final = (
    "balloon_cur",
    "balloon_max",
    "mem_usable",
    "mem_available",
    "swap_in",
    "rss",
    "mem_unused",
    "mem_disk_caches",
    "host_swap",
    "host_ksm_merged",
    "cold",
    "mem_used_expected",
)
"""The fields of a guest whose history is kept."""

SUMMED: Final = (*GUEST_HISTORY[:6], "cold")
"""Those of which the sum over all guests is kept, too."""

KEPT_DONE: Final = 1000
"""Outcomes of past cycles that are kept, the newest."""

MOST_COUNTED: Final = 1000
"""Names of controls, with or without a status, that are counted since the start: mom's own are some thirty."""

DONE_OF_A_CYCLE: Final = 100
"""Of one cycle at most: where mom only observes a thousand guests, each cycle would push out all others."""

_WAITING_EVENTS: Final = 16
"""Events that a client may be behind; one that is further behind is let go, and may come again."""

_WAITING_BYTES: Final = 16 << 20
"""The same in bytes, but for one that is larger by itself: what 10,000 guests are told of in four cycles."""

_KEPT_ANSWERS: Final = 32
"""Encoded answers of a cycle that are kept for who asks the same: pages of a list, metrics."""


@dataclass(frozen=True, slots=True)
class PastGuests:
    """The fields of `GUEST_HISTORY` of all guests in a past cycle, eight bytes for each figure: what is not finite is unknown. A field that
    is known of no guest has no column."""

    places: Mapping[str, int]
    """Where each guest stands in a column, by its id; the same mapping while the guests stay the same."""
    columns: Mapping[str, array[float]]

    def fields(self, guest: str) -> Mapping[str, float | None] | None:
        """Those of one guest; None: it was not there."""
        place = self.places.get(guest)
        return None if place is None else {name: self._value(name, place) for name in GUEST_HISTORY}

    def field(self, name: str, guest: str) -> float | None:
        """One of them; None: unknown."""
        place = self.places.get(guest)
        return None if place is None else self._value(name, place)

    def _value(self, name: str, place: int) -> float | None:
        column = self.columns.get(name)
        if column is None or not math.isfinite(value := column[place]):
            return None
        return _whole(value)


def past_guests(snapshot: Snapshot, before: PastGuests | None) -> PastGuests:
    """Those of this snapshot.

    :param before: of the cycle before
    """
    ids = tuple(snapshot.guests)
    places = before.places if before is not None and tuple(before.places) == ids else {guest: place for place, guest in enumerate(ids)}
    columns = {name: _figures(snapshot.column(name)) for name in GUEST_HISTORY}
    return PastGuests(places, {name: column for name, column in columns.items() if column is not None})


def _figures(values: Sequence[Value]) -> array[float] | None:
    """None where none is known."""
    if values.count(None) == len(values):
        return None
    with suppress(TypeError, OverflowError):
        return array("d", cast(Sequence[float], values))  # all are known: in a tenth of the time
    known = [value if isinstance(value, int | float) and abs(value) < sys.float_info.max else math.nan for value in values]
    return None if all(map(math.isnan, known)) else array("d", known)


@dataclass(frozen=True, slots=True)
class CycleSample:
    """One past cycle: the host's values, and those of guests (None: not kept any more).

    `together` are the sums over all guests that have them; None where none has.
    """

    number: int
    time: float
    duration: float
    host: Mapping[str, Value]
    guests: PastGuests | None
    together: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class PastOutcome:
    """The outcome of a decision in a past cycle."""

    number: int
    time: float
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class PastNote:
    """A change of policies or reservations."""

    time: float
    who: str
    text: str


@dataclass(slots=True)
class Totals:
    """Counts since the start: decisions and revisions by control, outcomes by control and status."""

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
        _count(self.decisions, [decision.control for decision in report.decisions])
        _count(self.revisions, [revision.before.control for revision in report.revisions])
        _count(self.outcomes, [(outcome.decision.control, outcome.status.value) for outcome in report.outcomes])


def _count(counts: Counter[T], found: Sequence[T]) -> None:
    """Count these; of names that are new no more than there is room for, as a policy may make up others in each cycle."""
    if len(counts) < MOST_COUNTED:
        counts.update(found)
    else:
        counts.update(one for one in found if one in counts)


@dataclass(frozen=True, slots=True)
class ReportView:
    """One report with what belongs to it; nothing in it changes but `answers`, which only the server's thread touches."""

    report: Report
    declarations: Declarations
    totals: Totals
    policies: PolicyState | None = None
    """Those that decided in this cycle."""
    state: EngineState = field(default_factory=EngineState)
    """What the engine knew besides, when the cycle ended; and when that was, by the clock that all processes of a host share."""
    monotonic: float = field(default_factory=time.monotonic)
    answers: dict[object, bytes] = field(default_factory=dict)

    def document(self, interval: float, fields: Sequence[str] | None = None) -> ReportDocument:
        """The cycle as one document, with these fields of guests; None: all.

        :param interval: seconds between two cycles
        """
        return report_document(self.report, self.declarations, self.state, interval, monotonic=self.monotonic, fields=fields)

    def answer(self, key: object, make: Callable[[], bytes]) -> bytes:
        """The encoded answer of this name, made when it is first asked for in this cycle."""
        found = self.answers.get(key)
        if found is None:
            found = make()
            if len(self.answers) < _KEPT_ANSWERS:
                self.answers[key] = found
        return found


class Subscriber:
    """A client that is told of each cycle, with these fields of guests; None: all."""

    def __init__(self, fields: tuple[str, ...] | None, peer: Peer) -> None:
        self.fields = fields
        self.peer = peer
        self._events: asyncio.Queue[bytes] = asyncio.Queue(_WAITING_EVENTS)
        self._waiting = 0
        self.ended = False
        """Whether it did not keep up, or has yielded to another client."""

    def offer(self, event: bytes) -> None:
        """One more event, unless too many wait."""
        if self._events.full() or (self._waiting and self._waiting + len(event) > _WAITING_BYTES):
            self.ended = True
            return
        self._waiting += len(event)
        self._events.put_nowait(event)

    def end(self) -> None:
        """Let the client go."""
        self.ended = True
        with suppress(asyncio.QueueFull):  # otherwise nothing is waited for
            self._events.put_nowait(b"")

    async def next(self, seconds: float) -> bytes | None:
        """The next event; None when there was none for so long."""
        try:
            event = await asyncio.wait_for(self._events.get(), seconds)
        except TimeoutError:
            return None
        self._waiting -= len(event)
        return event


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
        self.notes: Sequence[PastNote] = ()
        """The newest first; replaced as a whole."""

    def take(self, report: Report, declarations: Declarations, policies: PolicyState | None, state: EngineState) -> None:
        """A cycle has ended."""
        self._totals.add(report)
        self._remember(report)
        done = [outcome for outcome in report.outcomes if outcome.status is not Status.UNCHANGED]
        self._done.extend(PastOutcome(report.number, report.time, outcome) for outcome in done[:DONE_OF_A_CYCLE])
        self.explainers.use(declarations.explainers)
        self.explainers.take(report)
        self.view = ReportView(report, declarations, deepcopy(self._totals), policies, state)

    def done(self) -> Sequence[PastOutcome]:
        """Outcomes of past cycles, the newest cycle first."""
        return list(self._done)[::-1]

    def history(self) -> Sequence[CycleSample]:
        """Past cycles, oldest first."""
        return list(self._samples)

    def _remember(self, report: Report) -> None:
        snapshot = report.snapshot
        guests = past_guests(snapshot, self._samples[-1].guests if self._samples else None)
        together = {name: _sum(guests.columns.get(name)) for name in SUMMED} if snapshot.guests else {}
        self._samples.append(CycleSample(report.number, report.time, report.duration, snapshot.host.fields, guests, together))
        kept = 0
        for index in range(len(self._samples) - 1, -1, -1):
            sample = self._samples[index]
            if sample.guests is None:
                break
            kept += len(sample.guests.places)
            if kept > KEPT_GUEST_SAMPLES:
                self._samples[index] = replace(sample, guests=None)


def _sum(column: array[float] | None) -> float | None:
    """Of what is known; None where nothing is."""
    known = [value for value in column or () if math.isfinite(value)]
    return _whole(sum(known)) if known else None


def _whole(value: float) -> float:
    """As it was collected: sizes are whole numbers."""
    return int(value) if value.is_integer() else value
