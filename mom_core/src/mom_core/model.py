"""What flows through a cycle: frozen values, from the snapshot that is read to the report that is written.

Numbers are in the unit that their `FieldSpec` or `ControlSpec` declares. A field that is absent, or None, is unknown; it is never 0.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, ItemsView, Iterator, Mapping, Sequence, ValuesView
from dataclasses import dataclass, replace
from dataclasses import field as _field
from enum import StrEnum
from types import MappingProxyType
from typing import ClassVar, Final, NamedTuple, TypeAlias

from mom_core.columns import Columns, GuestRow
from mom_core.units import Unit
from mom_core.values import Readable, as_number
from mom_core.values import Value as Value  # noqa: PLC0414  # it is part of the model, too

NO_VALUES: Mapping[str, Value] = MappingProxyType({})


_NUMBERS: Final = frozenset({int, float, type(None)})


def _nothing() -> Mapping[str, Value]:
    return NO_VALUES


class Scope(StrEnum):
    """The owner of a field or control: the host, or each guest."""

    HOST = "host"
    GUEST = "guest"


class Entity(NamedTuple):
    """Who is meant: the host, or one guest. Hashable, and all that outlives a cycle.

    `id` is `host` for the host and the UUID of a guest; `name` is for people, and may repeat over time.
    """

    scope: Scope
    id: str
    name: str

    def __str__(self) -> str:
        return printable(self.name)


HOST_ID = "host"
"""The id of the host's entity. No guest has it."""


@dataclass(frozen=True, slots=True)
class Host(Readable):
    """The host in one snapshot: values by field name, and properties, which are not measured (`name`, `interval` in seconds).

    `number`, `whole`, `text` and `items` give a field as that; None where it is unknown: `host.number("mem_free")`.
    """

    name: str = HOST_ID
    fields: Mapping[str, Value] = _field(default_factory=_nothing)
    properties: Mapping[str, Value] = _field(default_factory=_nothing)

    @property
    def entity(self) -> Entity:
        """The host's identity."""
        return Entity(Scope.HOST, HOST_ID, self.name)


@dataclass(frozen=True, slots=True)
class Guest(Readable):
    """One guest in one snapshot, or as the hypervisor lists it (then without fields). Its fields are read as those of a `Host`.

    `properties` hold what is not measured: at least `name` and `uuid`, and `pid` where there is one.
    `blocked` says why a control cannot be applied to this guest now: control name (or `*` for all) to a reason,
    such as `{"balloon_target": "the guest has no balloon device"}`. Decisions on blocked controls are dropped with that reason.
    `incarnation` is any text that is another one after the guest was started anew: what mom changed on an earlier incarnation is history.
    """

    id: str
    name: str
    fields: Mapping[str, Value] = _field(default_factory=_nothing)
    properties: Mapping[str, Value] = _field(default_factory=_nothing)
    blocked: Mapping[str, str] = _field(default_factory=dict)
    incarnation: str = ""

    @property
    def entity(self) -> Entity:
        """The guest's identity."""
        return Entity(Scope.GUEST, self.id, self.name)

    def why_blocked(self, control: str) -> str:
        """Why that control cannot be applied to this guest now; empty where it can."""
        return self.blocked.get(control, "") or self.blocked.get("*", "") if self.blocked else ""


class GuestTable(Mapping[str, Guest]):
    """The guests of a snapshot by id, of whose fields there are columns. A guest is made when it is asked for, and its fields are a view.

    May be read from several threads at once.

    :param listed: the guests without fields, in the order of the columns
    :param places: where each is among them, by id
    """

    __slots__ = ("_all_made", "_made", "_places", "columns", "listed")

    def __init__(self, listed: Sequence[Guest], places: Mapping[str, int], columns: Columns) -> None:
        self.listed = listed
        self.columns = columns
        self._places = places
        self._made: dict[str, Guest] = {}
        self._all_made = False

    def __getitem__(self, identity: str) -> Guest:
        guest = self._made.get(identity)
        if guest is None:
            guest = self._made[identity] = self._guest(self._places[identity])
        return guest

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __contains__(self, identity: object) -> bool:
        return identity in self._places

    def __len__(self) -> int:
        return len(self._places)

    def values(self) -> ValuesView[Guest]:
        """All of them, made together."""
        return self._all().values()

    def items(self) -> ItemsView[str, Guest]:
        """All of them with their ids, made together."""
        return self._all().items()

    def _all(self) -> Mapping[str, Guest]:
        if not self._all_made:
            made = self._made
            self._made = {one.id: made.get(one.id) or self._guest(place) for place, one in enumerate(self.listed)}
            self._all_made = True
        return self._made

    def _guest(self, place: int) -> Guest:
        one = self.listed[place]
        return Guest(one.id, one.name, GuestRow(self.columns, place), one.properties, one.blocked, one.incarnation)


