"""libvirt's event loop in a thread, needed for events."""

from __future__ import annotations

import functools
import threading
from typing import Any

_turn = threading.Lock()
"""libvirt has one event loop for each process."""

_POLL_SECONDS = 0.2


@functools.cache
def _register(libvirt: Any) -> None:
    libvirt.virEventRegisterDefaultImpl()


class EventLoop:
    """libvirt's event loop. Start it before connecting."""

    def __init__(self, libvirt: Any) -> None:
        self._libvirt = libvirt
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._timer = -1

    def start(self) -> None:
        """Start the thread."""
        _register(self._libvirt)
        self._timer = self._libvirt.virEventAddTimeout(-1, self._woken, None)
        self._thread = threading.Thread(target=self._turn, name="libvirt-events", daemon=True)
        self._thread.start()

    def stop(self, patience: float = 1.0) -> None:
        """Stop the thread. Wait for `patience` seconds at most."""
        if self._thread is None:
            return
        self._stopping.set()
        self._libvirt.virEventUpdateTimeout(self._timer, 0)
        self._thread.join(patience)
        self._libvirt.virEventRemoveTimeout(self._timer)
        self._thread = None

    def _turn(self) -> None:
        while not self._stopping.is_set():
            if _turn.acquire(timeout=_POLL_SECONDS):
                try:
                    while not self._stopping.is_set():
                        self._run_once()
                finally:
                    _turn.release()

    def _run_once(self) -> None:
        try:
            self._libvirt.virEventRunDefaultImpl()
        except self._libvirt.libvirtError:  # continue, but do not spin
            self._stopping.wait(_POLL_SECONDS)

    def _woken(self, timer: int, opaque: object) -> None:
        self._libvirt.virEventUpdateTimeout(timer, -1)
