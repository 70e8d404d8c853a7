"""Pictures of a recording: one look, and a person sees what happened."""

import math
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from recordings import written

from mom_core import Guest, Host, Report, Snapshot
from mom_core.testing import snapshot
from mom_plugins_record.plot.command import plot
from mom_plugins_record.plot.series import series_of
from mom_plugins_record.recording.reader import Recording

EVER = (float("-inf"), float("inf"))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(plot, [str(argument) for argument in arguments], help_option_names=["-h", "--help"])


def test_the_series_add_up(recording: Path) -> None:
    series = series_of(Recording(recording), (), 8, *EVER)
    assert len(series.guests) == 8
    assert series.left_out == 4
    host = series.host
    assert series.cycles == len(host["time"]) == 65
    for used, guests, free, total in zip(host["itself"], host["guests"], host["free"], host["total"], strict=True):
        assert used + guests + free == pytest.approx(total)
    assert any(mark.change < 0 for guest in series.guests for mark in guest.marks)


def cycles_at(folder: Path, times: list[float]) -> Path:
    def cycle(number: int, time: float) -> Report:
        guests = {"a": Guest("a", "a", {"balloon_cur": 1000, "balloon_max": 2000, "mem_usable": 100})}
        return Report(number, time, "enforce", Snapshot(Host("h", {"mem_available": 9000}), guests, time, 5.0 * number, number), (), (), (),
                      (), (), 0.1)  # fmt: skip

    return written(folder, [cycle(number, time) for number, time in enumerate(times, 1)])


def test_a_clock_that_is_set_back_does_not_draw_over_what_was(tmp_path: Path) -> None:
    series = series_of(Recording(cycles_at(tmp_path / "r", [5000.0, 5005.0, 1000.0, 1005.0, 5010.0])), (), None, *EVER)
    assert series.host["time"] == series.guests[0].lines["time"] == [5000.0, 5005.0, 5005.0, 5005.0, 5010.0]


def test_lines_break_off_where_nothing_was_recorded(tmp_path: Path) -> None:
    series = series_of(Recording(cycles_at(tmp_path / "r", [5000.0, 5005.0, 9000.0])), (), None, *EVER)
    assert series.host["time"] == [5000.0, 5005.0, 5005.0, 9000.0, 9000.0]
    assert [math.isnan(value) for value in series.guests[0].lines["size"]] == [False, False, True, True, False]


def test_guests_can_be_chosen_by_name(recording: Path) -> None:
    series = series_of(Recording(recording), ["web-*"], 24, *EVER)
    assert series.guests
    assert all(guest.name.startswith("web-") for guest in series.guests)
    assert "no guest is named cat-*" in str(run(recording, "--guest", "cat-*").exception)


@pytest.mark.long
@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_pictures_of_all_kinds(recording: Path, tmp_path: Path, suffix: str, start: bytes) -> None:
    path = tmp_path / f"mom.{suffix}"
    shown = run(recording, "-o", path, "--guest", "web-*", "--limit", 2)
    assert shown.exit_code == 0, shown.output
    content = path.read_bytes()
    assert content.startswith(start)
    if suffix != "png":
        for text in (b"taken back by balloons", b"sold to guests", b"web-"):
            assert text in content
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_another_suffix_is_refused_and_nothing_is_left(recording: Path, tmp_path: Path) -> None:
    shown = run(recording, "-o", tmp_path / "mom.gif")
    assert shown.exit_code == 2
    assert "must end in .png, .svg" in shown.output
    assert run(recording, "-o", tmp_path / "away" / "mom.png").exit_code != 0
    assert not list(tmp_path.iterdir())


def test_without_matplotlib_it_says_what_to_install(recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, module, None)
    assert "python3-matplotlib" in str(getattr(run(recording, "-o", tmp_path / "x.png").exception, "hint", ""))


def test_what_is_unknown_is_a_gap_and_no_zero(tmp_path: Path) -> None:
    known: dict[str, dict[str, int | None]] = {"a": {"balloon_cur": 10, "balloon_max": None}, "b": {"balloon_cur": 10, "mem_usable": 4}}
    guests = snapshot(guests=known).guests
    one = Report(1, 5.0, "enforce", Snapshot(Host("h"), guests, 5.0, 5.0, 1), (), (), (), (), (), 0.1)
    a, b = sorted(series_of(Recording(written(tmp_path / "r", [one])), (), None, *EVER).guests, key=lambda guest: guest.name)
    assert [str(line[0]) for line in a.lines.values.values()] == ["5.0", "10.0", "nan", "nan", "nan"]
    assert b.lines["need"] == [6]
