"""Rights of clients. The kernel identifies peers of a unix socket; a token identifies TCP clients."""

from __future__ import annotations

import grp
import hashlib
import hmac
import os
import pwd
import socket
from array import array
from asyncio.trsock import TransportSocket
from collections import Counter
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final

from mom_core import MomError, printable, read_secret, user_name
from mom_kvm import PeerCredentials

_SO_PEERGROUPS: Final = 59
"""Socket option for supplementary groups (asm-generic/socket.h, Linux 4.13)."""

_GROUP_BYTES: Final = 1024
"""Longest socket option that Python reads: 256 groups."""

SHORTEST_TOKEN: Final = 16

_LONGEST_TOKEN_FILE: Final = 4096


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


class Shares:
    """Number of places, such as connections, per user. When all are taken, the user with most loses one to a newcomer."""

    def __init__(self, holders: Iterable[Peer]) -> None:
        self._held = Counter((holder.right, holder.user) for holder in holders)

    def order(self, holder: Peer) -> tuple[Right, int]:
        """Return the sort key: the lowest right loses its place first, then the user with most places."""
        return holder.right, -self._held[holder.right, holder.user]

    def yields(self, holder: Peer, newcomer: Peer) -> bool:
        """Return whether a newcomer replaces a holder. It needs a higher right, or an equal right and two places fewer."""
        held, own = (self._held[each.right, each.user] for each in (holder, newcomer))
        return holder.right < newcomer.right or (holder.right == newcomer.right and held > own + 1)


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
        except OSError:  # very many groups, or an old kernel
            groups = _listed_groups(user, group)
        right = self.right(user, groups | {group})
        return Peer(f"user {printable(user_name(user))}, process {process}", right, local=True, process=process)


def group_id(name: str) -> int:
    """Return a group's id. Raise `MomError` if the group does not exist."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise MomError(f"there is no group {printable(name)} on this host", hint=f"run: groupadd --system {printable(name)}") from None


def _listed_groups(user: int, group: int) -> set[int]:
    try:
        return set(os.getgrouplist(pwd.getpwuid(user).pw_name, group))
    except (KeyError, OSError):
        return set()


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
