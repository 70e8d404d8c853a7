"""Before the kubelet evicts pods for want of memory, and with them guests: its own arithmetic, and what follows for mom.

The kubelet counts what is available otherwise than the kernel does (`MemAvailable`): memory less its working set, which is all that is in
use but page cache that was not used lately (pkg/kubelet/eviction/helpers.go, `memoryAvailable`; google/cadvisor, `setMemoryStats`). Page
cache in use counts as gone, so it evicts while the kernel has much to drop. It does so twice: for the node, and for all pods together
against what is allocatable to them (`allocatableMemory.available`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from mom_core import Condition, Severity, format_kib
from mom_kvm import GroupLimit, read_meminfo
from mom_plugins_kubevirt.kubelet_config import KubeletConfig

EVICTION: Final = "eviction"
"""The condition's name."""

SOON_KIB: Final = 64 << 10
"""KiB above a threshold from which on it is warned of: a guest that fills fresh memory takes that in a fifth of a second."""

_PODS: Final = ("kubepods.slice", "kubepods")
"""The group of all pods, by the cgroup driver of systemd and without."""

_CURE: Final = (
    "move guests away (`virtctl migrate`, or cordon and drain the node), start no more, or lower memory.available of the kubelet's"
    " evictionHard and evictionSoft"
)


class KubeletMemory(NamedTuple):
    """Memory as the kubelet counts it, in KiB: what the node has, and has available; what all pods may have together, and have available of
    it (None: nothing limits them); and what the kernel says is available at that moment."""

    total: float
    available: float
    kernel_available: float
    allocatable: float | None = None
    pods_available: float | None = None


class EvictionRoom(NamedTuple):
    """How far the kubelet is from evicting, in KiB; negative: it evicts.

    `room` can still be used; `threshold` is what it acts at, and `available` what it counts; `pods`: these are those of all pods together.
    `evicts_below` is what the kernel says is available when it evicts.
    """

    room: float
    threshold: float
    available: float
    pods: bool
    evicts_below: float


def memory_of(root: Path, tops: Iterable[str]) -> KubeletMemory | None:
    """Memory as the kubelet counts it now; None where that cannot be seen.

    Of the group of all, newer kubelets count what is in use as anonymous memory and page cache, older ones as all that is not free, and the
    kernel's own with it. What says less is taken, which is the second.

    :param root: where /proc is found
    :param tops: where the node's control groups (v2) may be found
    """
    memory = read_meminfo(root)
    total, free, available = (memory.get(name) for name in ("MemTotal", "MemFree", "MemAvailable"))
    if total is None or free is None or available is None:
        return None
    working_set = max(0, total - free - memory.get("Inactive(file)", 0))
    pods = next(filter(None, map(_pods, tops)), None)
    return KubeletMemory(
        total,
        max(0, total - working_set),
        available,
        None if pods is None else pods.limit,
        None if pods is None else pods.limit - pods.used,
    )


def _pods(top: str) -> GroupLimit | None:
    """The limit of the group of all pods."""
    return next((limit for name in _PODS if (limit := GroupLimit.of_memory(f"{top}/{name}", top)) is not None), None)


def room_of(memory: KubeletMemory, config: KubeletConfig) -> EvictionRoom | None:
    """How far the kubelet is from evicting; None where it does not evict for want of memory."""
    found: list[EvictionRoom] = []

    def count(threshold: float, available: float, *, pods: bool) -> None:
        room = available - threshold
        found.append(EvictionRoom(room, threshold, available, pods, max(0.0, memory.kernel_available - room)))

    for threshold in (config.hard, config.soft):
        if threshold is not None:
            count(threshold.of(memory.total), memory.available, pods=False)
    if config.hard is not None and config.holds_pods and memory.allocatable is not None and memory.pods_available is not None:
        count(config.hard.of(memory.allocatable), memory.pods_available, pods=True)
    return min(found, key=lambda one: one.room, default=None)


def conditions(room: EvictionRoom | None) -> Iterator[Condition]:
    """That the kubelet evicts pods, or is about to, whatever mom has taken from guests."""
    if room is None or room.room > SOON_KIB:
        return
    whose = "all pods together have" if room.pods else "it counts"
    why = f"{whose} {format_kib(max(0.0, room.available))} available, and its threshold is {format_kib(room.threshold)}"
    if room.room <= 0:
        yield Condition(EVICTION, "the kubelet evicts pods of this node, and guests with them", why, _CURE)
    else:
        yield Condition(EVICTION, "the kubelet is about to evict pods of this node", why, _CURE, Severity.WARNING)
