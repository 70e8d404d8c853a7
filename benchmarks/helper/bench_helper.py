"""What an order to mom-helper costs, and what it does with orders that no mom would give. As root.

    python benchmarks/helper/bench_helper.py [--orders 2000] [--guests 1000] [--fuzz 20000]

set       writing a knob (a file in memory), as a client of another user sees it: us, the median of batches of 100 orders
groups    writing a file of a guest's control group (v2), of many that are given at once as limits are: us an order
direct    the same by a process that may write it itself
open      a file of a guest's process, handed over: us
first     the same of guests that the helper has had no order about, one after the other, as in mom's first cycle: us for each
resident  MiB of the largest process of the helper, after all orders
fuzz      orders of all kinds with any words and descriptors: how many a second were answered

All of it runs on one CPU: between two, what is measured is how fast the machine wakes one that sleeps, which takes a virtual machine longer
than an order does.

The limit of how much may be ordered is lifted for it. It ends with 1 when a target is missed, or when fuzzed orders wrote anything but what
is declared.
"""

from __future__ import annotations

import argparse
import array
import json
import os
import random
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import mom_helper
from mom_devkit.without_root import StandInGuest
from mom_helper.orders import MOST_TEXT, ORDER, Answer, Order, OrderNumber
from mom_kvm import Helper, ProcessStat, write_file
from mom_kvm.root_helper import GroupValue

TARGETS = {"set": 100.0, "groups": 100.0, "open": 100.0, "resident": 15.0}

ENGINE, GUEST = "nobody", 64055
_BATCH = 100
_AT_ONCE = 32
_GROUP_FILE = "cgroup.max.depth"
"""A file that each group has, whatever controllers there are."""
_MOST_FILES = 8192
"""As mom-helper.service has it."""


