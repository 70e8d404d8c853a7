"""Made-up recordings of virtual machines in the format of GWA-T-12."""

from pathlib import Path

import pytest

from mom_core import ConfigError, MomError
from mom_plugins_sim.guest import MIB, kernel_size, low_watermark
from mom_plugins_sim.scenario.scene import scene_of
from mom_plugins_sim.scenario.schema import read_scenario
from mom_plugins_sim.scene import Scene

GIB = 1024 * MIB

MIDNIGHT = 1_376_352_000
"""2013-08-13."""

HEADER = (
    "Timestamp [ms];\tCPU cores;\tCPU capacity provisioned [MHZ];\tCPU usage [MHZ];\tCPU usage [%];\tMemory capacity provisioned [KB];\t"
    "Memory usage [KB];\tDisk read throughput [KB/s];\tDisk write throughput [KB/s];\tNetwork received throughput [KB/s];\t"
    "Network transmitted throughput [KB/s]"
)

SCENARIO = """
title: Recorded
lasts: 1h
host: {memory: 8GiB}
guests:
  vm: {count: 2, hot: 0, workload: {recorded: {folder: month, day: 2013-08-13}}}
"""


def row(seconds: float, sold: object, active: object) -> str:
    return f"{seconds};\t2;\t5200.0;\t52.0;\t1.0;\t{sold};\t{active};\t0.0;\t1.0;\t0.0;\t2.0"


def hour(sold: float, first: float, second: float, unit: int = 1) -> list[str]:
    """Return rows from five minutes before midnight on. The second value begins at half past midnight."""
    return [row((MIDNIGHT + at) * unit, sold, first if at < 1800 else second) for at in range(-300, 3901, 300)]


def scene(tmp_path: Path, files: dict[str, list[str]], scenario: str = SCENARIO) -> Scene:
    (tmp_path / "month").mkdir()
    for name, rows in files.items():
        (tmp_path / "month" / name).write_text("\n".join([HEADER, *rows]) + "\n")
    (tmp_path / "s.yaml").write_text(scenario)
    return scene_of(read_scenario(tmp_path / "s.yaml"), tmp_path)


def test_guests_have_the_sizes_of_recorded_machines_and_twice_their_active_memory(tmp_path: Path) -> None:
    files = {
        "1.csv": hour(GIB, GIB / 4, GIB / 3),
        "2.csv": hour(2 * GIB, GIB / 4, 1.5 * GIB, unit=1000),
        "3.csv": hour(0, 0, 0),
        "4.csv": [],
        "5.csv": hour(GIB, 1, 1)[3:],
    }
    small, large = sorted(scene(tmp_path, files).guests, key=lambda guest: guest.memory)
    assert [(guest.name, guest.memory) for guest in (small, large)] == [("vm-1", GIB), ("vm-2", 2 * GIB)]
    besides = kernel_size(GIB) + low_watermark(GIB)
    assert [small.workload.demand.at(time) for time in (0, 1799, 1800, 3600)] == pytest.approx(
        [GIB / 2 - besides] * 2 + [GIB * 2 / 3 - besides] * 2
    )
    assert large.workload.demand.at(1800) == pytest.approx(2 * GIB - kernel_size(2 * GIB) - low_watermark(2 * GIB))  # at most all memory


def test_too_few_machines_for_that_time_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(MomError, match=r"month: 1 of 2 files \*.csv have memory and rows for 3600 s from 2013-08-13 on; 2 are needed"):
        scene(tmp_path, {"1.csv": hour(GIB, 1, 1), "2.csv": hour(GIB, 1, 1)[:8]})


@pytest.mark.parametrize("rows", [[row(MIDNIGHT, GIB, "nan")], [row(MIDNIGHT, "much", 1)], [row(MIDNIGHT, GIB, 1), row(MIDNIGHT, GIB, 1)]])
def test_an_invalid_row_is_an_error_with_file_and_line(tmp_path: Path, rows: list[str]) -> None:
    with pytest.raises(MomError, match=rf"month/1\.csv:{len(rows) + 1}: "):
        scene(tmp_path, {"1.csv": rows})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (HEADER.replace(";", ",").encode(), r"1\.csv:1: the column 'Timestamp \[ms\]' is missing"),
        (HEADER.encode("utf-16"), r"cannot read .*1\.csv: 'utf-8'"),
    ],
)
def test_a_file_in_another_format_is_an_error(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "month").mkdir()
    (tmp_path / "month" / "1.csv").write_bytes(content)
    (tmp_path / "s.yaml").write_text(SCENARIO)
    with pytest.raises(MomError, match=message):
        scene_of(read_scenario(tmp_path / "s.yaml"), tmp_path)


@pytest.mark.parametrize(
    "change", [("count: 2", "count: 2, memory: 1GiB"), ("recorded: {folder: month, day: 2013-08-13}", "constant: {use: 0.5}")]
)
def test_only_recorded_machines_have_no_memory_of_their_own(tmp_path: Path, change: tuple[str, str]) -> None:
    with pytest.raises(ConfigError, match="set memory, except with the workload `recorded`"):
        scene(tmp_path, {}, SCENARIO.replace(*change))
