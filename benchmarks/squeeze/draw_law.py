"""Draw docs/balloon-law.svg: the host and one of twelve guests with bursts, simulated, under the default policy.

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
from mom_plugins_sim.scenario.schema import read_scenario
from mom_plugins_sim.simulate.command import run_scenario

GUEST, SINCE, SECONDS = "g00-001", 420.0, 720.0
"""The drawn guest, and the begin and end of the picture in simulated seconds."""

COUNT = 12


def scenario_text() -> str:
    """Return a scenario: guests of 1 GiB with staggered bursts; after three minutes a program on the host takes ever more memory."""
    load = "{at: 185s, lasts: 1h, memory: 6600MiB, growth: 1GiB}, {at: 190s, lasts: 1h, memory: 20GiB, growth: 15MiB}"
    lines = ["title: a squeeze", "lasts: 30m", f"host: {{memory: 24105MiB, load: [{load}]}}", "guests:"]
    for number in range(COUNT):
        demand = f"{{bursty: {{base: 18.9%, burst: 44%, period: 2m, duty: 35%, phase: {9 * number}s}}}}"
        guest = f"memory: 1GiB, process: 91MiB, swap: 25%, files: 1%, hot: 0%, statistics: {{period: 1s}}, workload: {demand}"
        lines.append(f"  g{number:02}: {{{guest}}}")
    return "\n".join(lines) + "\n"


def main(target: Path) -> None:
    logging.getLogger("mom").setLevel(logging.CRITICAL)
    pyplot.switch_backend("svg")
    rcParams["svg.hashsalt"] = "mom"  # the same picture each time
    times: list[float] = []
    series: dict[str, list[float]] = {name: [] for name in ("mem_really_available", "mem_watermark_high", "balloon_cur", "rss", "sim_need")}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "squeeze.yaml"
        path.write_text(scenario_text(), encoding="utf-8")
        for report in run_scenario(read_scenario(path), path, SimulationSetup("mom", plugins={"balloon": {}}), None, SECONDS):
            if report.snapshot.monotonic < SINCE:
                continue
            (guest,) = [guest for guest in report.snapshot.guests.values() if guest.name == GUEST]
            times.append(report.snapshot.monotonic - SINCE)
            fields = {**guest.fields, **report.snapshot.host.fields}
            for name, values in series.items():
                values.append(_gib(fields[name]))
    available, wanted, sizes, held, needs = series.values()
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
