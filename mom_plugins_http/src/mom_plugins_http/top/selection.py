"""What the person at the terminal looks at, and what each key makes of that: no terminal, no mom, only values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from mom_plugins_http.top.picture import HARM, NAME, Picture, Row, chosen, ordered

VIEWS: Final = ("guests", "changes", "problems")
"""Those between which the tabulator goes; beside them there are `guest` and `help`."""

LONGEST_FILTER: Final = 60

WHEEL: Final = {"wheel up": -3, "wheel down": 3}
"""Lines that a step of the mouse's wheel moves."""


@dataclass(slots=True)
class Looking:
    """The state of the view; `press` changes it."""

    view: str = "guests"
    sort: str = HARM
    falling: bool = True
    pattern: str = ""
    typing: bool = False
    paused: bool = False
    guest: str = ""
    """The one that is marked; empty: the first of the list, whichever it is."""
    first: int = 0
    """The first line of the list that is shown; of each view by itself."""
    scroll: dict[str, int] = field(default_factory=dict)
    columns: Sequence[str] = (NAME, HARM)
    """Those by which guests can be sorted."""
    ended: bool = False
    _pattern_before: str = ""

    def listed(self, picture: Picture | None) -> list[Row]:
        """The guests that are asked for, in the order that is asked for."""
        if picture is None:
            return []
        self.columns = (NAME, *(one["name"] for one in picture.columns), HARM)
        return ordered(chosen(picture.rows, self.pattern), self.sort, falling=self.falling)

    def place(self, rows: Sequence[Row], lines: int) -> int:
        """Where the marked guest is, which stays the same however the list is ordered; and keep it in sight."""
        index = next((n for n, row in enumerate(rows) if row.id == self.guest), None) if self.guest else 0
        if index is None:
            index = min(self.first, max(0, len(rows) - 1))
            self.guest = rows[index].id if rows else ""
        self.first = max(0, min(self.first, index, len(rows) - lines), index - lines + 1)
        return index

    def press(self, key: str, rows: Sequence[Row], lines: int) -> None:
        """One key.

        :param rows: the guests as they are listed
        :param lines: how many lines of a list are shown
        """
        if self.typing:
            self._type(key)
        elif key == "quit" or (key == "q" and self.view in VIEWS):
            self.ended = True
        elif key in {"?", "h"}:
            self.view = "guests" if self.view == "help" else "help"
        elif key in {"p", " "}:
            self.paused = not self.paused
        elif self.view == "guests":
            self._in_list(key, rows, lines)
        else:
            self._in_text(key, lines)

    def open(self, guest: str) -> None:
        """Look at all about this guest."""
        self.typing = False
        self.guest, self.view, self.scroll["guest"] = guest, "guest", 0

    def sort_by(self, column: str) -> None:
        """In the order of this column; the other way round if it is so already."""
        self.falling = not self.falling if column == self.sort else column != NAME
        self.sort = column

    def _type(self, key: str) -> None:
        if key in {"enter", "quit"}:
            self.typing = False
        elif key == "escape":
            self.typing, self.pattern = False, self._pattern_before
        elif key == "backspace":
            self.pattern = self.pattern[:-1]
        elif key == "clear":
            self.pattern = ""
        elif len(key) == 1 and key.isprintable() and len(self.pattern) < LONGEST_FILTER:
            self.pattern += key

    def _switch(self, key: str) -> bool:
        if key in {"tab", "back tab"}:
            at = VIEWS.index(self.view) if self.view in VIEWS else 0
            self.view = VIEWS[(at + (1 if key == "tab" else -1)) % len(VIEWS)]
        elif key in {"1", "2", "3"}:
            self.view = VIEWS[int(key) - 1]
        elif key in {"d", "g", "!"}:
            self.view = {"d": "changes", "g": "guests", "!": "problems"}[key]
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
            self.open(rows[self.place(rows, lines)].id)
        elif key == "s":
            self.sort, self.falling = HARM, True
        elif key == "r":
            self.falling = not self.falling
        elif key in {"<", ">", "left", "right"}:
            at = self.columns.index(self.sort) if self.sort in self.columns else 0
            self.sort_by(self.columns[(at + (1 if key in {">", "right"} else -1)) % len(self.columns)])
        elif rows:
            index = moved(key, self.place(rows, lines), lines, len(rows))
            if key in WHEEL:  # the list moves, and what is marked no more than it has to
                first = max(0, min(self.first + WHEEL[key], len(rows) - lines))
                index = max(first, min(index - WHEEL[key], first + lines - 1))
                self.first = first
            self.guest = rows[index].id if index else ""

    def _in_text(self, key: str, lines: int) -> None:
        if key in {"escape", "q", "backspace"} or (key == "left" and self.view == "guest"):
            self.view = "guests"
        elif (self.view == "guest" and key == "enter") or not self._switch(key):
            self.scroll[self.view] = moved(key, self.scroll.get(self.view, 0), lines, 100_000)


def moved(key: str, index: int, lines: int, length: int) -> int:
    """A place in a list after a key that moves."""
    steps = {"up": -1, "k": -1, "down": 1, "j": 1, "page up": 1 - lines, "page down": lines - 1, "home": -length, "end": length, **WHEEL}
    return max(0, min(length - 1, index + steps.get(key, 0)))
