"""`mom policy check`: mistakes in policies, before they go live."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from mom_core import Severity, printable
from mom_daemon import json_option
from mom_plugins_policy.checks import Remark, check, counted
from mom_plugins_policy.cli.inputs import EXIT_NO, Given, config_option, defaults_option, files_argument, given_policies
from mom_plugins_policy.cli.values import plain_place
from mom_plugins_policy.tools.excerpts import excerpt, located


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
    for severity in (Severity.ERROR, Severity.WARNING):
        for remark in remarks:
            if remark.severity is severity:
                click.echo(told(remark, given.texts, given.files))
    errors, warnings = counted(remarks)
    found = [_count(number, word) for number, word in ((errors, "error"), (warnings, "warning")) if number]
    click.echo(f"{_count(len(given.texts), 'policy', 'policies')}: {', '.join(found) or 'no errors, no warnings'}")


def _count(number: int, one: str, several: str = "") -> str:
    return f"{number} {one if number == 1 else several or one + 's'}"


def told(remark: Remark, texts: Mapping[str, str], files: Mapping[str, str]) -> str:
    """A remark with its place, the line that it is about, and what to do."""
    name, line, column = remark.source
    place = located(name, line, column, files)
    head = printable(f"{place}: " * bool(place) + f"{remark.severity}: {remark.message} [{remark.rule}]", 2000)
    text = texts.get(name, "")
    below = excerpt(text, line, column, width=max(1, remark.end - _offset(text, line, column)))
    return "\n".join(part for part in (head, below, f"    {printable(remark.hint, 500)}" if remark.hint else "") if part)


def _offset(text: str, line: int, column: int) -> int:
    """The offset of a place in a text."""
    before = text.split("\n", line)[: max(0, line - 1)]
    return sum(len(one) + 1 for one in before) + column - 1


def _as_json(remarks: Sequence[Remark], given: Given) -> dict[str, Any]:
    plain = [_plain(remark, given) for remark in remarks]
    errors, warnings = counted(remarks)
    return {
        "policies": [{"name": name, "file": given.files.get(name)} for name in sorted(given.texts)],
        "errors": [one for one in plain if one["severity"] == "error"],
        "warnings": [one for one in plain if one["severity"] == "warning"],
        "counts": {"errors": errors, "warnings": warnings},
    }


def _plain(remark: Remark, given: Given) -> dict[str, Any]:
    found = {
        "severity": str(remark.severity),
        "rule": remark.rule,
        **plain_place(remark.source, given.files),
        "message": remark.message,
        "hint": remark.hint,
    }
    if remark.end:
        before = given.texts[remark.source.name][: remark.end]
        found["end_line"] = before.count("\n") + 1
        found["end_column"] = remark.end - (before.rfind("\n") + 1) + 1
    return found
