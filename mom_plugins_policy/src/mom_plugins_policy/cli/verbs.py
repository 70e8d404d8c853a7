"""Subcommands of `mom policy`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import Final

import click

from mom_core import Decision, Entity, Guest, Host, Scope, Severity, count_of, printable
from mom_daemon import (
    NoSuchGuest,
    TableColumn,
    as_caller,
    config_option,
    declarations_of,
    find_guest,
    json_option,
    print_prose,
    print_table,
    print_text,
)
from mom_kvm import PolicyProblem
from mom_plugins_policy.checks import check
from mom_plugins_policy.cli.inputs import (
    PolicyInputs,
    amount,
    configured,
    defaults_option,
    files_argument,
    live_snapshot,
    policies_for,
    snapshot_for,
    snapshot_options,
    written_value,
)
from mom_plugins_policy.language.errors import Fault, did_you_mean
from mom_plugins_policy.language.policy import Policy, Result
from mom_plugins_policy.snapshots import EXAMPLE
from mom_plugins_policy.snapshots import as_json as snapshot_json

EXPRESSION: Final = "~expression"
"""Name of the policy made from expressions. It sorts last, so expressions can use the files' definitions."""


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2, default=str))


# --- check ---------------------------------------------------------------------------------------------------------------------


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
    remarks = sorted(check(inputs.texts, inputs.declarations), key=lambda remark: remark.severity)  # errors first
    errors = sum(remark.severity == Severity.ERROR for remark in remarks)
    if as_json:
        _print_json(_checked_json(remarks, errors, inputs))
    else:
        for item in remarks:
            click.echo(inputs.with_excerpt(item.source, f"{item.severity}: {item.message} [{item.kind}]"))
            if item.hint:
                click.echo(f"    {printable(item.hint, 500)}")
        counts = [count_of(count, word) for count, word in ((errors, "error"), (len(remarks) - errors, "warning")) if count]
        click.echo(f"{count_of(len(inputs.texts), 'policy', 'policies')}: {', '.join(counts) or 'no errors, no warnings'}")
    if errors or (strict and remarks):
        sys.exit(1)


def _checked_json(remarks: Sequence[PolicyProblem], errors: int, inputs: PolicyInputs) -> dict[str, object]:
    items = [
        {**inputs.plain(item.source), "severity": item.severity, "rule": item.kind, "message": item.message, "hint": item.hint}
        for item in remarks
    ]
    return {
        "policies": [{"name": name, "file": inputs.files.get(name)} for name in sorted(inputs.texts)],
        "errors": items[:errors],
        "warnings": items[errors:],
        "counts": {"errors": errors, "warnings": len(items) - errors},
    }


# --- eval ----------------------------------------------------------------------------------------------------------------------


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
        inputs.texts[EXPRESSION], inputs.files[EXPRESSION] = "\n".join(expressions), "expression"
    snapshot = snapshot_for(snapshot_path, config_path, inputs.declarations, live=live)
    result = inputs.compiled(snapshot).evaluate(snapshot)
    if as_json:
        parts = {"values": result.values, "decisions": result.decisions, "remembered": result.notes, "errors": result.errors}
        _print_json({**{name: inputs.plain(part) for name, part in parts.items()}, "stopped": result.stopped})
    else:
        if (expressions or paths) and not result.stopped:
            click.echo("".join(f"{written_value(value)}\n" for value in result.values[-1:]), nl=False)
        _show(result, inputs, only_values=bool(expressions))
    sys.exit(bool(result.errors))


def _show(result: Result, inputs: PolicyInputs, *, only_values: bool) -> None:
    if result.decisions:
        rows = [(decision.entity.name, decision.control, amount(decision.value), str(decision.source)) for decision in result.decisions]
        print_table(("decisions", "control", "value", "by"), rows)
    elif not only_values and not result.stopped:
        click.echo("no decisions")
    for fault in result.errors:
        click.echo(inputs.with_excerpt(fault.source, fault.text), err=True)
    if result.stopped:
        click.echo("mom: the evaluation stopped here, so there are no decisions for the host", err=True)


# --- explain -------------------------------------------------------------------------------------------------------------------


