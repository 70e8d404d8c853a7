"""Hostile and slow clients are disconnected without effect on others."""

import contextlib
import select
import socket
import ssl
import threading
import time
from pathlib import Path

import httpx
import pytest
from http_over_tcp import tcp_settings
from served_mom import Serve, Served, patient

from mom_core import MomError
from mom_devkit import wait_until
from mom_plugins_http.cli.client import Client
from mom_plugins_http.server.access import LocalAccess, Peer, Right
from mom_plugins_http.server.problems import ProblemError
from mom_plugins_http.server.server import Room


def connect(path: Path, text: bytes = b"") -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(path))
    sock.settimeout(60)
    sock.sendall(text)
    return sock


def still_answers(served: Served) -> bool:
    """Return whether mom answers within a minute. With short time limits, a busy machine may be too slow at first."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with contextlib.suppress(httpx.TransportError):
            return served.client.get("/v1/status").status_code == 200
    return False


def told(sock: socket.socket) -> bytes:
    """Return all bytes until the connection ends."""
    parts = []
    with sock, contextlib.suppress(ConnectionResetError):
        while part := sock.recv(1 << 20):
            parts.append(part)
    return b"".join(parts)


PATCH = b"PATCH /v1/policies HTTP/1.1\r\nhost: mom\r\nif-match: *\r\ncontent-type: application/json\r\n"


@pytest.mark.parametrize("beginning", [b"GET /v1/sta", PATCH + b"content-length: 9\r\n\r\n(+"])
def test_a_request_that_does_not_arrive_is_given_up(serve: Serve, beginning: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    patient(monkeypatch, 0.3)
    served = serve()
    answer = told(connect(served.path, beginning))
    assert answer == b"" or answer.startswith(b"HTTP/1.1 408")


@pytest.mark.long
def test_who_does_not_take_an_answer_is_let_go(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    patient(monkeypatch, 0.3)
    served = serve()
    sock = connect(served.path, b"GET /v1/openapi.json HTTP/1.1\r\nhost: mom\r\n\r\n" * 40)
    ended = select.poll()
    ended.register(sock, 0)  # reports only the end of the other side, not readable bytes
    assert ended.poll(60_000)
    assert still_answers(served)
    received = told(sock)
    assert received.count(b"HTTP/1.1 200") < 40


CHECK = b"POST /v1/policy-check HTTP/1.1\r\nhost: mom\r\ncontent-type: application/json\r\n"


def test_no_user_has_all_places() -> None:
    room = Room(8, "tests")
    with contextlib.ExitStack() as held:
        for _ in range(4):
            held.enter_context(room.taken("reader"))
        with pytest.raises(ProblemError):
            held.enter_context(room.taken("reader"))
        held.enter_context(room.taken("root", 3))
        held.enter_context(room.taken(""))
        assert room.left == 0
    assert room.left == 8


def test_answers_that_are_not_read_take_few_places(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each answer stays in memory until it is read: slow readers share a limit, which leaves room for others."""
    monkeypatch.setattr("mom_plugins_http.routes.api._MOST_ANSWERS", 3 << 20)
    served = serve()
    view = served.service._published.view()
    view.answers["status"] = b" " * (1 << 20)
    asked = b"GET /v1/status HTTP/1.1\r\nhost: mom\r\nconnection: close\r\n\r\n"
    with contextlib.ExitStack() as clients:
        slow = [clients.enter_context(connect(served.path, asked)) for _ in range(3)]
        time.sleep(0.2)
        assert [told(client)[9:12] for client in reversed(slow)] == [b"503", b"200", b"200"]
    assert len(told(connect(served.path, asked))) > 1 << 20


NO_HTTP = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 9 + b"\r\n\r\n",
    b"GET /v1/status HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: mom\r\nx: " + b"y" * 40_000,
    b"\r\n" * 50_000,
]


