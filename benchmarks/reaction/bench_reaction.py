"""Measure how soon after memory pressure mom sends the first balloon command, on real guests, and what watching for pressure costs.

    python benchmarks/reaction/bench_reaction.py [guest] [host] [cost] [--bursts 20]

guest   Four guests from which memory was taken use it up in bursts. Pressure begins when less is available in the guest than the default
        policy wants, by what the guest itself prints at that moment. The command is the first that makes this guest larger.
host    A program takes host memory. Pressure begins when less is available than the policy wants. The command is the first that makes a
        guest smaller. Both are measured with the default watches, and without them in cycles of 10 s.
cost    CPU time of an idle `mom run` with the watches and without, beside twelve guests.

It needs what tests/real needs: libvirtd, QEMU, and a few minutes in which no other program starts large things.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path += [str(Path(__file__).resolve().parents[2] / folder) for folder in ("tests/real", "benchmarks/shared")]

from ballast import available_mib  # only found from here on
from guest_lab import guest_lab  # as above
from private_libvirtd import PrivateLibvirtd  # as above
from real_guests import Lab, RealGuest  # as above
from tables import table  # as above

from mom_core import Engine, Entity, load_config

BALLAST = Path(__file__).resolve().parents[2] / "tests/real/ballast.py"
KIB = 1024
GUESTS = 4
GUEST_MIB = 512
HELD_MIB, FLOOR_MIB, REST_SECONDS = 100, 30, 6
BALLAST_MIB = 2048
LOOK_SECONDS = 0.005
RUNS_OUT_SHARE, RUNS_OUT_MIB = 0.125, 40
"""Half of the balloon law's margin."""

Plugins = Mapping[str, Mapping[str, object]]
WATCHED: Plugins = {"host": {}, "libvirt": {}}
UNWATCHED: Plugins = {"host": {"watch": "0s"}, "libvirt": {"watch": "0s"}}
VARIANTS = {"mom": (5.0, WATCHED), "cycles every 10 s only": (10.0, UNWATCHED)}
COST_VARIANTS: Mapping[str, Plugins] = {
    "no watch": UNWATCHED,
    "the host is watched": {"host": {}, "libvirt": {"watch": "0s"}},
    "the guests are watched": {"host": {"watch": "0s"}, "libvirt": {}},
    "both": WATCHED,
}

_FILL = re.compile(r"^(FILL|FULL|REST) (\d+) (\d+)\r?$")


def configuration(libvirtd: PrivateLibvirtd, folder: Path, interval: float, plugins: Plugins, target_mib: float) -> Path:
    """Write a configuration whose policy wants this much memory of the host to be available. Return its file."""
    host = {"watch_available": f"{target_mib:.0f}MiB", **plugins["host"]}
    libvirt = {"uri": libvirtd.uri, "pid_directory": str(libvirtd.pid_folder), **plugins["libvirt"]}
    content = {
        "interval": f"{interval:g}s",
        "state_directory": str(folder / "state"),
        "run_directory": str(folder / "run"),
        "mode": "enforce",
        "plugins": {"host": host, "libvirt": libvirt, "balloon": {"host_free": f"{target_mib:.0f}MiB"}, "policy": {}},
    }
    path = folder / "mom.yaml"
    path.write_text(json.dumps(content))
    return path


class Commands:
    """Balloon commands that an engine sends: when each was accepted by libvirt, its guest, and the sizes before and after in KiB."""

    def __init__(self, guests: Sequence[RealGuest]) -> None:
        self.sent: list[tuple[float, str, float, float]] = []
        self.sizes = {guest.uuid: float(guest.domain.memoryStats()["actual"]) for guest in guests}

    def listen(self, hypervisor: Any) -> None:
        """Record what this hypervisor is asked to set."""
        original = hypervisor.set_balloon

        def recorded(guest: Entity, target_kib: int) -> None:
            original(guest, target_kib)
            self.sent.append((time.monotonic(), guest.id, self.sizes[guest.id], target_kib))
            self.sizes[guest.id] = target_kib

        hypervisor.set_balloon = recorded

    def first(self, after: float, until: float, *, larger: bool, uuid: str = "") -> float | None:
        """Return when the first command in that time was sent that makes a guest larger, or smaller."""
        for when, guest, before, size in list(self.sent):
            if after <= when <= until and (not uuid or guest == uuid) and (size > before) == larger:
                return when
        return None


