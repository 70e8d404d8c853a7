"""A process of its own that has the kernel move memory of guests to swap and back, so that neither mom nor the helper waits for it.

mom-helper starts it for a mom without root, and gives it what guests are; a mom that is root starts it itself (`mom_helper taker`). It
reads requests from a SOCK_SEQPACKET socket, answers them, and ends when the other end does. It changes no setting of the kernel: whatever
becomes of it or of mom leaves no limit behind.

A request is an `Order` whose number is a way: `a` KiB of guest `c`, `d`; `b` is where a walk through it goes on. So is a result: what went
(KiB), where a walk goes on, and the reason why not all went. A message has some; the last of a batch is `GO`: how long it may take, and how
much CPU time (microseconds). The last of the results is `GO` again.

`v2`      a write to `memory.reclaim` of the group, in pieces.
`v1`      a write to `memory.force_empty` of the group: the kernel takes by its own list of what was used least lately, as much as it
          can, until a signal ends it; a timer sends one after some milliseconds. The group's limit stays what it is.
`process` process_madvise(MADV_PAGEOUT) of a process's memory, where there is no group. It takes what is hot with what is cold.
`recall`  process_madvise(MADV_WILLNEED) of what is in swap.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import socket
import struct
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from enum import IntEnum
from itertools import accumulate, chain
from typing import Final

from mom_helper.guests import UNIFIED, Guest, Guests, guest_of
from mom_helper.kernel import libc, opened, read_at
from mom_helper.orders import ORDER, Order

PIECE_KIB: Final = 4 << 10
"""What is asked for at once, where that can be said. The kernel takes 10 ms for it on compressed memory: the guests take turns by it."""

FIRST_BITE_SECONDS: Final = 0.01
LONGEST_BITE_SECONDS: Final = 0.1
LONGEST_SECONDS: Final = 30.0
"""How long one bite may take where an amount cannot be said: by how fast the one before it went. The kernel takes 1 GiB/s at most."""

LEAST_HELD_KIB: Final = 64 << 10
"""A group that holds less is left alone: what an empty guest needs to run at all."""

LEAST_AREA_KIB: Final = 16 << 10
"""Areas of a process that are larger hold a guest's memory; QEMU's own are smaller, and few."""

STEP_KIB: Final = 2 << 10
"""How much of a process is looked at for what is in swap in one step."""

NICE: Final = 10
"""The guests' own threads come first: this process gets a tenth of what one of them gets where both want the same CPU."""

OOM_SCORE: Final = 900
"""Where memory runs out, the kernel ends this process before any guest."""

MOST_REQUESTS: Final = 10_000
"""In one batch: the guests that a host may have."""

AT_ONCE: Final = 128
"""How many requests or results one message has at most."""

MADV_WILLNEED, MADV_PAGEOUT = 3, 21
_SYS_PROCESS_MADVISE: Final = 440
_SWAPPED: Final = 1 << 62
_PAGE_KIB: Final = os.sysconf("SC_PAGE_SIZE") >> 10


class Way(IntEnum):
    """How memory is moved."""

    GO = 0
    V2 = 1
    V1 = 2
    PROCESS = 3
    RECALL = 4


class Reason(IntEnum):
    """Why a request ended before all had gone. Errors of the kernel are negative."""

    NONE = 0
    NO_MORE = 1
    HOLDS_TOO_LITTLE = 2
    HAS_ENDED = 3
    NO_LARGE_MEMORY = 4
    TIME_IS_OVER = 5
    NO_MORE_IN_SWAP = 6


def messages(records: Sequence[Order]) -> Iterator[bytes]:
    """Requests or results as they are sent."""
    for first in range(0, len(records), AT_ONCE):
        yield b"".join(ORDER.pack(*one) for one in records[first : first + AT_ONCE])


def records_in(message: bytes) -> Iterable[Order]:
    """Requests or results in a message. Raises `struct.error` where they are none."""
    return map(Order._make, ORDER.iter_unpack(message))


