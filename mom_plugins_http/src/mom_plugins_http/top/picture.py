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
    from mom_daemon.report_models import ConditionModel, GuestColumnModel, OutcomeModel, ReportDocument

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
    problems: Sequence[CommonProblem] = ()
    acts: Sequence[Json] = ()
    received: float = field(default_factory=time.monotonic)

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

    def late_by(self, now: float) -> float:
        """Return the seconds since the last cycle; 0 within three intervals."""
        age = now - self.received
        return age if age > 3 * self.report["interval_seconds"] + 1 else 0.0


@dataclass(frozen=True, slots=True)
class Drill:
    """Explanation, fields and history of one guest, or why they are unknown."""

    id: str
    explanation: Json = field(default_factory=dict)
    guest: Json = field(default_factory=dict)
    past: Sequence[Json] = ()
    acts: Sequence[Json] = ()
    trouble: str = ""


def picture_of(report: ReportDocument, problems: Sequence[CommonProblem], acts: Sequence[Json] = ()) -> Picture:
    """Return the picture of a report."""
    columns, names = report["guest_columns"], report["guests"]["columns"]
    guests = [dict(zip(names, row, strict=True)) for row in report["guests"]["rows"]]
    last = {each["entity"]["id"]: each for each in report["outcomes"] if each["status"] not in {Status.APPLIED, Status.UNCHANGED}}
    rows = [_row(guest, columns, last.get(guest["id"])) for guest in guests]
    shown = [
        column for column in columns if column["name"] != GuestColumn.REMARKS and any(guest[column["key"]] is not None for guest in guests)
    ]
    return Picture(report, shown, by_name(rows), problems, acts)


def _row(guest: Mapping[str, Any], columns: Sequence[GuestColumnModel], last: OutcomeModel | None) -> Row:
    values = {column["name"]: guest[column["key"]] for column in columns}
    notes = [*filter(None, [values.get(GuestColumn.REMARKS)]), *guest["blocked"].values()]
    if last is not None and last["status"] != Status.OBSERVED:
        notes.append(f"{last['status']}: {last['error'] or last['control']}")
    elif last is not None and last["control"] == "balloon_target" and "target" in values:
        values["target"] = last["value"]  # the target that mom would have set (mode observe)
    note = printable("; ".join(dict.fromkeys(map(str, notes))), LONGEST_NOTE) if notes else ""
    harm = 0.5 + (guest.get("killed_lately") or 0) if guest.get("suffers") else 0.0
    return Row(guest["id"], printable(guest["name"], 200), values, note, harm)
