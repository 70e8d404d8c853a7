"""Requests to real servers that hang, answer slowly or wrongly, send megabytes, or redirect."""

import time
from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from movers_server import Server
from pydantic import TypeAdapter, ValidationError
from stand_in_kubelet import Authority

from mom_core import HypervisorError, MomError, PluginContext, Severity
from mom_plugins_sla.eviction.movers.ovirt import OvirtMoverPlugin
from mom_plugins_sla.eviction.movers.proxmox import ProxmoxMoverPlugin
from mom_plugins_sla.eviction.movers.server_api import ServerApi, UnclearAnswerError, WebUrl, credentials

Writes = Callable[[Server, BaseHTTPRequestHandler], object]

LONG_SECONDS = 60.0
"""Longer than any call here that does not hang, also on a busy machine."""


def api(url: str, seconds: float = LONG_SECONDS) -> ServerApi:
    return ServerApi("cloud", url, dict, seconds=seconds)


def _drips(first: bytes) -> Writes:
    def drips(server: Server, handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(first)
        while not server.over.wait(0.05):
            handler.wfile.write(b" ")
            handler.wfile.flush()

    return drips


@pytest.mark.parametrize(
    "writes",
    [
        lambda server, handler: server.over.wait(2 * LONG_SECONDS),
        _drips(b"HTTP/1.1 200 OK\r\n\r\n"),
        lambda server, handler: handler.wfile.write(b"220 smtp.example.org ESMTP\r\n"),
        lambda server, handler: None,
    ],
    ids=["hangs", "drips a body", "talks nonsense", "hangs up"],
)
def test_a_server_that_hangs_drips_or_talks_nonsense_is_given_up_in_time(server: Server, writes: Writes) -> None:
    server.writes = partial(writes, server)
    began = time.monotonic()
    with pytest.raises(UnclearAnswerError):
        api(server.url, 0.3).ask("GET", "/")
    assert time.monotonic() - began < LONG_SECONDS / 2


def test_where_a_server_points_to_is_not_gone_to(server: Server) -> None:
    server.writes = lambda handler: handler.wfile.write(b"HTTP/1.1 307 There\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n")
    with pytest.raises(HypervisorError, match="307"):
        api(server.url).ask("GET", "/")
    assert len(server.got) == 1


@pytest.mark.parametrize("content", [b"done", b"\xff", b"[" * 100_000, b"[]"])
def test_an_answer_that_is_no_object_says_nothing(server: Server, content: bytes) -> None:
    server.answer = lambda request: (200, content)
    assert api(server.url).ask("GET", "/") == {}


def test_nobody_there_is_told_apart_from_no_answer() -> None:
    with pytest.raises(HypervisorError):
        api("http://127.0.0.1:1").ask("GET", "/")


WRONG = ["http://cloud.example.org/x", "ftp://h/x", "https://user:word@h/x", "https://user@h/x", "https://:word@h/x", "https:///x"]


@pytest.mark.parametrize("url", [*WRONG, "https://h/ x", "https://h\t.example.org/x"])
def test_a_server_is_reached_by_https_but_on_this_host(url: str) -> None:
    for allowed in ("https://cloud.example.org/x", "http://127.0.0.1:8080/x"):
        assert TypeAdapter(WebUrl).validate_python(allowed) == allowed
    with pytest.raises(ValidationError):
        TypeAdapter(WebUrl).validate_python(url)


def test_credentials_that_others_can_read_are_not_sent(server: Server, secret: Path) -> None:
    one = ServerApi("cloud", server.url, lambda: {"Authorization": credentials(secret, "make one")})
    one.ask("GET", "/")
    assert server.got[0].headers["authorization"].startswith("mom@pve!")
    secret.chmod(0o644)
    with pytest.raises(HypervisorError, match="is not secret"):
        one.ask("GET", "/")
    assert len(server.got) == 1


@pytest.mark.parametrize("text", ["", " \n", "mom@pve!mover=\u00e9", "mom@pve!mover=1\nX-More: 2"])
def test_what_is_no_line_of_text_is_no_credentials(secret: Path, text: str) -> None:
    secret.write_text(text)
    with pytest.raises(MomError, match="has no valid credentials") as caught:
        credentials(secret, "make one")
    assert caught.value.hint == "make one"


def test_a_server_is_trusted_by_the_certificates_that_are_named_and_no_others(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    one = ServerApi("cloud", "https://cloud.example.org", dict, ca)
    for content in (None, "no certificate"):
        if content is not None:
            ca.write_text(content)
        with pytest.raises(MomError, match=f"cannot read the certificates {ca}"):
            one.check()
    ca.write_bytes(Authority("ours").pem)
    one.check()
    assert [found["subject"] for found in one._trusted().get_ca_certs()] == [((("commonName", "ours"),),)]


@pytest.mark.parametrize(
    ("plugin", "secret_in", "path", "said"),
    [
        (ProxmoxMoverPlugin, "token", "/api2/json/version", b'{"data": {"version": "4.5.6"}}'),
        (OvirtMoverPlugin, "password", "/api", b'{"product_info": {"version": {"full_version": "4.5.6"}}}'),
    ],
)
def test_doctor_says_if_a_server_lets_mom_in(server: Server, secret: Path, plugin: Any, secret_in: str, path: str, said: bytes) -> None:
    one = plugin(plugin.Settings(**{"url": server.url, secret_in: secret}), PluginContext())
    server.answer = lambda request: (200, said) if request.path == path else (404, b"")
    (found,) = one.mom_doctor()
    assert (found.severity, "4.5.6" in found.message) == (Severity.OK, True)
    server.answer = lambda request: (401, b"")
    (found,) = one.mom_doctor()
    assert found.severity is Severity.ERROR
