"""Defence against other sites' pages in a browser, using headers that no page can forge.

mom refuses every form of these headers that this module does not list.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Collection
from typing import Final

from mom_kvm import Address

LOCAL_NAMES: Final = ("localhost", "127.0.0.1", "::1")
"""Host names for the unix socket behind `ssh -L`. DNS cannot map them to another site."""

TOOL_NAME: Final = "mom"
"""Host name for `curl --unix-socket … http://mom/`. mom refuses `mom:PORT`: a browser may mean another machine of this name."""

_HOST: Final = re.compile(r"(?:\[([0-9a-f:]+)\]|([a-z0-9.-]+))(?::[0-9]+)?", re.ASCII)


def _named(host: str, names: Collection[str]) -> bool:
    match = _HOST.fullmatch(host.lower())
    return match is not None and (match[1] or match[2]) in names


def same_site(host: str, origin: str | None, names: Collection[str]) -> bool:
    """Return True if a TCP request addresses this server, and cannot come from another site's page.

    :param origin: header `Origin`, if any
    :param names: the server's names and addresses, in lower case and without brackets
    """
    return _named(host, names) and origin in {None, f"https://{host.lower()}"}


def same_site_locally(host: str, origin: str | None, fetch_site: str | None, *, opens_page: bool) -> bool:
    """Return True if a request to a unix socket cannot come from another site's page.

    With `ssh -L`, pages in the operator's browser reach this socket.

    :param fetch_site: header `Sec-Fetch-Site`, if any
    :param opens_page: the request only opens the web page; links on other sites may do that
    """
    if host in {"", TOOL_NAME}:
        return origin is None and fetch_site is None
    if not _named(host, LOCAL_NAMES) or (fetch_site not in {None, "same-origin", "none"} and not opens_page):
        return False
    return origin in {None, f"http://{host.lower()}", f"https://{host.lower()}"}


_ANYWHERE = ("0.0.0.0", "::")  # noqa: S104  # compared, never bound


def own_names(listen: str) -> list[str]:
    """Return a server's names: its address and this host's names."""
    host, name = Address.parse(listen).host.lower(), socket.gethostname().lower()
    return [name, *LOCAL_NAMES] if host in _ANYWHERE else [name, host, *(LOCAL_NAMES if host in LOCAL_NAMES else ())]
