"""From snapshots to decisions about placement, and what has to be remembered between them: who was moved, when, and what stood before.

A guest that is at home on a node has its vCPUs pinned to the node's CPUs, which keeps new memory there too, with the other nodes to
fall back on. Memory that is elsewhere is moved once. The guest's choice of nodes is narrowed only where the hypervisor itself moves memory:
a guest bound to a full node would swap beside free memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Final

from pydantic import TypeAdapter

from mom_core import Decision, Guest, Snapshot, Source, StateError, StateFile, Value, as_number, as_whole, format_kib
from mom_plugins_numa.fields import MOVE_TO, NODESET, NOWHERE, PINS
from mom_plugins_numa.moves import Stage
from mom_plugins_numa.numbers import by_node, parse_list
from mom_plugins_numa.placement import GuestMove, MovableGuest, NodeRoom, Rules, reserve_of, steps

AGREE_SECONDS = 120.0
"""How long the same move must be worth it before it is made: two looks at each guest with the usual settings."""

AGREE_CYCLES = 3
"""In how many cycles at least, should they be further apart."""

COOLDOWN_SECONDS = 1800.0
"""How long a guest is left alone after a move or an attempt: three times as long as a load is expected to last."""

GAP_SECONDS = 60.0
"""From the end of one move to the next: by then the numbers have followed."""

TAKES_SECONDS = 60.0
"""After that long without effect, a decision is taken to have none: mom only observes, or a review or the hypervisor refuses it."""

LONGEST_SECONDS = 600.0
"""A move by the hypervisor counts as over after this, however much is still elsewhere."""

OVER_SHARE = 0.02
"""A move by the hypervisor is over with less than this share of the memory elsewhere: QEMU's own, libraries, what is held in place."""

OLDEST_SECONDS = 600.0
"""Older looks tell nothing about now: it is as long as a load is expected to last."""


@dataclass(frozen=True, slots=True)
class Home:
    """A guest that was put on a node. `pins` and `nodeset` are what stood before (`nodeset` None: not touched); times are monotonic."""

    incarnation: str
    node: int
    pins: str
    nodeset: str | None = None
    since: float = 0.0
    moving: bool = True
    taken: bool = False
    leaving: str = ""
    """Why it goes back to where it was; empty while it stays."""


FORM: Final = TypeAdapter(dict[str, Home])
"""Of the homes that are kept, by guest id."""


@dataclass(frozen=True, slots=True)
class _Wish:
    """A guest should go to that node, since then, and in so many cycles without a break."""

    node: int
    since: float
    cycles: int = 1


