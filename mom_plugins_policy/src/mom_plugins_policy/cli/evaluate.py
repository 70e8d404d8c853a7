"""`mom policy eval`: what policies or expressions come to on a snapshot."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from mom_core import json_option
from mom_plugins_policy.cli.inputs import (
    EXIT_NO,
    Given,
    config_option,
    defaults_option,
    files_argument,
    given_policies,
    given_snapshot,
    snapshot_options,
)
from mom_plugins_policy.cli.values import decision_rows, plain_decision, plain_fault, plain_value, table, written_value
from mom_plugins_policy.language.policy import Policy, Result
from mom_plugins_policy.language.syntax import Form, abridged

EXPRESSION = "~expression"
"""The name of a policy that the command line holds. It sorts behind the names of policies in files, so that it can use what they define."""


@click.command("eval")
@files_argument
@click.option(
    "-e", "--expression", "expressions", metavar="EXPR", multiple=True, help="Evaluate EXPR, after the policies. May be given again."
)
@snapshot_options
@defaults_option
@click.option("--all", "all_values", is_flag=True, help="Print the value of every form at top level, not only of the last one.")
@json_option
@config_option
def eval_command(
    paths: tuple[Path, ...], expressions: tuple[str, ...], snapshot_path: Path | None, live: bool, with_default_policies: bool,
    all_values: bool, as_json: bool, config_path: str | None,
) -> None:  # fmt: skip
    """Evaluate policies on a snapshot, and print values, decisions and errors. Nothing is changed on the host.

    A FILE of `-` reads forms from the standard input; they are evaluated like those of -e.

    Without FILE and -e: the policies that a running mom would use; with --live those that it uses, if it runs and enables the plugin
    http. Exit code 1 when the evaluation has errors, 2 when the
    policies or the snapshot cannot be read.
    """
    if Path("-") in paths:
        if snapshot_path == Path("-"):
            raise click.UsageError("policies and the snapshot cannot both come from the standard input: give one of them as a file")
        expressions = (*expressions, sys.stdin.read())
        paths = tuple(path for path in paths if path != Path("-"))
    given = given_policies(paths, config_path, defaults=with_default_policies, needed=not expressions, live=live)
    if expressions:
        given.texts = {**given.texts, EXPRESSION: "\n".join(expressions)}
        given.files = {**given.files, EXPRESSION: "expression"}
    taken = given_snapshot(snapshot_path, config_path, given.declarations, live=live)
    policy = given.compiled(taken)
    result = policy.evaluate(taken)
    if as_json:
        click.echo(json.dumps(_as_json(policy, result, given, all_values), indent=2))
    else:
        _show(policy, result, given, all_values=all_values, values=bool(expressions or paths), only_values=bool(expressions))
    sys.exit(EXIT_NO if result.errors else 0)


def _shown_values(policy: Policy, result: Result, all_values: bool) -> list[tuple[Form, object]]:
    pairs = list(zip(policy.program.forms, result.values, strict=False))
    return pairs if all_values else pairs[-1:] if not result.stopped else []


def _as_json(policy: Policy, result: Result, given: Given, all_values: bool) -> dict[str, object]:
    return {
        "values": [plain_value(value) for _, value in _shown_values(policy, result, all_values)],
        "decisions": [plain_decision(decision, given.files) for decision in result.decisions],
        "lost": [plain_decision(decision, given.files) for decision in result.lost],
        "remembered": {identity: dict(notes) for identity, notes in result.notes.items()},
        "errors": [plain_fault(fault, given.files) for fault in result.errors],
        "stopped": result.stopped,
    }


def _show(policy: Policy, result: Result, given: Given, *, all_values: bool, values: bool, only_values: bool) -> None:
    shown = _shown_values(policy, result, all_values)
    if all_values:
        click.echo(table([(str(form.source), abridged(form, 50), written_value(value)) for form, value in shown], margin=""))
    elif values:
        for _, value in shown:
            click.echo(written_value(value))
    _show_decisions(result, only_values)
    for fault in result.errors:
        click.echo(given.told(fault), err=True)
    if result.stopped and len(result.lost):
        click.echo(f"mom: the evaluation stopped here: {_count(result.lost)} lost", err=True)


def _show_decisions(result: Result, only_values: bool) -> None:
    if result.decisions:
        click.echo("decisions:")
        click.echo(table(decision_rows(result.decisions), right=2))
    elif not only_values and not result.stopped:
        click.echo("no decisions")


def _count(decisions: Sequence[object]) -> str:
    return f"{len(decisions)} decision{'s are' if len(decisions) != 1 else ' is'}"
