"""What stands in the tables: their columns, named with units, and a cycle's rows of each."""

from __future__ import annotations

import fnmatch
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, Final, TypeAlias

from mom_core import HOST_ID, FieldSpec, Guest, Scope, Unit, Value
from mom_plugins_record.recording.cycles import CycleRecord
from mom_plugins_record.recording.reader import RecordedSession

SUFFIXES: Final = {
    Unit.KIB: "_kib",
    Unit.BYTES: "_bytes",
    Unit.PAGES: "_pages",
    Unit.PERCENT: "_percent",
    Unit.RATIO: "_ratio",
    Unit.SECONDS: "_seconds",
    Unit.MILLISECONDS: "_milliseconds",
    Unit.MICROSECONDS: "_microseconds",
    Unit.KIB_PER_SECOND: "_kib_per_second",
    Unit.PAGES_PER_SECOND: "_pages_per_second",
    Unit.PER_SECOND: "_per_second",
    Unit.BYTES_PER_SECOND: "_bytes_per_second",
}
"""What a column's name says after the field's. Counts, flags, texts and lists have no unit."""


class Kind(Enum):
    """As what a column is written: `TIME` in whole microseconds since the epoch, `WHOLE` numbers of which none is unknown."""

    TIME = "time"
    WHOLE = "whole"
    NUMBER = "number"
    TEXT = "text"
    FLAG = "flag"


Schema: TypeAlias = Mapping[str, Kind]
"""The columns of a table in their order."""

Row: TypeAlias = tuple[Value, ...]
"""A row of a table, in the order of its columns; None: unknown."""

CYCLE: Final[Schema] = {"time": Kind.TIME, "cycle": Kind.WHOLE}
GUEST: Final[Schema] = {"guest_id": Kind.TEXT, "guest_name": Kind.TEXT}
DECISIONS: Final[Schema] = {
    **CYCLE,
    "decision": Kind.WHOLE,
    "scope": Kind.TEXT,
    **GUEST,
    "control": Kind.TEXT,
    "unit": Kind.TEXT,
    "value": Kind.NUMBER,
    "value_json": Kind.TEXT,
    "reason": Kind.TEXT,
    "why": Kind.TEXT,
    "source": Kind.TEXT,
    "source_line": Kind.WHOLE,
    "source_column": Kind.WHOLE,
    "stage": Kind.TEXT,
    "dropped_because": Kind.TEXT,
}
"""`why`: the policy's reason in words. `stage`: evaluation, review or trial. `value` is in `unit`; what is no number is in `value_json`. No
name is a word of SQL that would have to be quoted."""
OUTCOMES: Final[Schema] = {
    **CYCLE,
    "decision": Kind.WHOLE,
    "scope": Kind.TEXT,
    **GUEST,
    "control": Kind.TEXT,
    "unit": Kind.TEXT,
    "before": Kind.NUMBER,
    "before_json": Kind.TEXT,
    "after": Kind.NUMBER,
    "after_json": Kind.TEXT,
    "status": Kind.TEXT,
    "error": Kind.TEXT,
}


def column_name(spec: FieldSpec) -> str:
    """A field's name with its unit, unless it ends in that already."""
    suffix = SUFFIXES.get(spec.unit, "")
    return spec.name if spec.name.endswith(suffix) else spec.name + suffix


def kind_of(unit: Unit) -> Kind:
    """As what values of a unit are written."""
    return Kind.TEXT if unit in {Unit.TEXT, Unit.LIST} else Kind.FLAG if unit is Unit.FLAG else Kind.NUMBER


def plain(values: Sequence[Value], kind: Kind) -> Sequence[int | float | str | None]:
    """Values of one column as the standard library writes them. What is of another kind than is declared is unknown."""
    if kind is Kind.NUMBER:
        return [_number(value) for value in values]
    if kind is Kind.FLAG:
        return [None if value is None or isinstance(value, str) else bool(value) for value in values]
    if kind is Kind.TEXT:
        return [value if value is None or isinstance(value, str) else _json(value) for value in values]
    if kind is Kind.TIME:
        return [(_EPOCH + timedelta(microseconds=value)).isoformat(timespec="microseconds") for value in values if isinstance(value, int)]
    return [value for value in values if isinstance(value, int)]


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _number(value: Value) -> int | float | None:
    """Whole numbers stay such, as far as 64 bits go."""
    if not isinstance(value, int | float):
        return None
    if isinstance(value, float) or abs(value) < 1 << 63:
        return +value  # a flag counts as a number, too
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def cell(value: object) -> object:
    """A cell of CSV: a spreadsheet takes a text that begins so for a formula, and names of guests are their owners' to choose."""
    return f"'{value}" if isinstance(value, str) and value[:1] in {"=", "+", "-", "@", "\t", "\r"} else value


