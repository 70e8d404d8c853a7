"""Data of the API's answers: reports and past cycles, and the parts of answers that several routes share."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Container, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, fields, is_dataclass, replace
from itertools import islice
from typing import Any, Final, Generic, TypeVar

from typing_extensions import TypedDict

from mom_core import (
    Declarations,
    EngineState,
    Entity,
    Guest,
    Host,
    MomError,
    Outcome,
    PluginContext,
    Report,
    Scope,
    Snapshot,
    Source,
    Status,
    Value,
    first_names,
)
from mom_daemon import Explainers, find_guest, json_text
from mom_daemon.report_models import Seconds, Time, status_document
from mom_kvm import PolicyState
from mom_plugins_http.routes.route import ApiCall
from mom_plugins_http.server.problems import ProblemError

Item = TypeVar("Item")
Service = TypeVar("Service")

KEPT_CYCLES: Final = 720
"""Past cycles to keep: an hour of cycles of 5 s, some 10 MiB with 100 fields."""

KEPT_GUEST_SAMPLES: Final = 60_000
"""Samples to keep of all guests together, such as 60 cycles with 1,000 guests: at most some 30 MiB."""

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

SUMMED: Final = (*GUEST_HISTORY[:6], "cold")
"""Fields whose sum over guests has a history."""

KEPT_OUTCOMES: Final = 1000

OUTCOMES_OF_A_CYCLE: Final = 100
"""Maximum number of outcomes kept of a cycle."""

_KEPT_ANSWERS: Final = 32

_SHOWN_UNKNOWN: Final = 5


class Items(TypedDict, Generic[Item]):
    """List of items."""

    items: list[Item]


class PastModel(TypedDict):
    """Past cycle."""

    cycle: int
    time: Time
    duration_seconds: Seconds


@dataclass(frozen=True, slots=True)
class PastGuests:
    """Guests' values of the `GUEST_HISTORY` fields in a past cycle; None is unknown. Fields without values have no column."""

    places: Mapping[str, int]
    """Index into each column, keyed by guest id."""
    columns: Mapping[str, Sequence[float | None]]

    def fields(self, guest: str) -> Mapping[str, float | None] | None:
        """Return a guest's fields; None if the guest did not exist."""
        return {name: self.field(name, guest) for name in GUEST_HISTORY} if guest in self.places else None

    def field(self, name: str, guest: str) -> float | None:
        """Return a guest's field; None if unknown."""
        place = self.places.get(guest)
        return None if place is None or name not in self.columns else self.columns[name][place]


def _past_guests(snapshot: Snapshot, before: PastGuests | None) -> PastGuests:
    ids = tuple(snapshot.guests)
    places = before.places if before is not None and tuple(before.places) == ids else {guest: place for place, guest in enumerate(ids)}
    columns = {name: snapshot.numbers(name) for name in GUEST_HISTORY}
    return PastGuests(places, {name: column for name, column in columns.items() if column.count(None) < len(column)})


@dataclass(frozen=True, slots=True)
class CycleSample:
    """Past cycle: the host, guests (None if dropped), and sums over guests."""

    number: int
    time: float
    duration: float
    host: Mapping[str, Value]
    guests: PastGuests | None
    together: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class PastOutcome:
    """Outcome of a decision in a past cycle."""

    time: float
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class PastNote:
    """Change of policies or reservations, in words."""

    time: float
    who: str
    text: str


@dataclass(slots=True)
class Totals:
    """Counters since the start, keyed by control, and for outcomes also by status."""

    cycles: int = 0
    seconds: float = 0.0
    woken: int = 0
    decisions: Counter[str] = field(default_factory=Counter)
    revisions: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, report: Report, declared: Container[str]) -> None:
        """Count a cycle. Only declared controls count, because a policy may invent others in each cycle."""
        self.cycles += 1
        self.seconds += report.duration
        self.woken += bool(report.woken_by)
        self.decisions.update(decision.control for decision in report.decisions if decision.control in declared)
        self.revisions.update(revision.before.control for revision in report.revisions if revision.before.control in declared)
        done = (outcome for outcome in report.outcomes if outcome.decision.control in declared)
        self.outcomes.update((outcome.decision.control, outcome.status.value) for outcome in done)


@dataclass(frozen=True, slots=True)
class ReportView:
    """Report of one cycle. Only `answers` changes, in the server's thread."""

    report: Report
    declarations: Declarations
    totals: Totals
    policies: PolicyState | None = None
    state: EngineState = field(default_factory=EngineState)
    """The engine's state, and CLOCK_MONOTONIC, at the end of the cycle."""
    monotonic: float = field(default_factory=time.monotonic)
    answers: dict[object, bytes] = field(default_factory=dict)

    def guests(self) -> Mapping[str, Guest]:
        """Return the guests, keyed by id. Raise `ProblemError` if their list is unknown."""
        if unknown := self.report.guests_unknown:
            raise ProblemError(503, unknown.message, unknown.cure, headers={"retry-after": "1"})
        return self.report.snapshot.guests

    def guest(self, name: str) -> Guest:
        """Return the guest with this id or name. Raise `ProblemError` without such a guest."""
        try:
            return find_guest(self.guests(), name)
        except MomError as error:
            raise ProblemError(404, error.message, f"{error.hint}; GET /v1/guests lists all guests, with their ids and names") from None

    def about(self, call: ApiCall, items: Sequence[Item], entity_of: Callable[[Item], Entity | None]) -> Sequence[Item]:
        """Return the items about the guest or host that the query names; all items if it names none."""
        if (name := call.query.guest) is None:
            return items
        identity = Host.ID if name == Host.ID else self.guest(name).id
        return [item for item in items if (entity := entity_of(item)) is not None and entity.id == identity]

    def queried_fields(self, call: ApiCall, of: Scope = Scope.GUEST) -> tuple[str, ...] | None:
        """Return the fields in the query, sorted; None for all fields. Raise `ProblemError` for an undeclared field."""
        if call.query.fields is None:
            return None
        names = [name.strip() for name in call.query.fields.split(",") if name.strip()]
        declared = [name for scope, name in self.declarations.fields if scope is of]
        unknown = [name for name in dict.fromkeys(names) if name not in declared and not name.endswith("?")]
        if not unknown:
            return tuple(sorted({name.removesuffix("?") for name in names} & set(declared)))
        message = f"no plugin declares the {of} field {first_names(unknown, _SHOWN_UNKNOWN)}"
        raise ProblemError(400, message, "GET /v1/fields lists all fields")

    def answer(self, key: object, make: Callable[[], bytes]) -> bytes:
        """Return the encoded answer; build it at the first request."""
        answer = self.answers.get(key)
        if answer is None:
            answer = make()
            if len(self.answers) < _KEPT_ANSWERS:
                self.answers[key] = answer
        return answer


