"""Requests to real servers on this host: ones that hang, drip, talk nonsense and send megabytes."""

from __future__ import annotations

import hashlib
import hmac
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from pydantic import ValidationError

from mom_core import MomError
from mom_plugins_eviction.movers.web_requests import (
    SIGNATURE,
    SecretUrl,
    WebAnswer,
    WebhookSettings,
    WebRequestError,
    signed_headers,
    trusted_certificates,
    web_request,
    webhook_secret,
)

SECRET = b"0123456789abcdef0123456789abcdef"
LONG_SECONDS = 60.0
"""Longer than anything here takes that does not hang, however busy the machine is."""


class Asked(BaseHTTPRequestHandler):
    """One request, and whether the test is over: then nothing hangs any more."""

    closing: threading.Event


@contextmanager
def served(answer: Callable[[Asked], None]) -> Iterator[str]:
    class Handler(Asked):
        closing = threading.Event()

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            with suppress(OSError):
                answer(self)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name there
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/mom"
    finally:
        Handler.closing.set()
        server.shutdown()
        server.server_close()
        thread.join(5)


def asked(url: str, seconds: float = LONG_SECONDS) -> WebAnswer:
    headers = signed_headers(SECRET, b"{}")
    return web_request("POST", url, verify=trusted_certificates(None), headers=headers, content=b"{}", seconds=seconds, largest=4096)


def _hangs(handler: Asked) -> None:
    handler.closing.wait(2 * LONG_SECONDS)


def _drips(handler: Asked) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not handler.closing.wait(0.05):
        handler.wfile.write(b"a")
        handler.wfile.flush()


def _drips_a_body(handler: Asked) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while not handler.closing.wait(0.05):
        handler.wfile.write(b" ")
        handler.wfile.flush()


def _nonsense(handler: Asked) -> None:
    handler.wfile.write(b"220 smtp.example.org ESMTP\r\n")


def _hangs_up(handler: Asked) -> None:
    handler.connection.close()


@pytest.mark.parametrize("answer", [_hangs, _drips, _drips_a_body, _nonsense, _hangs_up])
def test_a_server_that_hangs_drips_or_talks_nonsense_is_given_up_in_time(answer: Callable[[Asked], None]) -> None:
    with served(answer) as url:
        began = time.monotonic()
        with pytest.raises(WebRequestError):
            asked(url, 0.3)
        assert time.monotonic() - began < LONG_SECONDS / 2


def test_a_name_of_which_nobody_knows_the_address_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = threading.Event()

    def unanswered(*arguments: object, **more: object) -> list[object]:
        answers.wait(LONG_SECONDS)
        raise OSError("nobody knows")

    monkeypatch.setattr(socket, "getaddrinfo", unanswered)
    began = time.monotonic()
    with pytest.raises(WebRequestError, match=r"does not answer within 0\.1 s"):
        asked("https://mom.example.org/", 0.1)
    assert time.monotonic() - began < LONG_SECONDS / 2
    answers.set()


def test_megabytes_are_not_read() -> None:
    sent: list[int] = []

    def endless(handler: Asked) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(20_000):
            handler.wfile.write(b'{"hold": 90}' + b" " * 1012)
            sent.append(1)

    with served(endless) as url:
        assert asked(url).json() == {}
        assert len(sent) < 20_000


def test_where_a_server_points_to_is_not_gone_to() -> None:
    def elsewhere(handler: Asked) -> None:
        handler.send_response(307)
        handler.send_header("Location", "http://127.0.0.1:1/")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    with served(elsewhere) as url:
        assert asked(url).status == 307


def test_nobody_there_is_told_apart_from_no_answer() -> None:
    with pytest.raises(WebRequestError) as said:
        asked("http://127.0.0.1:1/")
    assert not said.value.sent


def test_a_request_is_signed_so_that_the_receiver_can_check_it() -> None:
    parts = dict(part.split("=", 1) for part in signed_headers(SECRET, b"{}")[SIGNATURE].split(","))
    assert parts["v1"] == hmac.new(SECRET, f"{parts['t']}.".encode() + b"{}", hashlib.sha256).hexdigest()
    assert abs(time.time() - int(parts["t"])) < 60


@pytest.mark.parametrize("url", ["http://cloud.example.org/x", "ftp://h/x", "https://user:word@h/x", "https:///x", "https://h/ x"])
def test_a_webhook_goes_by_https_but_on_this_host(tmp_path: Path, url: str) -> None:
    secret = tmp_path / "secret"
    secret.touch()
    for allowed in ("https://cloud.example.org/x", "http://127.0.0.1:8080/x"):
        WebhookSettings.model_validate({"url": allowed, "secret": secret})
    with pytest.raises(ValidationError):
        WebhookSettings.model_validate({"url": url, "secret": secret})


def test_the_secret_is_nobody_elses(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.touch(0o600)
    secret.write_bytes(SECRET + b"\n")
    assert webhook_secret(secret) == SECRET
    secret.chmod(0o644)
    with pytest.raises(MomError):
        webhook_secret(secret)
    secret.chmod(0o600)
    secret.write_bytes(b"short")
    with pytest.raises(MomError, match="has 5 bytes"):
        webhook_secret(secret)


def test_a_url_that_is_a_secret_is_shown_by_its_host() -> None:
    url = SecretUrl("https://x.example:8443/abcdefgh/ijklmn?q=0123456789ab")
    assert str(url) == "https://x.example:8443/**********"
    assert "abcdefgh" not in repr(url)
    assert str(SecretUrl("http://[::1")) == "**********"