@contextmanager
def engine(lab: Lab, guests: Sequence[RealGuest], variant: str, target_mib: float) -> Iterator[tuple[Commands, Engine]]:
    """Run an engine in this process, and record what it sends."""
    with tempfile.TemporaryDirectory(prefix="mom-bench-") as folder:
        commands = Commands(guests)
        running = Engine(load_config(configuration(lab.libvirtd, Path(folder), *VARIANTS[variant], target_mib)))
        running.open()
        commands.listen(running.hypervisor)
        running.start()
        try:
            yield commands, running
        finally:
            running.stop()


def start_guests(lab: Lab, count: int, mib: int, arguments: str = "") -> list[RealGuest]:
    """Start guests, and wait until they are up."""
    guests = [lab.start(f"guest{number}", mib=mib, arguments=arguments) for number in range(count)]
    for guest in guests:
        guest.wait_until_up()
    return guests


@dataclass
class Burst:
    """One burst of one guest: when it began, when pressure began (`None`: not yet), and when it ended."""

    began: float
    pressure: float | None = None
    ended: float | None = None


class Listener:
    """Reads what guests print, every 5 ms."""

    def __init__(self, guests: Sequence[RealGuest], commands: Commands) -> None:
        self.bursts: dict[tuple[str, int], Burst] = {}
        self._logs = {guest.uuid: guest.log.open("rb") for guest in guests}
        self._rests = dict.fromkeys(self._logs, b"")
        self._commands = commands
        for log in self._logs.values():
            log.seek(0, 2)

    def look(self) -> None:
        """Read new lines."""
        for uuid, log in self._logs.items():
            *lines, self._rests[uuid] = (self._rests[uuid] + log.read()).split(b"\n")
            for line in lines:
                if match := _FILL.match(line.decode("ascii", "replace")):
                    self._record(uuid, match[1], int(match[2]), int(match[3]), time.monotonic())

    def _record(self, uuid: str, kind: str, number: int, available: int, now: float) -> None:
        burst = self.bursts.setdefault((uuid, number), Burst(now))
        if kind == "REST":
            burst.ended = now
        size = self._commands.sizes[uuid]
        if burst.pressure is None and available < RUNS_OUT_MIB * KIB + RUNS_OUT_SHARE * (size - available):
            burst.pressure = now


def reaction_row(pressure: str, variant: str, seconds: Sequence[float], left_out: int) -> list[str]:
    """Return a row of the table. `left_out` counts bursts in which no command was needed, or none came."""
    ordered = sorted(seconds) or [float("nan")]
    figures = (statistics.median(ordered), ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))], ordered[-1])
    return [pressure, variant, str(len(seconds)), *(f"{figure:.2f}" for figure in figures), str(left_out)]


def of_guests(lab: Lab, variant: str, bursts: int, speed: int) -> list[str]:
    """Measure bursts in guests."""
    hold = 4 if variant == "mom" else 13
    guests = start_guests(lab, GUESTS, GUEST_MIB, f"momtest.burst={HELD_MIB},{FLOOR_MIB},{speed},{hold},{REST_SECONDS}")
    seconds: list[float] = []
    left_out = 0
    # Low enough that guests give down to their margin, and high enough that those which run out may grow.
    with engine(lab, guests, variant, available_mib() / 0.85) as (commands, _):
        listener = Listener(guests, commands)
        ready = time.monotonic() + 25  # memory was taken from all by then, and bursts that had begun are over
        give_up = time.monotonic() + 60 + bursts * 30
        while len(seconds) < bursts and time.monotonic() < give_up:
            listener.look()
            for (uuid, number), burst in list(listener.bursts.items()):
                if burst.ended is None:
                    continue
                del listener.bursts[uuid, number]
                if burst.began < ready:
                    continue
                sent = commands.first(burst.began, burst.ended, larger=True, uuid=uuid)
                if burst.pressure is not None and sent is not None:
                    seconds.append(sent - burst.pressure)
                    continue
                left_out += 1
                if burst.pressure is not None and commands.sizes[uuid] < GUEST_MIB * KIB - 16 * KIB:
                    seconds.append(burst.ended - burst.pressure)  # it could have grown: the delay is at least this long
            time.sleep(LOOK_SECONDS)
    lab.destroy_all()
    return reaction_row("guests", variant, seconds, left_out)


