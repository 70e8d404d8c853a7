"""What balloons and KSM leave of the host's transparent huge pages: measured on real guests.

    python benchmarks/hugepages/measure_huge_pages.py                     balloons
    python benchmarks/hugepages/measure_huge_pages.py scan_sleep_millisecs=100 max_ptes_none=64     with other settings of khugepaged
    python benchmarks/hugepages/measure_huge_pages.py --ksm               KSM, which is switched on for the whole host meanwhile

Balloons: guests of 1 GiB, in each of which a program holds 250 MiB, uses 450 MiB more for 48 s, and frees them. Then half of the guest is
taken by its balloon, and given back a minute later; and the program uses 450 MiB again, for two minutes. How much of the guest's memory the
host holds, and how much of that is in huge pages, before and after each of these.

contiguous  what is freed lies in large pieces
sliced      what is freed lies in pieces of 1 MiB between those that are held
reporting   as contiguous, with free page reporting

KSM: two guests whose programs hold 400 MiB that are the same in both, and 100 MiB that are not; KSM scans them for a minute and a half.

It needs what tests/real needs, 4 GiB of memory, and eight minutes in which nobody else starts large things; with --ksm, three minutes; root
for all but the first.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "real"))

from plain_qemu import PlainGuest, PlainHost, plain_host  # only found from here on

from mom_devkit import wait_until
from mom_kvm import ProcessStat

SIZE_MIB, HALF_MIB = 1024, 512
BASE_MIB, BURST_MIB = 250, 450
BOOT, PERIOD, HELD = 60.0, 240.0, 48.0
LIKE_MIB, UNLIKE_MIB, SCAN_SECONDS = 400, 100, 90.0
KSM = Path("/sys/kernel/mm/ksm")
KHUGEPAGED = Path("/sys/kernel/mm/transparent_hugepage/khugepaged")
SCAN = {"pages_to_scan": "2000", "sleep_millisecs": "10", "run": "1"}

_AREAS = re.compile(r"^(?=[0-9a-f]+-[0-9a-f]+ )", re.MULTILINE)
_OFFERED = re.compile(r"^VmFlags:.* mg\b", re.MULTILINE)
_LINE = re.compile(r"^(Rss|AnonHugePages): +(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True)
class Held:
    """MiB of a guest's memory that the host holds, and those of them in huge pages; milliseconds to find the latter for its process."""

    guest: str
    when: str
    held: float
    huge: float
    walk_ms: float

    @property
    def percent(self) -> float:
        """What is held that is in huge pages."""
        return 100 * self.huge / self.held if self.held else 0.0


def held(guest: PlainGuest, name: str, when: str) -> Held:
    """By the area that is the guest's memory: what QEMU holds beside it is not counted."""
    began = time.thread_time()
    smaps = Path(f"/proc/{guest.pid}/smaps").read_text()
    walk_ms = 1e3 * (time.thread_time() - began)
    rss, huge = memory_in(smaps)
    return Held(name, when, rss / 1024, huge / 1024, walk_ms)


def memory_in(smaps: str) -> tuple[int, int]:
    """KiB that are held, and in huge pages, of the areas that QEMU offers to KSM (`mg`): those are the guest's memory."""
    rss = huge = 0
    for area in _AREAS.split(smaps):
        if _OFFERED.search(area):
            found = {name: int(kib) for name, kib in _LINE.findall(area)}
            rss, huge = rss + found["Rss"], huge + found["AnonHugePages"]
    return rss, huge


def demand(begin: float, base: int, burst: int, cold: int = 0, *, seed: int = 0, sliced: bool = False) -> str:
    """What a guest's program is told."""
    duty = round(100 * HELD / PERIOD)
    return f"momtest.demand={int(begin)},{base},{burst},{PERIOD:.0f},{duty},0,0,0,0,200,0,0,{cold},0,{seed},{int(sliced)}"


def sleep_until(at: float) -> None:
    """By the wall clock, which the guests go by."""
    if time.time() > at:
        raise SystemExit("the guests took too long: try again when the host is less busy")
    time.sleep(at - time.time())


def size(guest: PlainGuest, mib: int) -> None:
    """Have its balloon leave it so much."""
    guest.ask("balloon", value=mib << 20)
    wait_until(lambda: guest.size_mib == mib, f"{guest.name} has {mib} MiB, and not {guest.size_mib}", 60)


def wait_until_it_holds(guest: PlainGuest, mib: int) -> None:
    """Wait until its program holds so much."""
    wait_until(lambda: f"held={mib}" in guest.printed, f"{guest.name} holds {mib} MiB", 180)


