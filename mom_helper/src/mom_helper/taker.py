"""Has the kernel move memory of guests to swap and back, piece by piece, so that neither mom nor another order waits for it.

mom-helper gives a mom without root a connection to order it by; a mom that is root starts a process for it itself (`mom_helper taker`),
which takes the same orders on its standard input, a socket. What is taken of whom, and in which turns, is mom's. It changes no setting of
the kernel: whatever becomes of it or of mom leaves no limit behind.

`TAKE_V2`      a write to `memory.reclaim` of the group.
`TAKE_V1`      a write to `memory.force_empty` of the group: the kernel takes by its own list of what was used least lately, as much as it
               can, until a signal ends it. The group's limit stays what it is.
`TAKE_PROCESS` process_madvise(MADV_PAGEOUT) of a process's memory, where there is no group. It takes what is hot with what is cold.
`RECALL`       process_madvise(MADV_WILLNEED) of what is in swap.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from mom_helper.guests import UNIFIED, Guest, Guests
from mom_helper.kernel import libc, opened, read_at
from mom_helper.orders import MOST_PIECE_KIB, Order, OrderNumber

LONGEST_SECONDS: Final = 0.1
"""The longest that a write may take. The kernel takes 1 GiB/s at most."""

LEAST_HELD_KIB: Final = 64 << 10
"""A group that holds less is left alone: what an empty guest needs to run at all."""

NICE: Final = 10
"""The guests' own threads come first: this process gets a tenth of what one of them gets where both want the same CPU."""

OOM_SCORE: Final = 900
"""Where memory runs out, the kernel ends this process before any guest."""

_ADVICE: Final = {OrderNumber.TAKE_PROCESS: 21, OrderNumber.RECALL: 3}
"""MADV_PAGEOUT and MADV_WILLNEED."""

_GROUP_FILES: Final = {
    OrderNumber.TAKE_V2: (UNIFIED, "memory.current", "memory.reclaim"),
    OrderNumber.TAKE_V1: ("memory", "memory.usage_in_bytes", "memory.force_empty"),
}
WAYS: Final = _ADVICE.keys() | _GROUP_FILES.keys()
_SYS_PROCESS_MADVISE: Final = 440
_SWAPPED: Final = 1 << 62
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


def moved(order: Order, guests: Guests) -> tuple[int, int, int]:
    """Move a piece: what is answered. Raises `OSError`."""
    if order.number not in WAYS:
        raise OSError(errno.EINVAL, "there is no such order")
    while not guests.allowance.take(0):
        time.sleep(0.01)
    began = time.process_time()
    guest = guests.find(order.c, order.d)
    went, more = (_by_advice if order.number in _ADVICE else _by_group)(order, guest)
    guests.allowance.take(went << 10)
    return went, int(more), int((time.process_time() - began) * 1e6)


def _by_group(order: Order, guest: Guest) -> tuple[int, bool]:
    """By how much its control group holds less, and whether it has more."""
    name, held, written = _GROUP_FILES[OrderNumber(order.number)]
    content, more = (b"%d" % (min(order.a, MOST_PIECE_KIB) << 10), True) if order.number == OrderNumber.TAKE_V2 else (b"0", False)
    folder, _ = guest.group(name)
    before = int(read_at(folder, held)) >> 10
    if before < LEAST_HELD_KIB:
        raise OSError(errno.ENODATA, "the group holds too little")
    with opened(written, os.O_WRONLY, folder) as file:
        try:
            # Again and again: a signal that comes before the write has begun ends nothing.
            signal.setitimer(signal.ITIMER_REAL, min(max(order.b / 1e6, 0.002), LONGEST_SECONDS), 0.002)
            _called(libc.write, file, content, len(content))  # once: Python's own write begins again after a signal
        except InterruptedError:  # the timer has ended it
            more = True
        except OSError as error:
            if error.errno not in {errno.EAGAIN, errno.EBUSY}:  # so the kernel says that it found no more, in v2 and v1
                raise
            more = False
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    return max(0, before - (int(read_at(folder, held)) >> 10)), more


def _by_advice(order: Order, guest: Guest) -> tuple[int, bool]:
    """How much of an area of its process is in swap then, or was, and is called back."""
    first, length = order.b, min(max(order.a, 0), MOST_PIECE_KIB) << 10
    with opened("pagemap", folder=guest.folder) as pagemap:
        before = _swapped_kib(pagemap, first, length)
        area = struct.pack("PN", first, length)  # the kernel's `struct iovec`
        _called(libc.syscall, _SYS_PROCESS_MADVISE, guest.handle, area, ctypes.c_size_t(1), _ADVICE[OrderNumber(order.number)], 0)
        # What is called back is still in swap, as the kernel counts, until it is used.
        return before if order.number == OrderNumber.RECALL else max(0, _swapped_kib(pagemap, first, length) - before), True


def _called(function: Callable[..., int], *arguments: object) -> None:
    ctypes.set_errno(0)
    if function(*arguments) < 0:
        raise OSError(number := ctypes.get_errno(), os.strerror(number))


def _swapped_kib(pagemap: int, first: int, length: int) -> int:
    entries = os.pread(pagemap, length // _PAGE * 8, first // _PAGE * 8)
    return sum(1 for entry in memoryview(entries).cast("Q") if entry & _SWAPPED) * _PAGE >> 10


def step_back() -> int:
    """Have the guests' own threads go first, and the kernel end this process before them; how nice it is then."""
    nice = os.nice(NICE)
    for name, value in (("autogroup", NICE), ("oom_score_adj", OOM_SCORE)):
        # Where each session is a group for the scheduler, what counts is the group's. The score of mom and the helper is low, so that the
        # kernel spares them; this process can be started again.
        with suppress(OSError), opened(f"/proc/self/{name}", os.O_WRONLY) as file:
            os.write(file, b"%d" % value)
    return nice
