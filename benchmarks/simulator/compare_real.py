"""Compare the simulator with real guests: the same events under the same policy.

    python benchmarks/simulator/compare_real.py [--seconds 480] [--picture docs/simulator.png]

`mom run` manages five real QEMU guests, and then the same guests are simulated. Programs in the guests hold a base of memory, want more in
bursts, and read files. Two guests have swap. A program keeps the memory for guests constant, and takes a part of it for a while.

It needs what tests/real needs: libvirtd, QEMU, 6 GiB of memory, and ten minutes in which no other program starts large things.
"""

from __future__ import annotations

import argparse
import bisect
import json
import math
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

sys.path += [str(Path(__file__).resolve().parents[2] / folder) for folder in ("tests/real", "benchmarks/shared")]

import steady_host  # only found from here on
from ballast import available_mib  # as above
from emulation import EMULATED_BALLOON, EMULATOR_MIB  # as above
from guest_lab import guest_lab  # as above
from private_libvirtd import PREFIX  # as above
from real_guests import Lab, RealGuest, disk  # as above
from tables import table  # as above

from mom_core import Report, Scope, Status, Value
from mom_devkit import wait_until
from mom_kvm import SimulationSetup
from mom_plugins_record.recording.reader import Recording
from mom_plugins_sim.scenario.schema import read_scenario
from mom_plugins_sim.simulate.command import run_scenario

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SETTLED = 20.0
"""Seconds at the beginning that are not compared: mom starts, and statistics arrive."""

KIB = 1024
INTERVAL = 5.0

HOLDING_SECONDS = 8.0
"""Time until the host's memory follows the plan, and each guest has printed its time. Guests print once a second."""

LEAST_LEFT_MIB = 1536
"""Least memory that stays available on this host."""

_TOLD = re.compile(r"DEMAND (-?[\d.]+) held=(\d+) lost=([\d.]+) filled=[\d.]+ kills=(\d+)")


@dataclass(frozen=True)
class Member:
    """Guest of a course. Sizes are MiB, `reads` KiB/s, `period` and `phase` seconds, `duty` percent."""

    name: str
    mib: int
    base: int
    burst: int = 0
    period: int = 100
    duty: int = 0
    phase: float = 0
    files: int = 0
    reads: int = 0
    swap: int = 0


@dataclass(frozen=True)
class Course:
    """Course of events: guests, duration (s), and memory that other programs take from the host.

    `room` is the memory that the policy leaves to guests, in MiB. `loads` have `at`, `lasts` (s) and `mib`. The course begins when all
    guests work, within `ready` seconds.
    """

    members: Sequence[Member]
    seconds: float
    room: float
    loads: Sequence[Mapping[str, float]] = ()
    ready: float = 60.0

    def ahead(self, offsets: Mapping[str, float]) -> Course:
        """Return the course for guests whose clocks are ahead by these seconds."""
        members = [replace(one, phase=(one.phase + offsets[one.name]) % one.period) for one in self.members]
        return replace(self, members=members)

    def balloon(self, capacity: float) -> dict[str, Value]:
        """Return settings of the plugin balloon, with which the host lacks memory if guests use more than their room."""
        target = capacity - self.room
        return {"host_free": f"{target:.0f}MiB", "law": {"return_above": (target + 100) / target, "start_rest": "10s"}}

    def scenario(self, capacity: float) -> str:
        """Return the scenario for the simulator, on a host with this much memory for guests (MiB)."""
        groups: dict[str, object] = {}
        for one in self.members:
            workload: dict[str, object] = {"constant": {"use": one.base / one.mib}}
            if one.burst:
                burst = {"base": one.base / one.mib, "burst": one.burst / one.mib, "duty": one.duty / 100}
                workload = {"bursty": {**burst, "period": f"{one.period}s", "phase": f"{one.phase:.2f}s"}}
            groups[one.name] = {
                "memory": f"{one.mib}MiB",
                "process": f"{EMULATOR_MIB}MiB",
                "balloon": {"rate": EMULATED_BALLOON},
                "swap": one.swap / one.mib,
                "workload": workload,
                "files": one.files / one.mib,
                "hot": 0,
                "reads": f"{one.reads}KiB",
                "cached": 1,
                "duplicate": 0,
                "statistics": {"period": "1s"},
            }
        # A simulated host keeps 1 GiB and 2 % for itself.
        memory = (capacity + 1024) / 0.98
        load = [
            {"at": f"{one['at']:g}s", "lasts": f"{one['lasts']:g}s", "memory": f"{one['mib']:g}MiB", "growth": "2GiB"} for one in self.loads
        ]
        content = {
            "title": "The same as on real guests",
            "lasts": f"{self.seconds:g}s",
            "interval": f"{INTERVAL:g}s",
            "host": {"memory": f"{memory:.0f}MiB", "load": load},
            "guests": groups,
        }
        return json.dumps(content, indent=2)


