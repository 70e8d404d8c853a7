"""Guests' days, learned from recordings, and loaded by the next mom."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from mom_core import Clock, Config, Engine, MomError
from mom_devkit import HandClock, config_of
from mom_plugins_record.advise.command import advise
from mom_plugins_record.forecast.curve import Calendar
from mom_plugins_record.forecast.host_days import HostDays
from mom_plugins_record.forecast.verbs import forecast

SLOT = 15.0
"""Seconds."""


def lived(config: Config, cycles: int, clock: HandClock, step: float = 5.0) -> int:
    """Run cycles of `step` seconds. Return the number of known slots of the first guest."""
    with Engine(config, Clock(clock, clock.wall)) as engine:
        for _ in range(cycles):
            clock.now += step
            report = engine.cycle()
        guest, days = next(iter(report.snapshot.guests)), [getattr(plugin.instance, "_days", None) for plugin in engine.plugins.plugins]
        return sum(one.known[guest].days.slots for one in days if isinstance(one, HostDays))


@pytest.mark.long
def test_two_recorded_weeks_give_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The days are as after two weeks of recording."""
    for module in ("plugin", "verbs"):
        monkeypatch.setattr(f"mom_plugins_record.forecast.{module}.CALENDAR", Calendar(1440.0))
    clock = HandClock()
    path = tmp_path / "recording"
    lived(config_of(tmp_path, {"sim": {"guests": 3}, "record": {"reserve": "1MiB", "path": str(path)}}), 15 * 96, clock, SLOT)
    plugins: dict[str, dict[str, object]] = {"sim": {"guests": 3}, "forecast": {}}
    config = config_of(tmp_path, plugins)
    document = tmp_path / "mom.yaml"
    settings = {"state_directory": str(config.state_directory), "run_directory": str(tmp_path / "run"), "plugins": plugins}
    document.write_text(json.dumps(settings))

    def sold() -> dict[str, object]:
        done = CliRunner().invoke(advise, ["-c", str(document), "--risk", "1%", "--json"], catch_exceptions=False)
        (host,) = json.loads(done.output)["hosts"]
        assert isinstance(host, dict)
        return host

    for _ in range(2):  # learning twice changes nothing
        assert "of 3 guests" in CliRunner().invoke(forecast, ["learn", str(path), "-c", str(document)], catch_exceptions=False).output
    found = sold()
    assert found["guests"] == 3
    assert not found["why"]
    result = found["result"]
    assert isinstance(result, dict)
    assert result["sold_kib"]
    assert result["days"] == 15
    assert lived(config, 2, clock, SLOT) > 14 * 96
    assert not list((config.state_directory / "forecast").glob("learned*")), "it is in the files of the mom that ran"
    assert sold() == found


def test_a_recording_that_teaches_nothing_is_an_error(tmp_path: Path) -> None:
    document = tmp_path / "mom.yaml"
    document.write_text(f"state_directory: {tmp_path}\nrun_directory: {tmp_path}/run\nplugins:\n  sim: {{}}\n  forecast: {{}}\n")
    with pytest.raises(MomError, match="there is no recording"):
        CliRunner().invoke(forecast, ["learn", str(tmp_path), "-c", str(document)], catch_exceptions=False)
    lived(config_of(tmp_path, {"sim": {"guests": 1}, "record": {"reserve": "1MiB", "path": str(tmp_path / "recording")}}), 5, HandClock())
    with pytest.raises(MomError, match="nothing could be learned"):
        CliRunner().invoke(forecast, ["learn", str(tmp_path / "recording"), "-c", str(document)], catch_exceptions=False)
