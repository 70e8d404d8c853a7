"""Main loop: reads keys, takes new data and draws the screen."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeVar

from mom_core import MomError
from mom_daemon.top.looking import Listing, Looking
from mom_daemon.top.terminal import EndedError, Line, Terminal

Picture = TypeVar("Picture", bound=Listing)
Shown_co = TypeVar("Shown_co", bound=Listing, covariant=True)

TICK_SECONDS: Final = 1.0


class Watched(Protocol[Shown_co]):
    """Source whose threads get new data and wake the terminal."""

    failed: BaseException | None
    """Exception that ended a thread."""

    @property
    def picture(self) -> Shown_co | None:
        """Return the newest data; None before the first."""

    def start(self) -> None:
        """Start the threads."""

    def close(self) -> None:
        """End all threads."""

    def want(self, row: str | None, /) -> None:
        """Follow this row in detail; None for no row."""


def terminal_for(verb: str, instead: str) -> Terminal:
    """Return this process's terminal, or raise `MomError` with a hint that begins with `instead`."""
    drawable = os.environ.get("TERM", "dumb") not in {"dumb", "unknown", ""}
    if not (sys.stdin.isatty() and sys.stdout.isatty() and drawable):
        fault = f"a terminal of type {os.environ.get('TERM', '')!r} cannot show {verb}"
        raise MomError(f"{verb} needs a terminal" if drawable else fault, hint=f"{instead} the same once")
    return Terminal()


def watch(
    look: Looking,
    terminal: Terminal,
    watched: Watched[Picture],
    screen: Callable[[Picture | None, tuple[int, int]], Sequence[Line]],
    body_lines: Callable[[tuple[int, int], Picture | None], int],
) -> None:
    """Draw until a key ends the view. Raise the source's errors.

    :param screen: returns all lines; the last one is the foot
    """
    picture = None
    try:
        with terminal:
            watched.start()
            while not look.ended and watched.failed is None:
                if not look.paused or picture is None:
                    picture = watched.picture
                watched.want(look.marked if look.view == look.name else None)
                size = terminal.size
                terminal.draw(screen(picture, size))
                for pressed in terminal.keys(TICK_SECONDS):
                    look.press(pressed, look.listed(picture), body_lines(size, picture))
    except (EndedError, KeyboardInterrupt):
        return
    finally:
        watched.close()
    if watched.failed is not None:
        raise watched.failed
