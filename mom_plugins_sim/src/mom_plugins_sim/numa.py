"""NUMA nodes of the simulated host: on which node each guest's memory is and its vCPUs run, how memory moves, and what distance costs.

Sizes in KiB. Only simulated where the scene has more than one node.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

MIB = 1024

NEAR, FAR = 10, 21
"""Distances as firmware gives them (ACPI's SLIT): to the own node, which is 10 by definition, and between two sockets."""

REMOTE_COST = 0.15
"""Ratio of a busy vCPU's time that is lost when its memory is all on another node: on two-socket servers, 10 to 30 % were measured."""

MOVE_RATE = 1024 * MIB
"""KiB/s at which the kernel moves pages from one node to another with one thread: a copy, and a flush of what CPUs remember of the page."""

MOVE_WAIT = 2e-6
"""Seconds of work that each KiB costs that is moved: 4 us for a page at the rate above, and as much for the guest that meets it."""

WANDER_SECONDS = 60.0
"""How long the scheduler leaves a vCPU that may run anywhere on one node, on average."""

SEEN_SECONDS = 120.0
"""Over how long it is seen where CPU time is spent: a few looks of one a minute."""

BUSY = (0.1, 0.6)
"""How busy each of a guest's vCPUs is, as a ratio of one CPU: drawn for each guest."""


@dataclass(slots=True)
class GuestOnNodes:
    """Where one guest is.

    `held` is its memory on each node, `allowed` the nodes from which memory may come, `pins` the CPUs of each vCPU, `busy` the ratio of one
    CPU that each vCPU uses. `runs_on` is the node of each vCPU now, until `wanders_at`. `waited` is the seconds of work lost to distance.
    """

    held: list[float]
    allowed: frozenset[int]
    pins: list[frozenset[int]]
    busy: float
    source: random.Random
    runs_on: list[int] = field(default_factory=list)
    wanders_at: float = 0.0
    waited: float = 0.0
    usual: list[float] = field(default_factory=list)
    """The share of CPU time on each node over the last minutes, which is what can be seen of it."""

    @property
    def cpu_shares(self) -> list[float]:
        """The share of the vCPUs that run on each node now."""
        return [self.runs_on.count(node) / len(self.runs_on) for node in range(len(self.held))]

    def remote(self, shares: Sequence[float]) -> float:
        """The share of accesses that go to another node, with such shares of CPU time, if all memory is used alike."""
        total = sum(self.held)
        return 0.0 if total <= 0 else 1.0 - sum(s * h for s, h in zip(shares, self.held, strict=True)) / total


class Nodes:
    """The host's nodes: `count` of the same size, with so many CPUs together."""

    def __init__(self, count: int, memory: float, cpus: int, seed: int) -> None:
        self.count = count
        self.total = memory / count
        self.cpus = [frozenset(range(node * cpus // count, (node + 1) * cpus // count)) for node in range(count)]
        self.free = [self.total] * count
        self._every_cpu = frozenset(range(cpus))
        self._seed = seed

    def new_guest(self, identity: str, vcpus: int) -> GuestOnNodes:
        """A guest that may be anywhere."""
        source = random.Random(f"{self._seed}:{identity}")  # noqa: S311  # a world that repeats itself is the purpose
        nodes = frozenset(range(self.count))
        return GuestOnNodes([0.0] * self.count, nodes, [self._every_cpu] * vcpus, source.uniform(*BUSY), source)

    def pin(self, guest: GuestOnNodes, vcpu: int, cpus: AbstractSet[int]) -> None:
        """Let a vCPU run on these CPUs only. It goes there at once."""
        guest.pins[vcpu] = frozenset(cpus) & self._every_cpu
        guest.wanders_at = 0.0

    def step(self, guests: Iterable[tuple[GuestOnNodes, float]], system: float, time: float, dt: float) -> None:
        """Move on to `time + dt`: vCPUs wander, memory comes and goes where they run, and moves to where it is allowed.

        :param guests: each with what it has touched
        :param system: what the host's own system and programs hold, spread over all nodes
        """
        there = list(guests)
        self.free = [self.total - system / self.count - sum(guest.held[node] for guest, _ in there) for node in range(self.count)]
        movable = MOVE_RATE * dt
        for guest, touched in there:
            if time >= guest.wanders_at:
                self._wander(guest, time)
            self._follow(guest, touched)
            movable -= self._move(guest, movable)
            self._remember(guest, dt)
            distance = (FAR - NEAR) / NEAR
            guest.waited += dt * guest.busy * REMOTE_COST * distance * guest.remote(guest.cpu_shares)

    @staticmethod
    def _remember(guest: GuestOnNodes, dt: float) -> None:
        kept = math.exp(-dt / SEEN_SECONDS)
        now = guest.cpu_shares
        guest.usual = [kept * old + (1 - kept) * new for old, new in zip(guest.usual or now, now, strict=True)]

    def _wander(self, guest: GuestOnNodes, time: float) -> None:
        """A vCPU that may be anywhere ends up anywhere: the scheduler balances CPUs, and does not know of memory."""
        draw = guest.source.random
        nodes = range(self.count)
        runs_on = []
        for pins in guest.pins:
            weights = [len(pins & self.cpus[node]) for node in nodes]
            at = draw() * sum(weights)
            node = 0
            while node < self.count - 1 and at >= weights[node]:
                at -= weights[node]
                node += 1
            runs_on.append(node)
        guest.runs_on = runs_on
        guest.wanders_at = time + WANDER_SECONDS * (0.5 + draw())

    def _follow(self, guest: GuestOnNodes, touched: float) -> None:
        """New memory comes from where the vCPUs run, or else from the allowed node with the most room. What is given back is spread."""
        held = sum(guest.held)
        if touched < held:
            for node in range(self.count):
                given = guest.held[node] * (1 - touched / held)
                guest.held[node] -= given
                self.free[node] += given
            return
        grows = touched - held
        for node, share in enumerate(guest.cpu_shares):
            if share and node in guest.allowed:
                self._take(guest, node, min(grows * share, max(0.0, self.free[node])))
        self._spill(guest, touched - sum(guest.held))

    def _spill(self, guest: GuestOnNodes, rest: float) -> None:
        for node in sorted(guest.allowed, key=lambda node: (-self.free[node], node)):
            taken = min(rest, max(0.0, self.free[node]))
            self._take(guest, node, taken)
            rest -= taken
        if rest > 0:  # the host as a whole is short, and swaps: that is not a matter of nodes
            self._take(guest, min(guest.allowed), rest)

    def _take(self, guest: GuestOnNodes, node: int, size: float) -> None:
        guest.held[node] += size
        self.free[node] -= size

    def _move(self, guest: GuestOnNodes, most: float) -> float:
        """Memory that is where it may not be moves, as far as there is room. How much it was."""
        moved = 0.0
        for node in range(self.count):
            if node in guest.allowed or guest.held[node] <= 0:
                continue
            for target in sorted(guest.allowed, key=lambda target: (-self.free[target], target)):
                size = min(guest.held[node], most - moved, max(0.0, self.free[target]))
                self._take(guest, node, -size)
                self._take(guest, target, size)
                moved += size
                guest.waited += size * MOVE_WAIT
        return moved


def cpu_text(cpus: AbstractSet[int]) -> str:
    """CPUs as the kernel writes them: `0-3,8`."""
    parts: list[str] = []
    rest = sorted(cpus)
    for first, last in _runs(rest):
        parts.append(str(first) if first == last else f"{first}-{last}")
    return ",".join(parts)


def _runs(numbers: Sequence[int]) -> Iterable[tuple[int, int]]:
    first = last = -2
    for number in numbers:
        if number != last + 1:
            if last >= 0:
                yield first, last
            first = number
        last = number
    if last >= 0:
        yield first, last
