"""Addresses of servers, and functions to listen on them unless another program does."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import stat
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from mom_core import MomError
from mom_kvm.root_helper import Helper

if TYPE_CHECKING:
    from asyncio.trsock import TransportSocket

_KNOCK_SECONDS: Final = 1.0
"""Time limit of a test connection."""

_BACKLOG: Final = 1024

_LONGEST_PATH: Final = 107
"""Maximum bytes of a socket's path."""

_ACL: Final = "system.posix_acl_access"
_ACL_HEAD: Final = struct.Struct("<I")
_ACL_ENTRY: Final = struct.Struct("<HHI")
"""Format of an access control list (linux/posix_acl_xattr.h): a version, then the tag, permissions and ID of each entry."""

_ACL_VERSION: Final = 2
_OWNER, _OWNING_GROUP, _GROUP, _MASK, _OTHERS = 0x01, 0x04, 0x08, 0x10, 0x20
_NO_ID: Final = 0xFFFFFFFF

_CREDENTIALS: Final = struct.Struct("3i")
"""The kernel's `struct ucred`: process, user, group."""


@dataclass(frozen=True, slots=True)
class Address:
    """Path of a unix socket, or TCP host and port."""

    class Listener:
        """Listening socket. `close` removes its file, unless another server has replaced the file."""

        def __init__(self, sock: socket.socket, path: Path | None = None) -> None:
            self.sock = sock
            self._path = path
            self._identity = _identity(path)

        def close(self) -> None:
            """Stop listening."""
            # Remove the file first: another server may later create one with the same inode.
            if self._path is not None and self._identity is not None and _identity(self._path) == self._identity:
                with contextlib.suppress(OSError):  # if the file stays, the next server finds that no program serves it
                    self._path.unlink(missing_ok=True)
            self.sock.close()

    path: str = ""
    host: str = ""
    port: int = 0

    @classmethod
    def parse(cls, text: str, host: str = "") -> Address:
        """Parse `/a/path`, `host:port` or `[::1]:port`. Raise `ValueError` for other text.

        :param host: default host if the text is only a port; empty if the text must contain a host
        """
        if text.startswith("/"):
            if "\0" in text or len(os.fsencode(text)) > _LONGEST_PATH:
                raise ValueError(f"a socket's path can have at most {_LONGEST_PATH} bytes, and none with the value 0")
            return cls(path=text)
        match = re.fullmatch(r"(?:(?:\[([0-9a-fA-F:.%\w]+)\]|([\w.-]+)):)?([0-9]{1,5})", text)
        written = "" if match is None else match[1] or match[2] or host
        if match is None or not written or not 1 <= int(match[3]) <= 65535:
            port = " a port," if host else ""
            raise ValueError(f"specify a path that begins with /,{port} or host:port, such as 192.0.2.7:8132 or [::]:8132")
        return cls(host=written, port=int(match[3]))

    def listen(
        self, *, mode: int = 0o600, group: int | None = None, second_group: int | None = None, ours: bool = False
    ) -> Address.Listener:
        """Listen on this address with a non-blocking socket.

        :param mode: permissions of a unix socket's file; clients need write permission
        :param second_group: further group that an ACL gives the group's permissions; without ACLs, all users get them
        :param ours: whether a plugin of this process may still serve the port until a reload stops that plugin
        :raises MomError: the address cannot be used
        :raises OccupiedByOurselvesError: try again after the reload
        """
        try:
            return _listen_at_path(Path(self.path), mode, group, second_group) if self.path else _listen_at_port(self, ours=ours)
        except OSError as error:  # no socket was created, for example: too many open files
            raise MomError(
                f"cannot listen on {self}: {error.strerror}", hint="if mom has too many open files, raise LimitNOFILE of its unit"
            ) from error

    def connect(self) -> socket.socket:
        """Connect to a guest's unix socket, directly or through mom-helper. Raise `OSError`, or `ValueError` for an invalid path."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            sock.connect(self.path)
        except PermissionError:
            sock.close()
            helper = Helper.reached()
            if helper is None:
                raise
            sock = helper.connect(self.path)
            sock.setblocking(False)
        except BaseException:
            sock.close()
            raise
        return sock

    @property
    def is_local(self) -> bool:
        """Whether only this host can connect."""
        return bool(self.path) or self.host in {"localhost", "::1"} or self.host.startswith("127.")

    def __str__(self) -> str:
        if self.path:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class OccupiedByOurselvesError(Exception):
    """Error: a plugin of this process serves the address until the reload is complete."""


class PeerCredentials(NamedTuple):
    """PID, user ID and group ID of a unix socket's peer."""

    process: int
    user: int
    group: int

    @classmethod
    def of(cls, sock: socket.socket | TransportSocket) -> PeerCredentials:
        """Return the peer's credentials, or raise `OSError`."""
        return cls(*_CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)))


