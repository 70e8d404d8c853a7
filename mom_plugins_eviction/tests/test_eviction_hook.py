"""The webhook against real servers on this host: ones that answer, and ones that hang, drip, redirect, lie and send megabytes."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from pydantic import ValidationError

from mom_core import MomError, SecretUrl
from mom_plugins_eviction.hook import ATTEMPTS, WAITING, Webhook
from mom_plugins_eviction.settings import EvictionSettings
from mom_toolkit import SIGNATURE, sign, webhook_secret

SECRET = b"0123456789abcdef0123456789abcdef"
EVENT = {"event": "announced", "guest_id": "g1", "guest": "vm", "step": "save"}
Answer = Callable[["Asked", int], None]

LONG_SECONDS = 60.0
"""Longer than anything here takes that does not hang, however busy the machine is."""


class Asked(BaseHTTPRequestHandler):
    """One request, and whether the test is over: then nothing hangs any more."""

    closing: threading.Event


class Receiver:
    """A server that answers as it is told; it keeps what it got."""

    def __init__(self, answer: Answer) -> None:
        self.got: list[tuple[str, bytes]] = []
        self.closing = threading.Event()
        receiver = self

        class Handler(Asked):
            closing = receiver.closing

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append((self.headers[SIGNATURE], body))
                with suppress(OSError):
                    answer(self, len(receiver.got))

            def do_GET(self) -> None:
                receiver.got.append(("GET", b""))

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name there
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/mom"

    def close(self) -> None:
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(5)


def says(status: int, body: bytes = b"", **headers: str) -> Answer:
    def answer(handler: Asked, count: int) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


class Told:
    """A webhook that posts to a receiver, and what came of it."""

    def __init__(self, receiver: Receiver, caplog: pytest.LogCaptureFixture, limit: float) -> None:
        self.receiver, self.caplog, self.held = receiver, caplog, list[tuple[str, float]]()
        self.hook = Webhook(
            SecretUrl(receiver.url),
            SECRET,
            logging.getLogger("hook"),
            lambda identity, seconds: self.held.append((identity, seconds)),
            wait=0.01,
            answer=limit,
        )

    def until(self, holds: Callable[[], object]) -> None:
        ends = time.monotonic() + LONG_SECONDS
        while not holds():
            assert time.monotonic() < ends, self.caplog.text
            time.sleep(0.01)

    def until_answered(self, count: int) -> None:
        """Until so many requests came."""
        self.until(lambda: len(self.receiver.got) >= count)

    @property
    def given_up(self) -> bool:
        return "was not told" in self.caplog.text


@contextmanager
def receiving(answer: Answer, caplog: pytest.LogCaptureFixture, limit: float = LONG_SECONDS) -> Iterator[Told]:
    receiver = Receiver(answer)
    told = Told(receiver, caplog, limit)
    try:
        yield told
    finally:
        told.hook.close()
        receiver.close()


def test_an_event_is_signed_so_that_the_receiver_can_check_it(caplog: pytest.LogCaptureFixture) -> None:
    with receiving(says(204), caplog) as told:
        told.hook.send(EVENT)
        told.until_answered(1)
        header, body = told.receiver.got[0]
        parts = dict(part.split("=", 1) for part in header.split(","))
        expected = hmac.new(SECRET, parts["t"].encode() + b"." + body, hashlib.sha256).hexdigest()
        assert hmac.compare_digest(parts["v1"], expected)
        assert abs(time.time() - int(parts["t"])) < 60
        content = json.loads(body)
        assert content["guest"] == "vm"
        assert len(content["id"]) == 32


def test_an_answer_can_ask_for_time(caplog: pytest.LogCaptureFixture) -> None:
    with receiving(says(200, b'{"hold": 90}'), caplog) as told:
        told.hook.send(EVENT)
        told.until(lambda: told.held)
        assert told.held == [("g1", 90.0)]


@pytest.mark.parametrize(
    "body",
    [
        b'{"hold": -5}', b'{"hold": 1e300}', b'{"hold": NaN}', b'{"hold": "90"}', b'{"hold": true}', b"[90]",
        b'{"hold": {"a": 1}}', b"\xff\x00",
        b"[" * 4000, b'{"hold": 5}' + b" " * 5000, b'{"step": "nothing", "guest_id": "other"}',
    ],
)  # fmt: skip
def test_an_answer_that_lies_changes_nothing(body: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with receiving(says(200, body), caplog) as told:
        told.hook.send(EVENT)
        told.hook.send({**EVENT, "event": "done"})  # when it comes, the answer before has been read
        told.until_answered(2)
        assert told.held == []
        assert not told.given_up


def test_only_an_announcement_can_be_put_off(caplog: pytest.LogCaptureFixture) -> None:
    with receiving(says(200, b'{"hold": 90}'), caplog) as told:
        told.hook.send({**EVENT, "event": "done"})
        told.hook.send({**EVENT, "event": "failed"})
        told.until_answered(2)
        assert told.held == []


def test_a_server_in_trouble_is_asked_again_with_the_same_event_and_a_new_signature(caplog: pytest.LogCaptureFixture) -> None:
    def third_time(handler: Asked, count: int) -> None:
        says(500 if count < 3 else 200)(handler, count)

    with receiving(third_time, caplog) as told:
        told.hook.send(EVENT)
        told.until_answered(3)
        assert len({body for _, body in told.receiver.got}) == 1
    assert not told.given_up


def test_a_server_that_is_always_in_trouble_is_given_up_and_it_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with receiving(says(500), caplog) as told:
        told.hook.send(EVENT)
        told.until(lambda: told.given_up)
        assert len(told.receiver.got) == ATTEMPTS
        assert "it answers 500" in caplog.text


@pytest.mark.parametrize("status", [301, 307, 308, 400, 403, 404])
def test_who_points_elsewhere_or_refuses_is_not_asked_again(status: int, caplog: pytest.LogCaptureFixture) -> None:
    with receiving(says(status, b"", Location="/other"), caplog) as told:
        told.hook.send(EVENT)
        told.until(lambda: told.given_up)
        assert len(told.receiver.got) == 1


def _hangs(handler: Asked, count: int) -> None:
    handler.closing.wait(2 * LONG_SECONDS)


def _drips(handler: Asked, count: int) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not handler.closing.wait(0.05):
        handler.wfile.write(b"a")
        handler.wfile.flush()


def _drips_a_body(handler: Asked, count: int) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while not handler.closing.wait(0.05):
        handler.wfile.write(b" ")
        handler.wfile.flush()


def _nonsense(handler: Asked, count: int) -> None:
    handler.wfile.write(b"220 smtp.example.org ESMTP\r\n")


def _hangs_up(handler: Asked, count: int) -> None:
    handler.connection.close()


@pytest.mark.parametrize("answer", [_hangs, _drips, _drips_a_body, _nonsense, _hangs_up])
def test_a_server_that_hangs_drips_or_talks_nonsense_is_given_up_in_time(answer: Answer, caplog: pytest.LogCaptureFixture) -> None:
    with receiving(answer, caplog, 0.3) as told:
        began = time.monotonic()
        told.hook.send(EVENT)
        told.until(lambda: told.given_up)
        assert time.monotonic() - began < LONG_SECONDS / 2
        told.until_answered(1)
        assert len(told.receiver.got) <= ATTEMPTS
        assert told.held == []


def test_a_name_of_which_nobody_knows_the_address_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = threading.Event()

    def unanswered(*arguments: object, **more: object) -> list[object]:
        answers.wait(LONG_SECONDS)
        raise OSError("nobody knows")

    monkeypatch.setattr(socket, "getaddrinfo", unanswered)
    hook = Webhook(SecretUrl("https://mom.example.org/"), SECRET, logging.getLogger("hook"), lambda identity, seconds: None, answer=0.1)
    began = time.monotonic()
    status, _, why = hook._attempt(b"{}")
    assert time.monotonic() - began < LONG_SECONDS / 2
    assert (status, why) == (0, "it does not answer within 0.1 s")
    answers.set()
    hook.close()


def test_megabytes_are_not_read(caplog: pytest.LogCaptureFixture) -> None:
    sent: list[int] = []

    def endless(handler: Asked, count: int) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(20_000):
            handler.wfile.write(b'{"hold": 90}' + b" " * 1012)
            sent.append(1)

    with receiving(endless, caplog) as told:
        told.hook.send(EVENT)
        told.hook.send({**EVENT, "event": "done"})
        told.until_answered(2)
        assert told.held == []
        assert len(sent) < 20_000


def test_events_that_nobody_takes_are_dropped_and_it_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with receiving(_hangs, caplog) as told:
        for _ in range(WAITING + 2):
            told.hook.send(EVENT)
        assert "does not keep up" in caplog.text
        began = time.monotonic()
        told.hook.close()
        assert time.monotonic() - began < LONG_SECONDS / 2


def test_nobody_there_is_said(caplog: pytest.LogCaptureFixture) -> None:
    hook = Webhook(SecretUrl("http://127.0.0.1:1/"), SECRET, logging.getLogger("hook"), lambda identity, seconds: None, wait=0.01)
    hook.send(EVENT)
    ends = time.monotonic() + LONG_SECONDS
    while "was not told" not in caplog.text and time.monotonic() < ends:
        time.sleep(0.01)
    hook.close()
    assert "was not told of the event announced" in caplog.text


def test_the_example_of_a_receiver_in_the_documentation_checks_signatures(tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "eviction.md"
    text = page.read_text()
    code = text.split("```python\n", 1)[1].split("```", 1)[0]
    found: dict[str, object] = {"__name__": "receiver"}
    exec(compile(code.replace("/etc/mom/eviction.secret", str(tmp_path / "secret")), str(page), "exec"), _with_secret(found, tmp_path))  # noqa: S102  # it is our own
    checked = found["checked"]
    assert callable(checked)
    body = b'{"event": "announced"}'
    now = int(time.time())
    assert checked(sign(SECRET, now, body), body)
    assert not checked(sign(SECRET, now, body), body + b" ")
    assert not checked(sign(b"another secret of somebody", now, body), body)
    assert not checked(sign(SECRET, now - 3600, body), body), "a replay"
    assert not checked("nonsense", body)


def _with_secret(found: dict[str, object], folder: Path) -> dict[str, object]:
    (folder / "secret").write_bytes(SECRET + b"\n")
    return found


# --- settings ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/x",
        "ftp://h/x",
        "https://",
        "nonsense",
        "https://user:word@h/x",
        "http://127.0.0.1.evil.org/",
        "https://h:x/",
        "http://local\thost/",
    ],
)
def test_a_webhook_goes_by_https_but_on_this_host(url: str) -> None:
    with pytest.raises(ValidationError):
        EvictionSettings.model_validate({"webhook": {"url": url, "secret": Path("/x")}})


def test_the_secret_is_nobody_elses(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    with pytest.raises(MomError, match="cannot be read"):
        webhook_secret(secret)
    secret.write_text("short\n")
    secret.chmod(0o600)
    with pytest.raises(MomError, match="5 bytes"):
        webhook_secret(secret)
    secret.write_bytes(SECRET + b"\n")
    assert webhook_secret(secret) == SECRET
    secret.chmod(0o640)
    with pytest.raises(MomError, match="its group has access"):
        webhook_secret(secret)
