"""Sources of commands' figures, beside a broken plugin."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mom_core import Report, Snapshot
from mom_daemon.cli import frame
from mom_daemon.look.sources import newest
from mom_kvm import PastCycle


class Recording:
    """Recording with cycles at some times. It records from when on it was read."""

    where = "a recording"

    def __init__(self, *times: float) -> None:
        self.times = times
        self.read_from: list[float] = []

    def cycles(self, since: float, until: float) -> Iterator[PastCycle]:
        self.read_from.append(since)
        for number, time_ in enumerate(self.times):
            if since <= time_ <= until:
                yield PastCycle(Report(number, time_, "enforce", Snapshot(), (), (), (), (), (), 0.0), {})


def test_the_end_of_a_recording_is_found_without_reading_all_of_it() -> None:
    now = time.time()
    recorded = Recording(1.0, now - 20, now - 10, now - 5)
    assert [cycle.report.time for cycle in newest(recorded, 2)] == [now - 10, now - 5]
    assert min(recorded.read_from) > now - 3600


def test_the_end_of_an_old_recording_is_found_too() -> None:
    recorded = Recording(1.0, 2.0)
    assert [cycle.report.time for cycle in newest(recorded, 1)] == [2.0]
    assert [cycle.report.time for cycle in newest(recorded, 1, until=1.5)] == [1.0]
    assert not newest(Recording(), 1)


GAPPED = """
@staticmethod
@hookimpl
def mom_source(kind, settings, run_directory, state_directory, path):
    return Gapped() if kind.__name__ == "PastCycles" else None
"""
CYCLES = """
from mom_core import Report
from mom_core.testing import snapshot
from mom_kvm import PastCycle

class Gapped:
    where = "a recording"

    def cycles(self, since, until):
        for time in (1e9, 1e9 + 60.0):
            if since <= time <= until:
                yield PastCycle(Report(1, time, "enforce", snapshot(guests={"web": {}}), (), (), (), (), (), 0.0), {})
"""


def test_a_gap_in_a_recording_is_named_with_both_ends(only_shelf, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    only_shelf.add_plugin("acme", GAPPED, before=CYCLES)
    (tmp_path / "mom.yaml").write_text("plugins: {acme: {}}\n")
    assert frame.run(["explain", "web", "--at", "2001-09-09T01:47:10", "-c", str(tmp_path / "mom.yaml")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Nothing was recorded at 2001-09-09 01:47:10 UTC: this is the last cycle before that time, 30 s earlier" in said
    assert "the next cycle is from 2001-09-09 01:47:40 UTC." in said


SOCKET = """
@staticmethod
@hookimpl
def mom_source(kind, settings, run_directory, state_directory, path):
    return Running() if kind.__name__ == "RunningMom" else None
"""
ANSWERS = """
import time
from mom_core import Declarations, EngineState, Report
from mom_core.testing import snapshot
from mom_daemon.report_models import report_document

class Running:
    where = "a socket"

    def configuration(self):
        return {"mode": "enforce", "plugins": {"gone": {"deadline": 3}}}

    def report(self):
        report = Report(7, time.time(), "enforce", snapshot(guests={"web": {}}), (), (), (), (), (), 0.1)
        return report_document(report, Declarations(), EngineState(), 5.0)
"""


def test_a_user_who_may_not_read_the_status_file_has_the_status_from_the_socket(
    only_shelf, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def denied(path: Path, most: int) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("mom_daemon.status_file.read_file", denied)
    file = tmp_path / "mom.yaml"
    for plugin, code, said in (("none", 1, "status.json: Permission denied (run as root)"), ("acme", 0, "(from a socket)")):
        only_shelf.add_plugin(plugin, SOCKET if code == 0 else "pass", before=ANSWERS)
        file.write_text(f"run_directory: {tmp_path}/run\nplugins: {{{plugin}: {{}}}}\n")
        assert frame.run(["status", "-c", str(file)]) == code
        assert said in " ".join("".join(capsys.readouterr()).split())


def test_a_broken_source_is_an_error(only_shelf, mom, tmp_path: Path) -> None:
    only_shelf.add_plugin("acme", SOCKET.replace("return Running()", 'raise KeyError("token")'))
    (tmp_path / "mom.yaml").write_text("plugins: {acme: {}}\n")
    code, _, err = mom("config", "show", "--running", "-c", tmp_path / "mom.yaml")
    assert code == 2
    assert "plugin 'acme' of acme-acme 1.0: mom_source failed: KeyError: 'token'" in err
