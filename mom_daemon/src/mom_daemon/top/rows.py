"""Rows of a watched list: filter and order."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from operator import itemgetter
from types import MappingProxyType
from typing import Any, Final, NamedTuple

HARM: Final = "note"


class Row(NamedTuple):
    """Guest or host, with its values by column, and a note."""

    id: str
    name: str
    values: Mapping[str, Any] = MappingProxyType({})
    note: str = ""
    harm: float = 0
    """How much the guest or host suffers; 0 if it does not."""


def chosen(rows: Sequence[Row], pattern: str) -> list[Row]:
    """Return rows whose name contains a text or matches a `*?` pattern. Ignore case."""
    text = pattern.strip().lower()
    if not text:
        return list(rows)
    if "*" in text or "?" in text:
        return [row for row in rows if fnmatchcase(row.name.lower(), text)]
    return [row for row in rows if text in row.name.lower()]


def ordered(rows: Sequence[Row], column: str, *, falling: bool) -> list[Row]:
    """Sort rows by a column, unknown values last. The rows must be sorted by name already."""
    if column == HARM:
        return sorted(rows, key=lambda row: row.harm, reverse=falling)
    values = [(row.values.get(column), row) for row in rows]
    numbers = [(_sortable(value), row) for value, row in values if value is not None]
    if not numbers:
        return list(reversed(rows)) if falling else list(rows)
    numbers.sort(key=itemgetter(0), reverse=falling)
    return [row for _, row in numbers] + [row for value, row in values if value is None]


def by_name(rows: Sequence[Row]) -> list[Row]:
    """Sort rows by name; numbers in names sort by value."""
    return [rows[place] for place in _order(tuple(row.name for row in rows))]


@lru_cache(maxsize=1)  # names rarely change between cycles
def _order(names: Sequence[str]) -> Sequence[int]:
    return sorted(range(len(names)), key=lambda place: _natural(names[place]))


def _natural(name: str) -> list[Any]:
    return [int(part) if place % 2 else part for place, part in enumerate(re.split("([0-9]{1,18})", name.lower()))]


def _sortable(value: Any) -> tuple[float, str]:
    return (value, "") if isinstance(value, (int, float)) else (0.0, str(value))
