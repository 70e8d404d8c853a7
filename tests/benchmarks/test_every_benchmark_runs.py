"""Every program below benchmarks/ runs, each with a small load. Speed does not matter here."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from real_guests import not_here

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

LONGEST_SECONDS = 120.0
"""Time limit of a benchmark. Each takes a few seconds, but test machines are busy."""

SMALL = {
    "cycle/bench_cycle.py": "--guests 10 --cycles 2",
    "faults/campaign.py": "report --results {folder}",
    "fleet/bench_fleet.py": "--hosts 2 --guests 3 --seconds 2",
    "forecast/bench_forecast.py": "--guests 1 --weeks 3 --cost-guests 12 --cycles 20",
    "forecast/ten_months.py": "--hosts 1 --guests 5 --months 3",
    "policy/bench_policy.py": "--guests 10 --rounds 2",
    "qemu/bench_qemu.py": "--guests 20 --hanging 2 --rounds 2",
    "recording/bench_recording.py": "--guests 10 --cycles 5",
    "simulator/made_up_machines.py": "{folder} --machines 2",
    "squeeze/draw_law.py": "{folder}/law.svg",
    "squeeze/squeeze.py": "report --results {folder}",
}
"""Programs that run anywhere, with options for a small load."""

ON_GUESTS = ("credit/measure_credit.py", "hugepages/measure_huge_pages.py", "ksm/compare_laws.py", "reaction/bench_reaction.py",
             "reporting/measure_relief.py", "reporting/measure_reporting.py", "simulator/compare_real.py", "simulator/measure_guests.py",
             "sweeps/bench_collisions.py")  # fmt: skip
"""Programs that need real guests and minutes. test_parts_of_benchmarks.py tests parts of them."""

BY_ANOTHER = ("faults/hold.py", "qemu/stand_in.py", "squeeze/guest_programs.py", "squeeze/peer_loop.py")
"""Programs that only another benchmark starts."""


def test_every_benchmark_is_listed_here() -> None:
    programs = {str(path.relative_to(BENCHMARKS)) for path in BENCHMARKS.glob("*/*.py") if "__main__" in path.read_text(encoding="utf-8")}
    assert programs == {*SMALL, *ON_GUESTS, *BY_ANOTHER}


@pytest.mark.parametrize("script", SMALL)
def test_benchmark_runs_with_a_small_load(script: str, tmp_path: Path) -> None:
    if script.startswith("fleet/") and shutil.which("nats-server", path=f"{os.environ.get('PATH', '')}:/usr/sbin") is None:
        not_here("there is no nats-server")
    options = SMALL[script].format(folder=tmp_path).split()
    done = run(script, *options)
    missed = done.returncode == 1 and "missed" in (done.stdout + done.stderr).lower()  # a missed target
    assert done.returncode == 0 or missed, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout or any(tmp_path.iterdir())


def run(script: str, *options: str) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [sys.executable, BENCHMARKS / script, *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_SECONDS, check=False)
