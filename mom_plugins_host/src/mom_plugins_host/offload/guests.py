"""State of guests between cycles: refaults, pressure, the law's state, and how to reclaim memory."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Final

from mom_core import Guest, Value, format_kib, printable
from mom_kvm import PAGE_KIB, GroupLimit, HealthLimits, Hierarchies, ProcessStat, SwapStore, pid_of, read_kernel_file
from mom_plugins_host.offload.fields import COLD, OFFLOAD, OFFLOADED, REFAULTS, STATE, WORKING_SET, WORKING_SET_AGE
from mom_plugins_host.offload.law import FIRST_PAUSE_SECONDS, LEAST_KIB, LONGEST_PAUSE_SECONDS, ObservedGuest, ReclaimState, cold_kib
from mom_plugins_host.offload.requests import OUT_OF_TIME

_LOCKED_KIB: Final = 64 << 10
"""QEMU itself locks less than this, for queues and stacks. If more is locked, all memory of the guest is locked (VFIO) or pinned (iommufd;
drivers/iommu/iommufd/pages.c)."""

_FAULTS: Final = re.compile(rb"^(?:total_)?pgmajfault ([0-9]{1,20})$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class MemoryWay:
    """Method to reclaim a guest's memory.

    :param name: `v2` or `v1`: through a control group of this version; `process`: through QEMU's process; empty: impossible
    :param started: start time of the process, to recognize another process with the same PID
    :param swaps_in: folder of the control group (v2) that limits the guest's swap
    :param top: folder that contains all control groups
    """

    name: str
    folder: str = ""
    pid: int = 0
    started: int = 0
    why_not: str = ""
    swaps_in: str = ""
    top: str = ""

    @property
    def swap_limit(self) -> GroupLimit | None:
        """Tightest swap limit of the guest's control group and the groups above; None without a limit."""
        return GroupLimit.of_swap(self.swaps_in, self.top) if self.swaps_in else None


def way_to(guest: Guest, root: Path, hierarchies: Hierarchies) -> MemoryWay:
    """Return how to reclaim a listed guest's memory."""
    pid = pid_of(guest)
    stat = ProcessStat.of(root / f"proc/{pid}") if pid else None
    if not pid or stat is None:
        return MemoryWay("", why_not="its process is unknown")
    swaps_in, top = _swap_group(f"{root}/proc/{pid}", hierarchies)
    why = _held_in_place(f"{root}/proc/{pid}") or why_no_swap(GroupLimit.of_swap(swaps_in, top) if swaps_in else None)
    if why:
        return MemoryWay("", pid=pid, started=stat.started, why_not=why)
    for controller, file, name in ((Hierarchies.UNIFIED, "memory.reclaim", "v2"), ("memory", "memory.force_empty", "v1")):
        folder = hierarchies.group_of(guest, controller)
        if folder is not None and Path(folder, file).exists():
            return MemoryWay(name, folder, pid, stat.started, "", swaps_in, top)
    return MemoryWay("process", "", pid, stat.started, "", swaps_in, top)


def _swap_group(process: str, hierarchies: Hierarchies) -> tuple[str, str]:
    folder = hierarchies.folder(Hierarchies.UNIFIED, Hierarchies.paths_of(process).get(Hierarchies.UNIFIED, ""))
    top = hierarchies.top(Hierarchies.UNIFIED, folder or "")
    return ("", "") if folder is None or top is None else (folder, top)


def why_no_swap(limit: GroupLimit | None) -> str:
    """Return why a control group allows no more swap, or an empty string."""
    if limit is None or limit.room >= LEAST_KIB:
        return ""
    group = printable(limit.name, 60)
    if not limit.limit:
        return f"its control group must not swap: memory.swap.max of {group} is 0"
    return f"its control group has reached its swap limit: memory.swap.max of {group} is {format_kib(limit.limit)}"


def _held_in_place(process: str) -> str:
    sizes = ProcessStat.sizes(process)
    if sizes.get("HugetlbPages"):
        return "its memory is in huge pages, which the kernel does not swap"
    if sizes.get("VmLck", 0) > _LOCKED_KIB:
        return "its memory is locked (mlock), by its configuration or for a passed-through device (VFIO)"
    if sizes.get("VmPin", 0) > _LOCKED_KIB:
        return "its memory is pinned for a device"
    return ""


