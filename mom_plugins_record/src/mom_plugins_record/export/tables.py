"""Tables of a recording: columns with units in their names, and rows from each cycle."""

from __future__ import annotations

import csv
import fnmatch
import json
import math
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import click

from mom_core import Decision, FieldSpec, MomError, Report, Scope, Unit, Value, printable
from mom_plugins_record.recording.cycles import CycleRead
from mom_plugins_record.recording.reader import RecordedCycle, Recording, nothing_in, rarely_collected
from mom_plugins_record.recording.session import RecordedSession

if TYPE_CHECKING:
    import pyarrow as pa

WITHOUT_UNIT: Final = frozenset({Unit.COUNT, Unit.FLAG, Unit.TEXT, Unit.LIST})
"""Units without a suffix in columns' names. Other names end in the unit, such as `_kib_per_second`."""


class Kind(Enum):
    """Kind of a column. `TIME` is in microseconds since the epoch. `WHOLE` is an integer that is never unknown."""

    TIME = "time"
    WHOLE = "whole"
    NUMBER = "number"
    TEXT = "text"
    FLAG = "flag"


Schema: TypeAlias = Mapping[str, Kind]

Row: TypeAlias = tuple[Value, ...]
"""Values of one row; None if unknown."""

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
"""`stage` is evaluation, review or trial. `value_json` contains values that are not numbers. No column's name needs quotes in SQL."""
OUTCOMES: Final[Schema] = {
    **ABOUT,
    **{"before": Kind.NUMBER, "before_json": Kind.TEXT, "after": Kind.NUMBER},
    **dict.fromkeys(("after_json", "status", "error"), Kind.TEXT),
}


def column_name(spec: FieldSpec) -> str:
    """Return a field's name with its unit as suffix, unless the name already ends in the unit."""
    suffix = "" if spec.unit in WITHOUT_UNIT else f"_{spec.unit.name.lower()}"
    return spec.name if spec.name.endswith(suffix) else spec.name + suffix


def kind_of(unit: Unit) -> Kind:
    """Return the kind of a column with this unit."""
    return Kind.TEXT if unit in {Unit.TEXT, Unit.LIST} else Kind.FLAG if unit is Unit.FLAG else Kind.NUMBER


@dataclass(slots=True)
class Tables:
    """Columns for the fields of all sessions, and rows for each cycle.

    :param patterns: patterns of guests' names to include; empty for all guests
    :param columns: fields of all sessions, filled by `declare`
    """

    patterns: Sequence[str] = ()
    columns: dict[Scope, dict[str, Kind]] = field(default_factory=lambda: {scope: {} for scope in Scope})
    _session: RecordedSession | None = None
    _fields: dict[Scope, dict[str, str]] = field(default_factory=dict)

    def declare(self, session: RecordedSession) -> None:
        """Add a column for each field of a session."""
        for spec in session.fields:
            if column_name(spec) not in (HOST if spec.scope is Scope.HOST else {**CYCLE, **GUEST}):
                self.columns[spec.scope].setdefault(column_name(spec), kind_of(spec.unit))

    @property
    def schemas(self) -> Mapping[str, Schema]:
        """Columns of each table, keyed by the table's name."""
        return {
            "host": {**HOST, **self.columns[Scope.HOST]},
            "guests": {**CYCLE, **GUEST, **self.columns[Scope.GUEST]},
            "decisions": DECISIONS,
            "outcomes": OUTCOMES,
        }

    def columns_of(self, recorded: RecordedCycle) -> Mapping[str, Sequence[Sequence[Value]]]:
        """Return the columns of a cycle's rows, keyed by table."""
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
        about = (host.name, report.mode, report.woken_by, report.duration, len(report.snapshot.guests))
        names = self._fields[Scope.HOST]
        return (*_when(report), *about, *(host.fields.get(names.get(name, "")) for name in self.columns[Scope.HOST]))

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
    return round(report.time * 1e6), report.number


def _as_json(value: Value) -> str | None:
    number = value is None or (isinstance(value, int | float) and not isinstance(value, bool))
    return None if number else json.dumps(value, separators=(",", ":"))


class ParquetFile:
    """Parquet table. Needs pyarrow."""

    def __init__(self, path: Path, schema: Schema) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        types: dict[Kind, pa.DataType] = {
            Kind.TIME: pa.timestamp("us", tz="UTC"),
            Kind.WHOLE: pa.int64(),
            Kind.NUMBER: pa.float64(),
            Kind.TEXT: pa.string(),
            Kind.FLAG: pa.bool_(),
        }
        self._kinds = [*schema.values()]
        self._schema = pa.schema([(name, types[kind]) for name, kind in schema.items()])
        texts = [name for name, kind in schema.items() if kind is Kind.TEXT]
        self._file = parquet.ParquetWriter(path, self._schema, compression="zstd", compression_level=1, use_dictionary=texts)

    def write(self, columns: Sequence[Sequence[Value]]) -> None:
        """Append rows, given as columns."""
        import pyarrow as pa

        arrays = [_array(*item) for item in zip(columns, self._schema.types, self._kinds, strict=True)]
        self._file.write_table(pa.Table.from_arrays(arrays, schema=self._schema))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _array(values: Sequence[Value], data_type: pa.DataType, kind: Kind) -> pa.Array:
    import pyarrow as pa

    try:
        return pa.array(values, data_type)  # fast, for values of the declared kind
    except (pa.ArrowException, OverflowError):
        converted = plain(values, kind)
        return pa.array([None if item is None else float(item) for item in converted] if kind is Kind.NUMBER else converted, data_type)


