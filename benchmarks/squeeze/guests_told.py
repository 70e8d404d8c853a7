"""Lines that programs in squeezed guests print (tests/real/demand.c), and the work, latency, bursts, swap and kills in them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SLOTS_PER_SECOND = 10.0
SILENT_SECONDS = 3.0
"""A program prints a line every second. One that has been silent for longer does not work."""

_LINE = re.compile(
    rb"DEMAND (?P<since>-?[\d.]+) held=(?P<held>\d+) lost=[\d.]+ filled=(?P<filled>[\d.]+) kills=(?P<kills>\d+) ran=(?P<ran>[\d.]+) "
    rb"met=(?P<met>\d+) bursts=(?P<bursts>\d+) swap=(?P<swap>-?\d+) oom=(?P<oom>-?\d+) took=(?P<took>[\d.e+:,]*)\r?\n"
)

_PROGRAM = re.compile(rb"PROGRAM (\w+) ([\d.,]+)\r?\n")
"""Latencies of a real program (guest_programs.py), in ms."""


@dataclass(frozen=True)
class DemandLine:
    """One line of a program. `at` is when it was read (monotonic); counts are since the program's start; swap in KiB.

    `took` counts slots by the ms that they took at most.
    """

    at: float
    since: float
    held: int
    filled: float
    kills: int
    ran: float
    met: int
    bursts: int
    swap: int
    oom: int
    took: Mapping[float, int]


def lines(text: bytes, at: float) -> list[DemandLine]:
    """Return all complete lines in a text."""
    return [_line(match, at) for match in _LINE.finditer(text)]


def _line(match: re.Match[bytes], at: float) -> DemandLine:
    took = {float(edge): int(count) for edge, count in (pair.split(b":") for pair in match["took"].split(b",") if pair)}
    since, filled, ran = (float(match[name]) for name in ("since", "filled", "ran"))
    held, kills, met, bursts, swap, oom = (int(match[name]) for name in ("held", "kills", "met", "bursts", "swap", "oom"))
    return DemandLine(at, since, held, filled, kills, ran, met, bursts, swap, oom, took)


@dataclass
class Listener:
    """Reads the log of one guest's console."""

    path: Path
    heard: list[DemandLine] = field(default_factory=list)
    latencies: list[tuple[float, str, float]] = field(default_factory=list)
    _offset: int = 0
    _rest: bytes = b""

    def listen(self, now: float) -> None:
        """Read new lines."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._offset)
            new = file.read()
        self._offset += len(new)
        whole, newline, self._rest = (self._rest + new).rpartition(b"\n")
        self.heard += lines(whole + newline, now)
        for program, values in _PROGRAM.findall(whole + newline):
            self.latencies += [(now, program.decode(), float(ms)) for ms in values.split(b",")]

    def measured(self, begin: float, end: float) -> list[tuple[str, float]]:
        """Return programs and their latencies (ms) that were read between two moments of the monotonic clock."""
        return [(program, ms) for at, program, ms in self.latencies if begin < at <= end]

    def at(self, time: float) -> DemandLine | None:
        """Return the last line that had been read at that time."""
        return next((line for line in reversed(self.heard) if line.at <= time), None)


@dataclass(frozen=True)
class Work:
    """Work of several guests in some time.

    :param slots: slots that passed; `met` were done in time
    :param took: number of slots by the ms that they took at most
    :param bursts: growth times (s)
    :param swap: used swap at the end (MiB)
    """

    slots: float
    met: int
    took: Mapping[float, int]
    bursts: Sequence[float]
    swap: float
    kills: int

    @property
    def share(self) -> float:
        """Return the ratio of slots that were done in time."""
        return min(1.0, self.met / self.slots) if self.slots else 0.0

    @property
    def p99_ms(self) -> float | None:
        """Return the 99th percentile of a slot's time in ms, to within the edges at which slots are counted."""
        return quantile(self.took, 0.99)


def quantile(took: Mapping[float, int], ratio: float) -> float | None:
    """Return a quantile of counted times, interpolated between edges."""
    wanted, passed, lower = ratio * sum(took.values()), 0, 0.0
    for edge in sorted(took):
        if took[edge] and passed + took[edge] >= wanted:
            return lower + (min(edge, 10_000.0) - lower) * (wanted - passed) / took[edge]
        passed += took[edge]
        lower = edge
    return None


def work(listeners: Iterable[Listener], begin: float, end: float) -> Work:
    """Return the work of these guests between two moments of the monotonic clock."""
    slots, met, kills, swap = 0.0, 0, 0, 0.0
    took: dict[float, int] = {}
    bursts: list[float] = []
    for one in listeners:
        last = one.at(end)
        if last is None:
            continue
        first = one.at(begin) or one.heard[0]
        silent = end - last.at
        slots += (last.ran - first.ran + (silent if silent > SILENT_SECONDS else 0.0)) * SLOTS_PER_SECOND
        met += last.met - first.met
        kills += max(last.kills - first.kills, last.oom - first.oom)
        swap += last.swap / 1024
        for edge, count in last.took.items():
            took[edge] = took.get(edge, 0) + count - first.took.get(edge, 0)
        bursts += grown(one.heard, begin, end)
    return Work(slots, met, took, bursts, swap, kills)


def grown(heard: Sequence[DemandLine], begin: float, end: float) -> list[float]:
    """Return the growth times (s) of bursts that were full between these moments."""
    ended = [now for before, now in itertools.pairwise(heard) if now.bursts > before.bursts and now.filled]
    return [line.filled for line in ended if begin < line.at <= end]
