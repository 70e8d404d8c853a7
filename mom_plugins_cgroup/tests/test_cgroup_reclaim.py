"""The law of proactive reclaim: plain numbers in, a step and its reason out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mom_plugins_cgroup.reclaim import Mood, Observed, ReclaimStep, next_step

GIB = 1 << 20
CALM = Observed(4 * GIB, 1 * GIB, 0.0, 0.0, 8 * GIB)
LIMIT = 0.001


def step(seen: Observed = CALM, mood: Mood | None = None, pace: float = 1000.0, now: float = 100.0) -> ReclaimStep:
    return next_step(seen, mood or Mood(), pace, LIMIT, now, 5.0)


def test_a_calm_guest_loses_what_the_pace_allows() -> None:
    assert step().kib == 5000
    assert step(mood=step().mood, now=105.0).kib == 5000
    assert step(mood=step().mood, now=102.0).kib == 2000, "a cycle that comes early takes no more"


def test_a_step_is_one_percent_at_most() -> None:
    assert step(pace=1e9).kib == 4 * GIB // 100


def test_the_closer_the_guest_comes_to_feeling_it_the_smaller_the_step() -> None:
    assert [step(replace(CALM, stall=stall)).kib for stall in (0.0, 0.0005, 0.00075)] == [5000, 2500, 1250]


def test_nothing_is_taken_below_what_the_guest_needs() -> None:
    assert step(replace(CALM, floor_kib=4 * GIB - 300), pace=1e9).kib == 300
    done = step(replace(CALM, floor_kib=5 * GIB))
    assert (done.kib, done.reason) == (0, "it holds no more than it needs")


@pytest.mark.parametrize(
    ("unknown", "reason"),
    [
        ({"current_kib": None}, "the memory of its group is unknown"),
        ({"floor_kib": None}, "what it needs is unknown"),
        ({"stall": None}, "its memory pressure is unknown"),
        ({"hold": "its statistics are 40 s old"}, "its statistics are 40 s old"),
        ({"room_kib": 0}, "there is no swap for it, and no cache to drop"),
    ],
)
def test_what_is_not_known_is_not_taken(unknown: Any, reason: str) -> None:
    done = step(replace(CALM, **unknown))
    assert (done.kib, done.reason) == (0, reason)


def test_pressure_above_the_limit_ends_it_for_a_while_and_longer_each_time() -> None:
    hurt = replace(CALM, stall=0.02)
    first = step(hurt, now=100.0)
    assert first.kib == 0
    assert "waits for memory 2.00% of the time, and 0.10% is the limit" in first.reason
    assert step(mood=first.mood, now=129.0).reason.endswith("tried again in 1 s")
    assert step(hurt, first.mood, now=129.0).mood.until == first.mood.until, "what goes on while it waits is no new offence"
    assert step(mood=first.mood, now=131.0).kib > 0
    second = step(hurt, first.mood, now=131.0)
    assert second.mood.until - 131.0 == 2 * (first.mood.until - 100.0)
    mood, now = second.mood, 131.0
    for _ in range(10):
        now = mood.until + 1
        mood = step(hurt, mood, now=now).mood
    assert mood.until - now == 960.0, "a quarter of an hour is the longest"


def test_memory_that_comes_straight_back_was_not_cold() -> None:
    mood = step().mood
    assert mood.taken_kib == 1000.0
    done = step(replace(CALM, refaults_kib=600.0), mood, now=105.0)
    assert (done.kib, done.reason) == (0, "what was taken comes back: 600 KiB/s")
    assert step(replace(CALM, refaults_kib=600.0)).kib > 0, "refaults before anything was taken are not ours"
    assert step(replace(CALM, refaults_kib=400.0), mood, now=105.0).kib > 0


def test_a_guest_that_stays_calm_is_trusted_again() -> None:
    mood, now = replace(Mood(), pause=480.0), 100.0
    for _ in range(10):
        mood, now = step(mood=mood, now=now).mood, now + 5
    assert mood.pause == 30.0


def test_a_slow_pace_adds_up_to_a_step() -> None:
    mood, now, taken = Mood(), 100.0, []
    for _ in range(20):
        done = step(mood=mood, pace=20.0, now=now)
        mood, now = done.mood, now + 5
        taken.append(done.kib)
    assert taken[0] == 0, "100 KiB are not worth a call"
    assert 256 * 5 <= sum(taken) <= 20 * 100


@given(
    st.builds(
        Observed,
        st.none() | st.integers(0, 1 << 40),
        st.none() | st.integers(0, 1 << 40),
        st.none() | st.floats(0, 1),
        st.none() | st.floats(0, 1e9),
        st.integers(0, 1 << 40),
        st.sampled_from(["", "hold"]),
    ),
    st.builds(Mood, st.floats(0, 1e4), st.floats(30, 960), st.integers(0, 20), st.none() | st.floats(0, 1e4), st.floats(0, 1e9)),
    st.floats(0, 1e12),
    st.floats(0, 1e4),
)
def test_whatever_is_seen_no_guest_goes_below_its_floor_and_nothing_is_taken_without_all_statistics(
    seen: Observed, mood: Mood, pace: float, now: float
) -> None:
    done = next_step(seen, mood, pace, LIMIT, now, 5.0)
    assert done.kib >= 0
    assert bool(done.kib) != bool(done.reason)
    if done.kib:
        assert seen.current_kib is not None
        assert seen.floor_kib is not None
        assert seen.current_kib - done.kib >= seen.floor_kib
        assert seen.stall is not None
        assert seen.stall < LIMIT
        assert not seen.hold
        assert done.kib <= max(1.0, seen.current_kib / 100)
        assert done.kib <= seen.room_kib
    assert done.mood.pause <= 960
