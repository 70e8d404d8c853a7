"""Lines of a screen with a list or a text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Final

from rich.cells import chop_cells

from mom_core import Unit, format_kib
from mom_daemon.cli import prose
from mom_daemon.top.columns import fitting, text_of
from mom_daemon.top.looking import Listing, Looking
from mom_daemon.top.rows import HARM, Row
from mom_daemon.top.terminal import Line, cell, shortened

SMALLEST: Final = (40, 10)
"""Smallest screen, in columns and lines."""

KEYS: Final = (
    ("↑↓ PgUp PgDn Home End", "move (also j k)"),
    ("Enter", "details of the selected {name}{why}"),
    ("/", "filter {name}s: part of a name, or a pattern with * and ?"),
    ("Esc", "back; in the list: show all {name}s"),
    ("< >", "sort by the next column; r: reverse; s: sufferers first"),
    ("p or space", "pause the display; mom continues"),
    ("q", "quit"),
)


def too_small(size: tuple[int, int]) -> list[Line]:
    """Return a message if the screen is too small, otherwise nothing."""
    if size[0] >= SMALLEST[0] and size[1] >= SMALLEST[1]:
        return []
    return [[(f"The terminal has {size[0]} x {size[1]};", "")], [(f"it needs {SMALLEST[0]} x {SMALLEST[1]}.", "")]]


def below_head(
    look: Looking, listing: Listing, width: int, lines: int, text: Callable[[], Sequence[Line]], nothing: str, more_keys: str = ""
) -> list[Line]:
    """Return the lines below the head: the list or the text, and the keys. If the list is empty, show `nothing`."""
    if look.view == look.overview:
        rows = look.listed(listing)
        shown, foot = list_lines(look, listing, rows, width, lines, nothing), _list_foot(look, len(rows), width, lines, more_keys)
    else:
        shown, foot = _scrolled(text(), look, lines), _text_foot(look, width)
    return [*shown, *[[]] * (lines + 1 - len(shown)), foot]


def list_lines(look: Looking, listing: Listing, rows: Sequence[Row], width: int, lines: int, nothing: str) -> list[Line]:
    """Return headings and visible rows. If there are no rows, show `nothing`."""
    marked = look.place(rows, lines)
    name, columns, note = fitting(listing.columns, width, max((prose.cells(row.name) for row in listing.rows), default=0), look.note_least)
    arrow = "↓" if look.falling else "↑"
    headings = [cell(f"{look.name}{arrow}" if look.sort == look.name else look.name, name)]
    headings += [
        cell(f"{arrow if look.sort == column['name'] else ''}{column['name']}", room, right=column["unit"] != Unit.TEXT)
        for column, room in columns
    ]
    headings.append(f"{arrow}{HARM}" if look.sort == HARM else HARM)
    out: list[Line] = [[(cell(" ".join(headings), width - 1), "reverse")]]
    if not rows:
        why = f"no {look.name}'s name contains {look.pattern!r} (Esc shows all)" if listing.rows else nothing
        return [*out, [(why, "dim")]]
    for number, row in enumerate(rows[look.first : look.first + lines], look.first):
        cells = [(cell(shortened(row.name, name), name), "red" if row.harm else "")]
        for column, room in columns:
            value, mark_from = row.values.get(column["name"]), column["mark_from"]
            bad = mark_from is not None and isinstance(value, int | float) and value >= mark_from
            cells.append((" " + cell(text_of(value, column["unit"]), room, right=column["unit"] != Unit.TEXT), "red" if bad else ""))
        cells.append((" " + cell(row.note, note), "yellow"))
        joined = [("".join(text for text, _ in alike), style) for style, alike in groupby(cells, key=itemgetter(1))]
        out.append([(text, f"reverse {style}".strip()) for text, style in joined] if number == marked else joined)
    return out


def _list_foot(look: Looking, rows: int, width: int, lines: int, more: str = "") -> Line:
    if look.typing:
        return [("filter: ", "bold"), (look.pattern, ""), ("█", ""), ("  Enter: keep  Esc: cancel", "dim")]
    shown = f"filter {look.pattern!r}  " if look.pattern else ""
    visible = f"{look.first + 1} to {min(rows, look.first + lines)} of {rows}, " if rows > lines else ""
    order = f"sufferers {'first' if look.falling else 'last'}" if look.sort == HARM else f"by {look.sort}"
    keys = f"{visible}{order}  ?:help q:end Enter:why {more}/:filter <>:sort s:sufferers r:turn p:pause"
    return [(shown, "bold yellow"), (cell(keys, max(0, width - 1 - len(shown))), "dim")]


def _text_foot(look: Looking, width: int) -> Line:
    back = f"{look.views[look.overview]}:{look.overview}{' Tab:next' if len(look.views) > 1 else ''}"
    keys = "Esc:back ↑↓:scroll p:pause ?:help" if look.view == look.name else f"{back} ↑↓:scroll p:pause ?:help q:end"
    return [(cell(keys, width - 1), "dim")]


def help_lines(look: Looking, listing: Listing, width: int, why: str = "", more: Sequence[tuple[str, str]] = ()) -> list[Line]:
    """Return the keys and the meanings of the columns. `why` ends the description of the Enter key."""
    rows = [(keys, text.format(name=look.name, why=why)) for keys, text in KEYS]
    out: list[Line] = [heading("keys", width)]
    out += [[(cell(keys, 24), "cyan"), (text, "")] for keys, text in (*rows[:-2], *more, *rows[-2:])]
    out += [[], [("columns", "bold")]]
    out += [[(cell(column["name"], 12), "cyan"), (column["about"], "")] for column in listing.columns]
    return out


def _scrolled(text: Sequence[Line], look: Looking, lines: int) -> list[Line]:
    first_line, *body = text
    first = max(0, min(look.scroll.get(look.view, 0), len(body) - lines))
    look.scroll[look.view] = first
    shown = body[first : first + lines]
    below = len(body) - first - len(shown)
    if below and shown:
        shown[-1] = [(f"↓ {below + 1} more lines", "dim")]
    return [first_line, *shown]


def heading(text: str, width: int) -> Line:
    """Return a heading as a line."""
    return [(cell(f" {text}", width - 1), "reverse")]


def wrapped(text: str, width: int, style: str = "") -> list[Line]:
    """Wrap a text into lines."""
    return [[(line, style)] for line in in_lines(text, width - 2, 2)]


def in_lines(text: str, width: int, hang: int = 0) -> list[str]:
    """Wrap a text, and break words longer than a line. All lines except the first are indented by `hang`."""
    room = max(20, width)
    return [part for line in prose.wrapped(text, room, hang) for part in chop_cells(line, room) or [""]]


def memory_line(total: float | None, available: float | None, style: str, width: int, more: str = "") -> Line:
    """Return a bar and a text for the available memory (KiB; None if unknown). `more` replaces the percentage."""
    if not total or available is None:
        return [("memory ", ""), ("unknown", "yellow")]
    share = max(0.0, min(1.0, available / total))
    text = f" {format_kib(available)} of {format_kib(total)} available{more or f' ({share:.0%})'}"
    room = max(5, min(60, width - 8 - len(text) - 2))
    used = round((1 - share) * room)
    return [("memory ", ""), ("█" * used, style), ("░" * (room - used), "dim"), (text, style if style != "green" else "")]
