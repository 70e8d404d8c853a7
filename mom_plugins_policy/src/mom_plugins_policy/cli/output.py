"""Output of values, decisions and errors as text and JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from mom_core import Decision, Guest, Host, Source, Value, printable
from mom_plugins_policy.language.errors import Fault
from mom_plugins_policy.language.values import Disk, Guests, show, written_string


def written_value(value: Any) -> str:
    """Return a value in policy syntax."""
    if isinstance(value, list | tuple | Guests):
        return f"[{' '.join(map(written_value, value))}]"
    if isinstance(value, str):
        return printable(written_string(value), len(value) * 12 + 2)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return show(value)


def amount(value: Value) -> str:
    """Return a decided value as text, with digits in groups of three."""
    if isinstance(value, list) and all(isinstance(item, Mapping) for item in value):
        limits = [(item.get("name"), {key: kib for key, kib in item.items() if key not in {"name", "path"}}) for item in value]
        return "; ".join(
            f"{name}: {', '.join(f'{key} {amount(limit)}' for key, limit in disk.items() if limit is not None)}" for name, disk in limits
        )
    if isinstance(value, bool) or not isinstance(value, int | float):
        return written_value(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}" if abs(value) < 1e6 else f"{value:,.1f}"


def plain(value: Any, files: Mapping[str, str]) -> Any:
    """Convert a value or record for JSON."""
    if isinstance(value, Host):
        return {"host": value.name}
    if isinstance(value, Guest):
        return {"guest": value.name, "id": value.id}
    if isinstance(value, Disk):
        return {"disk": plain(value.attributes, files)}
    if isinstance(value, Source):
        return {"policy": value.name, "file": files.get(value.name), "line": value.line, "column": value.column}
    if isinstance(value, Decision):
        scope, identity, name = value.entity
        of = {"scope": scope, "entity": name, "id": identity, "control": value.control, "value": value.value, "reason": value.reason}
        return plain({**of, "source": value.source}, files)
    if isinstance(value, Fault):
        of = {"kind": value.kind, "message": value.message, "guest": value.guest, "values": value.values}
        return plain({**of, "source": value.source}, files)
    if isinstance(value, list | tuple | Guests):
        return [plain(inner, files) for inner in value]
    if isinstance(value, Mapping):
        parts = {str(key): plain(inner, files) for key, inner in value.items()}
        return {**parts.pop("source"), **parts} if isinstance(value.get("source"), Source) else parts
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, bool | int | float | str) else show(value)


_LONGEST_EXCERPT: Final = 200  # characters of a line


def located(name: str, line: int, column: int, files: Mapping[str, str]) -> str:
    """Return a position as `file:line:column`."""
    where = printable(files.get(name) or name, 400)
    return f"{where}:{line}:{column}" if line else where


def excerpt(text: str, line: int, column: int) -> str:
    """Return a line of the text, with a caret below the column; empty for a very long line. Line and column are 1-based."""
    lines = text.removeprefix("\ufeff").split("\n")
    if not 0 < line <= len(lines) or len(lines[line - 1]) > _LONGEST_EXCERPT:
        return ""
    shown, place = "".join(c if c.isprintable() or c == "\t" else "\u00b7" for c in lines[line - 1].rstrip()), column - 1
    blank = "".join("\t" if character == "\t" else " " for character in shown[:place].ljust(place))
    return f"    {shown}\n    {blank}^"


def with_excerpt(source: Source, message: str, texts: Mapping[str, str], files: Mapping[str, str]) -> str:
    """Add position and, if possible, an excerpt to a message."""
    name, line, column = source
    place = located(name, line, column, files)
    head = printable(f"{place}: " * bool(place) + message, 2000)
    below = excerpt(texts.get(name, ""), line, column)
    return f"{head}\n{below}" if below else head
