"""The RPC server with silent, slow, large, invalid and too many clients; and its socket."""

import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from rpc_peer import LONG_SECONDS, Serving, client, threads

from mom_devkit import wait_until
from mom_kvm import PolicyTexts
from mom_plugins_vdsm import rpc_plugin

PING = b"<?xml version='1.0'?>\n<methodCall>\n<methodName>ping</methodName>\n<params>\n</params>\n</methodCall>\n"

_ENTITIES = ['<!ENTITY a0 "ha">', *(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 30))]
BOMB = f"<!DOCTYPE x [{''.join(_ENTITIES)}]><methodCall><methodName>&a29;</methodName></methodCall>".encode()


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc_plugin, "PATIENCE_SECONDS", LONG_SECONDS)


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    with Serving(tmp_path) as serving:
        yield serving


def connected(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(LONG_SECONDS)
    try:
        sock.connect(str(path))
    except OSError:
        sock.close()
        raise
    return sock


def post(body: bytes, *, path: str = "/RPC2", version: str = "HTTP/1.1", more: str = "") -> bytes:
    head = f"POST {path} {version}\r\nHost: 2F72756E\r\nContent-Type: text/xml\r\n{more}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def answer(path: Path, sent: bytes, *, end: bool = False) -> bytes:
    """Send bytes, and return the server's output until it closes."""
    with connected(path) as sock:
        sock.sendall(sent)
        if end:
            sock.shutdown(socket.SHUT_WR)
        parts = []
        while part := sock.recv(65536):
            parts.append(part)
    return b"".join(parts)


def status(answered: bytes) -> int:
    return int(answered.split(b" ", 2)[1])


# --- one client ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/RPC2"])
def test_a_call_as_vdsm_sends_it_is_answered(serving: Serving, path: str) -> None:
    assert b"<boolean>1</boolean>" in answer(serving.socket, post(PING, path=path))
    assert status(answer(serving.socket, post(PING, path=path, version="HTTP/1.0"))) == 200


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"GET /RPC2 HTTP/1.1\r\n\r\n", 400),
        (post(PING, path="/other"), 400),
        (post(PING, version="HTTP/3.0"), 400),
        (b"POST /RPC2 HTTP/1.1\r\n\r\n", 411),
        (b"POST /RPC2 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        (b"POST /RPC2 HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", 411),
        (b"POST /RPC2 HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n", 411),
        (post(PING, more="Origin: http://evil.example\r\n"), 403),
        (b"rubbish\r\n\r\n", 400),
        (b"POST /RPC2 HTTP/1.1\r\n" + b"X: 1\r\n" * 200 + b"\r\n", 431),
        (b"POST /RPC2 HTTP/1.1\r\nX: " + b"x" * 20_000, 431),
        (b"POST /RPC2 HTTP/1.1\r\nContent-Length: 5000000\r\n\r\n", 413),
    ],
)
def test_what_is_no_call_gets_an_http_error_and_the_connection_ends(serving: Serving, sent: bytes, expected: int) -> None:
    assert status(answer(serving.socket, sent, end=True)) == expected


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<params/>",
        b"<methodCall><methodName>ping</methodName><params><param><value><int>x</int></value></param></params></methodCall>",
        b"<methodCall><methodName>ping</methodName><params><param><value><int>" + b"9" * 100_000 + b"</int></value></param></params>",
        b"<methodResponse><fault><value><struct></struct></value></fault></methodResponse>",
        BOMB,
        b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><methodCall><methodName>ping</methodName></methodCall>',
        b"<methodCall><methodName>setPolicy</methodName><params><param>" + b"<value><array><data>" * 10_000,
        b"<methodCall><methodName>ping</methodName><params>" + b"<param><value>1</value></param>" * 10_000 + b"</params></methodCall>",
    ],
)
def test_a_body_that_is_no_call_is_a_fault(serving: Serving, body: bytes) -> None:
    said = answer(serving.socket, post(body))
    assert status(said) == 200
    assert b"<name>faultCode</name>\n<value><int>1</int>" in said
    assert (b"a call has no document type" in said) or b"DOCTYPE" not in body, "before they are expanded"


# --- clients that harm others ------------------------------------------------------------------------------------------------------------


def test_half_a_request_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc_plugin, "PATIENCE_SECONDS", 0.3)
    with Serving(tmp_path) as serving:
        held = [connected(serving.socket) for _ in range(10)]
        for sock in held:
            sock.sendall(post(PING)[:50])
        for sock in held:
            assert sock.recv(100) == b""
            sock.close()


def test_a_client_that_sends_lines_without_end_after_its_answer_is_let_go(serving: Serving) -> None:
    with connected(serving.socket) as sock:
        sock.sendall(b"rubbish\r\n\r\n")
        assert sock.recv(100)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            sock.sendall(b"\r\n" * (32 << 20))


def test_a_slow_change_holds_up_no_question(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    policies = serving.context.service(PolicyTexts)
    assert policies is not None
    change = policies.change

    def slowly(*args: object, **kwargs: object) -> object:
        go_on.wait(LONG_SECONDS)
        return change(*args, **kwargs)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr(policies, "change", slowly)
    answers: list[object] = []

    def set_policy() -> None:
        with client(serving.socket) as mom:
            answers.append(mom.setPolicy("1"))

    changing = [threading.Thread(target=set_policy) for _ in range(4)]
    for thread in changing:
        thread.start()
    with client(serving.socket) as mom:
        for _ in range(5):
            assert mom.ping() is True
            assert mom.getStatistics()["guests"] == {}
    go_on.set()
    for thread in changing:
        thread.join(LONG_SECONDS)
    assert answers == [True] * 4


# --- the socket --------------------------------------------------------------------------------------------------------------------


def test_the_socket_is_there_for_its_owner_only_and_gone_at_the_end(tmp_path: Path) -> None:
    before = threads()
    with Serving(tmp_path) as serving:
        found = serving.socket.stat()
        assert stat.S_ISSOCK(found.st_mode)
        assert stat.S_IMODE(found.st_mode) == 0o600
    wait_until(lambda: not serving.socket.exists())
    wait_until(lambda: threads() <= before)
    with Serving(tmp_path, mode="0660") as serving:
        assert stat.S_IMODE(serving.socket.stat().st_mode) == 0o660


def test_who_only_takes_a_look_listens_on_nothing(tmp_path: Path) -> None:
    it = Serving(tmp_path)
    it.context.serves = False
    with it:
        assert not it.socket.exists()
