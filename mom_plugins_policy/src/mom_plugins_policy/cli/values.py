"""Values of the language as people and programs read them, whole: messages shorten them, results do not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mom_core import Decision, Guest, Host, Source, Value, printable
from mom_plugins_policy.language.errors import Fault
from mom_plugins_policy.language.syntax import written_string
from mom_plugins_policy.language.values import Disk, Guests, show


def written_value(value: Any) -> str:
    """A value as a policy would write it."""
    if isinstance(value, list | tuple | Guests):
        return f"[{' '.join(map(written_value, value))}]"
    if isinstance(value, str):
        return printable(written_string(value), len(value) * 12 + 2)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return show(value)


def amount(value: Value) -> str:
    """A number that was decided, so that digits can be counted."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return written_value(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}" if abs(value) < 1e6 else f"{value:,.1f}"


def plain_value(value: Any) -> Any:
    """A value as JSON: entities by name, what JSON has no number for as text."""
    if isinstance(value, list | tuple | Guests):
        return [plain_value(inner) for inner in value]
    if isinstance(value, Host):
        return {"host": value.name}
    if isinstance(value, Guest):
        return {"guest": value.name, "id": value.id}
    if isinstance(value, Disk):
        return {"disk": plain_value(value.attributes)}
    if isinstance(value, Mapping):
        return {str(key): plain_value(inner) for key, inner in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, bool | int | float | str) else show(value)


def plain_place(source: Source, files: Mapping[str, str]) -> dict[str, Any]:
    """A place as JSON."""
    return {"policy": source.name, "file": files.get(source.name), "line": source.line, "column": source.column}


def plain_decision(decision: Decision, files: Mapping[str, str]) -> dict[str, Any]:
    """A decision as JSON."""
    scope, identity, name = decision.entity
    of = {"scope": str(scope), "entity": name, "id": identity}
    return {**of, "control": decision.control, "value": plain_value(decision.value), **plain_place(decision.source, files)}


def plain_fault(fault: Fault, files: Mapping[str, str]) -> dict[str, Any]:
    """An error as JSON."""
    told = {"kind": fault.kind, "message": fault.message, "guest": fault.guest, "values": list(fault.values)}
    return {**told, **plain_place(fault.source, files)}


def decision_rows(decisions: Sequence[Decision]) -> list[tuple[str, str, str, str]]:
    """Decisions as rows: whose, which control, its value, and where it was decided."""
    return [(printable(d.entity.name, 60), printable(d.control, 60), amount(d.value), printable(str(d.source), 200)) for d in decisions]


def table(rows: Sequence[Sequence[str]], margin: str = "  ", right: int = -1) -> str:
    """Rows in columns.

    :param right: the column that is aligned at its right
    """
    if not rows:
        return ""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if number == right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(margin + line.rstrip() for line in lines)
