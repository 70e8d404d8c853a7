"""The host's memory and huge pages, from one read of /proc/meminfo."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from mom_core import FieldSpec, Scope, Unit

PAGE_KIB: Final = os.sysconf("SC_PAGE_SIZE") >> 10

_DIRECT = (
    ("mem_available", "MemTotal", Unit.KIB, "all memory that the host has (MOM's name; see mem_really_available for what is available)"),
    ("mem_unused", "MemFree", Unit.KIB, "memory that holds nothing at all"),
    ("mem_really_available", "MemAvailable", Unit.KIB, "memory that new processes can have without swapping, by the kernel's estimate"),
    ("mem_cached", "Cached", Unit.KIB, "page cache, with shared memory and tmpfs"),
    ("mem_shmem", "Shmem", Unit.KIB, "shared memory and tmpfs: counted in mem_cached, and cannot be dropped, only swapped"),
    ("anon_pages", "AnonPages", Unit.KIB, "anonymous memory that is mapped into processes, such as that of guests"),
    ("hugepages_total", "HugePages_Total", Unit.COUNT, "huge pages of the default size in the pool"),
    ("hugepages_free", "HugePages_Free", Unit.COUNT, "huge pages of the default size that are not allocated"),
    ("hugepage_size", "Hugepagesize", Unit.KIB, "the default size of huge pages"),
)

_FREE = "memory that is unused or holds buffers and cache (MOM's name; counts shared memory as free, so prefer mem_really_available)"
_KEPT = "free memory that CPUs keep in lists of their own: counted in none of the fields of free and available memory"

FIELDS = (
    *(FieldSpec(name, unit, Scope.HOST, description, f"/proc/meminfo {key}") for name, key, unit, description in _DIRECT),
    FieldSpec("mem_free", Unit.KIB, Scope.HOST, _FREE, "/proc/meminfo MemFree + Buffers + Cached"),
    FieldSpec("mem_pcp_free", Unit.KIB, Scope.HOST, _KEPT, "/proc/zoneinfo pagesets"),
    FieldSpec("page_size", Unit.KIB, Scope.HOST, "the size of a page, in which swap and KSM count", "sysconf(_SC_PAGE_SIZE)"),
)


def memory_fields(meminfo: Mapping[str, int]) -> dict[str, int]:
    """The memory fields that these lines tell, by field name."""
    fields = {name: meminfo[key] for name, key, _, _ in _DIRECT if key in meminfo}
    if fields.get("mem_available") == 0:
        del fields["mem_available"]  # no host has none: this is a broken file, and policies divide by the total
    if {"MemFree", "Buffers", "Cached"} <= meminfo.keys():
        fields["mem_free"] = meminfo["MemFree"] + meminfo["Buffers"] + meminfo["Cached"]
    return fields
