"""Keep this host's memory for guests to a plan, whatever other programs do:  steady_host.py PLAN.json

Ten times a second, this process takes or frees memory until available memory and the guests' anonymous memory together follow the plan.
KSM's gain is subtracted, and the size of compressed memory added. Memory is locked if this user may lock it. The process ends with its
standard input, and is the OOM killer's first choice. The plan is JSON:

- `capacity_mib`: available memory and guests' memory together
- `begin`: seconds of the monotonic clock
- `loads`: each takes `mib` from the capacity, `at` seconds after the begin, for as long as it `lasts`
- `ramp_mib_s`: taken from the capacity in each second after the begin, unless a file `hold` exists
- `pids` of guests, or `pid_folder` with libvirt's pid files
- `store`: the file mm_stat of a compressed swap
- `floor_mib`: always left available
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
    """Memory for guests over time, in MiB."""

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
        """Return the memory for guests at `now` (monotonic). The ramp was held for `held` seconds."""
        since = now - self.begin
        taken = sum(load["mib"] for load in self.loads if load["at"] <= since < load["at"] + load["lasts"])
        return self.capacity_mib - taken - self.ramp_mib_s * max(0.0, since - held)

    @property
    def guests(self) -> Sequence[int]:
        """Return the pids of present guests."""
        return pids_in(Path(self.pid_folder)) if self.pid_folder else self.pids


def pids_in(folder: Path) -> list[int]:
    """Return the pids in libvirt's pid files in a folder."""
    found = []
    for file in folder.glob("*.pid"):
        with suppress(OSError, ValueError):  # the guest may start or end at this moment
            found.append(int(file.read_text()))
    return found


def anonymous_mib(pid: int) -> float:
    """Return a process's anonymous and shared memory."""
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
    """Return the memory used by a compressed swap; 0 without one."""
    if not mm_stat:
        return 0.0
    try:
        return int(Path(mm_stat).read_text().split()[2]) / MIB
    except OSError:  # the swap was removed
        return 0.0


def capacity_mib(pids: Sequence[int], store: str = "") -> float:
    """Return available memory and guests' memory together."""
    return available_mib() + sum(anonymous_mib(pid) for pid in pids) - merged_mib() + store_mib(store)


def follow(plan: Plan) -> None:
    """Follow a plan until standard input ends."""
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
