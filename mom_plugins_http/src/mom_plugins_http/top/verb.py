"""`mom top`: the command, and the loop between keys, news and the screen."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Final

import click

from mom_core import MomError
from mom_daemon import config_option
from mom_plugins_http.cli.client import Client

if TYPE_CHECKING:  # imported only where it is used: verbs must start fast
    from mom_plugins_http.top.selection import Looking

TICK_SECONDS: Final = 1.0
"""How often ages are drawn anew when nothing else happens."""


@click.command("top", short_help="Watch the host, its guests and what mom decides, live.")
@config_option
def top_command(config_path: str | None) -> None:
    """Watch a running mom in the terminal: the host, all guests, what is decided, and why. `?` shows the keys.

    Needs the right to read the control socket, and a terminal that can be drawn on. `mom status` and `mom guests` print the same once.
    """
    from mom_plugins_http.top.feed import ANSWER_SECONDS
    from mom_plugins_http.top.selection import Looking

    client = Client.configured(config_path, ANSWER_SECONDS)
    drawable = os.environ.get("TERM", "dumb") not in {"dumb", "unknown", ""}
    if not (sys.stdin.isatty() and sys.stdout.isatty() and drawable):
        what = "there is no terminal" if drawable else f"this terminal (TERM={os.environ.get('TERM', '')}) cannot be drawn on"
        raise MomError(f"{what}, which mom top needs", hint="`mom status` and `mom guests` print what it shows once")
    watch(client, Looking())


def watch(client: Client, look: Looking) -> None:
    """Draw until the person at the terminal ends it. What goes wrong is raised after the terminal is in order again."""
    from mom_plugins_http.top.feed import Feed
    from mom_plugins_http.top.screen import body_lines, click, screen
    from mom_plugins_http.top.terminal import Click, EndedError, Terminal

    terminal = Terminal()
    feed = Feed(client, terminal.wake)
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
                    elif isinstance(pressed, Click):
                        click(look, picture, terminal.size, pressed)
                    else:
                        look.press(pressed, look.listed(picture), body_lines(terminal.size, picture))
    except (EndedError, KeyboardInterrupt):
        return
    finally:
        feed.close()
    if feed.failed is not None:
        raise feed.failed
