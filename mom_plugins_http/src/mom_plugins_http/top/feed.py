"""Asks a running mom for what `mom top` shows, in two threads: one hears of each cycle, one asks for what belongs to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast

from mom_core import MomError
from mom_daemon import REPORT_FORMAT, NoSuchGuest, common_problems, problems_of
from mom_plugins_http.cli.client import ApiRefusedError, Client, coded
from mom_plugins_http.cli.event_stream import EventStream
from mom_plugins_http.report_changes import with_changes
from mom_plugins_http.top.picture import HARMS, Drill, Picture, picture_of

if TYPE_CHECKING:
    from mom_daemon import ReportDocument

ANSWER_SECONDS: Final = 5.0
"""An answer comes within hundredths of a second; mom that takes longer hangs."""

SILENCE_SECONDS: Final = 40.0
"""Without cycles there is a sign of life every 15 s."""

AGAIN_SECONDS: Final = 1.0
"""Between two attempts to reach a mom that is not there."""

MOST_ACTS: Final = 100

PAST_CYCLES: Final = 240
"""Of a guest's history: more than a terminal has columns."""


class Feed:
    """All that is known of a running mom, and how it is reached. `changed` is called, from other threads, when there is news.

    :param refresh: seconds between two pictures at least, however many cycles there are
    """

    def __init__(self, client: Client, changed: Callable[[], None], refresh: float = 1.0) -> None:
        self._client = client
        self._changed = changed
        self._refresh = refresh
        self._news = threading.Condition()
        self._report: ReportDocument | None = None
        self._wanted: str | None = None
        self._wanted_is_new = False
        self._ended = False
        self._stream: EventStream | None = None
        self.picture: Picture | None = None
        """The newest; each replaces the one before as a whole."""
        self.drill: Drill | None = None
        self.trouble: tuple[str, str] | None = ("mom is being asked", "")
        """What is wrong, and what to do; None while all is well."""
        self.lost_at: float | None = None
        """Since when mom has not been reached, in monotonic seconds."""
        self.failed: BaseException | None = None
        """What ended a thread: a mistake of ours."""
        self._threads = [threading.Thread(target=self._guarded, args=(each,), daemon=True) for each in (self._hear, self._ask)]

    def start(self) -> None:
        """Begin to ask."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End both threads."""
        with self._news:
            self._ended = True
            self._news.notify_all()
        if (stream := self._stream) is not None:
            stream.close()
        for thread in self._threads:
            thread.join(0.2)

    def want(self, guest: str | None) -> None:
        """All about this guest from now on; None: about none."""
        with self._news:
            if guest != self._wanted:
                self._wanted, self._wanted_is_new, self.drill = guest, guest is not None, None
                self._news.notify_all()

    def _guarded(self, run: Callable[[], None]) -> None:
        try:
            run()
        except BaseException as error:  # noqa: BLE001  # it is raised where the terminal is put in order first
            self.failed = error
            self._changed()

    # --- hearing of cycles -----------------------------------------------------------------------------------------------------------

    def _hear(self) -> None:
        while not self._ended:
            try:
                self._listen()
                raise MomError("mom has ended the connection", hint="it stops, or is reloaded; it is asked again every second")
            except MomError as error:
                self._lose(error)
            with self._news:
                self._news.wait_for(lambda: self._ended, AGAIN_SECONDS)

    def _listen(self) -> None:
        """Until mom ends the stream. Raises `MomError`."""
        harms = ",".join(f"{name}?" for name in HARMS)  # where no plugin declares them, there is no harm to be told of
        stream = self._stream = EventStream(self._client, SILENCE_SECONDS, f"fields={harms}")
        report: ReportDocument | None = None
        try:
            for name, content in stream:
                if self._ended:
                    return
                if name == "report":
                    report = cast("ReportDocument", content)
                    if report["format"] != REPORT_FORMAT:
                        raise MomError("mom is of another version than `mom top`", hint="restart the daemon after an upgrade")
                elif name == "cycle" and report is not None:
                    report = with_changes(report, content)
                else:
                    continue
                with self._news:
                    self._report = report
                    self._news.notify_all()
        finally:
            stream.close()

    def _lose(self, error: MomError) -> None:
        if self.lost_at is None:
            self.lost_at = time.monotonic()
        self.trouble = (error.message, error.hint)
        self._changed()

    # --- asking for what belongs to them -----------------------------------------------------------------------------------------------

    def _ask(self) -> None:
        drawn = 0.0
        while True:
            with self._news:
                patience = None if self.picture is None else self.picture.late_after
                heard = self._news.wait_for(lambda: self._report is not None or self._wanted_is_new or self._ended, patience)
                if self._ended:
                    return
                wanted, hurried, self._wanted_is_new = self._wanted, self._wanted_is_new, False
            try:
                if not heard:
                    self._client.get("/v1/status")  # raises if mom is stopped, or does not answer
                if wanted is not None:
                    self._show(self._all_about(wanted))
                if hurried:
                    continue
                self._pause(drawn + self._refresh - time.monotonic())
                with self._news:
                    report, self._report = self._report, None
                drawn = time.monotonic()
                if report is not None:
                    self.picture = self._picture(report)
                    self.trouble = self.lost_at = None
                    self._changed()
            except MomError as error:
                self._lose(error)
                self._pause(AGAIN_SECONDS)

    def _pause(self, seconds: float) -> None:
        with self._news:
            self._news.wait_for(lambda: self._ended or self._wanted_is_new, seconds)

    def _picture(self, report: ReportDocument) -> Picture:
        acts = self._client.get(f"/v1/acts?together=1&limit={MOST_ACTS}")["items"]
        return picture_of(report, common_problems(problems_of(report)), acts)

    def _show(self, drill: Drill) -> None:
        with self._news:
            if drill.id == self._wanted:
                self.drill = drill
        self._changed()

    def _all_about(self, guest: str) -> Drill:
        path = f"/v1/guests/{coded(guest)}"
        try:
            found = self._client.get(path)
            past = self._client.get(f"{path}/history?limit={PAST_CYCLES}")["items"]
            explained = self._client.get(f"{path}/explanation")
            acts = self._client.get(f"/v1/acts?limit={MOST_ACTS}&guest={coded(guest)}")["items"]
        except NoSuchGuest as error:
            return Drill(guest, trouble=f"{error.message}. It may have been stopped, or moved to another host")
        except ApiRefusedError as error:
            return Drill(guest, trouble=error.message)
        return Drill(guest, explained, found, past[::-1], acts)