@pytest.mark.parametrize("text", NO_HTTP, ids=["tls", "no host", "long head", "blank"])
def test_what_is_no_http_is_told_so(serve: Serve, text: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    patient(monkeypatch, 0.5)
    served = serve()
    sock = connect(served.path)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        sock.sendall(text)
    answer = told(sock)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400")
    assert still_answers(served)


def test_a_huge_body_is_refused_without_being_kept(served: Served) -> None:
    head = PATCH + b"content-length: 99999999999\r\nexpect: 100-continue\r\n\r\n"
    assert told(connect(served.path, head)).startswith(b"HTTP/1.1 413")


def test_ending_takes_less_than_it_may_also_with_clients(served: Served) -> None:
    held = [connect(served.path, b"GET /v1/events HTTP/1.1\r\nhost: mom\r\n\r\n" if n % 2 else b"GET") for n in range(40)]
    served.get("/v1/status")
    served.client.close()
    served.plugin.mom_teardown()
    wait_until(lambda: not served.path.exists())
    for sock in held:
        sock.close()


def test_an_answer_that_is_cut_off_is_told_as_such(tmp_path: Path) -> None:
    def serve(listener: socket.socket) -> None:
        with listener.accept()[0] as connection:
            connection.recv(65536)
            connection.sendall(b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 20\r\n\r\n{"version"')

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "mom.sock"))
        listener.listen()
        server = threading.Thread(target=serve, args=(listener,))
        server.start()
        with pytest.raises(MomError, match="unexpected answer"):
            Client(tmp_path / "mom.sock").get("/v1/policies")
        server.join(60)


def test_a_body_in_chunks_is_refused_by_its_head(served: Served) -> None:
    """Chunks of one byte would keep the loop, and all other clients, for seconds."""
    head = b"POST /v1/policy-check HTTP/1.1\r\nhost: mom\r\ntransfer-encoding: chunked\r\ncontent-type: application/json\r\n\r\n"
    began = time.process_time()
    told(connect(served.path, head + b"1\r\nx\r\n" * 10_000))
    assert time.process_time() - began < 2
    assert told(connect(served.path, head)).startswith(b"HTTP/1.1 400")
    assert still_answers(served)


HALF_SENT = b"POST /v1/page-sessions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n"


def test_requests_of_strangers_that_do_not_arrive_keep_no_places(
    serve: Serve, tmp_path: Path, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They last until mom's time limit, and strangers can repeat them."""
    patient(monkeypatch, 60)
    monkeypatch.setattr("mom_plugins_http.server.server.MOST_CLIENTS", 8)
    served = serve(tcp=tcp_settings(tmp_path, free_port, read="read" * 8))
    ca = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
    token = b"authorization: Bearer " + b"read" * 8 + b"\r\n"
    half_checked = b"POST /v1/policy-check HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 14\r\n"

    def over_tls(text: bytes) -> ssl.SSLSocket:
        sock = ca.wrap_socket(socket.create_connection(("127.0.0.1", free_port), 60), server_hostname="127.0.0.1")
        sock.sendall(text)
        return sock

    def answered() -> int:
        return sum(each.busy for each in served.service._server._connections())

    with contextlib.ExitStack() as clients:
        known = clients.enter_context(over_tls(half_checked + token + b"\r\n"))
        wait_until(lambda: answered() == 1)
        for _ in range(7):
            clients.enter_context(over_tls(HALF_SENT))
        wait_until(lambda: answered() == 8, "all places are taken, by requests that are under way")
        assert Client(served.path, 60).get("/v1/whoami")["right"] == "change"
        headers = {"authorization": "Bearer " + "read" * 8}
        with httpx.Client(base_url=f"https://127.0.0.1:{free_port}", headers=headers, verify=ca, timeout=60) as reader:
            assert reader.get("/v1/status").status_code == 200
        for _ in range(9):
            clients.enter_context(over_tls(HALF_SENT))
        known.sendall(b'{"changes":{}}')
        assert known.recv(100).startswith(b"HTTP/1.1 200"), "who has shown a token is not ended for strangers"


def test_half_made_connections_take_half_of_the_places_at_most(
    serve: Serve, tmp_path: Path, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient(monkeypatch, 60)
    monkeypatch.setattr("mom_plugins_http.server.server.MOST_CLIENTS", 8)
    served = serve(tcp=tcp_settings(tmp_path, free_port, read="read" * 8))
    with contextlib.ExitStack() as strangers:
        for _ in range(12):
            strangers.enter_context(socket.create_connection(("127.0.0.1", free_port), 60))
        wait_until(lambda: served.service._server._handshakes == 4)
        assert Client(served.path, 60).get("/v1/whoami")["right"] == "change"
        assert served.service._server._handshakes == 4


def test_bodies_of_those_who_may_only_read_take_no_places_from_changes(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mom_plugins_http.routes.api._MOST_BODIES", 2000)
    served, release = serve(), threading.Event()
    served.service._check_worker._callers.start(release.wait)
    body = b'{"changes":{"60_x":"(+ 1 2)"}}'.ljust(1300)
    with contextlib.ExitStack() as clients, monkeypatch.context() as patched:
        clients.callback(release.set)
        patched.setattr(LocalAccess, "peer", lambda self, found: Peer("user reader, process 1", Right.READ, local=True))
        request = CHECK + b"content-length: %d\r\n\r\n" % len(body) + body
        readers = [clients.enter_context(connect(served.path, request)) for _ in range(3)]
        wait_until(lambda: len(select.select(readers, [], [], 0)[0]) + 64 - served.service._check_worker.room.left == 3)
        patched.undo()
        assert served.put("60_mine", "(+ 1 2)".ljust(500)).status_code == 200
