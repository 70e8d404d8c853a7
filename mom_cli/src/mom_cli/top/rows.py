"""The rows of a list that is watched: which of them are asked for, and in which order."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, Final

HARM: Final = "note"
"""The heading under which it stands what rows suffer from: in the order of that they are listed at first."""


@dataclass(frozen=True, slots=True)
class Row:
    """A guest or a host, with its values by the columns' names, and what it suffers from, what keeps it from giving memory, or failed."""

    id: str
    name: str
    values: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    harm: float = 0
    """How much it suffers, for the order; 0: not at all."""


def chosen(rows: Sequence[Row], pattern: str) -> list[Row]:
    """The rows whose name has this in it, or matches it when it is a pattern with `*` or `?`; capitals do not matter."""
    wanted = pattern.strip().lower()
    if not wanted:
        return list(rows)
    if "*" in wanted or "?" in wanted:
        return [row for row in rows if fnmatchcase(row.name.lower(), wanted)]
    return [row for row in rows if wanted in row.name.lower()]


def ordered(rows: Sequence[Row], column: str, *, falling: bool) -> list[Row]:
    """In the order of a column, or of their names if that is none; what is unknown comes last either way.

    :param rows: in the order of their names, as equals stay
    """
    if column == HARM:
        return sorted(rows, key=lambda row: row.harm, reverse=falling)
    known = [row for row in rows if row.values.get(column) is not None]
    if not known:
        return list(reversed(rows)) if falling else list(rows)
    known.sort(key=lambda row: _sortable(row.values[column]), reverse=falling)
    return known + [row for row in rows if row.values.get(column) is None]


def by_name(rows: Sequence[Row]) -> list[Row]:
    """In the order of their names, with the numbers in these by their size."""
    return sorted(rows, key=lambda row: _natural(row.name))


@lru_cache(maxsize=10_000)  # the same names come again in each cycle
def _natural(name: str) -> list[Any]:
    """By which build-2 comes before build-10: texts and numbers by turns, the first of them a text."""
    return [int(part) if place % 2 else part for place, part in enumerate(re.split("([0-9]{1,18})", name.lower()))]


def _sortable(value: Any) -> tuple[float, str]:
    return (value, "") if isinstance(value, int | float) else (0.0, str(value))
