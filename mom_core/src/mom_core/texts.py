"""Makes untrusted text safe to print."""

from __future__ import annotations

from collections.abc import Sequence


def printable(text: str, limit: int = 80) -> str:
    """Escape control characters in an untrusted string, and cut it to `limit` characters."""
    shown = _escaped(text[: limit + 1], "")  # escape only the part that remains
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def shown(value: object, limit: int = 60) -> str:
    """Return the `repr` of a plugin's value, safe to print."""
    return printable(repr(value), limit)


def first_names(names: Sequence[str], most: int = 5) -> str:
    """Join the first `most` untrusted names, and count the others."""
    shown = ", ".join(printable(name) for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def count_of(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun, such as `1 guest` or `2 guests`."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def printable_lines(text: str) -> str:
    """Escape control characters, except line ends and tabs."""
    return _escaped(text, "\n\t")


def _escaped(text: str, kept: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in kept else c.encode("unicode_escape").decode("ascii") for c in text)
