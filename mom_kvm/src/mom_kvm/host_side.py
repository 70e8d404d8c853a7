"""Fields of guests that the host's kernel counts for their QEMU processes and cgroups."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from mom_core import Value
from mom_kvm.cgroups import Cgroups, Hierarchies
from mom_kvm.fields import GuestField
from mom_kvm.kernel_files import PAGE_KIB, ProcessStat, read_kernel_file
from mom_kvm.statistics import UNKNOWN_RATE, GrowthRate

_WALKS_SECONDS: Final = 0.02
"""After this time, a sample starts no page-table walk. A GiB takes 3 ms in huge pages, or 15 to 40 ms in 4-KiB pages
(benchmarks/hugepages)."""

_WALKS_SHARE: Final = 0.005
"""Share of one CPU for page-table walks. At this share, 200 guests of 16 GiB take 0.5 h in huge pages, or 2 to 7 h in 4-KiB pages."""

_AGAIN_SECONDS: Final = 60.0
"""Shortest time between two walks of a process, unless its RSS has changed by `_CHANGED_KIB`."""

_CHANGED_KIB: Final = 32 << 10
"""A process whose RSS has changed by this much is walked first."""

_LARGEST_KIB: Final = 18 << 20
"""Largest RSS of a process that mom walks: QEMU with a guest of 16 GiB. In pages of 4 KiB, the walk delays the cycle by 0.25 to 0.7 s."""

_MOST_BYTES: Final = 8 << 20
"""Maximum bytes of smaps. QEMU has a few hundred mappings, of 700 bytes each."""

_LINE: Final = re.compile(rb"^(?:(Size|Rss|Swap|AnonHugePages|ShmemPmdMapped): +([0-9]{1,15}) kB|VmFlags:(.*))$", re.MULTILINE)

_OF_GUEST: Final = frozenset({b"wr", b"dc"})
"""Flags of QEMU's RAM blocks: writable, and not copied by a fork. Executable mappings (`ex`) are TCG's code cache instead."""


class RamBlock(NamedTuple):
    """RAM block of QEMU, such as the guest's memory or its video memory. Sizes are in KiB. `held` is the block's RSS plus swap."""

    size: int
    held: int


class MappedMemory(NamedTuple):
    """Memory that a QEMU process holds, in KiB."""

    held: int
    """RSS plus swap."""
    huge: int
    """Part of the RSS that is in transparent huge pages."""
    blocks: Sequence[RamBlock]

    @staticmethod
    def of(process: str) -> MappedMemory | None:
        """Return the memory of a process; None if its smaps file is unreadable or too large.

        :param process: folder of the process in /proc
        """
        content = ProcessStat.read_file(process, "smaps", _MOST_BYTES)
        return MappedMemory.parse(content) if len(content) < _MOST_BYTES else None

    @staticmethod
    def parse(smaps: bytes) -> MappedMemory | None:
        """Parse an smaps file (proc_pid_smaps(5)). Return None if it contains no mapping."""
        mappings = held = huge = 0
        blocks: list[RamBlock] = []
        kib: dict[bytes, int] = {}
        for name, number, flags in _LINE.findall(smaps):
            if name:
                kib[name] = int(number)
                continue
            mapping = RamBlock(kib.get(b"Size", 0), kib.get(b"Rss", 0) + kib.get(b"Swap", 0))
            mappings, held = mappings + 1, held + mapping.held
            huge += kib.get(b"AnonHugePages", 0) + kib.get(b"ShmemPmdMapped", 0)
            words = set(flags.split())
            if words >= _OF_GUEST and b"ex" not in words:
                blocks.append(mapping)
            kib = {}
        return MappedMemory(held, huge, sorted(blocks, reverse=True)) if mappings else None

    def outside(self, maximum: Value) -> int | None:
        """Return the KiB that QEMU holds outside the guest's memory; None if unclear, for example with virtio-mem.

        :param maximum: size of the guest's memory in KiB
        """
        # The guest's memory is one block, or one per NUMA node or DIMM: `maximum` in total.
        if not isinstance(maximum, int) or maximum <= 0:
            return None
        left_kib, guests, foreign = maximum, list[RamBlock](), list[RamBlock]()
        for block in self.blocks:
            if block.size <= left_kib:
                guests.append(block)
                left_kib -= block.size
            else:
                foreign.append(block)
        is_clear = not left_kib and {block.size for block in guests}.isdisjoint(block.size for block in foreign)
        return self.held - sum(block.held for block in guests) if is_clear else None


@dataclass(slots=True)
class TableWalk:
    """Last walk of a process's page tables: result (`memory`), monotonic time (`at`), and RSS in KiB (`rss_then`)."""

    folder: str
    rss: int = 0
    """Present RSS in KiB."""
    memory: MappedMemory | None = None
    at: float = float("-inf")
    rss_then: int = 0

    @property
    def has_changed(self) -> bool:
        """Whether the RSS has changed by `_CHANGED_KIB` since the walk."""
        return abs(self.rss - self.rss_then) >= _CHANGED_KIB


