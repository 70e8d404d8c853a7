"""Rights of clients, and the defence against other sites.

The kernel identifies peers of a unix socket; a token identifies TCP clients.
"""

from __future__ import annotations

import grp
import hashlib
import hmac
import os
import re
import socket
from array import array
from asyncio.trsock import TransportSocket
from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final

from mom_core import MomError, printable, read_secret, user_name
from mom_kvm import Address, PeerCredentials

_SO_PEERGROUPS: Final = 59
"""Socket option for supplementary groups (asm-generic/socket.h, Linux 4.13)."""

_GROUP_BYTES: Final = 1024
"""Longest socket option that Python reads: 256 groups."""

SHORTEST_TOKEN: Final = 16

_LONGEST_TOKEN_FILE: Final = 4096

LOCAL_NAMES: Final = ("localhost", "127.0.0.1", "::1")
"""Host names for the unix socket behind `ssh -L`. DNS cannot map them to another site."""

TOOL_NAME: Final = "mom"
"""Host name for `curl --unix-socket … http://mom/`. mom refuses `mom:PORT`: a browser may mean another machine of this name."""

_HOST: Final = re.compile(r"(?:\[([0-9a-f:]+)\]|([a-z0-9.-]+))(?::[0-9]+)?", re.ASCII)

_ANYWHERE = ("0.0.0.0", "::")  # noqa: S104  # compared, never bound


class Right(IntEnum):
    """Rights of clients. Each right includes the lower rights."""

    NOTHING = 0
    READ = 1
    CHANGE = 2


@dataclass(frozen=True, slots=True)
class Peer:
    """Sender of a request: its name in the log, and its right.

    :param keyed: connected through the page's socket
    :param process: PID; 0 if unknown
    """

    name: str
    right: Right
    local: bool
    keyed: bool = False
    process: int = 0

    @property
    def user(self) -> str:
        """User or TCP address, without the process."""
        return self.name.partition(",")[0]


@dataclass(frozen=True, slots=True)
class LocalAccess:
    """Ids of the groups that may `read`, or also `change`, through the unix socket. Root and mom's user may do both."""

    read: int | None = None
    change: int | None = None

    def right(self, user: int, groups: Set[int]) -> Right:
        """Return the right of a user in these groups."""
        if user in {0, os.geteuid()} or self.change in groups:
            return Right.CHANGE
        return Right.READ if self.read in groups else Right.NOTHING

    def peer(self, sock: socket.socket | TransportSocket) -> Peer:
        """Return the peer of a unix socket. Raise `OSError` if the peer is gone."""
        process, user, group = PeerCredentials.of(sock)
        try:
            groups = set(array("I", sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUP_BYTES)))
        except OSError:  # too many groups
            groups = set()
        right = self.right(user, groups | {group})
        return Peer(f"user {printable(user_name(user))}, process {process}", right, local=True, process=process)


def group_id(name: str) -> int:
    """Return a group's id. Raise `MomError` if the group does not exist."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise MomError(f"there is no group {printable(name)} on this host", hint=f"run: groupadd --system {printable(name)}") from None


class Tokens:
    """Digests of TCP tokens, each with its right."""

    def __init__(self, tokens: Mapping[Right, str]) -> None:
        self._digests = [(right, token_digest(token)) for right, token in sorted(tokens.items(), reverse=True)]

    def right(self, authorization: str) -> Right:
        """Return the right that the header `Authorization` gives."""
        sent = bearer_digest(authorization)
        return next((right for right, digest in self._digests if hmac.compare_digest(sent, digest)), Right.NOTHING)


def bearer_digest(authorization: str) -> bytes:
    """Return the digest of the token in `Authorization`; empty without a token."""
    kind, _, token = authorization.partition(" ")
    return token_digest(token.strip()) if kind.lower() == "bearer" else b""


def token_digest(token: str) -> bytes:
    """Return a token's digest."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def read_token(path: Path) -> str:
    """Return the token in a file. Raise `MomError` if other users can read the file, or if it contains no valid token."""
    make = f"make a token: openssl rand -hex 32 > {path}"
    token = read_secret(path, "the token", make, group=True, largest=_LONGEST_TOKEN_FILE + 1).decode("ascii", "replace").strip()
    if not SHORTEST_TOKEN <= len(token) <= _LONGEST_TOKEN_FILE or not token.isascii() or not token.isprintable() or " " in token:
        message = f"{path} contains no token: {SHORTEST_TOKEN} or more ASCII characters without spaces"
        raise MomError(message, hint=make)
    return token


# --- defence against other sites' pages in a browser: mom refuses every form of these headers that is not listed here ---------------------


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


def own_names(listen: str) -> list[str]:
    """Return a server's names: its address and this host's names."""
    host, name = Address.parse(listen).host.lower(), socket.gethostname().lower()
    return [name, *LOCAL_NAMES] if host in _ANYWHERE else [name, host, *(LOCAL_NAMES if host in LOCAL_NAMES else ())]