def _listen_at_path(path: Path, mode: int, group: int | None, second_group: int | None) -> Address.Listener:
    _free(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(str(path))
        # No client can connect before listen(), so permissions are set in time.
        path.chmod(0)
        let_in = [] if second_group is None else [second_group]
        if group is not None:
            try:
                os.chown(path, -1, group)
            except PermissionError:  # only root may use a group that it is not a member of
                let_in.append(group)
        path.chmod(mode)
        if let_in:
            _let_in(path, mode, let_in)
        sock.listen(_BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        if sock.getsockname() == str(path):
            path.unlink(missing_ok=True)
        sock.close()
        raise MomError(f"cannot listen on {path}: {error.strerror or error}", hint=_advice(path, error)) from error
    return Address.Listener(sock, path)


def _let_in(path: Path, mode: int, groups: Sequence[int]) -> None:
    owner, shared, world = mode >> 6 & 7, mode >> 3 & 7, mode & 7
    named = [(_GROUP, shared, group) for group in sorted(set(groups))]
    entries = [(_OWNER, owner, _NO_ID), (_OWNING_GROUP, shared, _NO_ID), *named, (_MASK, shared, _NO_ID)]
    packed = (_ACL_ENTRY.pack(*entry) for entry in (*entries, (_OTHERS, world, _NO_ID)))
    try:
        os.setxattr(path, _ACL, _ACL_HEAD.pack(_ACL_VERSION) + b"".join(packed))
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        path.chmod(mode | shared)


def _listen_at_port(address: Address, *, ours: bool) -> Address.Listener:
    try:
        addresses = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, where = addresses[0]
        sock = socket.socket(family, kind, protocol)
    except OSError as error:
        raise MomError(f"cannot listen on {address}: {error.strerror or error}", hint="specify an address of this host") from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(where)
        sock.listen(_BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE and ours:
            raise OccupiedByOurselvesError from None
        message = "stop the other program that listens on this port; if it is mom itself, restart mom"
        hint = message if error.errno == errno.EADDRINUSE else "specify an address of this host"
        raise MomError(f"cannot listen on {address}: {error.strerror}", hint=hint) from error
    return Address.Listener(sock)


def _advice(path: Path, error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return f"create the folder {path.parent} first; packaging/ has systemd-tmpfiles files for this"
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return f"mom's user needs write access to {path.parent}, and must be a member of the socket's group"
    return ""


def _free(path: Path) -> None:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise MomError(f"cannot listen on {path}: {error.strerror}", hint=_advice(path, error)) from error
    if not stat.S_ISSOCK(status.st_mode):
        raise MomError(f"{path} exists and is not a socket; mom does not replace it", hint="remove it, or listen on another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knock:
        knock.settimeout(_KNOCK_SECONDS)
        try:
            knock.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except FileNotFoundError:
            return
        except (TimeoutError, BlockingIOError):
            holder = 0  # a full queue, so a program serves the socket
        except OSError as error:
            raise MomError(
                f"cannot find out whether another process listens on {path}: {error.strerror}", hint=_advice(path, error)
            ) from error
        else:
            holder = PeerCredentials.of(knock).process
    if holder == os.getpid():
        raise OccupiedByOurselvesError
    who = f"process {holder}" if holder else "another program"
    raise MomError(f"{who} already listens on {path}", hint="stop it first, or listen on another path")


def _identity(path: Path | None) -> tuple[int, int] | None:
    if path is None:
        return None
    with contextlib.suppress(OSError):
        status = path.lstat()
        return status.st_dev, status.st_ino
    return None
