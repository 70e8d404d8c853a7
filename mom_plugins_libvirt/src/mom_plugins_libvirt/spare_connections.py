"""Connections for long calls, which would block the main connection."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from mom_core import GuestBusy, HypervisorError
from mom_kvm import CallPatience
from mom_plugins_libvirt.connection import Connection


class SpareConnections:
    """Connections like the main connection, opened on demand and kept."""

    most: int
    """Most calls at once."""

    def __init__(self, main: Connection) -> None:
        self._main = main
        self._changed = threading.Condition()
        self._idle: list[Connection] = []
        self._all: list[Connection] = []
        self._closed = False

    @contextmanager
    def borrowed(self, doing: str, patience: float, call_timeout: float) -> Iterator[Connection]:
        """Lend a connection for one call. Raise `GuestBusy` after `patience` seconds, `HypervisorError` if closed."""
        connection = self._free(doing, patience)
        connection.settings = replace(self._main.settings, call_timeout=call_timeout)
        try:
            yield connection
        finally:
            with self._changed:
                self._idle.append(connection)
                self._changed.notify()

    def close(self) -> Sequence[threading.Thread]:
        """Close the connections in threads that end within a fifth of a second."""
        with self._changed:
            self._closed = True
            connections = tuple(self._all)
            self._changed.notify_all()
        threads = [threading.Thread(target=connection.close, name="libvirt-close", daemon=True) for connection in connections]
        for thread in threads:
            thread.start()
        return threads

    def _free(self, doing: str, patience: float) -> Connection:
        end = time.monotonic() + patience
        with self._changed:
            while True:
                if self._closed:
                    raise HypervisorError(f"{doing}: the connection to libvirt is closed")
                if self._idle:
                    return self._idle.pop()
                if len(self._all) < self.most:
                    whole = CallPatience(lasts=0.0)  # earlier timeouts do not shorten a call's timeout
                    self._all.append(Connection(self._main.settings, self._main.log, self._main.module, patience=whole))
                    return self._all[-1]
                if not self._changed.wait(max(0.0, end - time.monotonic())):
                    raise GuestBusy(f"{doing}: {self.most} such calls are already running")
