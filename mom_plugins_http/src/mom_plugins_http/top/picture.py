"""What `mom top` shows, as plain values made from the API's answers; an absent figure is unknown, and never 0."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from mom_core import GuestColumn, Source, Status, format_kib, printable
from mom_daemon import amount

if TYPE_CHECKING:
    from mom_cli import CommonProblem
    from mom_daemon import ConditionModel, CycleModel, GuestColumnModel, OutcomeModel, ReportDocument

Json = Mapping[str, Any]

NAME: Final = "guest"
"""The heading of the names."""

HARM: Final = "note"
"""The heading under which it stands what guests suffer from: in the order of that they are listed at first."""

HARMS: Final = ("killed_lately", "ailment")

LONGEST_NOTE: Final = 400
"""Characters."""


@dataclass(frozen=True, slots=True)
class Row:
    """A guest, with its values by the columns' names, and what it suffers from, what keeps it from giving memory, or failed."""

    id: str
    name: str
    values: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    harm: float = 0
    """How many programs were killed in it lately; a half more where it suffers now."""


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
    """In the order of their names."""
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
    table, guests, columns = report["guests"]["columns"], report["guests"]["rows"], report["guest_columns"]
    places = {one["name"]: table.index(one["key"]) for one in columns}
    harms = [table.index(name) for name in HARMS if name in table]
    rows = [_row(row, places, harms, last.get(row[0])) for row in guests]
    shown = [one for one in columns if one["name"] != GuestColumn.REMARKS]
    known = [one for one in shown if any(row[places[one["name"]]] is not None for row in guests)]
    return Picture(report, known, sorted(rows, key=lambda row: _natural(row.name)), problems)


def _row(row: Sequence[Any], places: Mapping[str, int], harms: Sequence[int], last: Happening | None) -> Row:
    values = {column: row[place] for column, place in places.items()}
    harm = sum(0.5 if isinstance(row[place], str) else row[place] for place in harms if row[place])
    notes = [values.get(GuestColumn.REMARKS), *row[2].values()]
    if last is not None and last.status == Status.OBSERVED and last.target is not None:
        values["target"] = last.target  # it would have been asked for this
    if last is not None and last.status not in _FINE:
        notes.insert(0, f"{last.status}: {last.error or last.what}")
    note = printable("; ".join(dict.fromkeys(str(one) for one in notes if one)), LONGEST_NOTE)
    return Row(row[0], printable(row[1], 200), values, note, harm)


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
    """In the order of a column; what is unknown comes last either way.

    :param rows: in the order of their names, as equals stay
    """
    if column == NAME:
        return list(reversed(rows)) if falling else list(rows)
    if column == HARM:
        return sorted(rows, key=lambda row: row.harm, reverse=falling)
    known = [row for row in rows if row.values.get(column) is not None]
    known.sort(key=lambda row: _sortable(row.values[column]), reverse=falling)
    return known + [row for row in rows if row.values.get(column) is None]


@lru_cache(maxsize=10_000)  # the same names come again in each cycle
def _natural(name: str) -> list[Any]:
    """By which build-2 comes before build-10: texts and numbers by turns, the first of them a text."""
    return [int(part) if place % 2 else part for place, part in enumerate(re.split("([0-9]{1,18})", name.lower()))]


def _sortable(value: Any) -> tuple[float, str]:
    return (value, "") if isinstance(value, int | float) else (0.0, str(value))
