"""One simulated host that is recorded, for all tests that look at a recording."""

from dataclasses import replace
from pathlib import Path

import pytest
from recordings import simulated

from mom_core import Report
from mom_plugins_record.recording.writer import GROUP

Simulation = tuple[Path, list[Report]]


@pytest.fixture(scope="session")
def simulation(tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    """The folder of the recording, and what was recorded in it: two groups and a part of one, with decisions and outcomes."""
    folder = tmp_path_factory.mktemp("simulation")
    reports = simulated(folder, 2 * GROUP + 5, record={"path": str(folder / "r"), "reserve": "0"})
    assert sum(len(report.outcomes) for report in reports) > 10
    return folder / "r", reports


@pytest.fixture(scope="session")
def recording(simulation: Simulation) -> Path:
    return simulation[0]


@pytest.fixture(scope="session")
def reports(simulation: Simulation) -> list[Report]:
    return [replace(report, plugins=()) for report in simulation[1]]  # nobody reads the state of plugins from a recording
