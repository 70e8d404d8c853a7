"""`mom record export`: writes the tables into a folder, all of them or none."""

from __future__ import annotations

import csv
import json
import math
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Protocol

import click

from mom_core import MomError, Scope, Value, printable
from mom_plugins_record.export.tables import (
    DECISIONS,
    HOST,
    OUTCOMES,
    Done,
    FieldColumns,
    GuestRows,
    Row,
    Schema,
    SessionColumns,
    cell,
    host_columns,
    host_row,
    is_chosen,
    plain,
)
from mom_plugins_record.recording.reader import Recording, nothing_in, rarely_collected

PARQUET: Final = "parquet"

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

    def write(self, columns: Sequence[Sequence[Value]]) -> None:
        """Rows more, column by column."""
        ...

    def close(self) -> None:
        """That was all."""
        ...


def perform(path: Path, output: Path, options: ExportOptions) -> None:
    """Write the tables, and say how many rows they have. Raises `MomError`, and leaves nothing behind then."""
    if options.kind == PARQUET and find_spec("pyarrow") is None:
        raise MomError(
            "Parquet needs pyarrow, which is not installed",
            hint=f"install it for the Python of mom: {sys.executable} -m pip install pyarrow; or write csv or jsonl, which need nothing",
        )
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

        def table(name: str, schema: Schema) -> _Table:
            made = _Table(_opened(folder / f"{name}.{options.kind}", schema, options.kind))
            stack.callback(made.file.close)
            return made

        tables = {
            "host": table("host", {**HOST, **host_columns(fields[Scope.HOST])}),
            "guests": table("guests", maker.schema),
            "decisions": table("decisions", DECISIONS),
            "outcomes": table("outcomes", OUTCOMES),
        }
        for record, session in recording.records(options.since, options.until):
            if held is None or held.session is not session:
                held = SessionColumns.of(session, fields)
            try:
                done = Done(record, held, wanted)
                rows = {"host": [host_row(record, held)], "decisions": [*done.decisions()], "outcomes": [*done.outcomes()]}
                if maker.rows >= ROWS or not maker.is_next(record):
                    tables["guests"].add_columns(maker.take())
                maker.add(record, held)
            except (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError) as error:
                recording.damage.places.append(f"cycle at {record.time}: {printable(str(error), 200)}")
                recording.damage.cycles += 1
                continue
            cycles += 1
            for name, made in rows.items():
                tables[name].add(made)
        tables["guests"].add_columns(maker.take())
        for one in tables.values():
            one.flush()
    if not cycles:
        raise nothing_in(recording)
    return {name: one.rows for name, one in tables.items()}


@dataclass(slots=True)
class _Table:
    """Rows that wait to be written."""

    file: TableFile
    rows: int = 0
    _waiting: list[Row] = field(default_factory=list)

    def add(self, rows: Sequence[Row]) -> None:
        """More of them."""
        self._waiting.extend(rows)
        if len(self._waiting) >= ROWS // 10:
            self.flush()

    def add_columns(self, columns: Sequence[Sequence[Value]]) -> None:
        """Rows in columns."""
        if columns[0]:
            self.file.write(columns)
            self.rows += len(columns[0])

    def flush(self) -> None:
        """Write them."""
        if self._waiting:
            self.add_columns([*zip(*self._waiting, strict=True)])
            self._waiting = []


def _opened(path: Path, schema: Schema, kind: str) -> TableFile:
    if kind == PARQUET:
        from mom_plugins_record.export.parquet import ParquetTable

        return ParquetTable(path, schema)
    return (_Csv if kind == "csv" else _JsonLines)(path, schema)


class _Text:
    """A table as lines of text."""

    def __init__(self, path: Path, schema: Schema) -> None:
        self.schema = schema
        self.file = path.open("w", encoding="utf-8", newline="")

    def rows(self, columns: Sequence[Sequence[Value]]) -> Iterator[tuple[int | float | str | None, ...]]:
        """With values as they are written."""
        return zip(*(plain(values, kind) for values, kind in zip(columns, self.schema.values(), strict=True)), strict=True)

    def close(self) -> None:
        self.file.close()


class _Csv(_Text):
    """What is unknown is empty. A text that a spreadsheet would compute begins with an apostrophe."""

    def __init__(self, path: Path, schema: Schema) -> None:
        super().__init__(path, schema)
        self._writer = csv.writer(self.file, lineterminator="\n")
        self._writer.writerow(map(cell, schema))

    def write(self, columns: Sequence[Sequence[Value]]) -> None:
        self._writer.writerows(map(cell, row) for row in self.rows(columns))


class _JsonLines(_Text):
    """A line of JSON for each row, without what is unknown, or no number that JSON has."""

    def write(self, columns: Sequence[Sequence[Value]]) -> None:
        for row in self.rows(columns):
            known = {name: value for name, value in zip(self.schema, row, strict=True) if _is_known(value)}
            self.file.write(json.dumps(known, separators=(",", ":")) + "\n")


def _is_known(value: object) -> bool:
    return value is not None and (not isinstance(value, float) or math.isfinite(value))
