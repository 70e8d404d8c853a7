"""Points of past days: few, evenly spaced, from independent cycles, read by another process."""

from pathlib import Path

import pytest
from recordings import simulated, written

from mom_core import MomError, Report
from mom_plugins_record.recording.points import points_of
from mom_plugins_record.recording.reader import Recording
from mom_plugins_record.recording.writer import GROUP, files_of

pytestmark = pytest.mark.processes

FOREVER = (0.0, 1e11)


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> list[Report]:
    return simulated(tmp_path_factory.mktemp("simulated"), 5 * GROUP + 5)


def test_sparse_cycles_are_evenly_spread(tmp_path: Path, reports: list[Report]) -> None:
    folder = written(tmp_path / "r", reports)
    times = [one.time for one in reports]

    def told(since: float, until: float, most: int) -> list[float]:
        return [one.report.time for one in Recording(folder).sparse(since, until, most)]

    assert told(*FOREVER, 6) == times[::GROUP]
    assert told(*FOREVER, 3) == times[:: 2 * GROUP]
    assert told(times[GROUP], times[2 * GROUP], 6) == [times[GROUP], times[GROUP + 10], times[GROUP + 20], times[2 * GROUP]]
    assert told(times[40], times[70], 100) == times[40:71]


def test_points_have_the_requested_fields(tmp_path: Path, reports: list[Report]) -> None:
    folder = written(tmp_path / "r", reports)
    guest = next(iter(reports[0].snapshot.guests))
    found = points_of(folder, *FOREVER, 6, guest, ["balloon_cur", "nothing"])
    assert [one.time for one in found] == [one.time for one in reports[::GROUP]]
    for point, report in zip(found, reports[::GROUP], strict=True):
        assert point.guest == {"balloon_cur": report.snapshot.guests[guest].fields["balloon_cur"]}
    assert all(one.guest is None for one in points_of(folder, *FOREVER, 9, "another", ["balloon_cur"]))


def test_points_skip_damage(tmp_path: Path, reports: list[Report]) -> None:
    folder = written(tmp_path / "r", reports)
    (path,) = files_of(folder)
    sound = path.read_bytes()
    path.write_bytes(sound[: len(sound) // 2] + b"rubbish" + sound[len(sound) // 2 + 90 :])
    assert 3 <= len(points_of(folder, *FOREVER, 6, "", [])) <= 6
    (tmp_path / "empty").mkdir()
    with pytest.raises(MomError, match="the recording cannot be read: there is no recording in"):
        points_of(tmp_path / "empty", *FOREVER, 100, "", [])
