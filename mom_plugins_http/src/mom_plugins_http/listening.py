"""Where the API listens: on the path of a unix socket, or on a TCP port, taken only if nobody else serves there."""

from __future__ import annotations

import errno
import os
import re
import socket
from pathlib import Path
from typing import Final, NamedTuple

from mom_core import Listener, MomError, OccupiedByOurselvesError, free_socket_path

BACKLOG: Final = 1024
"""Connections that the kernel holds until they are accepted."""

LONGEST_PATH: Final = 107
"""Bytes of a unix socket's path: `sun_path` has 108 with the closing zero."""


class Permissions(NamedTuple):
    """Of a unix socket's file; connecting takes the permission to write. `group` is None where it stays as it is."""

    mode: int = 0o600
    group: int | None = None


class Address(NamedTuple):
    """A TCP host and port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """`host:port` or `[::1]:port`. Raises `ValueError`, which says what is wrong."""
        match = re.fullmatch(r"(?:\[([0-9a-fA-F:.%\w]+)\]|([\w.-]+)):([0-9]{1,5})", text)
        if match is None or not 1 <= int(match[3]) <= 65535:
            raise ValueError("write host:port, such as 192.0.2.7:8132 or [::]:8132")
        return cls(match[1] or match[2], int(match[3]))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def listen_on_path(path: Path, permissions: Permissions) -> Listener:
    """Listen on a unix socket.

    :raises MomError: somebody serves there, something else is in the way, the folder cannot be written, …
    :raises OccupiedByOurselvesError: wait until it does not any more
    """
    free_socket_path(path, _advice)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(str(path))
        # Nobody can connect before listen(), so there is no moment in which others may than these.
        path.chmod(0)
        if permissions.group is not None:
            os.chown(path, -1, permissions.group)
        path.chmod(permissions.mode)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        bound = sock.getsockname() == str(path)
        sock.close()
        if bound:
            path.unlink(missing_ok=True)
        raise MomError(f"cannot listen on {path}: {error.strerror}", hint=_advice(path, error)) from error
    return Listener(sock, path)


def _advice(path: Path, error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return f"make the folder {path.parent} first"
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return f"mom's user must be able to write to {path.parent}, and be in the group that the socket is for"
    if error.errno == errno.EADDRINUSE:
        return "somebody else has just begun to serve there"
    return ""


def listen_on_port(address: Address, *, ours: bool) -> Listener:
    """Listen on a TCP port.

    :param ours: whether this process may be the one that serves there already
    :raises MomError: somebody serves there, or this host has no such address
    :raises OccupiedByOurselvesError: wait until it does not any more
    """
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, where = found[0]
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
        if error.errno == errno.EADDRINUSE and ours:
            raise OccupiedByOurselvesError from None
        hint = "another program listens there" if error.errno == errno.EADDRINUSE else "write an address of this host"
        raise MomError(f"cannot listen on {address}: {error.strerror}", hint=hint) from error
    return Listener(sock)
