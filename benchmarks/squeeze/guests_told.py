"""What the programs in squeezed guests print (tests/real/demand.c), and what that says of their work, latency, bursts, swap and kills."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SLOTS_PER_SECOND = 10.0
SILENT_SECONDS = 3.0
"""A program that has said nothing for longer does not work: it says something every second."""

_LINE = re.compile(
    rb"DEMAND (?P<since>-?[\d.]+) held=(?P<held>\d+) lost=[\d.]+ filled=(?P<filled>[\d.]+) kills=(?P<kills>\d+) ran=(?P<ran>[\d.]+) "
    rb"met=(?P<met>\d+) bursts=(?P<bursts>\d+) swap=(?P<swap>-?\d+) oom=(?P<oom>-?\d+) took=(?P<took>[\d.e+:,]*)\r?\n"
)

_PROGRAM = re.compile(rb"PROGRAM (\w+) ([\d.,]+)\r?\n")
"""Latencies of a real program (guest_programs.py), in ms."""


@dataclass(frozen=True)
class Told:
    """One line. `at` is the host's monotonic clock when it was read; counts are since the program's start; swap in KiB; `took` is the
    number of slots by the ms that they took at most."""

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


def lines(text: bytes, at: float) -> list[Told]:
    """All whole lines in what was printed."""
    return [_told(match, at) for match in _LINE.finditer(text)]


def _told(match: re.Match[bytes], at: float) -> Told:
    took = {float(edge): int(count) for edge, count in (pair.split(b":") for pair in match["took"].split(b",") if pair)}
    return Told(
        at,
        float(match["since"]),
        int(match["held"]),
        float(match["filled"]),
        int(match["kills"]),
        float(match["ran"]),
        int(match["met"]),
        int(match["bursts"]),
        int(match["swap"]),
        int(match["oom"]),
        took,
    )


@dataclass
class Listener:
    """Follows what one guest prints."""

    path: Path
    heard: list[Told] = field(default_factory=list)
    latencies: list[tuple[float, str, float]] = field(default_factory=list)
    _offset: int = 0
    _rest: bytes = b""

    def listen(self, now: float) -> None:
        """Read what is new."""
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

    def at(self, time: float) -> Told | None:
        """The last line that had been read at that time."""
        return next((told for told in reversed(self.heard) if told.at <= time), None)


@dataclass(frozen=True)
class Work:
    """What several guests did in a while: slots that passed, and those that were done in time; of how many slots the work took up to how
    many ms; how long bursts took to grow (s); MiB of swap in use at the end; kills."""

    slots: float
    met: int
    took: Mapping[float, int]
    bursts: Sequence[float]
    swap: float
    kills: int

    @property
    def share(self) -> float:
        """Ratio of slots that were done in time."""
        return min(1.0, self.met / self.slots) if self.slots else 0.0

    @property
    def p99_ms(self) -> float | None:
        """ms that a slot's work took at most, in 99 of 100 slots; to within the edges at which they are counted."""
        return quantile(self.took, 0.99)


def quantile(took: Mapping[float, int], ratio: float) -> float | None:
    """The edge below which so large a part of what was counted lies, between two edges in proportion."""
    wanted, passed, lower = ratio * sum(took.values()), 0, 0.0
    for edge in sorted(took):
        if took[edge] and passed + took[edge] >= wanted:
            return lower + (min(edge, 10_000.0) - lower) * (wanted - passed) / took[edge]
        passed += took[edge]
        lower = edge
    return None


def work(listeners: Iterable[Listener], begin: float, end: float) -> Work:
    """What these guests did between two moments of the monotonic clock."""
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


def grown(heard: Sequence[Told], begin: float, end: float) -> list[float]:
    """How long each burst took to grow that was full between these two moments."""
    ended = [now for before, now in itertools.pairwise(heard) if now.bursts > before.bursts and now.filled]
    return [told.filled for told in ended if begin < told.at <= end]