def per_order_us(work: Callable[[int], object], orders: int) -> float:
    """The median of batches."""
    times = []
    for batch in range(max(1, orders // _BATCH)):
        began = time.perf_counter()
        for number in range(_BATCH):
            work(batch * _BATCH + number)
        times.append((time.perf_counter() - began) / _BATCH * 1e6)
    return statistics.median(times)


def fuzzed(path: str, count: int, pids: list[int]) -> float:
    """Orders a second. Sends anything, and reads what is answered."""
    chance = random.Random(1)  # noqa: S311  # it is to be the same each time
    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client.connect(path)
    files = [os.open(name, os.O_PATH) for name in ("/etc/passwd", "/dev/null", "/proc/1", path, "/run") if Path(name).exists()]
    numbers = [*OrderNumber, 0, 99, (1 << 32) - 1]
    words = [0, 1, -1, 2, 3, 7, 500, 1000, 1001, 1 << 31, (1 << 63) - 1, -(1 << 63), *pids]
    began = time.perf_counter()
    for _ in range(count):
        rights = array.array("i", [chance.choice(files) for _ in range(chance.choice((0, 0, 0, 0, 1, 2)))])
        order = Order(chance.choice(numbers), 5, *(chance.choice((*words, chance.getrandbits(63))) for _ in range(4)))
        client.sendmsg([ORDER.pack(*order)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if rights else [])
        message, ancillary, _, _ = client.recvmsg(ORDER.size + MOST_TEXT, socket.CMSG_SPACE(16))
        if Answer(*ORDER.unpack(message[: ORDER.size])).id != order.id:
            raise SystemExit("it answered something else")
        for _, _, content in ancillary:
            for one in array.array("i", content):
                os.close(one)
    return count / (time.perf_counter() - began)


def as_engine(folder: Path, orders: int, fuzz: int, guests: list[tuple[int, int]], group: GroupValue) -> dict[str, float]:
    """What a process of the engine's user finds."""
    guest = guests[0]
    reading, writing = os.pipe()
    if os.fork() == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            helper = Helper(str(folder / "socket"))
            helper.declared()  # connected

            def some(number: int) -> list[GroupValue]:
                return [group._replace(value=1 + (number + place) % 900) for place in range(_AT_ONCE)]

            began = time.perf_counter()
            for one in guests:
                os.close(helper.open_of_guest(*one, "smaps"))
            found = {
                "first": (time.perf_counter() - began) / len(guests) * 1e6,
                "set": per_order_us(lambda number: helper.set_knob(folder / "knob", str(1 + number % 900)), orders),
                "groups": per_order_us(lambda number: helper.set_groups(some(number)), orders // _AT_ONCE) / _AT_ONCE,
                "open": per_order_us(lambda _: os.close(helper.open_of_guest(*guest, "smaps")), orders),
            }
            helper.close()
            if fuzz:
                found["fuzz"] = fuzzed(str(folder / "socket"), fuzz, [*guest, os.getppid(), 1])
            os.write(writing, json.dumps(found).encode())
        except Exception:  # noqa: BLE001  # a copy of this process must not go on as another one
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        text = file.read()
    os.wait()
    if not text:
        raise SystemExit("the engine's process has failed")
    return dict(json.loads(text))


def resident_mib(pid: int) -> float:
    """Of this process and its children, the largest."""
    found = 0.0
    for one in (pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())):
        stat = ProcessStat.of(f"/proc/{one}")
        found = max(found, (stat.resident_kib or 0) / 1024 if stat else 0.0)
    return found


@contextmanager
def started_guests(count: int) -> Iterator[list[tuple[int, int]]]:
    """So many processes of a guest's user, with when each was started; at the end, all of them must be there still."""
    processes: list[subprocess.Popen[bytes]] = []
    try:
        processes.extend(subprocess.Popen(["sleep", "1000"], user=GUEST, group=GUEST, extra_groups=[]) for _ in range(count))
        stats = [(one.pid, ProcessStat.of(f"/proc/{one.pid}")) for one in processes]
        yield [(pid, stat.started) for pid, stat in stats if stat is not None]
        if any(one.poll() is not None for one in processes):
            raise SystemExit("it has ended a guest")
    finally:
        for one in processes:
            one.kill()
        for one in processes:
            one.wait()


def measure(folder: Path, orders: int, guests: int, fuzz: int) -> dict[str, float]:
    """All numbers."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(_MOST_FILES, hard), hard))
    folder.chmod(0o755)
    (folder / "knob").write_text("100\n")
    (folder / "other").write_text("100\n")
    for name in ("state", "helper.d"):
        (folder / name).mkdir()
    (folder / "helper.d/bench.conf").write_text(
        f"[knob {folder / 'knob'}]\nleast = 1\nmost = 1000\n[guests bench]\nusers = {GUEST}\nslices = /\n[limits]\norders = 1000000000\n"
        f"[group {_GROUP_FILE}]\nleast = 0\n{StandInGuest.DECLARATION}"
    )
    program = [sys.executable, "-I", "-S", str(Path(mom_helper.__file__).parent)]
    command = [*program, "serve", "--user", ENGINE, "--socket", str(folder / "socket"), "--state", str(folder / "state")]
    with (
        subprocess.Popen([*command, "--declarations", str(folder / "helper.d")], stderr=subprocess.DEVNULL) as helper,
        started_guests(guests) as started,
        closing(StandInGuest()) as grouped,
    ):
        try:
            until = time.monotonic() + 20
            while not (folder / "socket").exists() or (folder / "socket").stat().st_mode & 0o777 != 0o660:
                if time.monotonic() > until:
                    raise SystemExit("the helper does not start")
                time.sleep(0.01)
            numbers = as_engine(folder, orders, fuzz, started, GroupValue(grouped.pid, grouped.folder.stat().st_ino, _GROUP_FILE, 1))
            numbers["direct"] = per_order_us(lambda number: write_file(folder / "knob", 1 + number % 900), orders)
            numbers["resident"] = resident_mib(helper.pid)
            written = (folder / "other").read_text() != "100\n" or not 1 <= int((folder / "knob").read_text()) <= 1000
            if written or helper.poll() is not None:
                raise SystemExit("it wrote what is not declared, or has ended")
        finally:
            helper.kill()
    return numbers


def main() -> int:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orders", type=int, default=2000)
    parser.add_argument("--guests", type=int, default=1000)
    parser.add_argument("--fuzz", type=int, default=20_000)
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("run it as root")
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory(prefix="mom-helper-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        numbers = measure(Path(name), arguments.orders, arguments.guests, arguments.fuzz)
    missed = [name for name, target in TARGETS.items() if numbers[name] > target]
    with suppress(BrokenPipeError):
        for name, number in sorted(numbers.items()):
            sys.stdout.write(f"{name:9} {number:9.1f}\n")
    for name in missed:
        sys.stderr.write(f"missed: {name}, {TARGETS[name]:g}\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
