"""Watermarks of a host's available memory, and its states."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mom_plugins_balloon.states import GIB, HostWanted, MemoryState, Reserve, StateGoal, hard_kib, host_minimum_kib


@pytest.mark.parametrize(("gib", "least"), [(8, 0.4), (24, 0.8), (128, 1.88), (4096, 41.6)])
def test_the_least_grows_with_the_host_but_not_as_fast(gib: float, least: float) -> None:
    assert host_minimum_kib(gib * GIB) == pytest.approx(least * GIB, rel=0.02)


def test_states_have_hysteresis() -> None:
    reserve = Reserve(1000.0, 400.0, 200.0)
    assert [reserve.state(kib, MemoryState.HIGH) for kib in (1001, 999, 399, 199)] == [
        MemoryState.HIGH,
        MemoryState.SOFT,
        MemoryState.HARD,
        MemoryState.LOW,
    ]
    assert reserve.state(1001, MemoryState.SOFT) is MemoryState.SOFT
    assert reserve.state(1051, MemoryState.SOFT) is MemoryState.HIGH
    assert reserve.state(205, MemoryState.LOW) is MemoryState.LOW
    assert reserve.state(205, MemoryState.HARD) is MemoryState.HARD


@given(total=st.floats(GIB, 1e10), growth=st.floats(0, 1e10), room=st.floats(0, 1e10), goal=st.sampled_from(StateGoal))
def test_watermarks_are_ordered_on_every_host(total: float, growth: float, room: float, goal: StateGoal) -> None:
    reserve = HostWanted(goal).reserve(total, growth, room)
    assert 0 < reserve.low < reserve.hard == hard_kib(total) < reserve.high


@given(total=st.floats(GIB, 1e10), growth=st.floats(0, 1e10), line=st.floats(1024, 1e10), goal=st.sampled_from(StateGoal))
def test_platform_threshold_shifts_all_watermarks(total: float, growth: float, line: float, goal: StateGoal) -> None:
    plain, above = HostWanted(goal).reserve(total, growth), HostWanted(goal).reserve(total, growth, stopped_below=line)
    assert [kib - line for kib in above] == pytest.approx(plain, rel=1e-3, abs=1.0)


@given(wanted=st.one_of(st.none(), st.floats(0, 1e9)), hard=st.one_of(st.none(), st.floats(0, 1e9)), line=st.floats(1024, 1e10))
def test_operators_watermarks_are_above_the_threshold(wanted: float | None, hard: float | None, line: float) -> None:
    plain, above = (HostWanted(high=wanted, hard=hard).reserve(32 * GIB, stopped_below=kib) for kib in (0.0, line))
    assert line <= above.low <= above.hard <= above.high
    if wanted is not None and wanted > line + hard_kib(32 * GIB):
        assert above.high == plain.high == wanted