def _json(value: Value) -> str:
    return json.dumps(value, separators=(",", ":"))


def _otherwise(value: Value) -> str | None:
    """What is no number, as JSON."""
    return None if value is None or (isinstance(value, int | float) and not isinstance(value, bool)) else _json(value)


@dataclass(slots=True)
class FieldColumns:
    """The columns of one scope: all fields that any session declares, in the order in which they come up."""

    columns: dict[str, Kind] = field(default_factory=dict)
    names: dict[tuple[str, Unit], str] = field(default_factory=dict)

    def add(self, specs: Iterable[FieldSpec]) -> None:
        """Fields of one more session."""
        for spec in specs:
            name = column_name(spec)
            if (spec.name, spec.unit) not in self.names:
                self.names[(spec.name, spec.unit)] = name
                self.columns.setdefault(name, kind_of(spec.unit))


@dataclass(frozen=True, slots=True)
class SessionColumns:
    """Which fields of a session stand in the columns of the host (in their order; empty: none) and of guests (by column), and the units of
    its controls."""

    session: RecordedSession
    host: Sequence[str]
    guests: Mapping[str, str]
    units: Mapping[str, str]

    @classmethod
    def of(cls, session: RecordedSession, fields: Mapping[Scope, FieldColumns]) -> SessionColumns:
        """What this session has of these columns."""
        held: dict[Scope, dict[str, str]] = {scope: {} for scope in Scope}
        for spec in session.fields:
            held[spec.scope].setdefault(fields[spec.scope].names[spec.name, spec.unit], spec.name)
        host = [held[Scope.HOST].get(name, "") for name in host_columns(fields[Scope.HOST])]
        return cls(session, host, held[Scope.GUEST], {spec.name: str(spec.unit) for spec in session.controls})


class GuestRows:
    """Gathers cycles of the same guests, and makes rows of all of them at once: a column of 3,000 values takes as long as ten of 100."""

    def __init__(self, fields: FieldColumns, patterns: Sequence[str]) -> None:
        self._fields = {name: kind for name, kind in fields.columns.items() if name not in {**CYCLE, **GUEST}}
        self.schema: Schema = {**CYCLE, **GUEST, **self._fields}
        self._patterns = patterns
        self._guests: Sequence[Guest] = ()
        self._chosen: Sequence[int] = ()
        self._times: list[int] = []
        self._cycles: list[int] = []
        self._lists: dict[str, list[Value]] = {}

    def is_next(self, record: CycleRecord) -> bool:
        """Whether a cycle has the guests of those before it: if not, these are to be taken first."""
        return record.guests is self._guests

    @property
    def rows(self) -> int:
        """How many are gathered."""
        return len(self._times) * len(self._chosen)

    def add(self, record: CycleRecord, session: SessionColumns) -> None:
        """One more cycle. Raises `TypeError`, and has gathered nothing of it then."""
        if not self.is_next(record):
            self._guests = record.guests
            self._chosen = [p for p, guest in enumerate(record.guests) if not self._patterns or is_chosen(guest.name, self._patterns)]
            self._lists = {name: [] for name in self._fields}
        cycle = whole_number(record.content["cycle"])
        unknown = [None] * len(self._guests)
        everyone = len(self._chosen) == len(self._guests)
        for name, gathered in self._lists.items():
            values = record.columns.get(session.guests.get(name, ""), unknown)
            gathered.extend(values if everyone else [values[place] for place in self._chosen])
        self._times.append(round(record.time * 1e6))
        self._cycles.append(cycle)

    def take(self) -> Sequence[Sequence[Value]]:
        """The columns of what was gathered, which is forgotten."""
        cycles, count = len(self._times), len(self._chosen)
        columns: list[Sequence[Value]] = [
            [time for time in self._times for _ in range(count)],
            [cycle for cycle in self._cycles for _ in range(count)],
            [self._guests[place].id for place in self._chosen] * cycles,
            [self._guests[place].name for place in self._chosen] * cycles,
            *(self._lists.get(name, ()) for name in self._fields),
        ]
        self._times, self._cycles, self._lists = [], [], {name: [] for name in self._fields}
        return columns


