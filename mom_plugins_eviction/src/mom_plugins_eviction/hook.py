"""Telling a management system what is announced, so that it can do something better: one POST for each event, signed.

It runs in a thread of its own, and nothing waits for it. What it answers can put a step off for a while, and nothing else.
"""

from __future__ import annotations

import json
import logging
import queue
import secrets
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from mom_core import SecretUrl, Value
from mom_toolkit import WebRequestError, signed_headers, trusted_certificates, web_request

ATTEMPTS: Final = 5
FIRST_PAUSE: Final = 1.0
"""Seconds before the second attempt; each pause is twice the one before. With attempts that all take `ANSWER_SECONDS`, an event is given
up after 40 s, and so is not told long after its time."""

ANSWER_SECONDS: Final = 5.0
"""For one attempt as a whole, from the name's address to the answer's last byte."""

LARGEST_ANSWER: Final = 4096
WAITING: Final = 100
"""Events that wait to be sent; more than that are dropped, and said."""

CLOSING_SECONDS: Final = 0.2
LONGEST_ASKED: Final = 1e6
"""Seconds that make sense in an answer; how much of that is given is another question."""


class Webhook:
    """Sends events, first to last.

    :param hold: called in this thread with a guest's id and seconds when the answer to an announcement asks for time
    :param wait: seconds before the second attempt
    """

    def __init__(
        self,
        url: SecretUrl,
        secret: bytes,
        log: logging.Logger,
        hold: Callable[[str, float], None],
        *,
        ca: Path | None = None,
        wait: float = FIRST_PAUSE,
        answer: float = ANSWER_SECONDS,
    ) -> None:
        self._url, self._secret, self._log, self._hold, self._wait, self._answer = url, secret, log, hold, wait, answer
        self._verify = trusted_certificates(ca)
        self._queue: queue.Queue[Mapping[str, Value] | None] = queue.Queue(WAITING)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="mom eviction webhook", daemon=True)
        self._thread.start()

    def send(self, event: Mapping[str, Value]) -> None:
        """Send it some time; never waits."""
        try:
            self._queue.put_nowait({"id": secrets.token_hex(16), **event})
        except queue.Full:
            self._log.error("the webhook %s does not keep up: an event is not sent", self._url)

    def close(self) -> None:
        """End; what cannot be sent at once is not."""
        with suppress(queue.Full):
            self._queue.put_nowait(None)
        self._thread.join(CLOSING_SECONDS)
        self._closed.set()

    def _work(self) -> None:
        while not self._closed.is_set():
            event = self._queue.get()
            if event is None:
                return
            self._deliver(event)

    def _deliver(self, event: Mapping[str, Value]) -> None:
        body = json.dumps(event).encode()
        pause, why = self._wait, ""
        for attempt in range(ATTEMPTS):
            if attempt:
                if self._closed.wait(pause):
                    return
                pause *= 2
            status, said, why = self._attempt(body)
            if 200 <= status < 300:
                self._heard(event, said)
                return
            if 300 <= status < 500 and status not in (408, 429):
                break  # it will say the same again; where it points to is not what the operator agreed to
        self._log.error("the webhook %s was not told of the event %s: %s", self._url, event.get("event"), why)

    def _attempt(self, body: bytes) -> tuple[int, Mapping[str, Any], str]:
        """The answer's status (0: there was none) and what it says, and what is wrong with it."""
        try:
            answer = web_request(
                "POST",
                self._url.get_secret_value(),
                verify=self._verify,
                headers=signed_headers(self._secret, body),
                content=body,
                seconds=self._answer,
                largest=LARGEST_ANSWER,
            )
        except WebRequestError as error:
            return 0, {}, error.message
        return answer.status, answer.json(), f"it answers {answer.status}"

    def _heard(self, event: Mapping[str, Value], said: Mapping[str, Any]) -> None:
        """What an answer asks for, if it makes sense."""
        identity, seconds = event.get("guest_id"), said.get("hold")
        if event.get("event") != "announced" or not isinstance(identity, str):
            return
        if isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 < seconds < LONGEST_ASKED:
            self._hold(identity, float(seconds))
