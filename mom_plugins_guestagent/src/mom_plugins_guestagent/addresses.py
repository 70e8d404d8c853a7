"""Numeric addresses. Host names are refused: a lookup may wait for an absent network."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Final

from mom_plugins_guestagent.guestd import PORT

_WITH_PORT: Final = re.compile(r"(?:\[([^\[\]]+)\]|([^:]+))(?::([0-9]{0,5}))?")


def parse_address(text: str) -> tuple[str, int]:
    """Return address and port of `10.0.0.7`, `10.0.0.7:2187`, `fe80::7` or `[fe80::7]:2187`. Raise `ValueError` if invalid."""
    match = _WITH_PORT.fullmatch(text)
    host, port = (match[1] or match[2], int(match[3] or PORT)) if match else (text, PORT)
    try:
        if "%" in host:
            raise ValueError("an interface's name would have to be looked up")
        address = str(ip_address(host))
    except ValueError:
        raise ValueError(f"{text!r:.60} is not a numeric address; write it like 10.0.0.7, 10.0.0.7:{PORT} or [fd00::7]:{PORT}") from None
    if not 0 < port < 1 << 16:
        raise ValueError(f"{port} is not a valid port")
    return address, port
