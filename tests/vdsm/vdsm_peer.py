"""Peer for tests that behaves like vdsm: JSON-RPC over STOMP over TCP or TLS, with vdsm's known peculiarities.

Tests can order faults.
"""

from __future__ import annotations

import json
import re
import select
import socket
import ssl
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vdsm_host import Disk, Machine, VdsmHost, VerbError
from vdsm_manager import Manager

REQUESTS, EVENTS = "jms.topic.vdsm_requests", "jms.queue.events"
UNESCAPED = {"\\\\": "\\", "\\c": ":", "\\n": "\n", "\\r": "\r"}
HANDSHAKE_SECONDS = 10.0


class Drop(Exception):
    """Reason why vdsm drops the connection."""


@dataclass
class Received:
    """A frame from a client."""

    command: str
    headers: dict[str, str]
    body: bytes


class Parser:
    """vdsm's parser, as strict as the reference describes."""

    def __init__(self) -> None:
        self._buffer = b""
        self._first = True

    def feed(self, piece: bytes) -> list[Received]:
        self._buffer += piece
        if self._first and not self._buffer[:1].isalpha():
            raise Drop("unknown protocol")
        found: list[Received] = []
        while True:
            if not self._first:
                self._buffer = self._buffer.lstrip(b"\r\n")
            match = re.search(rb"\r?\n\r?\n", self._buffer)
            if match is None:
                return found
            command, *lines = self._buffer[: match.start()].decode().replace("\r\n", "\n").split("\n")
            headers: dict[str, str] = {}
            for line in lines:
                name, colon, value = line.partition(":")
                if not colon or ":" in value:
                    raise Drop(f"header {line!r}")
                headers.setdefault(_unescape(name), _unescape(value))
            rest = self._buffer[match.end() :]
            if "content-length" in headers:
                length = int(headers["content-length"])
                if len(rest) <= length:
                    return found
                if rest[length]:
                    raise Drop("content-length")
            else:
                length = rest.find(b"\0")
                if length < 0:
                    return found
            found.append(Received(command, headers, rest[:length]))
            self._buffer = rest[length + 1 :]
            self._first = False


def _unescape(text: str) -> str:
    def plain(match: re.Match[str]) -> str:
        if match[0] not in UNESCAPED:
            raise Drop(f"escape {match[0]!r}")
        return UNESCAPED[match[0]]

    return re.sub(r"\\.?", plain, text)


def frame(command: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
    lines = [command]
    for name, value in headers.items():
        lines.append(f"{name}:{value.replace(chr(92), chr(92) * 2).replace(':', chr(92) + 'c')}")
    return "\n".join(lines).encode() + b"\n\n" + body + b"\0"


class Client:
    """Connection. Its thread reads and sends heart-beats; any thread writes."""

    def __init__(self, vdsm: Vdsm, sock: socket.socket) -> None:
        self.vdsm = vdsm
        self.subscriptions: dict[str, str] = {}
        self._sock = sock
        self._tls = threading.Lock()
        """Lock for OpenSSL: one thread at a time reads or writes."""
        self._beats, self._sent = 0.0, time.monotonic()

    def serve(self) -> None:
        parser = Parser()
        try:
            while piece := self._read():
                for received in parser.feed(piece):
                    self.vdsm.frames.append(received.command)
                    self._take(received)
        except ConnectionError:
            pass
        except (Drop, ValueError) as error:
            self.vdsm.drops.append(str(error) or type(error).__name__)

    def _read(self) -> bytes:
        while True:
            with self._tls, suppress(BlockingIOError, ssl.SSLWantReadError):
                return self._sock.recv(65536)
            if self._beats and time.monotonic() - self._sent >= self._beats:
                self.write(b"\n")
            select.select([self._sock], [], [], 0.1)

    def write(self, data: bytes) -> None:
        """Send all bytes in pieces of the configured size, unless the client has gone."""
        self._sent = time.monotonic()
        size = self.vdsm.piece or len(data)
        with self._tls, suppress(OSError):
            for start in range(0, len(data), size):
                piece = data[start : start + size]
                while piece:
                    try:
                        piece = piece[self._sock.send(piece) :]
                    except (BlockingIOError, ssl.SSLWantWriteError):
                        select.select([], [self._sock], [], HANDSHAKE_SECONDS)

    def drop(self) -> None:
        with suppress(OSError):  # the client has gone
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)  # of the connection, not of TLS

    def error(self, text: str) -> None:
        self.write(frame("ERROR", {"content-length": str(len(text))}, text.encode()))

    def _take(self, received: Received) -> None:
        headers = received.headers
        match received.command:
            case "CONNECT":
                if headers.get("accept-version") != "1.2":
                    self.error("Version unsupported")
                    return
                self._agree(headers.get("heart-beat", ""))
            case "SUBSCRIBE":
                identity, destination = headers.get("id"), headers.get("destination")
                if not identity or not destination or identity in self.subscriptions:
                    self.error("Missing destination or subscription id header" if not (identity and destination) else "Duplicate id")
                    return
                self.subscriptions[identity] = destination
            case "SEND":
                if headers.get("destination") != REQUESTS:
                    raise Drop(f"SEND to {headers.get('destination')}")
                self.vdsm.requested(received.body, headers.get("reply-to"))
            case _:
                raise Drop(f"command {received.command}")

    def _agree(self, asked: str) -> None:
        try:
            mine, yours = (int(number) for number in asked.split(","))
        except ValueError:
            mine = yours = 0
        mine, yours = (number and max(number, 1000) for number in (mine, yours))
        self.write(frame("CONNECTED", {"version": "1.2", "heart-beat": f"{yours},{mine}"}))
        self._beats = yours / 1000 if self.vdsm.heart_beats else 0.0


