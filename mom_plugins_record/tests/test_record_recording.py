"""The recorder: all cycles are read back, damage affects only damaged cycles, and a full disk only the recording."""

import errno
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from full_disk import largest_file
from recordings import opened, read, simulated, written

from mom_core import Engine, PluginContext, Report, Severity
from mom_devkit import config_of
from mom_plugins_record import RecordPlugin
from mom_plugins_record.recording.command import record
from mom_plugins_record.recording.cycles import json_text
from mom_plugins_record.recording.groups import MARK
from mom_plugins_record.recording.reader import Recording
from mom_plugins_record.recording.writer import MOST_FORGOTTEN, RecordingFull, RecordingLimits, files_of

PAGE = Path(__file__).parents[2] / "docs" / "recordings.md"


def test_old_files_go_when_there_is_too_much(tmp_path, reports):
    limits = RecordingLimits(keep=86_400.0, size=1 << 17)
    folder = tmp_path / "r"
    for _ in range(8):
        written(folder, reports, limits)
    assert sum(path.stat().st_size for path in files_of(folder)) <= limits.size
    back, recording = read(folder)
    assert back[-1] == reports[-1]
    assert len(back) < 8 * len(reports)
    assert not recording.damage


def test_clock_ahead_deletes_a_few_files_only(tmp_path: Path, reports: list[Report]) -> None:
    for _ in range(MOST_FORGOTTEN + 2):
        folder = written(tmp_path / "r", reports[:1])
    writer = opened(folder, wall=lambda: 1e11)
    writer.cycle(reports[1])
    writer.close()
    assert [int(path.name[:6]) for path in files_of(folder)] == [*range(MOST_FORGOTTEN + 1, MOST_FORGOTTEN + 4)]


def test_too_long_cycle_costs_itself_only(tmp_path: Path, reports: list[Report], monkeypatch: pytest.MonkeyPatch) -> None:
    def too_long() -> None:
        with monkeypatch.context() as patched:
            patched.setattr("mom_plugins_record.recording.writer.LARGEST_LINE", 10)
            with pytest.raises(RecordingFull, match="a cycle is larger than"):
                writer.cycle(reports[0])

    writer = opened(tmp_path / "r")
    too_long()
    too_long()
    writer.close()
    assert files_of(tmp_path / "r") == []
    writer.cycle(reports[1])
    too_long()
    writer.cycle(reports[2])
    writer.close()
    assert read(tmp_path / "r")[0] == reports[1:3]
    assert len(files_of(tmp_path / "r")) == 1


def test_what_json_cannot_say_is_named_by_its_type() -> None:
    assert json_text({"items": [{1}, datetime(2026, 1, 1, tzinfo=UTC), "vm\ud800"]}) == b'{"items":["<set>","<datetime>","vm?"]}'


def test_stale_nfs_file_is_begun_anew(tmp_path: Path, reports: list[Report], monkeypatch: pytest.MonkeyPatch) -> None:
    def stale(file: int) -> os.stat_result:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    writer = opened(tmp_path / "r")
    writer.cycle(reports[0])
    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", stale)
        writer.cycle(reports[1])
    writer.close()
    assert len(files_of(tmp_path / "r")) == 2
    assert read(tmp_path / "r")[0] == reports[:2]


def test_the_plugin_records_what_the_engine_does(recording, reports):
    found = list(Recording(recording).cycles())
    assert [recorded.report.snapshot for recorded in found] == [report.snapshot for report in reports]
    assert [recorded.report.decisions for recorded in found] == [report.decisions for report in reports]
    session = found[0].session
    plugins: Any = session.configuration["plugins"]
    assert plugins["sim"]["guests"] == 12
    assert {field.name for field in session.fields} >= {"balloon_cur", "mem_available"}
    assert "50_balloon" in session.policies
    shown = CliRunner().invoke(record, ["show", str(recording)])
    assert shown.exit_code == 0, shown.output
    assert f"cycles    {len(reports)}, with up to 12 guests" in shown.output
    assert json.loads(CliRunner().invoke(record, ["show", "--json", str(recording)]).output)["cycles"] == len(reports)


@pytest.mark.parametrize("there", [True, False])
def test_engine_that_does_not_serve_records_nothing(tmp_path: Path, reports: list[Report], there: bool) -> None:
    folder = tmp_path / "r"
    if there:
        (old,) = files_of(written(folder, reports[:2]))
        os.utime(old, (1.0, 1.0))
    before = sorted(folder.rglob("*"))
    config = config_of(tmp_path, {"sim": {}, "record": {"path": str(folder), "reserve": "0"}})
    with Engine(config, serve=False) as engine:
        for _ in range(2):
            (plugin,) = [one for one in engine.cycle().plugins if one.name == "record"]
    assert plugin.last_error == ""
    assert folder.exists() is there
    assert sorted(folder.rglob("*")) == before


