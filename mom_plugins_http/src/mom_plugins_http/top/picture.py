"""Content of `mom top`, as plain values. Missing figures are unknown, not 0."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from mom_core import Status, printable
from mom_daemon import report_words as words
from mom_plugins_http.top.looking import Row, by_name

if TYPE_CHECKING:
    from mom_daemon.report_models import GuestColumnModel, ReportDocument

Json = Mapping[str, Any]

HARMS: Final = ("killed_lately", "suffers")
"""Fields that report harm: programs killed recently, and shortages."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One cycle's report, with guests and problems for the screen."""

    report: ReportDocument
    columns: Sequence[GuestColumnModel]
    """Columns with at least one known figure."""
    rows: Sequence[Row]
    verdict: Sequence[words.Said] = ()
    problems: Sequence[words.Said] = ()
    acts: Sequence[Json] = ()
    received: float = field(default_factory=time.monotonic)

    @property
    def host(self) -> Json:
        """Host's fields."""
        return self.report["host"]["fields"]

    @property
    def guests_unknown(self) -> str:
        """Why the list of guests is unknown, or an empty string."""
        unknown = words.guests_unknown(self.report)
        return unknown.message if unknown else ""

    @property
    def memory_severity(self) -> str:
        """Severity of the host's lack of memory."""
        conditions = (self.report["verdict"] or {"conditions": []})["conditions"]
        return next((condition["severity"] for condition in conditions if condition["name"] == "memory"), "ok")

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


def picture_of(report: ReportDocument, acts: Sequence[Json] = ()) -> Picture:
    """Return the picture of a report."""
    columns, guests = report["guest_columns"], words.guest_rows(report)
    outcomes = (each for each in report["outcomes"] if (each["status"], each["control"]) == (Status.OBSERVED, "balloon_target"))
    observed = {each["entity"]["id"]: each["value"] for each in outcomes}
    rows = [_row(guest, columns, observed.get(guest["id"])) for guest in guests]
    verdict, problems = list(words.verdict_lines(words.verdict_of(report))), list(words.problem_lines(report))
    return Picture(report, words.known_columns(guests, columns), by_name(rows), verdict, problems, acts)


def _row(guest: Mapping[str, Any], columns: Sequence[GuestColumnModel], observed: Any) -> Row:
    # `observed` is the target that mom would have set, if it acted.
    values = {column["name"]: guest[column["key"]] for column in columns}
    if observed is not None:
        values["target"] = observed
    harm = 0.5 + (guest.get("killed_lately") or 0) if guest.get("suffers") else 0.0
    return Row(guest["id"], printable(guest["name"], 200), values, words.guest_note(guest, columns), harm)
