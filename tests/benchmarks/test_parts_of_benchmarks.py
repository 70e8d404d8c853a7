"""Parts of benchmarks that need no real guests: configurations and evaluation of figures."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import bench_collisions
import compare_laws
import compare_real
import squeeze
import squeeze_report
from compare_real import Course, simulated
from tables import filled, results_in

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 60.0


def test_squeeze_figures_in_documents_are_current() -> None:
    figures = squeeze.headlines(squeeze.RESULTS)
    pages = [page for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")) if squeeze_report.PLACES.search(page.read_text("utf-8"))]
    assert len(pages) > 2
    for page in pages:
        text = page.read_text("utf-8")
        assert text == squeeze_report.restated(text, figures), f"{page.name}: python benchmarks/squeeze/squeeze.py report --docs docs"


def test_ksm_comparison_reports_stored_results(tmp_path: Path) -> None:
    moments = [compare_laws.Moment(at, round(at), at / 10) for at in (0.0, 60.0, 300.0)]
    (tmp_path / "mom.json").write_text(json.dumps(asdict(compare_laws.Course("mom", moments, 12.0, 0.5, 0.1))), encoding="utf-8")
    page, picture = tmp_path / "page.md", tmp_path / "laws.svg"
    page.write_text("before\n\n<!-- laws -->\n\nold\n\n<!-- end -->\n\nafter\n", encoding="utf-8")
    shown = run("ksm/compare_laws.py", "--show", "--keep", tmp_path, "--page", page, "--picture", picture)
    row = "| mom | 60 | 6.0 | 10 | 300 | 30.0 | 10 | 12 | 0.5 | 0.10 |"
    assert row in shown
    assert row in page.read_text(encoding="utf-8")
    assert "old" not in page.read_text(encoding="utf-8")
    assert picture.read_text(encoding="utf-8").startswith("<?xml")


def test_simulated_course_is_like_itself(tmp_path: Path) -> None:
    course = Course(compare_real.MEMBERS, SECONDS, compare_real.ROOM_MIB, compare_real.LOADS)
    track = simulated(course, 6 * 1024.0, tmp_path / "simulated")
    assert "| available | host | 0.0 | 0.0 |" in compare_real.tables(track, track, SECONDS)
    compare_real.draw(track, track, SECONDS, tmp_path / "both.png")
    assert (tmp_path / "both.png").read_bytes().startswith(b"\x89PNG")


def test_collisions_are_grouped_by_begin_of_the_burst() -> None:
    found: list[dict[str, Any]] = [
        {"before": None, "filled": 2.2, "killed": 0},
        {"before": 0.0, "filled": 2.2, "killed": 0, "end": "at-work", "gave": 0, "seconds": 0.0},
        {"before": 0.4, "filled": 2.5, "killed": 0, "end": "grew", "gave": 300 << 10, "seconds": 0.8, "reaction": 0.3},
        {"before": 0.6, "filled": None, "killed": 1, "end": "grew", "gave": 500 << 10, "seconds": 1.2, "reaction": 0.3},
    ]
    lines = bench_collisions.report(found).splitlines()
    assert lines[0].startswith("3 sweeps of real guests")
    assert "Programs killed: 1. The slowest burst took inf s, and without a sweep 2.20 s." in lines[0]
    assert "at most 1.20 s, and gave at most 500 MiB" in lines[0]
    assert lines[-2:] == [
        "| before the sweep | 1 | 0 | 2.20 | 2.20 | `at-work` 1 |",
        "| 0.3 to 0.6 s after the sweep began | 2 | 400 | inf | inf | `grew` 2 |",
    ]


def test_collisions_on_the_page_are_current() -> None:
    found = list(results_in(bench_collisions.RESULTS))
    page = (ROOT / "docs/safety.md").read_text("utf-8")
    told = filled(page, {"collisions": bench_collisions.report(found)})
    assert page == told, "python benchmarks/sweeps/bench_collisions.py report --docs docs"


def run(script: str, *options: str | Path) -> str:
    """Return the output of a benchmark."""
    program = Path(__file__).resolve().parents[2] / "benchmarks" / script
    return subprocess.run([sys.executable, program, *options], check=True, capture_output=True, text=True, timeout=120).stdout
