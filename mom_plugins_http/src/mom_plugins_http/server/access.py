"""Who may do what: by the kernel's word for the peer of a unix socket, by a token for TCP."""

from __future__ import annotations

import errno
import grp
import hashlib
import hmac
import os
import pwd
import socket
from array import array
from asyncio.trsock import TransportSocket
from collections.abc import Mapping, Set
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final, NamedTuple

from mom_core import MomError, printable, read_secret, user_name
from mom_kvm import PeerCredentials

_SO_PEERGROUPS: Final = 59
"""asm-generic/socket.h, since Linux 4.13: the peer's supplementary groups, as they were when it connected."""

_GROUP_BYTES: Final = 1024
"""All that Python reads of a socket's option: 256 groups. Of who is in more, the user database tells."""

SHORTEST_TOKEN: Final = 16
"""Characters: a shorter one can be guessed."""

_LONGEST_TOKEN_FILE: Final = 4096
"""Bytes."""


class Right(IntEnum):
    """The rights of clients; each includes those before it."""

    NOTHING = 0
    READ = 1
    CHANGE = 2


class Credentials(NamedTuple):
    """Process, user and groups at the other end of a unix socket, as the kernel knows them."""

    process: int
    user: int
    groups: frozenset[int]


@dataclass(frozen=True, slots=True)
class Peer:
    """Who sent a request: how the log names it, and what it may do. `local` says that it came through a unix socket; `keyed`, that this is
    the page's, where whom the kernel knows is only the ssh connection; `process` is at the other end of a unix socket, 0 for none."""

    name: str
    right: Right
    local: bool
    keyed: bool = False
    process: int = 0

    @property
    def user(self) -> str:
        """The user or, through TCP, the address, whichever process it is."""
        return self.name.partition(",")[0]


def credentials(sock: socket.socket | TransportSocket) -> Credentials:
    """Of the peer of a connected unix socket."""
    process, user, group = PeerCredentials.of(sock)
    try:
        packed = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUP_BYTES)
        groups = frozenset(array("I", packed))
    except OSError:  # very many groups, or an old kernel
        groups = _listed_groups(user, group)
    return Credentials(process, user, groups | {group})


@dataclass(frozen=True, slots=True)
class LocalAccess:
    """Who may do what through the unix socket, by the numbers of groups: root and mom's own user may change everything."""

    read: int | None = None
    change: int | None = None

    def peer(self, found: Credentials) -> Peer:
        """The peer, with its right."""
        if found.user in {0, os.geteuid()} or self.change in found.groups:
            right = Right.CHANGE
        else:
            right = Right.READ if self.read in found.groups else Right.NOTHING
        return Peer(f"user {printable(user_name(found.user))}, process {found.process}", right, local=True, process=found.process)


def group_id(name: str) -> int:
    """The number of a group of this host. Raises `MomError` when there is none of the name."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise MomError(f"there is no group {printable(name)} on this host", hint=f"make it: groupadd --system {printable(name)}") from None


def has_access_lists(folder: Path) -> bool:
    """True if files in this folder may have access control lists; also where that cannot be found out, as mom has yet to make it."""
    try:
        os.getxattr(folder, "system.posix_acl_access")
    except OSError as error:
        return error.errno != errno.EOPNOTSUPP
    return True


def may_give_to(groups: Set[int]) -> bool:
    """True if mom may give its files to these groups: to its own, and as root to any."""
    return os.geteuid() == 0 or groups <= {os.getegid(), *os.getgroups()}


def _listed_groups(user: int, group: int) -> frozenset[int]:
    try:
        return frozenset(os.getgrouplist(pwd.getpwuid(user).pw_name, group))
    except (KeyError, OSError):
        return frozenset()


class Tokens:
    """Who may do what through TCP: who knows a token may do what it is for. Only digests are kept."""

    def __init__(self, tokens: Mapping[Right, str]) -> None:
        self._digests = [(right, token_digest(token)) for right, token in sorted(tokens.items(), reverse=True)]

    def right(self, authorization: str) -> Right:
        """The right that the header `Authorization` gives."""
        given = bearer_digest(authorization)
        return next((right for right, digest in self._digests if hmac.compare_digest(given, digest)), Right.NOTHING)


def bearer_digest(authorization: str) -> bytes:
    """The digest of the token in the header `Authorization`; empty where it has none."""
    kind, _, token = authorization.partition(" ")
    return token_digest(token.strip()) if kind.lower() == "bearer" else b""


def token_digest(token: str) -> bytes:
    """All that is kept of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def read_token(path: Path) -> str:
    """The token in a file that only its owner and group can read. Raises `MomError`."""
    make = f"make one: openssl rand -hex 32 > {path}"
    token = read_secret(path, "the token", make, group=True, largest=_LONGEST_TOKEN_FILE + 1).decode("ascii", "replace").strip()
    if not SHORTEST_TOKEN <= len(token) <= _LONGEST_TOKEN_FILE or not token.isascii() or not token.isprintable() or " " in token:
        message = f"{path} holds no token: {SHORTEST_TOKEN} or more ASCII characters without spaces"
        raise MomError(message, hint=make)
    return token
