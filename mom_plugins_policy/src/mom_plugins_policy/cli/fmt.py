"""`mom policy fmt`: lay policies out."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from mom_core import ConfigError, ConfigProblem, print_text, printable
from mom_plugins_policy.cli.inputs import EXIT_MISUSE, EXIT_NO
from mom_plugins_policy.language.errors import PolicyError
from mom_plugins_policy.language.limits import DEFAULT_LIMITS
from mom_plugins_policy.sources import policy_files, text_of
from mom_plugins_policy.tools.excerpts import told
from mom_plugins_policy.tools.formatter import formatted

_LONGEST = 4 * DEFAULT_LIMITS.text
_HINT = "a policy is a text file"


@click.command("fmt")
@click.argument("paths", metavar="FILE|DIRECTORY|-...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--check", is_flag=True, help="Write nothing; exit code 1 if a file would change.")
def fmt_command(paths: tuple[Path, ...], check: bool) -> None:
    """Lay policies out, in place: indentation, spaces and blank lines; lines of at most 100 columns. `-` is standard input.

    Comments stay, and the program is the same: that is checked before a file is replaced. A line break between two parts of a list
    stays a line break.
    """
    wrong = changed = 0
    for path in _files(paths):
        shown = "standard input" if str(path) == "-" else str(path)
        before = ""
        try:
            before = _read_input() if str(path) == "-" else _read(path)
            after = formatted(shown, before)
            if not check:
                _write(path, before, after)
        except PolicyError as error:
            wrong += 1
            for fault in error.faults:
                click.echo(told(fault, {shown: before}, {shown: shown}), err=True)
            continue
        except ConfigError as error:
            wrong += 1
            for problem in error.problems:
                click.echo(str(problem), err=True)
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
    files = [file for path in paths for file in ([path] if str(path) == "-" else policy_files(path, problems))]
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


def _read_input() -> str:
    if sys.stdin is None:
        return ""
    try:
        text = sys.stdin.buffer.read(_LONGEST + 1).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError([ConfigProblem("standard input", 0, 0, f"byte {error.start} is not UTF-8", _HINT)]) from None
    return text


def _read(path: Path) -> str:
    problems: list[ConfigProblem] = []
    text = text_of(path, problems, _LONGEST, _HINT)
    if text is None:
        raise ConfigError(problems)
    return text
