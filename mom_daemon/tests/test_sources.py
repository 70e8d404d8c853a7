"""Sources of commands' figures, beside a broken plugin."""

from pathlib import Path

import pytest

from mom_daemon.cli import frame

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


@pytest.mark.parametrize(
    ("at", "code", "message"),
    [
        ("2001-09-09T01:47:10", 0, "2001-09-09 01:47:10 UTC: this is the last cycle before that time, 30 s earlier."),
        ("2002-01-01T00:00", 0, "as of cycle 1, 2001-09-09 01:47:40 UTC"),
        ("2001-09-09T01:46", 1, "nothing was recorded at 2001-09-09 01:46:00 UTC (the recording begins at 2001-09-09 01:46:40 UTC)"),
    ],
)
def test_the_last_cycle_before_a_time_is_explained(only_shelf, mom, tmp_path: Path, at: str, code: int, message: str) -> None:
    only_shelf.add_plugin("acme", GAPPED, before=CYCLES)
    (tmp_path / "mom.yaml").write_text("plugins: {acme: {}}\n")
    got, out, err = mom("explain", "web", "--at", at, "-c", tmp_path / "mom.yaml")
    assert got == code
    assert message in " ".join((out + err).split())


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