class Placing:
    """Decides on placement, one move at a time.

    :param name: the plugin's, as the source of decisions
    :param enabled: otherwise guests that were placed are only let go
    :param eligible: whether a guest may be placed
    :param file: where homes are kept, so that a reload does not take them for pins that the operator has set
    """

    def __init__(
        self, name: str, rules: Rules, eligible: Callable[[Guest], bool], file: StateFile[dict[str, Home]], *, enabled: bool
    ) -> None:
        self._source = Source(name)
        self._rules = rules
        self._eligible = eligible
        self._enabled = enabled
        self._file = file
        self._homes: dict[str, Home] = {}
        self._kept: Mapping[str, Home] = {}
        self._left_alone: dict[str, float] = {}
        self._wishes: dict[str, _Wish] = {}
        self._quiet_until = float("-inf")

    def load(self) -> None:
        """Take over the homes that were kept: those of guests that are still pinned so. Without them, pins that stand count as the
        operator's until mom ends; what stood before them, the ledger knows."""
        kept = self._file.read() or {}
        self._homes = {guest: replace(home, since=float("-inf"), moving=False, taken=True) for guest, home in kept.items()}
        self._kept = dict(self._homes)

    def decide(self, snapshot: Snapshot) -> Iterable[Decision]:
        """What should be done now."""
        if not self._enabled and not self._homes:
            return []
        now = snapshot.monotonic
        rooms = rooms_of(snapshot)
        for identity in [identity for identity in self._left_alone if identity not in snapshot.guests]:
            del self._left_alone[identity]
        for identity in list(self._homes):
            self._follow(identity, snapshot.guests.get(identity), rooms, now)
        if self._enabled and not self._moving(snapshot) and now >= self._quiet_until:
            self._relieve(snapshot, rooms, now)
            self._consider(snapshot, rooms, now)
        decisions = [decision for identity, home in self._homes.items() for decision in self._of(snapshot.guests[identity], home, rooms)]
        self._keep()
        return decisions

    # --- homes -----------------------------------------------------------------------------------------------------------------

    def _follow(self, identity: str, guest: Guest | None, rooms: Mapping[int, NodeRoom], now: float) -> None:
        """See what has become of a guest that was put on a node."""
        home = self._homes[identity]
        room = rooms.get(home.node)
        if guest is None or guest.incarnation != home.incarnation:
            del self._homes[identity]
            return
        pins = guest.fields.get(PINS)
        if home.leaving:
            if pins == home.pins and (home.nodeset is None or guest.fields.get(NODESET) == home.nodeset):
                del self._homes[identity]
            return
        if room is None or pins is None:
            return  # unknown: hold
        if pins != room.cpu_list:
            if home.taken or now - home.since > TAKES_SECONDS:  # another process has changed it, or it was never applied
                del self._homes[identity]
                self._left_alone[identity] = now + COOLDOWN_SECONDS
            return
        home = replace(home, taken=True)
        stage = guest.fields.get("numa_move")
        if home.moving and self._over(guest, home, now):
            home = replace(home, moving=False)
            self._quiet_until = now + GAP_SECONDS
            if isinstance(stage, str) and stage.startswith(Stage.STOPPED) and home.nodeset is None:
                home = replace(home, leaving=stage)
        if not self._enabled or not self._may(guest):
            home = replace(home, leaving="placement is off for this guest")
        self._homes[identity] = home

    @staticmethod
    def _over(guest: Guest, home: Home, now: float) -> bool:
        if home.nodeset is None:
            stage = guest.fields.get("numa_move")
            return isinstance(stage, str) and stage.startswith((Stage.DONE, Stage.STOPPED))
        memory = by_node(guest.fields.get("numa_memory"), "size")
        if now - home.since > LONGEST_SECONDS:
            return True
        return memory is not None and sum(memory.values()) - memory.get(home.node, 0.0) <= OVER_SHARE * sum(memory.values())

    def _moving(self, snapshot: Snapshot) -> bool:
        """Whether a guest is on its way, whatever plugin sent it."""
        return any(home.moving for home in self._homes.values()) or any(being_moved(guest) for guest in snapshot.guests.values())

    def _of(self, guest: Guest, home: Home, rooms: Mapping[int, NodeRoom]) -> Iterable[Decision]:
        room = rooms.get(home.node)
        reason = home.leaving or f"its memory and CPUs belong on node {home.node}"
        if home.leaving:
            yield self._decision(guest, PINS, home.pins, reason)
            if home.nodeset is not None:
                yield self._decision(guest, NODESET, home.nodeset, reason)
        elif room is not None:
            yield self._decision(guest, PINS, room.cpu_list, reason)
            if home.nodeset is not None:
                yield self._decision(guest, NODESET, str(home.node), reason)
        if home.nodeset is None:
            if home.moving and not home.leaving:
                yield self._decision(guest, MOVE_TO, home.node, reason)
            elif guest.fields.get(MOVE_TO) == home.node:
                yield self._decision(guest, MOVE_TO, NOWHERE, "what could be moved was moved")

    def _decision(self, guest: Guest, control: str, value: Value, reason: str) -> Decision:
        return Decision(guest.entity, control, value, reason, self._source)

    # --- moves -----------------------------------------------------------------------------------------------------------------

    def _relieve(self, snapshot: Snapshot, rooms: Mapping[int, NodeRoom], now: float) -> None:
        """Let a guest go whose node has less left than half of what a move must leave: the one that was put there last."""
        for room in rooms.values():
            if room.available >= reserve_of(room.total, self._rules) / 2:
                continue
            there = [identity for identity, home in self._homes.items() if home.node == room.node and not home.leaving]
            if there:
                last = max(there, key=lambda identity: (self._homes[identity].since, identity))
                reason = f"node {room.node} has only {format_kib(room.available)} left"
                self._homes[last] = replace(self._homes[last], leaving=reason, moving=False)
                self._left_alone[last] = now + COOLDOWN_SECONDS
                self._quiet_until = now + GAP_SECONDS
                return

    def _consider(self, snapshot: Snapshot, rooms: Mapping[int, NodeRoom], now: float) -> None:
        """Look for a move that is worth it, and begin it when it has been the best one for long enough."""
        if now < self._quiet_until or not rooms:
            return
        every_cpu = frozenset().union(*(cpus_of(item) for item in (snapshot.host.items("numa_nodes") or ())))
        places = []
        for guest in snapshot.guests.values():
            if guest.id in self._homes or self._left_alone.get(guest.id, now) > now or not self._may(guest):
                continue
            place = place_of(guest, every_cpu)
            if place is not None:
                places.append(place)
        before, self._wishes = self._wishes, {}
        best: GuestMove | None = None
        for step in steps(places, list(rooms.values()), self._rules):
            wish = before.get(step.guest)
            wish = replace(wish, cycles=wish.cycles + 1) if wish is not None and wish.node == step.node else _Wish(step.node, now)
            self._wishes[step.guest] = wish
            if best is None and now - wish.since >= AGREE_SECONDS and wish.cycles >= AGREE_CYCLES:
                best = step
        if best is not None:
            self._begin(best, snapshot.guests[best.guest], now)

    def _begin(self, step: GuestMove, guest: Guest, now: float) -> None:
        nodeset = None if _moves_by_pages(guest) else str(guest.fields.get(NODESET))
        self._homes[guest.id] = Home(guest.incarnation, step.node, str(guest.fields[PINS]), nodeset, now)
        self._left_alone[guest.id] = now + COOLDOWN_SECONDS

    def _may(self, guest: Guest) -> bool:
        way = MOVE_TO if _moves_by_pages(guest) else NODESET
        return self._eligible(guest) and not {"*", PINS, way} & guest.blocked.keys()

    def _keep(self) -> None:
        """Write down the homes when they have changed."""
        wanted = {guest: home for guest, home in self._homes.items() if home.taken}
        if wanted == self._kept:
            return
        with suppress(StateError):  # tried again in the next cycle; mom says what is wrong with the file
            self._file.write({guest: asdict(replace(home, since=0.0)) for guest, home in wanted.items()}, durable=False)
            self._kept = wanted