class Derived(NamedTuple):
    """Fields that follow from a snapshot: of the host by name; of guests by guest id and name, or as columns in the snapshot's order."""

    host: Mapping[str, Value] = MappingProxyType({})
    guests: Mapping[str, Mapping[str, Value]] | Columns = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that was known at one moment.

    `time` is seconds since the epoch, for people; `monotonic` is seconds of a clock that never jumps, for durations.
    `guests` maps a guest's id to it, in a stable order (name, then id). `history` holds older snapshots, oldest first, only
    where a test or a recording put them; the engine hands history to evaluators separately.
    """

    host: Host = _field(default_factory=Host)
    guests: Mapping[str, Guest] = _field(default_factory=dict)
    time: float = 0.0
    monotonic: float = 0.0
    number: int = 0
    history: Sequence[Snapshot] = ()

    @property
    def listed(self) -> Sequence[Guest]:
        """All guests in their order, for what does not look at their fields: where there are columns, they are as the hypervisor lists
        them, and no guest has to be made."""
        return self.guests.listed if isinstance(self.guests, GuestTable) else tuple(self.guests.values())

    @property
    def columns(self) -> Columns:
        """The fields of all guests by field name, in the order of the guests."""
        guests = self.guests
        return guests.columns if isinstance(guests, GuestTable) else Columns.of_rows([guest.fields for guest in guests.values()])

    def column(self, name: str) -> Sequence[Value]:
        """One field of all guests, in their order; None where it is unknown."""
        guests = self.guests
        if not isinstance(guests, GuestTable):
            return [guest.fields.get(name) for guest in guests.values()]
        return guests.columns[name] if name in guests.columns else (None,) * len(guests)

    def numbers(self, name: str) -> Sequence[float | None]:
        """One field of all guests, in their order, each as `as_number` gives it: None where it is unknown or no number."""
        values, guests = self.column(name), self.guests
        # The types of all are looked at together: nearly always all are numbers.
        types = guests.columns.types(name) if isinstance(guests, GuestTable) and name in guests.columns else set(map(type, values))
        return values if types <= _NUMBERS else [*map(as_number, values)]  # type: ignore[return-value]  # numbers, or None


class Metric(StrEnum):
    """How monitoring has to take a field of the host.

    A gauge goes up and down; a counter only grows, until what it counts starts anew. None: it says nothing but together with the moment
    at which it was read, such as what came since the last sample, or the time of day.
    """

    GAUGE = "gauge"
    COUNTER = "counter"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """The declaration of a field. `source` says where the number comes from, such as `/proc/meminfo MemFree`; `metric`, how monitoring has
    to take it; `reason`, for what a plugin suggests, the field of the same scope that says why: decisions that take it up tell that. A
    plugin that only reads a field of others declares it by `reads`."""

    name: str
    unit: Unit
    scope: Scope
    description: str
    source: str = ""
    metric: Metric = Metric.GAUGE
    collected: bool = True
    reason: str = ""

    @classmethod
    def reads(cls, name: str, unit: Unit, scope: Scope) -> FieldSpec:
        """A field that this plugin reads, or its policies do, if any plugin collects it: that one must declare it in the same unit. Where
        none does, it is unknown, and policies may name it all the same."""
        return cls(name, unit, scope, "what another plugin collects, if one is enabled that does", collected=False)


@dataclass(frozen=True, slots=True)
class ControlSpec:
    """The declaration of a control: something that mom can set.

    `field` names the field that holds the control's present value: the core writes that value to the ledger before the
    control is first changed, and `mom_write` puts it back. While the field is unknown the control is not applied, because it
    could not be put back. `minimum` and `maximum` bound every value (None: unbounded on that side): what is beyond is moved to the bound.
    `choices` are for a control whose values are names rather than amounts (0 stop, 1 run, 2 unmerge): any other value is dropped, as the
    nearest one means something else. A flag has the choices 0 and 1 by itself; with choices, the bounds are the least and the greatest.
    What depends on the guest is checked by the controller. Values are integers unless `unit` is text, ratio, percent, seconds, or list
    (of mappings).

    By the rest the engine judges what it finds. Numbers that differ by no more than `tolerance` are the same. `key` names what tells the
    items of a list apart, such as `name`: then each item is judged and put back for itself. `absent` is what an item stands at that is not
    listed, and a list speaks of all items; without it, a list speaks of the items that are in it, and one that was not there before mom is
    none of mom's. `gradual` is of a control that only moves towards its value, such as a guest's size: by how much it has to come nearer to
    count as moving (0: it changes at once); of an act that takes its time, such as moving a guest away, it is 1. What stands there before a
    decision is then taken from the cycle's snapshot, and whether a command is worth sending is the controller's to say. `renewed` is one
    whose decisions hold for one cycle: they are written in each, also where the value stands.

    `file` is of a control that is one file of the kernel: of the host its path, of a guest the name of the file in its control group. Where
    mom is not root, mom-helper writes it, if a declaration of root's lists it.
    """

    name: str
    unit: Unit
    scope: Scope
    description: str
    field: str
    minimum: float | None = None
    maximum: float | None = None
    choices: Sequence[int] = ()
    tolerance: float = 0.0
    key: str = ""
    absent: Mapping[str, Value] | None = None
    gradual: float = 0.0
    renewed: bool = False
    file: str = ""

    def __post_init__(self) -> None:
        """Fill in what follows from the rest."""
        if self.unit is Unit.FLAG and not self.choices:
            object.__setattr__(self, "choices", (0, 1))
        if self.choices and self.minimum is None and self.maximum is None:
            object.__setattr__(self, "minimum", min(self.choices))
            object.__setattr__(self, "maximum", max(self.choices))


@dataclass(frozen=True, slots=True)
class DefaultPolicy:
    """A policy in the MOM policy language that drives a plugin's controls. An evaluator uses it when the operator gives none of that name.

    `name` sorts it among the others: `10_…` to `90_…`.
    """

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class GuestColumn:
    """A figure of each guest, for `mom guests`, `mom top`, the web page and the metrics.

    Where several plugins have one of a name, the first plugin's counts.

    :param name: its heading in `mom guests`, `mom top` and on the page
    :param fields: what it is made of; where no plugin declares any of these, there is no such column
    :param unit: of its values, by which each surface writes them
    :param about: what it is, as a sentence without its full stop
    :param place: its place among the columns; the smaller first
    :param rank: where there is too little room, columns of the highest rank are left out first; those of rank 0 stay.
        None: it is only a metric
    :param metric: its name among metrics, in base units; empty: it is none
    :param mark_from: a value from which on it is marked
    :param made: its value, by a guest's fields; without it, the first of the fields that is known
    """

    REMARKS: ClassVar[str] = "remarks"
    """The column of prose at the end: what several plugins remark on a guest is joined."""

    name: str
    fields: tuple[str, ...]
    unit: Unit
    about: str
    place: int = 50
    rank: int | None = 0
    metric: str = ""
    mark_from: float | None = None
    made: Callable[[Mapping[str, Value]], Value] | None = None

    @property
    def key(self) -> str:
        """Where its values stand in the table of guests: the field's column, or one of its own, whose name no field can have."""
        return self.fields[0] if self.made is None and len(self.fields) == 1 else f"column.{self.name}"

    def value(self, fields: Mapping[str, Value]) -> Value:
        """Of a guest with these fields; None where it is unknown, also where its plugin cannot say."""
        if self.made is None:
            return next((value for name in self.fields if (value := fields.get(name)) is not None), None)
        try:
            return self.made(fields)
        except Exception:  # noqa: BLE001  # a plugin's mistake, or a field that is of another kind than it thinks: the other columns stand
            return None

    def values(self, snapshot: Snapshot) -> Sequence[Value]:
        """Of all guests, in the snapshot's order."""
        if self.made is None and len(self.fields) == 1:
            return snapshot.column(self.fields[0])
        rows = zip(*map(snapshot.column, self.fields), strict=True)
        return [self.value(dict(zip(self.fields, row, strict=True))) for row in rows]


