"""The log reports the begin and end of problems and of failing controls, not every cycle."""

import logging

import pytest

from mom_core import Decision, Entity, Outcome, Problem, Scope, Source, Status
from mom_core.engine.problems import FORGOTTEN_AFTER_CYCLES, REMEMBERED, ProblemLog, described

GUEST = Entity(Scope.GUEST, "u1", "vm1")


def outcome(value: int, status: Status, error: str = "") -> Outcome:
    return Outcome(Decision(GUEST, "vcpu_quota", value, "", Source("50_main_", 3, 1)), None, None, status, error)


def test_a_failed_control_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log = ProblemLog()
    for cycle in range(5):
        log.note((), [outcome(cycle, Status.FAILED, f"a quota of {cycle} is impossible")], cycle, 0.0)
    assert caplog.messages == ["50_main_:3:1: vm1: vcpu_quota is not set: a quota of 0 is impossible"]
    assert [standing.cycles for standing in log.standing()] == [5]
    for cycle in range(5, 5 + FORGOTTEN_AFTER_CYCLES):
        log.note((), [outcome(1, Status.APPLIED)], cycle, 0.0)
    (over,) = log.over
    assert (over.cycles, described(over)) == (5, "50_main_:3:1: vm1: vcpu_quota is not set: a quota of 0 is impossible")
    log.note((), [outcome(1, Status.APPLIED)], 5 + FORGOTTEN_AFTER_CYCLES, 0.0)
    assert log.over == []
    assert len(caplog.messages) == 1
    assert log.standing() == []


def test_a_thousand_guests_with_one_trouble_hide_no_other_one(caplog: pytest.LogCaptureFixture) -> None:
    log = ProblemLog()
    guests = [Entity(Scope.GUEST, f"u{number}", f"vm{number}") for number in range(2 * REMEMBERED)]
    source = Source("50_main_", 3, 1)
    refused = [Outcome(Decision(guest, "balloon_target", 1, "", source), None, None, Status.FAILED, "not permitted") for guest in guests]
    log.note((), refused, 1, 0.0)
    assert len(log.standing()) == REMEMBERED
    other = Problem(Source("acme"), "the disk is full")
    log.note([other], refused, 2, 0.0)
    assert caplog.messages[-1] == "acme: the disk is full"
    assert other.message in [standing.message for standing in log.standing()]
    log.note((), (), 2 + FORGOTTEN_AFTER_CYCLES, 0.0)
    assert (log.standing(), log._of_source) == ([], {})
