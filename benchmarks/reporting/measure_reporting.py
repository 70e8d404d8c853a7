"""What free page reporting and autodeflate bring a host, and cost a guest: measured on real guests.

    python benchmarks/reporting/measure_reporting.py [--rounds 3]

reporting    two guests of 768 MiB, one with freePageReporting='on'. In each, a program takes 450 MiB, holds them for 20 s and frees them
             for 40 s, again and again: what the guest's process holds on the host meanwhile, and 10 s and 30 s after; how long it took
             to fill the memory, the first time and later; CPU time of the guest's process in the 30 s after
autodeflate  two such guests whose balloons have taken all but 320 MiB, one with autodeflate='on'. A program wants 300 MiB more than
             its 60: how often the guest's kernel killed it, how long the filling took, and the guest's size after

It needs what tests/real needs: libvirtd, QEMU, 3 GiB of memory, and some minutes in which nobody else starts large things.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "real"))

from guest_image import build, cache_folder  # only found from here on
from private_libvirtd import PrivateLibvirtd  # as above
from real_guests import Lab, RealGuest  # as above

from mom_devkit import wait_until

SIZE_MIB = 768
BASE_MIB, BURST_MIB = 60, 450
SMALL_MIB, WANTED_MIB = 320, 300
PERIOD, HELD, BOOT = 60.0, 20.0, 60.0
TICKS = os.sysconf("SC_CLK_TCK")

_DEMAND = re.compile(r"DEMAND ([\d.]+) held=(\d+) lost=([\d.]+) filled=([\d.]+) kills=(\d+)")


@dataclass
class Reporting:
    """One guest: MiB that its process holds, seconds to fill the memory, CPU seconds in the 30 s after."""

    on: bool
    held: list[float] = field(default_factory=list)
    after_10: list[float] = field(default_factory=list)
    after_30: list[float] = field(default_factory=list)
    filled: list[float] = field(default_factory=list)
    cpu_after: list[float] = field(default_factory=list)


@dataclass
class Autodeflate:
    """One guest: programs killed, seconds to fill the memory (0: never filled), MiB that the guest has before and after."""

    on: bool
    kills: int = 0
    filled: float = 0.0
    before: float = 0.0
    after: float = 0.0


def resident_mib(guest: RealGuest) -> float:
    """What the guest's process holds of the host's memory."""
    for line in Path(f"/proc/{guest.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise SystemExit(f"{guest.name} has no process")


def cpu_seconds(guest: RealGuest) -> float:
    """CPU time of the guest's process so far."""
    words = Path(f"/proc/{guest.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / TICKS


def told(guest: RealGuest) -> tuple[int, float, int]:
    """MiB that its program holds now, the seconds of its last filling, kills."""
    lines = _DEMAND.findall(guest.printed)
    return (int(lines[-1][1]), float(lines[-1][3]), int(lines[-1][4])) if lines else (0, 0.0, 0)


def told_by(guest: RealGuest, name: str) -> float:
    """What libvirt knows of a guest's memory, in MiB; 0 for what it does not know."""
    return float(guest.domain.memoryStats().get(name, 0)) / 1024


def has_at_most(guest: RealGuest, mib: float) -> bool:
    """Whether its balloon is where it should be."""
    return told_by(guest, "actual") <= mib


def begin(lab: Lab, name: str, option: str, at: float, burst: int) -> RealGuest:
    """A guest whose program begins to want more at that time."""
    duty = 100 * HELD / PERIOD
    arguments = f"momtest.demand={int(at)},{BASE_MIB},{burst},{PERIOD:.0f},{duty:.0f},0,0,0"
    return lab.start(name, mib=SIZE_MIB, balloon_options=option, arguments=arguments)


def sleep_until(at: float) -> None:
    """By the wall clock, which the guests go by."""
    time.sleep(max(0.0, at - time.time()))


def measure(lab: Lab, rounds: int) -> tuple[list[Reporting], list[Autodeflate]]:
    """All four guests together, from their start."""
    at = float(int(time.time() + BOOT))
    switch = {False: "off", True: "on"}
    reporting = [(Reporting(on), begin(lab, f"fpr-{on}", f"freePageReporting='{to}'", at, BURST_MIB)) for on, to in switch.items()]
    deflating = [(Autodeflate(on), begin(lab, f"deflate-{on}", f"autodeflate='{to}'", at + 30, WANTED_MIB)) for on, to in switch.items()]
    for _, guest in (*reporting, *deflating):
        guest.wait_until_up()
    for state, guest in deflating:
        wait_until(partial(told_by, guest, "usable"), "its statistics", 60)
        guest.domain.setMemory(SMALL_MIB * 1024)
        wait_until(partial(has_at_most, guest, SMALL_MIB), "its balloon", 60)
        state.before = told_by(guest, "actual")
    if time.time() > at:
        raise SystemExit("the guests took too long to start: try again when the host is less busy")
    for number in range(rounds):
        start = at + number * PERIOD
        sleep_until(start + HELD - 2)
        for one, guest in reporting:
            one.held.append(resident_mib(guest))
            one.filled.append(told(guest)[1])
        sleep_until(start + HELD - 0.5)
        spent = [cpu_seconds(guest) for _, guest in reporting]
        sleep_until(start + HELD + 10)
        for one, guest in reporting:
            one.after_10.append(resident_mib(guest))
        sleep_until(start + HELD + 30)
        for (one, guest), before in zip(reporting, spent, strict=True):
            one.after_30.append(resident_mib(guest))
            one.cpu_after.append(cpu_seconds(guest) - before)
    for state, guest in deflating:
        _, state.filled, state.kills = told(guest)
        state.after = told_by(guest, "actual")
    return [one for one, _ in reporting], [one for one, _ in deflating]


def median(values: list[float]) -> float:
    """Of none: 0."""
    return statistics.median(values) if values else 0.0


def told_in_markdown(reporting: list[Reporting], deflating: list[Autodeflate]) -> str:
    """For people."""
    heading = ["freePageReporting", "MiB held on the host with 450 MiB in use", "10 s after they were freed", "30 s after"]
    heading += ["s to fill them, first", "later", "CPU s in the 30 s after"]
    lines = [f"| {' | '.join(heading)} |", f"| {' | '.join('---' for _ in heading)} |"]
    for one in reporting:
        cells = [f"{median(figures):.0f}" for figures in (one.held, one.after_10, one.after_30)]
        cells += [f"{one.filled[0]:.2f}", f"{median(one.filled[1:]):.2f}", f"{median(one.cpu_after):.2f}"]
        lines.append(f"| {'on' if one.on else 'off'} | {' | '.join(cells)} |")
    lines += ["", "| autodeflate | MiB before | MiB after | programs killed | s to fill 300 MiB |", "| --- | --- | --- | --- | --- |"]
    for state in deflating:
        filled = f"{state.filled:.2f}" if state.filled else "never"
        lines.append(f"| {'on' if state.on else 'off'} | {state.before:.0f} | {state.after:.0f} | {state.kills} | {filled} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    libvirtd = PrivateLibvirtd(cache_folder())
    try:
        libvirtd.start()
        reporting, deflating = measure(Lab(libvirtd, build()), options.rounds)
    finally:
        libvirtd.stop()
    print(told_in_markdown(reporting, deflating))


if __name__ == "__main__":
    main()
