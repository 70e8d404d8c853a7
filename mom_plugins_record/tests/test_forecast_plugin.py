"""The plugin in mom: its files, imports, commands and explanations."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from learned_guests import DAY, FIRST, MIB, at_eight, one_snapshot, snapshots

from mom_core import MomError, PluginContext, Report, Snapshot, StateFile, Value
from mom_core.testing import snapshot as made_snapshot
from mom_daemon import About
from mom_devkit import wait_until
from mom_plugins_record import ForecastPlugin
from mom_plugins_record.forecast.curve import Calendar
from mom_plugins_record.forecast.files import FILE, LEARNED, days_from, leave, past_in
from mom_plugins_record.forecast.surface import ForecastExplainer
from mom_plugins_record.forecast.verbs import forecast

USES = {"desktop": at_eight}


@pytest.fixture(autouse=True)
def _short_days(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mom_plugins_record.forecast.plugin.CALENDAR", Calendar(DAY))


def report(snapshot: Snapshot) -> Report:
    return Report(1, snapshot.time, "enforce", snapshot, (), (), (), (), (), 0.01)


def started(folder: Path) -> tuple[ForecastPlugin, PluginContext]:
    context = PluginContext("forecast", state_directory=folder)
    plugin = ForecastPlugin(ForecastPlugin.Settings(), context)
    plugin.mom_setup()
    return plugin, context


def lived(folder: Path, days: range) -> None:
    """Run a mom in these days, and stop it."""
    plugin, _ = started(folder)
    for one in snapshots(USES, days):
        plugin.mom_report(report(one))
    plugin.mom_teardown()


def test_a_damaged_file_is_set_aside_and_days_are_learned_anew(tmp_path: Path) -> None:
    lived(tmp_path, range(1))
    file = tmp_path / "forecast" / FILE
    file.write_bytes(file.read_bytes()[:500] + b"{}")
    plugin, context = started(tmp_path)
    assert not learned_of(plugin)
    assert context.state_files[0].damage
    assert file.with_name(f"{FILE}.damaged-1").exists()
    for one in snapshots(USES, range(1, 2)):
        plugin.mom_report(report(one))
    plugin.mom_teardown()
    assert learned_of(started(tmp_path)[0])


def goes_on(plugin: ForecastPlugin, seen: Callable[[], object]) -> None:
    """Run cycles at one time until a condition holds."""

    def cycle() -> object:
        plugin.mom_report(report(one_snapshot(USES, FIRST + 3 * DAY)))
        return seen()

    wait_until(cycle)


def learned_for(folder: Path, of: Path) -> Path:
    """Store another mom's learned days like the command."""
    file = folder / "forecast" / LEARNED
    content = json.loads((of / "forecast" / FILE).read_text())["content"]
    StateFile(file, "", days_from).write(content)  # the name determines the kind of file
    return file


def learned_of(plugin: ForecastPlugin) -> int:
    """Return the number of known slots of the guest."""
    found = plugin._days.known.get("desktop")
    return 0 if found is None else found.days.slots


def past_days(folder: Path) -> int:
    """Return the number of past days of the guest in the file."""
    (guest,) = past_in(folder / "forecast" / FILE).guests
    return len(guest.days)


@pytest.mark.parametrize("runs", [False, True])
def test_result_of_learn_is_merged(tmp_path: Path, runs: bool) -> None:
    lived(tmp_path / "other", range(3))
    plugin, _ = started(tmp_path)
    if not runs:
        plugin.mom_teardown()
    file = learned_for(tmp_path, tmp_path / "other")
    if runs:
        commit = plugin.mom_reload()
        assert commit is not None
        commit()
    else:
        plugin, _ = started(tmp_path)
    found = plugin._days.known["desktop"].days
    assert found.has_pattern
    goes_on(plugin, lambda: not file.exists())
    assert learned_of(started(tmp_path)[0]) == found.slots, "it is kept"
    assert past_days(tmp_path) == 3


@pytest.mark.parametrize("by_verb", [False, True])
def test_full_file_keeps_the_guests_seen_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_verb: bool) -> None:
    monkeypatch.setattr("mom_plugins_record.forecast.host_days.MOST_GUESTS", 3)
    plugin, _ = started(tmp_path / "lived")
    for one in snapshots({f"guest-{number}": at_eight for number in range(5)}, range(1)):
        plugin.mom_report(report(one))
    plugin.mom_report(report(one_snapshot({f"guest-{number}": at_eight for number in range(1, 5)}, FIRST + DAY)))
    if by_verb:
        leave(tmp_path / "kept/forecast", plugin._days)
    plugin.mom_teardown()
    again, context = started(tmp_path / ("kept" if by_verb else "lived"))
    assert not any(one.damage for one in context.state_files)
    assert len(again._days.known) == 3
    assert "guest-0" not in again._days.known


def test_unwritable_disk_is_reported_and_retried(tmp_path: Path) -> None:
    (tmp_path / "forecast").write_text("no folder")
    plugin, context = started(tmp_path)
    for one in snapshots(USES, range(1)):
        plugin.mom_report(report(one))
    wait_until(lambda: context.state_files[0].write_error)
    (tmp_path / "forecast").unlink()
    for one in snapshots(USES, range(1, 2)):
        plugin.mom_report(report(one))
    plugin.mom_teardown()
    assert [one.write_error for one in context.state_files] == [""] * 2
    assert learned_of(started(tmp_path)[0]) > 150


def configured(tmp_path: Path) -> Path:
    path = tmp_path / "mom.yaml"
    path.write_text(f"state_directory: {tmp_path}\nrun_directory: {tmp_path}/run\nplugins:\n  sim: {{}}\n  forecast: {{}}\n")
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
    rows = [line.split() for line in text.splitlines() if ":00 " in line]
    assert len(rows) == 24
    assert {"401", "1.57"} <= {usual for _, usual, *_ in rows}
    found = json.loads(run("show", "desktop", "-c", config, "--json"))
    assert found["has_pattern"]
    assert len(found["expected"]) == 7 * 96
    by_file = json.loads(run("show", "--file", str(tmp_path / "forecast" / FILE), "--json"))
    assert by_file == [found]


def test_the_verb_says_what_is_not_known(tmp_path: Path) -> None:
    config = str(configured(tmp_path))
    with pytest.raises(MomError, match="no daily memory use of guests"):
        run("show", "-c", config)
    lived(tmp_path, range(1))
    with pytest.raises(MomError, match="there is no guest dekstop"):
        run("show", "dekstop", "-c", config)
    assert "no pattern" in run("show", "desktop", "-c", config)
    mistyped = CliRunner().invoke(forecast, ["show", "--file", str(tmp_path / "nowhere")])
    assert mistyped.exit_code == 2


def explained(**fields: Value) -> str:
    host: dict[str, Value] = {"guests_forecast": 1}
    taken = made_snapshot(host=host, guests={"web": {"mem_available": 4 * MIB * MIB, "mem_usable": 3 * MIB * MIB, **fields}})
    about = About(report(taken), taken.guests["web"])
    return " ".join(one.text for one in ForecastExplainer().part(about).sentences)


def test_the_explanation_tells_what_is_usual_and_what_comes() -> None:
    assert "no known daily pattern" in explained()
    assert "differs" in explained(mem_expected_weight=0.2)
    told = explained(mem_expected_weight=1.0, mem_used_expected=1024 * MIB, mem_used_expected_soon=2252 * MIB, mem_rises_in=300.0)
    assert "usually uses 1.00 GiB at this time" in told
    assert "up to 1.20 GiB more" in told
