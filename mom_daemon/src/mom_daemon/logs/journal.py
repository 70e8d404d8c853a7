"""systemd's journal, in its native protocol: each record with its fields, so that `journalctl MOM_GUEST=web-1` finds what it is about.

https://systemd.io/JOURNAL_NATIVE_PROTOCOL/: a datagram of `NAME=value` lines; a value of several lines is `NAME`, its length in 64 bits,
the value; what is too large for a datagram goes into a sealed memfd, whose descriptor is sent instead.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import socket
import struct
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from mom_core import printable_lines
from mom_daemon.logs.fields import fields_of, text_of
from mom_daemon.logs.formats import Hide

SOCKET: Final = Path("/run/systemd/journal/socket")

SECONDS: Final = 1.0
"""How long the thread that writes waits for a journal that is busy, before it gives a record up."""

_PRIORITIES: Final = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.NOTSET, 7))
"""syslog(3)'s."""

_TOO_LARGE: Final = frozenset({errno.EMSGSIZE, errno.ENOBUFS})
_SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def leads_to_journal(descriptor: int = 2, said: str | None = None) -> bool:
    """Whether what is written there ends up in the journal, as JOURNAL_STREAM says (systemd.exec(5)): a device and an inode."""
    said = os.environ.get("JOURNAL_STREAM", "") if said is None else said
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return said == f"{status.st_dev}:{status.st_ino}"


def encoded(fields: Iterable[tuple[str, str]]) -> bytes:
    """Fields as the protocol has them. Names that the journal would not take are made such that it does."""
    parts = []
    for name, value in fields:
        key = re.sub(r"[^A-Z0-9_]", "_", name.upper()).lstrip("_0123456789")[:64].encode()
        content = value.encode(errors="backslashreplace")
        if key and b"\n" in content:
            parts.append(key + b"\n" + struct.pack("<Q", len(content)) + content + b"\n")
        elif key:
            parts.append(key + b"=" + content + b"\n")
    return b"".join(parts)


class JournalHandler(logging.Handler):
    """Sends records to the journal."""

    def __init__(self, hide: Hide, path: Path = SOCKET) -> None:
        super().__init__()
        self._hide = hide
        self._path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(SECONDS)

    def emit(self, record: logging.LogRecord) -> None:
        """Send one. Raises `OSError` when the journal does not take it."""
        own = {
            "MESSAGE": printable_lines(text_of(record)),  # else journalctl shows the number of its bytes only
            "PRIORITY": str(next(priority for level, priority in _PRIORITIES if record.levelno >= level)),
            "SYSLOG_IDENTIFIER": "mom",
            "LOGGER": record.name,
            "CODE_FILE": record.pathname,
            "CODE_LINE": str(record.lineno),
            "CODE_FUNC": record.funcName or "",
            "THREAD_NAME": record.threadName or "",
        }
        self._send(encoded([(name, self._hide(value)) for name, value in {**own, **_prefixed(fields_of(record))}.items()]))

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()
        super().close()

    def _send(self, datagram: bytes) -> None:
        try:
            self._socket.sendto(datagram, self._path)
        except OSError as error:
            if error.errno not in _TOO_LARGE:
                raise
            with os.fdopen(os.memfd_create("mom-journal", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "wb", buffering=0) as memory:
                memory.write(datagram)
                with suppress(OSError):
                    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, _SEALS)
                rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", memory.fileno()))
                self._socket.sendmsg([], [rights], 0, self._path)


def _prefixed(fields: Mapping[str, str]) -> dict[str, str]:
    return {f"MOM_{name}": value for name, value in fields.items()}
