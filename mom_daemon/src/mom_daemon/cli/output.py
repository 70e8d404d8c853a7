"""Output: text that steers no terminal, lines wrapped on a terminal, and tables."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, TextIO

import click

from mom_core import Severity, printable
from mom_core.texts import printable_lines

_MARKS = {Severity.OK: ("ok   ", "green"), Severity.WARNING: ("warn ", "yellow"), Severity.ERROR: ("WRONG", "red")}


def mark(severity: Severity) -> str:
    """Return a severity's coloured mark."""
    text, colour = _MARKS[severity]
    return click.style(text, fg=colour, bold=True if severity is Severity.ERROR else None)


def terminal_columns(*, err: bool = False) -> int | None:
    """Return the terminal's width; None if the output is no terminal."""
    stream = sys.stderr if err else sys.stdout
    if stream is None or not stream.isatty():
        return None
    return shutil.get_terminal_size((80, 24)).columns


def brief(text: str, limit: int) -> str:
    """Make untrusted text safe to print on one line. On a terminal, shorten it to `limit` characters."""
    return printable(text, sys.maxsize if terminal_columns() is None else limit)


def print_prose(text: str, hang: int = 0, *, err: bool = False) -> None:
    """Print lines, wrapped on a terminal.

    :param hang: indent of continuation lines
    """
    width = terminal_columns(err=err)
    for line in text.split("\n"):
        for part in [line] if width is None else wrapped(line, width, hang):
            click.echo(part, err=err)


def wrapped(line: str, width: int, hang: int = 0) -> list[str]:
    """Wrap a line between words. A word wider than `width` gets its own line."""
    if cells(line) <= width:
        return [line]
    parts: list[str] = []
    part, filled, has_word = "", 0, False
    for number, word in enumerate(line.split(" ")):
        wide = cells(word)
        if has_word and filled + 1 + wide > width:
            parts.append(part.rstrip(" "))
            part, filled, has_word = " " * hang + word, hang + wide, bool(word)
        else:
            part, filled = (f"{part} {word}", filled + 1 + wide) if number else (word, wide)
            has_word = has_word or bool(word)
    return [*parts, part.rstrip(" ")]


def cells(text: str) -> int:
    """Return the width in columns, without styles."""
    plain = click.unstyle(text) if "\x1b" in text else text
    if plain.isascii():
        return len(plain)
    from rich.cells import cell_len

    return cell_len(plain)


# --- tables --------------------------------------------------------------------------------------------------------------------

GAP: Final = 2

PROSE_LEAST: Final = 32


class TableColumn(NamedTuple):
    """Column of a table. Narrow terminals omit the highest-ranked columns first, never rank 0. Only columns with `prose` are wrapped."""

    heading: str
    rank: int = 0
    prose: bool = False


def print_table(headings: Sequence[str | TableColumn], rows: Sequence[Sequence[str]], *, title: str = "") -> None:
    """Print a table, fitted to a terminal."""
    rows = [[printable(cell, sys.maxsize) for cell in row] for row in rows]
    columns = [TableColumn(heading) if isinstance(heading, str) else heading for heading in headings]
    if title:
        click.echo(click.style(title, bold=True))
    width = terminal_columns()
    if width is None:
        _print_whole([[column.heading for column in columns], *rows])
    else:
        _print_fitted(columns, rows, width)


def _print_whole(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(cells, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo((" " * GAP).join(cell + " " * (wide - cells(cell)) for cell, wide in zip(row, widths, strict=True)).rstrip(" "))


def _print_fitted(columns: Sequence[TableColumn], rows: Sequence[Sequence[str]], width: int) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    needed = [max(map(cells, (column.heading, *(row[n] for row in rows)))) for n, column in enumerate(columns)]
    least = [min(wide, PROSE_LEAST) if column.prose else wide for wide, column in zip(needed, columns, strict=True)]
    shown = [n for n, column in enumerate(columns) if not (column.rank or column.prose) or any(row[n] for row in rows)]
    left_out: list[str] = []
    while sum(least[n] + GAP for n in shown) - GAP > width and (optional := [n for n in shown if columns[n].rank]):
        last = max(optional, key=lambda n: (columns[n].rank, n))
        shown.remove(last)
        left_out.insert(0, columns[last].heading)
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold")
    for n in shown:
        table.add_column(columns[n].heading, overflow="fold" if columns[n].prose else "ellipsis")
    for row in rows:
        table.add_row(*(Text(row[n]) for n in shown))
    Console(width=width, highlight=False).print(table)
    if left_out:
        print_prose(click.style(f"no room in {width} columns for: {', '.join(left_out)}", dim=True))


# --- untrusted text ------------------------------------------------------------------------------------------------------------

_COLOURS: Final = re.compile(r"(\x1b\[[0-9;:]*m)")


class SafeStream:
    """Stream that escapes control characters except line ends, tabs and colours."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str | bytes) -> int:
        """Write escaped text and return its length."""
        if isinstance(text, bytes):
            text = text.decode("utf-8", "replace")
        self._stream.write("".join(part if number % 2 else _shown(part) for number, part in enumerate(_COLOURS.split(text))))
        return len(text)

    def write_file(self, text: str) -> None:
        """Write the content of a file: escaped on a terminal, exact UTF-8 elsewhere."""
        if self._stream.isatty():
            self._stream.write(_shown(text if text.endswith("\n") else f"{text}\n"))
        elif hasattr(self._stream, "buffer"):
            self._stream.flush()
            self._stream.buffer.write(text.encode("utf-8", "backslashreplace"))
        else:  # a program that embeds mom and expects text
            self._stream.write(text)
        self._stream.flush()

    def writelines(self, lines: Iterable[str]) -> None:
        """Write all lines."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":  # it would accept unescaped bytes
            raise AttributeError(name)
        return getattr(self._stream, name)


@contextmanager
def safe_streams() -> Iterator[None]:
    """Escape control characters in standard output and standard error."""
    before = sys.stdout, sys.stderr
    try:
        sys.stdout, sys.stderr = map(_safe, before)
        yield
    finally:
        sys.stdout, sys.stderr = before


@contextmanager
def progress(*, shown: bool) -> Iterator[Callable[[str], None]]:
    """Show progress on a terminal. Each text replaces the previous one."""
    from rich.console import Console

    console = Console(file=sys.__stderr__ or sys.stderr)  # it draws with control characters
    if not shown or not console.is_terminal:
        yield lambda text: None
        return
    with console.status("") as status:
        yield status.update


def _shown(text: str) -> str:
    if text.rstrip("\n").isprintable():
        return text
    return printable_lines(text)


def print_text(text: str) -> None:
    """Print the content of a file, unchanged in a pipe."""
    if (out := _safe(sys.stdout)) is not None:
        out.write_file(text)


def _safe(stream: Any) -> Any:
    return stream if stream is None or isinstance(stream, SafeStream) else SafeStream(stream)
