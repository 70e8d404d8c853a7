"""Judging guests: an unknown need is not harm, and a broken promise is more than a page of the balloon."""

import pytest

from mom_core import Guest, MomError, PluginContext, Snapshot, Value
from mom_kvm import AvailableGauge, HealthLimits, seen_lately

GIB = 1 << 20


def a_guest(**fields: Value) -> Guest:
    """Return a guest of 2 of 4 GiB that could give half of its memory."""
    known: dict[str, Value] = {"balloon_max": 4 * GIB, "balloon_cur": 2 * GIB, "mem_usable": GIB, "stats_age": 1.0}
    return Guest("g", "g", {name: value for name, value in {**known, **fields}.items() if value is not None})


def unhealthy(**fields: Value) -> str | None:
    (found,) = HealthLimits.reasons(Snapshot(guests={"g": a_guest(**fields)}))
    return found


def test_a_guest_that_does_not_tell_is_neither_well_nor_ill() -> None:
    assert [unhealthy(**{name: None}) for name in ("balloon_cur", "mem_usable", "stats_age")] == [None] * 3
    assert unhealthy(stats_age=15.1) is None
    assert unhealthy() == ""


@pytest.mark.parametrize(("size", "usable", "short"), [(GIB, 32 * 1024 - 1, True), (GIB, 32 * 1024, False), (4 * GIB, 100_000, True)])
def test_a_guest_is_short_of_memory_below_the_larger_of_both_limits(size: int, usable: int, short: bool) -> None:
    assert (unhealthy(balloon_cur=size, mem_usable=usable) == "short of memory") is short


@pytest.mark.parametrize(
    ("fields", "trouble"),
    [
        ({"swap_in": 257.0}, "swapping"),
        ({"major_fault": 201.0}, "waiting for disk"),
        ({"host_psi_memory_some_avg10": 11.0}, "waiting for memory"),
        ({"guest_guarantee": 3 * GIB}, "below guarantee"),
        ({"swap_in": 256.0, "major_fault": 200.0, "guest_psi_memory_some_avg10": 10.0, "guest_guarantee": 2 * GIB}, ""),
    ],
)
def test_a_guest_suffers_from_what_is_more_than_it_should_be(fields: dict[str, Value], trouble: str) -> None:
    assert unhealthy(**fields) == trouble


def test_a_snapshot_is_usable_for_three_intervals() -> None:
    context = PluginContext(interval=5.0, monotonic=lambda: 115.0)
    recent = Snapshot(monotonic=100.0)
    assert seen_lately(recent, context, "no guest fits") is recent
    for snapshot in (None, Snapshot(monotonic=99.0)):
        with pytest.raises(MomError, match="has not looked at the host"):
            seen_lately(snapshot, context, "no guest fits")


def test_the_gauge_asks_for_a_cycle_once_for_each_fall_of_available_memory() -> None:
    gauge, low = AvailableGauge(), AvailableGauge.usual_low(20 * GIB)
    assert gauge.why(low, low) == "", "there was no cycle yet"
    gauge.saw(2 * low, low)
    assert gauge.why(2 * low - 1, low) == ""
    assert "less than in the last cycle" in gauge.why(1.5 * low, low)
    assert gauge.why(0.5 * low, low) == "", "a cycle was asked for"
    gauge.saw(1.5 * low, low)
    assert "less than 4.00 GiB" in gauge.why(0.5 * low, low)
