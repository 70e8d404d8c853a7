"""What a host gets when it tells mom-guestd that it is short of memory, and what that costs the guest: measured in a real guest.

    python benchmarks/reporting/measure_relief.py [--parts pieces cache work] [--rounds 8] [--seconds 10]

A guest of 1,920 MiB with free page reporting works steadily on 600 MiB, which lie in pieces of 1 MiB between 600 that it has freed; of its
disk it reads 100 MiB again and again, and has read 300 once. Its owner lets mom-guestd report pieces of 16 KiB, and drop page cache that
was not used for a minute.

pieces    told that its host is short for a minute: what its process holds on the host before, and 6, 12, 20 and 30 s after; what that
          cost in the first 12 s, as shares of its CPU: mom-guestd, and the kernel's workers beyond what they cost before
cache     told again, until nothing more is dropped: what was dropped, in which time, and mom-guestd's share of its CPU meanwhile
work      its program's CPU time for a slot of its work, in turns while the host is short and while it is not, which repeats itself only
          on a host that does nothing else; and the share of its CPU that mom-guestd and the kernel's own threads take from it meanwhile

It needs what tests/real needs, 3 GiB of memory, and ten minutes in which nobody else starts large things.
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "real"))

from agent_image import build_with_agents  # only found from here on
from guest_image import cache_folder  # as above
from measure_reporting import cpu_seconds, resident_mib
from private_libvirtd import PrivateLibvirtd  # as above
from real_guests import Lab, RealGuest, disk  # as above

from mom_devkit import wait_until

SIZE_MIB, BASE_MIB, FREED_MIB = 1920, 600, 600
READ_MIB, DISK_MIB, READ_KIB_S = 100, 400, 20480
TOUCHES = 20000
TRIM_SECONDS = 60
REST_SECONDS = 75
"""If nothing was dropped for so long, nothing more will be: mom-guestd rests for a minute when the guest is at work."""

LOOKS = (6.0, 12.0, 20.0, 30.0)

_MET = re.compile(r"DEMAND .* met=(\d+) ")


@dataclass
class Pieces:
    """MiB that the guest's process holds, by seconds after it was told; shares of the guest's CPU in the first 12 s; CPU seconds of its
    process on the host in that time, and in as much before."""

    before: float = 0.0
    held: dict[float, float] = field(default_factory=dict)
    guestd: float = 0.0
    kernel: float = 0.0
    host: float = 0.0
    host_before: float = 0.0


@dataclass
class Cache:
    """MiB of page cache before and after, MiB dropped, seconds, mom-guestd's share of the guest's CPU."""

    before: float = 0.0
    after: float = 0.0
    dropped: float = 0.0
    seconds: float = 0.0
    guestd: float = 0.0


@dataclass
class Work:
    """Milliseconds of CPU for a slot of the guest's program, and the share of the guest's CPU that others took meanwhile, by turns."""

    plenty: list[float] = field(default_factory=list)
    short: list[float] = field(default_factory=list)
    others_plenty: list[float] = field(default_factory=list)
    others_short: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Spent:
    """Nanoseconds of CPU since the guest's boot: mom-guestd's, its program's, the kernel's own threads'; when, in the guest's seconds."""

    at: float
    guestd: int
    program: int
    kernel: int


class Inside:
    """A guest, asked over its channels."""

    def __init__(self, guest: RealGuest, folder: Path, name: str) -> None:
        self.guest = guest
        self._agent = folder / f"{name}-{AGENT}"
        self._guestd = folder / f"{name}-{GUESTD}"

    @contextmanager
    def _lines(self, path: Path) -> Iterator[Any]:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(60)
            client.connect(str(path))
            with client.makefile("rwb", buffering=0) as lines:
                yield lines

    def run(self, command: str) -> str:
        """What a command prints in the guest."""
        with self._lines(self._agent) as lines:

            def ask(name: str, **arguments: object) -> Any:
                lines.write(json.dumps({"execute": name, "arguments": arguments}).encode() + b"\n")
                answer = json.loads(lines.readline())
                if "return" not in answer:
                    raise SystemExit(f"{name}: {answer}")
                return answer["return"]

            pid = ask("guest-exec", path="/bin/sh", arg=["-c", command], **{"capture-output": True})["pid"]
            ended: list[Any] = []

            def has_ended() -> bool:
                ended[:] = [ask("guest-exec-status", pid=pid)]
                return bool(ended[0]["exited"])

            wait_until(has_ended, command, 120)
            return base64.b64decode(ended[0].get("out-data", "")).decode()

    def figures(self, question: str = "stats") -> dict[str, float]:
        """What mom-guestd answers."""
        with self._lines(self._guestd) as lines:
            lines.write(f"\n{question} x1\n".encode())
            while lines.readline().strip() != b"begin:x1":
                pass
            found = {}
            while (line := lines.readline().decode().strip()) != "end:x1":
                name, _, value = line.partition(":")
                found[name] = float(value)
            return found

    def spent(self) -> Spent:
        """The CPU time that was spent so far."""
        text = self.run("cat /proc/uptime; cd /proc; grep -H '' [0-9]*/schedstat [0-9]*/cmdline | tr '\\0' ' '")
        up, *rest = text.splitlines()
        ran: dict[str, int] = {}
        names: dict[str, str] = {}
        for line in rest:
            path, _, value = line.partition(":")
            pid, _, kind = path.partition("/")
            if kind == "schedstat":
                ran[pid] = int(value.split()[0])
            else:
                names[pid] = value
        if not ran:
            raise SystemExit("the guest's kernel does not say how long tasks ran (CONFIG_SCHED_INFO)")
        kernel = sum(ns for pid, ns in ran.items() if pid not in names)
        return Spent(
            float(up.split()[0]),
            sum(ran[pid] for pid, name in names.items() if "mom-guestd" in name and pid in ran),
            sum(ran[pid] for pid, name in names.items() if name.startswith("demand") and pid in ran),
            kernel,
        )

    def slots(self) -> int:
        """How many slots of its work it has done so far."""
        found = _MET.findall(self.guest.printed)
        return int(found[-1]) if found else 0


AGENT, GUESTD = "org.qemu.guest_agent.1", "org.mom.guestd.0"


def begin(lab: Lab, folder: Path) -> Inside:
    """The guest, when its memory lies in pieces."""
    name = "relief"
    channels = "".join(
        f"<channel type='unix'><source mode='bind' path='{folder / f'{name}-{one}'}'/><target type='virtio' name='{one}'/></channel>"
        for one in (AGENT, GUESTD)
    )
    never = int(time.time()) + 86400
    work = f"{never},{BASE_MIB},{FREED_MIB},60,50,0,{READ_MIB},{READ_KIB_S},0,{TOUCHES},0,0,0,0,0,1"
    guest = lab.start(
        name,
        mib=SIZE_MIB,
        balloon_options="freePageReporting='on'",
        devices=channels + disk(lab, name, DISK_MIB),
        arguments=f"momtest.order=2 momtest.trim={TRIM_SECONDS} momtest.demand={work}",
    )
    inside = Inside(guest, folder, name)
    wait_until(inside.slots, "its memory lies in pieces, and it works", 300)
    wait_until(lambda: (folder / f"{name}-{GUESTD}").exists() and inside.figures(), "mom-guestd answers", 300)
    return inside


def pieces(inside: Inside) -> Pieces:
    """What comes back, and what that costs. There is no page cache to drop: what was read was read again."""
    found = Pieces()
    cpu = cpu_seconds(inside.guest)
    before = inside.spent()
    time.sleep(LOOKS[1])
    cost_before = inside.spent()
    found.host_before = cpu_seconds(inside.guest) - cpu
    found.before = resident_mib(inside.guest)
    began, cpu = time.monotonic(), cpu_seconds(inside.guest)
    start = inside.spent()
    inside.figures("short 60")
    for seconds in LOOKS:
        time.sleep(max(0.0, began + seconds - time.monotonic()))
        found.held[seconds] = resident_mib(inside.guest)
        if seconds == LOOKS[1]:
            end = inside.spent()
            found.host = cpu_seconds(inside.guest) - cpu
            took = (end.at - start.at) * 1e9
            found.guestd = (end.guestd - start.guestd) / took
            usual = (cost_before.kernel - before.kernel) / ((cost_before.at - before.at) * 1e9)
            found.kernel = (end.kernel - start.kernel) / took - usual
    inside.figures("short 0")
    return found


def cache(inside: Inside) -> Cache:
    """Until nothing was dropped for a while."""
    inside.run(f"dd if=/dev/vda of=/dev/null bs=1M skip={READ_MIB} 2>/dev/null")
    time.sleep(TRIM_SECONDS * 1.3)
    found = Cache(before=inside.figures()["mem_disk_caches"] / 1024)
    start, began = inside.spent(), time.monotonic()
    told = inside.figures("short 300")["trimmed"]
    last, changed = told, began
    while time.monotonic() < changed + REST_SECONDS:
        time.sleep(10)
        now = inside.figures("short 300")["trimmed"]
        if now != last:
            last, changed = now, time.monotonic()
            found.seconds = changed - began
    end = inside.spent()
    found.guestd = (end.guestd - start.guestd) / ((end.at - start.at) * 1e9)
    found.dropped = (last - told) / 1024
    found.after = inside.figures()["mem_disk_caches"] / 1024
    inside.figures("short 0")
    return found


def work(inside: Inside, rounds: int, seconds: float) -> Work:
    """In turns, the second ones while the host is short."""
    found = Work()
    for _ in range(rounds):
        for turns, others, word in ((found.plenty, found.others_plenty, "short 0"), (found.short, found.others_short, "short 300")):
            inside.figures(word)
            slots, before = inside.slots(), inside.spent()
            time.sleep(seconds)
            after = inside.spent()
            turns.append((after.program - before.program) / 1e6 / max(1, inside.slots() - slots))
            others.append((after.guestd + after.kernel - before.guestd - before.kernel) / 1e9 / (after.at - before.at))
    inside.figures("short 0")
    return found


def table(heading: Sequence[str], *rows: Sequence[str]) -> str:
    """In markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heading, ["---" for _ in heading], *rows))


