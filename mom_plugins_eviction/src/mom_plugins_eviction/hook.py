"""Telling a management system what is announced, so that it can do something better: one POST for each event, signed.

It runs in a thread of its own, and nothing waits for it. What it answers can put a step off for a while, and nothing else.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import queue
import secrets
import ssl
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from mom_core import MomError, SecretUrl, Value, printable, read_secret

Result = TypeVar("Result")

SIGNATURE: Final = "Mom-Signature"
"""The header with the signature: `t=SECONDS,v1=HEX`, the HMAC-SHA256 of `SECONDS.BODY` with the secret."""

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
LEAST_SECRET: Final = 16
"""Bytes. The hint gives 64 letters that stand for 32."""

LONGEST_ASKED: Final = 1e6
"""Seconds that make sense in an answer; how much of that is given is another question."""


def sign(secret: bytes, at: int, body: bytes) -> str:
    """What stands in the header."""
    return f"t={at},v1={hmac.new(secret, str(at).encode() + b'.' + body, hashlib.sha256).hexdigest()}"


def webhook_secret(path: Path) -> bytes:
    """The secret in a file that no other account may read. Raises `MomError`."""
    make = f"openssl rand -hex 32 > {path}; chmod 600 {path}"
    secret = read_secret(path, "the secret", make).strip()
    if len(secret) < LEAST_SECRET:
        raise MomError(f"the secret {path} has {len(secret)} bytes", hint=f"give it {LEAST_SECRET} at least: {make}")
    return secret


def trusted(ca: Path | None) -> ssl.SSLContext:
    """What certificates are checked with. Raises `MomError`."""
    try:
        return ssl.create_default_context(cafile=None if ca is None else str(ca))
    except OSError as error:  # ssl's own errors are of that kind, too
        raise MomError(f"the certificates {ca} of the webhook cannot be read: {error.strerror or error}") from None


def _run(work: Coroutine[Any, Any, Result]) -> Result:
    """As asyncio.run, but for the end: that would wait for the system to find a name's address, which takes half a minute if no server
    answers, though the caller has given up."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


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
        self._verify = trusted(ca)
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

    def _attempt(self, body: bytes) -> tuple[int, bytes, str]:
        """The answer's status (0: there was none) and text, and what is wrong with it."""
        import httpx

        at = int(time.time())  # the receiver compares it, when it checks the signature, with its own clock
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity", SIGNATURE: sign(self._secret, at, body)}
        try:
            return _run(self._post(body, headers))
        except TimeoutError:
            return 0, b"", f"it does not answer within {self._answer:g} s"
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            return 0, b"", printable(str(error) or type(error).__name__, 200)

    async def _post(self, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes, str]:
        import httpx

        # One limit on all of it: httpx's own are for each read, and an answer that drips can have any number of those.
        async with (
            asyncio.timeout(self._answer),
            httpx.AsyncClient(timeout=self._answer, follow_redirects=False, verify=self._verify, trust_env=False) as client,
            client.stream("POST", self._url.get_secret_value(), content=body, headers=headers) as answer,
        ):
            why = f"it answers {answer.status_code}"
            said = b""
            async for part in answer.aiter_raw(1024):
                said += part
                if len(said) > LARGEST_ANSWER:
                    return answer.status_code, b"", why
            return answer.status_code, said, why

    def _heard(self, event: Mapping[str, Value], said: bytes) -> None:
        """What an answer asks for, if it makes sense."""
        identity = event.get("guest_id")
        if event.get("event") != "announced" or not isinstance(identity, str) or not said:
            return
        try:
            asked = json.loads(said)
        except (ValueError, RecursionError):
            return
        seconds = asked.get("hold") if isinstance(asked, dict) else None
        if isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 < seconds < LONGEST_ASKED:
            self._hold(identity, float(seconds))
