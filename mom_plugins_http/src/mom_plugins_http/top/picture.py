"""Content of `mom top`, as plain values, and the state of the view that keys change. Missing figures are unknown, not 0."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mom_core import Status, printable
from mom_daemon import report_words as words

if TYPE_CHECKING:
    from mom_daemon.report_models import GuestColumnModel, ReportDocument


Json = Mapping[str, Any]

HARMS: Final = ("killed_lately", "suffers")
"""Fields that report harm: programs killed recently, and shortages."""

NAME: Final = "guest"
"""Heading above names, and the view of one guest."""

HARM: Final = "note"

GUESTS: Final = "guests"

VIEWS: Final[Mapping[str, str]] = {"g": GUESTS, "d": "changes", "!": "problems"}
"""Views keyed by their keys, in the order in which Tab selects them."""

LONGEST_FILTER: Final = 60


class Row(NamedTuple):
    """Guest with its values by column, and a note."""

    id: str
    name: str
    values: Mapping[str, Any] = MappingProxyType({})
    note: str = ""
    harm: float = 0
    """How much the guest suffers; 0 if it does not."""


def chosen(rows: Sequence[Row], pattern: str) -> list[Row]:
    """Return rows whose name contains a text or matches a `*?` pattern. Ignore case."""
    text = pattern.strip().lower()
    if "*" in text or "?" in text:
        return [row for row in rows if fnmatchcase(row.name.lower(), text)]
    return [row for row in rows if text in row.name.lower()]


def ordered(rows: Sequence[Row], column: str, *, falling: bool) -> list[Row]:
    """Sort rows by a column, unknown values last. The rows must be sorted by name already."""
    if column == HARM:
        return sorted(rows, key=lambda row: row.harm, reverse=falling)
    if column == NAME:
        return list(reversed(rows)) if falling else list(rows)
    has_value = [row for row in rows if row.values.get(column) is not None]
    return [
        *sorted(has_value, key=lambda row: _sortable(row.values[column]), reverse=falling),
        *(row for row in rows if row.values.get(column) is None),
    ]


def by_name(rows: Sequence[Row]) -> list[Row]:
    """Sort rows by name; numbers in names sort by value."""
    return sorted(rows, key=lambda row: _natural(row.name))


def _natural(name: str) -> list[Any]:
    return [int(part) if place % 2 else part for place, part in enumerate(re.split("([0-9]{1,18})", name.lower()))]


def _sortable(value: Any) -> tuple[float, str]:
    return (value, "") if isinstance(value, (int, float)) else (0.0, str(value))


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
    """Explanation, fields and recent changes of one guest, or why they are unknown."""

    id: str
    explanation: Json = field(default_factory=dict)
    guest: Json = field(default_factory=dict)
    acts: Sequence[Json] = ()
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class FeedState:
    """Newest answers of mom, or why they are missing."""

    picture: Picture | None = None
    drill: Drill | None = None
    trouble: tuple[str, str] | None = None
    """Error and fix; None while mom answers."""
    lost_at: float | None = None
    """Monotonic time of the first of consecutive failures; None while mom answers."""


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


@dataclass(slots=True)
class Looking:
    """State of the view; `press` changes it."""

    view: str = GUESTS
    sort: str = HARM
    falling: bool = True
    pattern: str = ""
    typing: bool = False
    paused: bool = False
    marked: str = ""
    """Id of the marked guest; empty for the first row."""
    first: int = 0
    """Index of the list's first visible row. `scroll` is for other views."""
    scroll: dict[str, int] = field(default_factory=dict)
    columns: Sequence[str] = (NAME, HARM)
    ended: bool = False
    _pattern_before: str = ""

    def listed(self, picture: Picture | None) -> Sequence[Row]:
        """Return the rows that match the filter, sorted."""
        if picture is None:
            return []
        self.columns = (NAME, *(column["name"] for column in picture.columns), HARM)
        return ordered(chosen(picture.rows, self.pattern), self.sort, falling=self.falling)

    def place(self, rows: Sequence[Row], lines: int) -> int:
        """Return the marked row's index, and scroll until the row is visible."""
        index = next((n for n, row in enumerate(rows) if row.id == self.marked), None) if self.marked else 0
        if index is None:
            index = min(self.first, max(0, len(rows) - 1))
            self.marked = rows[index].id if rows else ""
        self.first = max(0, min(self.first, index, len(rows) - lines), index - lines + 1)
        return index

    def press(self, key: str, rows: Sequence[Row], lines: int) -> None:
        """Apply a key. `lines` is the number of visible lines."""
        if self.typing:
            self._type(key)
        elif key == "q" and self.view in VIEWS.values():
            self.ended = True
        elif key == "?":
            self.view = GUESTS if self.view == "help" else "help"
        elif key in {"p", " "}:
            self.paused = not self.paused
        elif self.view == GUESTS:
            self._in_list(key, rows, lines)
        else:
            self._in_text(key, lines)

    def _type(self, key: str) -> None:
        if key == "enter":
            self.typing = False
        elif key == "escape":
            self.typing, self.pattern = False, self._pattern_before
        elif key == "backspace":
            self.pattern = self.pattern[:-1]
        elif len(key) == 1 and key.isprintable() and len(self.pattern) < LONGEST_FILTER:
            self.pattern += key

    def _switch(self, key: str) -> bool:
        views = list(VIEWS.values())
        if key == "tab":
            self.view = views[(views.index(self.view) + 1) % len(views)] if self.view in views else GUESTS
        elif key in VIEWS:
            self.view = VIEWS[key]
        else:
            return False
        return True

    def _in_list(self, key: str, rows: Sequence[Row], lines: int) -> None:
        if self._switch(key):
            return
        if key == "/":
            self.typing, self._pattern_before = True, self.pattern
        elif key == "escape":
            self.pattern = ""
        elif key == "enter" and rows:
            self.marked, self.view, self.scroll[NAME] = rows[self.place(rows, lines)].id, NAME, 0
        elif key == "s":
            self.sort, self.falling = HARM, True
        elif key == "r":
            self.falling = not self.falling
        elif key in {"<", ">"}:
            at = self.columns.index(self.sort) if self.sort in self.columns else 0
            self.sort = self.columns[(at + (1 if key == ">" else -1)) % len(self.columns)]
            self.falling = self.sort != NAME
        elif rows:
            index = moved(key, self.place(rows, lines), lines, len(rows))
            self.marked = rows[index].id if index else ""

    def _in_text(self, key: str, lines: int) -> None:
        if key in {"escape", "q", "backspace"}:
            self.view = GUESTS
        elif (self.view == NAME and key == "enter") or not self._switch(key):
            self.scroll[self.view] = moved(key, self.scroll.get(self.view, 0), lines, 100_000)


def moved(key: str, index: int, lines: int, length: int) -> int:
    """Return the index after a navigation key."""
    steps = {"up": -1, "k": -1, "down": 1, "j": 1, "page up": 1 - lines, "page down": lines - 1, "home": -length, "end": length}
    return max(0, min(length - 1, index + steps.get(key, 0)))