def is_chosen(name: str, patterns: Sequence[str]) -> bool:
    """Whether a guest's name matches a pattern."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


HOST: Final[Schema] = {
    **CYCLE,
    **dict.fromkeys(("host", "mode", "woken_by"), Kind.TEXT),
    "cycle_seconds": Kind.NUMBER,
    "guest_count": Kind.NUMBER,
}


def host_columns(fields: FieldColumns) -> Schema:
    """The columns of the host's fields, which stand after `HOST`."""
    return {name: kind for name, kind in fields.columns.items() if name not in HOST}


def whole_number(value: Any) -> int:
    """A number that a column of integers takes. Raises `TypeError` for what is none."""
    if type(value) is not int or abs(value) >= 1 << 62:
        raise TypeError("there is something else where a whole number belongs")
    return value


def when(record: CycleRecord) -> Row:
    """How a row of each table begins."""
    return round(record.time * 1e6), whole_number(record.content["cycle"])


def host_row(record: CycleRecord, session: SessionColumns) -> Row:
    """The host in a cycle."""
    content, host = record.content, record.content["host"]
    said = (host["name"], content["mode"], content["woken_by"], content["duration"], len(record.guests))
    return (*when(record), *said, *map(host["fields"].get, session.host))


class Done:
    """What was decided in a cycle, and what came of it, as rows."""

    def __init__(self, record: CycleRecord, session: SessionColumns, wanted: Callable[[str], bool]) -> None:
        self._when = when(record)
        self._content = record.content
        self._units = session.units
        self._names = {guest.id: guest.name for guest in record.guests}
        self._places = {guest.id: place for place, guest in enumerate(record.guests)}
        self._reasons = self._content.get("reasons") or {}
        self._wanted = wanted
        listed = self._content.get("decisions")
        self._whom = [] if listed is None else [self._entity(said) for said in listed["entity"]]

    def _entity(self, said: Any) -> tuple[str, str | None, str | None]:
        if isinstance(said, str):
            return (str(Scope.HOST), None, None) if said == HOST_ID else (str(Scope.GUEST), said, self._names[said])
        scope, identity, name = said
        return (str(Scope(scope)), str(identity), str(name))

    def _about(self, place: int, control: str) -> Row:
        return (*self._when, place, *self._whom[place], control, self._units.get(control))

    def _is_wanted(self, place: int) -> bool:
        _, identity, name = self._whom[place]
        return identity is None or name is None or self._wanted(name)

    def _why(self, place: int, control: str) -> str | None:
        texts = self._reasons.get(control)
        at = self._places.get(self._whom[place][1] or "")
        return None if texts is None or at is None else texts[at] or None

    def decisions(self) -> Iterator[Row]:
        """A row for each decision."""
        listed = self._content.get("decisions")
        if listed is None:
            return
        tried = set(self._content.get("considered") or ())
        revised = self._content.get("revisions") or {"before": [], "after": [], "reason": []}
        dropped = {b: why for b, a, why in zip(revised["before"], revised["after"], revised["reason"], strict=True) if a is None}
        because = {a: why for a, why in zip(revised["after"], revised["reason"], strict=True) if a is not None}
        for place, (control, value, reason, (source, line, column)) in enumerate(
            zip(listed["control"], listed["value"], listed["reason"], listed["source"], strict=True)
        ):
            if not self._is_wanted(place):
                continue
            stage = "evaluation" if place < self._content["decided"] else "trial" if place in tried else "review"
            yield (
                *self._about(place, control),
                value,
                _otherwise(value),
                because.get(place, reason) if stage == "review" else reason,
                self._why(place, control) if stage == "evaluation" and line > 0 else None,
                source,
                whole_number(line),
                whole_number(column),
                stage,
                dropped.get(place),
            )

    def outcomes(self) -> Iterator[Row]:
        """A row for each outcome."""
        listed = self._content.get("outcomes")
        if listed is None:
            return
        controls = self._content["decisions"]["control"]
        for place, before, after, status, error in zip(
            listed["decision"], listed["before"], listed["after"], listed["status"], listed["error"], strict=True
        ):
            if self._is_wanted(place):
                about = self._about(place, controls[place])
                yield (*about, before, _otherwise(before), after, _otherwise(after), status, error or None)