class _Taking:
    """A request that is followed, piece by piece."""

    def __init__(self, request: Order, guests: Guests) -> None:
        self.request, self.guests, self.left, self.at = request, guests, request.a, request.b
        self.went = self.reason = 0
        self.seconds = self.rate = 0.0

    def piece(self, until: float) -> bool:
        """Take one piece; False when there is no more to do."""
        if self.left <= 0 or self.reason:
            return False
        before, went = time.monotonic(), 0
        try:
            with guest_of(self.request.c, self.request.d, self.guests.rules) as guest:
                went = _WAYS[self.request.number](self, guest, until)
        except ProcessLookupError:
            self.reason = Reason.HAS_ENDED
        except KeyError:
            self.reason = -errno.EINVAL
        except OSError as error:
            self.reason = -(error.errno or errno.EIO)
        took = max(1e-6, time.monotonic() - before)
        self.rate, self.seconds, self.went, self.left = went / took, self.seconds + took, self.went + went, self.left - went
        self.guests.allowance.take(went << 10)
        return self.left > 0 and not self.reason


def _take_v2(taking: _Taking, guest: Guest, _: float) -> int:
    content = b"%d" % (min(taking.left, PIECE_KIB) << 10)
    return _of_group(taking, guest, UNIFIED, "memory.current", "memory.reclaim", content)


def _take_v1(taking: _Taking, guest: Guest, until: float) -> int:
    wanted = taking.left / taking.rate if taking.rate > 0 else FIRST_BITE_SECONDS
    bite = min(max(wanted, 0.002), 2 * taking.seconds or FIRST_BITE_SECONDS, LONGEST_BITE_SECONDS, max(0.002, until - time.monotonic()))
    return _of_group(taking, guest, "memory", "memory.usage_in_bytes", "memory.force_empty", b"0", bite)


def _of_group(taking: _Taking, guest: Guest, hierarchy: str, held: str, written: str, content: bytes, bite: float = 0) -> int:
    """What a write of this took, by how much the group holds then.

    :param held: the file that tells how much it holds
    :param bite: seconds after which a signal ends the write, which else goes on until there is no more; 0: it ends by itself
    """
    with guest.group(hierarchy, taking.guests.hierarchies[hierarchy]) as (folder, _):
        before = int(read_at(folder, held)) >> 10
        if before < LEAST_HELD_KIB:
            taking.reason = Reason.HOLDS_TOO_LITTLE
            return 0
        try:
            with opened(written, os.O_WRONLY, folder) as file:
                # Again and again: a signal that comes before the write has begun ends nothing.
                signal.setitimer(signal.ITIMER_REAL, bite, 0.002 if bite else 0)
                _called(libc.write, file, content, len(content))  # once: Python's own write begins again after a signal
            taking.reason = Reason.NO_MORE if bite else Reason.NONE
        except InterruptedError:  # the timer has ended it
            pass
        except OSError as error:
            if error.errno not in {errno.EAGAIN, errno.EBUSY}:  # so the kernel says that it found no more, in v2 and v1
                raise
            taking.reason = Reason.NO_MORE
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        return max(0, before - (int(read_at(folder, held)) >> 10))


def _called(function: Callable[..., int], *arguments: object) -> None:
    ctypes.set_errno(0)
    if function(*arguments) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _of_process(taking: _Taking, guest: Guest, until: float) -> int:
    """What went to swap of a walk through its large areas, or was called back from there."""
    recall, went, areas = taking.request.number == Way.RECALL, 0, _areas(guest)
    taking.reason = Reason.NO_LARGE_MEMORY if not areas else Reason.NO_MORE_IN_SWAP if recall else Reason.NO_MORE
    handle = os.pidfd_open(guest.pid)
    try:
        guest.check()  # the number is still its own: so was it when the handle was made
        with opened("pagemap", folder=guest.folder) as pagemap:
            for first, length in steps_of(areas, taking.at):
                if time.monotonic() >= until or went >= min(taking.left, PIECE_KIB):
                    taking.reason = Reason.NONE
                    break
                taking.at += 1
                swapped = _swapped_kib(pagemap, first, length)
                if swapped or not recall:
                    vector = ctypes.byref(_Vector(first, length))
                    advice = MADV_WILLNEED if recall else MADV_PAGEOUT
                    _called(libc.syscall, _SYS_PROCESS_MADVISE, handle, vector, ctypes.c_size_t(1), advice, 0)
                # What is called back is still in swap, as the kernel counts, until it is used.
                went += swapped if recall else max(0, _swapped_kib(pagemap, first, length) - swapped)
    finally:
        os.close(handle)
    return went


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def _areas(guest: Guest) -> Sequence[tuple[int, int]]:
    """Where a process has large areas of memory that can be written: first and last address."""
    found: list[tuple[int, int]] = []
    with opened("maps", folder=guest.folder) as file:
        for line in os.fdopen(file, "rb", closefd=False):
            where, rights = line.split(None, 2)[:2]
            first, last = (int(word, 16) for word in where.split(b"-"))
            if rights.startswith(b"rw") and last - first >= LEAST_AREA_KIB << 10 and len(found) < MOST_REQUESTS:
                found.append((first, last))
    return found


