"""Records of a cycle, from the snapshot to the report. All are frozen.

Numbers are in the unit of their `FieldSpec` or `ControlSpec`. A missing field, or None, means unknown, not 0.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as _field
from enum import StrEnum
from types import MappingProxyType
from typing import ClassVar, Final, NamedTuple, TypeAlias

from mom_core.columns import Columns, GuestRow
from mom_core.texts import printable
from mom_core.units import Unit
from mom_core.values import Readable, as_number
from mom_core.values import Value as Value  # noqa: PLC0414  # re-export: part of the model

NO_VALUES: Mapping[str, Value] = MappingProxyType({})


_NUMBERS: Final = frozenset({int, float, type(None)})


def _nothing() -> Mapping[str, Value]:
    return NO_VALUES


class Scope(StrEnum):
    """Scope of a field or control: the host, or each guest."""

    HOST = "host"
    GUEST = "guest"


class Entity(NamedTuple):
    """Identity of the host or a guest. Hashable, and valid beyond a cycle.

    `id` is `host` or the guest's UUID. Another guest may get the `name` later.
    """

    scope: Scope
    id: str
    name: str

    def __str__(self) -> str:
        return printable(self.name)


@dataclass(frozen=True, slots=True)
class Host(Readable):
    """Host in one snapshot: measured `fields`, and `properties` (`name`, `interval` in seconds).

    Methods read a field as one type, None if unknown: `host.number("mem_free")`, `whole`, `text`, `items`.
    """

    ID: ClassVar[str] = "host"
    """Id of the host. No guest has it."""

    name: str = ID
    fields: Mapping[str, Value] = _field(default_factory=_nothing)
    properties: Mapping[str, Value] = _field(default_factory=_nothing)

    @property
    def entity(self) -> Entity:
        """Identity of the host."""
        return Entity(Scope.HOST, self.ID, self.name)


@dataclass(frozen=True, slots=True)
class Guest(Readable):
    """Guest in one snapshot, or as the hypervisor lists it (without fields).

    `properties` include `name`, `uuid`, and `pid` if known. `blocked` maps a control (or `*`) to the reason why mom cannot set it now:
    `{"balloon_target": "the guest has no balloon device"}`. A restart of the guest changes `incarnation`, and ends the guest's ledger
    entries.
    """

    id: str
    name: str
    fields: Mapping[str, Value] = _field(default_factory=_nothing)
    properties: Mapping[str, Value] = _field(default_factory=_nothing)
    blocked: Mapping[str, str] = _field(default_factory=dict)
    incarnation: str = ""

    @property
    def entity(self) -> Entity:
        """Identity of the guest."""
        return Entity(Scope.GUEST, self.id, self.name)

    def why_blocked(self, control: str) -> str:
        """Return why the control cannot be set now; an empty string if it can."""
        return self.blocked.get(control, "") or self.blocked.get("*", "") if self.blocked else ""


class GuestTable(Mapping[str, Guest]):
    """`Guest` objects of a snapshot, keyed by id and built on first access. Thread-safe."""

    __slots__ = ("_made", "_places", "columns", "listed")

    def __init__(self, listed: Sequence[Guest], columns: Columns) -> None:
        self.listed = listed
        self.columns = columns
        self._places = {guest.id: place for place, guest in enumerate(listed)}
        self._made: dict[str, Guest] = {}

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

    def _guest(self, place: int) -> Guest:
        guest = self.listed[place]
        return Guest(guest.id, guest.name, GuestRow(self.columns, place), guest.properties, guest.blocked, guest.incarnation)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """State of host and guests at one moment.

    `time` is in seconds since the epoch; `monotonic` in seconds, for durations. `guests` are sorted by name, then id. `history` is only for
    tests and recordings.
    """

    class Derived(NamedTuple):
        """Fields computed from a snapshot; `guests` maps guest ids to fields, or field names to columns in the guests' order."""

        host: Mapping[str, Value] = MappingProxyType({})
        guests: Mapping[str, Mapping[str, Value]] | Columns = MappingProxyType({})

    host: Host = _field(default_factory=Host)
    guests: Mapping[str, Guest] = _field(default_factory=dict)
    time: float = 0.0
    monotonic: float = 0.0
    number: int = 0
    history: Sequence[Snapshot] = ()

    @property
    def listed(self) -> Sequence[Guest]:
        """Guests in order, possibly without fields; faster than `guests`."""
        return self.guests.listed if isinstance(self.guests, GuestTable) else tuple(self.guests.values())

    @property
    def columns(self) -> Columns:
        """Fields of all guests, in order."""
        guests = self.guests
        return guests.columns if isinstance(guests, GuestTable) else Columns.of_rows([guest.fields for guest in guests.values()])

    def column(self, name: str) -> Sequence[Value]:
        """Return one field's values for all guests, in order; None where unknown."""
        guests = self.guests
        if not isinstance(guests, GuestTable):
            return [guest.fields.get(name) for guest in guests.values()]
        return guests.columns[name] if name in guests.columns else (None,) * len(guests)

    def numbers(self, name: str) -> Sequence[float | None]:
        """Return one field's values for all guests, converted by `as_number`."""
        values, guests = self.column(name), self.guests
        # Fast path: check the types of the whole column at once.
        types = guests.columns.types(name) if isinstance(guests, GuestTable) and name in guests.columns else set(map(type, values))
        return values if types <= _NUMBERS else [*map(as_number, values)]  # type: ignore[return-value]  # numbers, or None


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """Declaration of a field.

    `source` is the origin, for example `/proc/meminfo MemFree`. If the field is a suggestion, `reason` names the text field that explains
    it.
    """

    class Metric(StrEnum):
        """Metric type of an exported host field. NONE fields are not exported."""

        GAUGE = "gauge"
        COUNTER = "counter"
        NONE = "none"

    name: str
    unit: Unit
    scope: Scope
    description: str
    source: str = ""
    metric: FieldSpec.Metric = Metric.GAUGE
    collected: bool = True
    reason: str = ""

    @classmethod
    def reads(cls, name: str, unit: Unit, scope: Scope) -> FieldSpec:
        """Declare a field of another plugin. If no enabled plugin collects the field, its value is unknown."""
        return cls(name, unit, scope, "collected by another plugin, if it is enabled", collected=False)


