"""vdsm's STOMP 1.2 (https://stomp.github.io/stomp-specification-1.2.html): encoder of frames, and parser of a stream into frames."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

LARGEST_HEAD = 16 << 10
"""Most bytes of command, headers and preceding line ends. vdsm sends about 200."""

MOST_HEADERS = 64
"""vdsm sends four headers."""

_SERVER_COMMANDS = frozenset({"CONNECTED", "MESSAGE", "RECEIPT", "ERROR"})

_END_OF_HEAD = re.compile(rb"\n\r?\n")
_ESCAPE = re.compile(r"\\(.?)", re.DOTALL)
_ESCAPED = {"\\": "\\\\", ":": "\\c", "\n": "\\n", "\r": "\\r"}
_UNESCAPED = {"\\": "\\", "c": ":", "n": "\n", "r": "\r"}
_TO_ESCAPE = re.compile(r"[\\:\n\r]")


class FrameError(ValueError):
    """Invalid frame. The connection is unusable, because the next frame's start is unknown."""


@dataclass(frozen=True, slots=True)
class StompFrame:
    """Frame. The first of repeated headers counts."""

    command: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def encode(self) -> bytes:
        """Return the frame's bytes."""
        lines = [self.command]
        lines += [f"{_escaped(name)}:{_escaped(value)}" for name, value in self.headers.items()]
        return "\n".join(lines).encode() + b"\n\n" + self.body + b"\0"


class FrameReader:
    """Parser that splits a stream into frames.

    :param largest_body: maximum size in bytes
    """

    def __init__(self, largest_body: int) -> None:
        self._largest_body = largest_body
        self._buffer = bytearray()
        self._head: StompFrame | None = None
        """Frame whose body is being read."""
        self._searched = 0
        self._line_ends = 0
        """Line ends since the last frame, which are signs of life."""

    def feed(self, piece: bytes) -> Iterator[StompFrame]:
        """Yield the frames that this piece completes. Raise `FrameError` after the last valid frame. The caller must read all frames."""
        self._buffer += piece
        while True:
            if self._head is None:
                self._head = self._next_head()
            body = None if self._head is None else self._next_body(self._head)
            if self._head is None or body is None:
                return
            frame, self._head = replace(self._head, body=body), None
            self._line_ends = 0
            yield frame

    def _next_head(self) -> StompFrame | None:
        buffer = self._buffer
        if not self._searched:
            line_ends = len(buffer) - len(buffer.lstrip(b"\r\n"))
            self._line_ends += line_ends
            del buffer[:line_ends]
        # The end may start in the searched bytes.
        end = _END_OF_HEAD.search(buffer, max(0, self._searched - 2))
        if self._line_ends + (end.start() if end else len(buffer)) > LARGEST_HEAD:
            raise FrameError(f"the headers of a frame are longer than {LARGEST_HEAD} bytes")
        if end is None:
            self._searched = len(buffer)
            return None
        return _parsed_head(self._cut(end.start(), end.end()), self._largest_body)

    def _next_body(self, head: StompFrame) -> bytes | None:
        buffer = self._buffer
        length = int(head.headers.get("content-length", -1))
        if length < 0:
            length = buffer.find(b"\0", self._searched)
            if length < 0:
                self._searched = len(buffer)
                if len(buffer) > self._largest_body:
                    raise FrameError(f"the body of a {head.command} frame is longer than {self._largest_body} bytes")
                return None
        if len(buffer) <= length:
            return None
        if buffer[length]:
            raise FrameError(f"the body of a {head.command} frame does not end where its content-length says")
        return self._cut(length, length + 1)

    def _cut(self, length: int, end: int) -> bytes:
        with memoryview(self._buffer) as view:
            first = bytes(view[:length])
        del self._buffer[:end]
        self._searched = 0
        return first


def _parsed_head(head: bytes, largest_body: int) -> StompFrame:
    try:
        lines = head.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise FrameError("the headers of a frame are not UTF-8") from error
    command, *header_lines = (line.removesuffix("\r") for line in lines)
    if command not in _SERVER_COMMANDS:
        raise FrameError(f"{command[:20]!r} is not a frame that a server sends")
    if len(header_lines) > MOST_HEADERS:
        raise FrameError(f"a {command} frame has more than {MOST_HEADERS} headers")
    headers: dict[str, str] = {}
    for line in header_lines:
        name, colon, value = line.partition(":")
        if not colon or ":" in value:
            raise FrameError(f"a {command} frame has the malformed header {line[:40]!r}")
        headers.setdefault(_unescaped(name), _unescaped(value))
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit() and len(length) < 16):
        raise FrameError(f"{length[:20]!r} is not a valid content-length")
    if int(length) > largest_body:
        raise FrameError(f"the body of a {command} frame would be {int(length)} bytes, but at most {largest_body} are allowed")
    return StompFrame(command, headers)


def _escaped(text: str) -> str:
    return _TO_ESCAPE.sub(lambda match: _ESCAPED[match[0]], text)


def _unescaped(text: str) -> str:
    if "\\" not in text:
        return text

    def plain(match: re.Match[str]) -> str:
        if match[1] not in _UNESCAPED:
            raise FrameError(f"a header has the unknown escape {match[0]!r}")
        return _UNESCAPED[match[1]]

    return _ESCAPE.sub(plain, text)
