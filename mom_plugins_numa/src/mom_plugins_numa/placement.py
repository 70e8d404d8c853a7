"""Which guest should be on which node: numbers in, at most one move out. Nothing here reads or changes anything.

A guest whose CPUs and memory are on one node has only near accesses. Moving it there costs a copy of each page that is elsewhere. Both are
counted in seconds of CPU time, so that they can be compared:

    gain   = busy CPUs x memory accesses of a busy CPU x what each of them waits less, for as long as the load is expected to last
    cost   = pages that are elsewhere x what moving one takes
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mom_plugins_numa.numbers import format_list, shares

ACCESSES = 10e6
"""Accesses to memory, beyond all caches, in a second of a busy CPU. At 64 bytes each this is 640 MB/s: for a server's programs,
0.2 to 4 GB/s on one CPU are usual, and this is on the careful side."""

NEAR_SECONDS = 90e-9
"""How long an access to the own node takes: 80 to 100 ns are usual. To another node, the distance tells how many times as long."""

NEAR_DISTANCE = 10
"""The distance from a node to itself, by definition (ACPI's SLIT)."""

USUAL_DISTANCE = 20
"""Between nodes whose distance firmware does not tell: what Linux takes then (REMOTE_DISTANCE)."""

OVERLAP = 0.15
"""Share of an access' time for which the program really waits: CPUs have about six of them under way at once. With the numbers above, a
guest whose memory is all at the usual distance loses 13 % of its CPU time; on servers of two sockets, 10 to 30 % were measured."""

PAGE_KIB = 4
MOVE_SECONDS = 8e-6
"""What moving a page of 4 KiB takes: 4 us in the kernel with one thread (1 GiB/s), and as much in a guest that waits for the page and fills
its caches again."""


@dataclass(frozen=True, slots=True)
class NodeRoom:
    """A node: KiB in total and `available` without swapping, its CPUs, and how many of them guests keep `busy` (a sum, such as 2.5)."""

    node: int
    total: float
    available: float
    cpus: frozenset[int]
    busy: float
    distances: Mapping[int, int] = field(default_factory=dict)

    @property
    def cpu_list(self) -> str:
        """Its CPUs, as they are written."""
        return format_list(self.cpus)

    def distance(self, other: int) -> int:
        """To another node."""
        return self.distances.get(other, NEAR_DISTANCE if other == self.node else USUAL_DISTANCE)


@dataclass(frozen=True, slots=True)
class MovableGuest:
    """A guest that may be moved: KiB of memory by node, what it may come to hold (`size`), how many vCPUs, the share of their time by
    node, and how many CPUs they keep busy. `nodes`: where its memory may be."""

    guest: str
    memory: Mapping[int, float]
    size: float
    vcpus: int
    cpus: Mapping[int, float]
    busy: float
    nodes: frozenset[int]

    def elsewhere(self, node: int) -> float:
        """KiB that are not on that node."""
        return sum(size for other, size in self.memory.items() if other != node)

    def needs(self, node: int) -> float:
        """KiB that it may come to need there besides what it has there."""
        return max(self.elsewhere(node), self.size - self.memory.get(node, 0.0))


@dataclass(frozen=True, slots=True)
class Rules:
    """When a move is worth it."""

    reserve_kib: float | None = None
    """What stays available on a node to which a guest goes. None: as `reserve_of` says."""

    lasts: float = 600.0
    """Seconds for which a load is expected to go on as it is: the usual guess, as long again as it was watched, with looks that take a
    few minutes to agree."""

    payback: float = 2.0
    """How many times its cost a move must gain: both are estimates, either of which may be wrong by half."""

    least_gain: float = 0.02
    """CPUs that a move must gain. Below that, not even a busy guest would notice it."""

    cpu_ceiling: float = 0.7
    """Ratio of a node's CPUs that guests may keep busy after a move: pinned guests cannot go elsewhere when they all work at once."""


@dataclass(frozen=True, slots=True)
class GuestMove:
    """A guest should go to a node: CPUs that it gains, CPU seconds that it costs, and KiB that are moved."""

    guest: str
    node: int
    gain: float
    cost: float
    moves_kib: float


def reserve_of(total_kib: float, rules: Rules) -> float:
    """What is kept available on a node of that size: 5 % and 512 MiB at least, far above the watermarks at which the kernel reclaims."""
    return rules.reserve_kib if rules.reserve_kib is not None else max(0.05 * total_kib, 512 * 1024.0)


def waiting(place: MovableGuest, rooms: Mapping[int, NodeRoom], cpus: Mapping[int, float], memory: Mapping[int, float]) -> float:
    """CPUs' worth of time that the guest loses because accesses take longer than near ones."""
    spent, held = shares(cpus), shares(memory)
    far = sum(
        here * there * max(0.0, rooms[node].distance(other) / NEAR_DISTANCE - 1)
        for node, here in spent.items()
        for other, there in held.items()
        if node in rooms
    )
    return place.busy * ACCESSES * NEAR_SECONDS * OVERLAP * far


def fits(place: MovableGuest, room: NodeRoom, rules: Rules) -> str:
    """Why the guest does not fit on that node; empty when it does."""
    if room.node not in place.nodes:
        return "its memory may not come from there"
    if place.vcpus > len(room.cpus):
        return f"it has {place.vcpus} vCPUs, and the node {len(room.cpus)} CPUs"
    needs = place.needs(room.node)
    if needs > 0 and room.available - needs < reserve_of(room.total, rules):
        return "there is too little memory"
    own = place.busy * shares(place.cpus).get(room.node, 0.0)
    if room.busy - own + place.busy > rules.cpu_ceiling * len(room.cpus):
        return "its CPUs are too busy"
    return ""


def weigh(place: MovableGuest, room: NodeRoom, rooms: Mapping[int, NodeRoom], rules: Rules) -> GuestMove | None:
    """The move of this guest to that node; None when it does not fit or is not worth it."""
    if fits(place, room, rules):
        return None
    there = {room.node: 1.0}
    gain = waiting(place, rooms, place.cpus, place.memory) - waiting(place, rooms, there, there)
    moves = place.elsewhere(room.node)
    cost = moves / PAGE_KIB * MOVE_SECONDS
    if gain < rules.least_gain or gain * rules.lasts < rules.payback * cost:
        return None
    return GuestMove(place.guest, room.node, gain, cost, moves)


def steps(places: Iterable[MovableGuest], rooms: Sequence[NodeRoom], rules: Rules) -> list[GuestMove]:
    """For each guest that should be moved the best move, those first that gain most in the time for which loads are expected to last, less
    what they cost. Only one of them can be made: the others were weighed with the room that there is before it."""
    by_node = {room.node: room for room in rooms}
    if len(by_node) < 2:
        return []

    def worth(step: GuestMove) -> tuple[float, str, int]:
        return step.gain * rules.lasts - step.cost, step.guest, -step.node

    found = []
    for place in places:
        possible = [step for room in rooms if (step := weigh(place, room, by_node, rules)) is not None]
        if possible:
            found.append(max(possible, key=worth))
    return sorted(found, key=worth, reverse=True)
