"""`mom top`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing, suppress
from dataclasses import replace
from typing import Final

import click

from mom_core import MomError
from mom_daemon import NoSuchGuest, as_caller, config_option
from mom_daemon.report_models import REPORT_FORMAT
from mom_kvm import Callers
from mom_plugins_http.cli.client import ApiRefusedError, Client, coded
from mom_plugins_http.top.picture import HARMS, NAME, Drill, FeedState, Looking, picture_of
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
                picture = feed.state.picture
            size = terminal.size
            terminal.draw(screen(look, feed.state, picture, size, time.monotonic()))
            for pressed in terminal.keys(TICK_SECONDS):
                look.press(pressed, look.listed(picture), body_lines(size, picture))


MOST_ACTS: Final = 100

_REPORT: Final = "/v1/report?fields=" + ",".join(f"{name}?" for name in HARMS)  # `?` makes the fields optional


class Feed:
    """Source of pictures of a running mom. A thread makes the queries, so that keys work while mom does not answer.

    :param changed: called by the thread after each answer
    :param refresh: seconds between two queries
    """

    def __init__(self, client: Client, changed: Callable[[], None], refresh: float = 1.0) -> None:
        self._client = client
        self._changed = changed
        self._refresh = refresh
        self._callers = Callers("top", 1)
        self._call: Future[FeedState] | None = None
        self._guest: str | None = None
        self._due = 0.0
        self.state = FeedState(trouble=("waiting for mom", ""))

    def close(self) -> None:
        """Stop the thread."""
        self._callers.close(0.2)

    def follow(self, guest: str | None) -> None:
        """Take over the last answer, and send the next query when it is due. Do not wait.

        :param guest: guest to query in detail; None for no guest
        """
        now = time.monotonic()
        if self._call is not None and self._call.done():
            call, self._call = self._call, None
            try:
                self.state = call.result()
            except MomError as error:
                self.state = replace(self.state, trouble=(error.message, error.hint), lost_at=self.state.lost_at or now)
        if self._call is None and (now >= self._due or guest not in {None, self._guest}):
            self._guest, self._due = guest, now + self._refresh
            self._call = self._callers.start(lambda: self._look(guest))
            self._call.add_done_callback(lambda call: self._changed())

    def _look(self, guest: str | None) -> FeedState:
        status, picture, drill = self._client.get("/v1/status"), self.state.picture, self.state.drill
        is_new = picture is None or picture.report["cycle"] != status["cycle"]
        if is_new:
            report = self._client.get(_REPORT)
            if report["format"] != REPORT_FORMAT:
                raise MomError("mom and `mom top` have different versions", hint="restart the daemon after an upgrade")
            acts = self._client.get(f"/v1/acts?together=1&limit={MOST_ACTS}")["items"]
            picture = picture_of(report, acts)
        if guest is not None and (is_new or drill is None or drill.id != guest):
            drill = self._drill(guest)
        return FeedState(picture, drill)

    def _drill(self, guest: str) -> Drill:
        path = f"/v1/guests/{coded(guest)}"
        try:
            fields = self._client.get(path)
            explanation = self._client.get(f"{path}/explanation")
            acts = self._client.get(f"/v1/acts?limit={MOST_ACTS}&guest={coded(guest)}")["items"]
        except NoSuchGuest as error:
            return Drill(guest, trouble=f"{error.message}. The guest may have been stopped, or moved to another host")
        except ApiRefusedError as error:
            return Drill(guest, trouble=error.message)
        return Drill(guest, explanation, fields, acts)
