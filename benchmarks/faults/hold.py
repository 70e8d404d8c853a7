"""Hold memory of the host, or of its swap, until standard input ends:  hold.py --memory MIB | --swap MIB

Prints a line when it holds all. It is the first process that the kernel kills.
"""

from __future__ import annotations

import argparse
import mmap
import os
import sys
from pathlib import Path

MIB = 1 << 20
STEP_MIB = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory", type=int, default=0, metavar="MIB")
    parser.add_argument("--swap", type=int, default=0, metavar="MIB")
    options = parser.parse_args()
    Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    junk = os.urandom(STEP_MIB * MIB)
    held = []
    for _ in range(0, options.memory or options.swap, STEP_MIB):
        block = mmap.mmap(-1, STEP_MIB * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        block[:] = junk
        if options.swap:
            block.madvise(PAGEOUT)
        held.append(block)
    print("held", flush=True)
    sys.stdin.read()


PAGEOUT = 21
"""MADV_PAGEOUT of asm-generic/mman-common.h."""


if __name__ == "__main__":
    main()
