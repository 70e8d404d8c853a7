"""Measure on real guests what free page reporting and autodeflate bring a host, and cost a guest.

    python benchmarks/reporting/measure_reporting.py [--rounds 3]

reporting    Two guests of 768 MiB, one with freePageReporting='on'. In each, a program takes 450 MiB, holds them for 20 s and frees them
             for 40 s, in turns. Measured: memory that the guest's QEMU holds meanwhile, and 10 s and 30 s after; time to fill the memory,
             at first and later; CPU time of QEMU in the 30 s after.
autodeflate  Two such guests whose balloons leave them 320 MiB, one with autodeflate='on'. A program wants 300 MiB more than its 60.
             Measured: programs that the guest's kernel killed, time to fill the memory, and the guest's size after.

It needs what tests/real needs: libvirtd, QEMU, 3 GiB of memory, and some minutes in which no other program starts large things.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

sys.path += [str(Path(__file__).resolve().parents[2] / folder) for folder in ("tests/real", "benchmarks/shared")]

from guest_lab import guest_lab  # only found from here on
from real_guests import Lab, RealGuest  # as above
from tables import table  # as above

from mom_devkit import wait_until
from mom_kvm import ProcessStat

SIZE_MIB = 768
BASE_MIB, BURST_MIB = 60, 450
SMALL_MIB, WANTED_MIB = 320, 300
PERIOD, HELD, BOOT = 60.0, 20.0, 60.0
SWITCHES = {"off": False, "on": True}

_DEMAND = re.compile(r"DEMAND [\d.]+ held=\d+ lost=[\d.]+ filled=([\d.]+) kills=(\d+)")


@dataclass
class Reporting:
    """Figures of one guest: MiB that its QEMU holds, seconds to fill the memory, CPU seconds in the 30 s after."""

    switch: str
    guest: RealGuest
    held: list[float] = field(default_factory=list)
    after_10: list[float] = field(default_factory=list)
    filled: list[float] = field(default_factory=list)
    after_30: list[float] = field(default_factory=list)
    cpu_after: list[float] = field(default_factory=list)

    def row(self) -> list[str]:
        cells = [f"{statistics.median(mib):.0f}" for mib in (self.held, self.after_10, self.after_30)]
        later = statistics.median(self.filled[1:] or [0.0])
        return [self.switch, *cells, f"{self.filled[0]:.2f}", f"{later:.2f}", f"{statistics.median(self.cpu_after):.2f}"]


def resident_mib(guest: RealGuest) -> float:
    """Return the host's memory that the guest's QEMU holds."""
    return (_process(guest).resident_kib or 0) / 1024


def cpu_seconds(guest: RealGuest) -> float:
    """Return the CPU time that the guest's QEMU has used."""
    return _process(guest).cpu_seconds


def _process(guest: RealGuest) -> ProcessStat:
    stat = ProcessStat.of(f"/proc/{guest.pid}")
    if stat is None:
        raise SystemExit(f"{guest.name} has ended")
    return stat


def last_fill(guest: RealGuest) -> tuple[float, int]:
    """Return the seconds that the program last took to fill its memory (0: it did not), and how often it was killed."""
    lines = _DEMAND.findall(guest.printed)
    return (float(lines[-1][0]), int(lines[-1][1])) if lines else (0.0, 0)


def statistic(guest: RealGuest, name: str) -> float:
    """Return a memory statistic of libvirt in MiB; 0 if it is unknown."""
    return float(guest.domain.memoryStats().get(name, 0)) / 1024


def is_small(guest: RealGuest) -> bool:
    return statistic(guest, "actual") <= SMALL_MIB


def start(lab: Lab, name: str, option: str, at: float, burst: int) -> RealGuest:
    """Start a guest whose program wants `burst` MiB more from that time on."""
    duty = 100 * HELD / PERIOD
    arguments = f"momtest.demand={int(at)},{BASE_MIB},{burst},{PERIOD:.0f},{duty:.0f},0,0,0"
    return lab.start(name, mib=SIZE_MIB, balloon_options=option, arguments=arguments)


def sleep_until(at: float) -> None:
    """Sleep until that time of the wall clock, which guests use, too."""
    time.sleep(max(0.0, at - time.time()))


def measure(lab: Lab, rounds: int) -> tuple[Sequence[list[str]], Sequence[list[str]]]:
    """Return the rows of both tables. All four guests run at the same time."""
    at = float(int(time.time() + BOOT))
    reporting = [Reporting(to, start(lab, f"fpr-{on}", f"freePageReporting='{to}'", at, BURST_MIB)) for to, on in SWITCHES.items()]
    deflating = {to: start(lab, f"deflate-{on}", f"autodeflate='{to}'", at + 30, WANTED_MIB) for to, on in SWITCHES.items()}
    for guest in (*(one.guest for one in reporting), *deflating.values()):
        guest.wait_until_up()
    for guest in deflating.values():
        wait_until(partial(statistic, guest, "usable"), "its statistics", 60)
        guest.domain.setMemory(SMALL_MIB * 1024)
        wait_until(partial(is_small, guest), "its balloon", 60)
    before = {to: statistic(guest, "actual") for to, guest in deflating.items()}
    if time.time() > at:
        raise SystemExit("the guests took too long to start: try again when the host is less busy")
    for number in range(rounds):
        end = at + number * PERIOD + HELD
        sleep_until(end - 2)
        for one in reporting:
            one.held.append(resident_mib(one.guest))
            one.filled.append(last_fill(one.guest)[0])
        sleep_until(end - 0.5)
        spent = [cpu_seconds(one.guest) for one in reporting]
        sleep_until(end + 10)
        for one in reporting:
            one.after_10.append(resident_mib(one.guest))
        sleep_until(end + 30)
        for one, earlier in zip(reporting, spent, strict=True):
            one.after_30.append(resident_mib(one.guest))
            one.cpu_after.append(cpu_seconds(one.guest) - earlier)
    rows = []
    for to, guest in deflating.items():
        filled, kills = last_fill(guest)
        rows.append([to, f"{before[to]:.0f}", f"{statistic(guest, 'actual'):.0f}", f"{kills}", f"{filled:.2f}" if filled else "never"])
    return [one.row() for one in reporting], rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with guest_lab() as lab:
        reporting, deflating = measure(lab, options.rounds)
    heading = ["freePageReporting", "MiB held on the host with 450 MiB in use", "10 s after they were freed", "30 s after"]
    print(table([*heading, "s to fill them, first", "later", "CPU s in the 30 s after"], reporting), "\n")
    print(table(["autodeflate", "MiB before", "MiB after", "programs killed", "s to fill 300 MiB"], deflating))


if __name__ == "__main__":
    main()