@click.command("explain")
@files_argument
@click.option("--guest", "guest_name", metavar="NAME", help="The guest, by name or UUID.")
@click.option("--host", "about_host", is_flag=True, help="The host.")
@snapshot_options
@defaults_option
@json_option
@config_option
@as_caller
def explain_command(
    paths: tuple[Path, ...], guest_name: str | None, about_host: bool, snapshot_path: Path | None, live: bool,
    with_default_policies: bool, as_json: bool, config_path: str | None,
) -> None:  # fmt: skip
    """Show the decisions about a guest or the host on a snapshot, with their reasons. If nothing is decided, show the unknown fields.

    Without FILE, the command evaluates the policies that a running mom would use. With --live, it evaluates the policies in force, if mom
    is running with the http plugin. Exit code 1: the evaluation has errors about the guest or host. Exit code 2: the policies or the
    snapshot cannot be read.
    """
    if (guest_name is None) == (not about_host):
        raise click.UsageError("use --guest NAME or --host")
    inputs = policies_for(paths, config_path, defaults=with_default_policies, live=live)
    snapshot = snapshot_for(snapshot_path, config_path, inputs.declarations, live=live)
    try:
        entity: Host | Guest = snapshot.host if about_host else find_guest(snapshot.guests, guest_name or "")
    except NoSuchGuest as error:
        where = "on this host" if live else "in the example" if snapshot_path is None else f"in the snapshot {snapshot_path}"
        raise NoSuchGuest(f"{error.message} {where}", hint=error.hint) from None
    policy = inputs.compiled(snapshot)
    result = policy.evaluate(snapshot)
    decisions = [decision for decision in result.decisions if decision.entity == entity.entity]
    errors = [fault for fault in result.errors if fault.entity is None or fault.entity == entity.entity]
    unknown = [] if decisions else _unknown_fields(policy, entity)
    if as_json:
        parts = {"decisions": decisions, "unknown": unknown, "errors": errors}
        _print_json({"entity": entity.name, **{name: inputs.plain(part) for name, part in parts.items()}})
    else:
        for line in _lines(entity.entity, decisions, unknown, errors, inputs):
            print_prose(line, 4)
    sys.exit(bool(errors))


def _unknown_fields(policy: Policy, entity: Host | Guest) -> list[str]:
    scope = Scope.GUEST if isinstance(entity, Guest) else Scope.HOST
    return sorted(name for of, name in policy.program.fields() if of is scope and entity.fields.get(name) is None)


def _lines(entity: Entity, decisions: list[Decision], unknown: list[str], errors: list[Fault], inputs: PolicyInputs) -> Iterator[str]:
    name = printable(entity.name)
    if not decisions:
        yield click.style(f"{name}: nothing is decided", bold=True)
    if unknown:
        yield f"unknown: {', '.join(map(printable, unknown))}"
    for fault in errors:
        yield from inputs.with_excerpt(fault.source, fault.text).splitlines()
        if fault.entity is None:
            yield "  the evaluation stopped there: decisions for guests remain, decisions for the host are lost"
        else:
            yield f"  no decision for {name} is applied in this cycle"
    for decision in decisions:
        head = click.style(f"{name}: {printable(decision.control, 60)} = {amount(decision.value)}", bold=True)
        yield f"{head}  {click.style(inputs.located(decision.source), dim=True)}"
        yield f"  because {printable(decision.reason, 700)}"


# --- defaults, snapshot --------------------------------------------------------------------------------------------------------


@click.command("defaults")
@click.argument("name", required=False)
@json_option
@config_option
def defaults_command(name: str | None, as_json: bool, config_path: str | None) -> None:
    """List the default policies of the plugins, or print the policy NAME.

    Your own policy replaces a default policy of the same name:

    \b
    mom policy defaults 50_balloon > /etc/mom/policy.d/50_balloon.policy

    Often it is enough to set some of the default policy's variables in a policy whose name sorts before it.
    """
    policies = declarations_of(configured(config_path)).policies
    if name is not None and name not in policies:
        advice = did_you_mean(name, policies) or f"existing policies: {', '.join(policies)}"
        raise click.UsageError(f"no plugin brings a policy named {printable(name)} ({advice})")
    if as_json:
        _print_json(dict(policies) if name is None else policies[name])
    elif name is not None:
        print_text(policies[name])
    elif policies:
        rows = [(each, _first_sentence(policies[each])) for each in sorted(policies)]
        print_table(("policy", TableColumn("purpose", prose=True)), rows)
    else:
        click.echo("The installed plugins bring no policies.")


def _first_sentence(text: str) -> str:
    lines = [line.strip("# ") for line in text.splitlines() if line.startswith("#")]
    paragraph = " ".join(takewhile(str, dropwhile(lambda line: not line.strip("-"), lines)))
    return paragraph.partition(". ")[0].rstrip(".")


@click.command("snapshot")
@click.option("--example", is_flag=True, help="Print the example snapshot, which mom uses without --snapshot.")
@config_option
def snapshot_command(example: bool, config_path: str | None) -> None:
    """Print the data that the configured plugins collect from this host now, as JSON, for --snapshot and for tests of policies.

    The command takes a second, because rates need two samples. It changes nothing on the host.
    """
    if example:
        print_text(EXAMPLE.read_text(encoding="utf-8"))
    else:
        _print_json(snapshot_json(live_snapshot(config_path)))
