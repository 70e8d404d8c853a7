"""Reader of a guest's QEMU process in /proc, and of its page tables."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from mom_core import Value
from mom_kvm.kernel_files import PAGE_KIB, ProcessStat, read_process_file

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
        content = read_process_file(process, "smaps", _MOST_BYTES)
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
    counts = dict(line.split(b" ", 1) for line in read_process_file(process, "ksm_stat").splitlines() if b" " in line)
    pages = counts.get(b"ksm_merging_pages") or read_process_file(process, "ksm_merging_pages").strip()  # before Linux 6.4
    profit = counts.get(b"ksm_process_profit", b"")
    if not pages.isdigit():
        return None
    return Merged(int(pages) * PAGE_KIB, int(profit) >> 10 if profit.removeprefix(b"-").isdigit() else None)
