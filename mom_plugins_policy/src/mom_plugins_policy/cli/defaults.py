"""`mom policy defaults` and `mom policy snapshot`."""

from __future__ import annotations

import json
from itertools import dropwhile, takewhile

import click

from mom_core import printable
from mom_daemon import TableColumn, config_option, declarations_of, json_option, print_table, print_text
from mom_plugins_policy.cli.inputs import configured, live_snapshot
from mom_plugins_policy.snapshots import EXAMPLE, as_json, did_you_mean


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
        click.echo(json.dumps(dict(policies) if name is None else policies[name], indent=2))
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
        click.echo(json.dumps(as_json(live_snapshot(config_path)), indent=2, default=str))