def _swapped_kib(pagemap: int, first: int, length: int) -> int:
    entries = os.pread(pagemap, (length // (_PAGE_KIB << 10)) * 8, (first // (_PAGE_KIB << 10)) * 8)
    return sum(1 for entry in memoryview(entries).cast("Q") if entry & _SWAPPED) * _PAGE_KIB


def steps_of(areas: Sequence[tuple[int, int]], at: int) -> Iterator[tuple[int, int]]:
    """The areas in steps (address, length), each once, from where the last request ended. They are made one by one: a process may reserve
    terabytes of addresses."""
    steps = [range(first, last, STEP_KIB << 10) for first, last in areas]
    ends = list(accumulate(map(len, steps)))  # the number of the step that comes after each area
    count = ends[-1] if ends else 0
    start = at % count if count else 0
    for number in chain(range(start, count), range(start)):
        area = bisect_right(ends, number)
        first = steps[area][number - ends[area]]  # counted from the area's end
        yield first, min(STEP_KIB << 10, areas[area][1] - first)


_WAYS: Final[Mapping[int, Callable[[_Taking, Guest, float], int]]] = {
    Way.V2: _take_v2,
    Way.V1: _take_v1,
    Way.PROCESS: _of_process,
    Way.RECALL: _of_process,
}


def _followed(batch: Sequence[Order], go: Order, guests: Guests) -> Sequence[Order]:
    """The results of a batch. The guests take turns by pieces, so that a slow store costs all of them a little rather than one all."""
    due = takings = [_Taking(request, guests) for request in batch]
    until, most = time.monotonic() + min(max(go.a, 0) / 1e6, LONGEST_SECONDS), time.process_time() + go.b / 1e6

    def goes_on(taking: _Taking) -> bool:
        if time.monotonic() >= until or time.process_time() >= most:
            return False
        if guests.allowance.take(0):
            return taking.piece(until)
        time.sleep(0.01)
        return True

    while due:
        due = [taking for taking in due if goes_on(taking)]
    for taking in takings:
        taking.reason = taking.reason or (Reason.TIME_IS_OVER if taking.left > 0 else Reason.NONE)
    return [Order(one.request.number, one.request.id, one.went, one.at, one.reason) for one in takings]


def serve(engine: socket.socket, guests: Guests) -> None:
    """Follow batches until the engine ends."""
    os.nice(NICE)
    for name, value in (("autogroup", NICE), ("oom_score_adj", OOM_SCORE)):
        # Where each session is a group for the scheduler, what counts is the group's. The score of mom and the helper is low, so that the
        # kernel spares them; this process can be started again.
        with suppress(OSError), open(f"/proc/self/{name}", "w", encoding="ascii") as file:  # noqa: PTH123  # pathlib takes a megabyte
            file.write(str(value))
    for ignored in (signal.SIGINT, signal.SIGHUP):  # the terminal's; mom ends this process by closing the socket
        signal.signal(ignored, signal.SIG_IGN)
    batch: list[Order] = []
    with suppress(ConnectionError, struct.error):  # mom may end while a batch is followed: there is nobody to tell what came of it
        while message := engine.recv(ORDER.size * AT_ONCE):
            for request in records_in(message):
                if request.number != Way.GO:
                    batch += [request] if len(batch) < MOST_REQUESTS else []
                    continue
                for answer in messages([*_followed(batch, request, guests), Order(Way.GO, request.id)]):
                    engine.send(answer)
                batch.clear()
