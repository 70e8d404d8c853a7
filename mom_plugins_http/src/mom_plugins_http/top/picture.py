"""Content of `mom top`, as plain values. Missing figures are unknown, not 0."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from mom_core import GuestColumn, Status, printable
from mom_daemon import guests_unknown
from mom_daemon.top import Row, by_name

if TYPE_CHECKING:
    from mom_daemon import CommonProblem
    from mom_daemon.report_models import ConditionModel, CycleModel, GuestColumnModel, OutcomeModel, ReportDocument

Json = Mapping[str, Any]

NAME: Final = "guest"

HARMS: Final = ("killed_lately", "suffers")
"""Fields that report harm: programs killed recently, and shortages."""

LONGEST_NOTE: Final = 400
"""Most characters."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One cycle's report, with guests and problems for the screen."""

    report: ReportDocument
    columns: Sequence[GuestColumnModel]
    """Columns with at least one known figure."""
    rows: Sequence[Row]
    """Rows, sorted by name."""
    together: Mapping[str, float | None] = field(default_factory=dict)
    """Sums of `size` and `max` over all guests, in KiB; None if unknown for all."""
    problems: Sequence[CommonProblem] = ()
    acts: Sequence[Json] = ()
    """Acts, newest first."""
    received: float = field(default_factory=time.monotonic)

    @property
    def cycle(self) -> CycleModel:
        """Return the cycle's number, time, duration and lag."""
        return self.report["cycle"]

    @property
    def host(self) -> Json:
        """Return the host's fields."""
        return self.report["host"]["fields"]

    @property
    def conditions(self) -> Sequence[ConditionModel]:
        """Return the host's conditions, worst first."""
        verdict = self.report["verdict"]
        return () if verdict is None else verdict["conditions"]

    @property
    def guests_unknown(self) -> str:
        """Return why the list of guests is unknown, or an empty string."""
        unknown = guests_unknown(self.report)
        return unknown.message if unknown else ""

    @property
    def memory_severity(self) -> str:
        """Return the severity of the host's lack of memory."""
        return next((condition["severity"] for condition in self.conditions if condition["name"] == "memory"), "ok")

    @property
    def changes(self) -> int:
        """Return the number of decisions for another value."""
        return sum(count for name, count in self.report["outcome_counts"].items() if name != Status.UNCHANGED)

    @property
    def interval(self) -> float:
        """Return the seconds between two cycles."""
        return self.report["interval_seconds"]

    def late_by(self, now: float) -> float:
        """Return the seconds since the last cycle; 0 within three intervals."""
        age = now - self.received
        return age if age > 3 * self.interval + 1 else 0.0


@dataclass(frozen=True, slots=True)
class Drill:
    """Explanation, fields and past of one guest, or why they are unknown."""

    id: str
    explanation: Json = field(default_factory=dict)
    guest: Json = field(default_factory=dict)
    past: Sequence[Json] = ()
    acts: Sequence[Json] = ()
    trouble: str = ""


def picture_of(report: ReportDocument, problems: Sequence[CommonProblem], acts: Sequence[Json] = ()) -> Picture:
    """Return the picture of a report."""
    table, columns = report["guests"], report["guest_columns"]
    places = {column["name"]: table["columns"].index(column["key"]) for column in columns}
    harms = [table["columns"].index(name) if name in table["columns"] else None for name in HARMS]
    last = {each["entity"]["id"]: each for each in report["outcomes"] if each["status"] not in {Status.APPLIED, Status.UNCHANGED}}
    rows = [_row(row, places, last.get(row[0]), _harm(row, *harms)) for row in table["rows"]]
    shown = [
        column
        for column in columns
        if column["name"] != GuestColumn.REMARKS and any(row[places[column["name"]]] is not None for row in table["rows"])
    ]
    together: dict[str, float | None] = {
        name: _sum([row[places[name]] for row in table["rows"]]) for name in ("size", "max") if name in places
    }
    return Picture(report, shown, by_name(rows), together, problems, acts)


def _harm(row: Sequence[Any], killed: int | None, suffers: int | None) -> float:
    if suffers is None or not row[suffers]:
        return 0.0
    return float((killed is not None and row[killed]) or 0) + 0.5


def _sum(values: Sequence[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return sum(numbers) if numbers or not values else None


def _row(row: Sequence[Any], places: Mapping[str, int], last: OutcomeModel | None, harm: float) -> Row:
    values = {name: row[place] for name, place in places.items()}
    notes = [*filter(None, [values.get(GuestColumn.REMARKS)]), *row[2].values()]
    if last is not None and last["status"] != Status.OBSERVED:
        notes.append(f"{last['status']}: {last['error'] or last['control']}")
    elif last is not None and last["control"] == "balloon_target" and "target" in values:
        values["target"] = last["value"]  # the target that mom would have set (mode observe)
    note = printable("; ".join(dict.fromkeys(map(str, notes))), LONGEST_NOTE) if notes else ""
    return Row(row[0], printable(row[1], 200), values, note, harm)
