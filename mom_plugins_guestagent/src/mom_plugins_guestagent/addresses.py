"""Addresses as operators write them. Names are not taken: looking one up may wait for a network that is away."""

from __future__ import annotations

from ipaddress import ip_address

from mom_plugins_guestagent.guestd import PORT


def parse_address(text: str) -> tuple[str, int]:
    """The address and port in `10.0.0.7`, `10.0.0.7:2187`, `fe80::7` or `[fe80::7]:2187`. Raises `ValueError`."""
    host, port = text, ""
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise ValueError(f"{text!r:.60} is no address; write it like [fe80::7]:2187")
        port = port[1:]
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    try:
        if "%" in host:
            raise ValueError("an interface's name would have to be looked up")
        address = str(ip_address(host))
    except ValueError:
        raise ValueError(f"{text!r:.60} is no numeric address; write it like 10.0.0.7 or 10.0.0.7:{PORT}") from None
    if not port:
        return address, PORT
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 1 << 16):
        raise ValueError(f"{port!r:.20} is no port")
    return address, int(port)
