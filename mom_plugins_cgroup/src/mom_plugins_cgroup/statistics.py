"""What the kernel counts for a guest's group, and how fast that grows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mom_core import Value
from mom_plugins_cgroup.files import Files
from mom_plugins_cgroup.groups import GuestGroups
from mom_plugins_cgroup.names import ANON, CURRENT, FILE, LOCKED, REFAULTS, SHMEM, STALL, SWAP
from mom_toolkit import Pressure, parse_pressure

_SHORTEST_SECONDS = 0.2
"""A rate over less says more about when the kernel updates its counters than about the guest."""

_V2_STAT = {ANON: b"anon", FILE: b"file", SHMEM: b"shmem", LOCKED: b"unevictable"}
_V1_STAT = {ANON: b"total_rss", FILE: b"total_cache", SHMEM: b"total_shmem", LOCKED: b"total_unevictable", SWAP: b"total_swap"}
_REFAULTS = (b"workingset_refault_anon", b"workingset_refault_file")


@dataclass(frozen=True, slots=True)
class Counters:
    """What only grows: pages that were needed again soon after they had been reclaimed, and seconds in which a task waited for memory."""

    at: float
    refaults: int | None
    stalled: float | None


@dataclass(frozen=True, slots=True)
class GroupSample:
    """Values of fields, and the counters to compare the next sample with."""

    fields: dict[str, Value]
    counters: Counters


def sample(groups: GuestGroups, files: Files, now: float, before: Counters | None) -> GroupSample:
    """Read a guest's memory, swap, refaults and memory pressure: four files at most.

    :param now: monotonic seconds
    :param before: the counters of an earlier sample of the same groups
    """
    fields: dict[str, Value] = {}
    refaults: int | None = None
    memory = groups.by_controller.get("memory")
    if memory is not None:
        stat = files.read(f"{memory.folder}/memory.stat") or b""
        current = _whole(files.read(f"{memory.folder}/{'memory.current' if memory.unified else 'memory.usage_in_bytes'}"))
        if current is not None:
            fields[CURRENT] = current >> 10
        fields.update(_from_stat(stat, _V2_STAT if memory.unified else _V1_STAT))
        if memory.unified:
            swap = _whole(files.read(f"{memory.folder}/memory.swap.current"))
            if swap is not None:
                fields[SWAP] = swap >> 10
        counts = [number for name in _REFAULTS if (number := _counted(stat, name if memory.unified else b"total_" + name)) is not None]
        refaults = sum(counts) if counts else None
    stalled = None
    if groups.pressure is not None:
        told = parse_pressure(files.read(f"{groups.pressure}/memory.pressure") or b"")
        fields.update(_averages("memory", told))
        stalled = told["some"].total / 1e6 if "some" in told else None
    counters = Counters(now, refaults, stalled)
    if before is not None and now - before.at < _SHORTEST_SECONDS:
        return GroupSample(fields, before)
    if before is not None:
        fields.update(_rates(before, counters))
    return GroupSample(fields, counters)


def other_pressure(groups: GuestGroups, files: Files) -> dict[str, Value]:
    """How long tasks of the guest waited for CPUs and I/O: two more files."""
    if groups.pressure is None:
        return {}
    return {
        name: value
        for resource in ("cpu", "io")
        for name, value in _averages(resource, parse_pressure(files.read(f"{groups.pressure}/{resource}.pressure") or b"")).items()
    }


def _rates(before: Counters, now: Counters) -> dict[str, Value]:
    seconds = now.at - before.at
    found: dict[str, Value] = {}
    if now.refaults is not None and before.refaults is not None and now.refaults >= before.refaults:
        found[REFAULTS] = round((now.refaults - before.refaults) / seconds)
    if now.stalled is not None and before.stalled is not None and now.stalled >= before.stalled:
        found[STALL] = round(min(100.0, (now.stalled - before.stalled) / seconds * 100), 4)
    return found


def _from_stat(stat: bytes, names: dict[str, bytes]) -> Iterable[tuple[str, int]]:
    for field, name in names.items():
        number = _counted(stat, name)
        if number is not None:
            yield field, number >> 10


def _counted(stat: bytes, name: bytes) -> int | None:
    """The number in the line of that name. Searched, not split: only a few of sixty lines are of use."""
    start = 0 if stat.startswith(name + b" ") else stat.find(b"\n" + name + b" ") + 1
    if not start and not stat.startswith(name + b" "):
        return None
    end = stat.find(b"\n", start)
    return _whole(stat[start + len(name) + 1 : end if end >= 0 else None])


def _averages(resource: str, told: Mapping[str, Pressure]) -> dict[str, Value]:
    return {f"host_psi_{resource}_{kind}_avg10": pressure.avg10 for kind, pressure in told.items()}


def _whole(text: bytes | None) -> int | None:
    word = (text or b"").strip()
    return int(word) if word.isdigit() and len(word) < 20 else None
