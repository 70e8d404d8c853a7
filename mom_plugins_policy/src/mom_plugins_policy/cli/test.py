"""`mom policy test`: run tests of policies."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from mom_cli import declarations_of
from mom_core import ConfigError, ConfigProblem, brief, print_prose, printable
from mom_plugins_policy.cli.inputs import EXIT_NO, config_option, configured, json_option, limits_of
from mom_plugins_policy.tools.cases import PolicyTest, PolicyTestResult, read_cases, run_case

_SUFFIXES: Final = (".yaml", ".yml")


@click.command("test")
@click.argument("paths", metavar="TESTS.yaml|DIRECTORY...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-v", "--verbose", is_flag=True, help="Show the tests that pass, too.")
@json_option
@config_option
def test_command(paths: tuple[Path, ...], verbose: bool, as_json: bool, config_path: str | None) -> None:
    """Run tests of policies: given fields, expected decisions. Nothing on the host is read or changed.

    Exit code 0 when all pass, 1 when one fails, 2 when tests or policies cannot be read.
    """
    config = configured(config_path)
    declarations = declarations_of(config)
    problems: list[ConfigProblem] = []
    cases: list[PolicyTest] = []
    for path in _files(paths, problems):
        try:
            cases += read_cases(path, declarations, limits_of(config))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    verdicts = [_verdict(case) for case in cases]
    if as_json:
        click.echo(json.dumps([_plain(verdict) for verdict in verdicts], indent=2))
    else:
        _show(verdicts, verbose)
    sys.exit(0 if all(verdict.passed for verdict in verdicts) else EXIT_NO)


def _files(paths: Sequence[Path], problems: list[ConfigProblem]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        found = sorted(inner for inner in path.iterdir() if inner.suffix in _SUFFIXES and not inner.name.startswith("."))
        if not found:
            problems.append(ConfigProblem(printable(str(path), 400), 0, 0, "holds no tests", "tests are files whose names end with .yaml"))
        files += found
    return list(dict.fromkeys(files))


def _verdict(case: PolicyTest) -> PolicyTestResult:
    begun = time.perf_counter()
    differences = run_case(case)
    return PolicyTestResult(case, differences, time.perf_counter() - begun)


def _show(verdicts: Sequence[PolicyTestResult], verbose: bool) -> None:
    for verdict in verdicts:
        case = verdict.case
        name = printable(case.name, 200)
        if verdict.passed:
            if verbose:
                click.echo(f"{click.style('ok', fg='green')}    {name}")
            continue
        print_prose(
            f"{click.style('FAIL', fg='red')}  {name}  {click.style(f'{printable(case.file, 400)}:{case.line}:{case.column}', dim=True)}", 6
        )
        for difference in verdict.differences:
            click.echo(f"      {printable(difference.about, 200)}")
            print_prose(f"        expected  {brief(difference.expected, 400)}", 18)
            where = f"   by {printable(difference.where, 200)}" if difference.where else ""
            print_prose(f"        got       {brief(difference.got, 400)}{where}", 18)
    failed = sum(not verdict.passed for verdict in verdicts)
    click.echo(f"{len(verdicts)} test{'s' if len(verdicts) != 1 else ''}, {failed} failed" if failed else f"{len(verdicts)} passed")


def _plain(verdict: PolicyTestResult) -> dict[str, object]:
    case = verdict.case
    return {
        "name": case.name,
        "file": case.file,
        "line": case.line,
        "passed": verdict.passed,
        "seconds": round(verdict.seconds, 6),
        "differences": [{"about": d.about, "expected": d.expected, "got": d.got, "where": d.where or None} for d in verdict.differences],
    }