Declaration: TypeAlias = FieldSpec | ControlSpec | DefaultPolicy | GuestColumn
"""What a plugin declares (`mom_declare`)."""


class Source(NamedTuple):
    """Where a decision comes from: a policy's name with 1-based line and column, or a plugin's name with 0 and 0."""

    name: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.name}:{self.line}:{self.column}" if self.line else self.name


@dataclass(frozen=True, slots=True)
class Decision:
    """The wish of an evaluator, or the act of another plugin: this control of this entity at this value, in the control's unit."""

    entity: Entity
    control: str
    value: Value
    reason: str = ""
    source: Source = Source("")

    def signed(self, plugin: str) -> Decision:
        """With the plugin's name as source where there is none: reports, reviews and explanations name it."""
        return self if self.source.name else replace(self, source=Source(plugin))


@dataclass(frozen=True, slots=True)
class ShadowDecisions:
    """Decisions that an evaluator would make otherwise, such as by policies on trial: reported, and neither reviewed nor applied."""

    decisions: Sequence[Decision]

    def signed(self, plugin: str) -> ShadowDecisions:
        """Each as by `Decision.signed`."""
        return ShadowDecisions(tuple(decision.signed(plugin) for decision in self.decisions))


@dataclass(frozen=True, slots=True)
class Revision:
    """A reviewer's change of a decision, and why. `after` is None when the decision was dropped."""

    before: Decision
    after: Decision | None
    reason: str
    reviewer: str = ""


