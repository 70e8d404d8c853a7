"""Measure the CPU time, wall time and memory of mom for guests behind QEMU's monitors.

    python benchmarks/qemu/bench_qemu.py [--guests 1000] [--hanging 50] [--rounds 12]

stand_in.py serves sockets that answer like QEMU, each with a process of its own; some never answer. A round is what a cycle asks the
hypervisor: the list of guests, and their fields. In the `first` round nothing is known yet, and mom examines all processes. Memory is the
growth of this process.
"""

from __future__ import annotations

import argparse
import logging
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STAND_IN = Path(__file__).parent / "stand_in.py"

CPU_TARGET_MS = 150.0
WALL_TARGET_MS = 1000.0
MEMORY_TARGET_MIB = 100.0
"""For 1,000 guests, 50 of them hanging."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--guests", type=int, default=1000)
    parser.add_argument("--hanging", type=int, default=50, help="guests that never answer")
    parser.add_argument("--rounds", type=int, default=12)
    arguments = parser.parse_args()
    logging.disable(logging.ERROR)
    from mom_core import PluginContext
    from mom_plugins_qemu.hypervisor import QemuHypervisor

    with tempfile.TemporaryDirectory(prefix="mom-bench-") as folder:
        command = [sys.executable, str(STAND_IN), folder, str(arguments.guests), str(arguments.hanging)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0) as stand_in:
            try:
                assert stand_in.stdout is not None
                assert stand_in.stdout.readline() == b"ready\n"
                before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                hypervisor = QemuHypervisor(PluginContext("qemu"), (f"{folder}/*.qmp",))
                cpu, wall, seen = [], [], []
                for _ in range(arguments.rounds + 1):
                    began, started = time.process_time(), time.monotonic()
                    guests = hypervisor.guests()
                    fields = hypervisor.fields(guests)
                    cpu.append((time.process_time() - began) * 1e3)
                    wall.append((time.monotonic() - started) * 1e3)
                    seen.append(sum("mem_usable" in found for found in fields.values()))
                    time.sleep(0.5)
                grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
            finally:
                assert stand_in.stdin is not None
                stand_in.stdin.close()
    print(f"{arguments.guests:,} guests, {arguments.hanging} hanging: {min(seen[1:]):,} measured in each round")
    for name, figures in (("CPU", cpu), ("wall", wall)):
        print(f"  {name:<5} ms   first {figures[0]:7.1f}   mean {statistics.mean(figures[1:]):7.1f}   worst {max(figures[1:]):7.1f}")
    print(f"  memory {grown:.1f} MiB")
    met = statistics.mean(cpu[1:]) <= CPU_TARGET_MS and max(wall[1:]) <= WALL_TARGET_MS and grown <= MEMORY_TARGET_MIB
    met = met and min(seen[1:]) == arguments.guests - arguments.hanging
    print("targets met" if met else "targets MISSED")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
