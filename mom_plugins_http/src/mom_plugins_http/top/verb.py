"""`mom top`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from mom_daemon import as_caller, config_option
from mom_plugins_http.cli.client import Client

if TYPE_CHECKING:  # commands import late: they must start fast
    from mom_daemon.top import Looking


@click.command("top", short_help="Watch the host, its guests and mom's decisions, live.")
@config_option
@as_caller
def top_command(config_path: str | None) -> None:
    """Watch a running mom in the terminal: the host, all guests, each decision and its reason. Press `?` for the keys.

    You need the right to read the control socket. `mom status` and `mom guests` print the same once.
    """
    from mom_daemon.top import terminal_for, watch
    from mom_plugins_http.top.feed import ANSWER_SECONDS, Feed
    from mom_plugins_http.top.screen import body_lines, screen

    client, look = Client.configured(config_path, ANSWER_SECONDS), looking()
    terminal = terminal_for("mom top", "`mom status` and `mom guests` print")
    feed = Feed(client, terminal.wake)
    watch(look, terminal, feed, lambda picture, size: screen(look, feed, picture, size, time.monotonic()), body_lines)


def looking() -> Looking:
    """Return the initial view."""
    from mom_daemon.top import Looking
    from mom_plugins_http.top.picture import NAME

    return Looking(NAME, {"guests": "g", "changes": "d", "problems": "!"})
