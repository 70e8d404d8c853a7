"""The reader that docs/recordings.md shows to strangers reads what mom records."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_record_recording import simulated, written

from mom_plugins_record.recording.writer import files_of

PAGE = Path(__file__).parents[2] / "docs" / "recordings.md"


@pytest.mark.processes
def test_the_reader_in_the_documents_reads_each_cycle(tmp_path: Path) -> None:
    program = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert program is not None
    reports = simulated(tmp_path, 40)
    (path,) = files_of(written(tmp_path / "r", reports))
    done = subprocess.run([sys.executable, "-c", program[1], str(path)], capture_output=True, text=True, check=True, timeout=60)
    lines = done.stdout.splitlines()
    assert [float(line.partition(" ")[0]) for line in lines] == [report.time for report in reports]
    for line, report in zip(lines, reports, strict=True):
        sizes = {guest.name: guest.fields.get("balloon_cur") for guest in report.snapshot.guests.values()}
        assert line == f"{report.time} {sizes}"
