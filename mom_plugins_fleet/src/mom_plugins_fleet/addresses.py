"""Which servers mom talks to, checked by what talks to none: to import the client of NATS takes a tenth of each command's time."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from mom_core import printable

_LOCAL: Final = ("localhost", "127.0.0.1", "::1")


def a_server(text: str) -> str:
    """Return the address of a server. Raises `ValueError`."""
    why = not_safe(text)
    if why:
        raise ValueError(f"{why}; write tls://HOST:4222")
    return text


def not_safe(server: str) -> str:
    """Return why mom does not connect to that server; empty if it does. Unencrypted connections stay within this host."""
    try:
        parts = urlsplit(server)
        _ = parts.port
    except ValueError:
        return f"{printable(server)} is no address of a server"
    if parts.scheme not in ("nats", "tls") or not parts.hostname or not server.isprintable() or " " in server:
        return f"{printable(server)} is no address of a server"
    if parts.username or parts.password:
        return "an address of a server has no user and password in it: mom uses a key"
    if parts.scheme == "nats" and parts.hostname not in _LOCAL:
        return f"{printable(server)} would be spoken to in the clear"
    return ""
