"""Reclaim worker. It makes the kernel swap memory of guests out, piece by piece, so that neither mom nor other requests wait.

mom-helper connects an unprivileged mom to this worker. A mom that runs as root starts `mom_helper taker` itself.
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
"""Time limit of a write that makes the kernel reclaim memory. The kernel reclaims at most 1 GiB/s."""

LEAST_HELD_KIB: Final = 64 << 10
"""Nothing is reclaimed from a control group with less memory, because even an idle guest needs this much to run."""

NICE: Final = 10
"""Niceness of the worker. On the same CPU, it gets a tenth of the CPU time of a guest's thread."""

OOM_SCORE: Final = 900
"""`oom_score_adj` of the worker, which the kernel then kills before any guest."""

_MADV_PAGEOUT: Final = 21
"""Advice to the kernel, which swaps out hot pages too."""

_GROUP_FILES: Final = {
    OrderNumber.TAKE_V2: (UNIFIED, "memory.current", "memory.reclaim"),
    OrderNumber.TAKE_V1: ("memory", "memory.usage_in_bytes", "memory.force_empty"),
}
"""For each kind of request: the hierarchy, the file with the used memory, and the file to write. While `memory.force_empty` is written, the
kernel reclaims memory until a signal ends the write."""
WAYS: Final = {OrderNumber.TAKE_PROCESS, *_GROUP_FILES}
_SYS_PROCESS_MADVISE: Final = 440
_SWAPPED: Final = 1 << 62
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


def move_piece(order: Order, guests: Guests) -> tuple[int, int, int]:
    """Move a piece of memory. Return the moved KiB, whether more is left, and the CPU time in µs. Raise `OSError` on failure."""
    if order.number not in WAYS:
        raise OSError(errno.EINVAL, "there is no such request")
    while not guests.allowance.take(0):
        time.sleep(0.01)
    began = time.process_time()
    guest = guests.find(order.c, order.d)
    went, more = (_by_advice if order.number == OrderNumber.TAKE_PROCESS else _by_group)(order, guest)
    guests.allowance.take(went << 10)
    return went, int(more), int((time.process_time() - began) * 1e6)


def _by_group(order: Order, guest: Guest) -> tuple[int, bool]:
    name, held, written = _GROUP_FILES[OrderNumber(order.number)]
    content, more = (b"%d" % (min(order.a, MOST_PIECE_KIB) << 10), True) if order.number == OrderNumber.TAKE_V2 else (b"0", False)
    folder, _ = guest.group(name)
    before = int(read_at(folder, held)) >> 10
    if before < LEAST_HELD_KIB:
        raise OSError(errno.ENODATA, "the control group has too little memory")
    with opened(written, os.O_WRONLY, folder) as file:
        try:
            # The timer repeats, because a signal before the write has no effect.
            signal.setitimer(signal.ITIMER_REAL, min(max(order.b / 1e6, 0.002), LONGEST_SECONDS), 0.002)
            _call(libc.write, file, content, len(content))  # Python's write would restart after a signal
        except InterruptedError:  # by the timer
            more = True
        except OSError as error:
            if error.errno not in {errno.EAGAIN, errno.EBUSY}:  # nothing more to reclaim, in v2 and v1
                raise
            more = False
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    return max(0, before - (int(read_at(folder, held)) >> 10)), more


def _by_advice(order: Order, guest: Guest) -> tuple[int, bool]:
    # The second returned value says that more may be left.
    first, length = order.b, min(max(order.a, 0), MOST_PIECE_KIB) << 10
    with opened("pagemap", folder=guest.folder) as pagemap:
        before = _swapped_kib(pagemap, first, length)
        area = struct.pack("PN", first, length)  # the kernel's `struct iovec`
        _call(libc.syscall, _SYS_PROCESS_MADVISE, guest.handle, area, ctypes.c_size_t(1), _MADV_PAGEOUT, 0)
        return max(0, _swapped_kib(pagemap, first, length) - before), True


def _call(function: Callable[..., int], *arguments: object) -> None:
    ctypes.set_errno(0)
    if function(*arguments) < 0:
        raise OSError(number := ctypes.get_errno(), os.strerror(number))


def _swapped_kib(pagemap: int, first: int, length: int) -> int:
    entries = os.pread(pagemap, length // _PAGE * 8, first // _PAGE * 8)
    return sum(1 for entry in memoryview(entries).cast("Q") if entry & _SWAPPED) * _PAGE >> 10


def step_back() -> int:
    """Give this process a lower CPU priority than guests, and make it the OOM killer's first choice. Return its niceness."""
    nice = os.nice(NICE)
    for name, value in (("autogroup", NICE), ("oom_score_adj", OOM_SCORE)):
        # With autogroups, only the group's niceness counts. mom and the helper have a low OOM score; this process can be restarted.
        with suppress(OSError), opened(f"/proc/self/{name}", os.O_WRONLY) as file:
            os.write(file, b"%d" % value)
    return nice
