"""A recording that keeps each cycle for days and one a minute for weeks: who reads it sees one recording, and knows which is which."""

from __future__ import annotations

import json
import math
import os
import resource
import shutil
import signal
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest
from click.testing import CliRunner
from test_record_reasons import CONTROL, FOREVER, Made, recorded
from test_record_recording import LIMITS, SESSION

from mom_cli.explain import explain_command
from mom_core import MomError, PluginContext, Report
from mom_plugins_record.plot.series import series_of
from mom_plugins_record.recording.command import record
from mom_plugins_record.recording.groups import MARK
from mom_plugins_record.recording.minutes import EVERY, MinutesWriter
from mom_plugins_record.recording.past import PastOf
from mom_plugins_record.recording.plugin import RecordPlugin
from mom_plugins_record.recording.reader import Recording
from mom_plugins_record.recording.writer import MINUTES, RecordingFull, files_of, sizes_of
from mom_plugins_record.replay.command import replay

OLD, CYCLES = 60, 90
"""Cycles of ten seconds: those of which one a minute is left, and all."""


class Thinned(NamedTuple):
    folder: Path
    made: Made
    reports: list[Report]

    @property
    def kept(self) -> list[Report]:
        """What is left."""
        minutes = {report.snapshot.monotonic // EVERY: report for report in reversed(self.reports[:OLD])}
        return [*reversed(minutes.values()), *self.reports[OLD:]]


def write(folder: Path, made: Made, numbers: range, full: float = LIMITS.keep / 2) -> None:
    """Those cycles, in a run of mom of their own."""
    writer = MinutesWriter(folder, LIMITS, full)
    writer.open()
    for one in Recording(made.folder).cycles():
        if one.report.number in numbers:
            writer.session(one.session)
            writer.cycle(one.report, partial(made.memories.get, one.report.number), one.cycle.reasons)
    writer.close()


@pytest.fixture(scope="module")
def thinned(tmp_path_factory: pytest.TempPathFactory) -> Thinned:
    base = tmp_path_factory.mktemp("thinned")
    made = recorded(base, CYCLES)
    folder = base / "r"
    write(folder, made, range(1, OLD + 1))
    for path in files_of(folder):
        os.utime(path, (1.0, 1.0))
    write(folder, made, range(OLD + 1, CYCLES + 1))
    return Thinned(folder, made, [one.report for one in Recording(made.folder).cycles()])


def test_of_older_time_one_cycle_a_minute_is_left_and_across_the_border_none_is_missing_or_twice(thinned: Thinned) -> None:
    found = list(Recording(thinned.folder).cycles())
    assert [one.report for one in found] == thinned.kept
    assert [one.session.every for one in found] == [EVERY] * (len(found) - 30) + [0.0] * 30
    assert [one.session.apart for one in (found[0], found[-1])] == [EVERY, 5.0]
    assert len(found) < CYCLES / 2
    assert not Recording(thinned.folder).damage


@pytest.mark.parametrize("since", [0, 100, 355, 600, 601, 700, 10_000])
@pytest.mark.parametrize("until", [300, 600, 620, 10_000])
def test_any_part_of_it_is_read(thinned: Thinned, since: float, until: float) -> None:
    begins = 1_700_000_000.0
    wanted = [one for one in thinned.kept if begins + since <= one.time <= begins + until]
    for cycles in (Recording(thinned.folder).cycles, PastOf(thinned.folder).cycles):
        assert [one.report for one in cycles(begins + since, begins + until)] == wanted


def test_where_each_cycle_is_kept_as_long_as_any_nothing_is_written_twice(thinned: Thinned, tmp_path: Path) -> None:
    write(tmp_path / "r", thinned.made, range(1, 20), full=LIMITS.keep)
    assert not (tmp_path / "r" / MINUTES).exists()
    assert len(list(Recording(tmp_path / "r").cycles())) == 19


def test_a_file_of_minutes_is_read_alone_as_well(thinned: Thinned) -> None:
    found = list(Recording(files_of(thinned.folder / MINUTES)[0]).cycles())
    assert [one.report for one in found] == thinned.kept[: len(found)]


def test_when_each_cycle_is_lost_those_of_the_minutes_are_read(thinned: Thinned, tmp_path: Path) -> None:
    (tmp_path / "r" / MINUTES).mkdir(parents=True)
    for path in files_of(thinned.folder / MINUTES):
        (tmp_path / "r" / MINUTES / path.name).write_bytes(path.read_bytes())
    found = [one.report.number for one in Recording(tmp_path / "r").cycles()]
    assert found[0] == 1
    assert found[-1] > OLD
    (tmp_path / "r" / files_of(thinned.folder)[0].name).write_bytes(MARK[:5])
    assert [one.report.number for one in Recording(tmp_path / "r").cycles()] == found


def test_a_full_disk_loses_nothing_that_was_kept_and_the_minute_is_caught_up(thinned: Thinned, tmp_path: Path) -> None:
    writer = MinutesWriter(tmp_path / "r", LIMITS, 3600.0)
    writer.open()
    writer.session(SESSION)
    for report in thinned.reports[:4]:
        writer.cycle(report)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (max(size for _, size in sizes_of(tmp_path / "r")) + 20, before[1]))
        with pytest.raises(RecordingFull, match="nothing is recorded"):
            writer.cycle(thinned.reports[6])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert [one.report for one in Recording(tmp_path / "r").cycles()] == thinned.reports[:4]
    writer.cycle(thinned.reports[7])
    writer.close()
    for path in (tmp_path / "r", tmp_path / "r" / MINUTES):
        recording = Recording(path)
        assert thinned.reports[7] in [one.report for one in recording.cycles()]
        assert not recording.damage


