"""Measure on real guests what the laws of the simulated guest are fitted to.

    python benchmarks/simulator/measure_guests.py [kernel] [balloon] [killer]

kernel   memory that the kernel of an idle guest of several sizes keeps, what it counts as usable, and QEMU's memory
balloon  speed of a balloon in memory that was never touched, that was touched and freed, and that is page cache
killer   time from the moment at which nothing is free until the guest's kernel kills a program that wants more: with nothing to reclaim,
         and with page cache that another program keeps reading

It needs what tests/real needs: libvirtd, QEMU, and some minutes in which no other program starts large things.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

sys.path += [str(Path(__file__).resolve().parents[2] / folder) for folder in ("tests/real", "benchmarks/shared")]

from guest_lab import guest_lab  # only found from here on
from real_guests import Lab, RealGuest, disk  # as above
from tables import table  # as above

from mom_devkit import wait_until

MIB = 1024
SIZES = (192, 512, 1024, 2048)
BALLOON_MIB, SMALL_MIB = 2048, 1024
KILLER_MIB, KEPT_MIB, FILES_MIB, TIMES = 512, 100, 150, 5
LOOK_SECONDS = 0.05

_GROWTH = re.compile(r"GROWTH (\d+) filled=(\d+) half=([\d.]+) whole=([\d.]+) stalled=([\d.]+)")


Row = tuple[str | float, ...]


def kernels(lab: Lab) -> Iterator[Row]:
    """Yield the size of idle guests; memory that the kernel manages, uses, and does not count as usable; and QEMU's memory (MiB)."""
    for size in SIZES:
        guest = lab.start(f"idle{size}", mib=size)
        guest.wait_until_up()
        time.sleep(5)
        stats = statistics_of(guest)
        free = stats["unused"] + stats["disk_caches"]
        yield size, stats["available"], stats["available"] - free, free - stats["usable"], stats["rss"]
        guest.destroy()


def moves(lab: Lab) -> Iterator[Row]:
    """Yield moves of balloons in both directions."""
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


def there_and_back(guest: RealGuest, what: str) -> Iterator[Row]:
    """Shrink a guest to half of its size, grow it again, and end it."""
    wait_until(lambda: guest.domain.memoryStats().get("usable"), "its statistics")
    time.sleep(2)
    yield moved(guest, what, SMALL_MIB)
    yield moved(guest, f"{what}, given back", BALLOON_MIB)
    guest.destroy()


def moved(guest: RealGuest, what: str, mib: int) -> Row:
    """Resize a guest. Return the sizes before and after (MiB), seconds, MiB/s, and MiB that QEMU returned."""
    domain = guest.domain
    before = statistics_of(guest)
    began = time.monotonic()
    domain.setMemory(mib * MIB)
    while abs(domain.memoryStats()["actual"] - mib * MIB) > MIB:
        if time.monotonic() - began > 120:
            raise RuntimeError(f"{guest.name} does not get to {mib} MiB")
        time.sleep(LOOK_SECONDS)
    seconds = time.monotonic() - began
    time.sleep(1)
    rate = abs(before["actual"] - mib) / seconds
    return what, before["actual"], mib, seconds, rate, before["rss"] - statistics_of(guest)["rss"]


def kills(lab: Lab) -> Iterator[Row]:
    """Yield ends of programs: MiB that each had filled, MiB/s while there was enough, and seconds until its kill."""
    for what, kept, files in (("nothing to reclaim", KEPT_MIB, 0), ("page cache in use", KEPT_MIB, FILES_MIB)):
        guest = lab.start(
            "killer", mib=KILLER_MIB, devices=disk(lab, "files", FILES_MIB), arguments=f"momtest.growth={TIMES},{kept},{files}"
        )
        wait_until(partial(has_printed, guest, "GROWTH done"), "all are killed", 400)
        for _, filled, half, _, stalled in _GROWTH.findall(guest.printed):
            yield what, int(filled), int(filled) / 2 / float(half), float(stalled)
        guest.destroy()


def has_printed(guest: RealGuest, text: str) -> bool:
    return text in guest.printed


def statistics_of(guest: RealGuest) -> Mapping[str, float]:
    """Return libvirt's memory statistics in MiB."""
    return {name: value / MIB for name, value in guest.domain.memoryStats().items()}


MEASUREMENTS: Mapping[str, tuple[Callable[[Lab], Iterator[Row]], Sequence[str]]] = {
    "kernel": (kernels, ("MiB: size", "managed", "used", "not usable", "resident")),
    "balloon": (moves, ("balloon", "from", "to", "seconds", "MiB/s", "returned")),
    "killer": (kills, ("killer", "MiB filled", "MiB/s", "stalled s")),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", choices=[*MEASUREMENTS, []], help="default: all")
    options = parser.parse_args()
    with guest_lab() as lab:
        for name in options.what or MEASUREMENTS:
            measure, heading = MEASUREMENTS[name]
            rows = [[f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in row] for row in measure(lab)]
            print(table(heading, rows), "\n", flush=True)


if __name__ == "__main__":
    main()