class TableWalks:
    """Scheduler that walks page tables within a limited time: changed processes first, then those with the oldest walks."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._next = 0.0

    def renew(self, walks: Iterable[TableWalk]) -> None:
        """Walk the page tables of processes that have changed, or whose last walk is old."""
        now = self._monotonic()
        if now < self._next:
            return
        due = [walk for walk in walks if walk.rss <= _LARGEST_KIB and (walk.has_changed or now - walk.at >= _AGAIN_SECONDS)]
        began, spent = time.perf_counter(), 0.0
        for walk in sorted(due, key=lambda candidate: (not candidate.has_changed, candidate.at)):
            walk.memory, walk.rss_then, walk.at = MappedMemory.of(walk.folder), walk.rss, now
            spent = time.perf_counter() - began
            if spent > _WALKS_SECONDS:
                break
        self._next = now + spent / _WALKS_SHARE


_SHARED_KIB = 64 << 10
"""Shared memory that QEMU itself may need. A process with more shares the guest's memory, for example by memfd for virtiofs."""


class Merged(NamedTuple):
    """KiB of a process that KSM has merged, and KiB saved minus KSM's own data (may be negative; None if unknown)."""

    kib: int
    profit_kib: int | None


def swapped_kib(process: str) -> int | None:
    """Return a process's KiB in the host's swap; None if unreadable, or if the memory is shared: VmSwap omits shared memory."""
    sizes = ProcessStat.sizes(process)
    return None if sizes.get("RssShmem", 0) >= _SHARED_KIB else sizes.get("VmSwap")


def merged_pages(process: str) -> Merged | None:
    """Return KSM's statistics of a process; None if they are unreadable, or if Linux is older than 5.19.

    :param process: folder of the process in /proc
    """
    counts = dict(line.split(b" ", 1) for line in ProcessStat.read_file(process, "ksm_stat").splitlines() if b" " in line)
    pages = counts.get(b"ksm_merging_pages") or ProcessStat.read_file(process, "ksm_merging_pages").strip()  # before Linux 6.4
    profit = counts.get(b"ksm_process_profit", b"")
    if not pages.isdigit():
        return None
    return Merged(int(pages) * PAGE_KIB, int(profit) >> 10 if profit.removeprefix(b"-").isdigit() else None)


_HUGE_PAGES_MODE: Final = re.compile(rb"\[([a-z]{1,16})\]")

_IN_TURN = 100
"""Number of guests that each sample reads closely. A guest takes 60 to 90 µs."""

_OPENING_SECONDS = 0.5
"""Seconds per sample for opening files that only root may read."""

_SEARCH_SECONDS = 1.0
"""Pause after a failed search for a process."""


@dataclass(slots=True)
class _Process:
    start: Hashable
    name: str
    pid: int = 0
    started: int = 0
    search_at: float = 0.0
    cgroups: Mapping[str, str] = field(default_factory=dict)
    times: ProcessStat | None = None
    cpu: GrowthRate = UNKNOWN_RATE
    group_used: GrowthRate = UNKNOWN_RATE
    group_throttled: GrowthRate = UNKNOWN_RATE
    closely: dict[str, Value] = field(default_factory=dict)
    fits: int | None = None
    """Headroom in KiB below the cgroups' limits; None without a limit."""
    walk: TableWalk = field(default_factory=lambda: TableWalk(""))


