"""How long other clients of guests' monitors wait because of mom.

    python benchmarks/qemu/measure_waits.py [--seconds 600] [--alone 60] [--guests 2] [--stand-ins 20]

Some guests are real, some are stand-ins that serve one client at a time as QEMU does. mom asks all of them once a second, and four times
a second as its watch does. Beside it, one client behaves as `qm` does (connects, asks, leaves, at random) and one as pvestatd does (all
guests in turn, every ten seconds). First they are alone: what they wait then, they wait for QEMU and for the host's CPUs. What they wait
for mom is the part of a wait in which mom was being served; mom says so itself of each stay. Real guests need what tests/real needs.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence, Set
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "tests" / "real"))

WORST_SECONDS = 0.1
"""What another client waits because of mom, at most."""

CYCLE_SECONDS, WATCH_SECONDS = 1.0, 0.25


class Wait(NamedTuple):
    """A client's: for which monitor, from when to when it was greeted (monotonic seconds)."""

    path: str
    began: float
    greeted: float


def ask(path: str) -> None:
    """As `qm` and pvestatd do; prints how long it was until the greeting."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(30)
        began = time.monotonic()
        while True:
            try:
                sock.connect(path)
                break
            except BlockingIOError:  # as many stand in line as may: a socket with a time limit is not let wait for that
                time.sleep(0.005)
        stream = sock.makefile("rwb")
        stream.readline()
        sys.stdout.write(json.dumps([path, began, time.monotonic()]) + "\n")  # in one piece: there are two clients
        sys.stdout.flush()
        for number, question in enumerate(("qmp_capabilities", "query-balloon")):
            stream.write(json.dumps({"execute": question, "id": number}).encode() + b"\n")
            stream.flush()
            while json.loads(stream.readline()).get("id") != number:
                pass


def be_a_client(paths: Sequence[str]) -> None:
    """Until standard input ends."""

    def as_pvestatd() -> None:
        while True:
            for path in paths:
                ask(path)
            time.sleep(10)

    chance = random.Random(1)  # noqa: S311  # no secret

    def as_qm() -> None:
        while True:
            ask(chance.choice(paths))
            time.sleep(chance.uniform(0.02, 0.2))

    for behave in (as_pvestatd, as_qm):
        threading.Thread(target=behave, daemon=True).start()
    sys.stdin.read()


def waits_of(paths: Sequence[str], seconds: float) -> list[Wait]:
    """What clients waited in so many seconds."""
    command = [sys.executable, __file__, "--client", *paths]
    with tempfile.TemporaryFile("w+") as told, subprocess.Popen(command, stdin=subprocess.PIPE, stdout=told) as clients:
        try:
            time.sleep(seconds)
        finally:
            clients.kill()
        told.seek(0)
        return [Wait(*json.loads(line)) for line in told if line.endswith("\n")]


def because_of_mom(wait: Wait, stays: Sequence[tuple[float, float]]) -> float:
    """The part of a wait in which mom was being served at that monitor."""
    return sum(max(0.0, min(wait.greeted, left) - max(wait.began, came)) for came, left in stays)


def measure(paths: Sequence[str], options: argparse.Namespace) -> bool:
    """Measure, print, and say whether the target was met."""
    from mom_core import PluginContext
    from mom_plugins_qemu import sampler
    from mom_plugins_qemu.hypervisor import QemuHypervisor
    from mom_plugins_qemu.visits import Visit, visit_all

    stays: dict[str, list[tuple[float, float]]] = {path: [] for path in paths}

    def noted(visits: Sequence[Visit], monotonic: Callable[[], float], users: Set[int]) -> None:
        visit_all(visits, monotonic, users)
        for visit in visits:
            stays[visit.path] += visit.stays

    patch.object(sampler, "visit_all", noted).start()  # for as long as this program runs
    alone = waits_of(paths, options.alone)
    hypervisor = QemuHypervisor(sampler.QemuHypervisorSettings(sockets=tuple(paths)), PluginContext("qemu"))
    stopping = threading.Event()
    failed = {"cycles": 0, "without an answer": 0}

    def cycles() -> None:
        while not stopping.wait(CYCLE_SECONDS):
            guests = hypervisor.guests()
            hypervisor.fields(guests)
            failed["cycles"] += 1
            failed["without an answer"] += sum("*" in guest.blocked for guest in guests)

    def watch() -> None:
        while not stopping.wait(WATCH_SECONDS):
            hypervisor.of({guest.id for guest in hypervisor.seen() if not guest.failure})

    threads = [threading.Thread(target=one) for one in (cycles, watch)]
    for thread in threads:
        thread.start()
    loads = []
    try:
        waits: list[Wait] = []
        for _ in range(max(1, options.seconds // 30)):
            waits += waits_of(paths, min(30, options.seconds))
            loads.append(os.getloadavg()[0])
    finally:
        stopping.set()
        for thread in threads:
            thread.join()
    mine = sorted(because_of_mom(wait, stays[wait.path]) for wait in waits)
    longest = sorted(left - came for one in stays.values() for came, left in one)
    print(f"{len(paths)} guests, {failed['cycles']} cycles of mom, load {min(loads):.1f} to {max(loads):.1f}, {os.cpu_count()} CPUs")
    print(f"  a guest had no answer for mom in {failed['without an answer']} of {failed['cycles'] * len(paths)} visits")
    for what, seconds in (
        ("waited alone", sorted(wait.greeted - wait.began for wait in alone)),
        ("waited beside mom", sorted(wait.greeted - wait.began for wait in waits)),
        ("of that for mom", mine),
        ("mom's stays", longest),
    ):
        if not seconds:
            continue
        told = ", ".join(f"{name} {1e3 * seconds[min(len(seconds) - 1, int(ratio * len(seconds)))]:.1f}" for name, ratio in _RATIOS)
        print(f"  {what:<18} {len(seconds):>7,}: {told} ms")
    met = bool(mine) and mine[-1] <= WORST_SECONDS
    print("target met" if met else "target MISSED")
    return met


_RATIOS = (("median", 0.5), ("99 %", 0.99), ("99.9 %", 0.999), ("worst", 1.0))


def main() -> int:
    """Start guests, and measure."""
    parser = argparse.ArgumentParser(description="What other clients of monitors wait because of mom.")
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--alone", type=int, default=60)
    parser.add_argument("--guests", type=int, default=2, help="real ones")
    parser.add_argument("--stand-ins", type=int, default=20)
    parser.add_argument("--client", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        be_a_client(options.client)
        return 0
    logging.disable(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="mom-bench-") as name:
        folder = Path(name)
        (folder / "real").mkdir()
        real = started(folder / "real", options.guests)
        command = [sys.executable, str(HERE / "stand_in.py"), name, str(options.stand_ins), "0"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0) as stand_in:
            try:
                assert stand_in.stdout is not None
                assert stand_in.stdout.readline() == b"ready\n"
                met = measure([*real, *map(str, folder.glob("*.qmp"))], options)
            finally:
                assert stand_in.stdin is not None
                stand_in.stdin.close()
                end_real()
    return 0 if met else 1


_ENDS: list[Callable[[], None]] = []


def started(folder: Path, count: int) -> list[str]:
    """The monitors of real guests with something to do."""
    if not count:
        return []
    from guest_image import build
    from plain_qemu import PlainHost

    host = PlainHost(folder, build())
    _ENDS.append(host.destroy_all)
    guests = [host.start(f"web-{number}", mib=448, arguments="momtest.burst=60,25,40,10,20") for number in range(count)]
    for guest in guests:
        guest.wait_until_up()
    return [str(guest.monitor) for guest in guests]


def end_real() -> None:
    """End them."""
    for end in _ENDS:
        end()


if __name__ == "__main__":
    sys.exit(main())
