"""Keeps what this host has for guests to a plan, whatever else runs on it:  steady_host.py PLAN.json

The plan holds `capacity_mib`, what guests and what is available are together; `begin`, seconds of the monotonic clock; `loads`, of which
each takes so many `mib` of the capacity `at` so many seconds after that, for so long as it `lasts`; `ramp_mib_s`, which is taken of it in
each second after that while there is no file `hold`; `pids` of the guests, or `pid_folder`, in which libvirt keeps them; `store`, the file
mm_stat of a compressed swap that guests may be in; and `floor_mib`, which is left available in any case. Memory is held and let go until
available memory and the guests' anonymous memory, less what KSM saves, and with what compressed memory takes, are what the plan says, ten
times a second; it is locked, where this user may lock it. Ends with its standard input; it is the OOM killer's first choice.
"""

import ctypes
import json
import mmap
import os
import select
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ballast import available_mib

MIB = 1 << 20
LOCK_WHAT_COMES = 2
"""MCL_FUTURE of mlockall."""
BLOCK_MIB = 8
MOST_AT_ONCE_MIB = 256
LOOK_SECONDS = 0.1


@dataclass(frozen=True)
class Plan:
    """What the host is to have for guests, in MiB, over time."""

    capacity_mib: float
    begin: float
    loads: Sequence[Mapping[str, float]]
    floor_mib: float
    pids: Sequence[int] = ()
    pid_folder: str = ""
    ramp_mib_s: float = 0.0
    hold: str = ""
    store: str = ""

    def at(self, now: float, held: float = 0.0) -> float:
        """At that moment of the monotonic clock, when the ramp has stood still for so many seconds."""
        since = now - self.begin
        taken = sum(load["mib"] for load in self.loads if load["at"] <= since < load["at"] + load["lasts"])
        return self.capacity_mib - taken - self.ramp_mib_s * max(0.0, since - held)

    @property
    def guests(self) -> Sequence[int]:
        """The process ids of the guests that there are now."""
        return pids_in(Path(self.pid_folder)) if self.pid_folder else self.pids


def pids_in(folder: Path) -> list[int]:
    """The process ids of guests that libvirt keeps in this folder."""
    found = []
    for file in folder.glob("*.pid"):
        with suppress(OSError, ValueError):  # the guest may come or go right now
            found.append(int(file.read_text()))
    return found


def anonymous_mib(pid: int) -> float:
    """What that process holds of this host's memory, beside files."""
    total = 0
    with suppress(OSError):  # it may have ended
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(("RssAnon:", "RssShmem:")):
                total += int(line.split()[1])
    return total / 1024


def merged_mib(proc: Path = Path("/proc")) -> float:
    """Return what KSM saves: memory of processes beyond what the host spends on it.

    KSM's `pages_sharing` counts pages that guests have changed or returned until ksmd scans them again, minutes later.
    """
    held = 0
    for file in proc.glob("[0-9]*/statm"):
        with suppress(OSError):  # the process may have ended
            _, resident, of_files, *_ = map(int, file.read_text().split())
            held += resident - of_files
    spent = next(int(line.split()[1]) for line in (proc / "meminfo").read_text().splitlines() if line.startswith("AnonPages:"))
    return max(0.0, held * os.sysconf("SC_PAGE_SIZE") / MIB - spent / 1024)


def store_mib(mm_stat: str) -> float:
    """What a compressed swap takes of the host's memory; none where there is no such file."""
    if not mm_stat:
        return 0.0
    try:
        return int(Path(mm_stat).read_text().split()[2]) / MIB
    except OSError:  # it has been taken away
        return 0.0


def capacity_mib(pids: Sequence[int], store: str = "") -> float:
    """What guests and what is available are together now."""
    return available_mib() + sum(anonymous_mib(pid) for pid in pids) - merged_mib() + store_mib(store)


def follow(plan: Plan) -> None:
    """Until standard input ends."""
    Path("/proc/self/oom_score_adj").write_text("1000")
    ctypes.CDLL(None).mlockall(LOCK_WHAT_COMES)
    junk = os.urandom(MIB)
    held: list[mmap.mmap] = []
    looked, stood = time.monotonic(), 0.0
    while not select.select([sys.stdin], [], [], LOOK_SECONDS)[0]:
        now = time.monotonic()
        if plan.hold and Path(plan.hold).exists():
            stood += now - max(looked, min(now, plan.begin))
        looked = now
        surplus = capacity_mib(plan.guests, plan.store) - plan.at(now, stood)
        surplus = min(surplus, available_mib() - plan.floor_mib, MOST_AT_ONCE_MIB)
        for _ in range(int(surplus // BLOCK_MIB)):
            block = mmap.mmap(-1, BLOCK_MIB * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            for page in range(0, BLOCK_MIB * MIB, MIB):
                block[page : page + MIB] = junk
            held.append(block)
        for _ in range(min(len(held), int(-surplus // BLOCK_MIB))):
            held.pop().close()


if __name__ == "__main__":
    content: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    follow(Plan(**content))
