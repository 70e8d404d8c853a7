"""Guests that do not shrink as requested."""

from dataclasses import replace
from itertools import pairwise

import pytest
from guest_facts import GIB, MIB

from mom_core import Decision, Entity, Problem, Scope, Snapshot, Status
from mom_devkit import apply_decisions

A = Entity(Scope.GUEST, "a", "name-a")


class Loop:
    """Cycles of five seconds with the plugin, on a hypervisor whose balloons have a given speed."""

    def __init__(self, plugin, hypervisor, seen_by):
        self.plugin, self.hypervisor, self.seen_by = plugin, hypervisor, seen_by
        self.now = 0.0
        self.changes = {}
        self.problems = []

    def cycle(self, wanted=None):
        """Run a cycle in which a policy sets guest a to this size. Return the results."""
        self.now += 5
        snapshot = self.seen_by(self.hypervisor, now=self.now)
        listed = [replace(guest, **self.changes) if guest.id == "a" else guest for guest in snapshot.guests.values()]
        collected = self.plugin.mom_collect_guests(listed).rows() or [{}] * len(listed)
        guests = {g.id: replace(g, fields={**g.fields, **row}) for g, row in zip(listed, collected, strict=True)}
        snapshot = Snapshot(guests=guests, monotonic=self.now)
        decisions = list(self.plugin.mom_act(snapshot))
        self.problems = [item for item in self.plugin.mom_problems(snapshot) if isinstance(item, Problem)]
        if wanted is not None and not decisions:
            decisions = [Decision(A, "balloon_target", wanted)]
        revisions = {revision.before: revision for revision in self.plugin.mom_review(snapshot, decisions)}
        left = [revisions[d].after if d in revisions else d for d in decisions]
        self.reasons = [revision.reason for revision in revisions.values()]
        self.fields = guests["a"].fields
        return apply_decisions(self.plugin, [d for d in left if d is not None], self.hypervisor, snapshot)


@pytest.fixture
def loop(plugin, hypervisor, seen_by):
    return Loop(plugin, hypervisor, seen_by)


def cycles(loop, count, wanted=None):
    for _ in range(count):
        loop.cycle(wanted)


def test_guest_that_gives_nothing_is_set_aside_and_reported(loop, hypervisor):
    hypervisor.speed = 0
    loop.cycle(GIB)
    cycles(loop, 4, GIB)
    assert loop.problems == []
    assert "balloon_obstacle" not in loop.fields
    loop.cycle(GIB)
    (problem,) = loop.problems
    assert problem.entity.id == "a"
    assert "its balloon target was 1.00 GiB" in problem.message
    assert "stayed at 2.00 GiB for 20 s" in problem.message
    assert hypervisor.commands == [("a", GIB), ("a", 2 * GIB)], "what was asked is taken back: it must not come true some day"
    hypervisor.commands.clear()
    loop.cycle(GIB)
    assert "stayed at 2.00 GiB" in loop.fields["balloon_obstacle"]
    assert hypervisor.commands == []
    assert "stayed at 2.00 GiB" in loop.reasons[0]
    assert loop.problems == [problem], "the same words: it is said once"


def test_guest_that_gives_too_little_is_set_aside(loop, hypervisor):
    hypervisor.speed, aside, tries = 0, set[float](), []
    for _ in range(140):
        before = len(hypervisor.commands)
        loop.cycle(GIB)
        aside |= {loop.now} if "balloon_rest" in loop.fields else set()
        tries += [loop.now] if ("a", GIB) in hypervisor.commands[before:] else []
        hypervisor.sizes["a"] = max(GIB, hypervisor.sizes["a"] - 2 * MIB)
    assert min(aside) == 35
    assert [later - earlier for earlier, later in pairwise(tries)] == [325.0, 325.0]


def test_guest_that_gives_later_counts_again(loop, hypervisor):
    hypervisor.speed = 0
    cycles(loop, 6, GIB)
    hypervisor.speed = GIB
    cycles(loop, 60)
    loop.cycle(GIB)
    loop.cycle()
    assert hypervisor.sizes["a"] == GIB
    loop.cycle()
    assert "balloon_obstacle" not in loop.fields
    assert loop.problems == []


def test_paused_guest_is_not_set_aside(loop, hypervisor):
    hypervisor.speed = 0
    cycles(loop, 2, GIB)
    loop.changes = {"blocked": {"*": "the guest is paused"}}
    cycles(loop, 20)
    assert loop.fields["balloon_obstacle"] == "the guest is paused"
    assert loop.problems == []
    loop.changes = {}
    loop.cycle()
    assert loop.problems == []


STALE = {"balloon_target": GIB, "stats_age": 40.0}


def stops(plugin, snapshot):
    return [(decision.value, decision.reason) for decision in plugin.mom_act(snapshot)]


def test_shrink_is_stopped_when_statistics_cease(plugin, hypervisor, seen_by):
    hypervisor.sizes["a"] = 2 * GIB - 50
    ((size, reason),) = stops(plugin, seen_by(hypervisor, now=10, a=STALE))
    assert size == 2 * GIB - 50
    assert "40 s old; the shrink in progress is stopped" in reason
    assert stops(plugin, seen_by(hypervisor, now=10, a=STALE | {"stats_age": 1.0})) == []
    assert stops(plugin, seen_by(hypervisor, now=10, a=STALE | {"balloon_target": 2 * GIB})) == [], "it grows"
    ((size, reason),) = stops(plugin, seen_by(hypervisor, now=10, a=STALE | {"stats_age": 1.0, "swap_out": 900}))
    assert "it lacks memory" in reason


def falls_silent(loop, hypervisor):
    """Let guest a keep its size, with old statistics. Return the size."""
    size = hypervisor.sizes["a"]
    loop.changes = {"fields": {"balloon_cur": size, "balloon_max": 2 * GIB, "mem_usable": size - 600 * MIB, "stats_age": 40.0}}
    return size


def test_size_of_another_process_is_left_until_the_next_request(loop, hypervisor):
    cycles(loop, 3, GIB)
    assert hypervisor.sizes["a"] == GIB
    hypervisor.targets.clear()
    hypervisor.sizes["a"] = 2 * GIB
    falls_silent(loop, hypervisor)
    assert [loop.cycle() for _ in range(12)] == [[]] * 12, "however long ago it arrived"
    loop.changes, hypervisor.speed = {}, 100 * MIB
    loop.cycle(GIB)
    size = falls_silent(loop, hypervisor)
    (outcome,) = loop.cycle()
    assert "the shrink in progress is stopped" in outcome.decision.reason
    assert hypervisor.commands[-1] == ("a", size)


def test_pinned_guest_gets_its_memory_back(loop, hypervisor):
    loop.cycle(GIB)
    loop.cycle()
    loop.changes = {"properties": {"pinned": "a host device (pci) pins the guest's memory: the host cannot reclaim it"}}
    (outcome,) = loop.cycle()
    assert (outcome.decision.value, outcome.status) == (2 * GIB, Status.APPLIED)
    assert "mom returns the memory taken from it" in outcome.decision.reason
    assert loop.fields["balloon_obstacle"].startswith("a host device")
    loop.cycle()
    assert loop.cycle() == [], "once"
    assert loop.cycle(GIB) == []
    assert "pins the guest's memory" in loop.reasons[0]


def test_untouched_pinned_guest_keeps_its_size(loop, hypervisor):
    hypervisor.sizes["a"] = GIB
    loop.changes = {"properties": {"pinned": "locked"}}
    assert loop.cycle() == []