def of_the_host(lab: Lab, variant: str, bursts: int) -> list[str]:
    """Measure pressure on the host."""
    interval, _ = VARIANTS[variant]
    guests = start_guests(lab, GUESTS, GUEST_MIB)
    time.sleep(3)
    seconds: list[float] = []
    target = available_mib() - BALLAST_MIB / 2
    with engine(lab, guests, variant, target) as (commands, running):
        time.sleep(3)
        for _ in range(bursts):
            time.sleep(random.uniform(0.0, interval))  # noqa: S311  # any moment between two cycles
            if available_mib() < target:
                continue  # another program needs memory
            crossed = None
            with ballast():
                began = time.monotonic()
                until = began + 3.0 + interval
                while time.monotonic() < until and commands.first(began, until, larger=False) is None:
                    if crossed is None and available_mib() < target:
                        crossed = time.monotonic()
                    time.sleep(LOOK_SECONDS / 5)
            sent = commands.first(began, until, larger=False)
            if crossed is not None and sent is not None:
                seconds.append(sent - crossed)
            recover(running, guests, commands)
    lab.destroy_all()
    return reaction_row("host", variant, seconds, bursts - len(seconds))


def recover(running: Engine, guests: Sequence[RealGuest], commands: Commands) -> None:
    """Give guests their memory back, and let a cycle see it."""
    time.sleep(1.0)
    running.wake("the burst is over")
    time.sleep(1.0)
    for guest in guests:
        guest.domain.setMemory(GUEST_MIB * KIB)
        commands.sizes[guest.uuid] = GUEST_MIB * KIB
    time.sleep(1.5)
    running.wake("the next burst comes")
    time.sleep(0.5)


@contextmanager
def ballast() -> Iterator[None]:
    """Take memory from the host until the end of the block."""
    command = [sys.executable, str(BALLAST), str(BALLAST_MIB), "1024"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield
        finally:
            process.kill()


def costs(lab: Lab, count: int, seconds: float) -> Iterator[list[str]]:
    """Measure the CPU time of mom and libvirtd beside idle guests with less memory than they could have."""
    for guest in start_guests(lab, count, 192):
        guest.domain.setMemory(160 * KIB)
    time.sleep(5)
    for variant, plugins in COST_VARIANTS.items():
        with tempfile.TemporaryDirectory(prefix="mom-bench-") as folder:
            config = configuration(lab.libvirtd, Path(folder), 5.0, plugins, available_mib() / 1.1)  # enough, and no room
            command = [str(Path(sys.executable).parent / "mom"), "run", "-c", str(config)]
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                time.sleep(8)
                pids = (process.pid, lab.libvirtd.pid)
                before = [cpu_seconds(pid) for pid in pids]
                time.sleep(seconds)
                shares = [100 * (cpu_seconds(pid) - earlier) / seconds for pid, earlier in zip(pids, before, strict=True)]
                process.terminate()
        yield [variant, *(f"{share:.3f}" for share in shares)]
    lab.destroy_all()


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process, to the nanosecond."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", choices=["guest", "host", "cost", []], help="what to measure (default: all)")
    parser.add_argument("--bursts", type=int, default=20)
    parser.add_argument("--speed", type=int, default=60, help="MiB/s at which guests use up their memory, at most")
    parser.add_argument("--variant", choices=list(VARIANTS), help="default: both")
    parser.add_argument("--guests", type=int, default=12, help="idle guests, for the cost")
    parser.add_argument("--seconds", type=float, default=60.0, help="to measure each cost")
    options = parser.parse_args()
    logging.disable(logging.ERROR)
    what = options.what or ["guest", "host", "cost"]
    reactions, cost = [], []
    with guest_lab() as lab:
        for variant in [options.variant] if options.variant else VARIANTS:
            if "guest" in what:
                reactions.append(of_guests(lab, variant, options.bursts, options.speed))
            if "host" in what:
                reactions.append(of_the_host(lab, variant, options.bursts))
        if "cost" in what:
            cost = list(costs(lab, options.guests, options.seconds))
    if reactions:
        print("Seconds from pressure to the first balloon command\n")
        print(table(["pressure in", "", "bursts", "median", "95 %", "worst", "left out"], reactions), "\n")
    if cost:
        print(table(["CPU time, % of one CPU", "mom", "libvirtd"], cost))


if __name__ == "__main__":
    main()
