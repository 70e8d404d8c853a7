"""Measure what balloons and KSM leave of the host's transparent huge pages, on real guests.

    python benchmarks/hugepages/measure_huge_pages.py                     balloons
    python benchmarks/hugepages/measure_huge_pages.py scan_sleep_millisecs=100 max_ptes_none=64     with other settings of khugepaged
    python benchmarks/hugepages/measure_huge_pages.py --ksm               KSM, which is switched on for the whole host meanwhile

Balloons: in each of three guests of 1 GiB, a program holds 250 MiB, uses 450 MiB more for 48 s, and frees them. The balloon takes half of
the guest, and returns it a minute later. The program then uses 450 MiB again, for two minutes. Measured: the guest's memory that the host
holds, and the part of it in huge pages, before and after each step.

contiguous  freed memory lies in large pieces
sliced      freed memory lies in pieces of 1 MiB between used ones
reporting   as contiguous, with free page reporting

KSM: two guests whose programs hold 400 MiB that are equal in both, and 100 MiB that are not. KSM scans them for a minute and a half.

It needs what tests/real needs, 4 GiB of memory, and eight minutes in which no other program starts large things (with --ksm, three
minutes). All but the first need root.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

sys.path += [str(Path(__file__).resolve().parents[2] / folder) for folder in ("tests/real", "benchmarks/shared")]

from ksm import KSM, ksm_restored, read_ksm  # only found from here on
from plain_qemu import PlainGuest, PlainHost, plain_host  # as above
from processes import thread_seconds  # as above
from tables import table, tell  # as above

from mom_devkit import wait_until

SIZE_MIB, HALF_MIB = 1024, 512
BASE_MIB, BURST_MIB = 250, 450
BOOT, PERIOD, HELD = 60.0, 240.0, 48.0
LIKE_MIB, UNLIKE_MIB, SCAN_SECONDS = 400, 100, 90.0
KHUGEPAGED = Path("/sys/kernel/mm/transparent_hugepage/khugepaged")
SCAN = {"pages_to_scan": "2000", "sleep_millisecs": "10", "run": "1"}

_AREAS = re.compile(r"^(?=[0-9a-f]+-[0-9a-f]+ )", re.MULTILINE)
_MERGEABLE = re.compile(r"^VmFlags:.* mg\b", re.MULTILINE)
_LINE = re.compile(r"^(Rss|AnonHugePages): +(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True)
class Held:
    """Memory of a guest that the host holds, the part of it in huge pages (MiB), and the time to read both (ms)."""

    guest: str
    when: str
    held: float
    huge: float
    walk_ms: float

    @property
    def percent(self) -> float:
        """Return the part in huge pages."""
        return 100 * self.huge / self.held if self.held else 0.0

    @property
    def walk(self) -> float:
        """Return the time to read the page tables of a GiB, in ms."""
        return 1024 * self.walk_ms / max(self.held, 1)


def memory_in(smaps: str) -> tuple[int, int]:
    """Return KiB that are held, and KiB in huge pages, of the guest's memory: areas that QEMU offers to KSM (`mg`)."""
    rss = huge = 0
    for area in _AREAS.split(smaps):
        if _MERGEABLE.search(area):
            sizes = {name: int(kib) for name, kib in _LINE.findall(area)}
            rss, huge = rss + sizes["Rss"], huge + sizes["AnonHugePages"]
    return rss, huge


class Looks:
    """What was seen of some guests."""

    def __init__(self, guests: Mapping[str, PlainGuest]) -> None:
        self.guests = guests
        self.seen: list[Held] = []

    def look(self, when: str) -> None:
        """Read the memory of all guests."""
        for name, guest in self.guests.items():
            began = time.thread_time()
            smaps = Path(f"/proc/{guest.pid}/smaps").read_text()
            walk_ms = 1e3 * (time.thread_time() - began)
            rss, huge = memory_in(smaps)
            self.seen.append(Held(name, when, rss / 1024, huge / 1024, walk_ms))
            tell(str(self.seen[-1]))

    def shown(self) -> str:
        """Return a table with a row for each moment."""
        cells = {(one.when, one.guest): f"{one.held:.0f}, {one.percent:.0f} %" for one in self.seen}
        rows = [[when, *(cells[when, guest] for guest in self.guests)] for when in dict.fromkeys(one.when for one in self.seen)]
        walks = [f"{one.walk:.1f} ms ({one.percent:.0f} % huge)" for one in sorted(self.seen, key=lambda one: one.walk)]
        text = table(["", *(f"{guest}: MiB held, in huge pages" for guest in self.guests)], rows)
        return f"{text}\n\nReading the page tables takes {walks[0]} to {walks[-1]} for each GiB that is held."


