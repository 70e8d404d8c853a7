"""What the laws of the simulated guest are fitted to: measured on real guests.

    python benchmarks/simulator/measure_guests.py [kernel] [balloon] [killer]

kernel   what the kernel of an idle guest of several sizes keeps for itself, what it calls usable, and what its QEMU process holds beside
balloon  how fast a balloon takes and gives back memory that was never touched, that was touched and freed, and that is page cache
killer   how long a program that wants more than there is waits from the moment at which nothing is free to its kill by the guest's kernel:
         with nothing to reclaim, and with page cache that another program keeps reading

It needs what tests/real needs: libvirtd, QEMU, and some minutes in which nobody else starts large things.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "real"))

from guest_image import build, cache_folder  # only found from here on
from private_libvirtd import PrivateLibvirtd  # as above
from real_guests import Lab, RealGuest, disk  # as above

from mom_devkit import wait_until

MIB = 1024
SIZES = (192, 512, 1024, 2048)
BALLOON_MIB, SMALL_MIB = 2048, 1024
KILLER_MIB, KEPT_MIB, FILES_MIB, TIMES = 512, 100, 150, 5
LOOK_SECONDS = 0.05

_GROWTH = re.compile(r"GROWTH (\d+) filled=(\d+) half=([\d.]+) whole=([\d.]+) stalled=([\d.]+)")


@dataclass(frozen=True)
class Kernel:
    """An idle guest, in MiB: its size, what its kernel manages, what of it is neither free nor cache, what is not usable of what is free
    or cache, what its process holds on the host."""

    size: float
    managed: float
    used: float
    kept: float
    resident: float


@dataclass(frozen=True)
class Move:
    """A balloon's way: from and to so many MiB, in so many seconds, and by how many MiB the process of the guest became smaller."""

    what: str
    begin: float
    end: float
    seconds: float
    returned: float

    @property
    def rate(self) -> float:
        """MiB in a second."""
        return abs(self.begin - self.end) / self.seconds


@dataclass(frozen=True)
class Kill:
    """A program's end: MiB that it had filled, MiB/s while there was enough, and for how many seconds it got hardly any before its kill."""

    what: str
    filled: int
    rate: float
    stalled: float


def kernels(lab: Lab) -> Iterator[Kernel]:
    """Idle guests of all sizes, one after the other."""
    for size in SIZES:
        guest = lab.start(f"idle{size}", mib=size)
        guest.wait_until_up()
        time.sleep(5)
        told = told_by(guest)
        free = told["unused"] + told["disk_caches"]
        yield Kernel(size, told["available"], told["available"] - free, free - told["usable"], told["rss"])
        guest.destroy()


def moves(lab: Lab) -> Iterator[Move]:
    """Balloons in both directions."""
    untouched = lab.start("untouched", mib=BALLOON_MIB)
    untouched.wait_until_up()
    yield from there_and_back(untouched, "never touched")
    for former in (BALLOON_MIB - 400, BALLOON_MIB // 2, BALLOON_MIB // 4):
        freed = lab.start(f"freed{former}", mib=BALLOON_MIB, workload=(10, 1, 0, former))
        freed.wait_until_it_works()
        yield from there_and_back(freed, f"{former} MiB touched and freed")
    cached = lab.start(
        "cached",
        mib=BALLOON_MIB,
        devices=disk(lab, "cached", BALLOON_MIB - 400),
        arguments=f"momtest.demand=0,10,0,100,0,0,{BALLOON_MIB - 400},0",
    )
    wait_until(lambda: "DEMAND" in cached.printed, "it has read its files", 120)
    yield from there_and_back(cached, "page cache")


def there_and_back(guest: RealGuest, what: str) -> Iterator[Move]:
    """To half of its size, and back; then the guest is ended."""
    wait_until(lambda: guest.domain.memoryStats().get("usable"), "its statistics")
    time.sleep(2)
    yield moved(guest, what, SMALL_MIB)
    yield moved(guest, f"{what}, given back", BALLOON_MIB)
    guest.destroy()


def moved(guest: RealGuest, what: str, mib: int) -> Move:
    """Ask for a size, and watch until it is there."""
    domain = guest.domain
    before = told_by(guest)
    began = time.monotonic()
    domain.setMemory(mib * MIB)
    while abs(domain.memoryStats()["actual"] - mib * MIB) > MIB:
        if time.monotonic() - began > 120:
            raise RuntimeError(f"{guest.name} does not get to {mib} MiB")
        time.sleep(LOOK_SECONDS)
    seconds = time.monotonic() - began
    time.sleep(1)
    return Move(what, before["actual"], mib, seconds, before["rss"] - told_by(guest)["rss"])


def kills(lab: Lab) -> Iterator[Kill]:
    """Several programs in each of these guests, one after the other."""
    for what, kept, files in (("nothing to reclaim", KEPT_MIB, 0), ("page cache in use", KEPT_MIB, FILES_MIB)):
        guest = lab.start(
            "killer", mib=KILLER_MIB, devices=disk(lab, "files", FILES_MIB), arguments=f"momtest.growth={TIMES},{kept},{files}"
        )
        wait_until(partial(has_printed, guest, "GROWTH done"), "all are killed", 400)
        for _, filled, half, _, stalled in _GROWTH.findall(guest.printed):
            yield Kill(what, int(filled), int(filled) / 2 / float(half), float(stalled))
        guest.destroy()


def has_printed(guest: RealGuest, text: str) -> bool:
    """Whether a guest has said that."""
    return text in guest.printed


def told_by(guest: RealGuest) -> Mapping[str, float]:
    """What libvirt knows of a guest's memory, in MiB."""
    return {name: value / MIB for name, value in guest.domain.memoryStats().items()}


def table(heading: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """For people."""
    lines = [[*heading], *([f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heading))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def main() -> None:
    """Measure what is asked for, and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", choices=["kernel", "balloon", "killer", []], help="all of it, if nothing is named")
    options = parser.parse_args()
    what = options.what or ["kernel", "balloon", "killer"]
    libvirtd = PrivateLibvirtd(cache_folder())
    try:
        libvirtd.start()
        lab = Lab(libvirtd, build())
        idle = list(kernels(lab)) if "kernel" in what else []
        ways = list(moves(lab)) if "balloon" in what else []
        killed = list(kills(lab)) if "killer" in what else []
    finally:
        libvirtd.stop()
    if idle:
        print(
            table(
                ("MiB: size", "managed", "used", "not usable", "resident"), [(k.size, k.managed, k.used, k.kept, k.resident) for k in idle]
            )
        )
    if ways:
        print(
            table(
                ("balloon", "from", "to", "seconds", "MiB/s", "returned"),
                [(m.what, m.begin, m.end, m.seconds, m.rate, m.returned) for m in ways],
            )
        )
    if killed:
        print(table(("killer", "MiB filled", "MiB/s", "stalled s"), [(k.what, k.filled, k.rate, k.stalled) for k in killed]))
        print(f"stalled: median {statistics.median(kill.stalled for kill in killed):.2f} s")


if __name__ == "__main__":
    main()
