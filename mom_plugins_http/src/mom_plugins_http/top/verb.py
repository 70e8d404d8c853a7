"""`mom top`."""

from __future__ import annotations

import os
import sys
import time
from contextlib import closing, suppress
from typing import Final

import click

from mom_core import MomError
from mom_daemon import as_caller, config_option
from mom_plugins_http.cli.client import Client
from mom_plugins_http.top.feed import Feed
from mom_plugins_http.top.picture import NAME, Looking
from mom_plugins_http.top.screen import body_lines, screen
from mom_plugins_http.top.terminal import EndedError, Terminal

TICK_SECONDS: Final = 1.0

ANSWER_SECONDS: Final = 5.0


@click.command("top", short_help="Watch the host, its guests and mom's decisions, live.")
@config_option
@as_caller
def top_command(config_path: str | None) -> None:
    """Watch a running mom in the terminal: the host, all guests, each decision and its reason. Press `?` for the keys.

    You need the right to read the control socket. `mom status` and `mom guests` print the same once.
    """
    client = Client.configured(config_path, ANSWER_SECONDS)
    drawable = os.environ.get("TERM", "dumb") not in {"dumb", "unknown", ""}
    if not (sys.stdin.isatty() and sys.stdout.isatty() and drawable):
        fault = f"a terminal of type {os.environ.get('TERM', '')!r} cannot show mom top"
        hint = "`mom status` and `mom guests` print the same once"
        raise MomError("mom top needs a terminal" if drawable else fault, hint=hint)
    terminal = Terminal()
    _watch(terminal, Feed(client, terminal.wake))


def _watch(terminal: Terminal, feed: Feed) -> None:
    look, picture = Looking(), None
    with suppress(EndedError, KeyboardInterrupt), terminal, closing(feed):
        while not look.ended:
            feed.follow(look.marked if look.view == NAME else None)
            if not look.paused or picture is None:
                picture = feed.picture
            size = terminal.size
            terminal.draw(screen(look, feed, picture, size, time.monotonic()))
            for pressed in terminal.keys(TICK_SECONDS):
                look.press(pressed, look.listed(picture), body_lines(size, picture))
