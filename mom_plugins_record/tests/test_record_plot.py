"""Pictures of a recording: one look, and a person sees what happened."""

from __future__ import annotations

import builtins
import math
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from test_record_recording import simulated, written

from mom_core import Guest, Host, Report, Snapshot
from mom_core.testing import snapshot
from mom_plugins_record.plot.command import plot
from mom_plugins_record.plot.series import NOTED, POINTS, HostSeries, _guest_point, _lines_of, _Thinner, story_of
from mom_plugins_record.recording.reader import Recording

EVER = (float("-inf"), float("inf"))


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recorded")
    simulated(folder, 40, guests=30, record={"reserve": "0"})
    return folder / "state" / "recording"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(plot, [str(argument) for argument in arguments], help_option_names=["-h", "--help"])


def test_a_story_adds_up(recording: Path) -> None:
    story = story_of(Recording(recording), (), 24, *EVER)
    assert len(story.guests) == 24
    assert story.left_out == 6
    assert story.cycles == len(story.host.times) == 40
    host = story.host
    for used, guests, free, total in zip(host.itself, host.guests, host.free, host.total, strict=True):
        assert used + guests + free == pytest.approx(total)
    assert 0 < len(story.noted) <= NOTED
    given = sum(
        max(0.0, mark.before - mark.after) for guest in story_of(Recording(recording), (), None, *EVER).guests for mark in guest.marks
    )
    assert 0 < sum(moment.given for moment in story.noted) <= given
    assert all(moment.largest is not None and "50_balloon" in moment.largest.reason for moment in story.noted)


def test_all_guests_are_in_a_field_of_colours_when_some_are_left_out(recording: Path) -> None:
    story = story_of(Recording(recording), (), 10, *EVER)
    assert len(story.spare) == 30
    assert all(len(row) == len(story.spare[0]) for row in story.spare)
    assert not all(math.isnan(value) for row in story.spare for value in row)
    assert story_of(Recording(recording), (), None, *EVER).spare == []


def cycles_at(folder: Path, times: list[float]) -> Path:
    def cycle(number: int, time: float) -> Report:
        guests = {"a": Guest("a", "a", {"balloon_cur": 1000, "balloon_max": 2000, "mem_usable": 100})}
        return Report(number, time, "enforce", Snapshot(Host("h", {"mem_available": 9000}), guests, time, 5.0 * number, number), (), (), (),
                      (), (), 0.1)  # fmt: skip

    return written(folder, [cycle(number, time) for number, time in enumerate(times, 1)])


def test_a_clock_that_is_set_back_does_not_draw_over_what_was(tmp_path: Path) -> None:
    story = story_of(Recording(cycles_at(tmp_path / "r", [5000.0, 5005.0, 1000.0, 1005.0])), (), None, *EVER)
    assert story.host.times == story.guests[0].times == [5000.0, 5005.0, 5010.0, 5015.0]
    assert story.set_back == 1


def test_lines_break_off_where_nothing_was_recorded(tmp_path: Path) -> None:
    story = story_of(Recording(cycles_at(tmp_path / "r", [5000.0, 5005.0, 9000.0])), (), None, *EVER)
    assert story.host.times == [5000.0, 5005.0, 5005.0, 9000.0, 9000.0]
    assert [math.isnan(value) for value in story.guests[0].size] == [False, False, True, True, False]


@pytest.mark.long
def test_a_scenario_is_run_and_drawn(tmp_path: Path) -> None:
    scenario = tmp_path / "mine.yaml"
    scenario.write_text("{title: t, lasts: 2m, host: {memory: 4GiB}, guests: {a: {memory: 1GiB, workload: {constant: {use: 20%}}}}}")
    shown = run(scenario, "-o", tmp_path / "mom.svg")
    assert shown.exit_code == 0, shown.output
    assert b"24 cycles" in (tmp_path / "mom.svg").read_bytes()


def test_what_is_unknown_is_a_gap_and_no_zero() -> None:
    guests = snapshot(guests={"a": {"balloon_cur": 10, "balloon_max": None}, "b": {"balloon_cur": 10, "mem_usable": 4}}).guests
    assert [str(value) for value in _guest_point(5.0, guests["a"])] == ["5.0", "10.0", "nan", "nan", "nan"]
    assert _guest_point(5.0, guests["b"])[2] == 6
    assert all(math.isnan(value) for value in _guest_point(5.0, None)[1:])


def test_guests_can_be_chosen_by_name(recording: Path) -> None:
    story = story_of(Recording(recording), ["web-*"], 24, *EVER)
    assert story.guests
    assert all(guest.name.startswith("web-") for guest in story.guests)
    assert "no guest is named cat-*" in str(run(recording, "--guest", "cat-*").exception)


@pytest.mark.long
@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("html", b"<!doctype html>")])
def test_pictures_of_all_kinds(recording: Path, tmp_path: Path, suffix: str, start: bytes) -> None:
    path = tmp_path / f"mom.{suffix}"
    shown = run(recording, "-o", path, "--guest", "web-*", "--limit", 2)
    assert shown.exit_code == 0, shown.output
    content = path.read_bytes()
    assert content.startswith(start)
    if suffix != "png":
        for text in (b"taken back by balloons", b"sold to guests", b"web-", b"50_balloon"):
            assert text in content
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_another_suffix_is_refused_and_nothing_is_left(recording: Path, tmp_path: Path) -> None:
    shown = run(recording, "-o", tmp_path / "mom.gif")
    assert shown.exit_code == 2
    assert "must end in .png, .svg, .html" in shown.output
    assert run(recording, "-o", tmp_path / "away" / "mom.png").exit_code != 0
    assert not list(tmp_path.iterdir())


def test_without_matplotlib_it_says_what_to_install(recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    assert "python3-matplotlib" in str(getattr(run(recording, "-o", tmp_path / "x.png").exception, "hint", ""))


def test_moms_plot_files_have_a_line_for_each_cycle(recording: Path, tmp_path: Path) -> None:
    for number in range(2):
        shown = run(recording, "--momplot", tmp_path)
        assert shown.output.strip() == str(tmp_path / f"momplot-00{number}")
    files = list((tmp_path / "momplot-001").iterdir())
    assert len(files) == 31
    head, *rows = (tmp_path / "momplot-001" / "host").read_text().splitlines()
    columns = head.split("\t")
    assert columns[0] == "# time"
    assert "mem_available" in columns
    assert len(rows) == 40
    assert all(len(row.split("\t")) == len(columns) for row in rows)


def test_long_lines_are_thinned_evenly() -> None:
    series = HostSeries()
    thinner = _Thinner(_lines_of(series))
    for number in range(10 * POINTS):
        thinner.add([float(number)] * len(_lines_of(series)))
    assert POINTS <= len(series.times) <= 2 * POINTS
    steps = {after - before for before, after in zip(series.times, series.times[1:], strict=False)}
    assert len(steps) == 1