def faults_of(way: MemoryWay, root: Path) -> int | None:
    """Return the pages read back from swap since the guest's start; None if not counted.

    The count of a process lacks pages that kernel threads read for a vCPU.
    """
    if way.folder:
        counts = _FAULTS.findall(read_kernel_file(f"{way.folder}/memory.stat"))
        if counts:  # v1 counts first without and then with child groups (total_); libvirt may put all processes into child groups
            return int(counts[-1])
    if not way.pid:
        return None
    stat = ProcessStat.of(root / f"proc/{way.pid}")
    return stat.major_faults if stat is not None and stat.started == way.started else None


_PAGE_IN_SECONDS: Final = {
    SwapStore.Kind.ZRAM: 25e-6,
    SwapStore.Kind.ZSWAP: 25e-6,
    SwapStore.Kind.DISK: 200e-6,
    SwapStore.Kind.ROTATING: 10e-3,
}
"""Time that a vCPU waits for a page from each kind of swap. Compressed memory needs 5 us for the fault, and 5 to 20 us to decompress."""

_SWEPT_KIB: Final = 48 << 10
_SWEPT_SHARE: Final = 0.03
"""mom sweeps freed memory that exceeds `_SWEPT_KIB` and this share of the guest's size."""


def stall_of(guest: Guest, refaults_kib: float, stores: Sequence[SwapStore]) -> float:
    """Return the fraction of time that a guest waits for swapped memory: an estimate from refaults (KiB/s), or PSI if higher."""
    slowest = max((_PAGE_IN_SECONDS[store.kind] for store in stores if store.free_kib < store.size_kib), default=25e-6)
    counted = guest.number("host_psi_memory_some_avg10") or 0.0
    return max(refaults_kib / PAGE_KIB * slowest, counted / 100)


def own_pressure(guest: Guest) -> str:
    """Return a message if the guest itself is short of memory; empty if not, or if unknown."""
    swap_in = guest.number("swap_in") or 0.0
    if swap_in > HealthLimits.SWAP_KIB:
        return f"it is short of memory: it reads {swap_in:.0f} KiB/s back from its own swap"
    pressure = guest.number("guest_psi_memory_some_avg10") or 0.0
    if pressure > HealthLimits.PRESSURE_PERCENT:
        return f"it is short of memory: its tasks wait for memory {pressure:.0f} % of the time"
    return ""


def swept_first(guest: Guest, away_kib: float) -> str:
    """Return why mom must first sweep memory that the guest has freed, or an empty string."""
    names = ("rss", "qemu_overhead", "kernel_reserved", "mem_available", "mem_unused", "balloon_cur")
    numbers = [guest.number(name) for name in names]
    if guest.fields.get("balloon_obstacle") is not None or any(number is None for number in numbers):
        return ""
    rss, qemu_overhead, kernel_reserved, available, unused, size = (number or 0.0 for number in numbers)
    idle = rss + away_kib - qemu_overhead - (kernel_reserved + available - unused)
    if idle < max(_SWEPT_KIB, _SWEPT_SHARE * size):
        return ""
    return f"it has freed {format_kib(idle)} that the host still holds for it: ballooning reclaims this memory first"


_IN_TURN: Final = 100
_LOOK_SECONDS: Final = 30.0
"""Time after which mom examines a process again, because a new device may pin the guest's memory. mom examines at
most `_IN_TURN` processes per cycle."""

_FAULTS_SECONDS: Final = 1.0
"""Shortest time between two readings of a group's counters, because the kernel must sum them up."""