MEMBERS = (
    Member("steady", 768, base=200, files=200, reads=2048),
    Member("bursts", 768, base=120, burst=250, period=120, duty=30, phase=60, files=100, reads=1024),
    Member("reports", 1024, base=150, burst=400, period=150, duty=35, phase=20, files=150, reads=1024, swap=256),
    Member("idle", 512, base=60, files=60, reads=512),
    Member("build", 768, base=350, burst=150, period=90, duty=40, files=100, reads=2048, swap=192),
)
LOADS = ({"at": 150.0, "lasts": 150.0, "mib": 500.0},)
ROOM_MIB = 2100.0


@dataclass
class Track:
    """Observations of one run: pairs of seconds since its beginning and MiB.

    `available` is the host's memory. Each guest has `size`, `usable`, `unused` and `resident`. `commands` are times, guests and sizes.
    """

    available: list[tuple[float, float]] = field(default_factory=list)
    guests: dict[str, dict[str, list[tuple[float, float]]]] = field(default_factory=dict)
    commands: list[tuple[float, str, float]] = field(default_factory=list)
    lost: dict[str, float] = field(default_factory=dict)
    killed: dict[str, int] = field(default_factory=dict)


_FIELDS = {"size": "balloon_cur", "usable": "mem_usable", "unused": "mem_unused", "cache": "mem_disk_caches", "resident": "rss"}


def track_of(reports: Iterator[Report], began: float) -> Track:
    """Return the observations in these reports, from `began` (seconds since the epoch)."""
    track = Track()
    for report in reports:
        time_ = report.time - began
        available = report.snapshot.host.fields.get("mem_really_available")
        if isinstance(available, int | float):
            track.available.append((time_, available / KIB))
        for guest in report.snapshot.guests.values():
            name = guest.name.removeprefix(PREFIX).removesuffix("-001")
            series = track.guests.setdefault(name, {kind: [] for kind in _FIELDS})
            for kind, source in _FIELDS.items():
                value = guest.fields.get(source)
                if isinstance(value, int | float):
                    series[kind].append((time_, value / KIB))
            lost, killed = guest.fields.get("sim_lost"), guest.fields.get("guest_oom_kills")
            if isinstance(lost, int | float) and isinstance(killed, int):
                track.lost[name], track.killed[name] = lost, killed
        for outcome in report.outcomes:
            decision = outcome.decision
            if decision.control == "balloon_target" and outcome.status is Status.APPLIED and decision.entity.scope is Scope.GUEST:
                name = decision.entity.name.removeprefix(PREFIX).removesuffix("-001")
                if isinstance(decision.value, int | float):
                    track.commands.append((time_, name, decision.value / KIB))
    return track


