"""A guest's control group: where it is, what the kernel counts of it, and its files of memory.

What is read and set is the group of the whole guest, above those that libvirt makes in it for the emulator and the vCPUs: protection only
means something among the groups of all guests, which are siblings there, and limits hold for all that the guest's processes use.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from mom_core import Value
from mom_plugins_cgroup.fields import ANON, CURRENT, FILE, KNOBS, LOCKED, NO_LIMIT, SHMEM, SWAP
from mom_plugins_cgroup.files import Files
from mom_toolkit import UNIFIED, Hierarchies, parse_pressure

_SHORTEST_SECONDS: Final = 0.2
"""A rate over less says more about when the kernel updates its counters than about the guest."""

_STAT: Final = {ANON: "anon", FILE: "file", SHMEM: "shmem", LOCKED: "unevictable"}


class Stalled(NamedTuple):
    """The seconds in which a task of the group waited for memory since it was made, `at` that time (monotonic seconds)."""

    at: float
    seconds: float


def folder_of(property_: Value, hierarchies: Hierarchies) -> str | None:
    """Where the group (cgroups v2) is that a guest's property `cgroups` names; None: it has none."""
    path = property_.get(UNIFIED) if isinstance(property_, Mapping) else None
    return hierarchies.folder(UNIFIED, path) if isinstance(path, str) else None


def group_fields(folder: str, files: Files) -> dict[str, Value]:
    """What a group holds, and what its controls stand at; without what is unknown."""
    lines = files.read(f"{folder}/memory.stat").decode("ascii", "replace").splitlines()
    stat = dict(line.split(" ", 1) for line in lines if " " in line)
    sizes = {name: _kib(stat.get(word)) for name, word in _STAT.items()}
    for name, file in ((CURRENT, "memory.current"), (SWAP, "memory.swap.current")):
        sizes[name] = _kib(files.read(f"{folder}/{file}").decode("ascii", "replace"))
    for control in KNOBS:
        sizes[control] = limit_of(control, folder, files)
    return {name: size for name, size in sizes.items() if size is not None}


def stall_of(folder: str, files: Files, before: Stalled | None, now: float) -> tuple[float | None, Stalled | None]:
    """The percentage of time in which a task of the group waited for memory, and what the next call goes on from.

    :param before: what the last call gave
    :param now: monotonic seconds
    """
    told = parse_pressure(files.read(f"{folder}/memory.pressure"))
    stalled = Stalled(now, told["some"].total / 1e6) if "some" in told else None
    if before is None or stalled is None or stalled.seconds < before.seconds:
        return None, stalled
    if now - before.at < _SHORTEST_SECONDS:
        return None, before
    return round(min(100.0, (stalled.seconds - before.seconds) / (now - before.at) * 100), 4), stalled


def limit_of(control: str, folder: str, files: Files) -> int | None:
    """What a control stands at, in KiB; None where it is unknown."""
    text = files.read(f"{folder}/{KNOBS[control][0]}").decode("ascii", "replace").strip()
    return NO_LIMIT if text == "max" else _kib(text)


def set_limit(control: str, kib: int, folder: str, files: Files) -> None:
    """Set a control. Raises `HypervisorError`. The reclaim is left to the group's own tasks, where the kernel can do that."""
    files.write(f"{folder}/{KNOBS[control][0]}", "max" if kib == NO_LIMIT else str(kib << 10))


def _kib(text: str | None) -> int | None:
    word = (text or "").strip()
    return int(word) >> 10 if word.isdigit() and len(word) < 20 else None
