"""Review of all plugins' decisions about NUMA: written as they are read back, and never into memory that is not there. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from mom_core import Decision, Guest, Revision, Snapshot, Value, as_number, as_whole, format_kib
from mom_kvm import Promises, parse_number_list
from mom_plugins_host.numa.fields import NODESET, PINS, parse_pins, pins_text
from mom_plugins_host.numa.numbers import format_list, memory_by_node

RESERVE_SHARE = 0.05
RESERVE_KIB = 512 << 10
"""So much stays available on a node when guests are bound to it: 5 % of it and 512 MiB at least, far above the watermarks at which the
kernel reclaims."""

OLDEST_SECONDS = 180.0
"""How old a sample may be that says what of a guest's memory is on a node already: three turns of the sampler where it keeps up. With many
guests a sample may be most of an hour old, and the memory elsewhere."""

_Nodes = Mapping[int, Mapping[str, Value]]


def reviewed(snapshot: Snapshot, decisions: Sequence[Decision], promises: Promises) -> Iterable[Revision]:
    """The revisions of these decisions; those on other plugins' controls are left alone."""
    nodes = {node: item for item in (snapshot.host.items("numa_nodes") or ()) if (node := as_whole(item.get("node"))) is not None}
    taken = dict.fromkeys(nodes, 0.0)
    for decision in decisions:
        guest = snapshot.guests.get(decision.entity.id)
        if guest is None or decision.control not in {PINS, NODESET}:
            continue
        refusal, text = _pins(decision, nodes) if decision.control == PINS else _nodeset(decision, guest, nodes, taken, promises)
        if refusal:
            yield Revision(decision, None, refusal)
        elif text != decision.value:
            yield Revision(decision, replace(decision, value=text), "written as it is read back")


def _pins(decision: Decision, nodes: _Nodes) -> tuple[str, str]:
    """Why these pins are refused, and how they are written."""
    wanted = parse_pins(str(decision.value))
    if wanted is None:
        return f"{decision.value!r:.60} is no list of CPUs, such as 0-3 or 0-1;2-3", ""
    online = frozenset().union(*(_cpus_of(item) for item in nodes.values()))
    if nodes and any(not cpus & online for cpus in wanted):
        return f"none of these CPUs is online; there are {format_list(online)}", ""
    return "", pins_text(wanted)


def _cpus_of(item: Mapping[str, Value]) -> frozenset[int]:
    cpus = item.get("cpus")
    return (parse_number_list(cpus) if isinstance(cpus, str) else None) or frozenset()


def _nodeset(decision: Decision, guest: Guest, nodes: _Nodes, taken: dict[int, float], promises: Promises) -> tuple[str, str]:
    """Why these nodes are refused, and how they are written.

    :param taken: KiB that guests bound before this one in the cycle take on each node, which follows
    """
    wanted = parse_number_list(str(decision.value))
    if not wanted:
        return f"{decision.value!r:.60} is no list of nodes, such as 0 or 0-1", ""
    before = parse_number_list(str(guest.fields.get(NODESET) or ""))
    widens = bool(before) and before is not None and before <= wanted  # only what narrows the choice can leave the guest short
    return "" if widens else _too_small(wanted, guest, nodes, taken, promises), format_list(wanted)


def _too_small(wanted: frozenset[int], guest: Guest, nodes: _Nodes, taken: dict[int, float], promises: Promises) -> str:
    """Why these nodes cannot take what the guest has, and what it was promised; empty when they can."""
    strange = wanted - nodes.keys()
    if strange:
        return f"there is no NUMA node {format_list(strange)}" if nodes else "the host's NUMA nodes are not known"
    headrooms = [max(0.0, headroom - taken[node]) for node in wanted if (headroom := _headroom(nodes[node])) is not None]
    if len(headrooms) < len(wanted):
        return "what the nodes have available is not known"
    seen, age = memory_by_node(guest), guest.number("numa_memory_age")
    held = sum(seen.get(node, 0.0) for node in wanted) if age is not None and age <= OLDEST_SECONDS else 0.0
    sizes = [size for size in (guest.number("balloon_cur"), promises.guaranteed_kib(guest)) if size]
    if not sizes and not seen:
        return "how much memory the guest needs is not known"
    need = max([*sizes, sum(seen.values())])
    missing = need - held - sum(headrooms)
    if missing <= 0:
        for node in wanted:  # it may have all of it from any of them; whom this refuses too much is bound in a later cycle
            taken[node] += max(0.0, need - held)
        return ""
    return f"the guest needs {format_kib(need)}: {format_kib(missing)} more than node {format_list(wanted)} can give it"


def _headroom(item: Mapping[str, Value]) -> float | None:
    """KiB that a node can still take."""
    total, available = as_number(item.get("total")), as_number(item.get("available"))
    return None if total is None or available is None else max(0.0, available - max(RESERVE_SHARE * total, RESERVE_KIB))
