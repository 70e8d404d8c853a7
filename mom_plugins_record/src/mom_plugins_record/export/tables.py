"""What stands in the tables: their columns, named with units, and a cycle's rows of each."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
HOST: Final[Schema] = {
    **CYCLE,
    **dict.fromkeys(("host", "mode", "woken_by"), Kind.TEXT),
    **dict.fromkeys(("cycle_seconds", "guest_count"), Kind.NUMBER),
}
ABOUT: Final[Schema] = {
    **CYCLE,
    "decision": Kind.WHOLE,
    "scope": Kind.TEXT,
    **GUEST,
    "control": Kind.TEXT,
    "unit": Kind.TEXT,
}
DECISIONS: Final[Schema] = {
    **ABOUT,
    "value": Kind.NUMBER,
    **dict.fromkeys(("value_json", "reason", "why", "source"), Kind.TEXT),
    **dict.fromkeys(("source_line", "source_column"), Kind.WHOLE),
    **dict.fromkeys(("stage", "dropped_because"), Kind.TEXT),
}
"""`why`: the policy's reason in words. `stage`: evaluation, review or trial. `value` is in `unit`; what is no number is in `value_json`. No
name is a word of SQL that would have to be quoted."""
OUTCOMES: Final[Schema] = {
    **ABOUT,
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


def is_chosen(name: str, patterns: Sequence[str]) -> bool:
    """Whether a guest's name matches a pattern; without any, all do."""
    return not patterns or any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


@dataclass(slots=True)
class Tables:
    """The columns of fields, those of all sessions, and the rows that a cycle makes.

    :param patterns: of names of guests (none: all)
    """

    patterns: Sequence[str] = ()
    columns: dict[Scope, dict[str, Kind]] = field(default_factory=lambda: {scope: {} for scope in Scope})
    _session: RecordedSession | None = None
    _fields: dict[Scope, dict[str, str]] = field(default_factory=dict)
    """The session's fields, by column."""
    _units: dict[str, str] = field(default_factory=dict)
    _guests: Sequence[Guest] = ()
    _chosen: Sequence[int] = ()

    def declare(self, session: RecordedSession) -> None:
        """Fields of one more session."""
        for spec in session.fields:
            if column_name(spec) not in (HOST if spec.scope is Scope.HOST else {**CYCLE, **GUEST}):
                self.columns[spec.scope].setdefault(column_name(spec), kind_of(spec.unit))

    @property
    def schemas(self) -> Mapping[str, Schema]:
        """By table."""
        return {
            "host": {**HOST, **self.columns[Scope.HOST]},
            "guests": {**CYCLE, **GUEST, **self.columns[Scope.GUEST]},
            "decisions": DECISIONS,
            "outcomes": OUTCOMES,
        }

    def columns_of(self, record: CycleRecord, session: RecordedSession) -> Mapping[str, Sequence[Sequence[Value]]]:
        """A cycle's rows of each table, column by column. Raises `TypeError` and its like for what no recorder has written."""
        if session is not self._session:
            self._session = session
            self._fields = {scope: {} for scope in Scope}
            for spec in session.fields:
                self._fields[spec.scope].setdefault(column_name(spec), spec.name)
            self._units = {spec.name: str(spec.unit) for spec in session.controls}
        done = _Done(record, self._units, self.patterns)
        return {
            "host": [(value,) for value in self._host_row(record)],
            "guests": self._guest_columns(record),
            "decisions": [*zip(*done.decisions(), strict=True)],
            "outcomes": [*zip(*done.outcomes(), strict=True)],
        }

    def _host_row(self, record: CycleRecord) -> Row:
        content, host = record.content, record.content["host"]
        said = (host["name"], content["mode"], content["woken_by"], content["duration"], len(record.guests))
        names = self._fields[Scope.HOST]
        return (*_when(record), *said, *(host["fields"].get(names.get(name, "")) for name in self.columns[Scope.HOST]))

    def _guest_columns(self, record: CycleRecord) -> Sequence[Sequence[Value]]:
        if record.guests is not self._guests:
            self._guests = record.guests
            self._chosen = [place for place, guest in enumerate(record.guests) if is_chosen(guest.name, self.patterns)]
        guests = [self._guests[place] for place in self._chosen]
        unknown = [None] * len(self._guests)
        names = self._fields[Scope.GUEST]
        time, cycle = _when(record)
        columns: list[Sequence[Value]] = [[time] * len(guests), [cycle] * len(guests), [g.id for g in guests], [g.name for g in guests]]
        for name in self.columns[Scope.GUEST]:
            values = record.columns.get(names.get(name, ""), unknown)
            columns.append(values if len(guests) == len(values) else [values[place] for place in self._chosen])
        return columns


