"""Report as JSON with units in the names, and as CSV."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from mom_plugins_record.export.tables import cell
from mom_plugins_record.report.summary import ReportSummary

FORMAT: Final = 2

_NAMES: Final = {"since": "from", "until": "to", "service_class": "class"}

_MOMENTS: Final = {
    **dict.fromkeys(("since", "until", "begins"), "%Y-%m-%dT%H:%M:%SZ"),
    **dict.fromkeys(("full_on", "full_on_earliest"), "%Y-%m-%d"),
}
"""Fields in seconds since the epoch that the document shows as a UTC time or day."""


def document(summary: ReportSummary) -> dict[str, Any]:
    """Return the report as JSON content."""
    return {"format": FORMAT, **_plain(asdict(summary))}


def table(summary: ReportSummary) -> str:
    """Return CSV: a row for each line and the sum."""
    rows = [_flat(_plain(asdict(line))) for line in (*summary.lines, summary.whole)]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _plain(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {_NAMES.get(key, key): _plain(inner, key) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        return time.strftime(_MOMENTS[name], time.gmtime(value)) if name in _MOMENTS else float(f"{value:.6g}")
    return None if value == "" else value


def _flat(content: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    cells: dict[str, Any] = {}
    for name, value in content.items():
        cells |= _flat(value, f"{before}{name}_") if isinstance(value, dict) else {f"{before}{name}": value}
    return cells
