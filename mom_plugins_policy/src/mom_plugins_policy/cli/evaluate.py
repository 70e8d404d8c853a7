"""`mom policy eval`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from mom_daemon import as_caller, config_option, json_option, print_table
from mom_plugins_policy.cli.inputs import (
    EXIT_NO,
    PolicyInputs,
    defaults_option,
    files_argument,
    policies_for,
    snapshot_for,
    snapshot_options,
)
from mom_plugins_policy.cli.output import amount, plain, written_value
from mom_plugins_policy.language.policy import Result

EXPRESSION = "~expression"
"""Name of the policy made from expressions. It sorts last, so expressions can use the files' definitions."""


@click.command("eval")
@files_argument
@click.option("-e", "--expression", "expressions", metavar="EXPR", multiple=True, help="Evaluate EXPR after the policies; may be repeated.")
@snapshot_options
@defaults_option
@json_option
@config_option
@as_caller
def eval_command(
    paths: tuple[Path, ...], expressions: tuple[str, ...], snapshot_path: Path | None, live: bool, with_default_policies: bool,
    as_json: bool, config_path: str | None,
) -> None:  # fmt: skip
    """Evaluate policies on a snapshot, and print values, decisions and errors. The command changes nothing on the host.

    Without FILE and -e, the command evaluates the policies that a running mom would use. With --live, it evaluates the policies in force,
    if mom is running with the http plugin. Exit code 1: the evaluation has errors. Exit code 2: the policies or the snapshot cannot be
    read.
    """
    inputs = policies_for(paths, config_path, defaults=with_default_policies, needed=not expressions, live=live)
    if expressions:
        inputs.texts = {**inputs.texts, EXPRESSION: "\n".join(expressions)}
        inputs.files = {**inputs.files, EXPRESSION: "expression"}
    snapshot = snapshot_for(snapshot_path, config_path, inputs.declarations, live=live)
    result = inputs.compiled(snapshot).evaluate(snapshot)
    if as_json:
        click.echo(json.dumps(_as_json(result, inputs), indent=2))
    else:
        if (expressions or paths) and not result.stopped:
            click.echo("".join(f"{written_value(value)}\n" for value in result.values[-1:]), nl=False)
        _show(result, inputs, only_values=bool(expressions))
    sys.exit(EXIT_NO if result.errors else 0)


def _as_json(result: Result, inputs: PolicyInputs) -> dict[str, object]:
    parts = {"values": result.values, "decisions": list(result.decisions), "remembered": result.notes, "errors": result.errors}
    return {**{name: plain(value, inputs.files) for name, value in parts.items()}, "stopped": result.stopped}


def _show(result: Result, inputs: PolicyInputs, *, only_values: bool) -> None:
    if result.decisions:
        rows = [(decision.entity.name, decision.control, amount(decision.value), str(decision.source)) for decision in result.decisions]
        print_table(("decisions", "control", "value", "by"), rows)
    elif not only_values and not result.stopped:
        click.echo("no decisions")
    for fault in result.errors:
        click.echo(inputs.excerpt(fault), err=True)
    if result.stopped:
        click.echo("mom: the evaluation stopped here, so there are no decisions for the host", err=True)
