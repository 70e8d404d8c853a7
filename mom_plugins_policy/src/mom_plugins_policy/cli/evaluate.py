"""`mom policy eval`: what policies or expressions come to on a snapshot."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from mom_daemon import as_caller, config_option, json_option, print_table
from mom_plugins_policy.cli.inputs import EXIT_NO, Given, defaults_option, files_argument, given_policies, given_snapshot, snapshot_options
from mom_plugins_policy.cli.values import amount, plain, written_value
from mom_plugins_policy.language.limits import DEFAULT_LIMITS
from mom_plugins_policy.language.policy import Result
from mom_plugins_policy.sources import text_of

EXPRESSION = "~expression"
"""The name of a policy that the command line holds. It sorts behind the names of policies in files, so that it can use what they define."""


@click.command("eval")
@files_argument
@click.option(
    "-e", "--expression", "expressions", metavar="EXPR", multiple=True, help="Evaluate EXPR, after the policies. May be given again."
)
@snapshot_options
@defaults_option
@json_option
@config_option
@as_caller
def eval_command(
    paths: tuple[Path, ...], expressions: tuple[str, ...], snapshot_path: Path | None, live: bool, with_default_policies: bool,
    as_json: bool, config_path: str | None,
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
        expressions = (*expressions, text_of(Path("-"), 4 * DEFAULT_LIMITS.text, "a policy is a text"))
        paths = tuple(path for path in paths if path != Path("-"))
    given = given_policies(paths, config_path, defaults=with_default_policies, needed=not expressions, live=live)
    if expressions:
        given.texts = {**given.texts, EXPRESSION: "\n".join(expressions)}
        given.files = {**given.files, EXPRESSION: "expression"}
    taken = given_snapshot(snapshot_path, config_path, given.declarations, live=live)
    result = given.compiled(taken).evaluate(taken)
    if as_json:
        click.echo(json.dumps(_as_json(result, given), indent=2))
    else:
        if (expressions or paths) and not result.stopped:
            click.echo("".join(f"{written_value(value)}\n" for value in result.values[-1:]), nl=False)
        _show(result, given, only_values=bool(expressions))
    sys.exit(EXIT_NO if result.errors else 0)


def _as_json(result: Result, given: Given) -> dict[str, object]:
    parts = {"values": result.values, "decisions": list(result.decisions), "remembered": result.notes, "errors": result.errors}
    return {**{name: plain(value, given.files) for name, value in parts.items()}, "stopped": result.stopped}


def _show(result: Result, given: Given, *, only_values: bool) -> None:
    if result.decisions:
        rows = [(decision.entity.name, decision.control, amount(decision.value), str(decision.source)) for decision in result.decisions]
        print_table(("decisions", "control", "value", "by"), rows)
    elif not only_values and not result.stopped:
        click.echo("no decisions")
    for fault in result.errors:
        click.echo(given.told(fault), err=True)
    if result.stopped:
        click.echo("mom: the evaluation stopped here, and nothing is decided for the host", err=True)
