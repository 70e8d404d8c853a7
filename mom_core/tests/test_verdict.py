"""How the host is as a whole: what plugins say of it, joined, held over time, and told to the operator."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from mom_cli.status_file import RunningStatus
from mom_core import Alert, Clock, Engine, PluginSettings, Problem, Severity, Snapshot, Verdict, hookimpl
from mom_core.engine.verdict import GAP_SECONDS, HeldAlerts, Said, accepted, judged
from mom_daemon import status_of
from mom_devkit import config_of

FULL = Alert("memory", "the host is full", "guests are promised too much", "move guests away")
STALLED = Alert("memory", "processes wait for memory", cure="stop what need not run", severity=Severity.WARNING)
SLOW = Alert("disk", "the disk is slow", severity=Severity.WARNING)


# --- the pure function -----------------------------------------------------------------------------------------------------------


def test_without_alerts_nothing_is_wrong() -> None:
    assert judged([], 5.0, 1000.0) == Verdict()
    assert Verdict().severity is Severity.OK
    assert not Verdict().is_bad


def test_the_worst_comes_first_and_of_equals_what_stands_the_longest() -> None:
    said = [Said("a", SLOW, 1.0), Said("b", STALLED, 0.0), Said("c", Alert("ledger", "the disk is full"), 4.0)]
    verdict = judged(said, 5.0, 1000.0)
    assert [alert.name for alert in verdict.alerts] == ["ledger", "memory", "disk"]
    assert verdict.is_bad


def test_what_several_plugins_say_under_one_name_is_one_alert() -> None:
    verdict = judged([Said("host", STALLED, 2.0), Said("balloon", FULL, 3.0)], 5.0, 1000.0)
    (alert,) = verdict.alerts
    assert alert.message == "the host is full; processes wait for memory"
    assert alert.why == "guests are promised too much"
    assert alert.cure == "move guests away; stop what need not run"
    assert alert.plugins == ("balloon", "host")
    assert (alert.lasted, alert.since) == (3.0, 997.0)
    assert alert.severity is Severity.ERROR


def test_an_error_is_a_warning_as_long_as_mom_may_put_it_right_itself() -> None:
    patient = Alert("memory", "the host is full", after=30.0)
    assert judged([Said("balloon", patient, 0.0)], 29.9, 1000.0).severity is Severity.WARNING
    assert judged([Said("balloon", patient, 0.0)], 30.0, 1000.0).severity is Severity.ERROR


def test_what_plugins_say_is_safe_to_be_printed_and_not_endless() -> None:
    (alert,) = judged([Said("evil", Alert("x", "red \x1b[31m" + "a" * 10_000, "\n", "\u202e"), 0.0)], 1.0, 1.0).alerts
    assert "\x1b" not in alert.message + alert.why + alert.cure
    assert len(alert.message) <= 400


# --- held over time --------------------------------------------------------------------------------------------------------------


def lasted(verdict: Verdict) -> float:
    return verdict.alerts[0].lasted


def test_since_when_survives_cycles_and_words_that_change() -> None:
    held = HeldAlerts()
    for now in range(100, 400, 5):
        verdict = held.take({"balloon": [Alert("memory", f"{now} KiB available")]}, now, 1e9 + now)
    assert lasted(verdict) == 295
    assert verdict.alerts[0].since == 1e9 + 100


def test_since_when_does_not_follow_a_clock_that_is_set() -> None:
    held = HeldAlerts()
    held.take({"balloon": [FULL]}, 100.0, 1e9)
    assert lasted(held.take({"balloon": [FULL]}, 160.0, 5.0)) == 60.0


def test_an_alert_that_comes_and_goes_is_the_same_and_one_that_comes_back_late_is_new() -> None:
    held = HeldAlerts()
    held.take({"balloon": [FULL]}, 0.0, 0.0)
    assert held.take({"balloon": []}, 30.0, 30.0) == Verdict()
    assert lasted(held.take({"balloon": [FULL]}, 50.0, 50.0)) == 50.0
    assert held.take({"balloon": []}, 51.0 + GAP_SECONDS, 0.0) == Verdict()
    assert lasted(held.take({"balloon": [FULL]}, 55.0 + GAP_SECONDS, 0.0)) == 0.0


def test_silence_is_no_recovery() -> None:
    held = HeldAlerts()
    held.take({"balloon": [FULL], "host": []}, 0.0, 0.0)
    for now in (100.0, 200.0, 300.0):
        assert lasted(held.take({"balloon": None, "host": []}, now, now)) == now
    assert held.take({"balloon": []}, 305.0, 305.0) == Verdict()
    assert held.take({"balloon": None}, 310.0, 310.0) == Verdict(), "it had nothing to say when it was heard last"


def test_a_plugin_that_left_the_configuration_takes_its_alerts_along() -> None:
    held = HeldAlerts()
    held.take({"balloon": [FULL]}, 0.0, 0.0)
    assert held.take({"host": []}, 5.0, 5.0) == Verdict()


def test_the_log_says_once_that_it_is_bad_and_once_that_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    held = HeldAlerts()
    for now, alerts in ((0.0, [FULL]), (5.0, [FULL]), (10.0, []), (15.0, [])):
        held.take({"balloon": alerts}, now, now)
    assert [record.getMessage() for record in caplog.records] == [
        "verdict: the host is full, because guests are promised too much (move guests away)",
        "verdict: no longer bad",
    ]


# --- what is taken from plugins --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rubbish",
    [
        "full",
        {"memory": FULL},
        7,
        [FULL, "full"],
        [Alert("", "nameless")],
        [Alert("memory", "")],
        [Alert("memory", "fine", severity=Severity.OK)],
        [Alert("memory", "late", after=float("nan"))],
        [Alert("memory", "late", after=-1.0)],
        [Alert("memory", 5)],  # type: ignore[arg-type]  # as a plugin may, that nobody checked
    ],
)
def test_what_is_no_alert_is_a_problem_and_the_rest_counts(rubbish: object) -> None:
    problems: list[Problem] = []
    assert set(accepted("bad", rubbish, problems)) <= {FULL}
    assert [problem.source.name for problem in problems] == ["bad"]
    assert "mom_alerts" in problems[0].message


def test_a_flood_of_alerts_is_cut_and_said() -> None:
    problems: list[Problem] = []
    assert len(accepted("chatty", [Alert(str(n), "no") for n in range(1000)], problems)) == 20
    assert "1000" in problems[0].message


# --- in the engine ---------------------------------------------------------------------------------------------------------------


class Base:
    def __init__(self, settings: PluginSettings, context: Any) -> None:
        self.settings = settings


class Says(Base):
    """Says what it is told to say."""

    alerts: Iterable[Alert] | BaseException = ()

    @hookimpl
    def mom_alerts(self, snapshot: Snapshot) -> Iterable[Alert]:
        if isinstance(self.alerts, BaseException):
            raise self.alerts
        return self.alerts


def engine_of(tmp_path: Path, clock: Clock | None = None) -> Engine:
    return Engine(config_of(tmp_path, {"says": Says}), clock=clock)


@pytest.fixture(autouse=True)
def _nothing_said() -> None:
    Says.alerts = ()


def test_the_report_has_the_verdict_of_its_cycle(tmp_path: Path) -> None:
    now = 1000.0
    with engine_of(tmp_path, Clock(monotonic=lambda: now, wall=lambda: 1e9 + now)) as engine:
        assert engine.cycle().verdict == Verdict()
        Says.alerts = [FULL]
        engine.cycle()
        now += 250
        verdict = engine.cycle().verdict
        assert verdict is not None
        assert (lasted(verdict), verdict.alerts[0].plugins) == (250, ("says",))
        engine.reload(config_of(tmp_path, {"says": Says}, interval=0.1))
        now += 50
        verdict = engine.cycle().verdict
        assert verdict is not None
        assert lasted(verdict) == 300, "a reload is no new beginning"


def test_a_plugin_that_fails_to_say_is_a_problem_and_what_it_said_stands(tmp_path: Path) -> None:
    with engine_of(tmp_path) as engine:
        Says.alerts = [FULL]
        engine.cycle()
        Says.alerts = RuntimeError("cannot look")
        report = engine.cycle()
        assert report.verdict is not None
        assert report.verdict.alerts[0].message == "the host is full"
        assert any("mom_alerts" in problem.message for problem in report.problems)


def test_a_plugin_that_is_set_aside_is_said_by_the_core(tmp_path: Path) -> None:
    with engine_of(tmp_path) as engine:
        Says.alerts = RuntimeError("cannot look")
        for _ in range(4):
            report = engine.cycle()
        assert report.verdict is not None
        (alert,) = report.verdict.alerts
        assert alert.plugins == ("core",)
        assert "the plugin says keeps failing" in alert.message
        assert "cannot look" in alert.why
        assert report.verdict.is_bad


def test_the_status_file_tells_the_verdict_as_it_is(tmp_path: Path) -> None:
    with engine_of(tmp_path) as engine:
        Says.alerts = [FULL, SLOW]
        report = engine.cycle()
        content = status_of(engine, report)
        verdict = content["verdict"]
        assert verdict is not None
        assert verdict["severity"] == "error"
        assert verdict["alerts"][0]["cure"] == "move guests away"
        assert RunningStatus(content, 1, 0.0).verdict == report.verdict


def test_a_mom_that_hangs_is_the_worst_of_it(tmp_path: Path) -> None:
    with engine_of(tmp_path) as engine:
        Says.alerts = [FULL]
        content = status_of(engine, engine.cycle())
        verdict = RunningStatus(content, 77, 300.0).verdict
        assert [alert.name for alert in verdict.alerts] == ["late", "memory"]
        assert "5 min ago" in verdict.alerts[0].message
        assert "77" in verdict.alerts[0].cure


def test_how_long_plugins_took_is_in_the_report_beside_the_verdict(tmp_path: Path) -> None:
    with engine_of(tmp_path) as engine:
        (says,) = engine.cycle().plugins
        assert says.durations["mom_alerts"] > 0
