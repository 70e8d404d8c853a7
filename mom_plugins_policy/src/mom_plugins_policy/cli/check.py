"""`mom policy check`: mistakes in policies, before they go live."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from mom_core import Severity, printable
from mom_daemon import as_caller, config_option, json_option
from mom_kvm import PolicyProblem
from mom_plugins_policy.checks import check
from mom_plugins_policy.cli.inputs import EXIT_NO, Given, defaults_option, files_argument, given_policies
from mom_plugins_policy.cli.values import plain
from mom_plugins_policy.tools.excerpts import told


@click.command("check")
@files_argument
@click.option("--strict", is_flag=True, help="Exit code 1 for warnings, too.")
@defaults_option
@json_option
@config_option
@as_caller
def check_command(
    paths: tuple[Path, ...], strict: bool, with_default_policies: bool, as_json: bool, config_path: str | None
) -> None:  # fmt: skip
    """Find mistakes in policies before they go live. Without FILE: in the policies that a running mom would use.

    Errors are what the policies are refused for, and what fails for certain when it is reached. Warnings are what is legal, and
    hardly meant. Exit code 1 when there are errors (with --strict: or warnings), 2 when the policies cannot be read.
    """
    given = given_policies(paths, config_path, defaults=with_default_policies)
    remarks = check(given.texts, given.declarations, given.limits)
    errors = [remark for remark in remarks if remark.severity == Severity.ERROR]
    warnings = [remark for remark in remarks if remark.severity != Severity.ERROR]
    if as_json:
        click.echo(json.dumps(_as_json(errors, warnings, given), indent=2))
    else:
        _show(errors, warnings, given)
    if errors or (strict and warnings):
        sys.exit(EXIT_NO)


def _show(errors: Sequence[PolicyProblem], warnings: Sequence[PolicyProblem], given: Given) -> None:
    """Errors first, then warnings, and how many there are."""
    for item in (*errors, *warnings):
        click.echo(told(item.source, f"{item.severity}: {item.message} [{item.kind}]", given.texts, given.files))
        if item.hint:
            click.echo(f"    {printable(item.hint, 500)}")
    found = [_count(len(several), word) for several, word in ((errors, "error"), (warnings, "warning")) if several]
    click.echo(f"{_count(len(given.texts), 'policy', 'policies')}: {', '.join(found) or 'no errors, no warnings'}")


def _count(number: int, one: str, several: str = "") -> str:
    return f"{number} {one if number == 1 else several or one + 's'}"


def _as_json(errors: Sequence[PolicyProblem], warnings: Sequence[PolicyProblem], given: Given) -> dict[str, Any]:
    return {
        "policies": [{"name": name, "file": given.files.get(name)} for name in sorted(given.texts)],
        "errors": [_plain(error, given) for error in errors],
        "warnings": [_plain(warning, given) for warning in warnings],
        "counts": {"errors": len(errors), "warnings": len(warnings)},
    }


def _plain(one: PolicyProblem, given: Given) -> dict[str, Any]:
    about = {"severity": one.severity, "rule": one.kind, "message": one.message, "hint": one.hint}
    return {**plain(one.source, given.files), **about}