@dataclass(frozen=True, slots=True)
class ControlSpec:
    """Declaration of a control: a setting that mom can change.

    :param field: field with the present value. While this value is unknown, mom does not set the control, because it could not restore it
    :param minimum: mom raises smaller values to this value; None if unbounded
    :param maximum: mom lowers larger values to this value; None if unbounded
    :param choices: allowed values if they are codes rather than amounts (0 stop, 1 run, 2 unmerge). The unit `flag` implies 0 and 1
    :param tolerance: largest difference between numbers that count as equal
    :param key: key that identifies an item of a list, for example `name`. mom judges and restores each item separately,
        and leaves alone the items that a list omits
    :param gradual: smallest step that counts as movement, for a control that moves slowly. 0 for a control that changes immediately. 1 for
        an act that takes time, for example a migration. The controller, not mom, decides whether a command is needed
    :param renewed: mom writes the value in every cycle, even if it is unchanged
    :param file: path of a host control's only kernel file, or the file's name in the guest's control group. For an unprivileged mom,
        mom-helper writes this file if a declaration installed by root lists it

    Values are integers unless `unit` is text, ratio, percent, seconds or list (of mappings). The controller checks limits that depend on
    the guest.
    """

    class InTransition(NamedTuple):
        """Value of a gradual control that is still moving to mom's setting."""

        value: Value

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
    gradual: float = 0.0
    renewed: bool = False
    file: str = ""

    def __post_init__(self) -> None:
        if self.unit is Unit.FLAG and not self.choices:
            object.__setattr__(self, "choices", (0, 1))
        if self.choices and self.minimum is None and self.maximum is None:
            object.__setattr__(self, "minimum", min(self.choices))
            object.__setattr__(self, "maximum", max(self.choices))


