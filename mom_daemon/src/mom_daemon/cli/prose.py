"""Text for people: wrapped on a terminal, unwrapped elsewhere."""

from __future__ import annotations

import shutil
import sys

import click

from mom_core import Severity, printable

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
