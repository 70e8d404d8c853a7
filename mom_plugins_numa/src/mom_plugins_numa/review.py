"""What all plugins' decisions about NUMA come to: written as they are read back, and never into memory that is not there. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from mom_core import Decision, Guest, Revision, Snapshot, Value, as_number, as_whole, format_kib
from mom_plugins_numa.fields import MOVE_TO, NODESET, NOWHERE, PINS, parse_pins, pins_text
from mom_plugins_numa.numbers import by_node, format_list, parse_list
from mom_plugins_numa.placement import Rules, reserve_of
from mom_plugins_numa.placement_decisions import being_moved, cpus_of
from mom_toolkit import Promises


def reviewed(snapshot: Snapshot, decisions: Sequence[Decision], rules: Rules, promises: Promises) -> Iterable[Revision]:
    """The revisions of these decisions; those on other plugins' controls are left alone."""
    nodes = {node: item for item in (snapshot.host.items("numa_nodes") or ()) if (node := as_whole(item.get("node"))) is not None}
    moving = next((guest for guest in snapshot.guests.values() if being_moved(guest)), None)
    for decision in decisions:
        guest = snapshot.guests.get(decision.entity.id)
        if guest is None:
            continue
        if decision.control == PINS:
            yield from _pins(decision, guest, nodes)
        elif decision.control == NODESET:
            yield from _nodeset(decision, guest, nodes, rules, promises)
        elif decision.control == MOVE_TO and decision.value not in {NOWHERE, guest.fields.get(MOVE_TO)}:
            reason = _not_to_be_moved(decision, guest, nodes, rules, promises)
            if not reason and moving is not None and moving.id != guest.id:
                reason = f"{moving.entity} is being moved: one guest at a time"
            if reason:
                yield Revision(decision, None, reason)
            else:
                moving = guest


def _pins(decision: Decision, guest: Guest, nodes: Mapping[int, Mapping[str, Value]]) -> Iterable[Revision]:
    wanted = parse_pins(str(decision.value))
    every = frozenset().union(*(cpus_of(item) for item in nodes.values()))
    if wanted is None:
        yield Revision(decision, None, f"{decision.value!r:.60} is no list of CPUs, such as 0-3 or 0-1;2-3")
    elif nodes and any(not cpus & every for cpus in wanted):
        yield Revision(decision, None, f"none of these CPUs is online; there are {format_list(every)}")
    elif pins_text(wanted) != decision.value:
        yield Revision(decision, replace(decision, value=pins_text(wanted)), "written as it is read back")


def _nodeset(
    decision: Decision, guest: Guest, nodes: Mapping[int, Mapping[str, Value]], rules: Rules, promises: Promises
) -> Iterable[Revision]:
    wanted = parse_list(str(decision.value))
    if not wanted:
        yield Revision(decision, None, f"{decision.value!r:.60} is no list of nodes, such as 0 or 0-1")
        return
    before = parse_list(str(guest.fields.get(NODESET) or ""))
    text = format_list(wanted)
    if not (before and before <= wanted):  # only what narrows the choice can leave the guest short
        reason = _too_small(wanted, guest, nodes, rules, promises)
        if reason:
            yield Revision(decision, None, reason)
            return
    if text != decision.value:
        yield Revision(decision, replace(decision, value=text), "written as it is read back")


def _too_small(wanted: frozenset[int], guest: Guest, nodes: Mapping[int, Mapping[str, Value]], rules: Rules, promises: Promises) -> str:
    """Why these nodes cannot take what the guest has, and what it was promised; empty when they can."""
    strange = wanted - nodes.keys()
    if strange:
        return f"there is no NUMA node {format_list(strange)}" if nodes else "the host's NUMA nodes are not known"
    rooms = {node: _room(nodes[node], rules) for node in wanted}
    known = [room for room in rooms.values() if room is not None]
    if len(known) < len(rooms):
        return "what the nodes have available is not known"
    held = by_node(guest.fields.get("numa_memory"), "size") or {}
    need = _need(guest, held, promises)
    if need is None:
        return "how much memory the guest needs is not known"
    missing = need - sum(held.get(node, 0.0) for node in wanted) - sum(known)
    if missing <= 0:
        return ""
    return f"the guest needs {format_kib(need)}: {format_kib(missing)} more than node {format_list(wanted)} can give it"


def _not_to_be_moved(decision: Decision, guest: Guest, nodes: Mapping[int, Mapping[str, Value]], rules: Rules, promises: Promises) -> str:
    node = as_whole(decision.value)
    if node is None or node not in nodes:
        return f"there is no NUMA node {decision.value}" if nodes else "the host's NUMA nodes are not known"
    bound = parse_list(str(guest.fields.get(NODESET) or ""))
    if bound and node not in bound:
        return f"its memory may come from node {format_list(bound)} only: set {NODESET} first"
    return _too_small(frozenset({node}), guest, nodes, rules, promises)


def _room(item: Mapping[str, Value], rules: Rules) -> float | None:
    """KiB that a node can still take."""
    total, available = as_number(item.get("total")), as_number(item.get("available"))
    return None if total is None or available is None else max(0.0, available - reserve_of(total, rules))


def _need(guest: Guest, held: Mapping[int, float], promises: Promises) -> float | None:
    """KiB that the guest must find there: what it has, its size, and what it was promised."""
    known = [size for size in (guest.number("balloon_cur"), promises.guaranteed_kib(guest)) if size is not None]
    return max([*known, sum(held.values())]) if known or held else None
