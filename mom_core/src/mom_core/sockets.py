"""Unix sockets that a plugin listens on: taken over only where nobody serves them, removed only by whoever put them there."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from mom_core.errors import MomError

if TYPE_CHECKING:
    from asyncio.trsock import TransportSocket

KNOCK_SECONDS: Final = 1.0
"""How long to wait for a sign that somebody serves a socket. A served one answers at once, or its queue is full: then somebody does."""

_CREDENTIALS: Final = struct.Struct("3i")
"""The kernel's `struct ucred`: process, user, group."""


class OccupiedByOurselvesError(Exception):
    """This very process serves there: a reload is about to replace the plugin that does."""


class PeerCredentials(NamedTuple):
    """Who is at the other end of a unix socket, as the kernel knows it: ids of process, user and group."""

    process: int
    user: int
    group: int


class Listener:
    """A socket that listens. `close` removes its file, unless somebody has put another one there.

    :param path: of a unix socket that is bound; None for any other
    """

    def __init__(self, sock: socket.socket, path: Path | None = None) -> None:
        self.sock = sock
        self._path = path
        self._identity = _identity(path)

    def close(self) -> None:
        """Stop listening. The file goes first: once this does not listen any more, another server may put its own there, and the file
        system may give that the same inode number."""
        if self._path is not None and self._identity is not None and _identity(self._path) == self._identity:
            self._path.unlink(missing_ok=True)
        self.sock.close()


def peer_credentials(sock: socket.socket | TransportSocket) -> PeerCredentials:
    """Of the peer of a connected unix socket. Raises `OSError`."""
    return PeerCredentials(*_CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)))


def free_socket_path(path: Path, advice: Callable[[Path, OSError], str]) -> None:
    """Remove a socket that nobody serves any more, so that the path can be bound. Nothing to do where nothing stands.

    :param advice: the hint for what the system refuses; an empty text for none
    :raises MomError: somebody serves there, or something else is in the way; it stays as it is
    :raises OccupiedByOurselvesError: wait until it does not any more
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise MomError(f"cannot listen on {path}: {error.strerror}", hint=advice(path, error)) from error
    if not stat.S_ISSOCK(found.st_mode):
        raise MomError(f"{path} is there already and is no socket; it stays as it is", hint="remove it, or listen elsewhere")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knock:
        knock.settimeout(KNOCK_SECONDS)
        try:
            knock.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except FileNotFoundError:
            return
        except (TimeoutError, BlockingIOError):
            holder = 0  # a full queue, and somebody whose queue it is
        except OSError as error:
            if error.errno == errno.EPROTOTYPE:
                what = f"{path} is there already and is a socket of another kind; it stays as it is"
                raise MomError(what, hint="remove it, or listen elsewhere") from error
            raise MomError(f"cannot find out whether somebody serves {path}: {error.strerror}", hint=advice(path, error)) from error
        else:
            holder = peer_credentials(knock).process
    if holder == os.getpid():
        raise OccupiedByOurselvesError
    who = f"process {holder}" if holder else "another program"
    raise MomError(f"{who} serves {path} already", hint="stop that one first, or listen elsewhere")


def _identity(path: Path | None) -> tuple[int, int] | None:
    if path is None:
        return None
    with contextlib.suppress(OSError):
        found = path.lstat()
        return found.st_dev, found.st_ino
    return None
