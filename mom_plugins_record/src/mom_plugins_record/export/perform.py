"""`mom record export`: writes the tables into a folder, all of them or none."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import click

from mom_core import MomError, Scope, printable
from mom_plugins_record.recording.reader import Recording, nothing_in, rarely_collected

if TYPE_CHECKING:
    import pyarrow as pa

    from mom_plugins_record.export.tables import Row

ROWS: Final = 200_000
"""Rows that are held until they are written: some 100 MiB with 60 fields."""


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What was asked for: one of the formats, patterns of guests' names (none: all), seconds since the epoch."""

    kind: str
    guests: Sequence[str] = ()
    since: float = float("-inf")
    until: float = float("inf")


class TableFile(Protocol):
    """A table that is being written."""

    def write_table(self, table: pa.Table) -> None:
        """Rows more."""
        ...

    def close(self) -> None:
        """That was all."""
        ...


def perform(path: Path, output: Path, options: ExportOptions) -> None:
    """Write the tables, and say how many rows they have. Raises `MomError`, and leaves nothing behind then."""
    try:
        import pyarrow  # noqa: F401  # whether it is there
    except ImportError as error:
        raise MomError("tables need pyarrow", hint="pip install pyarrow, for the Python of mom") from error
    recording = Recording(path)
    try:
        if output.exists() and any(output.iterdir()):
            raise MomError(f"{output} is not empty", hint="name another folder with -o")
        output.absolute().parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.absolute().parent))
        try:
            with rarely_collected():
                written = _write(recording, folder, options)
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
        click.echo(f"{output / name}.{options.kind}: {rows} rows")
    if recording.damage:
        click.echo(f"mom: {recording.damage.told()}", err=True)


def _write(recording: Recording, folder: Path, options: ExportOptions) -> dict[str, int]:
    import pyarrow as pa

    from mom_plugins_record.export.tables import (
        DECISIONS,
        HOST,
        OUTCOMES,
        Done,
        FieldColumns,
        GuestRows,
        SessionColumns,
        host_columns,
        host_row,
        is_chosen,
    )

    fields = {scope: FieldColumns() for scope in Scope}
    for session in recording.sessions():
        for scope in Scope:
            fields[scope].add(spec for spec in session.fields if spec.scope is scope)
    maker = GuestRows(fields[Scope.GUEST], options.guests)
    held: SessionColumns | None = None

    def wanted(name: str) -> bool:
        return not options.guests or is_chosen(name, options.guests)

    cycles = 0
    with ExitStack() as stack:

        def table(name: str, schema: pa.Schema) -> _Table:
            made = _Table(_opened(folder / f"{name}.{options.kind}", schema, options.kind), schema)
            stack.callback(made.file.close)
            return made

        tables = {
            "host": table("host", pa.schema([*HOST, *host_columns(fields[Scope.HOST]).items()])),
            "guests": table("guests", maker.schema),
            "decisions": table("decisions", pa.schema(DECISIONS)),
            "outcomes": table("outcomes", pa.schema(OUTCOMES)),
        }
        for record, session in recording.records(options.since, options.until):
            if held is None or held.session is not session:
                held = SessionColumns.of(session, fields)
            try:
                done = Done(record, held, wanted)
                rows = {"host": [host_row(record, held)], "decisions": [*done.decisions()], "outcomes": [*done.outcomes()]}
                if maker.rows >= ROWS or not maker.is_next(record):
                    tables["guests"].add_batch(maker.take())
                maker.add(record, held)
            except (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError, pa.ArrowException) as error:
                recording.damage.places.append(f"cycle at {record.time}: {printable(str(error), 200)}")
                recording.damage.cycles += 1
                continue
            cycles += 1
            for name, made in rows.items():
                tables[name].add(made)
        tables["guests"].add_batch(maker.take())
        for one in tables.values():
            one.flush()
    if not cycles:
        raise nothing_in(recording)
    return {name: one.rows for name, one in tables.items()}


@dataclass(slots=True)
class _Table:
    """Rows that wait to be written."""

    file: TableFile
    schema: pa.Schema
    rows: int = 0
    _waiting: list[Row] = field(default_factory=list)
    _batches: list[pa.RecordBatch] = field(default_factory=list)
    _held: int = 0

    def add(self, rows: Sequence[Row]) -> None:
        """More of them."""
        self._waiting.extend(rows)
        self._held += len(rows)
        if self._held >= ROWS // 10:
            self.flush()

    def add_batch(self, batch: pa.RecordBatch) -> None:
        """Rows in columns."""
        if not batch.num_rows:
            return
        self._batches.append(batch)
        self._held += batch.num_rows
        if self._held >= ROWS:
            self.flush()

    def flush(self) -> None:
        """Write them."""
        import pyarrow as pa

        from mom_plugins_record.export.tables import as_column

        if self._waiting:
            columns = [as_column(values, one.type) for values, one in zip(zip(*self._waiting, strict=True), self.schema, strict=True)]
            self._batches.append(pa.RecordBatch.from_arrays(columns, schema=self.schema))
            self._waiting = []
        if self._batches:
            self.file.write_table(pa.Table.from_batches(self._batches, self.schema).combine_chunks())
            self.rows += self._held
        self._batches, self._held = [], 0


def _opened(path: Path, schema: pa.Schema, kind: str) -> TableFile:
    if kind == "parquet":
        from pyarrow import parquet

        texts = [one.name for one in schema if str(one.type) == "string"]
        writer: TableFile = parquet.ParquetWriter(path, schema, compression="zstd", compression_level=1, use_dictionary=texts)
        return writer
    if kind == "csv":
        from pyarrow import csv

        rows: TableFile = csv.CSVWriter(path, schema)
        return rows
    return _JsonLines(path)


class _JsonLines:
    """A line of JSON for each row, without what is unknown."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")

    def write_table(self, table: pa.Table) -> None:
        names = table.column_names
        for row in zip(*(column.to_pylist() for column in table.columns), strict=True):
            known = {name: value for name, value in zip(names, row, strict=True) if value is not None}
            self._file.write(json.dumps(known, separators=(",", ":"), default=_moment) + "\n")

    def close(self) -> None:
        self._file.close()


def _moment(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    raise TypeError(type(value).__name__)
