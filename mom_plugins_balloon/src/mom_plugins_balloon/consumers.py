"""Consumers of the memory of a host that lacks some: guests, other processes, shared memory, huge pages, page cache, the kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from mom_core import Snapshot, format_kib
from mom_kvm import pages_kib

NAMED_SHARE: Final = 0.1
"""Ratio of the host's memory. A smaller consumer does not fill the host."""

NAMED: Final = 3
"""Consumers that are named: a verdict is read at a glance."""

CURED: Final = 2
"""Consumers whose cure is named."""

_FULL_SWAP: Final = 0.95
"""Ratio. The kernel leaves a few slots of a swap area unused."""

MOVE_GUESTS: Final = "move guests away or shut some down"


class Consumer(NamedTuple):
    """Consumer of the host's memory: its name, its size in KiB, and the cure."""

    name: str
    kib: float
    cure: str


def consumers(snapshot: Snapshot) -> Sequence[Consumer]:
    """Return the consumers of the host's memory, the largest first. A consumer whose size is unknown is left out."""
    host = snapshot.host
    resident, sizes = ([kib for kib in snapshot.numbers(name) if kib is not None] for name in ("rss", "balloon_cur"))
    # The RSS of each guest counts a page that KSM has merged with another guest's.
    guests = max(0.0, sum(resident) - pages_kib(host.fields, "ksm_pages_sharing")) if resident else sum(sizes)
    free, page = (host.number(name) or 0.0 for name in ("hugepages_free", "hugepage_size"))
    pool = (host.number("hugepages_total") or 0.0) * page
    largest = [
        Consumer("guests hold", guests, MOVE_GUESTS),
        Consumer("huge pages in use hold", pool - free * page, MOVE_GUESTS),
        Consumer("unused huge pages hold", free * page, "lower vm.nr_hugepages"),
    ]
    names = ("mem_available", "mem_really_available", "mem_unused", "anon_pages", "mem_shmem", "mem_cached")
    total, available, unused, anonymous, shared, cached = (host.number(name) for name in names)
    if anonymous is not None and shared is not None and (resident or not snapshot.guests):
        processes = max(host.number("mem_other_processes") or 0.0, anonymous - guests)  # guests may be in shared memory
        names_of = host.text("largest_processes")
        process = f"other processes ({names_of}) hold" if names_of else "other processes hold"
        largest += [
            Consumer(process, processes, "stop the largest of the other processes, or move it to another host"),
            Consumer("tmpfs and shared memory hold", anonymous + shared - guests - max(0.0, processes), "empty tmpfs (df -t tmpfs)"),
        ]
        if total is not None and available is not None and unused is not None and cached is not None:
            cache = max(0.0, unused + cached - shared - available)
            kernel = total - available - anonymous - shared - cache - pool
            largest += [
                Consumer("page cache that cannot be dropped holds", cache, "see Dirty and Mlocked in /proc/meminfo"),
                Consumer("the kernel holds", kernel, "see slabtop, and mm_stat of zram in /sys/block"),
            ]
    return sorted((consumer for consumer in largest if consumer.kib > 0), key=lambda consumer: -consumer.kib)


class Cause(NamedTuple):
    """Cause of a shortage: the largest consumers in words, whether guests are the largest, and a cure for each."""

    text: str
    guests_first: bool
    cures: Sequence[str]


def cause(snapshot: Snapshot) -> Cause:
    """Return the cause of a shortage on this host, full swap included."""
    total, size, used = (snapshot.host.number(name) for name in ("mem_available", "swap_total", "swap_usage"))
    largest = consumers(snapshot)
    large = ([consumer for consumer in largest if consumer.kib >= NAMED_SHARE * (total or 0.0)] or largest[:1])[:NAMED]
    parts = [f"{consumer.name} {format_kib(consumer.kib)}" for consumer in large]
    if size and used is not None and used >= _FULL_SWAP * size:
        parts.append(f"swap is full ({format_kib(size)})")
    cures = list(dict.fromkeys(consumer.cure for consumer in large[:CURED]))
    return Cause(", ".join(parts), not large or large[0].cure is MOVE_GUESTS, cures or [MOVE_GUESTS])
