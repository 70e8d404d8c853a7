"""`mom policy fmt`: lay policies out."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from mom_core import ConfigError, ConfigProblem, printable
from mom_daemon import print_text
from mom_plugins_policy.cli.inputs import EXIT_MISUSE, EXIT_NO
from mom_plugins_policy.language.errors import PolicyError
from mom_plugins_policy.language.limits import DEFAULT_LIMITS
from mom_plugins_policy.sources import SUFFIX, files_in, text_of
from mom_plugins_policy.tools.excerpts import told
from mom_plugins_policy.tools.formatter import formatted

_LONGEST = 4 * DEFAULT_LIMITS.text


@click.command("fmt")
@click.argument("paths", metavar="FILE|DIRECTORY|-...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--check", is_flag=True, help="Write nothing; exit code 1 if a file would change.")
def fmt_command(paths: tuple[Path, ...], check: bool) -> None:
    """Lay policies out, in place: indentation, spaces and blank lines. `-` is standard input.

    Comments stay, and the program is the same: that is checked before a file is replaced. Line breaks stay where
    you made them.
    """
    wrong = changed = 0
    for path in _files(paths):
        shown = "standard input" if str(path) == "-" else str(path)
        read: str | None = None
        try:
            problems: list[ConfigProblem] = []
            read = text_of(path, problems, _LONGEST, "a policy is a text file")
            if read is None:
                raise ConfigError(problems)
            before, after = read, formatted(shown, read)
            if not check:
                _write(path, before, after)
        except (PolicyError, ConfigError) as error:
            wrong += 1
            several = (
                error.problems
                if isinstance(error, ConfigError)
                else [told(one, {shown: read or ""}, {shown: shown}) for one in error.faults]
            )
            for one in several:
                click.echo(str(one), err=True)
            continue
        if after != before:
            changed += 1
            if check or str(path) != "-":
                click.echo(f"{'would lay out' if check else 'laid out'} {printable(shown, 400)}", err=check)
    if wrong:
        sys.exit(EXIT_MISUSE)
    if changed and check:
        sys.exit(EXIT_NO)


def _files(paths: tuple[Path, ...]) -> list[Path]:
    problems: list[ConfigProblem] = []
    files = [file for path in paths for file in ([path] if str(path) == "-" else files_in(path, problems, SUFFIX))]
    if problems:
        raise ConfigError(problems)
    return list(dict.fromkeys(files))


def _write(path: Path, before: str, after: str) -> None:
    if str(path) == "-":
        print_text(after)
    elif after != before:
        try:
            path.write_text(after, encoding="utf-8", newline="")
        except OSError as error:
            raise ConfigError([ConfigProblem(str(path), 0, 0, f"cannot be written: {error.strerror}")]) from error
