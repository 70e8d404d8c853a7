"""Gives memory of this host back page by page, in no order, as QEMU does with what a balloon takes:  page_by_page.py MIB

Says `ready`, and for each line on its standard input what it has done: it takes and gives back MIB of memory (`given`), and then ends.
"""

import mmap
import random
import sys


def give(mib: int) -> mmap.mmap:
    """Take so much memory, in pages of the base size, and give all of it back."""
    memory = mmap.mmap(-1, mib << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    pages = list(range(0, len(memory), mmap.PAGESIZE))
    for page in pages:
        memory[page] = 1
    random.Random(1).shuffle(pages)  # noqa: S311  # the same order each time
    for page in pages:
        memory.madvise(mmap.MADV_DONTNEED, page, mmap.PAGESIZE)
    return memory


def say(what: str) -> None:
    """Tell whoever started this."""
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    say("ready")
    sys.stdin.readline()
    given = give(int(sys.argv[1]))
    say("given")
    sys.stdin.readline()
