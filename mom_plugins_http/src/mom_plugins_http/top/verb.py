"""`mom top`: the command, and the loop between keys, news and the screen."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click

from mom_core import MomError, parse_duration
from mom_plugins_http.cli.client import Client
from mom_plugins_http.cli.policy_verbs import common_options

if TYPE_CHECKING:  # imported only where it is used: verbs must start fast
    from mom_plugins_http.top.selection import Looking

TICK_SECONDS: Final = 1.0
"""How often ages are drawn anew when nothing else happens."""


def _seconds(context: click.Context, parameter: click.Parameter, value: str) -> float:
    try:
        found = parse_duration(value)
    except MomError as error:
        raise click.BadParameter(f"{error.message}; {error.hint}") from None
    if not 0.2 <= found <= 3600:
        raise click.BadParameter("write a time from 200ms to 1h")
    return found


@click.command("top", short_help="Watch the host, its guests and what mom decides, live.")
@click.option("--once", "only_once", is_flag=True, help="Print it once, as is done where the output is no terminal.")
@click.option(
    "--sort", "sort", metavar="COLUMN", default="name", show_default=True, help="Sort guests by this column first; `-COLUMN` the other way."
)
@click.option("--filter", "pattern", metavar="PATTERN", default="", help="Only guests whose name has this in it, or matches it (* and ?).")
@click.option(
    "--refresh", default="1s", show_default=True, callback=_seconds, help="How often to look at most, however short mom's cycles are."
)
@common_options
def top_command(config_path: str | None, only_once: bool, as_json: bool, sort: str, pattern: str, refresh: float) -> None:
    """Watch a running mom in the terminal: the host, all guests, what is decided, and why. `?` shows the keys.

    Needs the right to read the control socket. Without a terminal, or with one that cannot be drawn on (TERM=dumb), it is printed once.
    """
    from mom_plugins_http.top.columns import BY_KEY
    from mom_plugins_http.top.feed import ANSWER_SECONDS
    from mom_plugins_http.top.selection import Looking

    key = sort.removeprefix("-")
    if key not in BY_KEY:
        raise click.BadParameter(f"there is no column {key!r}; there are {', '.join(BY_KEY)}", param_hint="--sort")
    look = Looking(sort=key, falling=BY_KEY[key].falling != sort.startswith("-"), pattern=pattern)
    client = Client.configured(config_path, ANSWER_SECONDS)
    on_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    drawable = os.environ.get("TERM", "dumb") not in {"dumb", "unknown", ""}
    if on_terminal and drawable and not only_once and not as_json:
        watch(client, look, refresh)
        return
    if on_terminal and not drawable and not only_once and not as_json:
        click.echo(f"mom: this terminal (TERM={os.environ.get('TERM', '')}) cannot be drawn on; printed once", err=True)
    _print(client, look, as_json=as_json)


def watch(client: Client, look: Looking, refresh: float) -> None:
    """Draw until the person at the terminal ends it. What goes wrong is raised after the terminal is in order again."""
    from mom_plugins_http.top.feed import Feed
    from mom_plugins_http.top.screen import body_lines, screen
    from mom_plugins_http.top.terminal import EndedError, Terminal

    terminal = Terminal()
    feed = Feed(client, terminal.wake, refresh)
    picture = None
    try:
        with terminal:
            feed.start()
            while not look.ended and feed.failed is None:
                if not look.paused or picture is None:
                    picture = feed.picture
                feed.want(look.guest if look.view == "guest" else None)
                terminal.draw(screen(look, feed, picture, terminal.size, time.monotonic()))
                for pressed in terminal.keys(TICK_SECONDS):
                    if pressed == "redraw":
                        terminal.redraw()
                    else:
                        look.press(pressed, look.listed(picture), body_lines(terminal.size, picture))
    except (EndedError, KeyboardInterrupt):
        return
    finally:
        feed.close()
    if feed.failed is not None:
        raise feed.failed


def _print(client: Client, look: Looking, *, as_json: bool) -> None:
    from rich.console import Console
    from rich.text import Text

    from mom_plugins_http.top.feed import picture_now
    from mom_plugins_http.top.screen import once

    picture = picture_now(client)
    if as_json:
        rows = [asdict(row) for row in look.listed(picture)]
        shown = {name: picture.report[name] for name in ("version", "pid", "mode", "interval_seconds", "hypervisor", "cycle", "verdict")}
        click.echo(json.dumps({"status": shown, "host": picture.host, "guests": rows, "problems": picture.report["problems"]}))
        return
    console = Console(highlight=False, soft_wrap=True)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in once(picture, look, time.monotonic(), width):
        console.print(Text.assemble(*line) if line else "")
