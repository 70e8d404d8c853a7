"""vdsm's side of the wire in the test peer: STOMP over TCP or TLS with vdsm's own peculiarities, and JSON-RPC on top of it."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections import defaultdict
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field

from vdsm_host import VdsmHost, VerbError
from vdsm_stream import Stream

REQUESTS = "jms.topic.vdsm_requests"
_UNESCAPED = {"\\\\": "\\", "\\c": ":", "\\n": "\n", "\\r": "\r"}


class Drop(Exception):
    """vdsm drops the connection."""


@dataclass
class Received:
    """A frame from a client."""

    command: str
    headers: dict[str, str]
    body: bytes


class Parser:
    """vdsm's parser: strict where the reference says that vdsm is."""

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
        if match[0] not in _UNESCAPED:
            raise Drop(f"escape {match[0]!r}")
        return _UNESCAPED[match[0]]

    return re.sub(r"\\.?", plain, text)


def frame(command: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
    lines = [command]
    for name, value in headers.items():
        lines.append(f"{name}:{value.replace(chr(92), chr(92) * 2).replace(':', chr(92) + 'c')}")
    return "\n".join(lines).encode() + b"\n\n" + body + b"\0"


@dataclass
class Faults:
    """What the peer does wrong on purpose. By method: what happens to the next answers; and on the wire."""

    answers: dict[str, list[dict[str, object]]] = field(default_factory=lambda: defaultdict(list))
    piece: int = 0
    """Send everything in pieces of so many bytes."""
    heart_beats: bool = True
    released: asyncio.Event = field(default_factory=asyncio.Event)
    """Set: answers that are `held` go."""

    def next(self, method: object) -> dict[str, object] | None:
        waiting = self.answers.get(str(method))
        return waiting.pop(0) if waiting else None


class Client:
    """One connection."""

    def __init__(self, vdsm: VdsmServer, stream: Stream) -> None:
        self.vdsm = vdsm
        self.stream = stream
        self.parser = Parser()
        self.subscriptions: dict[str, str] = {}
        self.outgoing = 0.0
        self.sent_at = asyncio.get_running_loop().time()

    async def serve(self) -> None:
        try:
            while piece := await self.stream.read():
                for received in self.parser.feed(piece):
                    self.vdsm.frames.append(received.command)
                    self.take(received)
                await self.stream.drain()
        except (Drop, ValueError) as error:
            self.vdsm.drops.append(str(error) or type(error).__name__)
        except ConnectionError:
            pass

    def take(self, received: Received) -> None:
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
            case "DISCONNECT":
                if "receipt" not in headers:
                    raise Drop("DISCONNECT without receipt")
                self.write(frame("RECEIPT", {"receipt-id": headers["receipt"]}))
            case _:
                raise Drop(f"command {received.command}")

    def _agree(self, asked: str) -> None:
        try:
            mine, yours = (int(number) for number in asked.split(","))
        except ValueError:
            mine = yours = 0
        mine, yours = (number and max(number, 1000) for number in (mine, yours))
        self.outgoing = yours / 1000 if self.vdsm.faults.heart_beats else 0.0
        self.write(frame("CONNECTED", {"version": "1.2", "heart-beat": f"{yours},{mine}"}))
        if self.outgoing:
            self.vdsm.keep(self._beat())

    async def _beat(self) -> None:
        while not self.stream.is_closing():
            wait = self.sent_at + self.outgoing - asyncio.get_running_loop().time()
            if wait <= 0:
                self.write(b"\n")
            else:
                await asyncio.sleep(wait)

    def error(self, text: str) -> None:
        self.write(frame("ERROR", {"content-length": str(len(text))}, text.encode()))

    def write(self, data: bytes) -> None:
        self.sent_at = asyncio.get_running_loop().time()
        if self.stream.is_closing():
            return
        piece = self.vdsm.faults.piece
        if not piece:
            self.stream.write(data)
            return
        self.vdsm.keep(self._trickle(data, piece))

    async def _trickle(self, data: bytes, piece: int) -> None:
        async with self.vdsm.trickling:
            for start in range(0, len(data), piece):
                if self.stream.is_closing():
                    return
                self.stream.write(data[start : start + piece])
                await asyncio.sleep(0)


class VdsmServer:
    """The server: its clients, the table of requests that they share, the workers."""

    def __init__(self, host: VdsmHost, context: ssl.SSLContext | None) -> None:
        self.host = host
        self.context = context
        self.faults = Faults()
        self.clients: set[Client] = set()
        self.frames: list[str] = []
        self.drops: list[str] = []
        self.connections = 0
        self.dead = False
        """A notification has ended the request thread."""
        self.trickling = asyncio.Lock()
        self._reply_to: dict[object, str | None] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def keep(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        stream = Stream(reader, writer)
        client = Client(self, stream)
        try:
            if self.context is not None:
                await stream.start_tls(self.context)
            self.clients.add(client)
            await client.serve()
        except (OSError, TimeoutError) as error:  # also of TLS
            self.drops.append(str(error) or type(error).__name__)
        finally:
            self.clients.discard(client)
            stream.close()

    def drop_all(self) -> None:
        for client in list(self.clients):
            client.stream.abort()

    def publish(self, destination: str, body: bytes) -> int:
        """Send a message to everybody who is subscribed; how many that are."""
        count = 0
        for client in list(self.clients):
            for identity, subscribed in client.subscriptions.items():
                if subscribed == destination:
                    headers = {"destination": destination, "content-type": "application/json", "subscription": identity}
                    client.write(frame("MESSAGE", headers | {"content-length": str(len(body))}, body))
                    count += 1
        return count

    # --- JSON-RPC ----------------------------------------------------------------------------------------------------------------

    def requested(self, body: bytes, reply_to: str | None) -> None:
        if self.dead:
            return
        message = json.loads(body)
        if not isinstance(message, dict) or message.get("jsonrpc") != "2.0" or not isinstance(message.get("params", {}), dict):
            raise Drop("no request")
        if message.get("id") is None:
            self.dead = True
            return
        self._reply_to[message["id"]] = reply_to
        self.keep(self._execute(message, message["id"]))

    async def _execute(self, message: Mapping[str, object], identity: object) -> None:
        fault = self.faults.next(message.get("method"))
        if fault is not None and "seconds" in fault:
            await asyncio.sleep(float(str(fault["seconds"])))
        if fault is not None and "held" in fault:
            await self.faults.released.wait()
        try:
            answer: dict[str, object] = {"result": await self.called(message.get("method"), message.get("params", {}))}
        except VerbError as error:
            answer = {"error": {"code": error.code, "message": error.message}}
        await self._wrongly(identity, answer, fault or {})

    async def called(self, method: object, params: object) -> object:
        # What asks mom may take seconds, and must hold up one worker only.
        return await asyncio.to_thread(self.host.call, method, params) if method in self.host.slow else self.host.call(method, params)

    async def _wrongly(self, identity: object, answer: dict[str, object], fault: Mapping[str, object]) -> None:
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
            case "body":
                self._publish_to(self._reply_to.pop(identity, None), str(fault["body"]).replace("ID", str(identity)).encode())
                return
            case "wire":
                for client in list(self.clients):
                    client.write(str(fault["bytes"]).encode("latin-1"))
                return
            case "partial":
                body = json.dumps({"jsonrpc": "2.0", "id": identity, **answer}).encode()
                for client in list(self.clients):
                    whole = frame("MESSAGE", {"destination": "x", "subscription": "answers", "content-length": str(len(body))}, body)
                    client.write(whole[: len(whole) // 2])
                    await client.stream.drain()
                await asyncio.sleep(0.05)
                self.drop_all()
                return
            case "drop":
                self.drop_all()
                return
            case _:
                pass
        self._answer(identity, answer)

    def _answer(self, identity: object, answer: Mapping[str, object]) -> None:
        body = json.dumps({"jsonrpc": "2.0", "id": identity, **answer}).encode()
        self._publish_to(self._reply_to.pop(identity, None), body)

    def _publish_to(self, destination: str | None, body: bytes) -> None:
        if destination is not None:
            self.publish(destination, body)