def _whole_number(value: Any) -> int:
    """A number that a column of integers takes. Raises `TypeError` for what is none."""
    if type(value) is not int or abs(value) >= 1 << 62:
        raise TypeError("there is something else where a whole number belongs")
    return value


def _when(record: CycleRecord) -> tuple[int, int]:
    """How a row of each table begins."""
    return round(record.time * 1e6), _whole_number(record.content["cycle"])


def _as_json(value: Value) -> str | None:
    """What is no number, as JSON."""
    number = value is None or (isinstance(value, int | float) and not isinstance(value, bool))
    return None if number else json.dumps(value, separators=(",", ":"))


class _Done:
    """What was decided in a cycle, and what came of it, as rows."""

    def __init__(self, record: CycleRecord, units: Mapping[str, str], patterns: Sequence[str]) -> None:
        self._when = _when(record)
        self._content = record.content
        self._units = units
        self._patterns = patterns
        self._names = {guest.id: guest.name for guest in record.guests}
        self._places = {guest.id: place for place, guest in enumerate(record.guests)}
        self._reasons = self._content.get("reasons") or {}
        self._listed = self._content.get("decisions") or {}
        self._whom = [self._entity(said) for said in self._listed.get("entity", ())]

    def _entity(self, said: Any) -> tuple[str, str | None, str | None]:
        if isinstance(said, str):
            return (str(Scope.HOST), None, None) if said == HOST_ID else (str(Scope.GUEST), said, self._names[said])
        scope, identity, name = said
        return (str(Scope(scope)), str(identity), str(name))

    def _about(self, place: int, control: str) -> Row:
        return (*self._when, place, *self._whom[place], control, self._units.get(control))

    def _is_chosen(self, place: int) -> bool:
        name = self._whom[place][2]
        return name is None or is_chosen(name, self._patterns)

    def _why(self, place: int, control: str) -> str | None:
        texts = self._reasons.get(control)
        at = self._places.get(self._whom[place][1] or "")
        return None if texts is None or at is None else texts[at] or None

    def decisions(self) -> Iterator[Row]:
        """A row for each decision."""
        if not self._listed:
            return
        tried = set(self._content.get("considered") or ())
        revised = self._content.get("revisions") or {"before": [], "after": [], "reason": []}
        revisions = [*zip(revised["before"], revised["after"], revised["reason"], strict=True)]
        dropped = {before: why for before, after, why in revisions if after is None}
        because = {after: why for _, after, why in revisions if after is not None}
        parts = (self._listed[name] for name in ("control", "value", "reason", "source"))
        for place, (control, value, reason, (source, line, column)) in enumerate(zip(*parts, strict=True)):
            if not self._is_chosen(place):
                continue
            stage = "evaluation" if place < self._content["decided"] else "trial" if place in tried else "review"
            yield (
                *self._about(place, control),
                value,
                _as_json(value),
                because.get(place, reason) if stage == "review" else reason,
                self._why(place, control) if stage == "evaluation" and line > 0 else None,
                source,
                _whole_number(line),
                _whole_number(column),
                stage,
                dropped.get(place),
            )

    def outcomes(self) -> Iterator[Row]:
        """A row for each outcome."""
        listed = self._content.get("outcomes")
        if listed is None:
            return
        parts = (listed[name] for name in ("decision", "before", "after", "status", "error"))
        for place, before, after, status, error in zip(*parts, strict=True):
            if self._is_chosen(place):
                about = self._about(place, self._listed["control"][place])
                yield (*about, before, _as_json(before), after, _as_json(after), status, error or None)
