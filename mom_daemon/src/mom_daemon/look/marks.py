"""Marks of severities before lines, all of one width."""

from __future__ import annotations

import click

from mom_core import Severity

_MARKS = {Severity.OK: ("ok   ", "green"), Severity.WARNING: ("warn ", "yellow"), Severity.ERROR: ("WRONG", "red")}


def mark(severity: Severity) -> str:
    """Return a severity's coloured mark. `click.echo` removes unwanted colours."""
    text, colour = _MARKS[severity]
    return click.style(text, fg=colour, bold=True if severity is Severity.ERROR else None)