@dataclass(frozen=True, slots=True)
class DefaultPolicy:
    """Policy in the MOM policy language. An operator's policy of the same name replaces it.

    `name` defines the order: `10_…` to `90_…`.
    """

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class GuestColumn:
    """Column of the guest table. If columns have the same name, the first plugin's column is shown.

    :param fields: inputs of the values. mom omits the column if no plugin declares any of these fields
    :param about: description, as a sentence without its full stop
    :param place: position; smaller comes first
    :param rank: on narrow screens, the highest ranks disappear first; rank 0 stays. None for a metric without a column
    :param metric: metric name in base units; empty without a metric
    :param mark_from: smallest value that is highlighted
    :param made: function that computes the value from a guest's fields; if None, the value is the first known field
    """

    REMARKS: ClassVar[str] = "remarks"
    """Name of the last column, which joins remarks of several plugins."""

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
        """Name of the field that the column shows unchanged; for a computed column, a name that no field can have."""
        return self.fields[0] if self.made is None and len(self.fields) == 1 else f"column.{self.name}"

    def value(self, fields: Mapping[str, Value]) -> Value:
        """Return the value; None if it is unknown, or if the function failed."""
        if self.made is None:
            return next((value for name in self.fields if (value := fields.get(name)) is not None), None)
        try:
            return self.made(fields)
        except Exception:  # noqa: BLE001  # a plugin's function may raise anything
            return None

    def values(self, snapshot: Snapshot) -> Sequence[Value]:
        """Return the values for all guests, in order."""
        if self.made is None and len(self.fields) == 1:
            return snapshot.column(self.fields[0])
        rows = zip(*map(snapshot.column, self.fields), strict=True)
        return [self.value(dict(zip(self.fields, row, strict=True))) for row in rows]


Declaration: TypeAlias = FieldSpec | ControlSpec | DefaultPolicy | GuestColumn
"""Declaration of a plugin (`mom_declare`)."""


class Source(NamedTuple):
    """Origin of a decision: a policy with line and column, counted from 1, or a plugin, with 0 for both."""

    name: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.name}:{self.line}:{self.column}" if self.line else self.name


@dataclass(frozen=True, slots=True)
class Decision:
    """Request to set a control of an entity to a value, in the control's unit."""

    @dataclass(frozen=True, slots=True)
    class Trial:
        """Decisions on trial: reported, but neither reviewed nor applied."""

        decisions: Sequence[Decision]

        def signed(self, plugin: str) -> Decision.Trial:
            """Return a copy in which decisions without a source get the plugin as source."""
            return Decision.Trial(tuple(decision.signed(plugin) for decision in self.decisions))

    entity: Entity
    control: str
    value: Value
    reason: str = ""
    source: Source = Source("")

    def signed(self, plugin: str) -> Decision:
        """Return this decision; if the decision has no source, return a copy with the plugin as source."""
        return self if self.source.name else replace(self, source=Source(plugin))


@dataclass(frozen=True, slots=True)
class Revision:
    """Reviewer's change to a decision. If `after` is None, the reviewer dropped the decision."""

    before: Decision
    after: Decision | None
    reason: str
    reviewer: str = ""


class Severity(StrEnum):
    """Severity of a problem or finding."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Problem:
    """Fault that did not end the cycle. `source` is a plugin or a position in a policy.

    The engine sets `since` (seconds since the epoch) and `cycles`.
    """

    source: Source
    message: str
    entity: Entity | None = None
    severity: Severity = Severity.ERROR
    hint: str = ""
    since: float = 0.0
    cycles: int = 0


class Status(StrEnum):
    """Result of a decision."""

    APPLIED = "applied"  #: the hypervisor or kernel accepted it
    UNCHANGED = "unchanged"  #: the control had this value already; nothing was sent
    OBSERVED = "observed"  #: observe mode; nothing was sent
    REFUSED = "refused"  #: impossible, or mom could not restore it later; nothing was sent
    FAILED = "failed"  #: sent without success
    GONE = "gone"  #: the guest does not exist any more
    LEFT_ALONE = "left-alone"  #: on restore: another process changed the value since, so it stays


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of a decision, with the values before and after it; None if unknown."""

    decision: Decision
    before: Value
    after: Value
    status: Status
    error: str = ""


class Target(NamedTuple):
    """Control of an entity, to read or write."""

    entity: Entity
    control: str


