"""How many more guests fit: the search, the newcomers, and the verb."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from mom_core import Guest, Report, Snapshot
from mom_plugins_record.advise.command import advise
from mom_plugins_record.advise.trial import CapacitySearch, TimeIsOver, TrialRun
from mom_plugins_record.recording.reader import Recording
from mom_plugins_sim.scenario.recorded import scene_of_recording, with_newcomers
from mom_plugins_sim.simulate.command import simulate


@given(st.integers(0, 40), st.integers(1, 100), st.integers(1, 8))
def test_the_search_finds_the_largest_number_that_harms_nobody(limit: int, most: int, seeds: int) -> None:
    search = CapacitySearch(lambda count, seed: "harm" if count > limit else "", seeds, most)
    assert search.largest() == min(limit, most)
    assert search.complete
    assert all(one.runs <= seeds for one in search.tried)


def test_where_somebody_comes_to_harm_already_nothing_fits() -> None:
    search = CapacitySearch(lambda count, seed: "the host swaps", 5, 64)
    assert search.largest() is None
    assert search.complete
    assert (search.tried[0].runs, search.tried[0].harm) == (1, "the host swaps")


def test_it_ends_when_its_time_is_over_and_knows_that() -> None:
    runs: list[int] = []

    def run(count: int, seed: int) -> str:
        if len(runs) == 12:
            raise TimeIsOver
        runs.append(count)
        return ""

    search = CapacitySearch(run, 10, 64)
    assert (search.largest(), search.complete) == (3, False)


def test_loss_is_relative_to_the_guests_lifetime() -> None:
    def trial(lost: float) -> TrialRun:
        run = TrialRun()
        for now in range(0, 86_400, 60):
            there = {"a": Guest("a", "a", {"sim_lost": min(now, 3600) * lost})} if now <= 3600 else {}
            snapshot = Snapshot(guests=there, monotonic=float(now))
            assert run.add(Report(0, 0.0, "enforce", snapshot, (), (), (), (), (), 0.0), None) == ""
        return run

    assert trial(0.1).lost == {"a": pytest.approx(0.1)}
    assert trial(0.1).slowed_down(trial(0.0)) == "a loses 10.0 % of its work, without new guests 0.0 %"


DAY = """
title: A while
lasts: 30m
interval: 10s
host: {memory: 12GiB, swap: 1GiB}
guests:
  shop: {class: gold, count: 3, memory: 2GiB, workload: {bursty: {base: 25%, burst: 20%, period: 6m, duty: 30%}}}
"""


def simulated(folder: Path, *arguments: str) -> Path:
    done = CliRunner().invoke(simulate, [*arguments, "--record", str(folder)])
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("advise")
    (folder / "day.yaml").write_text(DAY)
    return simulated(folder / "rec", str(folder / "day.yaml"))


@pytest.fixture(scope="module")
def cold_recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulated(tmp_path_factory.mktemp("cold") / "recording", "cold-memory", "--hours", "0.15")


@pytest.mark.long
def test_the_verb_says_how_many_fit_at_which_risk(recording: Path) -> None:
    arguments = [str(recording), "--class", "platinum", "--seeds", "2", "--hours", "0.1", "--time", "5m", "--json"]
    done = CliRunner().invoke(advise, arguments)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    # 12 GiB less 5 % can be promised, and three times 1.5 GiB is: three more of 2 GiB.
    assert (told["fits"], told["complete"]) == (3, True)
    assert told["risk"] == pytest.approx(1 - 0.05**0.5)
    assert "would be promised" in told["tried"][-1]["harm"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--class", "golf", "--hours", "0.1"], "golf"),
        (["--class", "gold", "--memory", "4"], "has no unit"),
        (["--class", "gold", "--time", "soon"], "not a number with a unit"),
        (["--class", "gold", "--hours", "0.01"], "covers only"),
    ],
)
@pytest.mark.long
def test_what_makes_no_sense_is_said(recording: Path, arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(advise, [str(recording), *arguments])
    assert done.exit_code != 0
    assert message in f"{done.output}{done.exception}"


@pytest.mark.long
def test_half_of_recorded_cold_memory_counts(cold_recording: Path) -> None:
    scene = scene_of_recording(Recording(cold_recording), float("-inf"), float("inf"))
    assert (scene.host_swap, scene.host_zram) == (0.0, 6 << 20)
    cold = [guest.workload.cold for guest in scene.guests]
    assert max(cold) > 0
    assert max(cold) <= 0.5 * 0.6 * (1 << 20), "of the 500 MiB and what they had freed, no more than half"
    assert all(guest.workload.cold == 0 for guest in with_newcomers(scene, 3, 1 << 20, seed=1).guests[len(scene.guests) :])


@pytest.mark.long
def test_cold_memory_in_swap_is_no_harm_by_itself(cold_recording: Path) -> None:
    arguments = [str(cold_recording), "--class", "vapor", "--seeds", "1", "--most", "1", "--hours", "0.1", "--time", "2m"]
    done = CliRunner().invoke(advise, arguments)
    assert "the host swaps" not in " ".join(done.output.split())
