"""`mom policy snapshot`: what policies see, as the JSON that the other verbs read."""

from __future__ import annotations

import json

import click

from mom_daemon import config_option, print_text
from mom_plugins_policy.cli.inputs import live_snapshot
from mom_plugins_policy.tools.snapshots import EXAMPLE, as_json


@click.command("snapshot")
@click.option("--example", is_flag=True, help="Print the example that is used where no snapshot is given.")
@config_option
def snapshot_command(example: bool, config_path: str | None) -> None:
    """Print what the configured plugins collect of this host now, as JSON, for --snapshot and for tests of policies.

    It takes a second, as rates need two samples. Nothing is changed on the host.
    """
    if example:
        print_text(EXAMPLE.read_text(encoding="utf-8"))
    else:
        click.echo(json.dumps(as_json(live_snapshot(config_path)), indent=2, default=str))
