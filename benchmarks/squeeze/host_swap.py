"""Compressed swap of the host for one run, and the kernel's CPU time for swapping."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

CONTROL = Path("/sys/class/zram-control")
MIB = 1 << 20
PREFERRED = "32767"
"""Highest priority: the kernel uses this swap before others."""
OWNER = "mom-"
"""Start of the swap's label. The pid of the process that made it follows."""


@dataclass(frozen=True)
class HostSwap:
    """zram device."""

    number: str
    block: Path = Path("/sys/block")

    @property
    def device(self) -> str:
        return f"/dev/zram{self.number}"

    @property
    def settings(self) -> Path:
        return self.block / f"zram{self.number}"

    @property
    def store(self) -> str:
        """Return the file with its usage."""
        return str(self.settings / "mm_stat")

    def held_mib(self) -> tuple[float, float]:
        """Return what it holds, and the host's memory that this takes."""
        held, _, taken, *_ = Path(self.store).read_text().split()
        return int(held) / MIB, int(taken) / MIB


@contextmanager
def compressed_swap(mib: int) -> Iterator[HostSwap | None]:
    """Add a swap of so many MiB until the end of the block; `None` for 0. Other swap of the host stays.

    End guests first: removing a full swap needs memory. Swap that a killed process has left is removed.
    Raise `OSError` or `subprocess.CalledProcessError` if the host refuses.
    """
    if not mib:
        yield None
        return
    for left in _left_by_the_dead():
        _take_away(left)
    swap = HostSwap((CONTROL / "hot_add").read_text().strip())
    try:
        (swap.settings / "disksize").write_text(f"{mib}M")
        subprocess.run(["mkswap", "--label", f"{OWNER}{os.getpid()}", swap.device], check=True, capture_output=True, timeout=30)
        subprocess.run(["swapon", "--priority", PREFERRED, swap.device], check=True, capture_output=True, timeout=30)
        yield swap
    finally:
        _take_away(swap)


def swaps() -> Mapping[str, tuple[int, int]]:
    """Return free KiB and priority of each swap of the host, by its file."""
    lines = [line.split() for line in Path("/proc/swaps").read_text(encoding="utf-8").splitlines()[1:]]
    return {name: (int(size) - int(used), int(priority)) for name, _, size, used, priority in lines}


def _left_by_the_dead() -> Sequence[HostSwap]:
    """Return swap devices of processes that have ended."""
    left = []
    for device in swaps():
        if device.startswith("/dev/zram"):
            output = subprocess.run(["swaplabel", device], check=False, capture_output=True, text=True, timeout=30).stdout
            _, labelled, owner = output.partition(f"LABEL: {OWNER}")
            if labelled and not Path("/proc", owner.split()[0]).exists():
                left.append(HostSwap(device.removeprefix("/dev/zram")))
    return left


def _take_away(swap: HostSwap) -> None:
    subprocess.run(["swapoff", swap.device], check=False, capture_output=True, timeout=300)
    for _ in range(50):  # another process may look at the device for a moment
        with suppress(OSError):  # swapoff found no room: the swap stays
            (swap.settings / "reset").write_text("1")
            (CONTROL / "hot_remove").write_text(swap.number)
            return
        time.sleep(0.1)


def thread_seconds(name: str, proc: Path = Path("/proc")) -> float:
    """Return the CPU time of kernel threads with that name."""
    seconds = 0.0
    for folder in proc.glob("[0-9]*"):
        with suppress(OSError):
            if (folder / "comm").read_text() == f"{name}\n":
                seconds += sum(_times(folder))
    return seconds


def system_seconds(pids: Iterable[int], proc: Path = Path("/proc")) -> float:
    """Return the CPU time of these processes in the kernel."""
    seconds = 0.0
    for pid in pids:
        with suppress(OSError):  # it may have ended
            seconds += _times(proc / str(pid))[1]
    return seconds


def descendants(pid: int, proc: Path = Path("/proc")) -> Sequence[int]:
    """Return the children of a process, their children, and so on."""
    pids: list[int] = []
    for tasks in (proc / str(pid) / "task").glob("*/children"):
        with suppress(OSError):
            children = [int(child) for child in tasks.read_text().split()]
            pids += [*children, *(grandchild for child in children for grandchild in descendants(child, proc))]
    return pids


def _times(folder: Path) -> tuple[float, float]:
    """Return CPU seconds in user space and in the kernel."""
    fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
    ticks = os.sysconf("SC_CLK_TCK")
    return int(fields[11]) / ticks, int(fields[12]) / ticks