def simulated(course: Course, capacity: float, folder: Path) -> Track:
    """Run the course on the simulator."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "scenario.yaml"
    path.write_text(course.scenario(capacity))
    setup = SimulationSetup("compared", (), plugins={"balloon": course.balloon(capacity)})
    return track_of(run_scenario(read_scenario(path), path, setup, None, course.seconds), SimulationSetup.BEGINS)


def real(course: Course, lab: Lab, folder: Path) -> tuple[Track, Course, float]:
    """Run the course on real guests under `mom run`.

    Return the observations, the course by the guests' clocks, and the host's memory for guests (MiB): a gigabyte less than available,
    so that other programs may take that much."""
    folder.mkdir(parents=True, exist_ok=True)
    loads = sum(load["mib"] for load in course.loads)
    has = available_mib() - 1024.0
    assert has - loads > LEAST_LEFT_MIB, "this host has too little memory"
    told_to_begin = time.time()
    guests = [_started(lab, one, told_to_begin) for one in course.members]
    for guest in guests:
        wait_until(partial(_last_told, guest), f"{guest.name} holds what it should", course.ready)
    begin, begin_monotonic = time.time() + HOLDING_SECONDS, time.monotonic() + HOLDING_SECONDS
    plan = {
        "capacity_mib": has,
        "begin": begin_monotonic,
        "loads": list(course.loads),
        "pids": [guest.pid for guest in guests],
        "floor_mib": LEAST_LEFT_MIB,
    }
    (folder / "plan.json").write_text(json.dumps(plan))
    with _process("steady_host", [sys.executable, steady_host.__file__, str(folder / "plan.json")], folder):
        offsets = {
            one.name: _clock(guest) - (time.monotonic() - begin_monotonic) for guest, one in zip(guests, course.members, strict=True)
        }
        left = begin_monotonic - time.monotonic()
        assert left > 0, "the guests do not tell their time"
        time.sleep(left)
        config = _config(course, has, lab, folder)
        with _process("mom", [str(Path(sys.executable).parent / "mom"), "run", "-c", str(config)], folder):
            time.sleep(course.seconds)
    reports = (one.report for one in Recording(folder / "recording").cycles(until=begin + course.seconds))
    track = track_of(reports, begin)
    for guest, one in zip(guests, course.members, strict=True):
        told = _TOLD.findall(guest.printed)
        before = [line for line in told if float(line[0]) <= offsets[one.name]] or told[:1]
        track.lost[one.name] = float(told[-1][2]) - float(before[-1][2])
        track.killed[one.name] = int(told[-1][3])
        (folder / f"{one.name}.log").write_text(guest.printed)
        guest.destroy()
    return track, course.ahead(offsets), has


def _clock(guest: RealGuest) -> float:
    """Return the seconds since the guest's start command by its own, imprecise clock."""
    known = len(guest.printed)
    wait_until(lambda: len(guest.printed) > known and guest.printed.endswith("\n"), f"{guest.name} tells its time")
    return float(_last_told(guest)[0])


def _last_told(guest: RealGuest) -> tuple[str, ...]:
    """Return the values in the program's last line; empty without one."""
    lines: list[tuple[str, ...]] = _TOLD.findall(guest.printed)
    return lines[-1] if lines else ()


def _started(lab: Lab, one: Member, begin: float) -> RealGuest:
    devices = disk(lab, f"{one.name}-files", max(1, one.files))
    arguments = [int(begin), one.base, one.burst, one.period, one.duty, one.phase, one.files, one.reads]
    extra = "momtest.demand=" + ",".join(map(str, arguments))
    if one.swap:
        devices += disk(lab, f"{one.name}-swap", one.swap, "vdb")
        extra += " momtest.swap=1"
    return lab.start(one.name, mib=one.mib, devices=devices, arguments=extra)


def _config(course: Course, capacity: float, lab: Lab, folder: Path) -> Path:
    content = {
        "interval": f"{INTERVAL:g}s",
        "state_directory": str(folder / "state"),
        "run_directory": str(folder / "run"),
        "mode": "enforce",
        "plugins": {
            "host": {"watch": "0s"},  # the simulator does not watch its host
            "libvirt": {"uri": lab.libvirtd.uri, "pid_directory": str(lab.libvirtd.pid_folder), "stats_period": "1s"},
            "balloon": course.balloon(capacity),
            "policy": {},
            "record": {"path": str(folder / "recording"), "reserve": "0"},
        },
    }
    path = folder / "mom.yaml"
    path.write_text(json.dumps(content))
    return path


@contextmanager
def _process(name: str, command: Sequence[str], folder: Path) -> Iterator[None]:
    """Run a program that ends with its input, or by SIGTERM."""
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)
    try:
        yield
        assert process.poll() is None, f"{name} has ended: {(folder / f'{name}.log').read_text()[-2000:]}"
    finally:
        if process.stdin is not None:
            process.stdin.close()
        if name == "mom":
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def difference(
    real_series: Sequence[tuple[float, float]], simulated_series: Sequence[tuple[float, float]], begin: float, end: float
) -> tuple[float, float]:
    """Return the mean difference (simulated less real) and its root mean square, by comparing the series at every second."""
    pairs = [(at(real_series, second), at(simulated_series, second)) for second in range(math.ceil(begin), math.floor(end))]
    gaps = [its - mine for mine, its in pairs if not math.isnan(its - mine)]
    if not gaps:
        return math.nan, math.nan
    return statistics.fmean(gaps), math.sqrt(statistics.fmean(gap * gap for gap in gaps))