class Severity(StrEnum):
    """How much a problem or finding matters."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that went wrong without ending the cycle: where (plugin or policy position), about whom, what, and what to do.

    Of one that the engine says still stands, `since` is when it was seen first, in seconds since the epoch, `cycles` in how many.
    """

    source: Source
    message: str
    entity: Entity | None = None
    severity: Severity = Severity.ERROR
    hint: str = ""
    since: float = 0.0
    cycles: int = 0


class Status(StrEnum):
    """The end of a decision."""

    APPLIED = "applied"  #: the hypervisor or kernel took it
    UNCHANGED = "unchanged"  #: it stood so already, nothing was sent
    OBSERVED = "observed"  #: mom only observes; nothing was sent
    REFUSED = "refused"  #: it makes no sense, or could not be put back; nothing was sent
    FAILED = "failed"  #: it was sent and did not succeed
    GONE = "gone"  #: the guest is not there any more
    LEFT_ALONE = "left-alone"  #: on restore: another process changed it since, so it stays as it is


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a decision: values before and after, read back where that is possible (None: unknown)."""

    decision: Decision
    before: Value
    after: Value
    status: Status
    error: str = ""


class Target(NamedTuple):
    """One control of one entity: what is read, and what is written."""

    entity: Entity
    control: str


class InTransition(NamedTuple):
    """The value of a gradual control that still moves to what this process set last: mom's own doing, whatever it is."""

    value: Value


class Change(NamedTuple):
    """An order to a controller: write this value, where `found` stands now (None: unknown).

    `back` says that it stood so before mom, and is to stand so again: then a controller may do more for it than for a decision.
    `source` is that of the decision.
    """

    target: Target
    value: Value
    found: Value
    back: bool = False
    source: Source = Source("")

    @property
    def entity(self) -> Entity:
        """Whose control it is."""
        return self.target.entity

    @property
    def control(self) -> str:
        """Which control is to be changed."""
        return self.target.control


ATTEMPTS_KEPT: Final = 8
"""So many values that could not be set are remembered of an entry. What is asked of a guest that does not answer changes from cycle to
cycle, and what may stand is what was asked last: after a few attempts, an earlier one takes no effect any more."""


