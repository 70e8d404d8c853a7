"""What sees guests without mom and without libvirt: their sizes by a second monitor of each, and what their programs print."""

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
    """A guest's size, ten times a second if it is asked so often, whatever becomes of libvirt. Never waits."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._socket.connect(str(path))
        self._rest = b""
        self._waits = True  # for the greeting, which is answered like any question
        self._ask("qmp_capabilities")

    def sizes_mib(self) -> Sequence[float]:
        """What was answered since the last call; it is asked again unless the last question was not answered yet."""
        found: list[float] = []
        with suppress(BlockingIOError):
            while data := self._socket.recv(65536):
                *lines, self._rest = (self._rest + data).split(b"\n")
                for told in map(json.loads, filter(None, map(bytes.strip, lines))):
                    if "return" in told or "error" in told:
                        self._waits = False
                    if actual := (told.get("return") or {}).get("actual"):
                        found.append(actual / MIB)
        if not self._waits:
            self._ask("query-balloon")
        return found

    def _ask(self, command: str) -> None:
        self._waits = True
        with suppress(OSError):  # it has ended, and says so by itself
            self._socket.sendall(json.dumps({"execute": command}).encode() + b"\n")

    def close(self) -> None:
        """End."""
        self._socket.close()


@dataclass
class Watched:
    """One guest: its size and what it is promised (MiB; 0: nothing), and what its programs have said."""

    name: str
    maximum: float
    promised: float
    monitor: SecondMonitor
    listener: Listener
    size: float = 0.0
    least: float = 0.0
    killed_before: int = 0
    """By guests of that name that ran elsewhere until they were moved."""
    honest: bool = True
    speaks: bool = True
    """Whether its balloon's driver is there."""
    boots: bool = False
    """It was started, and none of its programs has said anything yet: mom must know it, and has no statistics of it."""

    def look(self, now: float) -> None:
        """See what is so now; `least` becomes the least size since it was last taken away."""
        with suppress(OSError, ValueError):
            for size in self.monitor.sizes_mib():
                self.size, self.least = size, min(self.least or size, size)
        self.listener.listen(now)
        self.boots = self.boots and not self.listener.heard

    @property
    def kills(self) -> int:
        """Programs that its kernel has killed for lack of memory."""
        last = self.listener.heard[-1] if self.listener.heard else None
        return self.killed_before + (0 if last is None else max(last.kills, last.oom))

    @property
    def is_below(self) -> bool:
        """Whether it had less than it is promised since `least` was last taken."""
        return self.honest and bool(self.least) and self.least < self.promised - TOLERANCE_MIB

    @property
    def is_whole(self) -> bool:
        """Whether it has all that it was started with."""
        return not self.honest or not self.speaks or abs(self.size - self.maximum) < TOLERANCE_MIB

    def take_least(self) -> float:
        """The least size since this was last asked."""
        least, self.least = self.least, self.size
        return least


TOLERANCE_MIB = 1.0
"""Balloons move by pages, and mom rounds to whole ones."""


def as_json(guests: Mapping[str, Watched]) -> dict[str, object]:
    """For a trace."""
    return {name: [round(one.size), one.kills] for name, one in guests.items()}
