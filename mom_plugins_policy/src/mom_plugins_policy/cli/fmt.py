"""`mom policy fmt`: consistent layout of policies."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import click

from mom_core import ConfigError, ConfigProblem, printable, replace_file
from mom_daemon import as_caller, print_text
from mom_plugins_policy.cli.inputs import EXIT_NO
from mom_plugins_policy.language.errors import PolicyError
from mom_plugins_policy.language.formatter import formatted
from mom_plugins_policy.language.limits import DEFAULT_LIMITS
from mom_plugins_policy.sources import SUFFIX, files_in, text_of


@click.command("fmt")
@click.argument("paths", metavar="FILE|DIRECTORY|-...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--check", is_flag=True, help="Write nothing; exit code 1 if a file would change.")
@as_caller
def fmt_command(paths: tuple[Path, ...], check: bool) -> None:
    """Format policies in place: indentation, spaces and blank lines. `-` is standard input.

    Comments and line breaks stay. A file is replaced only after a check that its program is the same.
    """
    problems: list[ConfigProblem] = []
    files = [file for path in paths for file in ([path] if str(path) == "-" else files_in(path, problems, SUFFIX))]
    changed = False
    for path in dict.fromkeys(files):
        shown = "standard input" if str(path) == "-" else str(path)
        try:
            before = text_of(path, 4 * DEFAULT_LIMITS.text, "a policy is a text file")
            after = formatted(shown, before)
        except ConfigError as error:
            problems += error.problems
            continue
        except PolicyError as error:
            problems += [ConfigProblem(shown, fault.line, fault.column, fault.text) for fault in error.faults]
            continue
        changed = changed or after != before
        if not check:
            _write(path, before, after, problems)
        if after != before and (check or str(path) != "-"):
            click.echo(f"{'would format' if check else 'formatted'} {printable(shown, 400)}", err=check)
    if problems:
        raise ConfigError(problems)
    if changed and check:
        sys.exit(EXIT_NO)


def _write(path: Path, before: str, after: str, problems: list[ConfigProblem]) -> None:
    if str(path) == "-":
        print_text(after)
    elif after != before:
        try:
            # Replace atomically: half a policy, after a crash or on a full disk, could be valid.
            status = path.stat()
            replace_file(path.resolve(), after, durable=True, mode=stat.S_IMODE(status.st_mode), owner=(status.st_uid, status.st_gid))
        except OSError as error:
            problems.append(ConfigProblem(str(path), 0, 0, f"cannot be written: {error.strerror}"))
