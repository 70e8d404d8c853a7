"""Values of the language as people and programs read them, whole: messages shorten them, results do not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from mom_core import Decision, Guest, Host, Source, Value, printable
from mom_plugins_policy.language.errors import Fault
from mom_plugins_policy.language.syntax import written_string
from mom_plugins_policy.language.values import Disk, Guests, show


def written_value(value: Any) -> str:
    """Return a value as a policy would write it."""
    if isinstance(value, list | tuple | Guests):
        return f"[{' '.join(map(written_value, value))}]"
    if isinstance(value, str):
        return printable(written_string(value), len(value) * 12 + 2)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return show(value)


def amount(value: Value) -> str:
    """Return a value that was decided: numbers so that digits can be counted, limits of each disk by their names."""
    if isinstance(value, list) and all(isinstance(item, Mapping) for item in value):
        limits = [(item.get("name"), {key: kib for key, kib in item.items() if key not in {"name", "path"}}) for item in value]
        return "; ".join(
            f"{name}: {', '.join(f'{key} {amount(limit)}' for key, limit in known.items() if limit is not None)}" for name, known in limits
        )
    if isinstance(value, bool) or not isinstance(value, int | float):
        return written_value(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}" if abs(value) < 1e6 else f"{value:,.1f}"


def plain(value: Any, files: Mapping[str, str]) -> Any:
    """Return a value, or a record of such, as JSON: entities by name, a place among its record's fields, as text what JSON has no number
    for.

    :param files: the files that policies come from, by name
    """
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
    if is_dataclass(value):
        return plain({field.name: getattr(value, field.name) for field in fields(value)}, files)
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return plain(value._asdict(), files)
    if isinstance(value, list | tuple | Guests):
        return [plain(inner, files) for inner in value]
    if isinstance(value, Mapping):
        parts = {str(key): plain(inner, files) for key, inner in value.items()}
        return {**parts.pop("source"), **parts} if isinstance(value.get("source"), Source) else parts
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, bool | int | float | str) else show(value)
