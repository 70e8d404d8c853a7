"""The kinds of files that tables are written to."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mom_core import Value
from mom_plugins_record.export.tables import Kind, Schema

if TYPE_CHECKING:
    import pyarrow as pa


class ParquetFile:
    """Only kind that needs pyarrow."""

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
        """Rows more, column by column."""
        import pyarrow as pa

        arrays = [_array(*item) for item in zip(columns, self._schema.types, self._kinds, strict=True)]
        self._file.write_table(pa.Table.from_arrays(arrays, schema=self._schema))

    def close(self) -> None:
        """That was all."""
        self._file.close()


def _array(values: Sequence[Value], wanted: pa.DataType, kind: Kind) -> pa.Array:
    import pyarrow as pa

    try:
        return pa.array(values, wanted)  # where all are of the kind that is declared, as nearly always: in a part of the time
    except (pa.ArrowException, OverflowError):
        known = plain(values, kind)
        return pa.array([None if item is None else float(item) for item in known] if kind is Kind.NUMBER else known, wanted)


class CsvFile:
    """Unknown values are empty. A text that a spreadsheet would compute begins with an apostrophe."""

    def __init__(self, path: Path, schema: Schema) -> None:
        self._kinds = [*schema.values()]
        self._file = path.open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._writer.writerow(map(cell, schema))

    def write(self, columns: Sequence[Sequence[Value]]) -> None:
        """Rows more, column by column."""
        rows = zip(*map(plain, columns, self._kinds), strict=True)
        self._writer.writerows(map(cell, row) for row in rows)

    def close(self) -> None:
        """That was all."""
        self._file.close()


LARGEST: Final = (1 << 63) - 1
"""Of a column of whole numbers."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def plain(values: Sequence[Value], kind: Kind) -> Sequence[int | float | str | None]:
    """Values of one column as the standard library writes them. What is of another kind than is declared is unknown."""
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
    """Return a cell of CSV: a spreadsheet takes a text that begins so for a formula, and names of guests are their owners' to choose."""
    return f"'{value}" if isinstance(value, str) and value[:1] in {"=", "+", "-", "@", "\t", "\r"} else value