class Change(NamedTuple):
    """Request to a controller: change a control from `found` (None if unknown) to `value`.

    `back` marks a restore, for which a controller may try harder.
    """

    target: Target
    value: Value
    found: Value
    back: bool = False
    source: Source = Source("")

    @property
    def entity(self) -> Entity:
        """Entity to change."""
        return self.target.entity

    @property
    def control(self) -> str:
        """Control to change."""
        return self.target.control


ATTEMPTS_KEPT: Final = 8
"""Maximum number of values, per ledger entry, that mom failed to set."""


class LedgerEntry(NamedTuple):
    """Change that mom must be able to undo.

    :param before: value before mom first changed the control
    :param applied: last value set, or about to be set when mom was interrupted
    :param time: time of the first change, in seconds since the epoch
    :param incarnation: the guest's incarnation at that time, or the host's boot id
    :param earlier: value that mom set before `applied`, possibly in force after an interruption. None if there is none
    :param attempted: last values that mom failed to set. If a command got no answer, its value may be in force
    :param found: value after the last change, if the kernel rounded `applied`. None if it is equal or unknown
    :param in_doubt: mom was interrupted before it recorded the result of the last change
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
        """Return the entry to record before mom sets another value."""
        earlier = self.earlier if self.applied in self.attempted else self.applied
        return self._replace(applied=applied, earlier=earlier, attempted=_others(self.attempted, applied, earlier), in_doubt=True)

    def failed(self, after: Value) -> LedgerEntry:
        """Return the entry to record after mom failed to set `applied`. `after` is the present value; None if unknown."""
        attempted = (*_others(self.attempted, self.applied), self.applied)[-ATTEMPTS_KEPT:]
        applied = self.applied if after is None else after
        return self._replace(applied=applied, attempted=_others(attempted, after), in_doubt=False)

    def succeeded(self, after: Value) -> LedgerEntry:
        """Return the entry to record after mom set `applied`. `after` is the present value; None if unknown."""
        rounded = None if after == self.applied else after
        if self.applied not in self.attempted and rounded == self.found and not self.in_doubt:
            return self
        return self._replace(attempted=_others(self.attempted, self.applied), found=rounded, in_doubt=False)

    def resolved(self, present: Value) -> LedgerEntry:
        """Return the entry without `in_doubt`. `present` (None if the ledger cannot store it) shows whether mom made its change."""
        if not self.explains(present):
            return self._replace(in_doubt=False)
        was_not_set = present not in (self.applied, None) and present in (self.found, self.earlier, self.before, *self.attempted)
        return self.failed(present) if was_not_set else self.succeeded(present)

    @property
    def ours(self) -> tuple[Value, ...]:
        """Values that mom may have set, and `before`, the original value."""
        values = (self.applied, self.found, self.earlier, *reversed(self.attempted), self.before)
        return tuple(value for value in values if value is not None)

    def explains(self, found: Value, tolerance: float = 0.0) -> bool:
        """Return whether mom may have caused this value.

        An entry in doubt also explains a number nearer to `applied` than the previous value was, because the kernel may round.
        """
        if found is not None and found == self.applied:
            return True  # fast path
        for ours in self.ours:
            if isinstance(ours, int | float) and isinstance(found, int | float):
                if abs(ours - found) <= tolerance:
                    return True
            elif ours == found:
                return True
        if not self.in_doubt:
            return False
        previous = next(value for value in (self.found, self.earlier, self.before) if value is not None)
        numbers = [value for value in (found, self.applied, previous) if isinstance(value, int | float)]
        return len(numbers) == 3 and abs(numbers[0] - numbers[1]) < abs(numbers[2] - numbers[1])


def _others(values: Sequence[Value], *excluded: Value) -> tuple[Value, ...]:
    return tuple(value for value in values if value not in excluded) if values else ()


@dataclass(frozen=True, slots=True)
class Finding:
    """Line of `mom doctor`: its subject, the result, and advice."""

    severity: Severity
    subject: str
    message: str
    cure: str = ""


@dataclass(frozen=True, slots=True)
class Condition:
    """Fault of the whole host, with its cause (`why`) and advice (`cure`). A plugin returns it in every cycle while it lasts.

    :param name: constant, for example `memory`; mom joins conditions of this name from several plugins
    :param severity: WARNING, or ERROR, which makes the verdict bad and `mom status` exit with 1
    :param after: seconds for which an ERROR counts as a WARNING, while mom may still fix it

    In a verdict, the core sets the reporting `plugins`, the duration `lasted` in seconds, and the start `since` in seconds since the epoch.
    A condition stays in the verdict for a minute after its end, `over` seconds ago. Texts in a verdict are safe to print.
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