class HostSide:
    """Reader of the guests' QEMU processes on this host. Not thread-safe.

    Each sample reads at most 100 of them closely (swap, merged pages, cgroup), in turn.

    :param find: returns the PID of the guest with this name and UUID; None if uncertain
    """

    def __init__(self, find: Callable[[str, str], int | None], root: Path, monotonic: Callable[[], float]) -> None:
        self._find = find
        self._root = root
        self._proc = root / "proc"
        self._hierarchies = Hierarchies(root)
        self._cgroups = Cgroups(self._hierarchies)
        self._has_huge_pages = False
        """Whether the kernel makes transparent huge pages."""
        self._walks = TableWalks(monotonic)
        self._monotonic = monotonic
        self._processes: dict[str, _Process] = {}
        self._pids: set[int] = set()
        """PIDs of the guests' processes; also 0 if a PID is unknown."""
        self._turn = 0
        self._opens_until = 0.0

    def follow(self, guests: Iterable[tuple[str, str, Hashable]]) -> None:
        """Set the guests to read: for each the UUID, the name, and a value that differs for each start."""
        now = self._monotonic()
        self._hierarchies.keep_fresh()
        before, self._processes = self._processes, {}
        for uuid, name, start in guests:
            process = before.get(uuid)
            if process is None or process.start != start:
                process = _Process(start, name)
            if not process.pid and now >= process.search_at:
                self._search(process, uuid, now)
            self._processes[uuid] = process

    def _search(self, process: _Process, uuid: str, now: float) -> None:
        pid = self._find(process.name, uuid)
        times = None if pid is None else ProcessStat.running(f"{self._proc}/{pid}")
        if pid is None or times is None:
            process.search_at = now + _SEARCH_SECONDS
            return
        process.pid, process.started, process.walk = pid, times.started, TableWalk(f"{self._proc}/{pid}")
        self._pids.add(pid)
        process.cgroups = self._cgroups.own(pid, Hierarchies.paths_of(f"{self._proc}/{pid}"), self._pids)

    def properties(self, uuid: str) -> dict[str, Value]:
        """Return the guest's properties `pid` and `cgroups` (own cgroups, keyed by controller). Unknown properties are missing."""
        process = self._processes.get(uuid)
        if process is None or not process.pid:
            return {}
        return {"pid": process.pid, "cgroups": process.cgroups} if process.cgroups else {"pid": process.pid}

    def fields(self, maxima: Mapping[str, Value]) -> dict[str, dict[str, Value]]:
        """Return the fields of the guests in `maxima`, keyed by UUID.

        :param maxima: the guests' largest memory in KiB, keyed by UUID; None if unknown
        """
        now = self._monotonic()
        rows = {}
        self._opens_until = now + _OPENING_SECONDS
        close = self._whose_turn()
        self._pids = {process.pid for process in self._processes.values()}
        mode = _HUGE_PAGES_MODE.search(read_kernel_file(f"{self._root}/sys/kernel/mm/transparent_hugepage/enabled", 64))
        self._has_huge_pages = mode is not None and mode[1] != b"never"
        for uuid in maxima:
            process = self._processes.get(uuid)
            if process is not None and process.pid:
                rows[uuid] = self._fields_of(uuid, process, uuid in close, now)
        self._walk(rows, maxima)
        return rows

    def _walk(self, rows: Mapping[str, dict[str, Value]], maxima: Mapping[str, Value]) -> None:
        alive = [(uuid, fields, self._processes[uuid].walk) for uuid, fields in rows.items() if fields]
        self._walks.renew(walk for _, _, walk in alive)
        for uuid, fields, walk in alive:
            if walk.memory is not None:
                if self._has_huge_pages:
                    fields.setdefault(GuestField.HUGE_PAGES, walk.memory.huge)
                if (outside := walk.memory.outside(maxima[uuid])) is not None:
                    fields[GuestField.QEMU_OVERHEAD] = outside

    def _whose_turn(self) -> set[str]:
        uuids = list(self._processes)
        first = self._turn % max(1, len(uuids))
        self._turn = first + _IN_TURN
        return set([*uuids[first:], *uuids[:first]][:_IN_TURN])

    def _fields_of(self, uuid: str, process: _Process, close: bool, now: float) -> dict[str, Value]:
        folder = f"{self._proc}/{process.pid}"
        times, before = ProcessStat.running(folder), process.times
        if times is None or times.started != process.started:  # the process has exited, and another process may have its pid
            self._processes[uuid] = _Process(process.start, process.name)
            return {}
        if close or not process.closely:
            process.closely = self._looked_closely(process, folder, now)
            room = process.closely.get(GuestField.LIMIT_ROOM)
            process.fits = room + times.resident_kib if isinstance(room, int) and times.resident_kib is not None else None
        fields: dict[str, Value] = {**process.closely, "rss": times.resident_kib}
        if process.fits is not None and times.resident_kib is not None:
            fields[GuestField.LIMIT_ROOM] = max(0, process.fits - times.resident_kib)
        process.times, process.walk.rss = times, times.resident_kib or 0
        if before is not None:
            fields["host_minor_faults"] = max(0, times.minor_faults - before.minor_faults)
            fields["host_major_faults"] = max(0, times.major_faults - before.major_faults)
        process.cpu = process.cpu.until(times.cpu_seconds, now)
        if process.cpu.percent is not None:
            fields["host_cpu_usage"] = process.cpu.percent
        return fields

    def _looked_closely(self, process: _Process, folder: str, now: float) -> dict[str, Value]:
        groups = Hierarchies.paths_of(folder)
        process.cgroups = self._cgroups.own(process.pid, groups, self._pids)  # an operator may have moved the process
        limit = self._cgroups.limit(groups)
        shared = merged_pages(folder) if self._monotonic() < self._opens_until else None  # mom-helper may be slow
        counters = self._cgroups.cpu(process.cgroups)
        process.group_used = process.group_used.until(counters.used, now)
        process.group_throttled = process.group_throttled.until(counters.throttled, now)
        values = {
            "host_swap": swapped_kib(folder),
            "host_ksm_merged": None if shared is None else shared.kib,
            "host_ksm_profit": None if shared is None else shared.profit_kib,
            GuestField.LIMIT_ROOM: None if limit is None else limit.room,
            GuestField.HUGE_PAGES: self._cgroups.huge_kib(process.cgroups) if self._has_huge_pages else None,
            **{f"host_psi_{name}_avg10": percent for name, percent in self._cgroups.pressure(process.cgroups).items()},
            "host_cgroup_cpu_usage": process.group_used.percent,
            "host_cgroup_throttled": process.group_throttled.percent,
        }
        return {name: value for name, value in values.items() if value is not None}