def test_when_a_minute_cannot_be_written_each_cycle_still_is_and_the_next_one_stands_for_it(thinned: Thinned, tmp_path: Path) -> None:
    writer = MinutesWriter(tmp_path / "r", LIMITS, 3600.0)
    writer.open()
    writer.session(SESSION)
    writer.cycle(thinned.reports[0])
    shutil.rmtree(tmp_path / "r" / MINUTES)
    (tmp_path / "r" / MINUTES).touch()
    with pytest.raises(RecordingFull, match="nothing is recorded"):
        writer.cycle(thinned.reports[6])
    (tmp_path / "r" / MINUTES).unlink()
    writer.cycle(thinned.reports[7])
    writer.close()
    assert [one.report for one in Recording(tmp_path / "r").cycles()] == [thinned.reports[number] for number in (0, 6, 7)]
    assert [one.report for one in Recording(tmp_path / "r" / MINUTES).cycles()] == [thinned.reports[7]]


def test_both_kinds_keep_within_the_size_together(tmp_path: Path, thinned: Thinned) -> None:
    limits = replace(LIMITS, size=1 << 18)
    now = 0.0
    writer = MinutesWriter(tmp_path / "r", limits, 3600.0, monotonic=lambda: now)
    writer.open()
    writer.session(SESSION)
    for number in range(1200):
        now += 60.0
        one = thinned.reports[number % CYCLES]
        writer.cycle(replace(one, snapshot=replace(one.snapshot, monotonic=now)))
    writer.close()
    assert writer.written > 2 * limits.size
    kinds = [sum(path.stat().st_size for path in files_of(folder)) for folder in (tmp_path / "r", tmp_path / "r" / MINUTES)]
    assert all(limits.size / 4 < size <= limits.size / 2 for size in kinds)
    assert sum(size for _, size in sizes_of(tmp_path / "r")) == sum(kinds)


def test_replay_takes_the_cycles_of_which_all_before_are_there_and_says_how_many_are_not(thinned: Thinned) -> None:
    shown = CliRunner().invoke(replay, [str(thinned.folder)])
    assert shown.exit_code == 0, shown.output
    assert f"{len(thinned.kept) - 30} older ones are not compared" in shown.output
    only = CliRunner().invoke(replay, [str(thinned.folder), "--to", "2023-11-14T22:20:00"])
    assert isinstance(only.exception, MomError)
    assert "has only some cycles" in str(only.exception)


@pytest.mark.parametrize("seconds", [10.0, 295.0, 599.0])
def test_explain_says_why_of_a_time_of_which_one_cycle_a_minute_is_kept(thinned: Thinned, seconds: float) -> None:
    moment = thinned.reports[0].time + seconds - 10.0
    then = next(report for report in reversed(thinned.kept) if report.time <= moment)
    guest = next(iter(then.snapshot.guests.values()))
    at = datetime.fromtimestamp(moment, UTC).isoformat()
    shown = CliRunner().invoke(explain_command, [guest.name, "--recording", str(thinned.folder), "--at", at])
    assert shown.exit_code == 0, shown.output
    assert thinned.made.words[then.number, guest.id] in shown.output
    assert "gap" not in shown.output
    assert ("a cycle every 1 min" in " ".join(shown.output.split())) == (moment - then.time > 30)


def test_lines_of_a_plot_do_not_break_off_where_cycles_are_a_minute_apart(thinned: Thinned) -> None:
    series = series_of(Recording(thinned.folder), [], None, *FOREVER)
    assert series.cycles == len(series.host["time"]) == len(thinned.kept)
    assert not any(math.isnan(value) for guest in series.guests for value in guest.lines["size"])


def test_tables_and_what_a_recording_holds_reach_across_the_border(thinned: Thinned, tmp_path: Path) -> None:
    done = CliRunner().invoke(record, ["export", str(thinned.folder), "--to", "parquet", "-o", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert list(pd.read_parquet(tmp_path / "out" / "host.parquet")["cycle"]) == [report.number for report in thinned.kept]
    decided = pd.read_parquet(tmp_path / "out" / "decisions.parquet")
    assert set(decided[decided["control"] == CONTROL]["cycle"]) <= {report.number for report in thinned.kept}
    shown = CliRunner().invoke(record, ["show", str(thinned.folder), "--json"])
    content = json.loads(shown.output)
    assert (content["cycles"], content["thinned"]) == (len(thinned.kept), len(thinned.kept) - 30)
    assert content["bytes"] == sum(size for _, size in sizes_of(thinned.folder))


@pytest.mark.parametrize(("settings", "apart_after"), [({}, True), ({"full": "30d"}, False), ({"full": "1d", "keep": "12h"}, False)])
def test_the_plugin_thins_unless_each_cycle_is_to_be_kept(tmp_path: Path, settings: dict[str, str], apart_after: bool) -> None:
    plugin = RecordPlugin(RecordPlugin.Settings.model_validate(settings), PluginContext(state_directory=tmp_path, serves=False))
    plugin.mom_setup()
    plugin.mom_teardown()
    assert (tmp_path / "recording" / MINUTES).is_dir() == apart_after


def test_the_doctor_says_in_digits_that_a_person_reads_how_much_is_recorded(tmp_path: Path) -> None:
    plugin = RecordPlugin(RecordPlugin.Settings(path=str(tmp_path)), PluginContext(state_directory=tmp_path, serves=False))
    (tmp_path / "000001-20260101T000000Z.momrec").write_bytes(bytes(496_950))
    (found,) = plugin.mom_doctor(None)
    assert found.message.startswith("485 KiB in 1 files in ")
