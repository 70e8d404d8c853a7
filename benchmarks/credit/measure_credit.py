"""Measure growth on credit in an emulated machine: kernel OOM kills, growth of held back guests, delays, and how limits end with mom.

    python benchmarks/credit/measure_credit.py [--runs N] [--memory MIB] [--facts FILE]

It boots the machine of tests/real/test_real_cgroup.py, with control groups v2 and without swap; tests/real/growth_driver.py runs in it. It
needs what tests/real needs, such as QEMU and gcc, and half an hour for 20 runs of each kind, in which nobody else starts large things.
`--facts` keeps all figures, one JSON object a line. A file that is there is shown, and nothing is measured.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests/real"))

from cgroup_image import facts

SECONDS = 3600.0
"""Longest time for everything."""


def measured(runs: int, mib: int) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        for line in facts(Path(folder), f"import growth_driver; growth_driver.measure({runs})", mib, SECONDS):
            if "FACT {" in line:
                yield line.partition("FACT ")[2]
            elif line:
                print(line, file=sys.stderr)


def show(facts_by_name: Mapping[str, Any]) -> None:
    for name, text in facts_by_name.items():
        if not name.startswith(("run ", "reaction", "end ", "class ")):
            print(f"{name}: {text}")
    for kind in ("without", "with", "huge"):
        show_runs(kind, [figures for name, figures in facts_by_name.items() if name.startswith("run ") and name.endswith(f" {kind}")])
    if "reaction" in facts_by_name:
        show_delays(facts_by_name["reaction"])
    for name, figures in facts_by_name.items():
        if name.startswith(("end ", "class ")):
            print(f"{name}: {json.dumps(figures)}")


def show_runs(kind: str, runs: Sequence[Mapping[str, Any]]) -> None:
    if not runs:
        return
    killing = sum(run["kills"] > 0 for run in runs)
    words = {"without": "without credit", "with": "with credit", "huge": "with credit, in huge pages"}
    print(f"\n{words[kind]}: {len(runs)} runs, the kernel killed in {killing} ({sum(run['kills'] for run in runs)} processes)")
    print(f"  all guests go on: {sum(all(run['goes_on']) for run in runs)} runs")
    slowest = [min(run["growth"]) for run in runs]
    print(f"  growth of the slowest, of what it wanted: least {min(slowest):.1%}, median {statistics.median(slowest):.1%}")
    least = [run["least_available"] for run in runs]
    print(f"  least available memory: {min(least):.0f} MiB, median {statistics.median(least):.0f} MiB")
    pauses = [max(run["pauses"]) for run in runs]
    print(f"  longest pause of a guest: {max(pauses):.1f} s, median {statistics.median(pauses):.1f} s")
    writes = [run["slowest_write"] for run in runs]
    print(f"  slowest write of a limit: {max(writes) * 1e3:.0f} ms, median {statistics.median(writes) * 1e3:.0f} ms")


def show_delays(reaction: Mapping[str, Any]) -> None:
    for name in ("delays", "pauses"):
        seconds = sorted(reaction[name])
        if seconds:
            parts = f"median {statistics.median(seconds) * 1e3:.0f} ms, 95 % {seconds[int(0.95 * len(seconds))] * 1e3:.0f} ms"
            print(f"\nreaction, {name}: {len(seconds)}, {parts}, worst {seconds[-1] * 1e3:.0f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20, help="runs without credit, and as many with it (default: 20)")
    parser.add_argument("--memory", type=int, default=1536, help="MiB of the machine (default: 1536)")
    parser.add_argument("--facts", type=Path, help="file for all figures")
    arguments = parser.parse_args()
    facts_by_name: dict[str, Any] = {}
    if arguments.facts is not None and arguments.facts.exists():
        lines: Iterator[str] = iter(arguments.facts.read_text().splitlines())
    else:
        lines = measured(arguments.runs, arguments.memory)
    kept = []
    for line in lines:
        kept.append(line)
        facts_by_name |= json.loads(line)
        if arguments.facts is not None:
            arguments.facts.write_text("".join(f"{one}\n" for one in kept))
    show(facts_by_name)
    if "done" not in facts_by_name:
        sys.exit("the machine has not done everything")


if __name__ == "__main__":
    main()
