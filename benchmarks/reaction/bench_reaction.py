"""How soon after memory pressure mom sends the first balloon command, on real guests; and what watching for it costs.

    python benchmarks/reaction/bench_reaction.py [guest] [host] [cost] [--bursts 20]

guest   four guests from which memory was taken use it up in bursts. Pressure begins when less is available in the guest than the default
        policy wants it to have, by what the guest itself prints at that moment; the command is the first that makes it larger.
host    a program takes host memory. Pressure begins when less is available than the policy wants; the command is the first that makes
        a guest smaller.
        Both with mom as it is, and with nothing but a cycle every 10 s.
cost    CPU time of a `mom run` that has nothing to do, with the watches and without, beside twelve guests of which all are watched.

It needs what tests/real needs: libvirtd, QEMU, and a few minutes in which nobody else starts large things.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "real"))

from guest_image import build, cache_folder  # only found from here on
from private_libvirtd import PrivateLibvirtd  # as above
from real_guests import Lab, RealGuest  # as above

from mom_core import Engine, Entity, load_config

REAL = Path(__file__).resolve().parents[2] / "tests" / "real"
MIB = 1024
GUESTS = 4
GUEST_MIB = 512
HELD_MIB, FLOOR_MIB, REST_SECONDS = 100, 30, 6
BALLAST_MIB = 2048
LOOK_SECONDS = 0.005
RUNS_OUT_SHARE, RUNS_OUT_MIB = 0.125, 40
"""Of the balloon law: half of the margin."""

LIMIT_SECONDS = 1.0

WATCHED: Mapping[str, Mapping[str, object]] = {"host": {}, "libvirt": {}}
UNWATCHED: Mapping[str, Mapping[str, object]] = {"host": {"watch": "0s"}, "libvirt": {"watch": "0s"}}
VARIANTS = {"mom": ("5s", WATCHED), "cycles every 10 s only": ("10s", UNWATCHED)}

_FILL = re.compile(r"^(FILL|FULL|REST) (\d+) (\d+)\r?$")


@dataclass(frozen=True)
class Reaction:
    """Seconds from pressure to the first command, in each burst; bursts in which none was needed or none came; what woke the cycles."""

    variant: str
    pressure: str
    seconds: Sequence[float]
    left_out: int
    load: float

    def line(self) -> str:
        """For people."""
        ordered = sorted(self.seconds)
        if not ordered:
            return f"{self.pressure:<7}{self.variant:<26}no burst"
        tail = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
        late = sum(seconds > LIMIT_SECONDS for seconds in ordered)
        numbers = f"{statistics.median(ordered):>8.2f}{tail:>8.2f}{ordered[-1]:>8.2f}{late:>8}"
        return f"{self.pressure:<7}{self.variant:<26}{len(ordered):>7}{numbers}{self.left_out:>9}{self.load:>7.1f}"


HEADING = f"{'of':<7}{'':<26}{'bursts':>7}{'median':>8}{'95 %':>8}{'worst':>8}{'> 1 s':>8}{'left out':>9}{'load':>7}"


def available_kib() -> int:
    """MemAvailable of this host."""
    found = re.search(r"^MemAvailable: +(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def config_text(libvirtd: PrivateLibvirtd, folder: Path, interval: str, plugins: Mapping[str, Mapping[str, object]], target: float) -> str:
    """A configuration in which the policy wants `target` KiB of this host to be available."""
    folder.mkdir(parents=True, exist_ok=True)
    libvirt = {"uri": libvirtd.uri, "pid_directory": str(libvirtd.pid_folder), **plugins["libvirt"]}
    host = {"watch_available": f"{target / 1024:.0f}MiB", **plugins["host"]}
    content = {
        "interval": interval,
        "state_directory": str(folder / "state"),
        "run_directory": str(folder / "run"),
        "mode": "enforce",
        "plugins": {"host": host, "libvirt": libvirt, "balloon": {"host_free": f"{target:.0f}KiB"}, "policy": {}},
    }
    return json.dumps(content)  # JSON is YAML


class Commands:
    """The balloon commands that an engine sends, with the moment at which each was taken by libvirt."""

    def __init__(self, guests: Sequence[RealGuest]) -> None:
        self.sent: list[tuple[float, str, float, float]] = []
        """When, which guest, from which size, to which size (KiB)."""
        self.sizes = {guest.uuid: float(guest.domain.memoryStats()["actual"]) for guest in guests}

    def listen(self, hypervisor: Any) -> None:
        """Note what goes through this hypervisor."""
        original = hypervisor.set_balloon

        def noted(guest: Entity, target_kib: int) -> None:
            original(guest, target_kib)
            self.sent.append((time.monotonic(), guest.id, self.sizes[guest.id], target_kib))
            self.sizes[guest.id] = target_kib

        hypervisor.set_balloon = noted

    def first(self, after: float, until: float, *, larger: bool, uuid: str = "") -> float | None:
        """When the first command in that time was sent that makes a guest larger, or smaller."""
        for when, guest, before, size in list(self.sent):
            if after <= when <= until and (not uuid or guest == uuid) and (size > before) == larger:
                return when
        return None


@contextlib.contextmanager
def engine(
    lab: Lab, guests: Sequence[RealGuest], interval: str, plugins: Mapping[str, Mapping[str, object]], target: float
) -> Iterator[tuple[Commands, Engine]]:
    """A real engine at work in this process, and what it sends."""
    with tempfile.TemporaryDirectory(prefix="mom-bench-") as name:
        folder = Path(name)
        path = folder / "mom.yaml"
        path.write_text(config_text(lab.libvirtd, folder, interval, plugins, target))
        commands = Commands(guests)
        running = Engine(load_config(path))
        running.open()
        commands.listen(running.hypervisor)
        running.start()
        try:
            yield commands, running
        finally:
            running.stop()


@dataclass
class Burst:
    """One burst of one guest: when it began, when pressure began (None: not yet), and when it ended."""

    began: float
    pressure: float | None = None
    ended: float | None = None


class Listener:
    """Notes when guests print what, to 5 ms."""

    def __init__(self, guests: Sequence[RealGuest], commands: Commands) -> None:
        self.bursts: dict[tuple[str, int], Burst] = {}
        self._guests = {guest.uuid: guest.log for guest in guests}  # where it prints to
        self._positions = {uuid: path.stat().st_size for uuid, path in self._guests.items()}
        self._rests = dict.fromkeys(self._guests, "")
        self._commands = commands

    def look(self) -> None:
        """Read what is new."""
        for uuid, path in self._guests.items():
            with path.open("rb") as file:
                file.seek(self._positions[uuid])
                new = file.read()
            now = time.monotonic()
            self._positions[uuid] += len(new)
            *lines, self._rests[uuid] = (self._rests[uuid] + new.decode("ascii", "replace")).split("\n")
            for line in lines:
                self._take(uuid, line, now)

    def _take(self, uuid: str, line: str, now: float) -> None:
        found = _FILL.match(line)
        if found is None:
            return
        kind, number, available = found[1], int(found[2]), int(found[3])
        burst = self.bursts.setdefault((uuid, number), Burst(now))
        if kind == "REST":
            burst.ended = now
        size = self._commands.sizes[uuid]
        if burst.pressure is None and available < RUNS_OUT_MIB * MIB + RUNS_OUT_SHARE * (size - available):
            burst.pressure = now


def of_guests(lab: Lab, variant: str, bursts: int, speed: int) -> Reaction:
    """Bursts in guests."""
    interval, plugins = VARIANTS[variant]
    hold = 4 if plugins is WATCHED else 13
    arguments = f"momtest.burst={HELD_MIB},{FLOOR_MIB},{speed},{hold},{REST_SECONDS}"
    guests = [lab.start(f"burst{number}", mib=GUEST_MIB, arguments=arguments) for number in range(GUESTS)]
    for guest in guests:
        guest.wait_until_up()
    seconds: list[float] = []
    left_out = 0
    loads = []
    # So much too little that guests give down to their comfort, and not so little that those which run out may not grow.
    with engine(lab, guests, interval, plugins, available_kib() / 0.85) as (commands, _):
        listener = Listener(guests, commands)
        ready = time.monotonic() + 25  # until memory was taken from all, and the bursts that were under way are over
        judged: set[tuple[str, int]] = set()
        give_up = time.monotonic() + 60 + bursts * 30
        while len(seconds) < bursts and time.monotonic() < give_up:
            listener.look()
            for key, burst in list(listener.bursts.items()):
                if key in judged or burst.ended is None:
                    continue
                judged.add(key)
                if burst.began < ready:
                    continue
                sent = commands.first(burst.began, burst.ended, larger=True, uuid=key[0])
                if burst.pressure is None or sent is None:
                    left_out += 1  # the guest had so much that it was not short, or no command came before the burst ended
                    if burst.pressure is not None and commands.sizes[key[0]] < GUEST_MIB * MIB - 16 * MIB:
                        seconds.append(burst.ended - burst.pressure)  # it could have had more: at least so late
                else:
                    seconds.append(sent - burst.pressure)
                loads.append(os.getloadavg()[0])
            time.sleep(LOOK_SECONDS)
    lab.destroy_all()
    return Reaction(variant, "guests", [round(found, 3) for found in seconds], left_out, statistics.mean(loads or [0.0]))


def of_the_host(lab: Lab, variant: str, bursts: int) -> Reaction:
    """Pressure on the host."""
    interval, plugins = VARIANTS[variant]
    longest = 3.0 + float(interval.rstrip("s"))
    guests = [lab.start(f"idle{number}", mib=GUEST_MIB) for number in range(GUESTS)]
    for guest in guests:
        guest.wait_until_up()
    time.sleep(3)
    seconds: list[float] = []
    left_out = 0
    loads = []
    target = available_kib() - BALLAST_MIB * MIB / 2
    with engine(lab, guests, interval, plugins, target) as (commands, running):
        time.sleep(3)
        for _ in range(bursts):
            time.sleep(random.uniform(0.0, float(interval.rstrip("s"))))  # noqa: S311  # any moment between two cycles
            if available_kib() < target:
                left_out += 1  # somebody else needs memory
                continue
            crossed = None
            with ballast():
                began = time.monotonic()
                while time.monotonic() < began + longest and commands.first(began, began + longest, larger=False) is None:
                    if crossed is None and available_kib() < target:
                        crossed = time.monotonic()
                    time.sleep(LOOK_SECONDS / 5)
            sent = commands.first(began, began + longest, larger=False)
            if crossed is None or sent is None:
                left_out += 1
            else:
                seconds.append(sent - crossed)
            loads.append(os.getloadavg()[0])
            # As it was before, and a cycle has seen both: that the guests have followed, and that all is well again.
            time.sleep(1.0)
            running.wake("the burst is over")
            time.sleep(1.0)
            for guest in guests:
                guest.domain.setMemory(GUEST_MIB * MIB)
                commands.sizes[guest.uuid] = GUEST_MIB * MIB
            time.sleep(1.5)
            running.wake("the next burst comes")
            time.sleep(0.5)
    lab.destroy_all()
    return Reaction(variant, "host", [round(found, 3) for found in seconds], left_out, statistics.mean(loads or [0.0]))


@contextlib.contextmanager
def ballast() -> Iterator[None]:
    """Less memory for the host from now on, while this lasts."""
    command = [sys.executable, str(REAL / "ballast.py"), str(BALLAST_MIB), "1024"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield
        finally:
            process.kill()


@dataclass(frozen=True)
class Cost:
    """CPU time in percent of one CPU: of mom, and of libvirtd, which answers it."""

    variant: str
    mom: float
    libvirtd: float
    load: float

    def line(self) -> str:
        """For people."""
        return f"{self.variant:<40}{self.mom:>8.3f}{self.libvirtd:>10.3f}{self.load:>7.1f}"


COST_HEADING = f"{'CPU time, % of one CPU':<40}{'mom':>8}{'libvirtd':>10}{'load':>7}"

COST_VARIANTS: Mapping[str, Mapping[str, Mapping[str, object]]] = {
    "no watch": UNWATCHED,
    "the host is watched": {"host": {}, "libvirt": {"watch": "0s"}},
    "the guests are watched": {"host": {"watch": "0s"}, "libvirt": {}},
    "both": WATCHED,
}


def costs(lab: Lab, guests_count: int, seconds: float) -> list[Cost]:
    """What a mom that has nothing to do costs beside idle guests, all of which have less than they could have."""
    guests = [lab.start(f"idle{number}", mib=192) for number in range(guests_count)]
    for guest in guests:
        guest.wait_until_up()
    for guest in guests:
        guest.domain.setMemory(160 * MIB)
    time.sleep(5)
    found = []
    for variant, plugins in COST_VARIANTS.items():
        with tempfile.TemporaryDirectory(prefix="mom-bench-") as name:
            folder = Path(name)
            path = folder / "mom.yaml"
            path.write_text(config_text(lab.libvirtd, folder, "5s", plugins, available_kib() / 1.1))  # enough, and no room
            command = [str(Path(sys.executable).parent / "mom"), "run", "-c", str(path)]
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                time.sleep(8)
                mine, its = cpu_seconds(process.pid), cpu_seconds(lab.libvirtd.pid)
                began = time.monotonic()
                time.sleep(seconds)
                took = (time.monotonic() - began) / 100
                found.append(
                    Cost(
                        variant, (cpu_seconds(process.pid) - mine) / took, (cpu_seconds(lab.libvirtd.pid) - its) / took, os.getloadavg()[0]
                    )
                )
                process.send_signal(signal.SIGTERM)
    lab.destroy_all()
    return found


def cpu_seconds(pid: int) -> float:
    """What a process has used, to the nanosecond."""
    text = Path(f"/proc/{pid}/task")
    return sum(int((task / "schedstat").read_text().split()[0]) for task in text.iterdir()) / 1e9


def main() -> None:
    """Measure what is asked for, and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", choices=["guest", "host", "cost", []], help="all of it, if nothing is named")
    parser.add_argument("--bursts", type=int, default=20)
    parser.add_argument("--speed", type=int, default=60, help="MiB/s at which guests use up their memory, as far as they can")
    parser.add_argument("--variant", choices=list(VARIANTS), help="both, if not given")
    parser.add_argument("--guests", type=int, default=12, help="beside which the cost is measured")
    parser.add_argument("--seconds", type=float, default=60.0, help="for which each cost is measured")
    options = parser.parse_args()
    logging.disable(logging.ERROR)
    what = options.what or ["guest", "host", "cost"]
    variants = [options.variant] if options.variant else list(VARIANTS)
    libvirtd = PrivateLibvirtd(cache_folder())
    reactions: list[Reaction] = []
    cost: list[Cost] = []
    try:
        libvirtd.start()
        lab = Lab(libvirtd, build())
        if "guest" in what:
            reactions.extend(of_guests(lab, variant, options.bursts, options.speed) for variant in variants)
        if "host" in what:
            reactions.extend(of_the_host(lab, variant, options.bursts) for variant in variants)
        if "cost" in what:
            cost = costs(lab, options.guests, options.seconds)
    finally:
        libvirtd.stop()
    if reactions:
        print("seconds from pressure to the first balloon command")
        print("\n".join([HEADING, *(found.line() for found in reactions)]))
    if cost:
        print("\n".join([COST_HEADING, *(found.line() for found in cost)]))


if __name__ == "__main__":
    main()
