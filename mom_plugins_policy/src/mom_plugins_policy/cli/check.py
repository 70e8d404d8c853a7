"""`mom policy check`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from mom_core import Severity, count_of, printable
from mom_daemon import as_caller, config_option, json_option
from mom_kvm import PolicyProblem
from mom_plugins_policy.checks import check
from mom_plugins_policy.cli.inputs import EXIT_NO, PolicyInputs, defaults_option, files_argument, policies_for
from mom_plugins_policy.cli.output import plain, with_excerpt


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
    """Find mistakes in policies before they go live. Without FILE, check the policies that a running mom would use.

    An error makes mom reject the policies, or is certain to occur during evaluation. A warning concerns code that is legal but
    suspicious. Exit code 1: errors (with --strict, also warnings). Exit code 2: the policies cannot be read.
    """
    inputs = policies_for(paths, config_path, defaults=with_default_policies)
    remarks = check(inputs.texts, inputs.declarations)
    errors = [remark for remark in remarks if remark.severity == Severity.ERROR]
    warnings = [remark for remark in remarks if remark.severity != Severity.ERROR]
    if as_json:
        click.echo(json.dumps(_as_json(errors, warnings, inputs), indent=2))
    else:
        _show(errors, warnings, inputs)
    if errors or (strict and warnings):
        sys.exit(EXIT_NO)


def _show(errors: Sequence[PolicyProblem], warnings: Sequence[PolicyProblem], inputs: PolicyInputs) -> None:
    for item in (*errors, *warnings):
        click.echo(with_excerpt(item.source, f"{item.severity}: {item.message} [{item.kind}]", inputs.texts, inputs.files))
        if item.hint:
            click.echo(f"    {printable(item.hint, 500)}")
    counts = [count_of(len(several), word) for several, word in ((errors, "error"), (warnings, "warning")) if several]
    click.echo(f"{count_of(len(inputs.texts), 'policy', 'policies')}: {', '.join(counts) or 'no errors, no warnings'}")


def _as_json(errors: Sequence[PolicyProblem], warnings: Sequence[PolicyProblem], inputs: PolicyInputs) -> dict[str, Any]:
    return {
        "policies": [{"name": name, "file": inputs.files.get(name)} for name in sorted(inputs.texts)],
        "errors": [_plain(error, inputs) for error in errors],
        "warnings": [_plain(warning, inputs) for warning in warnings],
        "counts": {"errors": len(errors), "warnings": len(warnings)},
    }


def _plain(remark: PolicyProblem, inputs: PolicyInputs) -> dict[str, Any]:
    about = {"severity": remark.severity, "rule": remark.kind, "message": remark.message, "hint": remark.hint}
    return {**plain(remark.source, inputs.files), **about}
