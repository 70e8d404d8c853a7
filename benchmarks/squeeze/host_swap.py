"""Compressed swap of the host for one run."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
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
