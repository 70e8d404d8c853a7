"""Parts of benchmarks that need no real guests: configurations and evaluation of figures."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

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


def test_collisions_on_the_page_are_current() -> None:
    found = list(results_in(bench_collisions.RESULTS))
    page = (ROOT / "docs/safety.md").read_text("utf-8")
    told = filled(page, {"collisions": bench_collisions.report(found)})
    assert page == told, "python benchmarks/sweeps/bench_collisions.py report --docs docs"


def run(script: str, *options: str | Path) -> str:
    """Return the output of a benchmark."""
    program = Path(__file__).resolve().parents[2] / "benchmarks" / script
    return subprocess.run([sys.executable, program, *options], check=True, capture_output=True, text=True, timeout=120).stdout
