"""Events of QEMU, read from monitors that only mom uses. Some events start a cycle."""

from __future__ import annotations

import logging
import select
import socket
import threading
import time
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from mom_core import HypervisorError
from mom_kvm import PeerCredentials, connect_to_guest
from mom_plugins_qemu.monitors import find_monitors, trusted_users
from mom_plugins_qemu.wire import WireError, message, request

_SEARCH_SECONDS: Final = 1.0
"""Pause between searches for new monitors."""

_RETRY_SECONDS: Final = 10.0
"""Pause before mom connects again to a monitor that failed."""

_FAILURE_SECONDS: Final = 10.0
"""Pause of the whole thread after an unexpected error."""

_READ_BYTES: Final = 4 << 10
"""Bytes of one read. They contain a thousand messages at most."""

_LONGEST_BYTES: Final = 64 << 10

_MOST_COST: Final = 250
_READ_COST: Final = 5
"""Budget per second for reading one monitor. Each message costs 1, each read `_READ_COST`. The budget is less than 1 % of a CPU."""

_JOIN_SECONDS: Final = 0.15
"""Time allowed for the thread to stop. A plugin has 0.4 s in all."""

_WORTH_A_CYCLE: Final = {
    "SHUTDOWN": "is shutting down", "RESET": "was reset", "STOP": "was paused", "RESUME": "was resumed", "SUSPEND": "was suspended",
    "WAKEUP": "has woken up", "GUEST_PANICKED": "has crashed", "DEVICE_DELETED": "lost a device",
    "MEMORY_DEVICE_SIZE_CHANGE": "gained or lost memory",
}  # fmt: skip
"""Events that start a cycle, with the words for messages."""

_RESIZED: Final = "BALLOON_CHANGE"


@dataclass(slots=True)
class _Line:
    sock: socket.socket
    process: int
    held: bytes = b""
    greeted: bool = False
    since: float = 0.0
    """Start of the second to which `spent` refers."""
    spent: int = 0
    floods: bool = False


@dataclass(slots=True)
class EventMonitors:
    """Thread that stays connected to all monitors that match `patterns`.

    It calls `heard(pid, text)` for events, and `resized(pid, bytes)` for balloon sizes.
    """

    root: Path
    patterns: Sequence[str]
    heard: Callable[[int, str], None]
    resized: Callable[[int, int], None]
    log: logging.Logger
    users: Set[int] = field(default_factory=lambda: trusted_users(()))
    """User IDs that are trusted. mom ignores the monitors of other users."""
    monotonic: Callable[[], float] = time.monotonic
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _lines: dict[str, _Line] = field(default_factory=dict)
    _retry_at: dict[str, float] = field(default_factory=dict)
    _bell: tuple[socket.socket, socket.socket] | None = None

    def start(self) -> None:
        """Start the thread."""
        self._bell = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="qemu-events", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread, and disconnect from all monitors."""
        if self._thread is None or self._bell is None:
            return
        self._stopping.set()
        self._bell[0].send(b"x")
        self._thread.join(_JOIN_SECONDS)

    def _run(self) -> None:
        assert self._bell is not None  # noqa: S101  # set by `start`
        try:
            while not self._stopping.is_set():
                try:
                    self._search()
                    end = self.monotonic() + _SEARCH_SECONDS
                    while not self._stopping.is_set() and (left := end - self.monotonic()) > 0:
                        self._listen(self._bell[1], left)
                except Exception:  # one monitor must not stop the thread
                    self.log.exception("listening on monitors failed")
                    self._stopping.wait(_FAILURE_SECONDS)
        finally:
            for line in self._lines.values():
                line.sock.close()
            for end_of_bell in self._bell:
                end_of_bell.close()

    def _search(self) -> None:
        try:
            paths = find_monitors(self.root, self.patterns, self.users)
        except HypervisorError as error:
            self.log.debug("no events: %s", error)
            return
        now = self.monotonic()
        for path in paths:
            if path not in self._lines and now >= self._retry_at.get(path, 0.0):
                self._open(path)
        existing = set(paths)
        self._retry_at = {path: at for path, at in self._retry_at.items() if path in existing}

    def _open(self, path: str) -> None:
        try:
            sock = connect_to_guest(path)
        except OSError as error:
            self.log.debug("%s: %s", path, error)
            self._retry_at[path] = self.monotonic() + _RETRY_SECONDS
            return
        try:
            peer = PeerCredentials.of(sock)
        except BaseException:
            sock.close()
            raise
        if peer.user in self.users:
            self._lines[path] = _Line(sock, peer.process)
        else:
            self.log.debug("%s: it belongs to user %d", path, peer.user)
            self._retry_at[path] = self.monotonic() + _RETRY_SECONDS
            sock.close()

    def _listen(self, bell: socket.socket, seconds: float) -> None:
        now = self.monotonic()
        by_number = {line.sock.fileno(): (path, line) for path, line in self._lines.items() if self._may_speak(path, line, now)}
        with select.epoll() as poll:
            for number in (*by_number, bell.fileno()):
                poll.register(number, select.EPOLLIN)
            ready = poll.poll(seconds)
        for number, _ in ready:
            if number in by_number:
                path, line = by_number[number]
                self._read(path, line)

    def _may_speak(self, path: str, line: _Line, now: float) -> bool:
        if now >= line.since + 1:
            line.since, line.spent = now, 0
        elif line.spent > _MOST_COST and not line.floods:
            line.floods = True
            self.log.warning("%s: event flood from QEMU; reading events with a delay", path)
        return line.spent <= _MOST_COST

    def _read(self, path: str, line: _Line) -> None:
        try:
            data = line.sock.recv(_READ_BYTES)
            *lines, line.held = (line.held + data).split(b"\n")
            line.spent += _READ_COST + len(lines)
            if len(line.held) > _LONGEST_BYTES:
                raise WireError("a line is too long")
            for text in lines:
                if text.strip():
                    self._take(line, message(text))
        except BlockingIOError:
            return
        except (OSError, WireError) as error:
            self.log.debug("%s: %s", path, error)
            self._retry_at[path] = self.monotonic() + _RETRY_SECONDS
            data = b""
        if not data:
            line.sock.close()
            del self._lines[path]
            self.heard(line.process, "has stopped, or its monitor was closed")

    def _take(self, line: _Line, content: Any) -> None:
        event = content.get("event")
        if not line.greeted:
            line.greeted = True
            line.sock.send(request(()))
            self.heard(line.process, "has a monitor now")
        elif event == _RESIZED:
            content = content.get("data")
            actual = content.get("actual") if isinstance(content, dict) else None
            if type(actual) is int and 0 < actual < 1 << 62:
                self.resized(line.process, actual)
        elif isinstance(event, str) and event in _WORTH_A_CYCLE:
            self.heard(line.process, _WORTH_A_CYCLE[event])
