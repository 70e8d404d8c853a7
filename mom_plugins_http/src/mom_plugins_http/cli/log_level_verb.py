"""`mom log-level`: how much a running mom logs, shown and changed."""

from __future__ import annotations

import json

import click

from mom_core import printable
from mom_daemon import print_prose
from mom_plugins_http.cli.client import Client
from mom_plugins_http.cli.policy_verbs import common_options
from mom_plugins_http.vocabulary import LOG_LEVEL_PATH, LOG_LEVELS


@click.command("log-level", short_help="Show or change how much a running mom logs.")
@click.argument("level", required=False, type=click.Choice([*LOG_LEVELS, "reset"]))
@click.option("--plugin", metavar="NAME", help="Only what this plugin logs.")
@common_options
def log_level_command(level: str | None, plugin: str | None, as_json: bool, config_path: str | None) -> None:
    """Show how much the running mom logs, or set it to LEVEL; with --plugin, `reset` makes a plugin's level that of mom again.

    It lasts until mom ends or its configuration is reloaded; `log_level` in the configuration is for good.
    """
    if level == "reset" and plugin is None:
        raise click.UsageError("reset is for a plugin: name it with --plugin")
    if level is None and plugin is not None:
        raise click.UsageError("say which level the plugin is to have, or reset")
    client = Client.configured(config_path)
    if level is None:
        found = client.get(LOG_LEVEL_PATH)
    else:
        body: dict[str, object] = {"level": None if level == "reset" else level}
        found = client.ask("PUT", LOG_LEVEL_PATH, body if plugin is None else {**body, "plugin": plugin})
    if as_json:
        click.echo(json.dumps(found))
        return
    print_prose(f"mom logs at level {found['level']}.", 2)
    for name, own in found["plugins"].items():
        print_prose(f"The plugin {printable(name)} logs at level {own}.", 2)
