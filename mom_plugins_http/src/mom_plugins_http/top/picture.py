"""What `mom top` shows, as plain values made from the API's answers; an absent figure is unknown, and never 0."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from mom_core import GuestColumn, Source, Status, format_kib, printable
from mom_daemon import amount

if TYPE_CHECKING:
    from mom_cli import CommonProblem
    from mom_daemon import ConditionModel, CycleModel, GuestColumnModel, OutcomeModel, ReportDocument

Json = Mapping[str, Any]

NAME: Final = "guest"
"""The heading of the names, by which guests are sorted at first."""

LONGEST_NOTE: Final = 400
"""Characters."""


@dataclass(frozen=True, slots=True)
class Row:
    """A guest, with its values by the columns' names, and what keeps it from giving memory or failed."""

    id: str
    name: str
    values: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, slots=True)
class Happening:
    """One decision and what came of it, or what has changed beside: the policies, or a reservation.

    `id` is the guest's, empty for none; `what` says what was set; `target` is in KiB when it is a size for a guest.
    """

    time: float
    name: str
    why: str
    id: str = ""
    what: str = ""
    status: str = ""
    error: str = ""
    target: float | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """One cycle's report, its guests and problems as they are shown, and when its news came (monotonic seconds)."""

    report: ReportDocument
    columns: Sequence[GuestColumnModel]
    """Those of which anything is known."""
    rows: Sequence[Row]
    problems: Sequence[CommonProblem] = ()
    received: float = field(default_factory=time.monotonic)

    @property
    def cycle(self) -> CycleModel:
        """Its number, time, duration and lag."""
        return self.report["cycle"]

    @property
    def host(self) -> Json:
        """The host's fields."""
        return self.report["host"]["fields"]

    @property
    def conditions(self) -> Sequence[ConditionModel]:
        """The conditions of the host as a whole, the worst first."""
        verdict = self.report["verdict"]
        return () if verdict is None else verdict["conditions"]

    @property
    def memory_severity(self) -> str:
        """How bad it is that the host lacks memory, by the verdict: one scale for all who look."""
        return next((one["severity"] for one in self.conditions if one["name"] == "memory"), "ok")

    @property
    def changes(self) -> int:
        """How many decisions there were of what did not stand so already."""
        return sum(count for name, count in self.report["outcome_counts"].items() if name != Status.UNCHANGED)

    @property
    def interval(self) -> float:
        """Seconds between two cycles."""
        return self.report["interval_seconds"]

    def late_by(self, now: float) -> float:
        """Seconds since the last news, when they are more than three intervals: mom hangs; else 0."""
        age = now - self.received
        return age if age > 3 * self.interval + 1 else 0.0


@dataclass(frozen=True, slots=True)
class Drill:
    """All about one guest: its explanation, its fields and its past; or why it cannot be had."""

    id: str
    explanation: Json = field(default_factory=dict)
    guest: Json = field(default_factory=dict)
    past: Sequence[Json] = ()
    trouble: str = ""


def picture_of(report: ReportDocument, last: Mapping[str, Happening], problems: Sequence[CommonProblem]) -> Picture:
    """A report, with what was done to each guest last, by its id."""
    table = report["guests"]["columns"]
    places = [(one["name"], table.index(one["key"])) for one in report["guest_columns"]]
    rows = [_row(row, places, last.get(row[0])) for row in report["guests"]["rows"]]
    known = {name for row in rows for name, value in row.values.items() if value is not None}
    return Picture(
        report, [one for one in report["guest_columns"] if one["name"] in known and one["name"] != GuestColumn.REMARKS], rows, problems
    )


def _row(row: Sequence[Any], places: Sequence[tuple[str, int]], last: Happening | None) -> Row:
    identity, name, blocked, *_ = row
    values = {column: row[place] for column, place in places}
    if last is not None and last.status == Status.OBSERVED and last.target is not None:
        values["target"] = last.target  # it would have been asked for this
    notes = list(dict.fromkeys([*filter(None, [values.get(GuestColumn.REMARKS)]), *blocked.values()]))
    if last is not None and last.status not in _FINE:
        notes.insert(0, f"{last.status}: {last.error or last.what}")
    return Row(identity, printable(name, 200), values, printable("; ".join(map(str, notes)), LONGEST_NOTE))


_FINE: Final = frozenset({Status.APPLIED, Status.UNCHANGED, Status.OBSERVED})


def happening_of(when: float, item: OutcomeModel | Json, units: Mapping[str, str]) -> Happening:
    """An outcome as the API gives it."""
    control, value, where = item["control"], item["value"], str(Source(**item["source"]))
    unit = units.get(control, "")
    return Happening(
        when,
        printable(item["entity"]["name"], 200),
        printable(f"{where}: {item['reason']}" if item["reason"] else where, LONGEST_NOTE),
        item["entity"]["id"],
        printable(f"{control} {amount(item['before'], unit)} → {amount(value, unit)}", LONGEST_NOTE),
        item["status"],
        printable(item["error"], LONGEST_NOTE),
        value if control == "balloon_target" and isinstance(value, int | float) else None,
    )


def policy_news(item: Json) -> Happening:
    """A change of the policies as the API gives it; the beginnings and ends of trials are among them."""
    return Happening(float(item["time"]), "policies", printable(f"{item['what']}, by {item['who']}", LONGEST_NOTE))


def reservation_news(when: float, item: Json) -> Happening:
    """A reservation as the API gives it, and how it stands at this time."""
    guest, note = item["guest"], item["note"]
    whose = f", by {guest['name']}" if guest else ""
    text = f"{format_kib(item['memory_kib'])} for {item['name'] or item['id']}: {item['state']}{whose}{f'; {note}' if note else ''}"
    return Happening(when, "reserved", printable(text, LONGEST_NOTE))


def chosen(rows: Sequence[Row], pattern: str) -> list[Row]:
    """The guests whose name has this in it, or matches it when it is a pattern with `*` or `?`; capitals do not matter."""
    wanted = pattern.strip().lower()
    if not wanted:
        return list(rows)
    if "*" in wanted or "?" in wanted:
        return [row for row in rows if fnmatchcase(row.name.lower(), wanted)]
    return [row for row in rows if wanted in row.name.lower()]


def ordered(rows: Sequence[Row], column: str, *, falling: bool) -> list[Row]:
    """In the order of a column; what is unknown comes last either way, and equals are ordered by name."""
    by_name = sorted(rows, key=lambda row: _natural(row.name), reverse=falling and column == NAME)
    if column == NAME:
        return by_name
    known = [row for row in by_name if row.values.get(column) is not None]
    known.sort(key=lambda row: _sortable(row.values[column]), reverse=falling)
    return known + [row for row in by_name if row.values.get(column) is None]


def _natural(name: str) -> list[Any]:
    """By which build-2 comes before build-10: texts and numbers by turns, the first of them a text."""
    return [int(part) if place % 2 else part for place, part in enumerate(re.split("([0-9]{1,18})", name.lower()))]


def _sortable(value: Any) -> tuple[float, str]:
    return (value, "") if isinstance(value, int | float) else (0.0, str(value))
