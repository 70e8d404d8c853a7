"""Whether a request is meant for mom, and not sent by another site's page in a browser: by headers that no page can forge.

What is not exactly one of the forms that are allowed is refused."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Collection, Mapping
from typing import Any, Final

from mom_kvm import Address

LOCAL_NAMES: Final = ("localhost", "127.0.0.1", "::1")
"""What a browser calls the unix socket by that `ssh -L` brings to its own machine. No site can be reached by one of these through DNS."""

TOOL_NAME: Final = "mom"
"""What tools that are no browsers write in its place, which need some name: `curl --unix-socket … http://mom/`. Never with a port, as a
browser at a forwarded port would: another machine of the operator's network, or a DNS server, can be called so."""

_HOST: Final = re.compile(r"(?:\[([0-9a-f:.]{2,45})\]|([a-z0-9](?:[a-z0-9.-]{0,252}[a-z0-9])?))(?::([1-9][0-9]{0,4}))?", re.ASCII)
_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)


def parse_host(text: str) -> str | None:
    """By which name a client calls a server in the header `Host`, in its one form here; None where that is anything else than a name, an
    IPv4 address or an IPv6 address in brackets, and perhaps a port.

    There is nothing around it, in it or after it that another parser may read otherwise: no blanks, no user, no empty port, no text behind
    the bracket, no dot at the end, no zone.
    """
    match = _HOST.fullmatch(text.lower()) if text.isascii() else None
    if match is None or int(match[3] or 0) > 65535:
        return None
    return _name(match[2]) if match[1] is None else _address(match[1])


def name_of(text: str) -> str | None:
    """The same for a name or an address by itself, as settings have them: IPv6 without brackets, and no port. None where it is neither."""
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
    if labels[-1].isdigit() or labels[-1].startswith("0x"):  # browsers read all of these as an IPv4 address, in several ways
        try:
            return str(ipaddress.IPv4Address(text))
        except ValueError:
            return None
    return text


def same_site(host: str, origin: str | None, names: Collection[str]) -> bool:
    """True if a request that came through TCP is meant for this server, and not sent by another site's page.

    :param host: the header `Host`
    :param origin: the header `Origin`, which browsers add; None without it
    :param names: the names by which clients may call this server
    """
    return parse_host(host) in names and origin in {None, f"https://{host.lower()}"}


def same_site_locally(host: str, origin: str | None, fetch_site: str | None, *, opens_page: bool) -> bool:
    """The same for a unix socket, which `ssh -L` brings within reach of every page in the operator's browser.

    A name that only this machine gives itself cannot be taken over through DNS; a page of another site or port is told by its origin.

    :param host: the header `Host`; empty without it, as only tools that are no browsers send
    :param fetch_site: the header `Sec-Fetch-Site`, with which browsers say whose page sends a request; None without it
    :param opens_page: whether this only opens the web page, to which a link of another site may lead
    """
    if host in {"", TOOL_NAME}:
        return origin is None and fetch_site is None
    if parse_host(host) not in LOCAL_NAMES:
        return False
    if fetch_site not in {None, "same-origin", "none"} and not opens_page:
        return False
    return origin in {None, f"http://{host.lower()}", f"https://{host.lower()}"}


_ANYWHERE = ("0.0.0.0", "::")  # noqa: S104  # compared, not bound


def own_names(listen: str) -> list[str]:
    """The names by which clients call a server that listens there: the address, this host's names."""
    host = Address.parse(listen).host
    anywhere = host in _ANYWHERE  # which is no name that a client calls it by
    names = [name_of(one) for one in (*(() if anywhere else (host,)), socket.gethostname())]
    if anywhere or names[0] in LOCAL_NAMES:
        names += LOCAL_NAMES
    return [name for name in dict.fromkeys(names) if name is not None]


def reached_at(scope: Mapping[str, Any]) -> str:
    """This host's address that a request came to, as `parse_host` has it; empty where it is unknown, or no address.

    :param scope: ASGI's, of the request
    """
    server = scope.get("server")
    return (name_of(str(server[0])) or "") if server else ""