class LedgerEntry(NamedTuple):
    """A change that mom has made and must be able to put back.

    `before` stood there when mom first touched the control; `applied` is what mom set last, or was about to set when it was cut off;
    `earlier` is what mom had set before that (None: nothing), which stands if it was cut off. `attempted` are the values that could not
    be set, so far as is known, the last ones: a command whose answer was lost or late may have set one all the same. `time` is seconds
    since the epoch of the first change; `incarnation` is the guest's at that time, or which boot of the host that was.

    `found` is what was read back after the last change, where that is another value than was asked: the kernel rounds (None: the same, or
    unknown). `in_doubt` says that what came of the last change was not noted: mom was about to set `applied`, or had just set it, when it
    was cut off.
    """

    entity: Entity
    control: str
    before: Value
    applied: Value
    plugin: str
    time: float
    incarnation: str = ""
    earlier: Value = None
    attempted: tuple[Value, ...] = ()
    found: Value = None
    in_doubt: bool = False

    def next(self, applied: Value) -> LedgerEntry:
        """The entry when mom is about to set another value: what stands applied becomes `earlier`, unless it may never have stood."""
        earlier = self.earlier if self.applied in self.attempted else self.applied
        return self._replace(applied=applied, earlier=earlier, attempted=_others(self.attempted, applied, earlier), in_doubt=True)

    def failed(self, after: Value) -> LedgerEntry:
        """The entry when `applied` could not be set.

        :param after: what stands there, as far as is known; None: unknown
        """
        attempted = (*_others(self.attempted, self.applied), self.applied)[-ATTEMPTS_KEPT:]
        applied = self.applied if after is None else after
        return self._replace(applied=applied, attempted=_others(attempted, after), in_doubt=False)

    def succeeded(self, after: Value) -> LedgerEntry:
        """The entry when `applied` was set.

        :param after: what was read back then; None: unknown
        """
        found = None if after == self.applied else after
        if self.applied not in self.attempted and found == self.found and not self.in_doubt:
            return self
        return self._replace(attempted=_others(self.attempted, self.applied), found=found, in_doubt=False)

    def resolved(self, stands: Value) -> LedgerEntry:
        """The entry when it was in doubt, and `stands` is what stands now; None: nothing that could be compared."""
        if not self.explains(stands):
            return self._replace(in_doubt=False)
        # What stood there before stands still: `applied` was not set, and is noted anew when it is to be.
        was_not_set = stands not in (self.applied, None) and stands in (self.found, self.earlier, self.before, *self.attempted)
        return self.failed(stands) if was_not_set else self.succeeded(stands)

    @property
    def ours(self) -> tuple[Value, ...]:
        """All values at which mom itself may have left the control, `before` among them."""
        values = (self.applied, self.found, self.earlier, *reversed(self.attempted), self.before)
        return tuple(value for value in values if value is not None)

    def explains(self, found: Value, tolerance: float = 0.0) -> bool:
        """True if mom itself may have left the control at `found`: then it may be put back. Otherwise another process has changed it.

        While the entry is in doubt, a number may be what the kernel made of `applied`, too: one that is nearer to it than what stood there
        before. A kernel that rounds to the nearest value that it can have takes no other. What is as far off, or farther, counts as another
        process's: a switch with three positions does not round.

        :param tolerance: by how much numbers may differ and still be the same
        """
        if found is not None and found == self.applied:
            return True  # as nearly always: asked of each guest that is resized
        for ours in self.ours:
            if isinstance(ours, int | float) and isinstance(found, int | float):
                if abs(ours - found) <= tolerance:
                    return True
            elif ours == found:
                return True
        if not self.in_doubt:
            return False
        stood = next(value for value in (self.found, self.earlier, self.before) if value is not None)
        numbers = [value for value in (found, self.applied, stood) if isinstance(value, int | float)]
        return len(numbers) == 3 and abs(numbers[0] - numbers[1]) < abs(numbers[2] - numbers[1])


def _others(values: Sequence[Value], *known: Value) -> tuple[Value, ...]:
    return tuple(value for value in values if value not in known) if values else ()


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `mom doctor`: what was looked at, what was found, and the cure."""

    severity: Severity
    subject: str
    message: str
    cure: str = ""


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that is wrong with the host as a whole, in one line. A plugin says it anew in each cycle for as long as it is so.

    `name` stays the same while the words change, such as `memory`: the core goes by it to say since when. What several plugins say
    under one name is one condition. `message` tells what is so now, `why` where it comes from, `cure` what the operator can do.
    `severity` is WARNING or ERROR; with ERROR the verdict is bad, and `mom status` ends with 1. In its first `after` seconds an
    ERROR counts as a WARNING: for what mom itself may still put right.

    The rest is the core's, in a verdict: `plugins` say it, `lasted` is for how many seconds, by a clock that never jumps; `since` the same
    as seconds since the epoch; `over` for how many seconds nobody has said it any more: with the severity OK, it is past. What is text
    is safe to be printed there.
    """

    name: str
    message: str
    why: str = ""
    cure: str = ""
    severity: Severity = Severity.ERROR
    after: float = 0.0
    plugins: Sequence[str] = ()
    since: float = 0.0
    lasted: float = 0.0
    over: float = 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """How the host is as a whole: the conditions that stand, the worst first, and then those that are past, with the severity OK."""

    conditions: Sequence[Condition] = ()

    @property
    def severity(self) -> Severity:
        """Of the worst condition; OK where none stands."""
        return self.conditions[0].severity if self.conditions else Severity.OK

    @property
    def is_bad(self) -> bool:
        """True if something is wrong now that the operator must see to."""
        return self.severity is Severity.ERROR


