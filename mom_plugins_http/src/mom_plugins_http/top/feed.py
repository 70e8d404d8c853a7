"""Source of the pictures of `mom top`."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final

from mom_core import MomError
from mom_daemon import NoSuchGuest
from mom_daemon.report_models import REPORT_FORMAT
from mom_kvm import Callers
from mom_plugins_http.cli.client import ApiRefusedError, Client, coded
from mom_plugins_http.top.picture import HARMS, Drill, Picture, picture_of

MOST_ACTS: Final = 100

_REPORT: Final = "/v1/report?fields=" + ",".join(f"{name}?" for name in HARMS)  # `?` makes the fields optional


class Feed:
    """Newest picture of a running mom. A thread makes the queries, so that keys work while mom does not answer.

    :param changed: called by the thread after each answer
    :param refresh: seconds between two queries
    """

    def __init__(self, client: Client, changed: Callable[[], None], refresh: float = 1.0) -> None:
        self._client = client
        self._changed = changed
        self._refresh = refresh
        self._callers = Callers("top", 1)
        self._call: Future[tuple[Picture | None, Drill | None]] | None = None
        self._guest: str | None = None
        self._due = 0.0
        self.picture: Picture | None = None
        self.drill: Drill | None = None
        self.trouble: tuple[str, str] | None = ("waiting for mom", "")
        """Error and fix; None while mom answers."""
        self.lost_at: float | None = None
        """Monotonic time of the first of consecutive failures; None while mom answers."""

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
                self.picture, self.drill = call.result()
                self.trouble = self.lost_at = None
            except MomError as error:
                self.trouble, self.lost_at = (error.message, error.hint), self.lost_at or now
        if self._call is None and (now >= self._due or guest not in {None, self._guest}):
            self._guest, self._due = guest, now + self._refresh
            self._call = self._callers.start(lambda: self._look(guest))
            self._call.add_done_callback(lambda call: self._changed())

    def _look(self, guest: str | None) -> tuple[Picture | None, Drill | None]:
        status, picture, drill = self._client.get("/v1/status"), self.picture, self.drill
        is_new = picture is None or picture.report["cycle"] != status["cycle"]
        if is_new:
            report = self._client.get(_REPORT)
            if report["format"] != REPORT_FORMAT:
                raise MomError("mom and `mom top` have different versions", hint="restart the daemon after an upgrade")
            acts = self._client.get(f"/v1/acts?together=1&limit={MOST_ACTS}")["items"]
            picture = picture_of(report, acts)
        if guest is not None and (is_new or drill is None or drill.id != guest):
            drill = self._drill(guest)
        return picture, drill

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
