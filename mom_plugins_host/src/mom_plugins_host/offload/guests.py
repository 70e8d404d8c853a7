"""How a guest's memory is reached, why it cannot be, and what the kernel counts of it.

What guests themselves, and the kernel, say of how they fare. Pure.

What is kept of each guest from cycle to cycle: how its memory is reached, what comes back of it, and what the law remembers."""

from __future__ import annotations

import heapq
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Final

from mom_core import Guest, Value, format_kib, printable
from mom_kvm import GroupLimit, HealthLimits, Hierarchies, ProcessStat, StoreKind, SwapStore, pid_of, read_kernel_file
from mom_plugins_host.offload.fields import COLD, MAY_OFFLOAD, OFFLOAD, OFFLOADED, REFAULTS, STATE, WORKING_SET, WORKING_SET_AGE
from mom_plugins_host.offload.law import (
    FIRST_PAUSE_SECONDS,
    LEAST_KIB,
    LONGEST_PAUSE_SECONDS,
    PAGE_KIB,
    ObservedGuest,
    ReclaimState,
    cold_kib,
)
from mom_plugins_host.offload.requests import OUT_OF_TIME

_LOCKED_KIB: Final = 64 << 10
"""QEMU locks nothing of its own but queues and stacks; a guest whose memory is locked, or held for a device, has all of it so.

What VFIO holds the kernel counts as locked, and what iommufd holds as pinned (mm/util.c, drivers/iommu/iommufd/pages.c)."""