class CsvFile:
    """CSV table. Unknown values are empty. Text that looks like a formula begins with an apostrophe."""

    def __init__(self, path: Path, schema: Schema) -> None:
        self._kinds = [*schema.values()]
        self._file = path.open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._writer.writerow(map(cell, schema))

    def write(self, columns: Sequence[Sequence[Value]]) -> None:
        """Append rows, given as columns."""
        rows = zip(*map(plain, columns, self._kinds), strict=True)
        self._writer.writerows(map(cell, row) for row in rows)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


LARGEST: Final = (1 << 63) - 1

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def plain(values: Sequence[Value], kind: Kind) -> Sequence[int | float | str | None]:
    """Convert a column's values to Python's built-in types."""
    if kind is Kind.NUMBER:
        return [_number(value) for value in values]
    if kind is Kind.FLAG:
        return [None if value is None or isinstance(value, str) else bool(value) for value in values]
    if kind is Kind.TEXT:
        return [value if value is None or isinstance(value, str) else json.dumps(value, separators=(",", ":")) for value in values]
    if kind is Kind.TIME:
        return [(_EPOCH + timedelta(microseconds=value)).isoformat(timespec="microseconds") for value in values if isinstance(value, int)]
    return [max(-LARGEST, min(value, LARGEST)) for value in values if isinstance(value, int)]


def _number(value: Value) -> int | float | None:
    if not isinstance(value, int | float):
        return None
    if isinstance(value, float) or abs(value) < 1 << 63:
        return +value  # flags become numbers
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def cell(value: object) -> object:
    """Return a CSV cell. Text that may be a formula gets an apostrophe: guests' owners choose names."""
    return f"'{value}" if isinstance(value, str) and value[:1] in {"=", "+", "-", "@", "\t", "\r"} else value


FILES: Final[Mapping[str, type[ParquetFile | CsvFile]]] = {"parquet": ParquetFile, "csv": CsvFile}

ROWS: Final = 50_000
"""When this many rows are in memory, mom writes them: 25 MiB with 60 fields."""


def export(
    path: Path, output: Path, kind: str, guests: Sequence[str] = (), since: float = float("-inf"), until: float = float("inf")
) -> None:
    """Write the tables, and print how many rows each has. After a `MomError`, no files remain.

    :param kind: one of `FILES`
    :param guests: patterns of guests' names; empty for all guests
    :param since: seconds since the epoch
    """
    if kind == "parquet" and find_spec("pyarrow") is None:
        raise MomError(
            "Parquet needs pyarrow, which is not installed",
            hint=f"install it for mom's Python: {sys.executable} -m pip install pyarrow; or use csv",
        )
    recording = Recording(path)
    try:
        if output.exists() and any(output.iterdir()):
            raise MomError(f"{output} is not empty", hint="give the path of another folder with -o")
        output.absolute().parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.absolute().parent))
        try:
            with rarely_collected():
                written = _write(recording, folder, kind, guests, since, until)
            folder.chmod(0o750)
            if output.exists():
                output.rmdir()
            folder.rename(output)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    except OSError as error:
        raise MomError(f"cannot write {error.filename or output}: {error.strerror or error}") from error
    for name, rows in written.items():
        click.echo(f"{output / name}.{kind}: {rows} rows")
    if recording.damage:
        click.echo(f"mom: {recording.damage.summary()}", err=True)


def _write(recording: Recording, folder: Path, kind: str, guests: Sequence[str], since: float, until: float) -> dict[str, int]:
    tables = Tables(guests)
    for session in recording.sessions():
        tables.declare(session)
    cycles = 0
    with ExitStack() as stack:
        files = {}
        for name, schema in tables.schemas.items():
            file = FILES[kind](folder / f"{name}.{kind}", schema)
            stack.callback(file.close)
            files[name] = _Table(file, [[] for _ in schema])
        for recorded in recording.cycles(since, until):
            cycles += 1
            columns = tables.columns_of(recorded)
            for name, table in files.items():
                table.add(columns[name])
        for table in files.values():
            table.flush()
    if not cycles:
        raise nothing_in(recording)
    if guests and not files["guests"].rows:
        named = ", ".join(map(printable, guests))
        raise MomError(f"the recording has no guest named {named} in that period", hint="omit --guest to export all guests")
    return {name: table.rows for name, table in files.items()}


@dataclass(slots=True)
class _Table:
    file: ParquetFile | CsvFile
    waiting: list[list[Value]]
    rows: int = 0

    def add(self, columns: Sequence[Sequence[Value]]) -> None:
        for into, values in zip(self.waiting, columns, strict=False):
            into.extend(values)
        if len(self.waiting[0]) >= ROWS:
            self.flush()

    def flush(self) -> None:
        if self.waiting[0]:
            self.file.write(self.waiting)
            self.rows += len(self.waiting[0])
            self.waiting = [[] for _ in self.waiting]
