"""`mom top`: its command, and the thread that queries a running mom."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

import click

from mom_core import MomError
from mom_daemon import NoSuchGuest, as_caller, config_option
from mom_daemon.report_models import REPORT_FORMAT
from mom_plugins_http.cli.client import ApiRefusedError, Client, coded
from mom_plugins_http.top.picture import HARMS, NAME, Drill, Looking, Picture, picture_of
from mom_plugins_http.top.screen import body_lines, screen
from mom_plugins_http.top.terminal import EndedError, Terminal

TICK_SECONDS: Final = 1.0


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
    try:
        with terminal:
            feed.start()
            while not look.ended and feed.failed is None:
                if not look.paused or picture is None:
                    picture = feed.picture
                feed.want(look.marked if look.view == NAME else None)
                size = terminal.size
                terminal.draw(screen(look, feed, picture, size, time.monotonic()))
                for pressed in terminal.keys(TICK_SECONDS):
                    look.press(pressed, look.listed(picture), body_lines(size, picture))
    except (EndedError, KeyboardInterrupt):
        return
    finally:
        feed.close()
    if feed.failed is not None:
        raise feed.failed


ANSWER_SECONDS: Final = 5.0

MOST_ACTS: Final = 100

PAST_CYCLES: Final = 240

_REPORT: Final = "/v1/report?fields=" + ",".join(f"{name}?" for name in HARMS)  # `?` makes the fields optional


class Feed:
    """Source of the newest picture. The feed's thread calls `changed` after each answer.

    :param refresh: seconds between two readings
    """

    def __init__(self, client: Client, changed: Callable[[], None], refresh: float = 1.0) -> None:
        self._client = client
        self._changed = changed
        self._refresh = refresh
        self._wake = threading.Condition()
        self._guest: str | None = None
        self._ended = False
        self.picture: Picture | None = None
        """Newest picture, replaced as a whole."""
        self.drill: Drill | None = None
        self.trouble: tuple[str, str] | None = ("waiting for mom", "")
        """Error and fix; None while mom answers."""
        self.lost_at: float | None = None
        """Monotonic time of the first of consecutive failures; None while mom answers."""
        self.failed: BaseException | None = None
        """Error that ended the thread."""
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop the thread."""
        with self._wake:
            self._ended = True
            self._wake.notify()
        self._thread.join(0.2)

    def want(self, guest: str | None) -> None:
        """Follow this guest in detail; None for no guest."""
        with self._wake:
            if guest != self._guest:
                self._guest, self.drill = guest, None
                self._wake.notify()

    def _run(self) -> None:
        try:
            while not self._ended:
                guest = self._guest
                try:
                    self._look(guest)
                    self.trouble = self.lost_at = None
                except MomError as error:
                    self.lost_at = self.lost_at or time.monotonic()
                    self.trouble = (error.message, error.hint)
                self._changed()
                self._wait(guest)
        except BaseException as error:  # noqa: BLE001  # raised again by the main thread, after it has restored the terminal
            self.failed = error
            self._changed()

    def _wait(self, guest: str | None) -> None:
        with self._wake:
            self._wake.wait_for(lambda: self._ended or self._guest not in {None, guest}, self._refresh)

    def _look(self, guest: str | None) -> None:
        status = self._client.get("/v1/status")
        is_new = self.picture is None or self.picture.report["cycle"] != status["cycle"]
        if is_new:
            report = self._client.get(_REPORT)
            if report["format"] != REPORT_FORMAT:
                raise MomError("mom and `mom top` have different versions", hint="restart the daemon after an upgrade")
            acts = self._client.get(f"/v1/acts?together=1&limit={MOST_ACTS}")["items"]
            self.picture = picture_of(report, acts)
        if guest is not None and (is_new or self.drill is None):
            drill = self._drill(guest)
            with self._wake:
                if guest == self._guest:
                    self.drill = drill

    def _drill(self, guest: str) -> Drill:
        path = f"/v1/guests/{coded(guest)}"
        try:
            fields = self._client.get(path)
            past = self._client.get(f"{path}/history?limit={PAST_CYCLES}")["items"]
            explanation = self._client.get(f"{path}/explanation")
            acts = self._client.get(f"/v1/acts?limit={MOST_ACTS}&guest={coded(guest)}")["items"]
        except NoSuchGuest as error:
            return Drill(guest, trouble=f"{error.message}. The guest may have been stopped, or moved to another host")
        except ApiRefusedError as error:
            return Drill(guest, trouble=error.message)
        return Drill(guest, explanation, fields, past[::-1], acts)
