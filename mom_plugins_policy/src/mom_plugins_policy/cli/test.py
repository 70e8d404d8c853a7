"""`mom policy test`: run tests of policies."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from mom_core import ConfigError, ConfigProblem, printable
from mom_daemon import as_caller, brief, config_option, declarations_of, json_option, print_prose
from mom_plugins_policy.cli.inputs import EXIT_NO, configured, limits_of
from mom_plugins_policy.sources import files_in
from mom_plugins_policy.tools.cases import Mismatch, PolicyTest, read_cases, run_case


@click.command("test")
@click.argument("paths", metavar="TESTS.yaml|DIRECTORY...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-v", "--verbose", is_flag=True, help="Show the tests that pass, too.")
@json_option
@config_option
@as_caller
def test_command(paths: tuple[Path, ...], verbose: bool, as_json: bool, config_path: str | None) -> None:
    """Run tests of policies: given fields, expected decisions. Nothing on the host is read or changed.

    Exit code 0 when all pass, 1 when one fails, 2 when tests or policies cannot be read.
    """
    config = configured(config_path)
    declarations = declarations_of(config)
    problems: list[ConfigProblem] = []
    cases: list[PolicyTest] = []
    files = [file for path in paths for file in files_in(path, problems, ".yaml", ".yml")]
    for file in dict.fromkeys(files):
        try:
            cases += read_cases(file, declarations, limits_of(config))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    results = [(case, run_case(case)) for case in cases]
    if as_json:
        click.echo(json.dumps([_plain(*result) for result in results], indent=2))
    else:
        _show(results, verbose)
    sys.exit(EXIT_NO if any(differences for _, differences in results) else 0)


def _show(results: Sequence[tuple[PolicyTest, Sequence[Mismatch]]], verbose: bool) -> None:
    for case, differences in results:
        name = printable(case.name, 200)
        if not differences:
            if verbose:
                click.echo(f"{click.style('ok', fg='green')}    {name}")
            continue
        place = click.style(f"{printable(case.file, 400)}:{case.line}:{case.column}", dim=True)
        print_prose(f"{click.style('FAIL', fg='red')}  {name}  {place}", 6)
        for difference in differences:
            click.echo(f"      {printable(difference.about, 200)}")
            print_prose(f"        expected  {brief(difference.expected, 400)}", 18)
            where = f"   by {printable(difference.where, 200)}" if difference.where else ""
            print_prose(f"        got       {brief(difference.got, 400)}{where}", 18)
    failed = sum(bool(differences) for _, differences in results)
    click.echo(f"{len(results)} test{'s' if len(results) != 1 else ''}, {failed} failed" if failed else f"{len(results)} passed")


def _plain(case: PolicyTest, differences: Sequence[Mismatch]) -> dict[str, object]:
    about = {name: getattr(case, name) for name in ("name", "file", "line")}
    return {**about, "passed": not differences, "differences": list(map(asdict, differences))}
