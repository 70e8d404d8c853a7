"""Formats values of controls for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mom_core import Unit, format_kib, printable

LIST_SHOWN = 100

_LABELS = frozenset({"name", "path"})


def amount(value: object, unit: str = "") -> str:
    """Format a control's value on one line."""
    if value is None:
        return "unknown"
    if unit in {Unit.KIB, Unit.KIB_PER_SECOND} and isinstance(value, int | float):
        return format_kib(value) + ("/s" if unit == Unit.KIB_PER_SECOND else "")
    if isinstance(value, Sequence) and not isinstance(value, str):
        items = [item for item in value if isinstance(item, Mapping)]
        return printable("; ".join(f"{item.get('name', '')}: {_what_is_set(item) or 'none'}" for item in items), LIST_SHOWN) or "nothing"
    return printable(str(value)) if unit in {Unit.FLAG, Unit.COUNT, Unit.TEXT, ""} else f"{printable(str(value))} {unit}"


def _what_is_set(item: Mapping[str, Any]) -> str:
    members = [(key, _what_is_set(value) if isinstance(value, Mapping) else value) for key, value in item.items() if key not in _LABELS]
    return ", ".join(f"{key} {value}" for key, value in members if value)
