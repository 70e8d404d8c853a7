"""Every program below benchmarks/ runs: each in small, so that none goes stale unnoticed. How fast anything is does not matter here."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from real_guests import not_here

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

LONGEST_SECONDS = 120.0
"""Each takes a few seconds; machines that run tests are busy."""

SMALL = {
    "credit/bench_limits.py": "--guests 20 --changing 5 --rounds 3",
    "cycle/bench_cycle.py": "--guests 10 --cycles 2",
    "faults/campaign.py": "report --results {folder}",
    "fleet/bench_fleet.py": "--hosts 2 --guests 3 --seconds 2",
    "forecast/bench_forecast.py": "--guests 1 --weeks 3 --cost-guests 12 --cycles 20",
    "forecast/ten_months.py": "--hosts 1 --guests 5 --months 3",
    "helper/bench_helper.py": "--orders 100 --guests 5 --fuzz 500",
    "policy/bench_policy.py": "--guests 10 --rounds 2",
    "qemu/bench_qemu.py": "--guests 20 --hanging 2 --rounds 2",
    "recording/bench_recording.py": "--guests 10 --cycles 5",
    "simulator/growth.py": "--scenario reporting --seeds 1 --lasts 1m",
    "simulator/made_up_machines.py": "{folder} --machines 2",
    "squeeze/draw_law.py": "{folder}/law.svg",
    "squeeze/squeeze.py": "report --results {folder}",
    "watching/bench_top.py": "--guests 10 --seconds 1",
}
"""What runs anywhere, with the options that make it small."""

ON_GUESTS = ("credit/measure_credit.py", "hugepages/measure_huge_pages.py", "ksm/compare_laws.py", "reaction/bench_reaction.py",
             "reporting/measure_relief.py", "reporting/measure_reporting.py", "simulator/compare_real.py", "simulator/measure_guests.py",
             "sweeps/bench_collisions.py")  # fmt: skip
"""What needs real guests and minutes: their parts are tried beside this (test_parts_of_benchmarks.py)."""

BY_ANOTHER = ("faults/hold.py", "qemu/stand_in.py", "squeeze/guest_programs.py", "squeeze/peer_loop.py")
"""What only another benchmark starts; the laws in the last have tests (tests/squeeze)."""


def test_every_benchmark_is_known_here() -> None:
    programs = {str(path.relative_to(BENCHMARKS)) for path in BENCHMARKS.glob("*/*.py") if "__main__" in path.read_text(encoding="utf-8")}
    assert programs == {*SMALL, *ON_GUESTS, *BY_ANOTHER}


@pytest.mark.parametrize("script", SMALL)
def test_a_benchmark_runs_in_small(script: str, tmp_path: Path) -> None:
    if script.startswith("fleet/") and shutil.which("nats-server", path=f"{os.environ.get('PATH', '')}:/usr/sbin") is None:
        not_here("there is no nats-server")
    if script.startswith("helper/") and os.geteuid() != 0:
        not_here("only root starts what runs as root")
    options = SMALL[script].format(folder=tmp_path).split()
    done = run(script, *options)
    missed = done.returncode == 1 and "missed" in (done.stdout + done.stderr).lower()  # it ran: that is all that matters here
    assert done.returncode == 0 or missed, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout or any(tmp_path.iterdir())


@pytest.mark.parametrize("script", ON_GUESTS)
def test_a_benchmark_on_real_guests_says_what_it_does(script: str) -> None:
    done = run(script, "--help")
    assert done.returncode == 0, done.stderr
    assert script in done.stdout


def run(script: str, *options: str) -> subprocess.CompletedProcess[str]:
    """The program's answer."""
    command: list[str | Path] = [sys.executable, BENCHMARKS / script, *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_SECONDS, check=False)
