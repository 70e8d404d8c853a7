"""Lists of CPUs and nodes as the kernel and people write them (`0-3,8`), and numbers out of fields."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

from mom_core import Guest, as_number, as_whole


def format_list(numbers: AbstractSet[int]) -> str:
    """The shortest text for these numbers: `0-3,8`."""
    parts: list[str] = []
    rest = sorted(numbers)
    first = 0
    for index, number in enumerate(rest):
        if index + 1 < len(rest) and rest[index + 1] == number + 1:
            continue
        parts.append(str(number) if index == first else f"{rest[first]}-{number}")
        first = index + 1
    return ",".join(parts)


def memory_by_node(guest: Guest) -> dict[int, float]:
    """The guest's memory on each node, in KiB; empty when it is unknown."""
    found: dict[int, float] = {}
    for item in guest.items("numa_memory") or ():
        node, amount = as_whole(item.get("node")), as_number(item.get("size"))
        if node is None or amount is None:
            return {}
        found[node] = amount
    return found


def shares(amounts: Mapping[int, float]) -> dict[int, float]:
    """Each amount as a ratio of all of them; empty when there is nothing."""
    total = sum(amounts.values())
    return {node: amount / total for node, amount in amounts.items()} if total > 0 else {}


def remote_share(memory: Mapping[int, float], cpus: Mapping[int, float]) -> float | None:
    """The ratio of accesses that go to another node than the one on which the CPU is, if all memory is used alike.

    :param memory: how much of it is on each node, in any unit
    :param cpus: how much CPU time is spent on each node, in any unit
    :return: None when there is no memory or no CPU time
    """
    held, spent = shares(memory), shares(cpus)
    if not held or not spent:
        return None
    near = sum(share * spent.get(node, 0.0) for node, share in held.items())
    return min(1.0, max(0.0, 1.0 - near))
