"""The processes beside the guests that hold the most memory, from /proc: looked for only while the host lacks memory."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from mom_core import FieldSpec, Metric, Scope, Snapshot, Unit, Value, format_kib, printable
from mom_kvm import ProcessStat, pid_of, read_kernel_file
from mom_plugins_host.host.readings import PAGE_KIB

HARD: Final = "mem_watermark_hard"
"""The field in which a plugin that manages the host's memory says below how much available memory guests give of their margins."""

SHORT_SHARE: Final = 0.1
"""Ratio of the host's memory: with less available the host is short, where no plugin says more."""

EARLY: Final = 2.0
"""Ratio of the hard watermark: with less available the processes are known by the time that the host is short."""

LOOK_SECONDS: Final = 10.0
"""Between two looks. One takes 10 µs for each process: 50 ms of CPU time on a host with 5,000, as with 1,000 guests."""

MOST: Final = 20_000
"""Processes that are looked at, those with the lowest ids: a program that starts many must not hold up the plugin."""

NAMED: Final = 3
NAMED_KIB: Final = 64 << 10
"""So many names are told, and smaller processes have none: a verdict is read at a glance."""

FIELDS: Final = (
    FieldSpec(
        "mem_other_processes", Unit.KIB, Scope.HOST, "anonymous memory of processes that are no guests, while the host is short of memory",
        "/proc/PID/statm", Metric.NONE,
    ),
    FieldSpec(
        "largest_processes", Unit.TEXT, Scope.HOST, "which of these processes hold the most, by name", "/proc/PID/statm, /proc/PID/comm",
    ),
)  # fmt: skip


class OtherProcesses:
    """What was seen last of the processes beside the guests. `fields` is empty unless the host lacks memory."""

    def __init__(self) -> None:
        self.fields: Mapping[str, Value] = {}
        self._found: Mapping[str, Value] = {}
        self._looked = -math.inf

    def see(self, snapshot: Snapshot, proc: Path) -> None:
        """Look at the processes, if the host lacks memory and the last look is some time ago.

        :param proc: where /proc is found
        """
        is_short = _is_short(snapshot)
        if is_short and snapshot.monotonic - self._looked >= LOOK_SECONDS:
            guests = {pid for guest in snapshot.listed if (pid := pid_of(guest)) is not None}
            self._found, self._looked = other_processes(proc, guests), snapshot.monotonic
        self.fields = self._found if is_short else {}


def other_processes(proc: Path, guests: Collection[int]) -> Mapping[str, Value]:
    """Return the fields by the processes that are there now. One that has ended meanwhile is left out.

    :param guests: the ids of guests' processes
    """
    total, by_name = 0, Counter[str]()
    for pid in (pid for pid in (ProcessStat.ids(proc) or ())[:MOST] if pid not in guests):
        kib = _anonymous_kib(read_kernel_file(f"{proc}/{pid}/statm"))
        total += kib
        if kib >= NAMED_KIB:
            name = os.fsdecode(read_kernel_file(f"{proc}/{pid}/comm")).rstrip("\n")
            by_name[printable(name) or str(pid)] += kib
    named = ", ".join(f"{name} {format_kib(kib)}" for name, kib in by_name.most_common(NAMED))
    return {"mem_other_processes": total, "largest_processes": named} if total else {}


def _anonymous_kib(statm: bytes) -> int:
    """Return the resident memory without files and shared memory, which other processes may have mapped, too."""
    _, resident, shared, *_ = (*statm.split(), b"", b"", b"")
    return max(0, int(resident) - int(shared)) * PAGE_KIB if resident.isdigit() and shared.isdigit() else 0


def _is_short(snapshot: Snapshot) -> bool:
    total, available, hard = (snapshot.host.number(name) for name in ("mem_available", "mem_really_available", HARD))
    if total is None or available is None:
        return False
    return available < (SHORT_SHARE * total if hard is None else EARLY * hard)
