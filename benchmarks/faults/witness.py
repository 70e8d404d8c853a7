"""Observation of guests without mom and libvirt: sizes from a second monitor, and what programs print."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from guests_told import Listener

MIB = 1 << 20


class SecondMonitor:
    """Reads a guest's size without waiting, independently of libvirt."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._socket.connect(str(path))
        self._rest = b""
        self._waits = True  # for the greeting, which is answered like any question
        self._ask("qmp_capabilities")

    def sizes_mib(self) -> Sequence[float]:
        """Return the answers since the last call. Ask again if there was one."""
        sizes: list[float] = []
        with suppress(BlockingIOError):
            while data := self._socket.recv(65536):
                *lines, self._rest = (self._rest + data).split(b"\n")
                for message in map(json.loads, filter(None, map(bytes.strip, lines))):
                    if "return" in message or "error" in message:
                        self._waits = False
                    if actual := (message.get("return") or {}).get("actual"):
                        sizes.append(actual / MIB)
        if not self._waits:
            self._ask("query-balloon")
        return sizes

    def _ask(self, command: str) -> None:
        self._waits = True
        with suppress(OSError):  # it has ended, and says so by itself
            self._socket.sendall(json.dumps({"execute": command}).encode() + b"\n")

    def close(self) -> None:
        self._socket.close()


@dataclass
class Watched:
    """One guest: its size and guarantee (MiB; 0: none), and what its programs print."""

    name: str
    maximum: float
    promised: float
    monitor: SecondMonitor
    listener: Listener
    size: float = 0.0
    least: float = 0.0
    honest: bool = True
    speaks: bool = True
    """Whether it has its balloon's driver."""
    boots: bool = False
    """Whether it was started, and its programs have printed nothing yet. mom must know it without statistics."""

    def look(self, now: float) -> None:
        """Update the size, and the least size since `take_least`."""
        with suppress(OSError, ValueError):
            for size in self.monitor.sizes_mib():
                self.size, self.least = size, min(self.least or size, size)
        self.listener.listen(now)
        self.boots = self.boots and not self.listener.heard

    @property
    def kills(self) -> int:
        """Return how many programs its kernel has killed for lack of memory."""
        last = self.listener.heard[-1] if self.listener.heard else None
        return 0 if last is None else max(last.kills, last.oom)

    @property
    def is_below(self) -> bool:
        """Return whether it was below its guarantee since `take_least`."""
        return self.honest and bool(self.least) and self.least < self.promised - TOLERANCE_MIB

    @property
    def is_whole(self) -> bool:
        """Return whether it has its full size."""
        return not self.honest or not self.speaks or abs(self.size - self.maximum) < TOLERANCE_MIB

    def take_least(self) -> float:
        """Return the least size since the last call."""
        least, self.least = self.least, self.size
        return least


TOLERANCE_MIB = 1.0
"""Balloons move by pages, and mom rounds to whole pages."""


def as_json(guests: Mapping[str, Watched]) -> dict[str, object]:
    """Return sizes and kills for a trace."""
    return {name: [round(one.size), one.kills] for name, one in guests.items()}