def balloons(host: PlainHost) -> list[Held]:
    """All guests together, from their start."""
    begin = float(int(time.time() + BOOT))
    guests = {
        "contiguous": host.start("contiguous", SIZE_MIB, demand(begin, BASE_MIB, BURST_MIB)),
        "sliced": host.start("sliced", SIZE_MIB, demand(begin, BASE_MIB, BURST_MIB, sliced=True)),
        "reporting": host.start("reporting", SIZE_MIB, demand(begin, BASE_MIB, BURST_MIB), balloon_options=",free-page-reporting=on"),
    }
    found: list[Held] = []

    def look(when: str) -> None:
        for name, guest in guests.items():
            found.append(held(guest, name, when))
            print(f"{time.time() - begin:6.1f} {found[-1]}", file=sys.stderr, flush=True)

    for guest in guests.values():
        guest.wait_until_up()
    sleep_until(begin + HELD - 2)
    look("in use")
    sleep_until(begin + HELD + 12)
    look("450 MiB freed")
    for guest in guests.values():
        size(guest, HALF_MIB)
    time.sleep(3)
    look("half taken")
    time.sleep(60)
    look("a minute later")
    for guest in guests.values():
        size(guest, SIZE_MIB)
    time.sleep(3)
    look("given back")
    sleep_until(begin + PERIOD + HELD - 2)
    look("450 MiB used again")
    time.sleep(120)
    look("two minutes later")
    return found


def merging(host: PlainHost) -> list[Held]:
    """Two guests, and KSM."""
    guests = {name: host.start(name, SIZE_MIB, demand(1, UNLIKE_MIB, 0, LIKE_MIB, seed=7)) for name in ("one", "other")}
    found: list[Held] = []

    def look(when: str) -> None:
        found.extend(held(guest, name, when) for name, guest in guests.items())
        print(f"{when}: {found[-2:]}", file=sys.stderr, flush=True)

    for guest in guests.values():
        wait_until_it_holds(guest, LIKE_MIB + UNLIKE_MIB)
    look("filled")
    if (KSM / "run").read_text().strip() == "1":
        raise SystemExit("KSM runs on this host: what it has merged would be unmerged here")
    with kept(KSM, SCAN), unmerged():
        time.sleep(SCAN_SECONDS)
        look(f"after {SCAN_SECONDS:.0f} s of KSM")
        merged = int((KSM / "pages_sharing").read_text()) >> 8
        print(f"{merged} MiB are saved by {(KSM / 'full_scans').read_text().strip()} whole scans", file=sys.stderr, flush=True)
    time.sleep(60)
    look("a minute after KSM was undone")
    return found


@contextmanager
def kept(folder: Path, settings: Mapping[str, str]) -> Iterator[None]:
    """These settings of the kernel until the end of the block."""
    before = {name: (folder / name).read_text() for name in settings}
    try:
        for name, value in settings.items():
            (folder / name).write_text(value)
        yield
    finally:
        for name, value in before.items():
            (folder / name).write_text(value)


@contextmanager
def unmerged() -> Iterator[None]:
    """Nothing stays merged after this block."""
    try:
        yield
    finally:
        (KSM / "run").write_text("2")


def khugepaged_seconds() -> float:
    """CPU time of the kernel's thread that makes huge pages of small ones; 0 where it is out of sight."""
    proc = Path("/proc")
    stat = ProcessStat.of(proc / str(ProcessStat.id_of("khugepaged", proc)))
    return 0.0 if stat is None else stat.cpu_seconds


def told_in_markdown(found: Sequence[Held]) -> str:
    """For people: a row for each moment, and for each guest what is held of it and which part of that is in huge pages."""
    guests = list(dict.fromkeys(one.guest for one in found))
    cells: Mapping[tuple[str, str], Held] = {(one.when, one.guest): one for one in found}
    heading = ["", *(f"{guest}: MiB held, in huge pages" for guest in guests)]
    lines = [f"| {' | '.join(heading)} |", f"| {' | '.join('---' for _ in heading)} |"]
    for when in dict.fromkeys(one.when for one in found):
        row = [f"{cells[when, guest].held:.0f}, {cells[when, guest].percent:.0f} %" for guest in guests]
        lines.append(f"| {when} | {' | '.join(row)} |")
    slowest = max(found, key=lambda one: one.walk_ms / max(one.held, 1))
    fastest = min(found, key=lambda one: one.walk_ms / max(one.held, 1))
    walks = [f"{1024 * one.walk_ms / max(one.held, 1):.1f} ms ({one.percent:.0f} % huge)" for one in (fastest, slowest)]
    return "\n".join([*lines, "", f"A walk through the tables takes {walks[0]} to {walks[1]} for each GiB that is held."])


def main() -> None:
    """Measure, and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", metavar="NAME=VALUE", help="of khugepaged, for the time of the run")
    parser.add_argument("--ksm", action="store_true", help="KSM instead of balloons")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    measure: Callable[[PlainHost], list[Held]] = merging if options.ksm else balloons
    settings = dict(one.split("=", 1) for one in options.settings)
    with kept(KHUGEPAGED, settings), tempfile.TemporaryDirectory(prefix="mom-huge-") as folder, plain_host(Path(folder)) as host:
        began, spent = time.monotonic(), khugepaged_seconds()
        found = measure(host)
        share = 100 * (khugepaged_seconds() - spent) / (time.monotonic() - began)
    if options.json:
        print(json.dumps({"held": [asdict(one) for one in found], "khugepaged_percent": share}))
    else:
        print(f"{told_in_markdown(found)}\n\nkhugepaged took {share:.2f} % of a CPU.")


if __name__ == "__main__":
    main()
