"""libvirt's event loop in a thread, and libvirt's events about guests.

An event only marks a guest for the next bulk call. Some events also start a cycle.
"""

from __future__ import annotations

import functools
import threading
from typing import Any, NamedTuple

from mom_core import printable

_turn = threading.Lock()
"""Lock held by the running event loop: libvirt has one event loop for each process."""

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


LIFECYCLE = "LIFECYCLE"

STARTED = 2
"""Value of virDomainEventType."""

EVENT_KINDS = (
    LIFECYCLE, "DEVICE_ADDED", "DEVICE_REMOVED", "MEMORY_DEVICE_SIZE_CHANGE", "AGENT_LIFECYCLE", "JOB_COMPLETED", "MIGRATION_ITERATION",
    "TUNABLE", "METADATA_CHANGE",
)  # fmt: skip
"""Names of libvirt's constants without `VIR_DOMAIN_EVENT_ID_`."""

_ACTIVE = {2: "started", 3: "suspended", 4: "resumed", 5: "stopped", 6: "shut down", 7: "suspended", 8: "crashed"}
"""Texts for messages, keyed by those values of virDomainEventType that concern running guests."""

_WORTH_A_CYCLE = {
    "DEVICE_ADDED": "has a new device",
    "DEVICE_REMOVED": "lost a device",
    "MEMORY_DEVICE_SIZE_CHANGE": "gained or lost memory",
    "JOB_COMPLETED": "finished a job",
}
"""Kinds of events that start a cycle, with texts for messages."""


class GuestEvent(NamedTuple):
    """Event of a guest. `kind` is one of `EVENT_KINDS`; `code` is libvirt's number, 0 if the kind has none."""

    kind: str
    uuid: str
    name: str
    code: int = 0

    @property
    def news(self) -> str:
        """Why a cycle must start; empty if it need not."""
        news = _ACTIVE.get(self.code, "") if self.kind == LIFECYCLE else _WORTH_A_CYCLE.get(self.kind, "")
        return news and f"guest {printable(self.name)} {news}"