_STATUS: Final = re.compile(rb"^(VmLck|VmPin|HugetlbPages):\s+([0-9]{1,18}) kB$", re.MULTILINE)
_UNIFIED: Final = re.compile(rb"^0::(/.*)$", re.MULTILINE)
_FAULTS: Final = re.compile(rb"^(?:total_)?pgmajfault ([0-9]{1,20})$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class MemoryWay:
    """How a guest's memory is taken: `v2`, `v1`, `process`, or empty: not at all, for this reason.

    `swaps_in` is the folder of the control group (v2) whose limits of swap hold for its process, whoever else is in that group, and `top`
    that of all groups; empty: unknown, or there is none.
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
        """The limit of swap that leaves it the least now, of its control group and those above; None: there is none."""
        return GroupLimit.of_swap(self.swaps_in, self.top) if self.swaps_in else None


def way_to(guest: Guest, root: Path, hierarchies: Hierarchies) -> MemoryWay:
    """The way to a guest that the hypervisor lists.

    :param root: where /proc and /sys are found
    """
    pid = pid_of(guest)
    stat = ProcessStat.of(root / f"proc/{pid}") if pid else None
    if not pid or stat is None:
        return MemoryWay("", why_not="its process is not known")
    swaps_in, top = _swap_group(f"{root}/proc/{pid}", hierarchies)
    why = _held_in_place(f"{root}/proc/{pid}") or why_no_swap(GroupLimit.of_swap(swaps_in, top) if swaps_in else None)
    if why:
        return MemoryWay("", pid=pid, started=stat.started, why_not=why)
    paths = guest.properties.get("cgroups")
    for controller, file, name in (("", "memory.reclaim", "v2"), ("memory", "memory.force_empty", "v1")):
        path = paths.get(controller) if isinstance(paths, Mapping) else None
        folder = hierarchies.folder(controller, path) if isinstance(path, str) else None
        if folder is not None and Path(folder, file).exists():
            return MemoryWay(name, folder, pid, stat.started, "", swaps_in, top)
    return MemoryWay("process", "", pid, stat.started, "", swaps_in, top)


def _swap_group(process: str, hierarchies: Hierarchies) -> tuple[str, str]:
    """The folder of the group (v2) that a process is in, which need not be the guest's own, and that of all groups; empty: unknown."""
    match = _UNIFIED.search(read_kernel_file(f"{process}/cgroup"))
    folder = None if match is None else hierarchies.folder(Hierarchies.UNIFIED, match[1].decode(errors="surrogateescape"))
    top = hierarchies.top(Hierarchies.UNIFIED)
    return ("", "") if folder is None or top is None else (folder, top)


def why_no_swap(limit: GroupLimit | None) -> str:
    """Why a guest's control group keeps all of its memory from going to swap; empty where it does not."""
    if limit is None or limit.room >= LEAST_KIB:
        return ""
    group = printable(limit.name, 60)
    if not limit.limit:
        return f"its control group may not swap: memory.swap.max of {group} is 0"
    return f"its control group may swap no more: memory.swap.max of {group} is {format_kib(limit.limit)}"


def _held_in_place(process: str) -> str:
    """Why the memory of a process cannot go anywhere; empty if it can.

    :param process: its folder in /proc
    """
    told = {name: int(number) for name, number in _STATUS.findall(read_kernel_file(f"{process}/status"))}
    if told.get(b"HugetlbPages"):
        return "its memory is of huge pages, which the kernel does not swap"
    if told.get(b"VmLck", 0) > _LOCKED_KIB:
        return "its memory is locked, by itself or for a device of the host (VFIO)"
    if told.get(b"VmPin", 0) > _LOCKED_KIB:
        return "its memory is held in place for a device"
    return ""


def faults_of(way: MemoryWay, root: Path) -> int | None:
    """How many pages had to be read back for a guest since it runs; None where the kernel does not say.

    A group counts all of them. Of a process, those are missing that the kernel's own threads read for a vCPU meanwhile.
    """
    if way.folder:
        counts = _FAULTS.findall(read_kernel_file(f"{way.folder}/memory.stat"))
        if counts:  # of v1, with the groups below it (total_), and before that without: where libvirt makes some, it has no process itself
            return int(counts[-1])
    if not way.pid:
        return None
    stat = ProcessStat.of(root / f"proc/{way.pid}")
    return stat.major_faults if stat is not None and stat.started == way.started else None


_PAGE_IN_SECONDS: Final = {StoreKind.ZRAM: 25e-6, StoreKind.ZSWAP: 25e-6, StoreKind.DISK: 200e-6, StoreKind.ROTATING: 10e-3}
"""What a vCPU waits for a page: 5 us for the fault, and 5 to 20 of decompression, or a read of an SSD: 17 us in
all with lzo-rle."""

_SWEPT_KIB: Final = 48 << 10
_SWEPT_SHARE: Final = 0.03
"""What a guest holds and had freed is swept when it is more than this, and this share of its size, as the policy of the balloon has it."""


def stall_of(guest: Guest, refaults_kib: float, stores: Sequence[SwapStore]) -> float:
    """The share of time (0 to 1) in which a guest waits for memory that was away, by the larger of two accounts.

    :param refaults_kib: what comes back, in KiB per second
    """
    slowest = max((_PAGE_IN_SECONDS[store.kind] for store in stores if store.free_kib < store.size_kib), default=25e-6)
    counted = guest.number("host_psi_memory_some_avg10") or 0.0
    return max(refaults_kib / PAGE_KIB * slowest, counted / 100)


def own_pressure(guest: Guest) -> str:
    """The lack of memory that a guest tells of itself; empty: nothing, or it does not tell."""
    swap_in = guest.number("swap_in") or 0.0
    if swap_in > HealthLimits.SWAP_IN_KIB:
        return f"it lacks memory itself: it reads {swap_in:.0f} KiB/s back from its own swap"
    pressure = guest.number("guest_psi_memory_some_avg10") or 0.0
    if pressure > HealthLimits.PRESSURE_PERCENT:
        return f"it lacks memory itself: its tasks wait for it {pressure:.0f} % of the time"
    return ""


def swept_first(guest: Guest, away_kib: float) -> str:
    """Why a guest is to be swept before its memory is swapped: it holds what it had used and freed. Empty: no such thing, or unknown."""
    names = ("rss", "qemu_overhead", "kernel_reserved", "mem_available", "mem_unused", "balloon_cur")
    numbers = [guest.number(name) for name in names]
    if guest.fields.get("balloon_obstacle") is not None or any(number is None for number in numbers):
        return ""
    rss, beside, hidden, available, unused, size = (number or 0.0 for number in numbers)
    idle = rss + away_kib - beside - (hidden + available - unused)
    if idle < max(_SWEPT_KIB, _SWEPT_SHARE * size):
        return ""
    return f"it holds {format_kib(idle)} that it had used and freed: its balloon takes that first"


_IN_TURN: Final = 100
_LOOK_SECONDS: Final = 30.0
"""How many guests' processes are looked at closely in one cycle, and how old a look may be: it takes 200 us for each, which for a thousand
would be a fifth of a second; a device that is given to a guest holds its memory in place from then on."""

_FAULTS_SECONDS: Final = 1.0
"""The kernel adds up a group's counters when they are read: in cycles that something woke mom for they are not read again."""


LISTS_UNTIL_GONE: Final = 3
"""A guest that is missing from fewer lists has not gone: one of several hypervisors may have been silent."""


@dataclass(slots=True)
class FollowedGuest:
    """One guest. Times are monotonic seconds; `moved_kib` is what went since the last decision, `offloaded_kib` since mom knows it.

    `may_offload` is the last word of its class, once `class_heard`: 0 forbids that its memory goes; None: it has no class. The last request
    to it gave nothing where `vain` says why: it is asked again at `vain_until`, and `vain_pause` seconds after the next such one.
    So many lists have lacked it since it was listed: `lists_without`.
    """

    incarnation: str
    way: MemoryWay = field(default_factory=lambda: MemoryWay("", why_not="it has not been looked at yet"))
    looked: float = -_LOOK_SECONDS
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
    may_offload: float | None = None
    class_heard: bool = False
    vain: str = ""
    vain_until: float = 0.0
    vain_pause: float = FIRST_PAUSE_SECONDS
    lists_without: int = 0

    def look(self, guest: Guest, root: Path, hierarchies: Hierarchies, now: float) -> None:
        """See how its memory is reached, and whether it can go anywhere."""
        way = way_to(guest, root, hierarchies)
        if (way.pid, way.started, way.folder) != (self.way.pid, self.way.started, self.way.folder):
            self.faults = self.refaults = None
        self.way, self.looked = way, now

    def hear_class(self, guest: Guest, *, silent: bool) -> None:
        """Note what its class says.

        :param silent: the plugin of classes failed, or was late: what it said last holds
        """
        told = guest.number(MAY_OFFLOAD)
        if told is not None or not silent:
            self.may_offload, self.class_heard = told, True

    def note_moved(self, kib: int, why: str, now: float) -> None:
        """Note what a request gave, and why no more.

        A guest that gave nothing is left out for a while, as it would give nothing in the next cycle either: nothing of it is away, so
        that it is the cheapest of all, and others would not be asked.
        """
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
        """Why it is not asked now, as the last request gave nothing; empty: it may be asked."""
        return f"{self.vain}; tried again in {self.vain_until - now:.0f} s" if now < self.vain_until else ""

    def seen(self, root: Path | None, now: float) -> dict[str, Value]:
        """Its fields in a new cycle, in which the pace lapses that was not asked for again.

        :param root: where what came back of it is read; None: the hypervisor says it
        """
        if root is not None:
            self._compare_faults(root, now)
        self.left -= 1
        if self.left < 0:
            self.pace = 0
        found: dict[str, Value] = {OFFLOAD: self.pace, OFFLOADED: self.offloaded_kib, STATE: self.reason or None}
        # Where only the hypervisor counts faults, what came back until the last decision.
        refaults = self.observed.refaults_kib if self.refaults is None and self.observed is not None else self.refaults
        found[REFAULTS] = None if refaults is None else round(refaults)
        cold = None if self.observed is None else cold_kib(self.observed, self.state)
        if cold is not None and self.state.working_set is not None:
            found |= {COLD: int(cold), WORKING_SET: int(self.state.working_set), WORKING_SET_AGE: round(now - self.state.learnt, 1)}
        return found

    def _compare_faults(self, root: Path, now: float) -> None:
        """See what came back since the last comparison."""
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


def followed(before: Mapping[str, FollowedGuest], guests: Sequence[Guest]) -> dict[str, FollowedGuest]:
    """These guests, by id, with what was kept of those that were there before; of one that was started anew, what its class said."""
    found: dict[str, FollowedGuest] = {}
    for guest in guests:
        one = before.get(guest.id) or FollowedGuest(guest.incarnation)
        if one.incarnation != guest.incarnation:
            one = FollowedGuest(guest.incarnation, may_offload=one.may_offload, class_heard=one.class_heard)
        one.lists_without = 0
        found[guest.id] = one
    return found


def waited_for(before: Mapping[str, FollowedGuest], listed: Mapping[str, FollowedGuest]) -> dict[str, FollowedGuest]:
    """Those that are not listed and may not have gone, by id; none without an incarnation, which tells that it is the same."""
    found: dict[str, FollowedGuest] = {}
    for identity in before.keys() - listed.keys():
        one = before[identity]
        one.lists_without += 1
        if one.incarnation and one.lists_without < LISTS_UNTIL_GONE:
            found[identity] = one
    return found


def look_in_turn(kept: Mapping[str, FollowedGuest], guests: Sequence[Guest], root: Path, hierarchies: Hierarchies, now: float) -> None:
    """Look at the processes of new guests, and at those that were not looked at for longest."""
    long_ago: list[tuple[float, Guest]] = []
    for guest in guests:
        one = kept[guest.id]
        if one.way.pid != (pid_of(guest) or 0):
            one.look(guest, root, hierarchies, now)
        elif now - one.looked >= _LOOK_SECONDS:
            long_ago.append((one.looked, guest))
    for _, guest in heapq.nsmallest(_IN_TURN, long_ago, key=itemgetter(0)):
        kept[guest.id].look(guest, root, hierarchies, now)
