"""Tables: fitted to a terminal, and full lines elsewhere, for grep and cut."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

import click

from mom_core import printable
from mom_daemon.cli.prose import cells, terminal_columns, wrapped

GAP: Final = 2

PROSE_LEAST: Final = 32
"""Least width of a column of prose; a narrower one moves below its row."""

CELL_LEAST: Final = 12
"""Least width of a cut cell."""

BELOW: Final = 4


class TableColumn(NamedTuple):
    """Column of a table. A narrow terminal omits the highest ranks first, never rank 0. Columns of `prose` may move below their row."""

    heading: str
    rank: int = 0
    prose: bool = False


class Layout(NamedTuple):
    """Widths of the columns beside each other, keyed by index. Indices of columns that move below their rows, and of omitted columns."""

    widths: dict[int, int]
    below: Sequence[int]
    left_out: Sequence[int]


def print_table(headings: Sequence[str | TableColumn], rows: Sequence[Sequence[str]], *, title: str = "") -> None:
    """Print a table, fitted to a terminal."""
    rows = [[printable(cell, sys.maxsize) for cell in row] for row in rows]
    columns = [TableColumn(heading) if isinstance(heading, str) else heading for heading in headings]
    if title:
        click.echo(click.style(title, bold=True))
    width = terminal_columns()
    lines = _plain(columns, rows) if width is None else _fitted(columns, rows, width)
    for line in lines:
        click.echo(line)


def _plain(columns: Sequence[TableColumn], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(cells, column)) for column in zip([column.heading for column in columns], *rows, strict=True)]
    for row in ([column.heading for column in columns], *rows):
        yield _line(row, widths)


def _fitted(columns: Sequence[TableColumn], rows: Sequence[Sequence[str]], width: int) -> Iterator[str]:
    layout = layout_of(columns, rows, width)
    numbers, widths = list(layout.widths), list(layout.widths.values())
    yield _line([columns[n].heading for n in numbers], widths, lambda text: click.style(text, bold=True))
    yield click.style("─" * (sum(widths) + GAP * (len(widths) - 1)), dim=True)
    for row in rows:
        parts = [_filled(row[n], wide) if columns[n].prose else [_cut(row[n], wide)] for n, wide in layout.widths.items()]
        for at in range(max(map(len, parts), default=0)):
            yield _line([part[at] if at < len(part) else "" for part in parts], widths)
        for number in layout.below:
            if row[number]:
                yield from wrapped(" " * BELOW + row[number], width, BELOW)
    if layout.left_out:
        names = ", ".join(columns[n].heading for n in layout.left_out)
        yield from (click.style(part, dim=True) for part in wrapped(f"no room in {width} columns for: {names}", width))


def _line(row: Sequence[str], widths: Sequence[int], style: Callable[[str], str] = str) -> str:
    padded = [style(cell) + " " * (wide - cells(cell)) for cell, wide in zip(row, widths, strict=True)]
    return (" " * GAP).join(padded).rstrip(" ")


def layout_of(columns: Sequence[TableColumn], rows: Sequence[Sequence[str]], width: int) -> Layout:
    """Return the columns that fit. Empty columns are omitted unless required."""
    natural = {n: max([cells(column.heading), *(cells(row[n]) for row in rows)]) for n, column in enumerate(columns)}
    filled = [n for n, column in enumerate(columns) if not (column.rank or column.prose) or any(row[n] for row in rows)]
    least = {n: min(natural[n], PROSE_LEAST) if columns[n].prose else natural[n] for n in filled}
    beside = _without_the_least_important(columns, filled, least, width)
    below: list[int] = []
    if _together(least, beside) > width:
        below = [n for n in filled if columns[n].prose]
        beside = _without_the_least_important(columns, [n for n in filled if n not in below], least, width)
    widths = {n: least[n] for n in beside}
    spare = width - _together(least, beside)
    for n in beside:
        if spare < 0:  # only required columns are left: cut the widest
            break
        more = min(spare, natural[n] - widths[n])
        widths[n] += more
        spare -= more
    while spare < 0 and max(widths.values()) > CELL_LEAST:
        widest = max(widths, key=lambda n: widths[n])
        widths[widest] -= 1
        spare += 1
    return Layout(widths, below, [n for n in filled if n not in beside and n not in below])


def _without_the_least_important(columns: Sequence[TableColumn], among: Sequence[int], least: dict[int, int], width: int) -> list[int]:
    kept = list(among)
    while _together(least, kept) > width:
        last = max((n for n in kept if columns[n].rank), key=lambda n: (columns[n].rank, n), default=None)
        if last is None:
            break
        kept.remove(last)
    return kept


def _together(widths: dict[int, int], numbers: Sequence[int]) -> int:
    return sum(widths[n] for n in numbers) + GAP * max(0, len(numbers) - 1)


def _filled(text: str, width: int) -> list[str]:
    lines = []
    for line in wrapped(text, width):
        left = line
        while cells(left) > width:
            end = width
            while cells(left[:end]) > width:  # characters that are two columns wide
                end -= 1
            end = max((left.rfind(mark, 0, end) + 1 for mark in "/,;:-_"), default=0) or end
            lines.append(left[:end])
            left = left[end:]
        lines.append(left)
    return lines


def _cut(text: str, width: int) -> str:
    if cells(text) <= width:
        return text
    text = text[: width - 1]
    while cells(text) >= width:  # characters that are two columns wide
        text = text[:-1]
    return text + "…"
