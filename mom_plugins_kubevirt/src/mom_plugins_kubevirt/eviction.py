"""The kubelet's calculation of memory evictions, and the warning before them.

The kubelet counts active page cache as used (pkg/kubelet/eviction/helpers.go, `memoryAvailable`), so it may evict although `MemAvailable`
is large.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from mom_core import Condition, Severity, format_kib
from mom_kvm import GroupLimit, read_meminfo
from mom_plugins_kubevirt.kubelet_config import KubeletConfig

EVICTION: Final = "eviction"

_SOON_KIB: Final = 64 << 10
"""The warning starts this far above the threshold: a fifth of a second of a guest's growth."""

_PODS: Final = ("kubepods.slice", "kubepods")
"""Control group of all pods, with kubelet's systemd driver and without it."""

_CURE: Final = (
    "move guests away (`virtctl migrate`, or cordon and drain the node), start no more guests, or reduce memory.available of the kubelet's"
    " evictionHard and evictionSoft"
)


class KubeletMemory(NamedTuple):
    """Memory in KiB according to the kubelet, and the kernel's available memory. None if unlimited."""

    total: float
    available: float
    kernel_available: float
    allocatable: float | None = None
    pods_available: float | None = None


class EvictionRoom(NamedTuple):
    """KiB until the kubelet evicts; negative if it is evicting. `evicts_below` is the available memory at which it evicts.

    With `pods`, `threshold` and `available` are for all pods together.
    """

    room: float
    threshold: float
    available: float
    pods: bool
    evicts_below: float


def memory_of(root: Path, tops: Iterable[str]) -> KubeletMemory | None:
    """Return the memory according to the kubelet; None if unreadable.

    Older kubelets also count the kernel's memory of all pods as used; mom uses the smaller result.

    :param root: folder that contains /proc
    :param tops: possible mount points of cgroup v2
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
    return next((limit for name in _PODS if (limit := GroupLimit.of_memory(f"{top}/{name}", top)) is not None), None)


def room_of(memory: KubeletMemory, config: KubeletConfig) -> EvictionRoom | None:
    """Return the memory until the kubelet evicts; None if it does not evict for memory."""
    rooms: list[EvictionRoom] = []

    def count(threshold: float, available: float, *, pods: bool) -> None:
        room = available - threshold
        rooms.append(EvictionRoom(room, threshold, available, pods, max(0.0, memory.kernel_available - room)))

    for threshold in (config.hard, config.soft):
        if threshold is not None:
            count(threshold.of(memory.total), memory.available, pods=False)
    if config.hard is not None and config.holds_pods and memory.allocatable is not None and memory.pods_available is not None:
        count(config.hard.of(memory.allocatable), memory.pods_available, pods=True)
    return min(rooms, key=lambda candidate: candidate.room, default=None)


def conditions(room: EvictionRoom | None) -> Iterator[Condition]:
    """Yield the condition of a present or near eviction."""
    if room is None or room.room > _SOON_KIB:
        return
    whose = "all pods together have" if room.pods else "the kubelet counts"
    why = f"{whose} {format_kib(max(0.0, room.available))} available, and the eviction threshold is {format_kib(room.threshold)}"
    if room.room <= 0:
        yield Condition(EVICTION, "the kubelet evicts pods of this node, and guests with them", why, _CURE)
    else:
        yield Condition(EVICTION, "the kubelet is about to evict pods of this node", why, _CURE, Severity.WARNING)
