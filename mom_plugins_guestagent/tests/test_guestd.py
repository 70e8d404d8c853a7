"""mom-guestd: its answers over TCP and a device, and hostile clients."""

import ast
import errno
import io
import ipaddress
import os
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from agent_servers import FILES
from hypothesis import given
from hypothesis import strategies as st

import mom_core
from mom_devkit import host_of
from mom_plugins_guestagent import guestd
from mom_plugins_guestagent.guestd import MOST_CLIENTS, MOST_LINE_BYTES, Clients, GuestFigures, converse

STATS = "mem_available:1000000\nmem_unused:300000\nswap_in:40\nswap_out:80\nmajor_fault:100\nminor_fault:4900\n"

Serve = Callable[..., tuple[str, int]]


@pytest.fixture
def guest(tmp_path: Path) -> GuestFigures:
    return GuestFigures(str(host_of(tmp_path, FILES)), 4)


@pytest.fixture
def serve(guest: GuestFigures) -> Iterator[Serve]:
    begun: list[tuple[Clients, threading.Thread]] = []

    def begin(allowed: Sequence[str] = ()) -> tuple[str, int]:
        networks = [ipaddress.ip_network(network) for network in allowed]
        server = Clients(guest, "127.0.0.1", 0, networks)
        begun.append((server, threading.Thread(target=server.serve_forever, args=(0.02,))))
        begun[-1][1].start()
        host, port = server.socket.getsockname()
        return host, port

    yield begin
    for server, thread in begun:
        server.shutdown()
        server.server_close()
        thread.join()


def client_of(address: tuple[str, int]) -> socket.socket:
    return socket.create_connection(address, timeout=60)


def answer(client: socket.socket, request: bytes, end: bytes) -> bytes:
    client.sendall(request)
    return received(client, end)


def received(client: socket.socket, end: bytes) -> bytes:
    got = b""
    while not got.endswith(end):
        data = client.recv(65536)
        if not data:
            break
        got += data
    return got


# --- answers --------------------------------------------------------------------------------------------------------------


def test_an_answer_to_a_token_says_all_and_where_it_begins_and_ends(guest: GuestFigures) -> None:
    lines = guest.answer("stats 1aB").splitlines()
    assert (lines[0], lines[-1]) == ("begin:1aB", "end:1aB")
    assert {"mem_usable:600000", "swap_usage:50000", "psi_memory_some_avg10:1.5", "load_1:0.5", "oom_kills:1"} <= set(lines)
    assert guest.answer("props x").startswith("begin:x\nguestd:")


@pytest.mark.parametrize("request_", ["stat", "stats!", "stats 1 2", "stats " + "1" * 33, "stats é", "STATS", "quit"])
def test_what_is_no_question_is_said_to_be_none(guest: GuestFigures, request_: str) -> None:
    assert guest.answer(request_) == "error:unknown request\n"
    assert guest.answer("  ") == ""


def test_a_guest_without_these_files_answers_nothing_wrong(tmp_path: Path) -> None:
    assert GuestFigures(str(tmp_path)).answer("stats") == ""
    assert GuestFigures(str(tmp_path)).answer("stats a") == "begin:a\nend:a\n"


# --- a conversation ----------------------------------------------------------------------------------------------------------------


def said_to(guest: GuestFigures, text: bytes) -> bytes:
    answers: list[bytes] = []
    converse(guest, io.BytesIO(text), answers.append)
    return b"".join(answers)


@given(st.binary(max_size=20_000))
def test_nothing_that_is_said_breaks_a_conversation(text: bytes) -> None:
    assert said_to(GuestFigures("/nowhere", 4), text + b"\nstats z\n").endswith(b"begin:z\nend:z\n")


def test_a_line_that_is_too_long_is_passed_over_to_its_end(guest: GuestFigures) -> None:
    answers = said_to(guest, b"x" * MOST_LINE_BYTES * 1000 + b"stats a\nstats b\n")
    assert answers.startswith(b"error:the line is too long\nbegin:b\n")


# --- TCP ---------------------------------------------------------------------------------------------------------------------------


def test_there_are_not_more_clients_than_there_may_be(serve: Serve) -> None:
    address = serve()
    clients = [client_of(address) for _ in range(MOST_CLIENTS)]
    for client in clients:
        answer(client, b"stats a\n", b"end:a\n")
    with client_of(address) as one_more, suppress(ConnectionError):
        assert one_more.recv(100) == b""
    clients.pop().close()
    for _ in range(200):
        with client_of(address) as next_one, suppress(ConnectionError):
            if answer(next_one, b"stats a\n", b"end:a\n"):
                break
    else:
        pytest.fail("the place of a client that left stays taken")
    for client in clients:
        client.close()


def test_only_those_are_answered_who_may_ask(serve: Serve) -> None:
    refusing = serve(allowed=["192.0.2.0/24"])
    with client_of(refusing) as client, suppress(ConnectionError):
        client.sendall(b"stats\n")
        assert client.recv(100) == b""
    answering = serve(allowed=["127.0.0.0/8", "::1/128"])
    with client_of(answering) as client:
        assert answer(client, b"stats\n", b"4900\n").decode() == STATS


def test_idle_and_stalled_clients_are_closed(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guestd, "IDLE_SECONDS", 0.1)
    monkeypatch.setattr(guestd, "STALL_SECONDS", 0.1)
    address = serve()
    with client_of(address) as client:
        assert client.recv(100) == b""
    with client_of(address) as client, suppress(ConnectionError):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        for _ in range(100_000):
            client.sendall(b"stats a\n" * 500)
        pytest.fail("a client that never reads is served for ever")


# --- the file ----------------------------------------------------------------------------------------------------------------------

FILE = Path(guestd.__file__)


def test_it_is_one_file_for_old_and_new_pythons() -> None:
    tree = ast.parse(FILE.read_text(), feature_version=(3, 7))
    plain = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported = plain | {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported - {"__future__"}} <= sys.stdlib_module_names
    assert mom_core.__version__ == guestd.VERSION


@pytest.mark.processes
def test_it_runs_by_itself_without_anything_installed(tmp_path: Path) -> None:
    copy = tmp_path / "mom-guestd"
    copy.write_text(FILE.read_text())
    command = [sys.executable, "-I", "-S", str(copy)]
    root = str(host_of(tmp_path / "root", FILES))
    done = subprocess.run([*command, "--root", root, "--once", "stats"], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == STATS
    for wrong in (["--listen", "localhost"], ["--allow", "10.0.0.1/8"]):
        assert subprocess.run([*command, *wrong], capture_output=True, check=False, timeout=60).returncode == 2


def below_those_for_clients() -> socket.socket:
    """Return a server on a port below the kernel's ports for clients."""
    while True:
        with suppress(OSError):
            return socket.create_server(("127.0.0.1", 10_000 + secrets.randbelow(20_000)))


@pytest.mark.processes
def test_it_says_when_its_port_is_taken_and_ends_when_it_is_told_to() -> None:
    with below_those_for_clients() as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-I", "-S", str(FILE), "--listen", "127.0.0.1", "--port", port]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 1
        assert os.strerror(errno.EADDRINUSE) in done.stderr
    daemon = subprocess.Popen(command)
    for _ in range(3000):
        with suppress(ConnectionError), socket.create_connection(("127.0.0.1", int(port)), 60) as client:
            assert received_all(client).startswith("mem_available:")
            break
        threading.Event().wait(0.02)
    daemon.terminate()
    assert daemon.wait(60) == 0


def received_all(client: socket.socket) -> str:
    client.sendall(b"stats\n")
    client.shutdown(socket.SHUT_WR)
    return received(client, b"never").decode()