def test_failing_recording_stops_no_cycle_and_is_logged_once(tmp_path, caplog):
    reports = simulated(tmp_path, 4, record={"reserve": f"{1 << 40}GiB"})
    assert len(reports) == 4
    (plugin,) = [plugin for plugin in reports[-1].plugins if plugin.name == "record"]
    assert "nothing is recorded" in plugin.last_error
    assert len([line for line in caplog.messages if "nothing is recorded" in line]) == 1


def test_a_disk_that_stays_full_gathers_no_empty_files(tmp_path, reports):
    writer = opened(tmp_path / "r")
    for room in (0, len(MARK), len(MARK) + 10):
        with largest_file(room), pytest.raises(RecordingFull, match="nothing is recorded"):
            writer.cycle(reports[0])
    assert files_of(tmp_path / "r") == []
    writer.cycle(reports[0])
    assert read(tmp_path / "r")[0] == reports[:1]


def test_two_do_not_record_into_one_folder(tmp_path, reports):
    one, other = (opened(tmp_path / "r") for _ in range(2))
    one.cycle(reports[0])
    with pytest.raises(RecordingFull, match="another mom records in"):
        other.cycle(reports[0])
    one.close()
    other.cycle(reports[1])
    other.close()
    assert read(tmp_path / "r")[0] == reports[:2]


def test_cycles_before_a_clock_step_are_found(tmp_path: Path, reports: list[Report]) -> None:
    behind = [replace(one, time=number * 5.0) for number, one in enumerate(reports[:3])]
    for kept, wall in ((reports[:10], reports[0].time), (behind, 0.0), (reports[10:], reports[10].time)):
        writer = opened(tmp_path, wall=partial(float, wall))
        for report in kept:
            writer.cycle(report)
        writer.close()
    found = [one.report.time for one in Recording(tmp_path).cycles(reports[5].time)]
    assert found == [one.time for one in reports[5:]]


def test_the_doctor_says_that_there_is_no_room_to_record(tmp_path: Path) -> None:
    settings = RecordPlugin.Settings.model_validate({"path": str(tmp_path), "reserve": f"{1 << 40}GiB"})
    (found,) = RecordPlugin(settings, PluginContext(state_directory=tmp_path, serves=False)).mom_doctor(None)
    assert found.severity is Severity.ERROR
    assert "nothing is recorded: only " in found.message
    assert "free space, or set `reserve`" in found.cure


def test_unwritable_accounts_are_a_problem_with_a_hint(tmp_path: Path, reports: list[Report]) -> None:
    plugin = RecordPlugin(RecordPlugin.Settings(path=str(tmp_path)), PluginContext("record", state_directory=tmp_path))
    (tmp_path / "accounts.sqlite3").mkdir()
    plugin.mom_setup()
    plugin.mom_report(reports[0])
    (problem,) = plugin.mom_problems(reports[0].snapshot)
    assert "cannot be read" in problem.message
    assert problem.hint == "check the disk, the file's owner, and programs that read the file"
    (tmp_path / "accounts.sqlite3").rmdir()
    plugin.mom_teardown()
    assert not plugin.mom_problems(reports[0].snapshot)


@pytest.mark.processes
def test_the_reader_in_the_documents_reads_each_cycle(tmp_path: Path, recording: Path, reports: list[Report]) -> None:
    program = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert program is not None
    (path,) = files_of(recording)
    done = subprocess.run([sys.executable, "-c", program[1], str(path)], capture_output=True, text=True, check=True, timeout=60)
    lines = done.stdout.splitlines()
    assert [float(line.partition(" ")[0]) for line in lines] == [report.time for report in reports]
    for line, report in zip(lines, reports, strict=True):
        sizes = {guest.name: guest.fields.get("balloon_cur") for guest in report.snapshot.guests.values()}
        assert line == f"{report.time} {sizes}"
    cut = tmp_path / "cut.momrec"
    cut.write_bytes(path.read_bytes()[:-40])
    done = subprocess.run([sys.executable, "-c", program[1], str(cut)], capture_output=True, text=True, check=False, timeout=60)
    assert (done.stderr, done.stdout.splitlines()) == ("", lines[: len(done.stdout.splitlines())]), "it is being written"
    assert done.stdout
