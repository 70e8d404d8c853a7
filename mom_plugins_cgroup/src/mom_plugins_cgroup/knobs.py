"""What each control is in the files of cgroups v2 and v1: which file, how it is read, how it is written. Pure.

Memory is in KiB, `max` is -1. The CPU weight is in percent of the usual one: cpu.weight 100 (v2) and cpu.shares 1024 (v1) are 100 %,
which is exact in both directions, so that what is put back is what stood there.
"""

from __future__ import annotations

from mom_core import Value
from mom_plugins_cgroup.names import CPU_WEIGHT, IO_LATENCY, IO_MAX, MEMORY_HIGH, MEMORY_LOW, MEMORY_MIN, NO_LIMIT, RECLAIM, SWAP_MAX

FILES_V2 = {
    MEMORY_HIGH: "memory.high",
    MEMORY_LOW: "memory.low",
    MEMORY_MIN: "memory.min",
    SWAP_MAX: "memory.swap.max",
    CPU_WEIGHT: "cpu.weight",
    IO_MAX: "io.max",
    IO_LATENCY: "io.latency",
    RECLAIM: "memory.reclaim",
}

FILES_V1 = {MEMORY_HIGH: "memory.soft_limit_in_bytes", CPU_WEIGHT: "cpu.shares"}
"""Limits of I/O have four files there: see `devices`."""

NOT_IN_V1 = {
    MEMORY_LOW: "cgroups v1 cannot protect memory from reclaim",
    MEMORY_MIN: "cgroups v1 cannot protect memory from reclaim",
    SWAP_MAX: "cgroups v1 limit memory and swap together only",
    IO_LATENCY: "cgroups v1 have no latency targets",
    RECLAIM: "cgroups v1 cannot reclaim a part of a group's memory",
}

CONTROLLER = {
    MEMORY_HIGH: "memory",
    MEMORY_LOW: "memory",
    MEMORY_MIN: "memory",
    SWAP_MAX: "memory",
    RECLAIM: "memory",
    CPU_WEIGHT: "cpu",
    IO_MAX: "io",
    IO_LATENCY: "io",
}

WEIGHT_V2 = (1, 10_000)
SHARES_V1 = (2, 262_144)
"""The kernel's bounds of cpu.weight and cpu.shares."""

_USUAL_SHARES = 1024
_LEAST_UNLIMITED = 1 << 62
"""Without a limit, cgroups v1 show 2^63 less a page; no host has 2^62 bytes."""


def memory_kib(text: bytes) -> int | None:
    """The limit in a file of either version."""
    word = text.strip()
    if word == b"max":
        return NO_LIMIT
    if not word.isdigit():
        return None
    return NO_LIMIT if int(word) >= _LEAST_UNLIMITED else int(word) >> 10


def memory_text(kib: int, *, unified: bool) -> str:
    """What is written for a limit."""
    if kib == NO_LIMIT:
        return "max" if unified else "-1"
    return str(kib << 10)


def weight_percent(text: bytes, *, unified: bool) -> float | None:
    """The weight in cpu.weight or cpu.shares."""
    word = text.strip()
    if not word.isdigit():
        return None
    return float(int(word)) if unified else int(word) / _USUAL_SHARES * 100


def weight_number(percent: float, *, unified: bool) -> int:
    """The number for cpu.weight or cpu.shares."""
    return round(percent if unified else percent / 100 * _USUAL_SHARES)


def weight_complaint(value: Value, *, unified: bool) -> str:
    """Why this is no weight; empty if it is one."""
    low, high = WEIGHT_V2 if unified else SHARES_V1
    least, most = weight_percent(str(low).encode(), unified=unified), weight_percent(str(high).encode(), unified=unified)
    number = weight_number(value, unified=unified) if isinstance(value, int | float) else -1
    return "" if low <= number <= high else f"a weight is {least:g} to {most:g} % of the usual one here, not {value!r:.40}"