class Published:
    """Newest report and past cycles. Only `take` runs in the plugin's thread."""

    def __init__(self, context: PluginContext) -> None:
        self.context = context
        self.newest: ReportView | None = None
        """Newest report, replaced as a whole; None before the first report."""
        self.explainers = Explainers({})
        self._totals = Totals()
        self._samples: deque[CycleSample] = deque(maxlen=KEPT_CYCLES)
        self._outcomes: deque[PastOutcome] = deque(maxlen=KEPT_OUTCOMES)
        self.notes: Sequence[PastNote] = ()
        """Notes, newest first; replaced as a whole."""

    def take(self, report: Report, declarations: Declarations, policies: PolicyState | None, state: EngineState) -> None:
        """Publish a finished cycle."""
        self._totals.add(report, declarations.controls)
        self._remember(report)
        changes = [outcome for outcome in report.outcomes if outcome.status is not Status.UNCHANGED]
        self._outcomes.extend(PastOutcome(report.time, outcome) for outcome in changes[:OUTCOMES_OF_A_CYCLE])
        if self.newest is None or self.newest.declarations is not declarations:
            self.explainers = Explainers(declarations.explainers)
        self.newest = ReportView(report, declarations, deepcopy(self._totals), policies, state)

    def view(self) -> ReportView:
        """Return the newest report. Raise `ProblemError` before the first report."""
        if self.newest is None:
            raise ProblemError(503, "mom has not finished its first cycle yet", "ask again in a moment", headers={"retry-after": "1"})
        return self.newest

    def cached(self, key: object, make: Callable[[ReportView], object]) -> bytes:
        """Return the encoded answer; build it once per cycle."""
        view = self.view()
        return view.answer(key, lambda: json_text(make(view)))

    def status(self) -> bytes:
        """Return the state of mom as JSON."""
        interval = self.context.interval
        return self.cached("status", lambda view: status_document(view.report, view.state, interval, monotonic=view.monotonic))

    def outcomes(self) -> Sequence[PastOutcome]:
        """Return past outcomes, newest first."""
        return list(self._outcomes)[::-1]

    def history(self) -> Sequence[CycleSample]:
        """Return past cycles, oldest first."""
        return list(self._samples)

    def past(self, call: ApiCall, values: Callable[[CycleSample], Mapping[str, object] | None]) -> object:
        """Return past cycles, newest first. `values` returns a cycle's members, except number, time and duration; None omits the cycle."""
        samples = ((sample, values(sample)) for sample in reversed(self.history()))
        items = (
            {"cycle": sample.number, "time": sample.time, "duration_seconds": sample.duration, **more}
            for sample, more in samples
            if more is not None
        )
        return {"items": list(islice(items, call.query.limit))}

    def _remember(self, report: Report) -> None:
        snapshot = report.snapshot
        guests = _past_guests(snapshot, self._samples[-1].guests if self._samples else None)
        together = {name: _sum(guests.columns.get(name, ())) for name in SUMMED} if snapshot.guests else {}
        self._samples.append(CycleSample(report.number, report.time, report.duration, snapshot.host.fields, guests, together))
        kept = 0
        for index in range(len(self._samples) - 1, -1, -1):
            sample = self._samples[index]
            if sample.guests is None:
                break
            kept += len(sample.guests.places)
            if kept > KEPT_GUEST_SAMPLES:
                self._samples[index] = replace(sample, guests=None)


def _sum(column: Sequence[float | None]) -> float | None:
    numbers = [value for value in column if value is not None]
    return sum(numbers) if numbers else None


def as_object(value: object) -> Any:
    """Return a service's data class as JSON content, with all members."""
    if isinstance(value, Entity | Source):
        return value._asdict()
    if is_dataclass(value) and not isinstance(value, type):
        return {member.name: as_object(getattr(value, member.name)) for member in fields(value)}
    return [as_object(item) for item in value] if isinstance(value, list | tuple) else value


def offered(context: PluginContext, kind: Callable[..., Service], lack: str, plugin: str) -> Service:
    """Return the service that an enabled plugin offers. Raise `ProblemError` if none does.

    :param lack: end of the error message "no enabled plugin …", such as `has policies`
    """
    service = context.service(kind)
    if service is None:
        raise ProblemError(409, f"no enabled plugin {lack}", f"enable the {plugin} plugin in the configuration")
    return service
