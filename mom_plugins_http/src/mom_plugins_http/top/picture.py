"""What `mom top` shows, as plain values made from the API's answers; an absent figure is unknown, and never 0."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final

from mom_core import GuestColumn, Status, printable
from mom_daemon import Row, by_name, guests_unknown, verdict_of

if TYPE_CHECKING:
    from mom_daemon import CommonProblem, ConditionModel, CycleModel, GuestColumnModel, OutcomeModel, ReportDocument

Json = Mapping[str, Any]

NAME: Final = "guest"
"""What a row is."""

HARMS: Final = ("killed_lately", "suffers")
"""The fields that tell of harm: how many programs were killed in a guest lately, and all that it suffers from."""

LONGEST_NOTE: Final = 400
"""Characters."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One cycle's report, its guests and problems as they are shown, and when its news came (monotonic seconds)."""

    report: ReportDocument
    columns: Sequence[GuestColumnModel]
    """Those of which anything is known."""
    rows: Sequence[Row]
    """In the order of their names."""
    together: Mapping[str, float | None] = field(default_factory=dict)
    """Sums over all guests of the columns `size` and `max`, in KiB; None where it is known of no guest."""
    problems: Sequence[CommonProblem] = ()
    acts: Sequence[Json] = ()
    """What mom did lately, the newest first."""
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
    def guests_unknown(self) -> str:
        """Why it is not known which guests there are; empty where it is."""
        unknown = guests_unknown(self.rows, verdict_of(self.report))
        return unknown.message if unknown else ""

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

    @property
    def late_after(self) -> float:
        """Seconds without news after which something is wrong with mom."""
        return 3 * self.interval + 1

    def late_by(self, now: float) -> float:
        """Return the seconds since the last news; 0 while they are normal."""
        age = now - self.received
        return age if age > self.late_after else 0.0


@dataclass(frozen=True, slots=True)
class Drill:
    """All about one guest: its explanation, its fields and its past; or why it cannot be had."""

    id: str
    explanation: Json = field(default_factory=dict)
    guest: Json = field(default_factory=dict)
    past: Sequence[Json] = ()
    acts: Sequence[Json] = ()
    trouble: str = ""


class _Values(Mapping[str, Any]):
    """Those of a row of the report's table, by the columns' names: a screen has room for a few of a thousand rows."""

    __slots__ = ("_places", "_row")

    def __init__(self, row: Sequence[Any], places: Mapping[str, int]) -> None:
        self._row, self._places = row, places

    def __getitem__(self, column: str) -> Any:
        return self._row[self._places[column]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def picture_of(report: ReportDocument, problems: Sequence[CommonProblem], acts: Sequence[Json] = ()) -> Picture:
    """Return a report as it is shown."""
    table, columns = report["guests"], report["guest_columns"]
    places = {one["name"]: table["columns"].index(one["key"]) for one in columns}
    figures = dict(zip(table["columns"], zip(*table["rows"], strict=True), strict=False))  # none where there are no guests
    harms = zip(*(figures.get(name) or repeat(None) for name in HARMS), strict=False)
    harm = ((killed or 0) + 0.5 if suffers else 0.0 for killed, suffers in harms)
    last = {one["entity"]["id"]: one for one in report["outcomes"] if one["status"] not in {Status.APPLIED, Status.UNCHANGED}}
    rows = [_row(row, places, last.get(row[0]), harmed) for row, harmed in zip(table["rows"], harm, strict=False)]
    shown = [one for one in columns if one["name"] != GuestColumn.REMARKS]
    known = [one for one in shown if any(value is not None for value in figures.get(one["key"], ()))]
    together = {one["name"]: _sum(figures.get(one["key"], ())) for one in columns if one["name"] in {"size", "max"}}
    return Picture(report, known, by_name(rows), together, problems, acts)


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known or not values else None


def _row(row: Sequence[Any], places: Mapping[str, int], last: OutcomeModel | None, harm: float) -> Row:
    place = places.get(GuestColumn.REMARKS)
    notes = [*row[2].values()] if place is None or not row[place] else [row[place], *row[2].values()]
    if last is not None and last["status"] != Status.OBSERVED:
        notes.append(f"{last['status']}: {last['error'] or last['control']}")
    elif last is not None and last["control"] == "balloon_target" and "target" in places:
        row = [*row]
        row[places["target"]] = last["value"]  # it would have been asked for this
    note = printable("; ".join(dict.fromkeys(map(str, notes))), LONGEST_NOTE) if notes else ""
    return Row(row[0], printable(row[1], 200), _Values(row, places), note, harm)
