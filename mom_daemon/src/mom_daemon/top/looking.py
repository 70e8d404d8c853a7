"""State of the view, and the effect of each key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from mom_daemon.top.rows import HARM, Row, chosen, ordered

if TYPE_CHECKING:
    from mom_daemon.report_models import GuestColumnModel

LONGEST_FILTER: Final = 60


class Listing(Protocol):
    """List of rows that the user watches."""

    @property
    def columns(self) -> Sequence[GuestColumnModel]:
        """Return the columns with known values."""

    @property
    def rows(self) -> Sequence[Row]:
        """Return the rows sorted by name."""


@dataclass(slots=True)
class Looking:
    """State of the view; `press` changes it.

    :param name: kind of row, such as `guest`: the heading above names, and the name of a single row's view
    :param views: views and their keys, in the order in which Tab selects them; the first one is the list
    """

    name: str
    views: Mapping[str, str]
    note_least: int = 16
    view: str = ""
    sort: str = HARM
    falling: bool = True
    pattern: str = ""
    typing: bool = False
    paused: bool = False
    marked: str = ""
    """Id of the marked row; empty for the first row."""
    first: int = 0
    """Index of the list's first visible row. `scroll` is for other views."""
    scroll: dict[str, int] = field(default_factory=dict)
    columns: Sequence[str] = ()
    ended: bool = False
    _pattern_before: str = ""

    def __post_init__(self) -> None:
        self.view = self.view or self.overview
        self.columns = self.columns or (self.name, HARM)

    @property
    def overview(self) -> str:
        """Return the name of the list's view."""
        return next(iter(self.views))

    def listed(self, listing: Listing | None) -> Sequence[Row]:
        """Return the rows that match the filter, sorted."""
        if listing is None:
            return []
        self.columns = (self.name, *(column["name"] for column in listing.columns), HARM)
        return ordered(chosen(listing.rows, self.pattern), self.sort, falling=self.falling)

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
        elif key == "q" and self.view in self.views:
            self.ended = True
        elif key == "?":
            self.view = self.overview if self.view == "help" else "help"
        elif key in {"p", " "}:
            self.paused = not self.paused
        elif self.view == self.overview:
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
        views, by_key = list(self.views), {key_of_view: view for view, key_of_view in self.views.items()}
        if key == "tab":
            self.view = views[(views.index(self.view) + 1) % len(views)] if self.view in views else self.overview
        elif key in by_key:
            self.view = by_key[key]
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
            self.marked, self.view, self.scroll[self.name] = rows[self.place(rows, lines)].id, self.name, 0
        elif key == "s":
            self.sort, self.falling = HARM, True
        elif key == "r":
            self.falling = not self.falling
        elif key in {"<", ">"}:
            at = self.columns.index(self.sort) if self.sort in self.columns else 0
            self.sort = self.columns[(at + (1 if key == ">" else -1)) % len(self.columns)]
            self.falling = self.sort != self.name
        elif rows:
            index = moved(key, self.place(rows, lines), lines, len(rows))
            self.marked = rows[index].id if index else ""

    def _in_text(self, key: str, lines: int) -> None:
        if key in {"escape", "q", "backspace"}:
            self.view = self.overview
        elif (self.view == self.name and key == "enter") or not self._switch(key):
            self.scroll[self.view] = moved(key, self.scroll.get(self.view, 0), lines, 100_000)


def moved(key: str, index: int, lines: int, length: int) -> int:
    """Return the index after a navigation key."""
    steps = {"up": -1, "k": -1, "down": 1, "j": 1, "page up": 1 - lines, "page down": lines - 1, "home": -length, "end": length}
    return max(0, min(length - 1, index + steps.get(key, 0)))
