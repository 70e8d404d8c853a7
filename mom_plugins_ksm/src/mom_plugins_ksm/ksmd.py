"""The CPU time that ksmd, the kernel thread that merges pages, has used: the price of KSM."""

from __future__ import annotations

import os
import time
from pathlib import Path

from mom_plugins_ksm.processes import process_folders

_LOOK_AGAIN_AFTER = 60.0
"""Seconds between two searches through /proc for a ksmd that is not there. In a container of its own it never is, and a large host has
thousands of processes to look at."""

_KERNEL_THREAD = 0x00200000
"""PF_KTHREAD of the kernel's include/linux/sched.h: anybody may call a program ksmd, only the kernel sets this."""


def parse_stat(text: str) -> tuple[str, bool, int] | None:
    """Name, whether it is a kernel thread, and CPU time in clock ticks of a process, from its /proc/PID/stat; None when malformed.

    The fields are those of proc(5): 2 comm (in brackets, and may hold any character), 9 flags, 14 utime, 15 stime.
    """
    head, closing, tail = text.rpartition(")")
    _, opening, name = head.partition("(")
    words = tail.split()
    numbers = (words[6], words[11], words[12]) if len(words) > 12 else ()
    if not (closing and opening and numbers and all(word.isascii() and word.isdigit() and len(word) < 20 for word in numbers)):
        return None
    flags, user, system = map(int, numbers)
    return name, bool(flags & _KERNEL_THREAD), user + system


class Ksmd:
    """Finds ksmd through /proc once, and again only when it is no longer what it was.

    :param root: where /proc is found
    """

    def __init__(self, root: Path) -> None:
        self._proc = root / "proc"
        self._ticks_per_second = os.sysconf("SC_CLK_TCK")
        self._stat: Path | None = None
        self._look_again_at = 0.0

    def cpu_seconds(self) -> float | None:
        """CPU time that ksmd has used since it was started; None when it cannot be seen from here."""
        ticks = None if self._stat is None else _ticks_of_ksmd(self._stat)
        if ticks is None:
            now = time.monotonic()
            if self._stat is None and now < self._look_again_at:
                return None
            self._look_again_at = now + _LOOK_AGAIN_AFTER
            self._stat, ticks = self._search()
        return None if ticks is None else ticks / self._ticks_per_second

    def _search(self) -> tuple[Path, int] | tuple[None, None]:
        for folder in process_folders(self._proc):
            stat = folder / "stat"
            ticks = _ticks_of_ksmd(stat)
            if ticks is not None:
                return stat, ticks
        return None, None


def _ticks_of_ksmd(stat: Path) -> int | None:
    try:
        parsed = parse_stat(stat.read_bytes().decode("ascii", "replace"))
    except OSError:
        return None
    if parsed is None:
        return None
    name, is_kernel_thread, ticks = parsed
    return ticks if name == "ksmd" and is_kernel_thread else None


_LEAST_SECONDS = 1.0
"""Over less than this the growth of CPU time says nothing, as it is counted in hundredths of a second: a cycle that is woken may begin at
any moment after another one."""


class CpuUsage:
    """The share of one CPU that a growing count of CPU seconds means, over the last second at least."""

    def __init__(self) -> None:
        self._base: tuple[float, float] | None = None
        self._percent: float | None = None

    def percent(self, cpu_seconds: float | None, now: float) -> float | None:
        """Percent of one CPU; None at the first sample, after a gap, and when the count has gone backwards.

        :param cpu_seconds: the count now, None when it is unknown
        :param now: seconds of a clock that never jumps
        """
        base = self._base
        if base is None or cpu_seconds is None or cpu_seconds < base[0] or now < base[1]:
            self._base, self._percent = None if cpu_seconds is None else (cpu_seconds, now), None
        elif now - base[1] >= _LEAST_SECONDS:
            self._base, self._percent = (cpu_seconds, now), 100 * (cpu_seconds - base[0]) / (now - base[1])
        return self._percent
