"""Reasons of decisions, from a recording; and reading a part of it."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from recordings import simulated

from mom_daemon.explain.verb import explain_command
from mom_kvm import PastCycle
from mom_plugins_record.recording.reader import Recording
from mom_plugins_record.recording.writer import GROUP

CONTROL = "balloon_target"

REMEMBERS = """
(Host.Remember "n" (+ 1 (Host.Recall "n" 0)))
(with Guests g {
    (if (> g.balloon_max 1) (g.Control "balloon_target" (- g.balloon_max (Host.Recall "n"))) 0)
})
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("made")
    policy = made / "50_mine.policy"
    policy.write_text(REMEMBERS)
    host = {"guests": 6, "load": "5GiB", "load_after": "30s"}
    simulated(made, 2 * GROUP, sim=host, policy={"file": str(policy)}, record={"reserve": "0"})
    return made / "state" / "recording"


def last(folder: Path) -> PastCycle:
    return list(Recording(folder).cycles(float("-inf"), float("inf")))[-1]


def test_a_recorded_decision_is_explained_by_the_reason_it_had(folder: Path) -> None:
    report = last(folder).report
    decision = next(decision for decision in report.decisions if decision.control == CONTROL)
    most = report.snapshot.guests[decision.entity.id].fields["balloon_max"]
    assert decision.reason == f"(> g.balloon_max 1) is true (g.balloon_max is {most})"
    shown = CliRunner().invoke(explain_command, [decision.entity.name, "--recording", str(folder)])
    assert shown.exit_code == 0, shown.output
    assert decision.reason in " ".join(shown.output.split())