@dataclass(slots=True)
class FollowedGuest:
    """State of a guest from cycle to cycle. Times are monotonic seconds.

    :param by_process: whether mom reclaims through QEMU's process, to spare merged pages or because no control group is usable
    :param moved_kib: KiB moved since the last decision
    :param offloaded_kib: KiB moved since mom first saw the guest
    :param at: next step of the walk through the process's memory
    :param pace: pace in force, in KiB/s, for `left` more cycles
    :param vain: why the last request moved nothing; mom tries again at `vain_until`
    """

    incarnation: str
    way: MemoryWay = field(default_factory=lambda: MemoryWay("", why_not="mom has not examined it yet"))
    looked: float = -_LOOK_SECONDS
    by_process: bool = False
    state: ReclaimState = field(default_factory=ReclaimState)
    faults: tuple[float, int] | None = None
    refaults: float | None = None
    unswept_seconds: float = 0.0
    moved_kib: int = 0
    offloaded_kib: int = 0
    at: int = 0
    pace: int = 0
    left: int = 0
    reason: str = ""
    observed: ObservedGuest | None = None
    vain: str = ""
    vain_until: float = 0.0
    vain_pause: float = FIRST_PAUSE_SECONDS

    def look(self, guest: Guest, root: Path, hierarchies: Hierarchies, now: float) -> None:
        """Examine the guest's process to find out how to reclaim its memory."""
        way = way_to(guest, root, hierarchies)
        if (way.pid, way.started, way.folder) != (self.way.pid, self.way.started, self.way.folder):
            self.faults = self.refaults = None
        self.way, self.looked = way, now

    def note_moved(self, kib: int, why: str, now: float) -> None:
        """Record a request's result. If the guest released nothing, mom leaves it out for a while."""
        self.moved_kib += kib
        self.offloaded_kib += kib
        if kib:
            self.vain_pause = FIRST_PAUSE_SECONDS
        elif why:
            self.reason = why
            if why != OUT_OF_TIME:
                self.vain, self.vain_until = why, now + self.vain_pause
                self.vain_pause = min(2 * self.vain_pause, LONGEST_PAUSE_SECONDS)

    def why_left_out(self, now: float) -> str:
        """Return why mom leaves this guest out for a while, or an empty string."""
        return f"{self.vain}; next try in {self.vain_until - now:.0f} s" if now < self.vain_until else ""

    def collect(self, root: Path | None, now: float) -> dict[str, Value]:
        """Start a new cycle and return the fields. A pace expires unless the last cycle renewed it.

        :param root: folder that contains /proc; None if the hypervisor counts refaults
        """
        if root is not None:
            self._compare_faults(root, now)
        self.left -= 1
        if self.left < 0:
            self.pace = 0
        # If only the hypervisor counts faults, use its count at the last decision.
        refaults = self.observed.refaults_kib if self.refaults is None and self.observed is not None else self.refaults
        fields: dict[str, Value] = {
            OFFLOAD: self.pace,
            OFFLOADED: self.offloaded_kib,
            STATE: self.reason or None,
            REFAULTS: None if refaults is None else round(refaults),
        }
        cold = None if self.observed is None else cold_kib(self.observed, self.state)
        if cold is not None and self.state.working_set is not None:
            fields |= {COLD: int(cold), WORKING_SET: int(self.state.working_set), WORKING_SET_AGE: round(now - self.state.learnt, 1)}
        return fields

    def _compare_faults(self, root: Path, now: float) -> None:
        if self.faults is not None and now - self.faults[0] < _FAULTS_SECONDS:
            return
        faults = faults_of(self.way, root)
        if faults is None:
            self.faults = self.refaults = None
            return
        if self.faults is not None:
            since, before = self.faults
            self.refaults = max(0, faults - before) * PAGE_KIB / (now - since)
        self.faults = now, faults


def keep_listed(before: Mapping[str, FollowedGuest], guests: Sequence[Guest]) -> dict[str, FollowedGuest]:
    """Return the listed guests with their previous state."""
    return {
        guest.id: entry if (entry := before.get(guest.id)) and entry.incarnation == guest.incarnation else FollowedGuest(guest.incarnation)
        for guest in guests
    }


def look_in_turn(kept: Mapping[str, FollowedGuest], guests: Sequence[Guest], root: Path, hierarchies: Hierarchies, now: float) -> None:
    """Examine the processes of new guests, and of the guests that were examined longest ago."""
    due: list[tuple[float, Guest]] = []
    for guest in guests:
        entry = kept[guest.id]
        if entry.way.pid != (pid_of(guest) or 0):
            entry.look(guest, root, hierarchies, now)
        elif now - entry.looked >= _LOOK_SECONDS:
            due.append((entry.looked, guest))
    for _, guest in sorted(due, key=itemgetter(0))[:_IN_TURN]:
        kept[guest.id].look(guest, root, hierarchies, now)
