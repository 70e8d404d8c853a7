"""Where verbs have their figures from, when a plugin that offers some is broken."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mom_core import Config, Declarations, EngineState, MomError, Report, Snapshot
from mom_core.lock import RunLock
from mom_daemon import json_text
from mom_daemon.cli import frame
from mom_daemon.look import sources
from mom_daemon.look.sources import ask, newest
from mom_daemon.report_models import REPORT_FORMAT, report_document
from mom_daemon.status import STATUS_FILE
from mom_kvm import PastCycle

BROKEN = """
@staticmethod
@hookimpl
def mom_source(kind, settings, run_directory, state_directory, path):
    raise KeyError("token") if kind.__name__ == "RunningMom" else SystemExit(7)
"""


@pytest.fixture
def mom(mom, only_shelf, tmp_path):
    """`mom`, with a configuration that enables the broken plugin."""
    only_shelf.add_plugin("acme", BROKEN)
    file = tmp_path / "mom.yaml"
    file.write_text(f"run_directory: {tmp_path}/run\nstate_directory: {tmp_path}/state\nplugins: {{acme: {{}}}}\n")
    return lambda *arguments: mom(*arguments, "-c", file)


def test_a_way_to_the_running_mom_that_is_broken_is_remarked_upon_and_the_verb_goes_on(mom):
    _, out, err = mom("status")
    assert "mom: plugin 'acme' of acme-acme 1.0: mom_source failed: KeyError: 'token'" in err
    assert "is not running" in out


def test_an_unreadable_status_file_is_no_substitute_for_an_answer(mom, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/status.json").symlink_to("status.json")  # nobody can open it, root neither
    code, out, err = mom("status")
    assert (code, out) == (2, "")
    assert "mom_source failed" in err
    assert "the data below" not in err


class Recording:
    """Cycles at some times, and from when on it was read."""

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


RUNNING = """
@staticmethod
@hookimpl
def mom_source(kind, settings, run_directory, state_directory, path):
    return Running() if kind.__name__ == "RunningMom" else None
"""
ANSWERS = """
import time
from mom_daemon import Explainers
from mom_core import Declarations, EngineState, Report
from mom_core.testing import snapshot
from mom_daemon.report_models import report_document

class Running:
    where = "a socket"

    def _report(self):
        taken = snapshot(guests={{"web": {{}}}}, properties={{"host": {{"interval": 5.0}}}})
        return Report(1, time.time() - 25.0, "enforce", taken, (), (), (), (), (), 24.0)

    def explanation(self, guest):
        report = self._report()
        return Explainers().explain(report, next(iter(report.snapshot.guests.values())))

    def configuration(self):
        return {{"mode": "enforce", "plugins": {{"gone": {{"deadline": 3}}}}}}

    def report(self):
        made = report_document(self._report(), Declarations(), EngineState(), 5.0, monotonic=time.monotonic() - {ago})
        return {{**made, "format": made["format"] + {newer}}}
"""


@pytest.mark.parametrize(("ago", "hangs"), [(1.0, False), (100.0, True)])
def test_a_cycle_that_took_long_is_no_mom_that_hangs(
    only_shelf, capsys: pytest.CaptureFixture[str], tmp_path: Path, ago: float, hangs: bool
) -> None:
    only_shelf.add_plugin("acme", RUNNING, before=ANSWERS.format(ago=ago, newer=0))
    (tmp_path / "mom.yaml").write_text(f"run_directory: {tmp_path}/run\nplugins: {{acme: {{}}}}\n")
    assert frame.run(["explain", "web", "-c", str(tmp_path / "mom.yaml")]) == 0
    said = capsys.readouterr().out
    assert "as of cycle 1, 25 s ago" in said
    assert ("mom has hung: its last cycle ended 1 min 40 s ago" in said) is ("mom has hung" in said) is hangs


def test_a_mom_of_another_version_that_still_runs_is_not_misread(only_shelf, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    only_shelf.add_plugin("acme", RUNNING, before=ANSWERS.format(ago=1.0, newer=1))
    (tmp_path / "mom.yaml").write_text(f"run_directory: {tmp_path}/run\nplugins: {{acme: {{}}}}\n")
    assert frame.run(["status", "-c", str(tmp_path / "mom.yaml")]) == 1
    said = f"has format {REPORT_FORMAT + 1}, but this mom reads format {REPORT_FORMAT} (restart the daemon after an upgrade)"
    assert f"the report from a socket {said}" in capsys.readouterr().err


def test_a_mom_whose_socket_tells_of_an_old_cycle_does_not_hang_while_its_status_file_is_new(
    only_shelf, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    only_shelf.add_plugin("acme", RUNNING, before=ANSWERS.format(ago=100.0, newer=0))
    (tmp_path / "mom.yaml").write_text(f"run_directory: {tmp_path}/run\nplugins: {{acme: {{}}}}\n")
    report = Report(9, time.time(), "enforce", Snapshot(), (), (), (), (), (), 0.0)
    with RunLock(tmp_path / "run"):
        assert frame.run(["status", "-c", str(tmp_path / "mom.yaml")]) == 1
        assert "HANGS as process" in capsys.readouterr().out
        document = report_document(report, Declarations(), EngineState(), 5.0)
        (tmp_path / "run" / STATUS_FILE).write_bytes(json_text(document))
        assert frame.run(["status", "-c", str(tmp_path / "mom.yaml")]) == 0
    said = capsys.readouterr().out
    assert "HANGS" not in said
    assert "cycle 9 ended " in said
    assert f"(from {tmp_path}/run/{STATUS_FILE}" in said


def test_that_the_guests_are_unknown_is_an_answer_and_not_asked_for_once_more(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def question(_: object) -> None:
        raise MomError(said)

    monkeypatch.setattr(sources, "running_mom", lambda _: object())
    said = "the guests are unknown: libvirtd is away"
    with pytest.raises(MomError, match=said):
        ask(Config(), question, otherwise="the status file")
    assert capsys.readouterr().err == ""
    said = "mom did not answer"
    assert ask(Config(), question, otherwise="the status file") is None
    assert capsys.readouterr().err == "mom: mom did not answer; the data below is from the status file\n"
