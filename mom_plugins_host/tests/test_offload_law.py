"""The law: pace, ends and pauses of reclaiming a guest."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mom_plugins_host.offload.law import (
    COLD_SECONDS,
    FIRST_PAUSE_SECONDS,
    HARM_SECONDS,
    KEPT_SHARE,
    LONGEST_PAUSE_SECONDS,
    MADVISE_SHARE,
    MOST_SHARE,
    RECENT_SECONDS,
    ObservedGuest,
    ReclaimState,
    cold_kib,
    next_offer,
)

GIB = 1 << 20
QUIET = ObservedGuest(GIB, 0, 0.0, 0.0)
HALF = replace(QUIET, resident_kib=GIB // 2, away_kib=GIB // 2)
LIMIT = 0.02


def steps(seen: ObservedGuest, count: int) -> tuple[list[int], ReclaimState]:
    """Return the paces of steps a second apart without refaults. All offered memory is taken."""
    paces, taken, state = [], 0.0, ReclaimState()
    for number in range(count):
        offer = next_offer(seen, state, taken, LIMIT, float(number))
        taken, state = float(offer.pace_kib), offer.state
        seen = replace(seen, resident_kib=(seen.resident_kib or 0) - taken, away_kib=(seen.away_kib or 0) + taken)
        paces.append(offer.pace_kib)
    return paces, state


def test_the_pace_doubles_while_nothing_comes_back_up_to_one_percent_a_second() -> None:
    paces, _ = steps(QUIET, 6)
    assert paces[1] == pytest.approx(2 * paces[0], rel=0.01)
    assert paces[-1] == pytest.approx(MOST_SHARE * GIB, rel=0.01)


def test_where_hot_pages_go_with_cold_ones_the_pace_stays_a_quarter_of_that() -> None:
    paces, _ = steps(replace(QUIET, most_share=MADVISE_SHARE), 6)
    assert max(paces) == pytest.approx(MADVISE_SHARE * GIB, rel=0.01)


def test_a_tenth_of_a_guest_stays_however_long_it_is_idle() -> None:
    paces, _ = steps(QUIET, 600)
    assert GIB - sum(paces) == pytest.approx(KEPT_SHARE * GIB, abs=512)


@pytest.mark.parametrize("seen", [replace(QUIET, resident_kib=None), replace(QUIET, away_kib=None), replace(QUIET, refaults_kib=None)])
def test_nothing_is_taken_of_a_guest_of_which_something_is_unknown(seen: ObservedGuest) -> None:
    offer = next_offer(seen, ReclaimState(), 0.0, LIMIT, 0.0)
    assert offer.pace_kib == 0
    assert "unknown" in offer.reason


@pytest.mark.parametrize(
    ("seen", "words"),
    [(replace(HALF, refaults_kib=20_000.0), "uses the swapped memory"), (replace(HALF, stall=0.03), "waits for memory 3.0%")],
)
def test_a_guest_that_works_on_what_was_taken_is_left_alone(seen: ObservedGuest, words: str) -> None:
    offer = next_offer(seen, ReclaimState(), 0.0, LIMIT, 100.0)
    assert offer.pace_kib == 0
    assert words in offer.reason
    later = next_offer(replace(seen, refaults_kib=0.0, stall=0.0), offer.state, 0.0, LIMIT, 100.0 + FIRST_PAUSE_SECONDS / 2)
    assert later.pace_kib == 0
    assert "next try in" in later.reason
    forgotten = 100.0 + FIRST_PAUSE_SECONDS + RECENT_SECONDS
    assert next_offer(replace(seen, refaults_kib=0.0, stall=0.0), later.state, 0.0, LIMIT, forgotten).pace_kib > 0


@pytest.mark.parametrize(("returns", "stall"), [(GIB / 2 / 40, 0.0), (0.0, 0.04)])
def test_a_guest_may_feel_more_while_it_would_be_hurt_otherwise(returns: float, stall: float) -> None:
    seen = replace(HALF, refaults_kib=returns, stall=stall)
    resting = next_offer(seen, ReclaimState(), 0.0, LIMIT, 0.0)
    assert resting.pace_kib == 0
    assert next_offer(seen, ReclaimState(), 0.0, LIMIT, 0.0, urgency=4.0).pace_kib > 0
    assert next_offer(seen, resting.state, 0.0, LIMIT, 1.0, urgency=4.0).pace_kib > 0, "it rests no longer"
    harmed = replace(seen, refaults_kib=8 * returns, stall=8 * stall)
    hurt = next_offer(harmed, ReclaimState(), 0.0, LIMIT, 0.0, urgency=4.0)
    assert hurt.pace_kib == 0
    assert next_offer(harmed, hurt.state, 0.0, LIMIT, 1.0, urgency=4.0).pace_kib == 0


@pytest.mark.parametrize(("returns", "stall"), [(20_000.0, 0.0), (0.0, 0.1)])
def test_what_comes_back_within_a_second_of_a_step_is_no_harm(returns: float, stall: float) -> None:
    _, state = steps(HALF, 6)
    offer = next_offer(replace(HALF, refaults_kib=returns, stall=stall), state, 0.0, LIMIT, 6.0)
    assert offer.pace_kib > 0


def harmed_for(seconds: int, seen: ObservedGuest, state: ReclaimState, begin: int = 0) -> tuple[int, ReclaimState]:
    """Return the second at which harm counts as lasting, and the state."""
    for now in range(begin, begin + seconds):
        before, state = state, next_offer(seen, state, 0.0, LIMIT, float(now)).state
        if state.pause > before.pause or state.until - now > FIRST_PAUSE_SECONDS:
            return now, state
    raise AssertionError("no harm lasts")


@pytest.mark.parametrize(("returns", "stall"), [(30_000.0, 0.0), (0.0, 0.1)])
def test_a_burst_that_reads_back_what_it_writes_over_is_no_harm_that_lasts(returns: float, stall: float) -> None:
    """Bursts last six seconds of every two minutes. Between them, reclaim continues after the same short pause."""
    burst = replace(HALF, refaults_kib=returns, stall=stall)
    state, taking = ReclaimState(), 0
    for now in range(1200):
        offer = next_offer(burst if now % 120 < 6 else HALF, state, 0.0, LIMIT, float(now))
        state = offer.state
        assert state.pause == FIRST_PAUSE_SECONDS
        assert state.until - now <= FIRST_PAUSE_SECONDS
        taking += offer.pace_kib > 0
    assert taking > 0.8 * 1200


def test_each_harm_that_lasts_doubles_the_pause_up_to_its_longest() -> None:
    harmed = replace(HALF, stall=0.5)
    state, now, pauses = ReclaimState(), 0, []
    for _ in range(9):
        now, state = harmed_for(int(HARM_SECONDS), harmed, state, now)
        pauses.append(state.until - now)
        now = int(state.until)
    assert pauses[1] == 2 * pauses[0]
    assert max(pauses) == LONGEST_PAUSE_SECONDS


def test_when_half_of_what_is_taken_comes_back_the_pace_is_halved_and_the_working_set_learnt() -> None:
    _, state = steps(QUIET, 6)
    seen = ObservedGuest(0.7 * GIB, 0.3 * GIB, 2200.0, 0.005)
    offer = next_offer(seen, state, 4000.0, LIMIT, 6.0)
    assert offer.state.share == state.share / 2
    assert offer.state.working_set == 0.7 * GIB
    assert cold_kib(seen, offer.state) == pytest.approx(0.3 * GIB)


def test_what_stays_away_for_two_minutes_is_cold_and_what_does_not_ends_the_taking() -> None:
    away = GIB / 2
    cold = ObservedGuest(GIB / 2, away, away / (1.5 * COLD_SECONDS), 0.0)
    assert next_offer(cold, ReclaimState(), 0.0, LIMIT, 0.0).pace_kib > 0
    lukewarm = next_offer(replace(cold, refaults_kib=away / (0.75 * COLD_SECONDS)), ReclaimState(), 0.0, LIMIT, 0.0)
    assert lukewarm.pace_kib == 0
    assert lukewarm.state.until == 0.0  # sampled again at once


@given(
    resident=st.floats(0, 1e9),
    away=st.floats(0, 1e9),
    returns=st.floats(0, 1e8),
    stall=st.floats(0, 1),
    merged=st.floats(0, 1e9),
    taken=st.floats(0, 1e8),
    share=st.floats(0.001, MOST_SHARE),
)
def test_no_step_takes_more_than_a_guest_can_spare(
    resident: float, away: float, returns: float, stall: float, merged: float, taken: float, share: float
) -> None:
    offer = next_offer(ObservedGuest(resident, away, returns, stall, merged), ReclaimState(share=share), taken, LIMIT, 10.0)
    assert 0 <= offer.pace_kib <= max(0.0, resident - merged)
    assert offer.pace_kib <= MOST_SHARE * (resident + away)
    assert bool(offer.pace_kib) != bool(offer.reason)
