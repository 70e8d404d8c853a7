"""How much CPU time and memory a whole cycle takes, on simulated guests, with all plugins and the default policies.

    python benchmarks/cycle/bench_cycle.py [--guests 100,1000,3000,10000] [--cycles 20] [--forecast] [--json]

Each number of guests has a process of its own. There, the world is moved on by one interval, which is timed apart, and then
one cycle of a real engine is run on it: listing, collecting, evaluating, reviewing, setting balloons and KSM, ledger on disk. CPU time is
that of the whole process, all threads; the parts are each plugin's own threads. Three states are measured:

calm        nothing is decided
pressure    a program beside the guests takes half of the host: all guests are shrunk, and then held
storm       the dearest state that there is: nearly all guests are resized in every cycle, as the policy is told to shrink in small steps

With --forecast, the plugin forecast has learned the days of all guests, and expects half of them to use more before long.
"""

from __future__ import annotations

import argparse
import functools
import json
import logging
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mom_core import Config

INTERVAL = 5.0
WARM_UP = 6
LOAD_AFTER = 400.0
"""Simulated seconds after which the pressure begins: the calm cycles are over by then."""

STORM: Mapping[str, object] = {"law": {"shrink_share": 0.04, "step": "8MiB"}}
"""A guest of 2 GiB that can spare half of it goes on giving 40 MiB, less and less, for the twenty cycles that are measured; and hosts of
all sizes lack the same share of their memory."""

MEMORY_A_GUEST_MIB = 1638
"""1.6 GiB of host memory for a guest that was sold 2 GiB on average."""

STATES = ("calm", "pressure", "storm")

TARGETS_MS = {("calm", 1000): 10.0, ("pressure", 1000): 30.0, ("calm", 10_000): 100.0, ("pressure", 10_000): 300.0}
TARGET_RSS_MIB = {1000: 60.0}


@dataclass
class State:
    """What a cycle cost in one state, in ms of CPU time: the mean, the least and the worst of the cycles, and the mean of each part. On a
    machine that does other things, too, the least is what says most."""

    cycle_ms: float
    least_ms: float
    worst_ms: float
    world_ms: float
    decisions: float
    changes: float
    parts_ms: dict[str, float] = field(default_factory=dict)


@dataclass
class Result:
    """What was measured with one number of guests."""

    guests: int
    rss_mib: float
    states: dict[str, State]


class Clock:
    """Simulated seconds."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def timed(
    function: Callable[[Mapping[str, object]], object], into: dict[str, float], name: str
) -> Callable[[Mapping[str, object]], object]:
    """A plugin's hook that adds the CPU time of its thread to `into[name]`."""

    @functools.wraps(function)
    def call(arguments: Mapping[str, object]) -> object:
        began = time.thread_time()
        try:
            result = function(arguments)
            return list(result) if isinstance(result, Iterator) else result
        finally:
            into[name] += time.thread_time() - began

    return call