@dataclass(frozen=True, slots=True)
class Suggestion:
    """The part of a first configuration (`mom config init`) for a plugin that fits this host: why it fits, and the settings to start with.

    `order` is its place among the others, which is the order of precedence, along the way of the data: from 10 what reads the host, from 20
    hypervisors, from 40 controllers, from 60 evaluators, from 80 what other programs ask mom through. What has none comes last, by name.

    `guests` are settings of the plugin for guests to start with, by patterns as in the section `guests`, and `guests_reason` says why.
    """

    reason: str
    settings: Mapping[str, Value] = _field(default_factory=_nothing)
    order: int = 100
    guests: Mapping[str, Mapping[str, Value]] = _field(default_factory=dict)
    guests_reason: str = ""


class PluginState(StrEnum):
    """How a plugin is."""

    OK = "ok"
    FAILING = "failing"  #: its last call failed; it is called again
    SET_ASIDE = "set-aside"  #: it failed repeatedly and waits before it is tried again
    HUNG = "hung"  #: a call has not come back; it is not called before that


@dataclass(frozen=True, slots=True)
class PluginReport:
    """How one plugin fared: seconds that each hook took in this cycle, calls and failures since the start, and its last error."""

    name: str
    state: PluginState
    durations: Mapping[str, float]
    calls: int
    failures: int
    last_error: str = ""
    retry_in: float = 0.0


@dataclass(frozen=True, slots=True)
class Report:
    """All of one cycle. Recorder, metrics, `mom explain` and the API read only this.

    `decisions` are what the evaluators wanted, `revisions` what review did to them, `outcomes` what came of those that were
    left. `considered` is what would have been decided on trial, None without a trial. `verdict` is None where none was
    given. `duration` is the seconds that the cycle took, `lag` how late it began; `skipped` counts the scheduled cycles that an overlong
    one left out since the start. `woken_by` is empty for a scheduled cycle.
    """

    number: int
    time: float
    mode: str
    snapshot: Snapshot
    decisions: Sequence[Decision]
    revisions: Sequence[Revision]
    outcomes: Sequence[Outcome]
    problems: Sequence[Problem]
    plugins: Sequence[PluginReport]
    duration: float
    lag: float = 0.0
    skipped: int = 0
    woken_by: str = ""
    considered: Sequence[Decision] | None = None
    verdict: Verdict | None = None

    def differences(self) -> list[tuple[Entity, str, Value, Value]]:
        """Where what was considered differs from what was decided: entity, control, the value decided and the other one (None: none)."""
        if self.considered is None:
            return []
        decided = {(one.entity, one.control): one.value for one in self.decisions}
        considered = {(one.entity, one.control): one.value for one in self.considered}
        keys = dict.fromkeys([*decided, *considered])
        return [(*key, decided.get(key), considered.get(key)) for key in keys if decided.get(key) != considered.get(key)]


@dataclass(frozen=True, slots=True)
class EngineState:
    """The knowledge of an engine besides its reports.

    `started_at` is in seconds since the epoch, `problems` are those that stand, `file` is the
    configuration's (None: it came from a program), `distributions` gives each plugin's distribution and its version by the plugin's
    name, `changes` is what the ledger holds.
    """

    hypervisor: str = ""
    started_at: float = 0.0
    problems: Sequence[Problem] = ()
    file: str | None = None
    distributions: Mapping[str, tuple[str, str]] = _field(default_factory=dict)
    changes: Collection[LedgerEntry] = ()


def printable(text: str, limit: int = 80) -> str:
    """A name or message from outside, safe to print on one line: control characters escaped, at most `limit` characters."""
    shown = _escaped(text[: limit + 1], "")  # what is cut off anyway costs nothing
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def shown(value: object, limit: int = 60) -> str:
    """Return the `repr` of something from a plugin, safe to print."""
    return printable(repr(value), limit)


def first_names(names: Sequence[str], most: int = 5) -> str:
    """The first of these names from outside, safe to print, and how many more there are: `a, b and 3 more`."""
    shown = ", ".join(printable(name) for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def printable_lines(text: str) -> str:
    """A text of several lines from outside, safe to print: control characters escaped, but for line ends and tabs."""
    return _escaped(text, "\n\t")


def _escaped(text: str, kept: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in kept else c.encode("unicode_escape").decode("ascii") for c in text)