def told_of_pieces(found: Pieces) -> str:
    """For people."""
    heading = ["MiB held on the host", *(f"{seconds:.0f} s after" for seconds in found.held)]
    heading += ["mom-guestd, % of a CPU", "kernel, %", "CPU s of QEMU in 12 s", "in 12 s before"]
    cells = [f"{mib:.0f}" for mib in (found.before, *found.held.values())]
    return table(
        heading, [*cells, f"{100 * found.guestd:.2f}", f"{100 * found.kernel:.2f}", f"{found.host:.1f}", f"{found.host_before:.1f}"]
    )


def told_of_cache(found: Cache) -> str:
    """For people."""
    cells = [f"{number:.0f}" for number in (found.before, found.after, found.dropped, found.seconds)]
    return table(["MiB of page cache", "after", "dropped", "in s", "mom-guestd, % of a CPU"], [*cells, f"{100 * found.guestd:.2f}"])


def told_of_work(found: Work) -> str:
    """For people."""
    rows = (("plenty", found.plenty, found.others_plenty), ("short", found.short, found.others_short))
    told = [[name, f"{statistics.median(turns):.2f}", f"{100 * statistics.median(others):.2f}"] for name, turns, others in rows]
    return table(["the host has", "ms of CPU for a slot of work", "mom-guestd and the kernel, % of a CPU"], *told)


def main() -> None:
    """Measure, and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=("pieces", "cache", "work"), default=("pieces", "cache", "work"))
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    libvirtd = PrivateLibvirtd(cache_folder())
    try:
        libvirtd.start()
        inside = begin(Lab(libvirtd, build_with_agents()), libvirtd.folder)
        measured: Mapping[str, Callable[[], str]] = {
            "pieces": lambda: told_of_pieces(pieces(inside)),
            "cache": lambda: told_of_cache(cache(inside)),
            "work": lambda: told_of_work(work(inside, options.rounds, options.seconds)),
        }
        for part in options.parts:
            print(measured[part](), "\n", flush=True)
    finally:
        libvirtd.stop()


if __name__ == "__main__":
    main()
