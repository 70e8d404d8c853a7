"""`mom policy explain`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from mom_core import Decision, Entity, Guest, Host, Scope, printable
from mom_daemon import NoSuchGuest, as_caller, config_option, find_guest, json_option, print_prose
from mom_plugins_policy.cli.inputs import (
    EXIT_NO,
    PolicyInputs,
    defaults_option,
    files_argument,
    policies_for,
    snapshot_for,
    snapshot_options,
)
from mom_plugins_policy.cli.output import amount, located, plain
from mom_plugins_policy.language.errors import Fault
from mom_plugins_policy.language.policy import Policy


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
        click.echo(json.dumps({"entity": entity.name, **{name: plain(part, inputs.files) for name, part in parts.items()}}, indent=2))
    else:
        for line in _lines(entity.entity, decisions, unknown, errors, inputs):
            print_prose(line, 4)
    sys.exit(EXIT_NO if errors else 0)


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
        yield from inputs.excerpt(fault).splitlines()
        if fault.entity is None:
            yield "  the evaluation stopped there: decisions for guests remain, decisions for the host are lost"
        else:
            yield f"  no decision for {name} is applied in this cycle"
    for decision in decisions:
        head = click.style(f"{name}: {printable(decision.control, 60)} = {amount(decision.value)}", bold=True)
        yield f"{head}  {click.style(located(*decision.source, inputs.files), dim=True)}"
        yield f"  because {printable(decision.reason, 700)}"
