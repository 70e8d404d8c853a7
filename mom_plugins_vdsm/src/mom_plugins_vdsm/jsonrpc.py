"""vdsm's JSON-RPC 2.0 in STOMP 1.2 frames (https://stomp.github.io/stomp-specification-1.2.html).

Every request needs an ID: a request without one ends the thread that serves vdsm's clients.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from mom_core import GuestBusy, GuestGone, HypervisorError, NotSupported, printable

LONGEST_LINE = 16 << 10
"""Maximum bytes of a line. vdsm's lines have less than 100."""

MOST_HEADERS = 64
"""Maximum number of headers of a frame. vdsm sends four."""

_HEADER = re.compile("([^:\ufffd]*):([^:\ufffd]*)", re.DOTALL)
_LENGTH = re.compile("[0-9]{1,15}")

_SERVER_COMMANDS = frozenset({"CONNECTED", "MESSAGE", "RECEIPT", "ERROR"})


class MessageError(ValueError):
    """Invalid frame, or message that is not valid JSON-RPC. The connection is then unusable."""


@dataclass(frozen=True, slots=True)
class StompFrame:
    """STOMP frame. If a header is repeated, `headers` contains the first. mom and vdsm use no headers that need escapes."""

    command: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def encode(self) -> bytes:
        """Return the frame's bytes."""
        lines = [self.command]
        lines += [f"{name}:{value}" for name, value in self.headers.items()]
        return "\n".join(lines).encode() + b"\n\n" + self.body + b"\0"


async def read_frame(reader: asyncio.StreamReader, largest_body: int, silence: float | None) -> StompFrame:
    """Return the next frame.

    :param reader: stream with the limit `LONGEST_LINE` for lines, and for bodies without a length
    :param largest_body: maximum size of a body in bytes
    :param silence: timeout in seconds of each line and body; None for no timeout
    :raises MessageError: the frame is invalid
    :raises EOFError: the stream has ended
    """

    async def until(end: bytes) -> bytes:
        async with asyncio.timeout(silence):
            return (await reader.readuntil(end)).removesuffix(end)

    try:
        command = b""
        while not command:  # vdsm sends line ends as heart-beats
            command = (await until(b"\n")).removesuffix(b"\r")
        lines: list[bytes] = []
        while line := (await until(b"\n")).removesuffix(b"\r"):
            lines.append(line)
            if len(lines) > MOST_HEADERS:
                raise MessageError(f"a frame has more than {MOST_HEADERS} headers")
        head = _parsed_head(command, lines, largest_body)
        if "content-length" not in head.headers:
            return replace(head, body=await until(b"\0"))
        async with asyncio.timeout(silence):
            body = await reader.readexactly(int(head.headers["content-length"]) + 1)
    except asyncio.LimitOverrunError as error:
        raise MessageError(f"a line is longer than {LONGEST_LINE} bytes") from error
    if body[-1]:
        raise MessageError(f"the body of a {head.command} frame does not end where its content-length says")
    return replace(head, body=body[:-1])


def _parsed_head(first: bytes, rest: Sequence[bytes], largest_body: int) -> StompFrame:
    command = first.decode(errors="replace")
    if command not in _SERVER_COMMANDS:
        raise MessageError(f"{command[:20]!r} is not a frame that a server sends")
    headers: dict[str, str] = {}
    for line in rest:
        header = _HEADER.fullmatch(line.decode(errors="replace"))
        if header is None:
            raise MessageError(f"a {command} frame has the malformed header {line[:40]!r}")
        headers.setdefault(header[1], header[2])
    length = headers.get("content-length", "0")
    if not _LENGTH.fullmatch(length) or int(length) > largest_body:
        raise MessageError(f"the content-length {length[:20]!r} is invalid or above {largest_body}")
    return StompFrame(command, headers)


# vdsm's error codes.
_NO_SUCH_VERB = -32601
_NO_SUCH_VM = 1
_MIGRATING = 51
RECOVERING = 99
_QUEUE_FULL = 1100

_KINDS: dict[int, type[HypervisorError]] = {
    _NO_SUCH_VERB: NotSupported,
    _NO_SUCH_VM: GuestGone,
    _MIGRATING: GuestBusy,
    _QUEUE_FULL: GuestBusy,
}

_RECOVERING_HINT = "wait: vdsm has just started and is looking for its guests"


class JsonRpcAnswer(NamedTuple):
    """ID of a request, and its result. The result is a `HypervisorError` if vdsm refused the request."""

    id: str
    result: object


class Event(NamedTuple):
    """Event that vdsm sends to all clients. The method is, for example, `|virt|VM_status|ID`."""

    method: str
    params: Mapping[str, object]


def request(identity: str, method: str, params: Mapping[str, object]) -> bytes:
    """Return a request, which must be sent in its own frame. If a frame contains several requests, vdsm answers none."""
    message: dict[str, object] = {"jsonrpc": "2.0", "method": method, "id": identity}
    if params:
        message["params"] = params
    return json.dumps(message).encode()


def parsed(body: bytes) -> JsonRpcAnswer | Event:
    """Return the answer or event in a message. Raise `MessageError` for an invalid message."""
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:  # ValueError: also bad UTF-8 and too long integers
        raise MessageError(f"vdsm sent invalid JSON: {printable(str(error))}") from error
    if not isinstance(message, dict):
        raise MessageError(f"vdsm sent a {type(message).__name__} instead of an answer")
    method, params, identity = message.get("method"), message.get("params"), message.get("id")
    if isinstance(method, str):
        return Event(method, params if isinstance(params, dict) else {})
    if not isinstance(identity, str):
        identity = ""  # not mom's request
    if "error" in message and message["error"] is not None:
        return JsonRpcAnswer(identity, _refused(message["error"]))
    if "result" not in message:
        return JsonRpcAnswer(identity, HypervisorError("the answer has neither a result nor an error"))
    return JsonRpcAnswer(identity, message["result"])


def _refused(error: object) -> HypervisorError:
    code, message = (error.get("code"), error.get("message")) if isinstance(error, dict) else (0, error)
    code = code if isinstance(code, int) else 0
    text = message if isinstance(message, str) else f"{message!r:.100}"
    hint = _RECOVERING_HINT if code == RECOVERING else ""
    return _KINDS.get(code, HypervisorError)(f"{printable(text, 300)} (vdsm's code {code})", hint=hint)
