"""The plugin in a mom: what it keeps, what it takes in, and what verbs and explanations say of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from learned_guests import DAY, FIRST, MIB, SLOT, at_eight, one_snapshot, snapshots

from mom_cli import About
from mom_core import MomError, PluginContext, Report, Snapshot, StateFile, Value
from mom_core.testing import snapshot as made_snapshot
from mom_plugins_forecast import ForecastPlugin
from mom_plugins_forecast.explanation import ForecastExplainer
from mom_plugins_forecast.slots import Calendar
from mom_plugins_forecast.state import FILE, LEARNED, days_from
from mom_plugins_forecast.verbs import forecast

SETTINGS = ForecastPlugin.Settings.model_validate({"day": f"{DAY:.0f}s"})
USES = {"desktop": at_eight}


def report(snapshot: Snapshot) -> Report:
    return Report(1, snapshot.time, "enforce", snapshot, (), (), (), (), (), 0.01)


def started(folder: Path, now: float = FIRST) -> tuple[ForecastPlugin, PluginContext]:
    context = PluginContext("forecast", state_directory=folder, monotonic=lambda: now)
    plugin = ForecastPlugin(SETTINGS, context)
    plugin.mom_setup()
    return plugin, context


def lived(folder: Path, days: range) -> None:
    """A mom that ran in these days, and was stopped at the end."""
    plugin, _ = started(folder)
    for one in snapshots(USES, days):
        plugin.mom_report(report(one))
    plugin.mom_teardown()


def test_what_was_learned_outlives_a_restart_and_is_written_while_mom_runs(tmp_path: Path) -> None:
    plugin, _ = started(tmp_path)
    for one in snapshots(USES, range(1)):
        plugin.mom_report(report(one))
    assert (tmp_path / "forecast" / FILE).exists(), "it was not stopped"
    before = plugin.days("desktop")
    plugin.mom_teardown()
    again, _ = started(tmp_path)
    after = again.days("desktop")
    assert before is not None
    assert after is not None
    assert after.learned_slots == before.learned_slots
    assert after.expected[40] == pytest.approx(before.expected[40], rel=0.005)


@pytest.mark.parametrize("damage", [b"", b"{}", b"\0" * 4096])
def test_a_damaged_file_is_set_aside_and_days_are_learned_anew(tmp_path: Path, damage: bytes) -> None:
    lived(tmp_path, range(1))
    file = tmp_path / "forecast" / FILE
    file.write_bytes(file.read_bytes()[:500] + damage)
    plugin, context = started(tmp_path)
    assert plugin.days("desktop") is None
    assert context.state_files[0].damage
    assert file.with_name(f"{FILE}.damaged-1").exists()
    for one in snapshots(USES, range(1, 2)):
        plugin.mom_report(report(one))
    plugin.mom_teardown()
    assert started(tmp_path)[0].days("desktop") is not None


def test_days_of_another_length_are_not_used_and_not_overwritten(tmp_path: Path) -> None:
    lived(tmp_path, range(1))
    context = PluginContext("forecast", state_directory=tmp_path)
    plugin = ForecastPlugin(ForecastPlugin.Settings(), context)
    plugin.mom_setup()
    assert plugin.days("desktop") is None
    assert "another length" in context.state_files[0].damage
    assert (tmp_path / "forecast" / f"{FILE}.unused-1").exists()


def test_a_mom_takes_in_what_was_learned_for_it_of_guests_that_it_knows_less(tmp_path: Path) -> None:
    lived(tmp_path / "other", range(3))
    (tmp_path / "forecast").mkdir()
    learned = tmp_path / "forecast" / LEARNED
    text = (tmp_path / "other" / "forecast" / FILE).read_text()
    StateFile(learned, "", days_from).write(json.loads(text)["content"])  # as the verb does: its frame tells its kind by its name
    plugin, _ = started(tmp_path)
    plugin.mom_report(report(one_snapshot(USES, FIRST + 3 * DAY)))
    found = plugin.days("desktop")
    assert found is not None
    assert found.has_pattern
    assert not learned.exists()
    assert (tmp_path / "forecast" / FILE).exists()


def configured(tmp_path: Path) -> Path:
    path = tmp_path / "mom.yaml"
    path.write_text(f"state_directory: {tmp_path}\nrun_directory: {tmp_path}/run\nplugins:\n  sim: {{}}\n  forecast: {{day: {DAY:.0f}s}}\n")
    return path


def run(*arguments: str) -> str:
    done = CliRunner().invoke(forecast, list(arguments), catch_exceptions=False)
    return done.output


def test_the_verb_shows_all_guests_and_a_day_of_one(tmp_path: Path) -> None:
    lived(tmp_path, range(3))
    config = str(configured(tmp_path))
    head, row, *_ = run("show", "-c", config).splitlines()
    assert head.split()[:2] == ["GUEST", "PATTERN"]
    assert row.split()[:2] == ["desktop", "yes"]
    text = run("show", "desktop", "-c", config)
    assert "usual" in text
    assert "401M to 1.57G" in text
    found = json.loads(run("show", "desktop", "-c", config, "--json"))
    assert found["has_pattern"]
    assert len(found["expected"]) == 7 * 96
    by_file = json.loads(run("show", "--file", str(tmp_path / "forecast" / FILE), "--json"))
    assert by_file == [found]


def test_the_verb_says_what_is_not_known(tmp_path: Path) -> None:
    config = str(configured(tmp_path))
    with pytest.raises(MomError, match="no guests' days"):
        run("show", "-c", config)
    lived(tmp_path, range(1))
    with pytest.raises(MomError, match="no days of a guest dekstop"):
        run("show", "dekstop", "-c", config)
    assert "no pattern" in run("show", "desktop", "-c", config)


def test_a_day_whose_slots_are_shorter_than_cycles_is_refused() -> None:
    def findings(interval: float) -> list[str]:
        return [one.message for one in ForecastPlugin(SETTINGS, PluginContext(interval=interval)).mom_check()]

    assert findings(15.0) == []
    assert findings(20.0) == ["nothing is learned: a slot of the day is 15s, and mom looks each 20s"]


def explained(**fields: Value) -> str:
    host: dict[str, Value] = {"guests_forecast": 1}
    taken = made_snapshot(host=host, guests={"web": {"mem_available": 4 * MIB * MIB, "mem_usable": 3 * MIB * MIB, **fields}})
    about = About(report(taken), taken.guests["web"])
    return " ".join(one.text for one in ForecastExplainer().part(about).sentences)


def test_the_explanation_tells_what_is_usual_and_what_comes() -> None:
    assert "No pattern" in explained()
    assert "differs" in explained(mem_expected_weight=0.2)
    told = explained(
        mem_expected_weight=1.0,
        mem_used_expected=1024 * MIB,
        mem_used_expected_soon=2252 * MIB,
        mem_rises_in=300.0,
        mem_expected_error=50 * MIB,
    )
    assert "usually uses 1.00 GiB at this time" in told
    assert "up to 1.20 GiB more" in told
    assert "No pattern" not in told


def test_a_day_is_by_the_local_clock_unless_it_is_told_otherwise() -> None:
    calendar = Calendar()
    assert calendar.week_slots == 672
    assert 0 < calendar.left(FIRST) <= calendar.slot_seconds == 900
    assert SLOT == 15
