"""The ladder as pure functions: which guest it chooses and when, and never another one."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from mom_core import Value
from mom_core.testing import snapshot
from mom_plugins_sla.eviction.jobs import Job, JobState
from mom_plugins_sla.eviction.ladder import Ladder, climb
from mom_plugins_sla.eviction.settings import EvictionSettings
from mom_plugins_sla.eviction.steps import EvictionCandidate, HostPressure, Step, choose, needs_of

TOTAL = 1_000_000.0
FULL, ROOM = HostPressure(50.0, TOTAL, 5_000.0), HostPressure(0.0, TOTAL, 800_000.0)
SETTINGS = EvictionSettings()


def guest(name: str, *steps: Step, frees: float = 1000, priority: int = 10, cost: float = 1.0) -> EvictionCandidate:
    return EvictionCandidate(name, frozenset(steps), frees, cost, priority)


def test_a_saved_guest_needs_what_the_host_held_of_it_and_one_that_boots_all_that_it_can_have() -> None:
    known: dict[str, Value] = {"rss": 1000, "host_swap": 200, "balloon_cur": 4000, "balloon_max": 8000}

    def needs(step: Step, host_swapped: float | None = None, **fields: Value) -> float | None:
        return needs_of(next(iter(snapshot(guests={"vm": {**known, **fields}}).guests.values())), step, host_swapped)

    assert needs(Step.SAVE) == needs(Step.PAUSE) == 1200
    assert needs(Step.SHUT_DOWN) == 8000
    assert needs(Step.SAVE, 0, host_swap=None) == 1000, "nothing is in the host's swap"
    assert needs(Step.SAVE, 500, host_swap=None) == 1500, "what is there may be the guest's"
    assert needs(Step.SAVE, 9000, host_swap=None) == needs(Step.SAVE, host_swap=None) == 4000, "it has no more than its size"
    assert needs(Step.SAVE, 500, host_swap=None, rss=4200) == 4200
    assert needs(Step.SAVE, rss=None) == needs(Step.SAVE, rss=None, host_swap=None) == 4000, "what is not known is as large as it can be"
    assert needs(Step.SAVE, rss=None, balloon_cur=None, balloon_max=None) is None
    assert needs(Step.SHUT_DOWN, rss=9000, host_swap=500) == 9500


# --- when the host is full ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pressure", "already", "hard"),
    [
        (HostPressure(0.0, TOTAL, 10_000), False, True),  # almost no memory is available, although no process stalls yet
        (HostPressure(20.0, TOTAL, 100_000), False, True),
        (HostPressure(20.0, TOTAL, 200_000), False, False),  # only one cgroup stalls
        (HostPressure(6.0, TOTAL, 100_000), False, False),
        (HostPressure(6.0, TOTAL, 100_000), True, True),  # it ends at a lower value than it begins
        (HostPressure(0.0, TOTAL, 25_000), True, True),
        (HostPressure(0.0, TOTAL, 35_000), True, False),
        (HostPressure(6.0, TOTAL, 100_000, "hard"), False, True),
        (HostPressure(0.0, TOTAL, 100_000, "hard"), False, False),  # balloons work, and no process stalls
        (HostPressure(0.0, TOTAL, 100_000, "low"), False, True),
        (HostPressure(None, TOTAL, 100_000), False, False),
        (HostPressure(99.0, TOTAL, None), False, None),
        (HostPressure(99.0, None, 10_000, "low"), False, None),
        (HostPressure(99.0, 0.0, 0.0), False, None),
        (HostPressure(99.0, TOTAL, float("nan")), False, None),
    ],
)
def test_a_host_is_full_when_its_memory_is_short_and_that_is_known(pressure: HostPressure, already: bool, hard: bool | None) -> None:
    assert pressure.is_hard(already) is hard


def test_there_is_room_only_with_the_guest_that_comes_back_and_while_nobody_waits() -> None:
    assert HostPressure(0.0, TOTAL, 300_000).is_calm(150_000)
    assert not HostPressure(0.0, TOTAL, 300_000).is_calm(150_001)
    assert not HostPressure(2.0, TOTAL, 300_000).is_calm(0)
    assert HostPressure(None, TOTAL, 300_000).is_calm(0), "of a kernel that does not tell who waits"
    assert not HostPressure(0.0, TOTAL, 300_000, "hard").is_calm(0)
    assert not HostPressure(0.0, None, 300_000).is_calm(0)
    assert not HostPressure().is_calm(0)


# --- the choice ---------------------------------------------------------------------------------------------------------------------------


def chosen(candidates: Sequence[EvictionCandidate], lacks: float) -> tuple[str, Step]:
    found = choose(candidates, lacks)
    assert found is not None
    return found[0].identity, found[1]


def test_the_lowest_rung_comes_first_then_the_cheapest_class_then_the_smallest_that_is_enough() -> None:
    every = tuple(Step)
    assert choose([guest("a", *every, priority=10), guest("b", Step.MIGRATE, priority=70)], 0) == (guest("a", *every), Step.MIGRATE)
    assert chosen([guest("a", Step.SHUT_DOWN, priority=1), guest("b", Step.SAVE, priority=99)], 0) == ("b", Step.SAVE)
    sizes = [guest(name, Step.SAVE, frees=frees) for name, frees in (("s", 100), ("m", 500), ("l", 900))]
    assert [chosen(sizes, lacks)[0] for lacks in (50, 400, 5000)] == ["s", "m", "l"]
    dear = guest("dear", Step.SAVE, cost=8)
    assert chosen([dear, *sizes], 400)[0] == "m"
    assert choose([], 0) is None
    assert choose([guest("nothing")], 0) is None


# --- over time ------------------------------------------------------------------------------------------------------------------------


def wanted(
    ladder: Ladder, now: float, pressure: HostPressure, candidates: Sequence[EvictionCandidate], *, busy: bool = False
) -> tuple[str, Step] | None:
    """Return the chosen guest, while no guest is stopped."""
    climb(ladder, now, pressure, candidates, [], busy=busy)
    return ladder.chosen


def test_what_is_wanted_is_not_any_more_when_the_host_is_well_or_unknown_or_the_guest_is_not_there() -> None:
    for pressure, there in ((ROOM, True), (HostPressure(), True), (FULL, False)):
        ladder, one = Ladder(SETTINGS), guest("vm", Step.SAVE)
        for now in range(0, 66, 5):
            wanted(ladder, now, FULL, [one])
        assert ladder.chosen == ("vm", Step.SAVE)
        assert wanted(ladder, 70, pressure, [one] if there else []) is None
        assert bool(wanted(ladder, 95, FULL, [one])) is not there, "pressure must last anew"


def test_who_was_stopped_last_comes_back_first_when_there_has_been_room_for_long() -> None:
    ladder = Ladder(SETTINGS)
    both = [Job("a", "a", Step.SAVE, needs=1000, state=JobState.DONE), Job("b", "b", Step.SAVE, needs=1000, state=JobState.DONE)]
    back = [(now, undo.name) for now in range(0, 1300, 10) if (undo := climb(ladder, now, ROOM, [], both))]
    assert back[0] == (600, "b")
    assert back[1][0] >= 660


def test_who_is_too_large_does_not_come_back_and_one_that_is_paused_needs_nothing() -> None:
    tight = HostPressure(0.0, TOTAL, 200_000)
    for one, comes in (
        (Job("a", "a", Step.SAVE, needs=100_000, state=JobState.DONE), False),
        (Job("a", "a", Step.PAUSE, needs=100_000, state=JobState.DONE), True),
        (Job("a", "a", Step.PAUSE, needs=0, comes_back=False, state=JobState.DONE), False),
        (Job("a", "a", Step.PAUSE, needs=0), False),
    ):
        ladder = Ladder(SETTINGS)
        assert any(climb(ladder, now, tight, [], [one]) for now in range(0, 1000, 10)) is comes


def test_memory_that_is_kept_for_a_launch_is_no_room_for_a_guest_that_comes_back() -> None:
    saved = Job("a", "a", Step.SAVE, needs=100_000, state=JobState.DONE)
    host: dict[str, Value] = {"mem_available": TOTAL, "mem_really_available": 400_000, "psi_memory_full_avg10": 0.0}
    for reserved, comes in ((None, True), (140_000, True), (160_000, False)):
        pressure, ladder = HostPressure.of(snapshot(host={**host, "mem_reserved": reserved})), Ladder(SETTINGS)
        assert any(climb(ladder, now, pressure, [], [saved]) for now in range(0, 1000, 10)) is comes


@pytest.mark.parametrize("boots", [300_000.0, 3_000.0, 0.0])
@pytest.mark.parametrize(("there", "second"), [(800_000.0, 660), (700_000.0, None)])
def test_the_next_one_does_not_come_back_into_memory_that_one_which_boots_has_not_taken_yet(
    there: float, second: int | None, boots: float
) -> None:
    ladder, back = Ladder(SETTINGS), dict[str, int]()
    both = [Job(name, name, Step.SHUT_DOWN, needs=300_000, state=JobState.DONE) for name in "ab"]
    for now in range(0, 1190, 10):
        held, off = dict.fromkeys(back, boots), [one for one in both if one.guest not in back]
        pressure = replace(ROOM, available=there - sum(held.values()))
        if undo := climb(ladder, now, pressure, [], off, held=held):
            back[undo.guest] = now
    assert (back["b"], back.get("a")) == (600, second)
