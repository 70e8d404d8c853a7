"""`mom policy check`: mistakes in policies, before they go live."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from mom_core import Severity, printable
from mom_daemon import config_option, json_option
from mom_plugins_policy.checks import Remark, check, counted
from mom_plugins_policy.cli.inputs import EXIT_NO, Given, defaults_option, files_argument, given_policies
from mom_plugins_policy.cli.values import plain
from mom_plugins_policy.tools.excerpts import told


@click.command("check")
@files_argument
@click.option("--strict", is_flag=True, help="Exit code 1 for warnings, too.")
@defaults_option
@json_option
@config_option
def check_command(
    paths: tuple[Path, ...], strict: bool, with_default_policies: bool, as_json: bool, config_path: str | None
) -> None:  # fmt: skip
    """Find mistakes in policies before they go live. Without FILE: in the policies that a running mom would use.

    Errors are what the policies are refused for, and what fails for certain when it is reached. Warnings are what is legal, and
    hardly meant. Exit code 1 when there are errors (with --strict: or warnings), 2 when the policies cannot be read.
    """
    given = given_policies(paths, config_path, defaults=with_default_policies)
    remarks = check(given.texts, given.declarations, given.limits)
    errors, warnings = counted(remarks)
    if as_json:
        click.echo(json.dumps(_as_json(remarks, given), indent=2))
    else:
        _show(remarks, given)
    if errors or (strict and warnings):
        sys.exit(EXIT_NO)


def _show(remarks: Sequence[Remark], given: Given) -> None:
    """Errors first, then warnings, and how many there are."""
    for remark in sorted(remarks, key=lambda remark: remark.severity is not Severity.ERROR):
        click.echo(told(remark.source, f"{remark.severity}: {remark.message} [{remark.rule}]", given.texts, given.files))
        if remark.hint:
            click.echo(f"    {printable(remark.hint, 500)}")
    errors, warnings = counted(remarks)
    found = [_count(number, word) for number, word in ((errors, "error"), (warnings, "warning")) if number]
    click.echo(f"{_count(len(given.texts), 'policy', 'policies')}: {', '.join(found) or 'no errors, no warnings'}")


def _count(number: int, one: str, several: str = "") -> str:
    return f"{number} {one if number == 1 else several or one + 's'}"


def _as_json(remarks: Sequence[Remark], given: Given) -> dict[str, Any]:
    errors, warnings = counted(remarks)
    return {
        "policies": [{"name": name, "file": given.files.get(name)} for name in sorted(given.texts)],
        "errors": [plain(one, given.files) for one in remarks if one.severity is Severity.ERROR],
        "warnings": [plain(one, given.files) for one in remarks if one.severity is not Severity.ERROR],
        "counts": {"errors": errors, "warnings": warnings},
    }
