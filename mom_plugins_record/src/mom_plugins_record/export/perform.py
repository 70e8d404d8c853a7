"""`mom record export`: writes the tables into a folder, all of them or none."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import click

from mom_core import MomError, Value, printable
from mom_plugins_record.export.files import CsvFile, ParquetFile
from mom_plugins_record.export.tables import Tables
from mom_plugins_record.recording.reader import Recording, nothing_in, rarely_collected

FILES: Final[Mapping[str, type[ParquetFile | CsvFile]]] = {"parquet": ParquetFile, "csv": CsvFile}

ROWS: Final = 50_000
"""Rows of each table that are held until they are written: some 25 MiB with 60 fields."""


def export(
    path: Path, output: Path, kind: str, guests: Sequence[str] = (), since: float = float("-inf"), until: float = float("inf")
) -> None:
    """Write the tables, and say how many rows they have. Raises `MomError`, and leaves nothing behind then.

    :param kind: one of `FILES`
    :param guests: patterns of names; none: all
    :param since: seconds since the epoch, as `until`
    """
    if kind == "parquet" and find_spec("pyarrow") is None:
        raise MomError(
            "Parquet needs pyarrow, which is not installed",
            hint=f"install it for the Python of mom: {sys.executable} -m pip install pyarrow; or write csv, which needs nothing",
        )
    recording = Recording(path)
    try:
        if output.exists() and any(output.iterdir()):
            raise MomError(f"{output} is not empty", hint="name another folder with -o")
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
    """Rows by table."""
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
        raise MomError(f"no guest that was recorded then is named {named}", hint="without --guest, all are written")
    return {name: table.rows for name, table in files.items()}


@dataclass(slots=True)
class _Table:
    """Rows that wait to be written, column by column."""

    file: ParquetFile | CsvFile
    waiting: list[list[Value]]
    rows: int = 0

    def add(self, columns: Sequence[Sequence[Value]]) -> None:
        """More of them; no columns: none."""
        for into, values in zip(self.waiting, columns, strict=False):
            into.extend(values)
        if len(self.waiting[0]) >= ROWS:
            self.flush()

    def flush(self) -> None:
        """Write them."""
        if self.waiting[0]:
            self.file.write(self.waiting)
            self.rows += len(self.waiting[0])
            self.waiting = [[] for _ in self.waiting]
