"""How long a simulated and a replayed day take, and that neither needs more memory for a longer one.

    python benchmarks/simulate/bench_simulate.py [--scenario hundred-a-day] [--hours 24]

Simulates the scenario with all default plugins, recording it, and replays the recording with the same policies, which must decide the
same. Each in a process of its own, once for a quarter of the time and once for all of it: the peaks of memory show whether it is flat.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WANTED_SECONDS = {"simulate": 60.0, "replay": 15.0}
"""For 24 hours of 100 guests, 10 s from cycle to cycle, on one core."""


def simulate(name: str, hours: float, folder: Path) -> int:
    """Simulate and record; the number of cycles."""
    from mom_kvm import SimulationSetup
    from mom_plugins_sim.scenario.library import find_scenario, read_scenario
    from mom_plugins_sim.simulate.run import run_scenario

    path = find_scenario(name)
    return sum(1 for _ in run_scenario(read_scenario(path), path, SimulationSetup("defaults"), None, hours * 3600, folder))


def replay(folder: Path) -> int:
    """Replay; the number of cycles, all of which must be the same."""
    from mom_plugins_record.recording.reader import Recording
    from mom_plugins_record.replay.comparison import compare

    result = compare(Recording(folder))
    if result.identical != result.compared:
        raise SystemExit(f"{result.compared - result.identical} of {result.compared} cycles decide otherwise")
    return result.compared


def measured(what: str, name: str, hours: float, folder: Path) -> dict[str, float]:
    """In a process of its own."""
    command = [sys.executable, __file__, "--inside", what, "--scenario", name, "--hours", str(hours), "--folder", str(folder)]
    result: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return result


def main() -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", default="hundred-a-day")
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--inside", choices=["simulate", "replay"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        wall, cpu = time.monotonic(), time.process_time()
        inside = options.inside == "simulate"
        cycles = simulate(options.scenario, options.hours, options.folder) if inside else replay(options.folder)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"cycles": cycles, "seconds": time.monotonic() - wall, "cpu": time.process_time() - cpu, "peak_mib": peak}))
        return 0
    print(f"{'':<10}{'hours':>7}{'cycles':>8}{'seconds':>9}{'CPU s':>8}{'wanted':>8}{'peak MiB':>10}{'recorded MiB':>14}")
    with tempfile.TemporaryDirectory(prefix="mom-bench-") as folder:
        for hours in (options.hours / 4, options.hours):
            path = Path(folder) / f"{hours:g}"
            for what in ("simulate", "replay"):
                found = measured(what, options.scenario, hours, path)
                size = sum(file.stat().st_size for file in path.iterdir()) / (1 << 20)
                wanted = f"{WANTED_SECONDS[what]:g}" if hours == options.hours == 24.0 else ""
                print(
                    f"{what:<10}{hours:>7g}{found['cycles']:>8.0f}{found['seconds']:>9.1f}{found['cpu']:>8.1f}{wanted:>8}"
                    f"{found['peak_mib']:>10.0f}{size:>14.1f}"
                )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
