"""Measure the CPU time and memory of a whole cycle on simulated guests, with all plugins and the default policies.

    python benchmarks/cycle/bench_cycle.py [--guests 100,1000,3000,10000] [--cycles 20]

Each number of guests has a process of its own. The simulated world moves by one interval, which is timed apart. Then a real engine runs one
cycle: list, collect, evaluate, review, set balloons and KSM, write the ledger. CPU time is that of the whole process; the parts are each
plugin's threads. Three states are measured:

calm        nothing is decided
pressure    a program takes half of the host: all guests are shrunk, and then held
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
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mom_core import Config

INTERVAL = 5.0
WARM_UP = 6
LOAD_AFTER = 400.0
"""Simulated seconds until the pressure begins, after the calm cycles."""

MEMORY_A_GUEST_MIB = 1638
"""Host memory for a guest that was sold 2 GiB on average."""

STATES = ("calm", "pressure")

TARGETS_MS = {("calm", 1000): 10.0, ("pressure", 1000): 30.0, ("calm", 10_000): 100.0, ("pressure", 10_000): 300.0}
TARGET_RSS_MIB = {1000: 60.0}


@dataclass
class State:
    """Cost of a cycle in one state, in ms of CPU time: mean, least and largest, and the mean of each part. On a busy machine, the least is
    the most reliable figure."""

    cycle_ms: float
    least_ms: float
    worst_ms: float
    world_ms: float
    changes: float
    parts_ms: dict[str, float] = field(default_factory=dict)


@dataclass
class Result:
    """Figures for one number of guests."""

    guests: int
    rss_mib: float
    states: dict[str, State]


class Clock:
    """Simulated seconds."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


Hook = Callable[[Mapping[str, object]], object]


def timed(hook: Hook, into: dict[str, float], name: str) -> Hook:
    """Return a plugin's hook that adds the CPU time of its thread to `into[name]`."""

    @functools.wraps(hook)
    def call(arguments: Mapping[str, object]) -> object:
        began = time.thread_time()
        try:
            result = hook(arguments)
            return list(result) if isinstance(result, Iterator) else result
        finally:
            into[name] += time.thread_time() - began

    return call


def configuration(guests: int, folder: str) -> Config:
    """Return the configuration of a simulated host whose files are in a folder."""
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
            "plugins": {"sim": sim | load, "host": {}, "ksm": {}, "balloon": {}, "policy": {}},
        }
    )


def measure(guests: int, cycles: int) -> Result:
    """Measure both states in this process."""
    from mom_core import Clock as EngineClock
    from mom_core import Engine, Severity
    from mom_daemon.run import spare_the_garbage_collector

    logging.disable(logging.ERROR)
    clock = Clock()
    parts: dict[str, float] = defaultdict(float)
    with (
        tempfile.TemporaryDirectory(prefix="mom-bench-") as folder,
        Engine(configuration(guests, folder), EngineClock(clock, clock)) as engine,
    ):
        for plugin in engine.plugins.plugins:
            plugin.hooks = {hook: timed(call, parts, f"{plugin.name} {hook}") for hook, call in plugin.hooks.items()}
        move_world = engine.hypervisor.guests
        move_world()
        spare_the_garbage_collector()  # like `mom run`

        def cycle_once() -> tuple[float, float, int]:
            clock.now += INTERVAL
            began = time.process_time()
            move_world()
            moved = time.process_time()
            report = engine.cycle()
            spent = time.process_time() - moved
            if errors := [problem.message for problem in report.problems if problem.severity is Severity.ERROR]:
                raise SystemExit(f"{guests} guests: {errors[0]}")
            return spent * 1e3, (moved - began) * 1e3, sum(outcome.status.value == "applied" for outcome in report.outcomes)

        def state() -> State:
            parts.clear()
            cpu, world, changes = zip(*(cycle_once() for _ in range(cycles)), strict=True)
            means = {name: seconds * 1e3 / cycles for name, seconds in parts.items()}
            mean = statistics.mean(cpu)
            means["core"] = mean - sum(means.values())
            return State(mean, min(cpu), max(cpu), statistics.mean(world), statistics.mean(changes), means)

        for _ in range(WARM_UP):
            cycle_once()
        calm = state()
        while clock.now < LOAD_AFTER:
            cycle_once()
        return Result(guests, rss_mib(), {"calm": calm, "pressure": state()})


def rss_mib() -> float:
    """Return this process's resident memory."""
    line = next(line for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def measure_apart(guests: int, cycles: int) -> Result:
    """Measure in processes of their own, so that memory is that of this number of guests only."""
    command = [sys.executable, __file__, "--one", str(guests), "--cycles", str(cycles)]
    answer = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return Result(guests, answer["rss_mib"], {name: State(**state) for name, state in answer["states"].items()})


def show(results: Sequence[Result]) -> bool:
    """Print figures. Return whether all targets were met."""
    print(f"Python {platform.python_version()}, {processor()}; ms of CPU time of the whole process, all threads, mean of the cycles\n")
    columns = f"   {'cycle':>8} {'least':>7} {'worst':>7} {'resized':>7}"
    print(f"{'':>17}" + "".join(f"   {name:^32}" for name in STATES) + f"{'the world':>12}")
    print(f"{'guests':>7} {'RSS':>9}" + columns * len(STATES) + f"{'itself':>12}")
    for result in results:
        states = [result.states[name] for name in STATES]
        cells = "".join(f"   {one.cycle_ms:>8.1f} {one.least_ms:>7.1f} {one.worst_ms:>7.1f} {one.changes:>7.0f}" for one in states)
        print(f"{result.guests:>7,} {result.rss_mib:>5.0f} MiB{cells}{states[0].world_ms:>12.1f}")
    for result in results:
        print(f"\n{f'{result.guests:,} guests, mean ms of a cycle by part':<48}" + "".join(f"{name:>12}" for name in STATES))
        for name, _ in sorted(result.states["pressure"].parts_ms.items(), key=lambda part: -part[1]):
            parts = [result.states[state].parts_ms.get(name, 0.0) for state in STATES]
            if max(parts) >= 0.05:
                print(f"  {name:<46}" + "".join(f"{part:>12.2f}" for part in parts))
    print()
    met = [verdict(result) for result in results]
    return all(met)


def verdict(result: Result) -> bool:
    """Print the targets for this number of guests. Return whether all were met."""
    figures = [(f"cycle, {state}", result.states[state].cycle_ms, TARGETS_MS.get((state, result.guests)), "ms") for state in STATES]
    figures.append(("resident memory", result.rss_mib, TARGET_RSS_MIB.get(result.guests), "MiB"))
    met = [value <= target for _, value, target, _ in figures if target is not None]
    for name, value, target, unit in figures:
        if target is not None:
            print(f"{'met   ' if value <= target else 'MISSED'}  {result.guests:>6,} guests: {name} {value:.1f} of {target:.0f} {unit}")
    return all(met)


def processor() -> str:
    """Return the name of this machine's CPU."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the CPU time and memory of a whole cycle on simulated guests.")
    parser.add_argument("--guests", default="100,1000,3000,10000", help="numbers of guests, with commas")
    parser.add_argument("--cycles", type=int, default=20, help="cycles to measure in each state")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one is not None:
        json.dump(asdict(measure(arguments.one, arguments.cycles)), sys.stdout)
        return 0
    results = [measure_apart(int(guests), arguments.cycles) for guests in arguments.guests.split(",")]
    return 0 if show(results) else 1


if __name__ == "__main__":
    sys.exit(main())
