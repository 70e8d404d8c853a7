"""One recorded simulation for all tests that read a recording."""

from dataclasses import replace
from pathlib import Path

import pytest
from recordings import simulated

from mom_core import Report
from mom_plugins_record.recording.writer import GROUP

Simulation = tuple[Path, list[Report]]


@pytest.fixture(scope="session")
def simulation(tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    """Return the folder of a recording and its reports: two groups and a part of one, with decisions and outcomes."""
    folder = tmp_path_factory.mktemp("simulation")
    reports = simulated(folder, 2 * GROUP + 5, record={"path": str(folder / "r"), "reserve": "0"})
    assert sum(len(report.outcomes) for report in reports) > 10
    return folder / "r", reports


@pytest.fixture(scope="session")
def recording(simulation: Simulation) -> Path:
    return simulation[0]


@pytest.fixture(scope="session")
def reports(simulation: Simulation) -> list[Report]:
    return [replace(report, plugins=()) for report in simulation[1]]  # recordings do not contain the state of plugins