# --- from fields to numbers --------------------------------------------------------------------------------------------------------


def being_moved(guest: Guest) -> bool:
    """Whether pages of it are being moved, or will be."""
    stage = guest.fields.get("numa_move")
    return isinstance(stage, str) and stage in {Stage.MOVING, Stage.WAITING}


def cpus_of(item: Mapping[str, Value]) -> frozenset[int]:
    """The CPUs of an item of the field numa_nodes."""
    return parse_list(str(item.get("cpus", ""))) or frozenset()


def rooms_of(snapshot: Snapshot) -> dict[int, NodeRoom]:
    """The nodes with memory; empty when something about them is unknown, or a guest could keep any number of CPUs busy."""
    busy = _busy_by_node(snapshot)
    if busy is None:
        return {}
    listed = snapshot.host.items("numa_nodes") or ()
    numbers = [as_whole(item.get("node")) for item in listed]
    anywhere = busy.get(NOWHERE, 0.0)
    rooms: dict[int, NodeRoom] = {}
    for item, node in zip(listed, numbers, strict=True):
        total, available = as_number(item.get("total")), as_number(item.get("available"))
        if node is None or total is None or available is None:
            return {}
        if total <= 0:
            continue
        rooms[node] = NodeRoom(node, total, available, cpus_of(item), busy.get(node, 0.0) + anywhere, _distances(item, numbers))
    return rooms


def _distances(item: Mapping[str, Value], nodes: Sequence[int | None]) -> dict[int, int]:
    """From a node to each other one, where all of them are known."""
    row = item.get("distances")
    if not isinstance(row, Sequence) or isinstance(row, str) or len(row) != len(nodes):
        return {}
    return {node: far for node, far in zip(nodes, row, strict=True) if node is not None and isinstance(far, int)}


def _busy_by_node(snapshot: Snapshot) -> dict[int, float] | None:
    """CPUs that guests keep busy, by node; at NOWHERE, those that may be anywhere. None when it is unknown how many vCPUs a guest has."""
    busy: dict[int, float] = {}
    for guest in snapshot.guests.values():
        usage, cpus = guest.number("numa_vcpu_usage"), by_node(guest.fields.get("numa_cpus"), "share")
        if usage is None or cpus is None:
            vcpus = guest.whole("vcpu_count")
            if vcpus is None:
                return None
            busy[NOWHERE] = busy.get(NOWHERE, 0.0) + vcpus  # the worst that it can do, everywhere
            continue
        for node, share in cpus.items():
            busy[node] = busy.get(node, 0.0) + share * usage / 100
    return busy


def place_of(guest: Guest, every_cpu: frozenset[int]) -> MovableGuest | None:
    """The guest as the policy sees it; None when something about it is unknown, or its vCPUs are pinned already."""
    fields = guest.fields
    memory, cpus = by_node(fields.get("numa_memory"), "size"), by_node(fields.get("numa_cpus"), "share")
    usage, age, size = (guest.number(name) for name in ("numa_vcpu_usage", "numa_memory_age", "balloon_cur"))
    vcpus, pins, nodeset = guest.whole("vcpu_count"), guest.text(PINS), guest.text(NODESET)
    if memory is None or cpus is None or usage is None or size is None or not vcpus or pins is None:
        return None
    if age is None or age > OLDEST_SECONDS or nodeset is None or (_moves_by_pages(guest) and MOVE_TO not in fields):
        return None
    allowed = parse_list(pins)
    if allowed is None or not every_cpu <= allowed:
        return None
    nodes = parse_list(nodeset) or frozenset()
    return MovableGuest(guest.id, memory, size, vcpus, cpus, usage / 100, nodes)


def _moves_by_pages(guest: Guest) -> bool:
    """Whether its memory is a process' of this host. Otherwise the hypervisor that tells where it is moves it, too: a simulated host."""
    return "pid" in guest.properties
