"""Where the server listens: a unix socket's path or a TCP address, taken only if nobody else serves there."""

from __future__ import annotations

import errno
import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mom_core import Listener, MomError, free_socket_path, peer_credentials

BACKLOG: Final = 128
"""Connections that the kernel holds until they are accepted; vdsm opens one for each call."""

LONGEST_PATH: Final = 107
"""Bytes of a unix socket's path: `sun_path` has 108 with the closing zero."""


@dataclass(frozen=True, slots=True)
class Address:
    """A unix socket's path, or a TCP host and port."""

    path: str = ""
    host: str = ""
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> Address:
        """`/a/path`, `8080` (on the loopback), `host:8080` or `[::1]:8080`. Raises `ValueError`, which says what is wrong."""
        if text.startswith("/"):
            if "\0" in text:
                raise ValueError("a path has no zero bytes")
            if len(os.fsencode(text)) > LONGEST_PATH:
                raise ValueError(f"the path of a socket has at most {LONGEST_PATH} bytes, and this has {len(os.fsencode(text))}")
            return cls(path=text)
        match = re.fullmatch(r"(?:(?:\[([0-9a-fA-F:.%\w]+)\]|([\w.-]+)):)?([0-9]{1,5})", text)
        if match is None:
            raise ValueError("write a path that begins with /, a port, or host:port")
        port = int(match[3])
        if not 1 <= port <= 65535:
            raise ValueError("a port is a number from 1 to 65535")
        return cls(host=match[1] or match[2] or "127.0.0.1", port=port)

    @property
    def is_local(self) -> bool:
        """Whether only programs on this host can connect."""
        return bool(self.path) or self.host in {"localhost", "::1"} or self.host.startswith("127.")

    def __str__(self) -> str:
        if self.path:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def listen(address: Address, mode: int) -> Listener:
    """Listen there.

    :param mode: permissions of a unix socket; connecting takes the permission to write
    :raises MomError: somebody serves there, something else is in the way, the folder is missing, …
    :raises OccupiedByOurselvesError: wait until it does not any more
    """
    return _listen_on_path(address, mode) if address.path else _listen_on_port(address)


def _listen_on_path(address: Address, mode: int) -> Listener:
    path = Path(address.path)
    free_socket_path(path, _advice)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(address.path)
        # Nobody can connect before listen(): there is no moment in which the socket has other permissions than these.
        path.chmod(mode)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise MomError(f"cannot listen on {path}: {error.strerror}", hint=_advice(path, error)) from error
    return Listener(sock, path)


def _advice(path: Path, error: OSError) -> str:
    folder = path.parent
    if error.errno == errno.ENOENT:
        return f"make the folder {folder} first: packaging/ has a file for systemd-tmpfiles that does"
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return f"mom's user must be able to write to {folder}"
    if error.errno == errno.EADDRINUSE:
        return "somebody else has just begun to serve there"
    return ""


def _listen_on_port(address: Address) -> Listener:
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
            0
        ]
        sock = socket.socket(family, kind, protocol)
    except OSError as error:
        raise MomError(f"cannot listen on {address}: {error.strerror or error}", hint="write an address of this host") from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(where)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        hint = "another program listens there, or this mom until it is restarted" if error.errno == errno.EADDRINUSE else ""
        raise MomError(f"cannot listen on {address}: {error.strerror}", hint=hint) from error
    return Listener(sock)


def peer_of(sock: socket.socket) -> tuple[int, int]:
    """Process and user at the other end of a unix socket, as the kernel knows them; (0, -1) for TCP."""
    if sock.family != socket.AF_UNIX:
        return 0, -1
    return peer_credentials(sock)[:2]