def at(series: Sequence[tuple[float, float]], time_: float) -> float:
    """Return the last value at that time; NaN before the first."""
    index = bisect.bisect_right(series, (time_, math.inf)) - 1
    return series[index][1] if index >= 0 else math.nan


def rows(first: Track, second: Track, seconds: float) -> list[tuple[str, str, float, float, float]]:
    """Return rows of figure, guest, bias (MiB), and root mean square (MiB, and percent of the guest's size)."""
    table_rows = []
    table_rows.append(("available", "host", *difference(first.available, second.available, SETTLED, seconds), math.nan))
    for kind in ("size", "usable", "unused", "cache", "resident"):
        for one in MEMBERS:
            mine, its = first.guests[one.name][kind], second.guests[one.name][kind]
            bias, rms = difference(mine, its, SETTLED, seconds)
            table_rows.append((kind, one.name, bias, rms, 100 * rms / one.mib))
    return table_rows


def tables(first: Track, second: Track, seconds: float) -> str:
    """Return the differences, and counts of events, as tables."""
    lines = [
        [kind, name, *("" if math.isnan(cell) else f"{cell:.1f}" for cell in cells)] for kind, name, *cells in rows(first, second, seconds)
    ]
    events = (
        ("balloon commands", len(first.commands), len(second.commands)),
        ("programs killed", sum(first.killed.values()), sum(second.killed.values())),
        ("work lost, s", round(sum(first.lost.values()), 1), round(sum(second.lost.values()), 1)),
    )
    counts = [[label, str(real), str(simulated)] for label, real, simulated in events]
    heading = ["", "of", "bias, MiB", "root mean square, MiB", "share of the guest's size, %"]
    return f"{table(heading, lines)}\n\n{table(['', 'real', 'simulated'], counts)}"


def draw(first: Track, second: Track, seconds: float, path: Path) -> None:
    """Draw the host and each guest, real and simulated."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 9), layout="constrained")
    axes: Sequence[Axes] = list(figure.subplots(3, 2).flat)
    host = axes[0]
    host.plot(*zip(*first.available, strict=True), color="#7f7f7f", label="real")
    host.plot(*zip(*second.available, strict=True), color="#7f7f7f", linestyle="--", label="simulated")
    host.set_title("host: available", loc="left")
    for load in LOADS:
        host.axvspan(load["at"], load["at"] + load["lasts"], color="#e8e8e8", zorder=0)
    host.legend(loc="lower right", frameon=False)
    for axis, one in zip(axes[1:], MEMBERS, strict=True):
        for track, line in ((first, "-"), (second, "--")):
            for kind, colour in (("size", "#0072B2"), ("usable", "#009E73"), ("resident", "#E69F00")):
                series = track.guests[one.name][kind]
                axis.plot(*zip(*series, strict=True), color=colour, linestyle=line, linewidth=1.3, label=kind if line == "-" else None)
        axis.set_title(f"{one.name}: {one.mib} MiB, {one.base} held" + (f", {one.burst} more in bursts" if one.burst else ""), loc="left")
        axis.set_ylim(0, one.mib * 1.08)
    axes[1].legend(loc="lower right", frameon=False, ncols=3)
    for axis in axes:
        axis.set_xlim(0, seconds)
        axis.set_ylabel("MiB")
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[-2:]:
        axis.set_xlabel("seconds")
    figure.suptitle(
        "The same course on real guests (solid) and simulated ones (dashed); grey: a program takes 500 MiB of the host", fontsize=11
    )
    figure.savefig(path, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=480.0)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mom-bench-") as name, guest_lab() as lab:
        first, course, capacity = real(Course(MEMBERS, options.seconds, ROOM_MIB, LOADS), lab, Path(name) / "real")
        second = simulated(course, capacity, Path(name) / "simulated")
    if options.picture:
        draw(first, second, course.seconds, options.picture)
    print(tables(first, second, course.seconds))


if __name__ == "__main__":
    main()
