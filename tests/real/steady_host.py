"""Keeps what this host has for guests to a plan, whatever else runs on it:  steady_host.py PLAN.json

The plan holds `capacity_mib`, what guests and what is available are together; `begin`, seconds of the monotonic clock; `loads`, of which
each takes so many `mib` of the capacity `at` so many seconds after that, for so long as it `lasts`; `pids` of the guests; and `floor_mib`,
which is left available in any case. Memory is held and let go until available memory and the guests' anonymous memory are what the plan
says, ten times a second. Ends with its standard input; it is the OOM killer's first choice.
"""

from __future__ import annotations

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
BLOCK_MIB = 8
MOST_AT_ONCE_MIB = 256
LOOK_SECONDS = 0.1


@dataclass(frozen=True)
class Plan:
    """What the host is to have for guests, in MiB, over time."""

    capacity_mib: float
    begin: float
    loads: Sequence[Mapping[str, float]]
    pids: Sequence[int]
    floor_mib: float

    def at(self, now: float) -> float:
        """At that moment of the monotonic clock."""
        since = now - self.begin
        taken = sum(load["mib"] for load in self.loads if load["at"] <= since < load["at"] + load["lasts"])
        return self.capacity_mib - taken


def anonymous_mib(pid: int) -> float:
    """What that process holds of this host's memory, beside files."""
    total = 0
    with suppress(OSError):  # it may have ended
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(("RssAnon:", "RssShmem:")):
                total += int(line.split()[1])
    return total / 1024


def follow(plan: Plan) -> None:
    """Until standard input ends."""
    Path("/proc/self/oom_score_adj").write_text("1000")
    junk = os.urandom(MIB)
    held: list[mmap.mmap] = []
    while not select.select([sys.stdin], [], [], LOOK_SECONDS)[0]:
        available = available_mib()
        surplus = available + sum(anonymous_mib(pid) for pid in plan.pids) - plan.at(time.monotonic())
        surplus = min(surplus, available - plan.floor_mib, MOST_AT_ONCE_MIB)
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
