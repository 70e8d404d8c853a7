"""Processes of the host: precedence, children and CPU time."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from mom_kvm import ProcessStat

PROC = Path("/proc")


def set_nice(pid: int, nice: int) -> None:
    """Set the precedence of all threads of a process, where that is allowed."""
    for task in Path(f"/proc/{pid}/task").glob("*"):
        with suppress(OSError):  # a thread that has ended
            os.setpriority(os.PRIO_PROCESS, int(task.name), nice)


def cpu_seconds(pid: int, proc: Path = PROC) -> float:
    """Return the CPU time of a process; 0 if it has ended."""
    stat = ProcessStat.of(proc / str(pid))
    return 0.0 if stat is None else stat.cpu_seconds


def thread_seconds(name: str, proc: Path = PROC) -> float:
    """Return the CPU time of the kernel thread with that name; 0 if it is not visible."""
    return cpu_seconds(ProcessStat.id_of(name, proc), proc)


def system_seconds(pids: Iterable[int], proc: Path = PROC) -> float:
    """Return the CPU time of these processes in the kernel."""
    seconds = 0.0
    for pid in pids:
        with suppress(OSError):  # it may have ended
            seconds += int((proc / str(pid) / "stat").read_text().rpartition(")")[2].split()[12]) / os.sysconf("SC_CLK_TCK")
    return seconds


def descendants(pid: int, proc: Path = PROC) -> Sequence[int]:
    """Return the children of a process, their children, and so on."""
    pids: list[int] = []
    for tasks in (proc / str(pid) / "task").glob("*/children"):
        with suppress(OSError):
            children = [int(child) for child in tasks.read_text().split()]
            pids += [*children, *(grandchild for child in children for grandchild in descendants(child, proc))]
    return pids
