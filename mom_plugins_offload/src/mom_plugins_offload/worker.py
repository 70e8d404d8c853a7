"""A process of its own that has the kernel move memory of control groups and processes to swap and back, so that mom never waits for it.

It reads one batch of requests a line from standard input, as JSON, answers each with one line, and ends when its standard input does. It
needs nothing but the standard library, and changes no setting of the kernel: whatever becomes of it or of mom leaves no limit behind.

`v2`      a write to `memory.reclaim` of the group, in pieces.
`v1`      a write to `memory.force_empty` of the group: the kernel takes by its own list of what was used least lately, as much as it
          can, until a signal ends it; a timer sends one after some milliseconds. The group's limit stays what it is.
`process` process_madvise(MADV_PAGEOUT) of a process's memory, where there is no group. It takes what is hot with what is cold.
`recall`  process_madvise(MADV_WILLNEED) of what is in swap.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import signal
import struct
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

PIECE_KIB = 4 << 10
"""What is asked for at once, where that can be said. The kernel takes 10 ms for it on compressed memory: the guests take turns by it."""

FIRST_BITE_SECONDS = 0.01
LONGEST_BITE_SECONDS = 0.1
LONGEST_SECONDS = 30.0
"""How long one bite may take where an amount cannot be said: by how fast the one before it went. The kernel takes 1 GiB/s at most."""

LEAST_HELD_KIB = 64 << 10
"""A group that holds less is left alone: what an empty guest needs to run at all."""

LEAST_AREA_KIB = 16 << 10
"""Areas of a process that are larger hold a guest's memory; QEMU's own are smaller, and few."""

STEP_KIB = 2 << 10
"""How much of a process is looked at for what is in swap in one step."""

NICE = 10
"""The guests' own threads come first: this process gets a tenth of what one of them gets where both want the same CPU."""

OOM_SCORE = 900
"""Where memory runs out, the kernel ends this process before any guest."""

MADV_WILLNEED, MADV_PAGEOUT = 3, 21
_SYS_PROCESS_MADVISE = 440
_SWAPPED = 1 << 62
_PAGE_KIB = os.sysconf("SC_PAGE_SIZE") >> 10
_libc = ctypes.CDLL(None, use_errno=True)


class RequestRefused(Exception):
    """A request that cannot be followed, and why."""


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


@dataclass(slots=True)
class ReclaimRequest:
    """Move so much (`left`, KiB) of a guest by this way, in this folder or process; and the result: what `went` (KiB), in how many seconds,
    and why it ended before all had gone (empty: all had). `at` is where a walk through the guest goes on."""

    guest: str
    way: str
    left: int
    folder: str = ""
    pid: int = 0
    started: int = 0
    at: int = 0
    went: int = 0
    seconds: float = 0.0
    why: str = ""
    rate: float = 0.0

    def piece(self, until: float) -> bool:
        """Take one piece; False when there is no more to do."""
        if self.left <= 0 or self.why:
            return False
        before = time.monotonic()
        try:
            went = _WAYS[self.way](self, until)
        except RequestRefused as error:
            self.why, went = str(error), 0
        except OSError as error:
            self.why, went = f"{error.strerror}", 0
        took = time.monotonic() - before
        self.rate = went / took if took > 0 else 0.0
        self.seconds += took
        self.went += went
        self.left -= went
        return self.left > 0 and not self.why


def held_kib(folder: str, *, unified: bool) -> int:
    """The memory that a group holds."""
    return int(Path(folder, "memory.current" if unified else "memory.usage_in_bytes").read_bytes()) >> 10


