"""Fields of guests that the host's kernel counts for their QEMU processes and cgroups."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mom_core import Value
from mom_kvm.cgroup_mounts import Hierarchies
from mom_kvm.fields import GuestField
from mom_kvm.guest_cgroup import Cgroups
from mom_kvm.kernel_files import ProcessStat, read_kernel_file
from mom_kvm.qemu_process import TableWalk, TableWalks, merged_pages, swapped_kib
from mom_kvm.statistics import UNKNOWN_RATE, GrowthRate

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
