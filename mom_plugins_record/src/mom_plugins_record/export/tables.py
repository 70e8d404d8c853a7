"""The tables: their columns, named with units, and a cycle's rows of each."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, TypeAlias

from mom_core import Decision, FieldSpec, Report, Scope, Unit, Value
from mom_plugins_record.recording.cycles import CycleRead
from mom_plugins_record.recording.reader import RecordedCycle
from mom_plugins_record.recording.session import RecordedSession

WITHOUT_UNIT: Final = frozenset({Unit.COUNT, Unit.FLAG, Unit.TEXT, Unit.LIST})
"""Units of which columns' names have no suffix. Those of others end in the unit's name, such as `_kib_per_second`."""


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
ABOUT: Final[Schema] = {**CYCLE, "decision": Kind.WHOLE, "scope": Kind.TEXT, **GUEST, "control": Kind.TEXT, "unit": Kind.TEXT}
DECISIONS: Final[Schema] = {
    **ABOUT,
    "value": Kind.NUMBER,
    **dict.fromkeys(("value_json", "reason", "source"), Kind.TEXT),
    **dict.fromkeys(("source_line", "source_column"), Kind.WHOLE),
    **dict.fromkeys(("stage", "dropped_because"), Kind.TEXT),
}
"""`stage`: evaluation, review or trial. `value` is in `unit`; what is no number is in `value_json`. No
name is a word of SQL that would have to be quoted."""
OUTCOMES: Final[Schema] = {
    **ABOUT,
    **{"before": Kind.NUMBER, "before_json": Kind.TEXT, "after": Kind.NUMBER},
    **dict.fromkeys(("after_json", "status", "error"), Kind.TEXT),
}


def column_name(spec: FieldSpec) -> str:
    """Return a field's name with its unit, unless it ends in that already."""
    suffix = "" if spec.unit in WITHOUT_UNIT else f"_{spec.unit.name.lower()}"
    return spec.name if spec.name.endswith(suffix) else spec.name + suffix


def kind_of(unit: Unit) -> Kind:
    """As what values of a unit are written."""
    return Kind.TEXT if unit in {Unit.TEXT, Unit.LIST} else Kind.FLAG if unit is Unit.FLAG else Kind.NUMBER


@dataclass(slots=True)
class Tables:
    """Columns of fields, those of all sessions, and the rows that a cycle makes.

    :param patterns: of names of guests (none: all)
    """

    patterns: Sequence[str] = ()
    columns: dict[Scope, dict[str, Kind]] = field(default_factory=lambda: {scope: {} for scope in Scope})
    _session: RecordedSession | None = None
    _fields: dict[Scope, dict[str, str]] = field(default_factory=dict)
    """The session's fields, by column."""

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

    def columns_of(self, recorded: RecordedCycle) -> Mapping[str, Sequence[Sequence[Value]]]:
        """Return a cycle's rows of each table, column by column."""
        session = recorded.session
        if session is not self._session:
            self._session = session
            self._fields = {scope: {} for scope in Scope}
            for spec in session.fields:
                self._fields[spec.scope].setdefault(column_name(spec), spec.name)
        places = {id(decision): place for place, decision in enumerate(recorded.cycle.decisions)}
        return {
            "host": [(value,) for value in self._host_row(recorded.report)],
            "guests": self._guest_columns(recorded.cycle),
            "decisions": [*zip(*self._decisions(recorded, places), strict=True)],
            "outcomes": [*zip(*self._outcomes(recorded, places), strict=True)],
        }

    def _host_row(self, report: Report) -> Row:
        host = report.snapshot.host
        said = (host.name, report.mode, report.woken_by, report.duration, len(report.snapshot.guests))
        names = self._fields[Scope.HOST]
        return (*_when(report), *said, *(host.fields.get(names.get(name, "")) for name in self.columns[Scope.HOST]))

    def _guest_columns(self, cycle: CycleRead) -> Sequence[Sequence[Value]]:
        all_guests = [*cycle.report.snapshot.guests.values()]
        chosen = [place for place, guest in enumerate(all_guests) if self._is_chosen(guest.name)]
        guests, unknown = [all_guests[place] for place in chosen], [None] * len(all_guests)
        names = self._fields[Scope.GUEST]
        time, number = _when(cycle.report)
        columns: list[Sequence[Value]] = [[time] * len(guests), [number] * len(guests), [g.id for g in guests], [g.name for g in guests]]
        for name in self.columns[Scope.GUEST]:
            values = cycle.columns.get(names.get(name, ""), unknown)
            columns.append(values if len(guests) == len(values) else [values[place] for place in chosen])
        return columns

    def _is_chosen(self, name: str) -> bool:
        return not self.patterns or any(fnmatch.fnmatchcase(name, pattern) for pattern in self.patterns)

    def _about(self, recorded: RecordedCycle, decision: Decision, place: int) -> Row | None:
        """Return how a row of a decision begins; None: its guest is not asked for."""
        entity = decision.entity
        unit = next((str(spec.unit) for spec in recorded.session.controls if spec.name == decision.control), None)
        if entity.scope is Scope.HOST:
            return (*_when(recorded.report), place, str(entity.scope), None, None, decision.control, unit)
        if self._is_chosen(entity.name):
            return (*_when(recorded.report), place, str(entity.scope), entity.id, entity.name, decision.control, unit)
        return None

    def _decisions(self, recorded: RecordedCycle, places: Mapping[int, int]) -> Iterator[Row]:
        report, cycle = recorded.report, recorded.cycle
        tried = {id(item) for item in report.considered or ()}
        dropped = {id(revision.before): revision.reason for revision in report.revisions if revision.after is None}
        because = {id(revision.after): revision.reason for revision in report.revisions if revision.after is not None}
        for decision in cycle.decisions:
            place = places[id(decision)]
            about = self._about(recorded, decision, place)
            if about is None:
                continue
            stage = "evaluation" if place < len(report.decisions) else "trial" if id(decision) in tried else "review"
            yield (
                *about,
                decision.value,
                _as_json(decision.value),
                because.get(id(decision), decision.reason) if stage == "review" else decision.reason,
                *decision.source,
                stage,
                dropped.get(id(decision)),
            )

    def _outcomes(self, recorded: RecordedCycle, places: Mapping[int, int]) -> Iterator[Row]:
        for outcome in recorded.report.outcomes:
            about = self._about(recorded, outcome.decision, places[id(outcome.decision)])
            if about is not None:
                yield (
                    *about,
                    outcome.before,
                    _as_json(outcome.before),
                    outcome.after,
                    _as_json(outcome.after),
                    outcome.status,
                    outcome.error or None,
                )


def _when(report: Report) -> tuple[int, int]:
    """Return how a row of each table begins."""
    return round(report.time * 1e6), report.number


def _as_json(value: Value) -> str | None:
    """Return a value that is no number, as JSON."""
    number = value is None or (isinstance(value, int | float) and not isinstance(value, bool))
    return None if number else json.dumps(value, separators=(",", ":"))
