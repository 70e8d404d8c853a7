"""Placement at work, on a simulated host with two NUMA nodes: guests stop to wait for memory that is far away."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from mom_core import Clock, Engine, Report, Status, load_config

CYCLE = 30.0


def run(folder: Path, hours: float, *, placement: bool, mode: str = "enforce", sold: float = 0.7) -> tuple[list[Report], list[object]]:
    """Reports of all cycles, and what was put back at the end."""
    now = 0.0
    document = {
        "mode": mode,
        "plugins": {
            "sim": {"guests": 12, "nodes": 2, "sold": sold, "host_memory": "64GiB"},
            "numa": {"placement": placement},
        },
        "state_directory": str(folder / "state"),
        "run_directory": str(folder / "run"),
    }
    reports = []
    engine = Engine(load_config(document), Clock(lambda: now, lambda: now))
    engine.open()
    try:
        while now < hours * 3600:
            now += CYCLE
            reports.append(engine.cycle())
    finally:
        back = engine.close()
    return reports, list(back)


def lost(report: Report) -> float:
    value = report.snapshot.host.fields["sim_lost"]
    assert isinstance(value, float)
    return value


@pytest.mark.long
def test_placement_saves_most_of_the_work_that_distance_costs_and_comes_to_rest(tmp_path: Path) -> None:
    without, _ = run(tmp_path / "without", 2.0, placement=False)
    with_it, back = run(tmp_path / "with", 2.0, placement=True)
    last = [lost(reports[-1]) - lost(reports[-61]) for reports in (without, with_it)]
    assert last[1] < 0.25 * last[0], "in the last half hour"
    applied = [outcome for report in with_it for outcome in report.outcomes if outcome.status is Status.APPLIED]
    moves = Counter(outcome.decision.entity.name for outcome in applied if outcome.decision.control == "vcpu_pins")
    assert set(moves.values()) == {1}, "nobody is moved to and fro"
    assert not [outcome for report in with_it[-60:] for outcome in report.outcomes if outcome.status is Status.APPLIED]
    assert not [outcome for report in with_it for outcome in report.outcomes if outcome.status in {Status.FAILED, Status.REFUSED}]
    assert not [problem for report in with_it for problem in report.problems]
    assert {outcome.status for outcome in back} == {Status.APPLIED}  # type: ignore[attr-defined]  # they are outcomes
    assert len(back) == 2 * len(moves)


def test_no_node_is_ever_brought_into_need(tmp_path: Path) -> None:
    reports, _ = run(tmp_path, 1.0, placement=True, sold=1.6)
    moves = 0
    for report in reports:
        nodes = {str(node["node"]): node for node in _nodes(report)}
        for outcome in report.outcomes:
            if outcome.status is not Status.APPLIED or outcome.decision.control != "numa_nodeset" or outcome.decision.value not in nodes:
                continue
            moves += 1
            node = nodes[str(outcome.decision.value)]
            memory = report.snapshot.guests[outcome.decision.entity.id].fields["numa_memory"]
            assert isinstance(memory, list)
            elsewhere = sum(item["size"] for item in memory if item["node"] != node["node"])
            assert node["available"] - elsewhere >= 0.05 * node["total"]
    assert 0 < moves < 12, "there was not room for all"


def test_nothing_is_moved_while_mom_only_observes(tmp_path: Path) -> None:
    reports, back = run(tmp_path, 0.3, placement=True, mode="observe")
    assert {outcome.status for report in reports for outcome in report.outcomes} == {Status.OBSERVED}
    assert all(guest.fields["vcpu_pins"] == "0-31" for guest in reports[-1].snapshot.guests.values())
    assert back == []


def test_without_placement_nothing_is_decided(tmp_path: Path) -> None:
    reports, _ = run(tmp_path, 0.2, placement=False)
    assert not [decision for report in reports for decision in report.decisions]
    assert reports[-1].snapshot.host.fields["numa_node_count"] == 2


def _nodes(report: Report) -> list[dict[str, float]]:
    value = report.snapshot.host.fields["numa_nodes"]
    if not isinstance(value, list):
        pytest.fail("the nodes are unknown")
    return value
