"""Return memory to this host page by page in random order, as QEMU does for a balloon:  page_by_page.py MIB

Print `ready`. For each line of standard input, take and return MIB of memory, and print `given`; then end.
"""

import mmap
import random
import sys


def give(mib: int) -> mmap.mmap:
    """Take memory in pages of the base size, and return all of it."""
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
    """Print a line."""
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    say("ready")
    sys.stdin.readline()
    given = give(int(sys.argv[1]))
    say("given")
    sys.stdin.readline()
