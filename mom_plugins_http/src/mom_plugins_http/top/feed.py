"""Thread that queries a running mom for `mom top`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from mom_core import MomError
from mom_daemon import NoSuchGuest
from mom_daemon.report_models import REPORT_FORMAT
from mom_plugins_http.cli.client import ApiRefusedError, Client, coded
from mom_plugins_http.top.picture import HARMS, Drill, Picture, picture_of

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