class Vdsm:
    """Listening peer with its threads, clients, and shared table of requests.

    :param ksm: substitute of /sys/kernel/mm/ksm
    :param pki: folder with keys and certificates; None for no TLS
    :param tls12: whether TLS 1.2 is the newest version
    :param mom: mom's socket, for vdsm's calls
    :param sample_every: seconds between two samples of the guests
    """

    def __init__(
        self, ksm: Path | None = None, pki: Path | None = None, *, tls12: bool = False, mom: Path | None = None, sample_every: float = 15.0
    ) -> None:
        self._host = VdsmHost(ksm, Manager(str(mom)) if mom else None, sample_every)
        self._context = None if pki is None else _context(pki, tls12=tls12)
        self.answers: dict[str, list[dict[str, Any]]] = defaultdict(list)
        """Faults of the next answers, keyed by method."""
        self.piece = 0
        """Size of pieces in bytes."""
        self.heart_beats = True
        self.frames: list[str] = []
        self.drops: list[str] = []
        self._released = threading.Event()
        self._reply_to: dict[object, str | None] = {}
        self._clients: set[Client] = set()
        self._threads: list[threading.Thread] = []
        self._connections = 0
        self._dead = False
        """Whether a notification has ended the request thread."""
        # Reserves the port while the peer does not listen.
        self._place = socket.socket()
        self._place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._place.bind(("127.0.0.1", 0))
        self.port: int = self._place.getsockname()[1]
        self._listening: socket.socket | None = None
        self.start()

    # --- connections -------------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._dead = False
        self._listening = socket.create_server(("127.0.0.1", self.port))
        self._work(self._accept, self._listening)

    def stop(self) -> None:
        if self._listening is not None:
            self._listening.shutdown(socket.SHUT_RDWR)  # which ends its thread
            self._listening = None
        self.drop()

    def end(self) -> None:
        self.stop()
        self._released.set()
        for thread in self._threads:
            thread.join(60)
        self._place.close()

    def drop(self) -> None:
        for client in list(self._clients):
            client.drop()

    def _work(self, work: Any, *arguments: object) -> None:
        self._threads.append(threading.Thread(target=work, args=arguments, daemon=True))
        self._threads[-1].start()

    def _accept(self, listening: socket.socket) -> None:
        with listening, suppress(OSError):  # it is stopped
            while True:
                sock, _ = listening.accept()
                self._connections += 1
                self._work(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        sock.settimeout(HANDSHAKE_SECONDS)
        if self._context is not None:
            sock = self._context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        client = Client(self, sock)
        with sock:
            try:
                if isinstance(sock, ssl.SSLSocket):
                    self._shake_hands(sock)
                sock.setblocking(False)
                self._clients.add(client)
                client.serve()
            except OSError as error:  # also of TLS
                self.drops.append(str(error) or type(error).__name__)
            finally:
                self._clients.discard(client)

    def _shake_hands(self, sock: ssl.SSLSocket) -> None:
        """Raise `ssl.SSLError` after the client has read the reason. Closing earlier, with unread bytes, would discard it."""
        try:
            sock.do_handshake()
        except OSError:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(65536):
                    pass
            raise

    def _publish(self, destination: str | None, body: bytes) -> int:
        """Send a message to all subscribers. Return their number."""
        to = [(client, one) for client in list(self._clients) for one, name in list(client.subscriptions.items()) if name == destination]
        for client, identity in to:
            headers = {"destination": str(destination), "content-type": "application/json", "subscription": identity}
            client.write(frame("MESSAGE", headers | {"content-length": str(len(body))}, body))
        return len(to)

    # --- JSON-RPC ----------------------------------------------------------------------------------------------------------------

    def requested(self, body: bytes, reply_to: str | None) -> None:
        if self._dead:
            return
        message = json.loads(body)
        if not isinstance(message, dict) or message.get("jsonrpc") != "2.0" or not isinstance(message.get("params", {}), dict):
            raise Drop("no request")
        if message.get("id") is None:
            self._dead = True
            return
        self._reply_to[message["id"]] = reply_to
        waiting = self.answers.get(str(message.get("method")))
        fault = waiting.pop(0) if waiting else {}
        if "held" in fault or message.get("method") in self._host.slow:  # calls to mom may take seconds
            self._work(self._execute, message, fault)
        else:
            self._execute(message, fault)

    def _execute(self, message: Mapping[str, Any], fault: Mapping[str, Any]) -> None:
        if "held" in fault:
            self._released.wait()
        try:
            answer: dict[str, object] = {"result": self._host.call(message.get("method"), message.get("params", {}))}
        except VerbError as error:
            answer = {"error": {"code": error.code, "message": error.message}}
        self._answer_with(message["id"], answer, fault)

    def _answer_with(self, identity: object, answer: dict[str, object], fault: Mapping[str, Any]) -> None:
        match fault.get("how"):
            case "never":
                return
            case "twice":
                destination = self._reply_to.get(identity)
                self._answer(identity, answer)
                self._reply_to[identity] = destination
            case "unknown id":
                self._reply_to["nobody's"] = self._reply_to.get(identity)
                self._answer("nobody's", answer)
            case "error":
                answer = {"error": {"code": fault["code"], "message": fault.get("message", "an error that was asked for")}}
            case "result":
                answer = {"result": fault["result"]}
            case "wire":
                self.send(fault["bytes"])
                return
            case "partial":
                whole = frame("MESSAGE", {"destination": "x", "subscription": "answers"}, json.dumps(answer).encode())
                self.send(whole[: len(whole) // 2].decode())
                self.drop()
                return
            case "drop":
                self.drop()
                return
        self._answer(identity, answer)

    def _answer(self, identity: object, answer: Mapping[str, object]) -> None:
        self._publish(self._reply_to.pop(identity, None), json.dumps({"jsonrpc": "2.0", "id": identity, **answer}).encode())

    # --- guests ------------------------------------------------------------------------------------------------------------------

    def add(self, *machines: Mapping[str, Any]) -> None:
        """Start guests: fields of `vdsm_host.Machine`."""
        for told in machines:
            disks = [Disk(**disk) for disk in told.get("disks", [])]
            self._host.machines[told["id"]] = Machine(**{**told, "disks": disks})

    def change(self, identity: str, **values: object) -> None:
        for name, value in values.items():
            setattr(self._host.machines[identity], name, value)

    def remove(self, identity: str) -> None:
        del self._host.machines[identity]

    def sample(self) -> None:
        for machine in self._host.machines.values():
            machine.sample()

    def machines(self) -> dict[str, dict[str, Any]]:
        return {
            m.id: {"target": m.target, "actual": m.actual, "seen": m.seen, "quota": m.quota, "period": m.period}
            | {"disks": {disk.name: dict(disk.current) for disk in m.disks}}
            for m in list(self._host.machines.values())
        }

    def call(self, method: str, **params: object) -> Any:
        """Call a verb as the engine does."""
        return self._host.call(method, params)

    def calls(self, *methods: str) -> list[tuple[str, Any]]:
        """Return the calls of these methods since the last time."""
        calls, self._host.calls = self._host.calls, []
        return [(method, params) for method, params in calls if not methods or method in methods]

    def event(self, identity: str, status: str) -> int:
        params = {identity: {"status": status}, "notify_time": 4711}
        return self._publish(EVENTS, json.dumps({"jsonrpc": "2.0", "method": f"|virt|VM_status|{identity}", "params": params}).encode())

    def recovering(self, value: bool) -> None:
        self._host.recovering = value

    # --- faults ------------------------------------------------------------------------------------------------------------------

    def fault(self, method: str, times: int = 1, **fault: object) -> None:
        """Set faults for the next answers to this verb."""
        self.answers[method].extend([fault] * times)

    def release(self) -> None:
        """Send the answers that a fault with `held` delays."""
        self._released.set()

    def send(self, text: str) -> None:
        for client in list(self._clients):
            client.write(text.encode("latin-1"))

    def wire(self) -> dict[str, Any]:
        """Return the connections, frames, and reasons for dropped connections."""
        return {
            "connections": self._connections,
            "clients": len(self._clients),
            "drops": list(self.drops),
            "frames": list(self.frames),
            "dead": self._dead,
            "subscriptions": [sorted(client.subscriptions.values()) for client in list(self._clients)],
        }


def _context(pki: Path, *, tls12: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki / "certs/vdsmcert.pem", pki / "keys/vdsmkey.pem")
    context.load_verify_locations(pki / "certs/cacert.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    if tls12:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context
