"""Verdict on the host: plugins' conditions, joined, held over time, and reported."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mom_core import Clock, Condition, Engine, PluginSettings, Severity, Snapshot, Verdict, hookimpl
from mom_core.engine.problems import GAP_SECONDS, HeldConditions, ReportedCondition, judged
from mom_daemon.status_file import RunningStatus, status_of
from mom_devkit import config_of

FULL = Condition("memory", "the host is full", "guests are promised too much", "move guests away")
STALLED = Condition("memory", "processes wait for memory", cure="stop what need not run", severity=Severity.WARNING)
SLOW = Condition("disk", "the disk is slow", severity=Severity.WARNING)


@pytest.fixture
def held() -> HeldConditions:
    return HeldConditions()


# --- the pure function -----------------------------------------------------------------------------------------------------------


def test_the_worst_condition_comes_first_and_causes_precede_effects(held: HeldConditions) -> None:
    killed, ledger = Condition("killed", "programs were killed"), Condition("ledger", "the disk is full")
    held.take({"host": [SLOW], "balloon": [killed], "core": []}, 0.0, 1000.0)
    verdict = held.take({"host": [SLOW], "balloon": [FULL, killed], "core": [ledger]}, 5.0, 1005.0)
    assert [condition.name for condition in verdict.conditions] == ["memory", "killed", "ledger", "disk"]
    assert verdict.is_bad


def test_what_several_plugins_say_under_one_name_is_one_alert() -> None:
    verdict = judged([ReportedCondition("host", STALLED, 2.0, 5.0), ReportedCondition("balloon", FULL, 3.0, 5.0)], 5.0, 1000.0)
    (condition,) = verdict.conditions
    assert condition.message == "the host is full; processes wait for memory"
    assert condition.why == "guests are promised too much"
    assert condition.cure == "move guests away; stop what need not run"
    assert condition.plugins == ("balloon", "host")
    assert (condition.lasted, condition.since) == (3.0, 997.0)
    assert condition.severity is Severity.ERROR


def test_an_error_is_a_warning_at_first() -> None:
    patient = Condition("memory", "the host is full", after=30.0)
    assert judged([ReportedCondition("balloon", patient, 0.0, 29.9)], 29.9, 1000.0).severity is Severity.WARNING
    assert judged([ReportedCondition("balloon", patient, 0.0, 30.0)], 30.0, 1000.0).severity is Severity.ERROR
    assert judged([ReportedCondition("balloon", patient, 0.0, 29.0)], 40.0, 1000.0).severity is Severity.WARNING, (
        "it was not said for so long"
    )


# --- held over time --------------------------------------------------------------------------------------------------------------


def lasted(verdict: Verdict) -> float:
    return verdict.conditions[0].lasted


def test_since_when_survives_cycles_and_words_that_change(held: HeldConditions) -> None:
    for now in range(100, 400, 5):
        verdict = held.take({"balloon": [Condition("memory", f"{now} KiB available")]}, now, 1e9 + now)
    assert lasted(verdict) == 295
    assert verdict.conditions[0].since == 1e9 + 100


def test_a_condition_outlives_short_gaps(held: HeldConditions) -> None:
    held.take({"balloon": [FULL]}, 0.0, 0.0)
    held.take({"balloon": [FULL]}, 5.0, 5.0)
    (away,) = held.take({"balloon": []}, 30.0, 30.0).conditions
    assert (away.severity, away.lasted, away.over) == (Severity.ERROR, 5.0, 25.0)
    (back,) = held.take({"balloon": [FULL]}, 50.0, 50.0).conditions
    assert (back.lasted, back.over) == (50.0, 0.0)
    assert held.take({"balloon": []}, 51.0 + GAP_SECONDS, 0.0).severity is Severity.OK
    assert lasted(held.take({"balloon": [FULL]}, 55.0 + GAP_SECONDS, 0.0)) == 0.0


def test_silence_is_no_recovery(held: HeldConditions) -> None:
    held.take({"balloon": [FULL], "host": []}, 0.0, 0.0)
    for now in (100.0, 200.0, 300.0):
        assert lasted(held.take({"balloon": None, "host": []}, now, now)) == now
    assert held.take({"balloon": []}, 310.0, 310.0).conditions[0].over == 10.0, "its figures are of an earlier cycle"
    assert held.take({"balloon": None}, 315.0, 315.0).conditions[0].over == 15.0, "it had nothing to say when it was heard last"


def test_the_log_says_once_that_it_is_bad_and_once_that_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    held = HeldConditions()
    for now, conditions in ((0.0, [FULL]), (5.0, [FULL]), (10.0, []), (66.0, []), (70.0, [])):
        held.take({"balloon": conditions}, now, now)
    assert [record.getMessage() for record in caplog.records] == [
        "verdict: the host is full, because guests are promised too much (move guests away)",
        "verdict: no longer bad",
    ]


# --- in the engine ---------------------------------------------------------------------------------------------------------------


class Base:
    def __init__(self, settings: PluginSettings, context: Any) -> None:
        self.settings = settings


class Says(Base):
    """Plugin that reports these conditions."""

    conditions: Iterable[Condition] | BaseException = ()

    @hookimpl
    def mom_problems(self, snapshot: Snapshot) -> Iterable[Condition]:
        if isinstance(self.conditions, BaseException):
            raise self.conditions
        return self.conditions


def engine_of(tmp_path: Path, clock: Clock | None = None) -> Engine:
    return Engine(config_of(tmp_path, {"says": Says}), clock=clock)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with engine_of(tmp_path) as one:
        yield one


@pytest.fixture(autouse=True)
def _nothing_said() -> None:
    Says.conditions = ()


def test_conditions_of_a_failing_plugin_persist(engine: Engine) -> None:
    Says.conditions = [FULL]
    engine.cycle()
    Says.conditions = RuntimeError("cannot look")
    report = engine.cycle()
    assert report.verdict is not None
    assert report.verdict.conditions[0].message == "the host is full"
    assert any("mom_problems" in problem.message for problem in report.problems)


def test_a_plugin_that_is_set_aside_is_said_by_the_core(engine: Engine) -> None:
    Says.conditions = RuntimeError("cannot look")
    for _ in range(4):
        report = engine.cycle()
    assert report.verdict is not None
    (condition,) = report.verdict.conditions
    assert condition.plugins == ("core",)
    assert "the says plugin keeps failing" in condition.message
    assert "cannot look" in condition.why
    assert report.verdict.is_bad


def test_the_status_file_tells_the_verdict_as_it_is(engine: Engine) -> None:
    Says.conditions = [FULL, SLOW]
    report = engine.cycle()
    content = status_of(engine, report)
    verdict = content["verdict"]
    assert verdict is not None
    assert verdict["severity"] == "error"
    assert verdict["conditions"][0]["cure"] == "move guests away"
    assert RunningStatus(content, 1, 0.0).verdict == report.verdict
    late, *others = RunningStatus(content, 77, 300.0).verdict.conditions
    assert (late.name, [condition.name for condition in others]) == ("late", ["memory", "disk"])
    assert "5 min ago" in late.message
    assert "77" in late.cure
