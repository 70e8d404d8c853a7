"""Defence against other sites' pages in a browser, using headers that no page can forge.

mom refuses every form of these headers that this module does not list.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Collection, Mapping
from typing import Any, Final

from mom_kvm import Address

LOCAL_NAMES: Final = ("localhost", "127.0.0.1", "::1")
"""Host names for the unix socket behind `ssh -L`. DNS cannot map them to another site."""

TOOL_NAME: Final = "mom"
"""Host name for `curl --unix-socket … http://mom/`. mom refuses `mom:PORT`: a browser may mean another machine of this name."""

_HOST: Final = re.compile(r"(?:\[([0-9a-f:.]{2,45})\]|([a-z0-9](?:[a-z0-9.-]{0,252}[a-z0-9])?))(?::([1-9][0-9]{0,4}))?", re.ASCII)
_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)


def _parse_host(text: str) -> str | None:
    # Forms that parsers read differently are malformed: blanks, a user, an empty port, a zone, text after the bracket, a final dot.
    match = _HOST.fullmatch(text.lower()) if text.isascii() else None
    if match is None or int(match[3] or 0) > 65535:
        return None
    return _name(match[2]) if match[1] is None else _address(match[1])


def name_of(text: str) -> str | None:
    """Return a canonical name or address, IPv6 without brackets; None if malformed."""
    text = text.lower()
    return _address(text) if ":" in text else _name(text)


def _address(text: str) -> str | None:
    try:
        return ipaddress.IPv6Address(text).compressed
    except ValueError:
        return None


def _name(text: str) -> str | None:
    labels = text.split(".")
    if len(text) > 253 or not all(map(_LABEL.fullmatch, labels)):
        return None
    if labels[-1].isdigit() or labels[-1].startswith("0x"):  # browsers treat these as IPv4 addresses
        try:
            return str(ipaddress.IPv4Address(text))
        except ValueError:
            return None
    return text


def same_site(host: str, origin: str | None, names: Collection[str]) -> bool:
    """Return True if a TCP request addresses this server, and cannot come from another site's page.

    :param origin: header `Origin`, if any
    """
    return _parse_host(host) in names and origin in {None, f"https://{host.lower()}"}


def same_site_locally(host: str, origin: str | None, fetch_site: str | None, *, opens_page: bool) -> bool:
    """Return True if a request to a unix socket cannot come from another site's page.

    With `ssh -L`, pages in the operator's browser reach this socket.

    :param fetch_site: header `Sec-Fetch-Site`, if any
    :param opens_page: the request only opens the web page; links on other sites may do that
    """
    if host in {"", TOOL_NAME}:
        return origin is None and fetch_site is None
    if _parse_host(host) not in LOCAL_NAMES:
        return False
    if fetch_site not in {None, "same-origin", "none"} and not opens_page:
        return False
    return origin in {None, f"http://{host.lower()}", f"https://{host.lower()}"}


_ANYWHERE = ("0.0.0.0", "::")  # noqa: S104  # compared, never bound


def own_names(listen: str) -> list[str]:
    """Return a server's names: its address and this host's names."""
    host = Address.parse(listen).host
    anywhere = host in _ANYWHERE
    names = [name_of(name) for name in (*(() if anywhere else (host,)), socket.gethostname())]
    if anywhere or names[0] in LOCAL_NAMES:
        names += LOCAL_NAMES
    return [name for name in dict.fromkeys(names) if name is not None]


def reached_at(scope: Mapping[str, Any]) -> str:
    """Return the canonical address that the client used; empty if unknown."""
    server = scope.get("server")
    return (name_of(str(server[0])) or "") if server else ""
