"""A mistake as a person wants to see it: file, line and column, what is wrong, the line itself, and a caret below the place."""

from __future__ import annotations

from collections.abc import Mapping

from mom_core import Source, printable

_BEFORE, _AFTER = 60, 40  # columns shown around a place in a line that is too long to be shown


def located(name: str, line: int, column: int, files: Mapping[str, str]) -> str:
    """Return a place as `file:line:column`, with the policy's name where it comes from no file."""
    where = printable(files.get(name) or name, 400)
    return f"{where}:{line}:{column}" if line else where


def excerpt(text: str, line: int, column: int) -> str:
    """Return the line with a caret below the column (both 1-based), as two lines; empty if there is no such line."""
    lines = text.split("\n")
    if not 0 < line <= len(lines):
        return ""
    shown, place = _as_wide(lines[line - 1].rstrip()), column - 1
    before = after = ""
    if len(shown) > _BEFORE + _AFTER:
        first = max(0, place - _BEFORE)
        before = "…" if first else ""
        after = "…" if first + _BEFORE + _AFTER < len(shown) else ""
        shown, place = shown[first : first + _BEFORE + _AFTER], place - first
    blank = "".join("\t" if character == "\t" else " " for character in shown[:place].ljust(place))
    return f"    {before}{shown}{after}\n    {' ' * len(before)}{blank}^"


def _as_wide(line: str) -> str:
    """Return the line without what would move the caret, or the terminal's cursor."""
    return "".join(c if c.isprintable() or c == "\t" else "\u00b7" for c in line.removeprefix("\ufeff"))


def told(source: Source, message: str, texts: Mapping[str, str], files: Mapping[str, str]) -> str:
    """Return a message with its place, and an excerpt where there is one.

    :param texts: policy texts by name
    :param files: the files that they come from, by name, as far as they come from any
    """
    name, line, column = source
    place = located(name, line, column, files)
    head = printable(f"{place}: " * bool(place) + message, 2000)
    below = excerpt(texts.get(name, ""), line, column)
    return f"{head}\n{below}" if below else head