GUESTS: Final = "guests"
"""Name of the condition that the list of guests is unknown."""

CORE: Final = "core"
"""Name of mom itself among the plugins' names."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """State of the whole host: its conditions, the worst first."""

    conditions: Sequence[Condition] = ()

    @property
    def severity(self) -> Severity:
        """Worst severity; OK without any condition."""
        return self.conditions[0].severity if self.conditions else Severity.OK

    @property
    def is_bad(self) -> bool:
        """True if the operator must act."""
        return self.severity is Severity.ERROR

    @property
    def guests_unknown(self) -> Condition | None:
        """Condition that the list of guests is unknown, or None. The condition may outlast the failure."""
        return next((each for each in self.conditions if each.name == GUESTS and CORE in each.plugins and not each.over), None)


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Part of a first configuration (`mom config init`) for a plugin that fits this host.

    :param order: 10 host readers, 20 hypervisors, 40 controllers, 60 evaluators, 80 interfaces, 100 others; equal numbers are sorted by
        name
    :param guests: settings by guest pattern; `guests_reason` explains them
    """

    reason: str
    settings: Mapping[str, Value] = _field(default_factory=_nothing)
    order: int = 100
    guests: Mapping[str, Mapping[str, Value]] = _field(default_factory=dict)
    guests_reason: str = ""


@dataclass(frozen=True, slots=True)
class PluginReport:
    """Health of a plugin: seconds per hook in this cycle, calls and failures since the plugin's start."""

    class State(StrEnum):
        """State of a plugin."""

        OK = "ok"
        FAILING = "failing"  #: its last call failed; mom calls it again
        SET_ASIDE = "set-aside"  #: it failed repeatedly; mom retries it later
        HUNG = "hung"  #: a call has not returned; mom does not call it before that

    name: str
    state: PluginReport.State
    durations: Mapping[str, float]
    calls: int
    failures: int
    last_error: str = ""
    retry_in: float = 0.0


@dataclass(frozen=True, slots=True)
class Report:
    """Record of one cycle.

    :param decisions: decisions and acts before review
    :param outcomes: results of the reviewed decisions
    :param lag: delay of the cycle's start in seconds
    :param skipped: cycles skipped since mom's start because earlier cycles took too long
    :param woken_by: reason of an unscheduled cycle
    :param considered: decisions on trial; None without a trial
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

    @property
    def guests_unknown(self) -> Condition | None:
        """Condition that explains why no guests are listed; None if guests are listed, or the host has none."""
        return None if self.snapshot.guests or self.verdict is None else self.verdict.guests_unknown

    def differences(self) -> list[tuple[Entity, str, Value, Value]]:
        """Return where a trial decides differently: entity, control, decided value, trial's value. A value None means no decision."""
        if self.considered is None:
            return []
        decided = {(decision.entity, decision.control): decision.value for decision in self.decisions}
        considered = {(decision.entity, decision.control): decision.value for decision in self.considered}
        keys = dict.fromkeys([*decided, *considered])
        return [(*key, decided.get(key), considered.get(key)) for key in keys if decided.get(key) != considered.get(key)]


@dataclass(frozen=True, slots=True)
class EngineState:
    """State of an engine, in addition to its reports.

    :param started_at: seconds since the epoch
    :param file: path of the configuration; None if a program passed it
    :param distributions: distribution and version, keyed by plugin
    :param changes: ledger entries
    """

    hypervisor: str = ""
    started_at: float = 0.0
    problems: Sequence[Problem] = ()
    file: str | None = None
    distributions: Mapping[str, tuple[str, str]] = _field(default_factory=dict)
    changes: Collection[LedgerEntry] = ()
