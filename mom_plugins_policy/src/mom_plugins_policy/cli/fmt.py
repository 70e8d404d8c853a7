"""`mom policy fmt`: consistent layout of policies."""

from __future__ import annotations

from pathlib import Path

import click

from mom_core import ConfigError, ConfigProblem
from mom_daemon import as_caller, print_text
from mom_plugins_policy.language.errors import PolicyError
from mom_plugins_policy.language.formatter import formatted
from mom_plugins_policy.sources import text_of


@click.command("fmt")
@click.argument("path", metavar="FILE|-", type=click.Path(path_type=Path))
@as_caller
def fmt_command(path: Path) -> None:
    """Print a policy with consistent indentation, spaces and blank lines. Comments and line breaks stay. `-` is standard input."""
    shown = "standard input" if str(path) == "-" else str(path)
    try:
        print_text(formatted(shown, text_of(path)))
    except PolicyError as error:
        raise ConfigError([ConfigProblem(shown, fault.line, fault.column, fault.text) for fault in error.faults]) from error