def _take_v2(request: ReclaimRequest, until: float) -> int:
    del until  # a piece is small
    before = held_kib(request.folder, unified=True)
    if before < LEAST_HELD_KIB:
        raise RequestRefused("its group holds too little")
    file = os.open(f"{request.folder}/memory.reclaim", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(file, str(min(request.left, PIECE_KIB) << 10).encode())
    except OSError as error:
        if error.errno not in {errno.EAGAIN, errno.EINTR}:
            raise
        request.why = "the kernel found no more to take"
    finally:
        os.close(file)
    return max(0, before - held_kib(request.folder, unified=True))


def _take_v1(request: ReclaimRequest, until: float) -> int:
    before = held_kib(request.folder, unified=False)
    if before < LEAST_HELD_KIB:
        raise RequestRefused("its group holds too little")
    wanted = request.left / request.rate if request.rate > 0 else FIRST_BITE_SECONDS
    bite = min(max(wanted, 0.002), 2 * request.seconds or FIRST_BITE_SECONDS, LONGEST_BITE_SECONDS, max(0.002, until - time.monotonic()))
    file = os.open(f"{request.folder}/memory.force_empty", os.O_WRONLY | os.O_CLOEXEC)
    # Again and again: a signal that comes before the write has begun ends nothing.
    signal.setitimer(signal.ITIMER_REAL, bite, 0.002)
    try:
        ctypes.set_errno(0)
        wrote = _libc.write(file, b"0", 1)
        error = ctypes.get_errno()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        os.close(file)
    if wrote >= 0 or error == errno.EBUSY:
        request.why = "the kernel found no more to take"
    elif error != errno.EINTR:
        raise OSError(error, os.strerror(error))
    return max(0, before - held_kib(request.folder, unified=False))


def _opened(request: ReclaimRequest) -> int:
    """A handle of the process, which is surely the one that is meant: its number may be another one's by now."""
    handle = os.pidfd_open(request.pid)
    try:
        started = int(Path(f"/proc/{request.pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
        if started != request.started:
            raise RequestRefused("its process has ended")
    except BaseException:
        os.close(handle)
        raise
    return handle


def _areas(pid: int) -> list[tuple[int, int]]:
    """Where a process has large areas of memory that can be written: first and last address."""
    found = []
    with Path(f"/proc/{pid}/maps").open("rb") as file:
        for line in file:
            where, rights = line.split()[:2]
            first, last = (int(word, 16) for word in where.split(b"-"))
            if rights.startswith(b"rw") and last - first >= LEAST_AREA_KIB << 10:
                found.append((first, last))
    return found


def _advise(handle: int, first: int, length: int, advice: int) -> None:
    vector = _Vector(first, length)
    ctypes.set_errno(0)
    done = _libc.syscall(_SYS_PROCESS_MADVISE, handle, ctypes.byref(vector), ctypes.c_size_t(1), advice, 0)
    if done < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def _swapped_kib(pid: int) -> int:
    with Path(f"/proc/{pid}/status").open("rb") as file:
        for line in file:
            if line.startswith(b"VmSwap:"):
                return int(line.split()[1])
    return 0


def _steps(request: ReclaimRequest) -> Iterator[tuple[int, int]]:
    """The areas in steps, from where the last request ended. They are made one by one: a process may reserve terabytes of addresses."""
    areas = _areas(request.pid)
    ranges = [range(first, last, STEP_KIB << 10) for first, last in areas]
    count = sum(map(len, ranges))
    if not count:
        raise RequestRefused("its process has no large memory")
    start = request.at % count
    for begin, end in ((start, count), (0, start)):
        passed = 0
        for steps, (_, last) in zip(ranges, areas, strict=True):
            for at in steps[max(0, begin - passed) : max(0, end - passed)]:
                yield at, min(STEP_KIB << 10, last - at)
            passed += len(steps)


def _take_process(request: ReclaimRequest, until: float) -> int:
    handle = _opened(request)
    try:
        before = _swapped_kib(request.pid)
        for first, length in _steps(request):
            if time.monotonic() >= until:
                break
            _advise(handle, first, length, MADV_PAGEOUT)
            request.at += 1
            if _swapped_kib(request.pid) - before >= min(request.left, PIECE_KIB):
                break
        else:
            request.why = "the kernel found no more to take"
        return max(0, _swapped_kib(request.pid) - before)
    finally:
        os.close(handle)


def _recall(request: ReclaimRequest, until: float) -> int:
    handle = _opened(request)
    called = 0
    try:
        with Path(f"/proc/{request.pid}/pagemap").open("rb", buffering=0) as pagemap:
            for first, length in _steps(request):
                if time.monotonic() >= until or called >= min(request.left, PIECE_KIB):
                    return called
                request.at += 1
                pagemap.seek((first // (_PAGE_KIB << 10)) * 8)
                entries = pagemap.read((length // (_PAGE_KIB << 10)) * 8)
                swapped = sum(1 for (entry,) in struct.iter_unpack("=Q", entries) if entry & _SWAPPED)
                if swapped:
                    _advise(handle, first, length, MADV_WILLNEED)
                    called += swapped * _PAGE_KIB
        request.why = "there was no more in swap"
        return called
    finally:
        os.close(handle)


_WAYS = {"v2": _take_v2, "v1": _take_v1, "process": _take_process, "recall": _recall}


def followed(batch: dict[str, Any]) -> list[dict[str, Any]]:
    """The results of a batch. The guests take turns by pieces, so that a slow store costs all of them a little rather than one all."""
    requests = [ReclaimRequest(**one) for one in batch["requests"]]
    until = time.monotonic() + min(float(batch["seconds"]), LONGEST_SECONDS)
    before, most = time.process_time(), float(batch["cpu_seconds"])
    due = list(requests)
    while due and time.monotonic() < until and time.process_time() - before < most:
        again = []
        for request in due:
            if time.monotonic() >= until or time.process_time() - before >= most:
                break
            if request.piece(until):
                again.append(request)
        due = again
    for request in requests:
        if request.left > 0 and not request.why:
            request.why = "the time was over"
    return [asdict(one) for one in requests]


def main() -> None:
    """Follow batches until standard input ends."""
    os.nice(NICE)
    with contextlib.suppress(OSError):  # where each session is a group for the scheduler, what counts is the group's
        Path("/proc/self/autogroup").write_text(str(NICE))
    with contextlib.suppress(OSError):  # mom's own is low, so that the kernel spares it; this process can be started again
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # mom may end while a batch is followed: there is nobody to tell what came of it
    for ignored in (signal.SIGINT, signal.SIGHUP):  # the terminal's; mom ends this process by closing its standard input
        signal.signal(ignored, signal.SIG_IGN)
    for line in sys.stdin.buffer:
        sys.stdout.write(json.dumps(followed(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
