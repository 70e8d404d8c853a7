"""Draws docs/balloon-law.svg: the host and one of twelve guests with bursts, on the simulated host, under the default policy.

`.venv/bin/python benchmarks/squeeze/draw_law.py docs/balloon-law.svg`
"""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path

from matplotlib import pyplot, rcParams

from mom_core import Value
from mom_kvm import SimulationSetup
from mom_plugins_sim.scenario.library import read_scenario
from mom_plugins_sim.simulate.run import run_scenario

GUEST, SINCE, SECONDS = "g00-001", 420.0, 720.0
"""What is drawn: one guest, from and to (seconds)."""

COUNT = 12


def scenario_text() -> str:
    """Twelve guests of 1 GiB with staggered bursts; after three minutes a program on the host begins to take more and more."""
    load = "{at: 185s, lasts: 1h, memory: 6600MiB, growth: 1GiB}, {at: 190s, lasts: 1h, memory: 20GiB, growth: 15MiB}"
    lines = ["title: a squeeze", "lasts: 30m", f"host: {{memory: 24105MiB, load: [{load}]}}", "guests:"]
    for number in range(COUNT):
        demand = f"{{bursty: {{base: 18.9%, burst: 44%, period: 2m, duty: 35%, phase: {9 * number}s}}}}"
        guest = f"memory: 1GiB, process: 91MiB, swap: 25%, files: 1%, hot: 0%, statistics: {{period: 1s}}, workload: {demand}"
        lines.append(f"  g{number:02}: {{{guest}}}")
    return "\n".join(lines) + "\n"


def main(target: Path) -> None:
    """Simulate, and draw."""
    logging.getLogger("mom").setLevel(logging.CRITICAL)
    pyplot.switch_backend("svg")
    rcParams["svg.hashsalt"] = "mom"  # the same picture each time
    times: list[float] = []
    available: list[float] = []
    wanted: list[float] = []
    sizes: list[float] = []
    held: list[float] = []
    needs: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "squeeze.yaml"
        path.write_text(scenario_text(), encoding="utf-8")
        for report in run_scenario(read_scenario(path), path, SimulationSetup("mom", plugins={"balloon": {}}), None, SECONDS):
            host = report.snapshot.host.fields
            if report.snapshot.monotonic < SINCE:
                continue
            (guest,) = [one for one in report.snapshot.guests.values() if one.name == GUEST]
            times.append(report.snapshot.monotonic - SINCE)
            for series, value in (
                (available, host["mem_really_available"]),
                (wanted, host["mem_watermark_high"]),
                (sizes, guest.fields["balloon_cur"]),
                (held, guest.fields["rss"]),
                (needs, guest.fields["sim_need"]),
            ):
                series.append(_gib(value))
    figure, (above, below) = pyplot.subplots(2, 1, sharex=True, figsize=(9, 5.5), layout="constrained")
    above.plot(times, available, color="tab:blue", label="available on the host")
    above.plot(times, wanted, color="grey", linewidth=0.8, label="high watermark")
    below.plot(times, sizes, color="tab:orange", drawstyle="steps-post", label="size of the guest")
    below.plot(times, held, color="tab:red", label="memory that the host backs for it (RSS of its QEMU)")
    below.plot(times, needs, color="tab:green", linewidth=0.8, label="need of its programs")
    for axes in (above, below):
        axes.set_ylabel("GiB")
        axes.set_ylim(0)
        axes.legend(loc="lower left", fontsize=8)
    below.set_xlabel("seconds")
    figure.savefig(target, metadata={"Date": None})


def _gib(kib: Value) -> float:
    return kib / (1 << 20) if isinstance(kib, int | float) else float("nan")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
