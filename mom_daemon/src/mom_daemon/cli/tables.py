"""Tables: fitted to a terminal, and full lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final, NamedTuple

import click

from mom_core import printable
from mom_daemon.cli.prose import cells, print_prose, terminal_columns

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
