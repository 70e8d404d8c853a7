"""Tables: framed where a person looks at a terminal, plain lines that grep and cut understand where a program reads."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from mom_core.model import printable

LONGEST_CELL = 2000
"""Characters of what comes from guests, policies and files."""


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "") -> None:
    """Print rows of texts below their headings. Not on a terminal, lines are as long as they need to be, and nothing is cut."""
    rows = [[printable(cell, LONGEST_CELL) for cell in row] for row in rows]
    if sys.stdout is not None and sys.stdout.isatty():
        _framed(headings, rows, title)
        return
    if title:
        click.echo(title)
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    for row in (headings, *rows):
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _framed(headings: Sequence[str], rows: Sequence[Sequence[str]], title: str) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for number, heading in enumerate(headings):
        table.add_column(heading, overflow="fold", no_wrap=number == 0)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # as it is: brackets in a value are no markup
    Console().print(table)
