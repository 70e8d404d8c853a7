"""Replay: the same policies decide exactly the same, others are compared, and unknown effects are not claimed."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from recordings import rewritten, simulated

from mom_core import Decision, Source
from mom_core.testing import snapshot
from mom_plugins_record.recording.reader import Recording
from mom_plugins_record.recording.writer import files_of
from mom_plugins_record.replay.command import replay
from mom_plugins_record.replay.comparison import DecisionSeries, compare

COUNTS = """
(Host.Remember "n" (+ 1 (Host.Recall "n" 0)))
(with Guests g (g.Control "balloon_target" (- g.balloon_max (Host.Recall "n"))))
"""
AVERAGES = '(with Guests g (g.Control "balloon_target" (- g.balloon_max (/ (g.StatAvg "rss") 1000))))'


def recorded(tmp_path: Path, cycles: int = 60, **plugins: Any) -> Path:
    simulated(tmp_path, cycles, record={"reserve": "0"}, **plugins)
    return tmp_path / "state" / "recording"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(replay, [str(argument) for argument in arguments], help_option_names=["-h", "--help"])


@pytest.mark.long
def test_the_same_policies_decide_the_same_to_the_bit(recording: Path) -> None:
    there = [(path, path.read_bytes()) for path in files_of(recording)]
    result = compare(Recording(recording))
    assert [(path, path.read_bytes()) for path in files_of(recording)] == there, "a replay is not recorded"
    assert result.then.decisions > 50
    assert result.compared == result.identical == 65
    assert result.warming == 0
    shown = run(recording)
    assert shown.exit_code == 0, shown.output
    assert "all decisions are identical" in shown.output


@pytest.mark.long
def test_replay_restores_memory_and_history(tmp_path: Path) -> None:
    policy = tmp_path / "50_mine.policy"
    policy.write_text(COUNTS + AVERAGES)
    folder = recorded(tmp_path, 45, policy={"file": str(policy)})
    result = compare(Recording(folder))
    assert (result.compared, result.identical, result.warming) == (45, 45, 0)


@pytest.mark.long
def test_only_cycles_with_known_memory_are_compared(tmp_path: Path) -> None:
    policy = tmp_path / "50_mine.policy"
    policy.write_text(COUNTS)
    recorded(tmp_path, 45, policy={"file": str(policy)})
    folder = recorded(tmp_path, 45, policy={"file": str(policy)})  # the notes of the first run remain
    result = compare(Recording(folder))
    assert result.compared == result.identical == 89
    assert result.warming == 1
    times = [cycle.report.time for cycle in Recording(folder).cycles()]
    middle = compare(Recording(folder), since=times[40])
    assert middle.compared == middle.identical == 10  # the end of both runs, with the same clock
    file, *others = files_of(folder)
    for other in others:
        other.unlink()
    content = file.read_bytes()
    damaged = bytearray(content)
    damaged[len(content) // 2] ^= 0xFF
    file.write_bytes(damaged)
    result = compare(Recording(folder))
    assert result.lost >= 1
    assert result.compared == result.identical < 45


def test_policies_on_trial_then_are_not_looked_for_here(tmp_path: Path) -> None:
    trial = tmp_path / "trial.d"
    trial.mkdir()
    (trial / "50_balloon.policy").write_text('(with Guests g (g.Control "balloon_target" g.balloon_max))')
    folder = recorded(tmp_path, 20, policy={"shadow": str(trial)})
    cycles = [one.report for one in Recording(folder).cycles()]
    assert all(cycle.considered is not None for cycle in cycles)
    assert any(cycle.differences() for cycle in cycles)
    shutil.rmtree(trial)
    result = compare(Recording(folder))
    assert result.compared == result.identical == 20
    assert result.left_out == {}
    assert result.now.decisions > 10


def test_what_cannot_be_evaluated_here_is_not_compared(tmp_path: Path) -> None:
    folder, cycles = tmp_path / "r", []
    for cycle in Recording(recorded(tmp_path, 15)).cycles():
        plugins: Any = cycle.session.configuration["plugins"]
        configuration = {**cycle.session.configuration, "plugins": {"acme": {}, **plugins, "policy": {"of_another_version": 1}}}
        cycles.append(replace(cycle, session=replace(cycle.session, configuration=configuration)))
    rewritten(folder, cycles)
    result = compare(Recording(folder))
    assert set(result.left_out) == {"acme", "policy"}
    assert result.then.decisions == 0 < sum(len(cycle.report.decisions) for cycle in cycles)
    assert result.identical == result.compared
    assert "not replayed: acme" in run(folder).output


@pytest.mark.long
def test_other_policies_are_compared_and_judged(recording: Path, tmp_path: Path) -> None:
    other = tmp_path / "50_balloon.policy"
    other.write_text('(with Guests g (g.Control "balloon_target" (* 0.1 g.balloon_max)))')
    shown = run(recording, "--policy", other, "--fail-on", "below-need")
    assert shown.exit_code == 1
    assert "65 of 65 cycles differ" in shown.output
    assert "in 65 cycles, first 2026-01-01 00:00:10 (cycle 1)" in " ".join(shown.output.split())
    assert "50_balloon:1:" in shown.output
    assert "decisions below what the guest needs (then): none" in shown.output
    assert "failed checks: below-need\n" in shown.output
    as_json = json.loads(run(recording, "--policy", other, "--json").output)
    assert all(case["count"] for case in as_json["now"]["below_need"].values())
    assert all(one["now_from"].startswith("50_balloon:1:") for one in as_json["differences"].values())


@pytest.mark.parametrize("text", ["(with", "(defvar a 1"])
def test_a_policy_that_is_wrong_is_refused_with_its_place(recording: Path, tmp_path: Path, text: str) -> None:
    other = tmp_path / "60_more.policy"
    other.write_text(text)
    shown = run(recording, "--policy", other)
    assert shown.exit_code != 0
    assert "60_more:1:" in str(shown.exception)


def test_a_time_without_cycles_is_said(recording: Path) -> None:
    shown = run(recording, "--from", "2031-01-01")
    assert "no cycle in that period" in str(shown.exception)
    assert "is not a time" in run(recording, "--from", "yesterday").output
    assert run(recording, "--fail-on", "rain").exit_code == 2


def test_what_is_no_recording_is_misuse_and_not_an_answer(recording: Path, tmp_path: Path) -> None:
    for arguments in ((tmp_path / "nowhere",), (recording, "--policy", tmp_path / "nowhere")):
        mistyped = run(*arguments)
        assert mistyped.exit_code == 2
        assert f"'{tmp_path}/nowhere' does not exist" in mistyped.output
    (tmp_path / "other").write_text("rain")
    nothing = ((tmp_path, "there is no recording in"), (tmp_path / "other", "is not a recording"), ("/dev/null", "is not a regular file"))
    for path, said in nothing:
        other = run(path)
        assert said in str(other.exception)
        assert isinstance(other.exception, ValueError), "of which mom makes exit code 2"


def test_where_nothing_could_be_compared_nothing_is_fine(recording: Path, tmp_path: Path) -> None:
    middle = [*Recording(recording).cycles()][35:45]
    rewritten(tmp_path / "cut", middle)
    policy = tmp_path / "50_balloon.policy"
    policy.write_text('(with Guests g (g.Control "balloon_target" (* 0.1 g.balloon_max)))')
    arguments = (tmp_path / "cut", "--policy", policy)
    shown = run(*arguments, "--fail-on", "below-need", "--fail-on", "difference")
    assert shown.exit_code == 1
    assert "no cycle could be compared, so --fail-on has no result" in " ".join(shown.stderr.split())
    assert "unknown: no cycle could be compared" in shown.stdout
    assert "none" not in shown.stdout
    assert run(*arguments).exit_code == 0


# --- verdicts -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "need"),
    [
        ({"mem_usable": 400}, "uses 600 KiB"),
        ({"mem_usable": 400, "guest_guarantee": 700}, "is guaranteed 700 KiB"),
        ({"mem_usable": 400, "guest_guarantee": 500}, "uses 600 KiB"),
        ({"guest_guarantee": 3000}, "is guaranteed 1,000 KiB"),
        ({}, None),
    ],
)
def test_guests_need_what_they_use_or_are_guaranteed_up_to_their_size(fields: dict[str, Any], need: str | None) -> None:
    now = snapshot(guests={"a": {"balloon_cur": 1000, "balloon_max": 2000, **fields}})
    series = DecisionSeries()
    series.add(now, [Decision(now.guests["a"].entity, "balloon_target", 300, "", Source("p"))])
    assert [case.example for case in series.worst_first] == ([] if need is None else [f"300 KiB, but the guest {need}"])


def test_policies_that_fail_are_no_success(recording: Path, tmp_path: Path) -> None:
    other = tmp_path / "60_moon.policy"
    other.write_text("(defvar full (== Host.moon_phase 4))")
    shown = run(recording, "--policy", other)
    assert shown.exit_code == 1
    assert "these policies fail in" in shown.stderr
