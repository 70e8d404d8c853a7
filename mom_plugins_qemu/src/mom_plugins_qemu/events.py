"""Events of QEMU, read from monitors that only mom uses. Some events start a cycle."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from mom_core import HypervisorError
from mom_kvm import PeerCredentials, connect_to_guest
from mom_plugins_qemu.monitors import find_monitors
from mom_plugins_qemu.wire import WireError, message, request

_SEARCH_SECONDS: Final = 1.0

_RETRY_SECONDS: Final = 10.0
"""Pause before mom connects again to a monitor that failed."""

_FAILURE_SECONDS: Final = 10.0
"""Pause of the thread after an unexpected error."""

_LONGEST_BYTES: Final = 64 << 10

_MOST_MESSAGES: Final = 250
"""Maximum number of messages per second from one monitor. They take some 1 % of a CPU. Long messages count several times."""

_JOIN_SECONDS: Final = 0.15
"""`stop` waits at most this long for the thread. The plugin has 0.4 s in all."""

_WORTH_A_CYCLE: Final = {
    "SHUTDOWN": "is shutting down", "RESET": "was reset", "STOP": "was paused", "RESUME": "was resumed", "SUSPEND": "was suspended",
    "WAKEUP": "has woken up", "GUEST_PANICKED": "has crashed", "DEVICE_DELETED": "lost a device",
    "MEMORY_DEVICE_SIZE_CHANGE": "gained or lost memory",
}  # fmt: skip
"""Events that start a cycle, with the words for messages."""

_RESIZED: Final = "BALLOON_CHANGE"


class EventMonitors:
    """Thread that stays connected to all monitors that match `patterns`.

    :param heard: called to start a cycle, with the process's PID and a text
    :param resized: called for each new balloon size, with the PID and the size in bytes
    :param users: IDs of trusted users; mom ignores other users' monitors
    """

    def __init__(
        self,
        root: Path,
        patterns: Sequence[str],
        heard: Callable[[int, str], None],
        resized: Callable[[int, int], None],
        log: logging.Logger,
        users: Set[int],
    ) -> None:
        self._root, self._patterns, self._users = root, patterns, users
        self._heard, self._resized, self._log = heard, resized, log
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="qemu-events", daemon=True)
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread, and disconnect from all monitors."""
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(_JOIN_SECONDS)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._search())  # cancels all tasks at its end

    async def _search(self) -> None:
        while not self._stopping.is_set():
            pause = _SEARCH_SECONDS
            try:
                for path in find_monitors(self._root, self._patterns, self._users):
                    if path not in self._tasks:
                        self._tasks[path] = self._loop.create_task(self._listen(path))
            except HypervisorError as error:
                self._log.debug("no events: %s", error)
            except Exception:  # noqa: BLE001  # the thread must continue
                self._log.exception("searching for monitors failed")
                pause = _FAILURE_SECONDS
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopping.wait()

    async def _listen(self, path: str) -> None:
        process = 0
        try:
            with connect_to_guest(path) as sock:
                peer = PeerCredentials.of(sock)
                if peer.user in self._users:
                    process = peer.process
                    await self._read(path, process, sock)
                else:
                    self._log.debug("%s: it belongs to user %d", path, peer.user)
        except (OSError, EOFError, asyncio.LimitOverrunError, WireError) as error:
            self._log.debug("%s: %s", path, error)
        except Exception:  # noqa: BLE001  # mom must connect to this monitor again
            self._log.exception("reading events from %s failed", path)
        if process:
            self._heard(process, "has stopped, or its monitor was closed")
        await asyncio.sleep(_RETRY_SECONDS)
        del self._tasks[path]

    async def _read(self, path: str, process: int, sock: socket.socket) -> None:
        reader, writer = await asyncio.open_unix_connection(sock=sock, limit=_LONGEST_BYTES)
        try:
            await reader.readuntil(b"\n")  # the greeting
            writer.write(request(()))
            self._heard(process, "has a monitor now")
            since, count, floods = self._loop.time(), 0, False
            while True:
                line = await reader.readuntil(b"\n")
                self._take(process, message(line))
                count += 1 + len(line) // 1024  # a long message counts as several
                if count >= _MOST_MESSAGES:
                    left = since + 1 - self._loop.time()
                    if left > 0 and not floods:
                        floods = True
                        self._log.warning("%s: event flood from QEMU; reading events with a delay", path)
                    await asyncio.sleep(max(0.0, left))
                    since, count = self._loop.time(), 0
        finally:
            writer.transport.abort()

    def _take(self, process: int, content: Mapping[str, Any]) -> None:
        event, data = content.get("event"), content.get("data")
        if event == _RESIZED:
            actual = data.get("actual") if isinstance(data, dict) else None
            if type(actual) is int and 0 < actual < 1 << 62:
                self._resized(process, actual)
        elif isinstance(event, str) and event in _WORTH_A_CYCLE:
            self._heard(process, _WORTH_A_CYCLE[event])
