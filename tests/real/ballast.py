"""Take memory from this host:  ballast.py MIB FLOOR_MIB

Hold MIB of memory until standard input ends, and print a line when all is held. This process is the OOM killer's first choice. It leaves at
least FLOOR_MIB available.
"""

import mmap
import os
import sys
from pathlib import Path

MIB = 1 << 20
STEP_MIB = 16


def available_mib(meminfo: Path = Path("/proc/meminfo")) -> int:
    """Return MemAvailable of this host."""
    for line in meminfo.read_text().splitlines():
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            return int(rest.split()[0]) // 1024
    raise RuntimeError("this kernel does not say how much memory is available")


def hold(mib: int, floor_mib: int) -> list[mmap.mmap]:
    """Return written memory that KSM does not merge."""
    Path("/proc/self/oom_score_adj").write_text("1000")
    held: list[mmap.mmap] = []
    junk = os.urandom(MIB)
    while len(held) * STEP_MIB < mib and available_mib() - STEP_MIB > floor_mib:
        block = mmap.mmap(-1, STEP_MIB * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        for page in range(0, STEP_MIB * MIB, MIB):
            block[page : page + MIB] = junk
        held.append(block)
    return held


if __name__ == "__main__":
    blocks = hold(int(sys.argv[1]), int(sys.argv[2]))
    sys.stdout.write(f"{len(blocks) * STEP_MIB}\n")
    sys.stdout.flush()
    sys.stdin.read()