def demand(begin: float, base: int, burst: int, cold: int = 0, *, seed: int = 0, sliced: bool = False) -> str:
    """Return the arguments of a guest's program."""
    duty = round(100 * HELD / PERIOD)
    return f"momtest.demand={int(begin)},{base},{burst},{PERIOD:.0f},{duty},0,0,0,0,200,0,0,{cold},0,{seed},{int(sliced)}"


def sleep_until(at: float) -> None:
    """Sleep until that time of the wall clock, which guests use, too."""
    if time.time() > at:
        raise SystemExit("the guests took too long: try again when the host is less busy")
    time.sleep(at - time.time())


def _has_size(guest: PlainGuest, mib: int) -> bool:
    return guest.size_mib == mib


def resize(guests: Sequence[PlainGuest], mib: int) -> None:
    """Set all balloons, and wait until they have settled."""
    for guest in guests:
        guest.ask("balloon", value=mib << 20)
        wait_until(partial(_has_size, guest, mib), f"{guest.name} has {mib} MiB", 60)
    time.sleep(3)


def balloons(host: PlainHost) -> Looks:
    """Measure three guests at the same time, from their start."""
    begin = float(int(time.time() + BOOT))
    load = demand(begin, BASE_MIB, BURST_MIB)
    looks = Looks(
        {
            "contiguous": host.start("contiguous", SIZE_MIB, load),
            "sliced": host.start("sliced", SIZE_MIB, demand(begin, BASE_MIB, BURST_MIB, sliced=True)),
            "reporting": host.start("reporting", SIZE_MIB, load, balloon_options=",free-page-reporting=on"),
        }
    )
    guests = list(looks.guests.values())
    for guest in guests:
        guest.wait_until_up()
    sleep_until(begin + HELD - 2)
    looks.look("in use")
    sleep_until(begin + HELD + 12)
    looks.look("450 MiB freed")
    resize(guests, HALF_MIB)
    looks.look("half taken")
    time.sleep(60)
    looks.look("a minute later")
    resize(guests, SIZE_MIB)
    looks.look("returned")
    sleep_until(begin + PERIOD + HELD - 2)
    looks.look("450 MiB used again")
    time.sleep(120)
    looks.look("two minutes later")
    return looks


def _holds_its_memory(guest: PlainGuest) -> bool:
    return f"held={LIKE_MIB + UNLIKE_MIB}" in guest.printed


def merging(host: PlainHost) -> Looks:
    """Measure two guests under KSM."""
    looks = Looks({name: host.start(name, SIZE_MIB, demand(1, UNLIKE_MIB, 0, LIKE_MIB, seed=7)) for name in ("one", "other")})
    for name, guest in looks.guests.items():
        wait_until(partial(_holds_its_memory, guest), f"{name} holds its memory", 180)
    looks.look("filled")
    if read_ksm().get("run") == "1":
        raise SystemExit("KSM runs on this host: all merged memory would be unmerged")
    with ksm_restored(SCAN):
        time.sleep(SCAN_SECONDS)
        looks.look(f"after {SCAN_SECONDS:.0f} s of KSM")
        merged = int((KSM / "pages_sharing").read_text()) >> 8
        tell(f"{merged} MiB are saved by {(KSM / 'full_scans').read_text().strip()} whole scans")
    time.sleep(60)
    looks.look("a minute after the end of KSM")
    return looks


@contextmanager
def khugepaged(settings: Mapping[str, str]) -> Iterator[None]:
    """Change settings of khugepaged until the end of the block."""
    before = {name: (KHUGEPAGED / name).read_text() for name in settings}
    try:
        for name, value in settings.items():
            (KHUGEPAGED / name).write_text(value)
        yield
    finally:
        for name, value in before.items():
            (KHUGEPAGED / name).write_text(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", metavar="NAME=VALUE", help="of khugepaged, for the time of the run")
    parser.add_argument("--ksm", action="store_true", help="KSM instead of balloons")
    options = parser.parse_args()
    settings = dict(one.split("=", 1) for one in options.settings)
    with khugepaged(settings), tempfile.TemporaryDirectory(prefix="mom-huge-") as folder, plain_host(Path(folder)) as host:
        began, spent = time.monotonic(), thread_seconds("khugepaged")
        looks = merging(host) if options.ksm else balloons(host)
        share = 100 * (thread_seconds("khugepaged") - spent) / (time.monotonic() - began)
    print(f"{looks.shown()}\n\nkhugepaged took {share:.2f} % of a CPU.")


if __name__ == "__main__":
    main()
