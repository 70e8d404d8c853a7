"""A control belongs to one evaluator: the first, in the YAML order, of those that have decided it."""

from collections.abc import Sequence

import pytest

from mom_core import ControlSpec, Decision, Declarations, Guest, Revision, Scope, Snapshot, Unit
from mom_core.engine.review import Claims, Proposal, review

DECLARED = Declarations(controls={"knob": ControlSpec("knob", Unit.KIB, Scope.GUEST, "a knob", "knob")})
SNAPSHOT = Snapshot(guests={name: Guest(name, name) for name in ("a", "b")})


def wants(guest: str, value: int) -> Decision:
    return Decision(SNAPSHOT.guests[guest].entity, "knob", value)


class Host:
    """Two evaluators, and what comes of their decisions from cycle to cycle."""

    def __init__(self) -> None:
        self.claims = Claims(["first", "second"])
        self.revisions: list[Revision] = []
        self.problems: list[str] = []

    def cycle(self, first: Sequence[Decision] = (), second: Sequence[Decision] = (), *, acts: str = "") -> dict[str, object]:
        proposals = [Proposal("first", first, acts == "first"), Proposal("second", second, acts == "second")]
        kept, self.revisions, problems = review(SNAPSHOT, proposals, DECLARED, self.claims)
        self.problems = [problem.message for problem in problems]
        return {decision.entity.id: decision.value for decision in kept}


@pytest.fixture
def host() -> Host:
    return Host()


def test_a_silent_evaluator_keeps_its_claims(host: Host) -> None:
    assert host.cycle([wants("a", 1)]) == {"a": 1}
    assert host.cycle([], [wants("a", 9), wants("b", 9)]) == {"b": 9}
    assert [revision.reason for revision in host.revisions] == [
        "the first plugin is listed before second and decided knob in an earlier cycle"
    ]
    assert host.problems == [
        "first and second both decide knob: mom follows first, which is listed first under `plugins`; remove the decisions from one of them"
    ]
    assert host.cycle([], []) == {}
    assert host.problems == []


def test_the_first_takes_over_what_the_second_had(host: Host) -> None:
    assert host.cycle([], [wants("a", 9)]) == {"a": 9}
    assert host.cycle([wants("a", 1)], [wants("a", 9)]) == {"a": 1}
    assert host.cycle([], [wants("a", 9)]) == {}


def test_an_act_keeps_no_evaluator_away(host: Host) -> None:
    assert host.cycle([wants("a", 1)], [wants("a", 9)], acts="first") == {"a": 1}
    assert host.problems == []
    assert host.cycle([], [wants("a", 9)]) == {"a": 9}
    assert host.cycle([wants("a", 2)], [wants("a", 9)], acts="first") == {"a": 2}
    assert host.cycle([], [wants("a", 9)]) == {"a": 9}


def test_claims_on_guests_that_are_gone_are_forgotten(host: Host) -> None:
    for number in range(5000):
        host.claims.claim("first", Decision(Guest(f"g{number}", "g").entity, "knob", 1))
    host.claims.claim("first", wants("a", 1))
    host.cycle()
    assert host.cycle([], [wants("a", 9)]) == {}
    assert len(host.claims._owners) == 1
