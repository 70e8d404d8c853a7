"""Tables as Parquet: the only ones that need pyarrow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa
from pyarrow import parquet

from mom_core import Value
from mom_plugins_record.export.tables import Kind, Schema, plain

_TYPES: Final[Mapping[Kind, pa.DataType]] = {
    Kind.TIME: pa.timestamp("us", tz="UTC"),
    Kind.WHOLE: pa.int64(),
    Kind.NUMBER: pa.float64(),
    Kind.TEXT: pa.string(),
    Kind.FLAG: pa.bool_(),
}


class ParquetTable:
    """A table that is being written to a file."""

    def __init__(self, path: Path, schema: Schema) -> None:
        self._schema = pa.schema([(name, _TYPES[kind]) for name, kind in schema.items()])
        self._kinds = [*schema.values()]
        texts = [name for name, kind in schema.items() if kind is Kind.TEXT]
        self._file = parquet.ParquetWriter(path, self._schema, compression="zstd", compression_level=1, use_dictionary=texts)

    def write(self, columns: Sequence[Sequence[Value]]) -> None:
        """Rows more, column by column."""
        arrays = [_array(values, kind) for values, kind in zip(columns, self._kinds, strict=True)]
        self._file.write_table(pa.Table.from_arrays(arrays, schema=self._schema))

    def close(self) -> None:
        """That was all."""
        self._file.close()


def _array(values: Sequence[Value], kind: Kind) -> pa.Array:
    if kind in {Kind.TIME, Kind.WHOLE}:
        return pa.array(values, _TYPES[kind])
    try:
        return pa.array(values, _TYPES[kind])  # where all are of the kind that is declared, as nearly always: in a part of the time
    except (pa.ArrowException, OverflowError):
        return pa.array([None if one is None else float(one) if kind is Kind.NUMBER else one for one in plain(values, kind)], _TYPES[kind])
