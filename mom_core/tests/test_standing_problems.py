"""The log reports the begin and end of problems and of failing controls, not every cycle."""

import logging

import pytest

from mom_core import Decision, Entity, Outcome, Scope, Source, Status
from mom_core.engine.problems import FORGOTTEN_AFTER_CYCLES, ProblemLog, described

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
