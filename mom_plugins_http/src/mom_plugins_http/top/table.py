"""Columns and lines of a screen with the list of guests or a text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from mom_core import Unit, format_kib, printable
from mom_plugins_http.top.picture import GUESTS, HARM, NAME, Looking, Row
from mom_plugins_http.top.terminal import Line, cell, shortened

if TYPE_CHECKING:
    from mom_daemon.report_models import GuestColumnModel
    from mom_plugins_http.top.picture import Picture

UNKNOWN: Final = "-"

_WIDTHS: Final[dict[str, int]] = {Unit.KIB: 5, Unit.KIB_PER_SECOND: 5, Unit.SECONDS: 4, Unit.PERCENT: 4, Unit.COUNT: 4}
_OTHER_WIDTH: Final = 8

_NAME_LEAST: Final = 12

_NOTE_LEAST: Final = 16


def short(kib: float | None) -> str:
    """Format a size in five characters, such as 512M, 15.9G, 1.25T."""
    if kib is None:
        return UNKNOWN
    if abs(kib) < 0.5:
        return "0"
    value = float(kib)
    for unit in "KMGTP":
        if abs(value) < 999.5:
            digits = 0 if abs(value) >= 99.95 or unit in "KM" else 1 if abs(value) >= 9.995 else 2
            return f"{value:.{digits}f}{unit}"
        value /= 1024
    return f"{value:.0f}E"


def age(seconds: float) -> str:
    """Format a duration in four characters, such as 12s, 90m, 3h, 12d."""
    for unit, length, most in (("s", 1, 100), ("m", 60, 100), ("h", 3600, 72)):
        if seconds / length < most:
            return f"{seconds / length:.0f}{unit}"
    return f"{min(seconds / 86400, 999):.0f}d"


def percent(value: float) -> str:
    """Format a percentage in four characters, without a percent sign."""
    return f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def text_of(value: Any, unit: str) -> str:
    """Format a value in few characters."""
    if value is None:
        return UNKNOWN
    write = _WRITTEN.get(unit)
    return printable(str(value), 40) if write is None or isinstance(value, str) else write(value)


_WRITTEN: Final[dict[str, Callable[[float], str]]] = {Unit.KIB: short, Unit.KIB_PER_SECOND: short, Unit.SECONDS: age, Unit.PERCENT: percent}


def fitting(columns: Sequence[GuestColumnModel], screen: int, longest: int) -> tuple[int, list[tuple[GuestColumnModel, int]], int]:
    """Return the width of names, the fitting columns with their widths, and the width of notes."""
    shown = [(column, max(len(column["name"]), _WIDTHS.get(column["unit"], _OTHER_WIDTH))) for column in columns]
    while shown and _left(shown, screen) < _NAME_LEAST + _NOTE_LEAST and (rank := max(column["rank"] for column, _ in shown)):
        del shown[max(n for n, (column, _) in enumerate(shown) if column["rank"] == rank)]
    left = _left(shown, screen)
    name = max(_NAME_LEAST, min(longest, left * 6 // 10, left - _NOTE_LEAST))
    return name, shown, max(0, left - name)


def _left(shown: Sequence[tuple[GuestColumnModel, int]], screen: int) -> int:
    return screen - 2 - sum(width + 1 for _, width in shown)


# --- lines ---------------------------------------------------------------------------------------------------------------------

SMALLEST: Final = (40, 10)
"""Smallest screen, in columns and lines."""

KEYS: Final = (
    ("↑↓ PgUp PgDn Home End", "move (also j k)"),
    ("Enter", "details of the selected guest: why it has its size"),
    ("/", "filter guests: part of a name, or a pattern with * and ?"),
    ("Esc", "back; in the list: show all guests"),
    ("< >", "sort by the next column; r: reverse; s: sufferers first"),
    ("d ! g Tab", "decisions; problems and plugins; guests; the next view"),
    ("p or space", "pause the display; mom continues"),
    ("q", "quit"),
)


def too_small(size: tuple[int, int]) -> list[Line]:
    """Return a message if the screen is too small, otherwise nothing."""
    if size[0] >= SMALLEST[0] and size[1] >= SMALLEST[1]:
        return []
    return [[(f"The terminal has {size[0]} x {size[1]};", "")], [(f"it needs {SMALLEST[0]} x {SMALLEST[1]}.", "")]]


def below_head(look: Looking, picture: Picture, width: int, lines: int, text: Callable[[], Sequence[Line]]) -> list[Line]:
    """Return the lines below the head: the list or the text, and the keys."""
    if look.view == GUESTS:
        rows = look.listed(picture)
        shown, foot = list_lines(look, picture, rows, width, lines), _list_foot(look, len(rows), width, lines)
    else:
        shown, foot = _scrolled(text(), look, lines), _text_foot(look, width)
    return [*shown, *[[]] * (lines + 1 - len(shown)), foot]


def list_lines(look: Looking, picture: Picture, rows: Sequence[Row], width: int, lines: int) -> list[Line]:
    """Return headings and visible rows."""
    marked = look.place(rows, lines)
    name, columns, note = fitting(picture.columns, width, max((cell_len(row.name) for row in picture.rows), default=0))
    arrow = "↓" if look.falling else "↑"
    headings = [cell(f"{NAME}{arrow}" if look.sort == NAME else NAME, name)]
    headings += [
        cell(f"{arrow if look.sort == column['name'] else ''}{column['name']}", room, right=column["unit"] != Unit.TEXT)
        for column, room in columns
    ]
    headings.append(f"{arrow}{HARM}" if look.sort == HARM else HARM)
    out: list[Line] = [[(cell(" ".join(headings), width - 1), "reverse")]]
    if not rows:
        none = picture.guests_unknown or "there are no guests on this host"
        return [*out, [(f"no guest's name contains {look.pattern!r} (Esc shows all)" if picture.rows else none, "dim")]]
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


def _list_foot(look: Looking, rows: int, width: int, lines: int) -> Line:
    if look.typing:
        return [("filter: ", "bold"), (look.pattern, ""), ("█", ""), ("  Enter: keep  Esc: cancel", "dim")]
    shown = f"filter {look.pattern!r}  " if look.pattern else ""
    visible = f"{look.first + 1} to {min(rows, look.first + lines)} of {rows}, " if rows > lines else ""
    order = f"sufferers {'first' if look.falling else 'last'}" if look.sort == HARM else f"by {look.sort}"
    keys = f"{visible}{order}  ?:help q:end Enter:why !:problems d:decisions /:filter <>:sort s:sufferers r:turn p:pause"
    return [(shown, "bold yellow"), (cell(keys, max(0, width - 1 - len(shown))), "dim")]


def _text_foot(look: Looking, width: int) -> Line:
    keys = "Esc:back ↑↓:scroll p:pause ?:help" if look.view == NAME else "g:guests Tab:next ↑↓:scroll p:pause ?:help q:end"
    return [(cell(keys, width - 1), "dim")]


def help_lines(picture: Picture, width: int) -> list[Line]:
    """Return the keys and the meanings of the columns."""
    return [
        heading("keys", width),
        *([(cell(keys, 24), "cyan"), (text, "")] for keys, text in KEYS),
        *([], [("columns", "bold")]),
        *([(cell(column["name"], 12), "cyan"), (column["about"], "")] for column in picture.columns),
    ]


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
    lines = [line.plain for line in Text(text).wrap(Console(), max(20, width) - hang)] or [""]
    return [lines[0], *(" " * hang + line for line in lines[1:])]


def memory_line(total: float | None, available: float | None, style: str, width: int, more: str = "") -> Line:
    """Return a bar and a text for the available memory (KiB; None if unknown). `more` replaces the percentage."""
    if not total or available is None:
        return [("memory ", ""), ("unknown", "yellow")]
    share = max(0.0, min(1.0, available / total))
    text = f" {format_kib(available)} of {format_kib(total)} available{more or f' ({share:.0%})'}"
    room = max(5, min(60, width - 8 - len(text) - 2))
    used = round((1 - share) * room)
    return [("memory ", ""), ("█" * used, style), ("░" * (room - used), "dim"), (text, style if style != "green" else "")]
