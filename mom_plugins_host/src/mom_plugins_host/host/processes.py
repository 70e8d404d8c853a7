"""Largest processes besides guests; read only while memory is short."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from mom_core import FieldSpec, Metric, Scope, Snapshot, Unit, Value, format_kib, printable
from mom_kvm import PAGE_KIB, ProcessStat, pid_of, read_kernel_file

HARD: Final = "mem_watermark_hard"
"""Available memory below which guests give up margins."""

SHORT_SHARE: Final = 0.1
"""Available share below which a host without watermarks is short of memory."""

EARLY: Final = 2.0
"""Multiple of the hard watermark at which mom starts to read processes."""

LOOK_SECONDS: Final = 10.0
"""Each process takes 10 µs: 50 ms of CPU time for 5,000 processes."""

MOST: Final = 20_000
"""Processes, lowest ids first, so that a fork bomb does not block the plugin."""

NAMED: Final = 3
NAMED_KIB: Final = 64 << 10
"""Most named processes, and their least size."""

FIELDS: Final = (
    FieldSpec(
        "mem_other_processes", Unit.KIB, Scope.HOST, "anonymous memory of processes other than guests, while the host is short of memory",
        "/proc/PID/statm", Metric.NONE,
    ),
    FieldSpec(
        "largest_processes", Unit.TEXT, Scope.HOST, "names of these processes with the most memory", "/proc/PID/statm, /proc/PID/comm",
    ),
)  # fmt: skip


class OtherProcesses:
    """Last reading. `fields` is empty unless the host is short of memory."""

    def __init__(self) -> None:
        self.fields: Mapping[str, Value] = {}
        self._last: Mapping[str, Value] = {}
        self._read_at = -math.inf

    def update(self, snapshot: Snapshot, proc: Path) -> None:
        """Read processes if memory is short and the last reading is old."""
        is_short = _is_short(snapshot)
        if is_short and snapshot.monotonic - self._read_at >= LOOK_SECONDS:
            guests = {pid for guest in snapshot.listed if (pid := pid_of(guest)) is not None}
            self._last, self._read_at = other_processes(proc, guests), snapshot.monotonic
        self.fields = self._last if is_short else {}


def other_processes(proc: Path, guests: Collection[int]) -> Mapping[str, Value]:
    """Return processes' memory and names. `guests` are process ids."""
    total, by_name = 0, Counter[str]()
    for pid in (ProcessStat.ids(proc) or ())[:MOST]:
        if pid in guests:
            continue
        kib = _anonymous_kib(read_kernel_file(f"{proc}/{pid}/statm"))
        total += kib
        if kib >= NAMED_KIB:
            name = os.fsdecode(read_kernel_file(f"{proc}/{pid}/comm")).rstrip("\n")
            by_name[printable(name) or str(pid)] += kib
    named = ", ".join(f"{name} {format_kib(kib)}" for name, kib in by_name.most_common(NAMED))
    return {"mem_other_processes": total, "largest_processes": named} if total else {}


def _anonymous_kib(statm: bytes) -> int:
    _, resident, shared, *_ = (*statm.split(), b"", b"", b"")
    return max(0, int(resident) - int(shared)) * PAGE_KIB if resident.isdigit() and shared.isdigit() else 0


def _is_short(snapshot: Snapshot) -> bool:
    total, available, hard = (snapshot.host.number(name) for name in ("mem_available", "mem_really_available", HARD))
    if total is None or available is None:
        return False
    return available < (SHORT_SHARE * total if hard is None else EARLY * hard)