def learn(guests: int, folder: str) -> None:
    """Leave what was learned of the days of as many simulated guests, for the plugin forecast of a mom whose files are in this folder."""
    from mom_core import Engine
    from mom_plugins_record.forecast.curve import GuestDays, SlotSeen
    from mom_plugins_record.forecast.files import leave
    from mom_plugins_record.forecast.host_days import HostDays, KnownGuest
    from mom_plugins_record.forecast.slots import SLOTS, Calendar

    config = configuration(guests, folder)
    calendar = Calendar()
    begins = calendar.index(0.0)
    days = HostDays(calendar, calendar.slot_seconds)
    kinds = []
    for first in (1, SLOTS // 2):  # half of them will use more within the next slot, the others within hours
        kind = GuestDays(calendar)
        for index in range(begins - 9 * SLOTS, begins):
            used = 1.9 * 2**20 if first <= (index - begins) % SLOTS < first + SLOTS // 4 else 1.2 * 2**20
            kind.close(index, SlotSeen(used, used))
        kinds.append(kind)
    with Engine(config) as engine:
        for number, guest in enumerate(engine.hypervisor.guests()):
            days.known[guest.id] = KnownGuest(guest.id, guest.name, deepcopy(kinds[number % 2]))
    leave(config.state_directory / "forecast", days)


def configuration(guests: int, folder: str, balloon: Mapping[str, object] = MappingProxyType({}), *, forecast: bool = False) -> Config:
    """A simulated host with so many guests, and these settings of the plugin balloon; all files below the folder."""
    from mom_core import load_config

    host_mib = max(8192, MEMORY_A_GUEST_MIB * guests)
    sim = {"guests": guests, "host_memory": f"{host_mib}MiB", "host_swap": "8GiB", "sold": 1.25}
    load = {"load": f"{host_mib // 2}MiB", "load_after": f"{LOAD_AFTER:g}s", "load_for": "1d", "load_growth": f"{host_mib}MiB"}
    return load_config(
        {
            "interval": f"{INTERVAL:g}s",
            "state_directory": f"{folder}/state",
            "run_directory": f"{folder}/run",
            "mode": "enforce",
            "plugins": {
                "sim": sim | load,
                "host": {},
                "ksm": {},
                "balloon": dict(balloon) | ({"host_free": f"{host_mib // 10}MiB"} if balloon else {}),
                **({"forecast": {}} if forecast else {}),
                "policy": {},
            },
        }
    )


def measure(
    guests: int,
    cycles: int,
    balloon: Mapping[str, object] = MappingProxyType({}),
    names: tuple[str, str] = ("calm", "pressure"),
    *,
    forecast: bool = False,
) -> Result:
    """Run the cycles of two states in this process, with these settings of the plugin balloon; and with guests' days learned, or not."""
    from mom_core import Clock as EngineClock
    from mom_core import Engine, Severity
    from mom_daemon.run import give_free_memory_back, share_one_heap, spare_the_garbage_collector

    share_one_heap()  # this, and what else is taken from there, as `mom run` does
    logging.disable(logging.ERROR)
    clock = Clock()
    with tempfile.TemporaryDirectory(prefix="mom-bench-") as folder:
        if forecast:  # by a process of its own: its memory is not that of a mom
            subprocess.run([sys.executable, __file__, "--one", str(guests), "--learn", folder], check=True)
        config = configuration(guests, folder, balloon, forecast=forecast)
        with Engine(config, EngineClock(clock, clock)) as engine:
            parts: dict[str, float] = defaultdict(float)
            for plugin in engine.plugins.plugins:
                plugin.hooks = {hook: timed(call, parts, f"{plugin.name} {hook}") for hook, call in plugin.hooks.items()}
            hypervisor = engine.hypervisor
            listing = hypervisor.guests
            listing()
            spare_the_garbage_collector()
            give_free_memory_back()

            def cycle_once() -> tuple[float, float, int, int]:
                clock.now += INTERVAL
                began = time.process_time()
                listing()  # the world catches up with the clock here, and so not in the cycle
                world = time.process_time() - began
                began = time.process_time()
                report = engine.cycle()
                spent = time.process_time() - began
                wrong = [problem.message for problem in report.problems if problem.severity is Severity.ERROR]
                if wrong:
                    raise SystemExit(f"{guests} guests: {wrong[0]}")
                return spent, world, len(report.decisions), sum(o.status.value == "applied" for o in report.outcomes)

            def state() -> State:
                parts.clear()
                rows = [cycle_once() for _ in range(cycles)]
                cpu = [row[0] * 1e3 for row in rows]
                means = {name: seconds * 1e3 / cycles for name, seconds in parts.items()}
                means["core"] = statistics.mean(cpu) - sum(means.values())
                decisions, changes = (statistics.mean(row[index] for row in rows) for index in (2, 3))
                return State(
                    statistics.mean(cpu), min(cpu), max(cpu), statistics.mean(row[1] for row in rows) * 1e3, decisions, changes, means
                )

            for _ in range(WARM_UP):
                cycle_once()
            calm = state()
            while clock.now < LOAD_AFTER:
                cycle_once()
            return Result(guests, rss_mib(), dict(zip(names, (calm, state()), strict=True)))


def rss_mib() -> float:
    """What this process holds of the machine's memory."""
    line = next(line for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def fit(points: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """The straight line through these points: what it is at 0, how much it rises for 1, and how well it fits (R squared)."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    slope, start = statistics.linear_regression(xs, ys)
    mean = statistics.mean(ys)
    spread = sum((y - mean) ** 2 for y in ys)
    missed = sum((y - start - slope * x) ** 2 for x, y in points)
    return start, slope, 1 - missed / spread if spread else 1.0


def measure_apart(guests: int, cycles: int, options: Sequence[str]) -> Result:
    """Measure in processes of their own, so that memory is that of this number of guests only."""
    results = []
    for storm in ([], ["--storm"]):
        command = [sys.executable, __file__, "--one", str(guests), "--cycles", str(cycles), *storm, *options]
        answer = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        states = {name: State(**state) for name, state in answer["states"].items()}
        results.append(Result(answer["guests"], answer["rss_mib"], states))
    usual, storm_too = results
    usual.states["storm"] = storm_too.states["storm"]
    return usual


def show(results: Sequence[Result]) -> bool:
    """Print what was measured; whether all targets were met."""
    print(f"Python {platform.python_version()}, {processor()}; ms of CPU time of the whole process, all threads, mean of the cycles\n")
    columns = f"{'cycle':>8} {'least':>7} {'worst':>7} {'resized':>7}"
    print(f"{'':>17}" + "".join(f"   {name:^32}" for name in STATES) + f"{'the world':>12}")
    print(f"{'guests':>7} {'RSS':>9}" + f"   {columns}" * len(STATES) + f"{'itself':>12}")
    for r in results:
        cells = "".join(
            f"   {s.cycle_ms:>8.1f} {s.least_ms:>7.1f} {s.worst_ms:>7.1f} {s.changes:>7.0f}" for s in (r.states[name] for name in STATES)
        )
        print(f"{r.guests:>7,} {r.rss_mib:>5.0f} MiB{cells}{r.states['calm'].world_ms:>12.1f}")
    if len(results) > 2:
        print()
        for name in STATES:
            start, slope, good = fit([(r.guests, r.states[name].cycle_ms) for r in results])
            print(f"{name + ':':<10} {start:6.1f} ms  + {slope * 1000:5.1f} ms for every 1,000 guests (R² {good:.4f})")
        start, slope, good = fit([(r.guests, r.rss_mib) for r in results])
        print(f"{'memory:':<10} {start:6.1f} MiB + {slope * 1000:5.1f} MiB for every 1,000 guests (R² {good:.4f})")
    for r in results:
        print(f"\n{f'{r.guests:,} guests, mean ms of a cycle by part':<48}" + "".join(f"{name:>12}" for name in STATES))
        names = sorted(r.states["storm"].parts_ms, key=lambda name: -r.states["storm"].parts_ms[name])
        for name in names:
            parts = [r.states[state].parts_ms.get(name, 0.0) for state in STATES]
            if max(parts) >= 0.05:
                print(f"  {name:<46}" + "".join(f"{part:>12.2f}" for part in parts))
    return verdict(results)


def verdict(results: Sequence[Result]) -> bool:
    """Print how the targets fared; whether all were met. The storm is shown, and has no target."""
    met = True
    print()
    for r in results:
        for what, value, target, unit in (
            ("calm cycle", r.states["calm"].cycle_ms, TARGETS_MS.get(("calm", r.guests)), "ms"),
            ("cycle under pressure", r.states["pressure"].cycle_ms, TARGETS_MS.get(("pressure", r.guests)), "ms"),
            ("resident memory", r.rss_mib, TARGET_RSS_MIB.get(r.guests), "MiB"),
        ):
            if target is not None:
                met = met and value <= target
                print(
                    f"{'met   ' if value <= target else 'MISSED'}  {r.guests:>6,} guests: {what} {value:.1f} of at most {target:.0f} {unit}"
                )
    return met


def processor() -> str:
    """What this machine's CPU calls itself."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> int:
    """Measure what the command line says."""
    parser = argparse.ArgumentParser(description="CPU time and memory of a whole cycle on simulated guests.")
    parser.add_argument("--guests", default="100,1000,3000,10000", help="numbers of guests, with commas")
    parser.add_argument("--cycles", type=int, default=20, help="cycles to measure in each state")
    parser.add_argument("--forecast", action="store_true", help="with the plugin forecast, which has learned all guests' days")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--learn", help=argparse.SUPPRESS)
    parser.add_argument("--storm", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.learn is not None:
        learn(arguments.one, arguments.learn)
        return 0
    if arguments.one is not None:
        storm = (STORM, ("calm", "storm")) if arguments.storm else ()
        json.dump(asdict(measure(arguments.one, arguments.cycles, *storm, forecast=arguments.forecast)), sys.stdout)
        return 0
    options = ["--forecast"] if arguments.forecast else []
    results = [measure_apart(int(guests), arguments.cycles, options) for guests in arguments.guests.split(",")]
    if arguments.json:
        json.dump([asdict(result) for result in results], sys.stdout, indent=2)
        print()
        return 0
    return 0 if show(results) else 1


if __name__ == "__main__":
    sys.exit(main())
